"""Durable state: an append-only journal of opaque records and a compacted snapshot.

A directory holds `lock`, `snapshot-N` and `journal-N`. Generation N is the snapshot plus the records of its journal
(generation 0 has no snapshot). Compaction makes generation N + 1 and keeps N, so that a damaged snapshot costs nothing.
A record is durable against SIGKILL when `append` returns (one `write()`); `fsync` every `fsync_s` and at compaction
bounds what a power failure repeats.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import msgspec

from foretail.durable import System, sync_directory, write_all, write_durably
from foretail.errors import ConfigError, StreamError

SCHEMA = 1
_HEADER = struct.Struct("<8sIQQQII")  # magic, schema, generation, sequence, payload bytes and crc, crc of all before
_RECORD = struct.Struct("<IIBQ")  # payload bytes, crc of the rest, kind, sequence
_SNAPSHOT, _JOURNAL = "snapshot", "journal"
_MAGIC = {_SNAPSHOT: b"ftsnap\r\n", _JOURNAL: b"ftjrnl\r\n"}
_DATA, _NOTE, _ACK, _DISCARD = 1, 2, 3, 4


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
        self._lock = _locked(directory)
        self._dirty = False  # written since the last fsync
        self._torn = False  # a failed write may have left part of a record
        self._pending = False  # unacknowledged records of the last run are to be marked as discarded
        self._lost_pages = self._unsynced_directory = False
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
        self._put(_DATA, self.sequence + 1, payload)
        self.sequence += 1
        return self.sequence

    def note(self, payload: bytes) -> None:
        """Add a fact that is restored whether or not a later record is acknowledged. Raises as `append` does."""
        self._put(_NOTE, self.sequence, payload)

    def acknowledge(self, sequence: int) -> None:
        """Say that the records up to this number were delivered; a lower number than before changes nothing.

        Raises StreamError as `append` does; the next acknowledgement makes up for it.
        """
        sequence = min(sequence, self.sequence)
        if sequence > self.acknowledged:
            self._put(_ACK, sequence, b"")
            self.acknowledged = sequence

    def sync(self, now: float) -> None:
        """Do the fsync that is due at `now` (monotonic seconds). Raises StreamError if it fails."""
        if self._synced is None or now < self._synced:
            self._synced = now
        if now - self._synced < self.limits.fsync_s or not (self._dirty or self._unsynced_directory):
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
        limits = self.limits
        grown = max(limits.compact_bytes_min, min(limits.compact_bytes_max, limits.ratio * self._snapshot_bytes))
        return self.size > grown or self._lost_pages

    def compact(self, snapshot: bytes) -> None:
        """Replace snapshot and journal by a snapshot of the state as of the last append; all must be acknowledged.

        Raises StreamError when the system refuses; the old generation stays whole and in use.
        """
        if self.acknowledged < self.sequence:
            raise AssertionError(f"compact() before record {self.sequence} was acknowledged")
        generation = self._generation + 1
        path = self._path(_SNAPSHOT, generation)
        fd = -1
        try:
            fd = self._new_journal(generation)
            write_durably(path, (_header(_SNAPSHOT, generation, self.sequence, snapshot), snapshot), self._system)
        except OSError as error:
            if fd < 0 or not path.exists():
                self._undo(fd, generation)
                raise StreamError(f"cannot compact the journal in {self.directory}: {error.strerror}") from error
            self._unsynced_directory = True  # the new snapshot is in place; `sync` tries the directory again
            self.errors += 1
        with contextlib.suppress(OSError):
            self._system.close(self._fd)
        self._fd, self._generation, self._snapshot_bytes = fd, generation, len(snapshot)
        self.size = _HEADER.size
        self._dirty = self._torn = self._lost_pages = self._pending = False
        if not self._unsynced_directory:
            self._forget_before(generation - 1)

    def close(self) -> None:
        """Fsync what is not yet, and unlock the directory."""
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
        data = _record(kind, sequence, payload)
        if self._pending:
            data = _record(_DISCARD, self.acknowledged, b"") + data
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
        """Read the newest generation that is whole, and open its journal for appending."""
        found = {kind: self._generations(kind) for kind in (_SNAPSHOT, _JOURNAL)}
        newest = found[_SNAPSHOT][-1] if found[_SNAPSHOT] else 0
        self._refuse_orphans(found[_JOURNAL], newest)
        snapshot, records, recovered = self._read_snapshot(newest)
        self._generation = newest
        if newest not in found[_JOURNAL]:
            recovered = recovered or (f"journal-{newest} is missing" if newest else "")
            self._fd = self._new_journal(newest)
            sync_directory(self.directory, self._system)
            return Restored(snapshot, records, [], recovered=recovered)
        return self._reopen(snapshot, records, recovered)

    def _reopen(self, snapshot: bytes | None, records: list[bytes], recovered: str) -> Restored:
        path = self._path(_JOURNAL, self._generation)
        content = _read_journal(path)
        if content.good == 0:  # not even a header
            path.unlink()
            self._fd = self._new_journal(self._generation)
        else:
            self._fd = self._system.open(str(path), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            if content.cut:
                self._system.ftruncate(self._fd, content.good)
            self.size = content.good
        self.sequence = max(self.sequence, content.sequence)
        self.acknowledged = max(self.acknowledged, content.acknowledged)
        self._pending = content.unacknowledged > 0
        if self._pending:
            self.acknowledged = self.sequence  # nothing of the last run is waited for
        kept = [*records, *content.records]
        return Restored(snapshot, kept, content.notes, content.unacknowledged, content.cut, recovered)

    def _read_snapshot(self, generation: int) -> tuple[bytes | None, list[bytes], str]:
        """Give snapshot, records since it that the newest one held, and why not the newest one."""
        if generation == 0:
            return None, [], ""
        path = self._path(_SNAPSHOT, generation)
        try:
            header, snapshot = _read_headed(path, _SNAPSHOT)
        except ValueError as damage:
            older, records = self._read_older(generation - 1, path, damage)
            return older, records, f"{path.name} is damaged ({damage}); restored from generation {generation - 1}"
        self.sequence = self.acknowledged = header.sequence
        self._snapshot_bytes = len(snapshot)
        return snapshot, [], ""

    def _read_older(self, generation: int, path: Path, damage: ValueError) -> tuple[bytes | None, list[bytes]]:
        """Give the snapshot before the damaged one and all its records: together they are the damaged one's state."""
        older = None
        try:
            if generation:
                header, older = _read_headed(self._path(_SNAPSHOT, generation), _SNAPSHOT)
                self.sequence = header.sequence
            content = _read_journal(self._path(_JOURNAL, generation))
            if content.cut or content.unacknowledged:
                raise ValueError(f"journal-{generation} is damaged too")  # noqa: TRY301 - one sentence for both
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the state in {self.directory} is damaged ({path.name}: {damage}; generation {generation}: {error}): "
                "restore the directory from a backup, or move it away to start anew"
            ) from error
        self.sequence = self.acknowledged = max(self.sequence, content.sequence)
        self._snapshot_bytes = len(older or b"")
        return older, content.records

    def _refuse_orphans(self, journals: list[int], newest: int) -> None:
        """Remove the empty journal of a compaction that did not end; refuse one that holds records."""
        for generation in [number for number in journals if number > newest]:
            path = self._path(_JOURNAL, generation)
            if path.stat().st_size > _HEADER.size:
                raise ConfigError(
                    f"{path} has no snapshot-{generation}: restore the directory from a backup, or move it away "
                    "to start anew"
                )
            self._system.unlink(str(path))

    def _new_journal(self, generation: int) -> int:
        """Make an empty journal that outlasts a power failure, and give its descriptor."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = self._system.open(str(self._path(_JOURNAL, generation)), flags, 0o600)
        try:
            write_all(fd, _header(_JOURNAL, generation, self.sequence, b""), self._system)
            self._system.fsync(fd)
        except OSError:
            self._system.close(fd)
            raise
        self.size = self.size or _HEADER.size
        return fd

    def _undo(self, fd: int, generation: int) -> None:
        self.errors += 1
        with contextlib.suppress(OSError):
            if fd >= 0:
                self._system.close(fd)
            self._system.unlink(str(self._path(_JOURNAL, generation)))

    def _forget_before(self, generation: int) -> None:
        """Remove older generations; a failure only costs space until the next compaction."""
        for kind in (_SNAPSHOT, _JOURNAL):
            for number in self._generations(kind):
                if number < generation:
                    with contextlib.suppress(OSError):
                        self._system.unlink(str(self._path(kind, number)))

    def _generations(self, kind: str) -> list[int]:
        names = [path.name.partition("-")[2] for path in self.directory.glob(f"{kind}-*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _path(self, kind: str, generation: int) -> Path:
        return self.directory / f"{kind}-{generation}"


class _Header(NamedTuple):
    generation: int
    sequence: int


class _Content(NamedTuple):
    """What a journal file holds: `good` whole bytes, `cut` bytes after them."""

    records: list[bytes]
    notes: list[bytes]
    unacknowledged: int
    sequence: int
    acknowledged: int
    good: int
    cut: int


def _locked(directory: Path) -> int:
    """Lock the directory for this process; the lock goes with the descriptor, so a killed agent leaves none."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot use the state directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise ConfigError(
            f"another agent uses the state directory {directory}: stop it or give this one another `state`"
        ) from error
    return fd


def _header(kind: str, generation: int, sequence: int, payload: bytes) -> bytes:
    head = _HEADER.pack(_MAGIC[kind], SCHEMA, generation, sequence, len(payload), zlib.crc32(payload), 0)[:-4]
    return head + zlib.crc32(head).to_bytes(4, "little")


def _record(kind: int, sequence: int, payload: bytes) -> bytes:
    tail = struct.pack("<BQ", kind, sequence) + payload
    return struct.pack("<II", len(payload), zlib.crc32(tail)) + tail


def _read_headed(path: Path, kind: str) -> tuple[_Header, bytes]:
    """Read and check a file; ValueError says how it is damaged, ConfigError that a newer version wrote it."""
    data = path.read_bytes()
    if len(data) < _HEADER.size or not data.startswith(_MAGIC[kind]):
        raise ValueError("no header")
    _, schema, generation, sequence, size, checksum, head_checksum = _HEADER.unpack_from(data)
    if zlib.crc32(data[: _HEADER.size - 4]) != head_checksum:
        raise ValueError("header checksum differs")
    if schema > SCHEMA:
        raise ConfigError(
            f"{path} was written by a newer foretail (state schema {schema}, this one reads up to {SCHEMA}): "
            "upgrade, or move the state directory away to start anew"
        )
    payload = data[_HEADER.size :]
    if kind == _SNAPSHOT and (len(payload) != size or zlib.crc32(payload) != checksum):
        raise ValueError(f"{len(payload)} of {size} bytes, or their checksum differs")
    return _Header(generation, sequence), payload


def _read_journal(path: Path) -> _Content:
    """Read the records up to the first one that is torn or damaged."""
    total = path.stat().st_size
    try:
        header, data = _read_headed(path, _JOURNAL)
    except ValueError:
        return _Content([], [], 0, 0, 0, 0, total)
    sequence = acknowledged = header.sequence
    records: list[bytes] = []
    waiting: list[tuple[int, bytes]] = []
    notes: list[bytes] = []
    place = 0
    while (read := _read_record(data, place)) is not None:
        kind, number, payload, place = read
        sequence = max(sequence, number)
        if kind == _DATA:
            waiting.append((number, payload))
        elif kind == _NOTE:
            notes.append(payload)
        elif kind == _DISCARD:
            waiting.clear()
        elif kind == _ACK:
            acknowledged = number
            records += [payload for other, payload in waiting if other <= number]
            waiting = [one for one in waiting if one[0] > number]
    good = _HEADER.size + place
    return _Content(records, notes, len(waiting), sequence, acknowledged, good, total - good)


def _read_record(data: bytes, place: int) -> tuple[int, int, bytes, int] | None:
    """Give kind, number, payload and the place after the record, or None if there is no whole one."""
    start = place + _RECORD.size
    if start > len(data):
        return None
    size, checksum, kind, number = _RECORD.unpack_from(data, place)
    end = start + size
    if end > len(data) or zlib.crc32(data[place + 8 : end]) != checksum:
        return None
    return kind, number, data[start:end], end
