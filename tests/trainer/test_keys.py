"""The session key is found by what its histories predict, whatever it looks like; and none is found where none is."""

import os
import random
from pathlib import Path

import pytest

from foretail import logs
from foretail.formats import detect, parse_format
from foretail.patterns import Matcher
from foretail.schema import Format, KeyRule, Pattern
from foretail_trainer import mine
from foretail_trainer.identifiers import identifiers, parts
from foretail_trainer.keys import discover

pytestmark = pytest.mark.trainer

DATA = Path(os.environ.get("FORETAIL_DATA", "../shared/data"))
STEPS = [
    "begin %s",
    "read of %s started",
    "read of %s done",
    "write to %s",
    "sync %s",
    "close %s",
    "index of %s updated",
]


def interleaved(make_key, sessions=200, live=6, seed=1):
    """Lines of sessions that run side by side, each taking its steps in order, some of them twice."""
    rng = random.Random(seed)
    running, lines, waiting = [], [], sessions
    while waiting or running:
        while waiting and len(running) < live:
            running.append((make_key(rng), [s for s in STEPS for _ in range(1 + (rng.random() < 0.2))]))
            waiting -= 1
        key, steps = rng.choice(running)
        lines.append((steps.pop(0) % key).encode())
        if not steps:
            running.remove((key, steps))
    return lines


def found(lines, form=None):
    form = form or Format()
    patterns = mine.mine([lines], form, seed=0).patterns
    return discover(lines, Matcher(patterns, form, KeyRule()), form)


def uuid(rng):
    text = f"{rng.getrandbits(128):032x}"
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]])


@pytest.mark.parametrize(
    ("make_key", "regex"),
    [
        (lambda rng: f"blk_{rng.randint(-(10**18), 10**18)}", r"\bblk_-?\d+"),
        (lambda rng: f"req-{uuid(rng)}", r"\breq-[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
        (lambda rng: f"session={rng.getrandbits(64):016x}", r"\bsession=([0-9a-fA-F]+)"),
        (lambda rng: f"user_id: {rng.randint(1, 10**6)}", r"\buser_id:\s(\d+)"),
        (lambda rng: f"{rng.getrandbits(64):016x}", r"\b[0-9a-fA-F]{8,}"),
    ],
    ids=["blk", "req-uuid", "session=hex", "user_id", "hex"],
)
def test_identifiers_in_messages_are_found(make_key, regex):
    """The identifier that joins interleaved sessions is the key, whatever its shape; its sessions end."""
    discovery = found(interleaved(make_key))
    assert discovery.rule == KeyRule("search", regex=regex)
    assert discovery.candidates[0].rule == discovery.rule
    assert discovery.candidates[0].sessions == 200


def test_a_header_field_is_found_and_endless():
    """Workers that take their own steps side by side are told apart by the thread field, which never ends."""
    rng = random.Random(2)
    at, lines = [0] * 4, []
    for second in range(4000):
        worker = rng.randrange(4)
        lines.append(
            f"17/06/09 20:{second // 60 % 60:02}:{second % 60:02} [worker-{worker}] step {'abcdefg'[at[worker]]}"
        )
        at[worker] = (at[worker] + 1) % 7
    form = parse_format(r"<Date> <Time> \[<Thread>\] <Content>")
    discovery = found([line.encode() for line in lines], form)
    assert (discovery.rule.kind, discovery.rule.endless) == ("field", True)
    assert discovery.rule.field in form.fields


def test_no_key_is_found_in_one_sequence():
    """Numbers that mean nothing, in one sequence of steps, are no key."""
    rng = random.Random(3)
    lines = [(STEPS[i % 7] % f"part {rng.randint(1, 40)}").encode() for i in range(3000)]
    discovery = found(lines)
    assert discovery.rule == KeyRule()
    assert discovery.candidates[0].reason == "no key is clearly better"


def test_a_value_that_tells_the_type_is_no_key():
    """A component that logs one type each predicts its lines perfectly and joins nothing."""
    rng = random.Random(4)
    lines = [
        f"17/06/09 20:10:40 INFO part{'abcd'[k]}: did thing {'wxyz'[k]}"
        for k in (rng.randrange(4) for _ in range(3000))
    ]
    form = parse_format("<Date> <Time> <Level> <Component>: <Content>")
    discovery = found([line.encode() for line in lines], form)
    assert discovery.rule == KeyRule()


@pytest.mark.parametrize("lines", [[], [b"one line"], [b"a 1", b"b 2", b"a 1"] * 20])
def test_few_lines_have_no_key(lines):
    """Below 200 events to predict nothing is said of a key."""
    matcher = Matcher([Pattern(0, 0, "0" * 16, "a <*>", r"a \d+", 0)], Format(), KeyRule())
    assert discover(lines, matcher, Format()).rule == KeyRule()


def test_rows_are_for_the_report():
    """Each candidate is a row of the report, the chosen one first and marked."""
    rows = found(interleaved(lambda rng: f"job_{rng.randint(1, 10**9)}")).rows()
    assert rows[0].chosen
    assert not any(row.chosen for row in rows[1:])
    assert {"none"} <= {row.rule for row in rows}
    assert all(row.note for row in rows)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (b"blk_-160", ["blk", "_", "*"]),
        (b"task_2008_0001_m_81", ["task", "_", "*", "_", "*", "_", "m", "_", "*"]),
        (b"10.0.0.9", ["*ip"]),
        (b"req-123e4567-e89b-12d3-a456-426614174000", ["req", "-", "*uuid"]),
        (b"4f2a9c01", ["*"]),
        (b"node12", ["node", "*"]),
        (b"x1Yz9kQ2", ["*"]),
    ],
)
def test_parts_of_tokens(token, expected):
    """Letters stay, numbers vary, hexadecimal and mixed words vary as a whole."""
    assert [part.text for part in parts(token)] == expected


def test_sign_and_width_are_joined():
    """Signed and unsigned numbers, digits and hex of one place are one shape."""
    messages = [b"open blk_-5", b"close blk_-5", b"open blk_5", b"close blk_5", b"open blk_7", b"close blk_7"] * 5
    seen = identifiers(messages, [0, 1] * 15)
    assert [s.regex for s in seen] == [r"\bblk_-?\d+"]
    assert (seen[0].lines, seen[0].values) == (30, 3)


def test_what_does_not_repeat_is_no_identifier():
    """A value on one line, or on lines of one type, joins nothing."""
    once = [f"took t{i}q ms".encode() for i in range(100)]
    one_type = [f"host h{i % 5} up".encode() for i in range(100)]
    assert identifiers(once, [0] * 100) == []
    assert identifiers(one_type, [0] * 100) == []


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason=f"no research data in {DATA}: set FORETAIL_DATA")
@pytest.mark.parametrize(("start", "lines"), [(0, 20_000), (100_000, 20_000)])
def test_hdfs_blocks_are_found(start, lines):
    """Without --format and --key the block id of HDFS is found, in early and in late lines."""
    path = DATA / "hdfs_raw" / "hdfs.log.xz"
    sample = []
    for batch in logs.batches([str(path)], "train"):
        sample += batch.lines
        if len(sample) >= start + lines:
            break
    sample = sample[start : start + lines]
    discovery = found(sample, detect(sample[:5000]))
    assert discovery.rule == KeyRule("search", regex=r"\bblk_-?\d+")
