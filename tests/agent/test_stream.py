"""A stream on the golden bundle: the same records however its lines arrive, and over a restart."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretail import bundle as bundles
from foretail.columns import Columns
from foretail.incidents import STORM_S
from foretail.lines import Batch, Source
from foretail.schema import FIRST, KeyRule
from foretail.stream import Stream
from foretail.telling import Options

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BUNDLE = bundles.read(GOLDEN / "bundle")
LINES = (GOLDEN / "storage.log").read_bytes().splitlines()
OFFSETS = np.cumsum([0] + [len(line) + 1 for line in LINES]).tolist()
SOURCE = Source("0" * 24, "/var/log/storage.log", whole=True)


def batch(start: int, stop: int, source: Source = SOURCE) -> Batch:
    return Batch("s", source, LINES[start:stop], OFFSETS[start:stop], OFFSETS[stop], 1.8e9)


def stream(**options) -> Stream:
    return Stream(BUNDLE, Options("s", machine="m", **options))


def cut_at(cuts, *, emit, crash=False, replay=False) -> list[bytes]:
    """All records when the log is cut there; `crash`: saved and restored at each cut, `replay`: by its columns."""
    records, work = [], stream(emit=emit)
    for start, stop in zip([0, *cuts], [*cuts, len(LINES)], strict=True):
        if start == stop:
            continue
        columns = work.type(batch(start, stop))
        if replay:
            shadow = stream(emit=emit)
            shadow.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(work.snapshot())))
            shadow.judge(msgspec.msgpack.decode(msgspec.msgpack.encode(columns), type=Columns))
        records += work.judge(columns, LINES[start:stop])
        if replay:
            assert textless(shadow.snapshot()) == textless(work.snapshot())
        if crash:
            state = msgspec.msgpack.decode(msgspec.msgpack.encode(work.snapshot()))
            work = stream(emit=emit)
            work.restore(state)
    return records + work.finish(ended=True)


def textless(state):
    """A state without the text of lines, which the journal does not hold: it is in records that were delivered."""
    for incident in state["incidents"]["open"].values():
        record = json.loads(incident["record"])
        record["explanation"].pop("line", None)
        record.pop("summary")
        incident["record"] = record
    return state


WHOLE = {emit: cut_at([], emit=emit) for emit in ("lines", "anomalies", "sessions", "incidents")}
cuts_strategy = st.lists(st.integers(0, len(LINES)), max_size=6).map(sorted)


@settings(max_examples=15, deadline=None)
@given(cuts=cuts_strategy, emit=st.sampled_from(sorted(WHOLE)), crash=st.booleans())
def test_the_same_records_come_whatever_the_cuts_and_restarts(cuts, emit, crash):
    """Byte for byte, in the same order, in one piece or cut into arbitrary reads (issue: determinism)."""
    assert cut_at(cuts, emit=emit, crash=crash) == WHOLE[emit]


@settings(max_examples=5, deadline=None)
@given(cuts=cuts_strategy)
def test_a_replay_of_the_journalled_columns_leads_to_the_same_state(cuts):
    """What the journal holds of a batch is all that the state is a function of."""
    assert cut_at(cuts, emit="incidents", replay=True) == WHOLE["incidents"]


def test_every_line_gets_one_verdict_with_the_fields_that_others_rely_on():
    """Ids are distinct; type, template, key, offset are those of the line (DESIGN §8)."""
    records = [json.loads(record) for record in WHOLE["lines"]]
    lines = [record for record in records if record["kind"] == "line"]
    assert [line["offset"] for line in lines] == OFFSETS[:-1]
    assert len({line["id"] for line in lines}) == len(LINES)
    assert {"stream", "source", "type", "score", "p", "anomalous", "reasons", "bundle"} <= lines[0].keys()
    assert all((record["score"] >= 0.5) == record["anomalous"] for record in records)


def test_an_anomalous_line_is_explained():
    """What came, how surprising, what was expected, the context, which detectors spoke."""
    found = [json.loads(record) for record in WHOLE["anomalies"]]
    assert found
    known = [record for record in found if record["kind"] == "line" and record["type"] != "0"]
    for record in known:
        why = record["explanation"]
        assert why["line"].encode() in LINES
        assert why["bits"] > 0
        assert why["rank"] >= 1
        assert why["expected"][0]["p"] <= 1
        assert record["reasons"][0] in why["detectors"]


def test_a_bundle_without_that_session_key_is_not_mixed_up_between_sources():
    """Two files with the same keys at the same time are two hosts' worth of offsets, and their ids differ."""
    other = Source("1" * 24, "/var/log/other.log", whole=True)
    one, two = stream(emit="lines"), stream(emit="lines")
    ids = [{json.loads(r)["id"] for r in s.feed(batch(0, 50, source))} for s, source in ((one, SOURCE), (two, other))]
    assert not ids[0] & ids[1]


def test_starting_in_the_middle_of_a_file_raises_no_flood():
    """Sessions whose beginning was not seen get no end, length or count verdict, and no line verdict at first."""
    late = Source("2" * 24, "/var/log/storage.log", whole=False)
    for start in range(100, 900, 100):
        work = stream(emit="incidents")
        raised = work.feed(batch(start, start + 100, late)) + work.finish(ended=False)
        whole = [json.loads(r) for r in WHOLE["incidents"]]
        expected = sum(OFFSETS[start] <= r["offset"] < OFFSETS[start + 100] for r in whole)
        opened = [r for r in map(json.loads, raised) if r["kind"] == "incident" and r["state"] == "open"]
        assert len(opened) <= 2 * expected + 1


def test_a_stamp_from_the_far_future_does_not_end_all_sessions():
    """A line stamped more than a day ahead of the host's clock keeps the event time of its neighbours."""
    bad = LINES[60].replace(b"2026", b"2126", 1)
    rows = [*LINES[:60], bad, *LINES[61:120]]
    offsets = np.cumsum([0] + [len(row) + 1 for row in rows]).tolist()
    work = stream(emit="lines")
    work.feed(Batch("s", SOURCE, rows, offsets[:-1], offsets[-1], 1.8e9))
    assert work.now < 1.8e9


@pytest.mark.parametrize("sources", [3000])
def test_sources_that_no_session_began_in_are_forgotten(sources):
    """Forward chunks are a source each: what is remembered of them is bounded."""
    work = stream(emit="incidents", idle_s=0.001)
    for number in range(sources):
        source = Source(f"{number:024x}", "forward://x", whole=False)
        work.feed(batch(number % 900, number % 900 + 1, source))
    assert len(work.snapshot()["sources"]) < 2000


def renumbered():
    """The golden bundle with its types in another order of model ids: one type is gone."""
    patterns = [pattern for pattern in BUNDLE.patterns if not pattern.template.startswith("heartbeat")][::-1]
    patterns = [msgspec.structs.replace(pattern, rank=rank) for rank, pattern in enumerate(patterns)]
    return dataclasses.replace(BUNDLE, patterns=tuple(patterns), digest="another")


def test_histories_carry_over_to_another_bundle_by_type():
    """Each live session keeps its recent events under their new numbers; nothing is dropped."""
    old = stream(emit="incidents")
    old.feed(batch(0, 200))
    new = Stream(renumbered(), Options("s", machine="m"))
    new.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(old.snapshot())))
    assert len(new.sessions) == len(old.sessions) > 0

    def histories(work):
        names = ["", "", "", *(pattern.type_id for pattern in work.bundle.patterns)]
        slots = work.sessions.slots
        return {slots.names[s]: [names[i] for i in slots.columns["recent"][s]] for s in slots.all().tolist()}

    gone = {pattern.type_id for pattern in BUNDLE.patterns} - {p.type_id for p in new.bundle.patterns}
    expected = {key: ["" if name in gone else name for name in row] for key, row in histories(old).items()}
    assert histories(new) == expected


def test_sessions_cut_by_another_key_are_dropped_and_counted():
    """A bundle with another key cannot go on with the sessions of the old one."""
    old = stream(emit="incidents")
    old.feed(batch(0, 200))
    manifest = msgspec.structs.replace(BUNDLE.manifest, key=KeyRule(kind="search", regex=r"worker-\d+"))
    new = Stream(dataclasses.replace(BUNDLE, manifest=manifest, digest="another"), Options("s"))
    new.restore(old.snapshot())
    assert len(new.sessions) == 0
    assert new.teller.totals.sessions_dropped == len(old.sessions)


def with_line(at: int, line: bytes) -> list[dict]:
    """The incidents of the golden log with one more line in it."""
    rows = [*LINES[:at], line, *LINES[at:]]
    offsets = np.cumsum([0] + [len(row) + 1 for row in rows]).tolist()
    work = stream(emit="incidents")
    records = work.feed(Batch("s", SOURCE, rows, offsets[:-1], offsets[-1], 1.8e9)) + work.finish(ended=True)
    return [r for r in map(json.loads, records) if r["state"] == "open"]


@pytest.mark.parametrize("level", [b"INFO", b"ERROR"])
@pytest.mark.parametrize("at", range(40, 1000, 160))
def test_a_message_never_seen_is_one_incident_wherever_it_comes(level, at):
    """Of any level, with no session of its own: the golden log raises one more, at that line.

    Seconds after another message never seen, one that is no error belongs to that one's incident.
    """
    stamp = LINES[at].split(b" ")[0]
    line = stamp + b" " + level + b" [background] cluster: the moon has left its orbit around shard 7"
    before = [json.loads(r) for r in WHOLE["incidents"]]
    found = [r for r in with_line(at, line) if r["offset"] == OFFSETS[at]]
    time = datetime.fromisoformat(stamp.decode()).timestamp()
    storm = [r for r in before if r["key"] is None and 0 <= time - r["time"] <= STORM_S]
    if storm and level != b"ERROR":
        assert found == []
        return
    assert len(found) == 1
    assert found[0]["type"] == "0"
    assert "moon" in found[0]["summary"]
    others = {r["key"] for r in with_line(at, line)} - {found[0]["key"]}
    assert others <= {r["key"] for r in before}


def test_types_of_empty_messages_can_be_part_of_explanations():
    """Some programs log nothing at all; the name of such a type is empty, not missing."""
    patterns = tuple(msgspec.structs.replace(pattern, template="") for pattern in BUNDLE.patterns)
    work = Stream(dataclasses.replace(BUNDLE, patterns=patterns), Options("s", machine="m", emit="anomalies"))
    records = work.feed(batch(0, len(LINES))) + work.finish(ended=True)
    assert len(records) == len(WHOLE["anomalies"])


def test_a_row_of_types_is_one_session_whatever_ends_in_it():
    """`score --sequences`: one verdict a row, in order, also where a type that ends sessions comes first."""
    end = next(at for at, pattern in enumerate(BUNDLE.patterns) if pattern.end) + FIRST
    rows = [[end, end, FIRST], [FIRST], [end], [FIRST, end, FIRST + 1]]
    verdicts = stream().sequences(rows)
    assert [verdict.events for verdict in verdicts] == [3, 1, 1, 3]
    alone = [verdict for row in rows for verdict in stream().sequences([row])]
    assert [verdict.score for verdict in verdicts] == [verdict.score for verdict in alone]
