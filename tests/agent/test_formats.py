"""Headers a person writes, headers known by name, and headers found in a log."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
from layouts import LAYOUTS, log

from foretail.errors import ConfigError
from foretail.formats import detect, parse_format
from foretail.headers import names
from foretail.lint import check_pattern, digit_blind
from foretail.patterns import Matcher
from foretail.schema import Format, KeyRule

DATA = Path(os.environ.get("FORETAIL_DATA", Path(__file__).parents[2] / "../shared/data"))
NOW = 1_795_251_600.0
GIVEN = {
    "HDFS": "<Date> <Time> <Pid> <Level> <Component>: <Content>",
    "BGL": "<Label> <Timestamp> <Date> <Node> <Time> <NodeRepeat> <Type> <Component> <Level> <Content>",
    "Hadoop": r"<Date> <Time> <Level> \[<Process>\] <Component>: <Content>",
    "HPC": "<LogId> <Node> <Component> <State> <Time> <Flag> <Content>",
    "Linux": r"<Month> <Date> <Time> <Level> <Component>(\[<PID>\])?: <Content>",
    "OpenSSH": r"<Date> <Day> <Time> <Component> sshd\[<Pid>\]: <Content>",
    "OpenStack": r"<Logrecord> <Date> <Time> <Pid> <Level> <Component> \[<ADDR>\] <Content>",
    "Spark": "<Date> <Time> <Level> <Component>: <Content>",
    "Zookeeper": r"<Date> <Time> - <Level>  \[<Node>:<Component>@<Id>\] - <Content>",
    "Apache": r"\[<Time>\] \[<Level>\] <Content>",
}


def reader(form: Format) -> Matcher:
    """A matcher without patterns: headers only."""
    return Matcher([], form, KeyRule())


@pytest.mark.parametrize("name", LAYOUTS)
def test_auto_finds_the_header_of_layouts_nobody_listed(name: str) -> None:
    """Each message is exactly what the program wrote after its header, and each line has its time."""
    lines, messages = log(name)
    form = detect(lines)
    typed = reader(form).match(lines, now=NOW)
    assert messages == typed.messages
    assert not np.isnan(typed.times).any()
    assert digit_blind(form.header)
    check_pattern(form.header)


@pytest.mark.parametrize("name", ["spring", "rfc3164", "kafka", "pipes"])
def test_lines_that_continue_a_record_do_not_disturb(name: str) -> None:
    """Stack traces between the records, here more lines than records, leave the header as it is."""
    lines, messages = log(name)
    trace = [b"java.io.IOException: Broken pipe", b"\tat a.b.C.d(C.java:12)", b"\tat a.b.C.e(C.java:99)", b""]
    dirty = [part for place, line in enumerate(lines) for part in ([line, *trace] if place % 2 else [line])]
    form = detect(dirty)
    assert messages == reader(form).match(lines, now=NOW).messages


def test_one_message_alone_is_not_taken_for_a_header() -> None:
    """Where all lines say the same, words and numbers behind the stamp stay in the message."""
    lines = [b"2024-01-01 10:00:%02d INFO connection [%d] opened by user" % (n % 60, n) for n in range(100)]
    assert reader(detect(lines)).match(lines[:1]).messages == [b"connection [0] opened by user"]


@pytest.mark.parametrize(
    "sample", [[], [b""], [b" ", b"\t"], [b"\xff\xfe\x00"] * 50, [b"hello world"], [b"[" * 3000] * 9]
)
def test_what_shows_no_header_is_read_as_whole_lines(sample: list[bytes]) -> None:
    """No header, no error."""
    form = detect(sample)
    assert (form.kind, form.header) == ("text", "")


def test_a_line_without_the_later_columns_keeps_its_stamp() -> None:
    """Columns behind the first are optional: a line that lacks them has its message begin earlier."""
    lines, _ = log("hadoop")
    typed = reader(detect(lines)).match([b"2024-03-01 00:00:01,500 something else happened"])
    assert typed.messages == [b"something else happened"]
    assert not np.isnan(typed.times).any()


def test_a_column_most_lines_have_is_optional_and_so_is_what_follows() -> None:
    """One line in fifteen has no program: its host is still taken off, and its message is whole."""
    lines, messages = log("thunderbird")
    for place in range(0, len(lines), 15):
        messages[place] = b"LustreError 5 bytes lost"
        lines[place] = lines[place].split(b"/")[0] + b"/dn1 LustreError 5 bytes lost"
    assert messages == reader(detect(lines)).match(lines).messages


@pytest.mark.parametrize("name", names())
def test_known_names_are_formats(name: str) -> None:
    """Every named header is safe and digit-blind, so that a memo works on raw lines."""
    form = parse_format(name)
    assert name == form.name
    check_pattern(form.header)
    assert digit_blind(form.header)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<Date> <Time>", "<Content>"),
        ("", "<Content>"),
        ("<Date> <Date> <Content>", "twice"),
        ("<Date><Time> <Content>", "nothing between"),
        ("<9a> <Content>", "letters"),
        ("[<Time> <Content>", "not a regex"),
        (r"(<Time> <Content>", "not a regex"),
        ("<Time>", "<Content>"),
    ],
)
def test_a_header_that_is_none_is_explained(text: str, says: str) -> None:
    """The error is one sentence that says what to do."""
    with pytest.raises(ConfigError, match=says):
        parse_format(text)


def test_blanks_stand_for_any_white_space_and_the_rest_is_regex() -> None:
    """As in the literature; a bar between fields is text."""
    line = b"2020-01-01   12:00:00|app|7| hello  world "
    matcher = reader(parse_format("<Date> <Time>|<Component>|<Pid>|<Content>"))
    assert [message.strip() for message in matcher.match([line]).messages] == [b"hello  world"]


def test_a_field_can_be_the_key() -> None:
    """Header groups other than stamp and level are key fields."""
    form = parse_format("<Date> <Time> <Node> <Level> <Content>")
    assert form.fields == ("Node",)
    assert form.level == "Level"
    typed = Matcher([], form, KeyRule("field", field="Node")).match([b"2020-01-01 12:00:00 n17 ERROR no", b"junk"])
    assert (typed.keys, typed.errors.tolist()) == ([b"n17", b""], [True, False])


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason=f"no research data at {DATA}")
@pytest.mark.parametrize("name", GIVEN)
def test_the_headers_of_the_literature(name: str) -> None:
    """The given format and the detected one cut every message as the literature does (Apache: but for the client)."""
    path = DATA / f"loghub2k/{name}_2k.log"
    lines = [line.rstrip(b"\r") for line in path.read_bytes().rstrip(b"\n").split(b"\n")]
    with Path(f"{path}_structured.csv").open(encoding="utf-8", newline="") as file:
        expected = [row["Content"].strip().encode() for row in csv.DictReader(file)]
    for form in (parse_format(GIVEN[name]), detect(lines)):
        typed = reader(form).match(lines, now=NOW)
        assert not np.isnan(typed.times).any()
        if form.name == "apache_error":
            assert all(want.endswith(got) for got, want in zip(typed.messages, expected, strict=True))
        else:
            assert expected == [message.strip() for message in typed.messages]


JSON_LOGS = {
    "pino": lambda n, t: {"level": 30 + 10 * (n % 3), "time": 1700000000000 + n, "pid": n, "hostname": "h", "msg": t},
    "ecs": lambda n, t: {"@timestamp": f"2024-01-01T00:00:{n % 60:02}Z", "log": {"level": "info"}, "message": t},
    "mongo": lambda n, t: {"t": {"$date": "2024-01-01T00:00:00.1+00:00"}, "s": "I", "c": "NET", "id": n, "msg": t},
    "structlog": lambda n, t: {"event": t, "level": "error", "timestamp": "2024-01-01T00:00:00Z", "request_id": str(n)},
    "journal": lambda _, t: {"MESSAGE": t, "PRIORITY": "3", "__REALTIME_TIMESTAMP": "1700000000000000", "_PID": "7"},
    "odd names": lambda n, t: {"when": 1700000000.5 + n, "how_bad": "WARN", "what": t, "n": n},
}  # fmt: skip


@pytest.mark.parametrize("name", JSON_LOGS)
def test_fields_of_json_logs_are_found(name: str) -> None:
    """Message, stamp and level by usual names, or by what they hold."""
    _, messages = log("go")
    lines = [json.dumps(JSON_LOGS[name](n, text.decode())).encode() for n, text in enumerate(messages)]
    form = detect(lines)
    assert form.kind == "json"
    typed = reader(form).match(lines)
    assert messages == typed.messages
    assert not np.isnan(typed.times).any()
    assert form.level is not None


def test_logfmt_is_found() -> None:
    """Quoted messages lose their quotes."""
    _, messages = log("go")
    lines = [b'time=2024-01-01T00:00:00Z level=info msg="%s" id=%d' % (t, n) for n, t in enumerate(messages)]
    form = detect(lines)
    assert (form.kind, form.fields) == ("logfmt", ("id",))
    assert messages == reader(form).match(lines).messages


@pytest.mark.parametrize("inner", ["hadoop", "klog", "iso_only"])
def test_container_wrappers_and_the_header_inside(inner: str) -> None:
    """CRI and Docker: the outer stamp, the inner message."""
    lines, messages = log(inner)
    cri = [b"2024-01-01T00:00:00.123456789Z stderr F " + line for line in lines]
    docker = [
        json.dumps({"log": line.decode() + "\n", "stream": "stdout", "time": "2024-01-01T00:00:00.123456789Z"}).encode()
        for line in lines
    ]
    for kind, wrapped in (("cri", cri), ("docker", docker)):
        form = detect(wrapped)
        assert kind == form.kind
        typed = reader(form).match(wrapped)
        assert messages == typed.messages
        assert np.allclose(typed.times, 1704067200.123457)
