"""Another bundle under a running stream: what its state and its journal carry over."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from foretail import bundle as bundles
from foretail.journal import Restored
from foretail.lines import Batch, Source
from foretail.schema import FIRST, UNKNOWN, Patterns
from foretail.state import SNAPSHOT_SCHEMA, Entry, Snapshot, restore
from foretail.stream import Stream
from foretail.telling import Options

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LINES = (GOLDEN / "storage.log").read_bytes().splitlines()
SOURCE = Source("a" * 24, "/log", whole=True)


def batch(first: int, last: int) -> Batch:
    lines = LINES[first:last]
    offsets = np.cumsum([0, *(len(line) + 1 for line in LINES[:last])]).tolist()
    return Batch("s", SOURCE, lines, offsets[first:last], offsets[last], 1.8e9)


def renamed(folder: Path, gone: int) -> bundles.Bundle:
    """The golden bundle, one type of which has another permanent name: to histories it is absent."""
    old = bundles.read(GOLDEN / "bundle")
    patterns = tuple(
        msgspec.structs.replace(pattern, type_id="f" * 16) if pattern.rank == gone else pattern
        for pattern in old.patterns
    )
    sequence = msgspec.structs.replace(old.manifest.sequence, types=tuple(pattern.type_id for pattern in patterns))
    files = {**old.files, bundles.PATTERNS: msgspec.json.encode(Patterns(1, patterns))}
    golden = old.files[bundles.GOLDEN].replace(old.patterns[gone].type_id.encode(), b"f" * 16)
    manifest = msgspec.structs.replace(old.manifest, version=2, sequence=sequence)
    return bundles.write(folder / "renamed", manifest, {**files, bundles.GOLDEN: golden})


def stream(bundle: bundles.Bundle) -> Stream:
    return Stream(bundle, Options("s", emit="lines"))


def kept(running: Stream, parts: list[Batch]) -> Restored:
    """A journal: a snapshot of now, and what comes after it."""
    snapshot = Snapshot(SNAPSHOT_SCHEMA, {"s": running.snapshot()}, {})
    raw, records = msgspec.msgpack.encode(snapshot), []
    for part in parts:
        columns = running.type(part)
        records.append(msgspec.msgpack.encode(Entry("s", columns)))
        running.judge(columns, part.lines)
    return Restored(raw, records, [])


def test_under_an_equal_bundle_sessions_that_span_the_swap_keep_their_context(tmp_path):
    """Another version with the same content gives every later line the score it would have had."""
    old = bundles.read(GOLDEN / "bundle")
    manifest = msgspec.structs.replace(old.manifest, version=2)
    running, fresh = stream(old), stream(bundles.write(tmp_path / "two", manifest, old.files))
    running.feed(batch(0, 300))
    journal = kept(running, [batch(300, 350), batch(350, 400)])
    assert not restore(journal, {"s": fresh}).settled
    label = running.bundle.label.encode(), fresh.bundle.label.encode()
    expected = [record.replace(*label) for record in running.feed(batch(400, 700))]
    assert fresh.feed(batch(400, 700)) == expected


def test_records_after_the_snapshot_are_read_in_the_numbers_of_their_bundle(tmp_path):
    """A type that the new bundle lacks becomes unknown in histories, in the snapshot and in the journal alike."""
    old = bundles.read(GOLDEN / "bundle")
    common = int(np.bincount(np.frombuffer(stream(old).type(batch(0, 400)).ids, np.int16)).argmax()) - FIRST
    running, fresh = stream(old), stream(renamed(tmp_path, common))
    running.feed(batch(0, 200))
    restore(kept(running, [batch(200, 400)]), {"s": fresh})
    before, after = running.sessions.slots.columns["recent"], fresh.sessions.slots.columns["recent"]
    assert len(fresh.sessions) == len(running.sessions) > 0
    assert (before == common + FIRST).any()
    assert not (after == common + FIRST).any()
    assert (after == UNKNOWN).sum() > (before == UNKNOWN).sum()


def test_a_bundle_that_cuts_otherwise_drops_the_sessions_and_counts_them(tmp_path):
    """Keys of another rule mean nothing; event time goes on."""
    old = bundles.read(GOLDEN / "bundle")
    rule = msgspec.structs.replace(old.manifest.key, regex="other=(\\d+)")
    bundle = bundles.write(tmp_path / "cut", msgspec.structs.replace(old.manifest, key=rule), old.files)
    running, fresh = stream(old), stream(bundle)
    running.feed(batch(0, 200))
    open_sessions = len(running.sessions)
    restore(kept(running, [batch(200, 400)]), {"s": fresh})
    assert fresh.teller.totals.sessions_dropped == open_sessions > 0
    assert len(fresh.sessions) == 0
    assert fresh.now == running.now


def test_a_state_without_the_stream_or_under_its_own_bundle_is_told_apart():
    """Only a snapshot that names the bundle of today lets records be appended as they are."""
    running = stream(bundles.read(GOLDEN / "bundle"))
    assert not restore(Restored(None, [], []), {"s": stream(running.bundle)}).settled
    assert restore(kept(running, []), {"s": stream(running.bundle)}).settled
