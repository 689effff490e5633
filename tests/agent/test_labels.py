"""A label says what an incident was, in types; the log itself stays on its host."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import re
from pathlib import Path

import msgspec
import pytest

from foretail import bundle as bundles
from foretail import labels, logs
from foretail.cli import main
from foretail.errors import ConfigError
from foretail.journal import Journal
from foretail.rest import machine, replay
from foretail.schema import Label
from foretail.state import Snapshot
from foretail.stream import Stream
from foretail.telling import Options
from foretail.verdicts import Incident, LineVerdict, Record, SessionVerdict

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BUNDLE = str(GOLDEN / "bundle")


@pytest.fixture(scope="module")
def bundle():
    return bundles.read(BUNDLE)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The golden log, less the third line of every twentieth request and the last of every other twentieth."""
    lines = GOLDEN.joinpath("storage.log").read_bytes().splitlines(keepends=True)
    keys = [found[0] if (found := re.search(rb"req-[0-9a-f]{12}", line)) else b"" for line in lines]
    rows: dict[bytes, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    long = [mine for key, mine in rows.items() if key and len(mine) > 5]
    gone = {mine[2] for mine in long[5::20]} | {mine[-1] for mine in long[15::20]}
    path = tmp_path_factory.mktemp("log") / "storage.log"
    path.write_bytes(b"".join(line for row, line in enumerate(lines) if row not in gone))
    return path


@pytest.fixture(scope="module")
def records(bundle, log):
    """All incidents, line verdicts and session verdicts of that log, at a threshold of eight bits."""
    low = msgspec.structs.replace(bundle.manifest.calibration, threshold=8.0)
    nervous = dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, calibration=low))
    kinds = {"incidents": Incident, "lines": LineVerdict, "sessions": SessionVerdict}
    return {emit: [one for one in told(nervous, log, emit) if isinstance(one, kinds[emit])] for emit in kinds}


def told(bundle, log, emit):
    stream = Stream(bundle, Options("default", machine=machine(), emit=emit, cap_per_hour=1000))
    found = [record for part in replay(stream, [str(log)], ended=True) for record in part]
    return [msgspec.json.decode(record, type=Record) for record in found]


def opened(records, reason):
    """The first opened incident of a detector."""
    return next(one for one in records["incidents"] if one.reasons[0] == reason)


def names(made: Label):
    """The events of a label as templates, an unknown line as its message."""
    return [made.types[event].template or made.types[event].message for event in made.events]


def test_a_label_of_a_line_holds_what_came_before_and_after_it(bundle, records):
    """The context of the record, the judged type, and the rest of its session, read from the log."""
    record = opened(records, "sequence")
    made = labels.of(record, bundle, "normal", "why")
    assert tuple(names(made)[: made.at][-10:]) == record.explanation.context
    assert made.types[made.events[made.at]].type_id == record.type_id
    assert names(made) == [r.template for r in records["lines"] if r.key == record.key]
    assert (made.begins, made.ends) == (True, True)


def test_a_label_keeps_no_text_but_the_words_of_an_unknown_line(bundle, records, log):
    """No key, no source, no line; digits of the unknown message are zeros."""
    for record in records["incidents"]:
        text = msgspec.json.encode(labels.of(record, bundle, "normal", "why")).decode()
        assert not record.key or record.key not in text
        assert str(log) not in text
        kept = msgspec.json.decode(text, type=Label)
        messages = [one.message for one in kept.types if one.message is not None]
        assert len(messages) == (record.type_id is None and record.explanation.events is None)
        assert not any(digit in message for message in messages for digit in "123456789")


def test_the_label_of_a_session_holds_all_its_events(bundle, records):
    """As many as the verdict counted, in the order of the log, from its beginning to its end."""
    verdict = next(one for one in records["sessions"] if one.anomalous and one.whole)
    made = labels.of(verdict, bundle, "anomaly", "why")
    assert (made.kind, made.at, len(made.events), made.total) == ("session", None, verdict.events, verdict.events)
    assert made.begins
    mine = [r.template for r in records["lines"] if r.key == verdict.session]
    assert names(made) == mine


def test_without_the_log_a_label_holds_the_context_of_the_record(bundle, records, tmp_path):
    """A log that is gone, or another one in its place, costs what followed and nothing else."""
    record = opened(records, "sequence")
    whole = labels.of(record, bundle, "normal", "why")
    other = tmp_path / "other.log"
    other.write_bytes(b"x" * record.offset + b"\nsomething else\n" * 9)
    for path in (str(tmp_path / "gone.log"), str(other)):
        made = labels.of(msgspec.structs.replace(record, source=path), bundle, "normal", "why")
        assert names(made) == names(whole)[: whole.at + 1][-11:]
        assert made.fingerprint == whole.fingerprint


@pytest.mark.parametrize("name", ["app.log.1", "app.log-20260102", "app.log.2.gz"])
def test_a_rotated_log_is_found(bundle, records, log, tmp_path, name):
    """By its number or date, packed or not: it is the same log if the same line stands there."""
    record = opened(records, "sequence")
    raw = log.read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("gz") else raw)
    (tmp_path / "app.log").write_bytes(b"a new file\n")
    moved = msgspec.structs.replace(record, source=str(tmp_path / "app.log"))
    assert names(labels.of(moved, bundle, "normal", "w")) == names(labels.of(record, bundle, "normal", "w"))


def test_a_quiet_verdict_is_labelled_from_the_log(bundle, records):
    """It carries no explanation: the log tells what came before."""
    verdict = next(one for one in records["lines"] if not one.anomalous and one.key and one.offset > 40_000)
    made = labels.of(verdict, bundle, "anomaly", "the backup was broken here")
    earlier = [r.template for r in records["lines"] if r.key == verdict.key and r.offset < verdict.offset]
    assert names(made)[: made.at] == earlier
    gone = msgspec.structs.replace(verdict, source="/nowhere")
    with pytest.raises(ConfigError, match="label it while the log is there"):
        labels.of(gone, bundle, "anomaly", "why")


@pytest.mark.parametrize("reason", ["sequence", "novelty", "end"])
def test_an_incident_and_its_verdict_have_one_fingerprint(bundle, records, reason):
    """So that labels of both are labels of one cause."""
    record = opened(records, reason)
    kind = "sessions" if record.explanation.events is not None else "lines"
    verdict = next(one for one in records[kind] if one.id == record.id)
    assert labels.of(verdict, bundle, "normal", "w").fingerprint == record.fingerprint


# -- the command -----------------------------------------------------------------------------------------------------


def config(tmp_path: Path, sink: str = "") -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        f'[agent]\nstate_dir = "{tmp_path / "state"}"\nstatus_socket = ""\n'
        f'[[stream]]\nname = "default"\ninclude = ["/nowhere"]\nbundle = "{BUNDLE}"\n{sink}'
    )
    return path


def test_the_record_is_found_in_the_files_of_the_sinks(tmp_path, capsys, records):
    """Also in a rotated one; the label goes to the state directory, one line each."""
    record = opened(records, "sequence")
    sink = f'[[sink]]\ntype = "file"\npath = "{tmp_path / "out.jsonl"}"\n'
    (tmp_path / "out.jsonl").write_bytes(b"")
    (tmp_path / "out.jsonl.1").write_bytes(msgspec.json.encode(record) + b"\n")
    where = config(tmp_path, sink)
    for word in ("normal", "anomaly"):
        assert main(["label", record.id, word, "--reason", "new  job", "-c", str(where)]) == 0
    kept = labels.read(str(tmp_path / "state" / "labels.jsonl"))
    assert [(one.id, one.label, one.reason) for one in kept] == [
        (record.id, "normal", "new job"),
        (record.id, "anomaly", "new job"),
    ]
    assert [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()] == ["normal", "anomaly"]


def test_an_open_incident_is_found_in_the_agents_state(tmp_path, bundle):
    """What the agent compacted; no sink needs to have it."""
    stream = Stream(bundle, Options("default", machine=machine()))
    for batch in logs.batches([str(GOLDEN / "storage.log")], "default"):
        stream.feed(batch)
    snapshot = stream.snapshot()
    journal = Journal.open(tmp_path / "state" / "journal")
    journal.restore()
    journal.compact(msgspec.msgpack.encode(Snapshot(1, {"default": snapshot}, {})))
    journal.close()
    name = next(iter(snapshot["incidents"]["open"]))
    assert main(["label", name, "normal", "--reason", "why", "-c", str(config(tmp_path))]) == 0
    assert labels.read(str(tmp_path / "state" / "labels.jsonl"))[0].id == name


def test_a_record_on_standard_input_needs_no_configuration(tmp_path, records, monkeypatch):
    """What journalctl or an alert mail gives; other lines in it are passed over."""
    record = opened(records, "sequence")

    class Stdin:
        buffer = io.BytesIO(b"not json\n" + msgspec.json.encode(record) + b"\n")

    monkeypatch.setattr("sys.stdin", Stdin)
    asked = ["label", record.id, "normal", "--reason", "why", "--from", "-", "--bundle", BUNDLE]
    assert main([*asked, "--state", str(tmp_path), "-c", str(tmp_path / "none.toml")]) == 0
    assert labels.read(str(tmp_path / "labels.jsonl"))[0].id == record.id


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--from", "{records}", "--reason", " "], "--reason"),
        (["--from", "{records}", "--reason", "x" * 1001], "1001"),
        (["--from", "{folder}/none.jsonl", "--reason", "why"], "none.jsonl"),
        (["--from", "{folder}/other.jsonl", "--reason", "why"], "holds no incident"),
        (["--reason", "why"], "--from"),
        (["--from", "{records}", "--reason", "why", "--state", "/proc/none"], "/proc/none"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(tmp_path, capsys, records, arguments, word):
    """No reason, no record, no place to write to."""
    record = opened(records, "sequence")
    (tmp_path / "records.jsonl").write_bytes(msgspec.json.encode(record) + b"\n")
    (tmp_path / "other.jsonl").write_bytes(b'{"kind":"notice"}\n\xff\n')
    given = [part.format(records=tmp_path / "records.jsonl", folder=tmp_path) for part in arguments]
    rest = [] if "--state" in given else ["--state", str(tmp_path)]
    command = ["label", record.id, "normal", "--bundle", BUNDLE, "-c", str(tmp_path / "none.toml"), *given, *rest]
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert word in err


def test_a_half_written_line_is_ended_first(tmp_path, bundle, records):
    """A crash costs one label at most."""
    path = tmp_path / "labels.jsonl"
    made = labels.of(opened(records, "sequence"), bundle, "normal", "why")
    labels.append(path, made)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    labels.append(path, made)
    assert path.read_bytes() == whole + whole[:40] + b"\n" + whole
    with pytest.raises(ConfigError, match=":2 is no label"):
        labels.read(str(path))
