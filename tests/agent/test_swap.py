"""Another bundle under a running stream: what its state and its journal carry over."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from renumbered import renumbered

from foretail import bundle as bundles
from foretail import swap
from foretail.columns import Columns
from foretail.journal import Journal, Restored
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


def went_over(running: Stream, fresh: Stream, parts: list[Batch], more: list[Batch]) -> tuple[Restored, list[bytes]]:
    """A journal from before a swap that goes on after it; and what the live agent gave after it."""
    journal = kept(running, parts)
    fresh.take(running)
    records = [*journal.records, msgspec.msgpack.encode(Entry("", Columns(), bundles={"s": fresh.numbering()}))]
    given = []
    for part in more:
        columns = fresh.type(part)
        records.append(msgspec.msgpack.encode(Entry("s", columns)))
        given += fresh.judge(columns, part.lines)
    return Restored(journal.snapshot, records, []), given


@pytest.fixture
def twin(tmp_path):
    """The golden bundle, and one with other numbers and the same verdicts."""
    old = bundles.read(GOLDEN / "bundle")
    return old, renumbered(old, tmp_path / "twin", 2)


def test_a_stream_that_is_taken_goes_on_as_one_that_is_restored(tmp_path):
    """Types that are gone, sessions, incidents, totals: the same state by both ways."""
    old = bundles.read(GOLDEN / "bundle")
    running, restored, taken = stream(old), stream(renamed(tmp_path, 3)), stream(renamed(tmp_path, 3))
    running.feed(batch(0, 400))
    taken.take(running)
    restore(kept(running, []), {"s": restored})
    assert msgspec.msgpack.encode(taken.snapshot()) == msgspec.msgpack.encode(restored.snapshot())
    assert taken.feed(batch(400, 800)) == restored.feed(batch(400, 800))


def test_what_was_taken_is_a_copy(twin):
    """The old stream holds the state of that moment, whatever the new one does meanwhile."""
    running, fresh = map(stream, twin)
    running.feed(batch(0, 400))
    before = msgspec.msgpack.encode(running.snapshot())
    fresh.take(running)
    fresh.feed(batch(400, 800))
    assert msgspec.msgpack.encode(running.snapshot()) == before


def test_under_other_numbers_every_verdict_stays(twin):
    """Sessions that span swaps there and back score as if there had been none."""
    undisturbed, running = stream(twin[0]), stream(twin[0])
    for number, first in enumerate(range(0, len(LINES), 150), 1):
        expected = undisturbed.feed(batch(first, min(first + 150, len(LINES))))
        given = running.feed(batch(first, min(first + 150, len(LINES))))
        label = running.bundle.label.encode()
        assert [record.replace(label, undisturbed.bundle.label.encode()) for record in given] == expected
        fresh = stream(twin[number % 2])
        fresh.take(running)
        running = fresh


@pytest.mark.parametrize("now", [0, 1], ids=["back on the old one", "on the new one"])
def test_a_journal_that_goes_over_to_other_numbers_is_read_under_either_bundle(twin, now):
    """Before its snapshot is written a restart reads both numberings, and goes on as the agent would have."""
    running, fresh, again = stream(twin[0]), stream(twin[1]), stream(twin[now])
    running.feed(batch(0, 200))
    journal, _ = went_over(running, fresh, [batch(200, 300)], [batch(300, 350), batch(350, 400)])
    assert restore(journal, {"s": again}).settled == bool(now)
    label = fresh.bundle.label.encode(), again.bundle.label.encode()
    assert again.feed(batch(400, 700)) == [record.replace(*label) for record in fresh.feed(batch(400, 700))]


def test_a_journal_that_goes_over_to_another_cut_has_dropped_the_sessions(tmp_path):
    """Read under the bundle before, what came between is time alone."""
    old = bundles.read(GOLDEN / "bundle")
    rule = msgspec.structs.replace(old.manifest.key, regex="other=(\\d+)")
    other = bundles.write(tmp_path / "cut", msgspec.structs.replace(old.manifest, key=rule), old.files)
    running, fresh, again = stream(old), stream(other), stream(old)
    running.feed(batch(0, 200))
    open_sessions = len(running.sessions)
    journal, _ = went_over(running, fresh, [], [batch(200, 400)])
    restore(journal, {"s": again})
    assert again.teller.totals.sessions_dropped == open_sessions > 0
    assert len(again.sessions) == 0
    assert again.now == fresh.now


class Disk:
    """The system, which refuses snapshots while it is full."""

    def __init__(self) -> None:
        self.full, self.refused = False, 0

    def __getattr__(self, name):
        return getattr(os, name)

    def open(self, path, *rest):
        if self.full and "snapshot" in path:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.open(path, *rest)


def test_a_snapshot_that_finds_no_room_is_tried_again_until_it_is_given_up(tmp_path, twin, monkeypatch):
    """Meanwhile both journals tell the state; afterwards the snapshot is that of the moment of the swap."""
    disk, (running, fresh) = Disk(), map(stream, twin)
    journal = Journal.open(tmp_path / "journal", system=disk)
    columns = running.type(batch(0, 400))
    journal.acknowledge(journal.append(msgspec.msgpack.encode(Entry("s", columns))))
    running.judge(columns, LINES[:400])
    before = running.snapshot()
    going = swap.Swap({"s": fresh})
    assert going.reached([], lambda: None)
    going.take({"s": running}, journal, {}, [])
    disk.full = True
    fresh.feed(batch(400, 500))
    monkeypatch.setattr(swap, "RETRY_S", 0.01)

    def given_up() -> bool:
        disk.full = disk.refused < 3
        return False

    assert going.settle(given_up)
    assert disk.refused == 3
    assert not journal.turning
    journal.close()
    restored = Journal.open(tmp_path / "journal").restore()
    snapshot = msgspec.msgpack.decode(restored.snapshot, type=Snapshot)
    assert snapshot.streams["s"] == msgspec.msgpack.decode(msgspec.msgpack.encode(before))
    assert len(restored.records) == 1


def test_a_state_without_the_stream_or_under_its_own_bundle_is_told_apart():
    """Only a snapshot that names the bundle of today lets records be appended as they are."""
    running = stream(bundles.read(GOLDEN / "bundle"))
    assert not restore(Restored(None, [], []), {"s": stream(running.bundle)}).settled
    assert restore(kept(running, []), {"s": stream(running.bundle)}).settled
