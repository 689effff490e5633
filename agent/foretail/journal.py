"""Durable state: an append-only journal of opaque records and a compacted snapshot.

A directory holds `lock`, `snapshot-N` and `journal-N`. Generation N is the snapshot plus the records of its journal
(generation 0 has no snapshot). Compaction makes generation N + 1 and keeps N, so that a damaged snapshot costs nothing.
A record is durable against SIGKILL when `append` returns (one `write()`); `fsync` every `fsync_s` and at compaction
bounds what a power failure repeats.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from foretail.durable import System, locked, sync_directory, write_all, write_durably
from foretail.errors import ConfigError, StreamError
from foretail.ledger import (
    ACK,
    DATA,
    DISCARD,
    HEADER_BYTES,
    JOURNAL,
    NOTE,
    SNAPSHOT,
    Header,
    continues,
    header,
    read_journal,
    read_snapshot,
    record,
)
from foretail.turning import Turning


class JournalLimits(msgspec.Struct, frozen=True):
    """When to fsync and to compact.

    Attributes:
        fsync_s: seconds between two fsyncs of the journal.
        ratio: the journal may grow to this many snapshots,
        compact_bytes_min: but is not compacted below this,
        compact_bytes_max: and always above this.
        record_bytes_max: a larger record is refused: it could never be read back within bounded memory.
    """

    fsync_s: float = 5.0
    ratio: float = 4.0
    compact_bytes_min: int = 1 << 20
    compact_bytes_max: int = 64 << 20
    record_bytes_max: int = 64 << 20


class Restored(NamedTuple):
    """What outlived the last run.

    Attributes:
        snapshot: of the last compaction; None before the first.
        records: acknowledged since, in order; to be applied to the snapshot.
        notes: all noted since, acknowledged or not, in order.
        discarded: unacknowledged records: their lines are read again.
        cut_bytes: torn or damaged bytes that were cut off the end of the journal: never acknowledged ones are read
            again; nothing is skipped.
        recovered: why an older generation had to be used, or empty.
    """

    snapshot: bytes | None
    records: list[bytes]
    notes: list[bytes]
    discarded: int = 0
    cut_bytes: int = 0
    recovered: str = ""


class _Base(NamedTuple):
    """What the journal of the newest generation adds to."""

    snapshot: bytes | None
    records: list[bytes]
    notes: list[bytes]


class Journal:
    """The state directory of one agent, locked while open.

    Records are numbered from 1 on, over restarts too. Not thread-safe: the loop owns it.

    Attributes:
        size: bytes of the current journal.
        sequence: number of the last record.
        acknowledged: highest acknowledged number.
        errors: writes or fsyncs that failed.
    """

    @classmethod
    def open(cls, directory: Path, limits: JournalLimits | None = None, system: System = os) -> Journal:
        """Open or make the state directory (mode 0700).

        Raises ConfigError if another agent has it, it cannot be written, it was written by a newer version, or it is
        damaged beyond what the previous generation restores.
        """
        return cls(Path(directory), limits or JournalLimits(), system)

    def __init__(self, directory: Path, limits: JournalLimits, system: System) -> None:
        self.directory = directory
        self.limits = limits
        self.size = self.sequence = self.acknowledged = self.errors = 0
        self._system = system
        self._generation = self._snapshot_bytes = 0
        self._fd = -1
        self._lock = locked(directory)
        self._dirty = False  # written since the last fsync
        self._torn = False  # a failed write may have left part of a record
        self._pending = False  # unacknowledged records of the last run are to be marked as discarded
        self._lost_pages = self._unsynced_directory = False
        self._turning: Turning | None = None
        self._synced: float | None = None
        try:
            self._restored = self._recover()
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot use the state directory {directory}: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    def restore(self) -> Restored:
        """Give what the last run left; as found when the journal was opened. Frees it: call once."""
        restored, self._restored = self._restored, Restored(None, [], [])
        return restored

    def append(self, payload: bytes) -> int:
        """Add a record and return its number; durable against SIGKILL then.

        Raises StreamError when the system refuses (ENOSPC, EIO): nothing was added and it can be tried again.
        """
        self._put(DATA, self.sequence + 1, payload)
        self.sequence += 1
        return self.sequence

    def note(self, payload: bytes) -> None:
        """Add a fact that is restored whether or not a later record is acknowledged. Raises as `append` does."""
        self._put(NOTE, self.sequence, payload)

    def acknowledge(self, sequence: int) -> None:
        """Say that the records up to this number were delivered; a lower number than before changes nothing.

        Raises StreamError as `append` does; the next acknowledgement makes up for it.
        """
        sequence = min(sequence, self.sequence)
        if sequence > self.acknowledged:
            self._put(ACK, sequence, b"")
            self.acknowledged = sequence

    def sync(self, now: float) -> None:
        """Do the fsync that is due at `now` (monotonic seconds). Raises StreamError if it fails."""
        if self._synced is None or now < self._synced:
            self._synced = now
        if now - self._synced < self.limits.fsync_s or not (self._dirty or self._unsynced_directory):
            return
        if self._turning is not None and not self._turning.ordered:
            return
        self._synced = now
        try:
            if self._unsynced_directory:
                sync_directory(self.directory, self._system)
                self._unsynced_directory = False
            self._system.fsync(self._fd)
        except OSError as error:
            self._lost_pages = True  # the kernel may have dropped them: only a new snapshot is sure
            self.errors += 1
            raise StreamError(f"cannot fsync the journal in {self.directory}: {error.strerror}") from error
        self._dirty = False

    @property
    def needs_compaction(self) -> bool:
        """Whether the journal has outgrown its snapshot, or a failed fsync made it unsure."""
        turning, limits = self.turning, self.limits
        grown = max(limits.compact_bytes_min, min(limits.compact_bytes_max, limits.ratio * self._snapshot_bytes))
        return not turning and (self.size > grown or self._lost_pages)

    def compact(self, snapshot: bytes) -> None:
        """Replace snapshot and journal by a snapshot of the state as of the last append; all must be acknowledged.

        Raises StreamError when the system refuses; the old generation stays whole and in use.
        """
        if self.acknowledged < self.sequence:
            raise AssertionError(f"compact() before record {self.sequence} was acknowledged")
        generation = self._generation + 1
        path = self._path(SNAPSHOT, generation)
        fd = -1
        try:
            fd = self._new_journal(generation)
            write_durably(path, (header(SNAPSHOT, Header(generation, self.sequence), snapshot), snapshot), self._system)
        except OSError as error:
            if fd < 0 or not path.exists():
                self._undo(fd, generation)
                raise StreamError(f"cannot compact the journal in {self.directory}: {error.strerror}") from error
            self._unsynced_directory = True  # the new snapshot is in place; `sync` tries the directory again
            self.errors += 1
        else:
            self._unsynced_directory = False
        with contextlib.suppress(OSError):
            self._system.close(self._fd)
        self._fd, self._generation, self._snapshot_bytes = fd, generation, len(snapshot)
        self.size = HEADER_BYTES
        self._dirty = self._torn = self._lost_pages = self._pending = False
        if not self._unsynced_directory:
            self._forget_before(generation - 1)

    def turn_over(self, payload: bytes) -> Turning:
        """Begin the next generation's journal with this record, acknowledged: all before it must be.

        Its snapshot, of the state before that record, is written by what this gives. No fsync; raises as `append` does.
        """
        if self.acknowledged < self.sequence or self.needs_compaction or self._turning is not None:
            raise AssertionError(f"turn_over() at record {self.sequence} before the state was settled")
        generation, number = self._generation + 1, self.sequence + 1
        head = Header(generation, self.sequence)
        first = header(JOURNAL, head) + record(DATA, number, payload) + record(ACK, number, b"")
        path, fd = str(self._path(JOURNAL, generation)), -1
        try:
            fd = self._system.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            write_all(fd, first, self._system)
        except OSError as error:
            self._undo(fd, generation)
            raise StreamError(f"cannot begin a journal in {self.directory}: {error.strerror}") from error
        self._turning = Turning(self._path(SNAPSHOT, generation), head, self._fd, self._system)
        self._fd, self._generation = fd, generation
        self.size, self.sequence, self.acknowledged = len(first), number, number
        self._torn = self._pending = False
        self._dirty = self._unsynced_directory = True
        return self._turning

    @property
    def turning(self) -> bool:
        """Whether the snapshot of a `turn_over` is not written yet."""
        if self._turning is not None and self._turning.size >= 0:
            self._snapshot_bytes = self._turning.size
            self._turning = None
            self._forget_before(self._generation - 1)
        return self._turning is not None

    def close(self) -> None:
        """Fsync what is not yet, and unlock the directory."""
        if self._turning is not None:
            self._turning.cancelled = True
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                self._system.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1
        os.close(self._lock)

    def _put(self, kind: int, sequence: int, payload: bytes) -> None:
        """Write one record with one call; on failure leave the journal as it was."""
        if len(payload) > self.limits.record_bytes_max:
            raise StreamError(f"a journal record of {len(payload)} bytes exceeds {self.limits.record_bytes_max}")
        data = record(kind, sequence, payload)
        if self._pending:
            data = record(DISCARD, self.acknowledged, b"") + data
        try:
            self._mend()
            self._torn = True
            write_all(self._fd, data, self._system)
            self._torn = False
        except OSError as error:
            self.errors += 1
            with contextlib.suppress(OSError):
                self._mend()
            raise StreamError(
                f"cannot write {len(data)} bytes to the journal in {self.directory}: {error.strerror}"
            ) from error
        self.size += len(data)
        self._dirty, self._pending = True, False

    def _mend(self) -> None:
        """Cut off what a failed write left."""
        if self._torn:
            self._system.ftruncate(self._fd, self.size)
            self._torn = False

    def _recover(self) -> Restored:
        """Read the newest generation, by way of the one before if its snapshot is damaged, and open its journal."""
        self._generation = self._newest()
        base, recovered = self._read_base()
        self._lost_pages = bool(recovered)  # a generation must not lean on one that leans on another
        path = self._path(JOURNAL, self._generation)
        if not path.exists():
            if self._generation:
                recovered = recovered or f"{path.name} is missing"
            return self._begun(base, 0, recovered)
        content = read_journal(path)
        if content.good == 0:  # not even a header
            path.unlink()
            return self._begun(base, content.cut, recovered or f"{path.name} has no header")
        self._fd = self._system.open(str(path), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        if content.cut:
            self._system.ftruncate(self._fd, content.good)
        self.size = content.good
        self.sequence = max(self.sequence, content.sequence)
        self._pending = bool(content.waiting)
        self.acknowledged = self.sequence  # nothing of the last run is waited for
        return Restored(
            base.snapshot,
            base.records + content.records,
            base.notes + content.notes,
            len(content.waiting),
            content.cut,
            recovered,
        )

    def _begun(self, base: _Base, cut_bytes: int, recovered: str) -> Restored:
        """Begin the journal of a generation that has none."""
        self._fd, self.size = self._new_journal(self._generation), HEADER_BYTES
        sync_directory(self.directory, self._system)
        return Restored(*base, cut_bytes=cut_bytes, recovered=recovered)

    def _newest(self) -> int:
        """Find the newest generation; remove the journal of one that did not come about."""
        newest = max(self._generations(SNAPSHOT), default=0)
        for generation in self._generations(JOURNAL):
            path = self._path(JOURNAL, generation)
            empty = path.stat().st_size <= HEADER_BYTES
            if generation > newest and (empty or not continues(path, self._path(JOURNAL, generation - 1))):
                self._system.unlink(str(path))
        return max([newest, *self._generations(JOURNAL)])

    def _read_base(self) -> tuple[_Base, str]:
        """Give the snapshot of the generation; if it is damaged, the one before and all records that led to it."""
        generation = self._generation
        if generation == 0:
            return _Base(None, [], []), ""
        path = self._path(SNAPSHOT, generation)
        try:
            head, snapshot = read_snapshot(path)
        except (OSError, ValueError) as damage:
            why = damage.strerror if isinstance(damage, OSError) else damage
            return self._read_older(generation - 1, f"{path.name}: {why}"), (
                f"{path.name} is damaged ({why}); restored from generation {generation - 1}"
            )
        self.sequence = head.sequence
        self._snapshot_bytes = len(snapshot)
        return _Base(snapshot, [], []), ""

    def _read_older(self, generation: int, damage: str) -> _Base:
        """Give an older snapshot and all records after it; those never acknowledged were discarded by its run."""
        older = None
        try:
            if generation:
                head, older = read_snapshot(self._path(SNAPSHOT, generation))
                self.sequence = head.sequence
            content = read_journal(self._path(JOURNAL, generation))
            if content.cut:
                raise ValueError(f"journal-{generation} is damaged too")  # noqa: TRY301 - one sentence for both
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the state in {self.directory} is damaged ({damage}; generation {generation}: {error}): "
                "restore the directory from a backup, or move it away to start anew"
            ) from error
        self.sequence = max(self.sequence, content.sequence)
        self._snapshot_bytes = len(older or b"")
        return _Base(older, content.records, content.notes)

    def _new_journal(self, generation: int) -> int:
        """Make an empty journal that outlasts a power failure, and give its descriptor."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = self._system.open(str(self._path(JOURNAL, generation)), flags, 0o600)
        try:
            write_all(fd, header(JOURNAL, Header(generation, self.sequence)), self._system)
            self._system.fsync(fd)
        except OSError:
            self._system.close(fd)
            raise
        return fd

    def _undo(self, fd: int, generation: int) -> None:
        self.errors += 1
        with contextlib.suppress(OSError):
            if fd >= 0:
                self._system.close(fd)
            self._system.unlink(str(self._path(JOURNAL, generation)))

    def _forget_before(self, generation: int) -> None:
        """Remove older generations; a failure only costs space until the next compaction."""
        for kind in (SNAPSHOT, JOURNAL):
            for number in self._generations(kind):
                if number < generation:
                    with contextlib.suppress(OSError):
                        self._system.unlink(str(self._path(kind, number)))

    def _generations(self, kind: str) -> list[int]:
        names = [path.name.partition("-")[2] for path in self.directory.glob(f"{kind}-*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, kind: str, generation: int) -> Path:
        return self.directory / f"{kind}-{generation}"
