"""The files of a journal as bytes: a header with checksums, then a snapshot or records; pure but for reading files."""

from __future__ import annotations

import struct
import zlib
from collections import deque
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from foretail.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = 1
SNAPSHOT, JOURNAL = "snapshot", "journal"
DATA, NOTE, ACK, DISCARD = 1, 2, 3, 4
"""Kinds of records: a batch, a fact, what is acknowledged up to its number, and that all before is not waited for."""

_HEADER = struct.Struct("<8sIQQQII")  # magic, schema, generation, sequence, payload bytes and crc, crc of all before
_RECORD = struct.Struct("<II")  # payload bytes, crc of all that follows
_CHECKED = struct.Struct("<BQ")  # kind, sequence; then the payload
_MAGIC = {SNAPSHOT: b"ftsnap\r\n", JOURNAL: b"ftjrnl\r\n"}
HEADER_BYTES = _HEADER.size


class Header(NamedTuple):
    """Which generation a file begins, and the number of the last record before it."""

    generation: int
    sequence: int


class Content(NamedTuple):
    """What a journal file holds: `good` whole bytes, `cut` bytes after them; `waiting`: never acknowledged records."""

    records: list[bytes]
    notes: list[bytes]
    waiting: list[bytes]
    sequence: int
    acknowledged: int
    good: int
    cut: int


def header(kind: str, head: Header, payload: bytes = b"") -> bytes:
    """Give the bytes before the payload of a snapshot, or before the records of a journal."""
    packed = _HEADER.pack(_MAGIC[kind], SCHEMA, *head, len(payload), zlib.crc32(payload), 0)[:-4]
    return packed + zlib.crc32(packed).to_bytes(4, "little")


def record(kind: int, sequence: int, payload: bytes) -> bytes:
    """Give the bytes of one record."""
    checked = _CHECKED.pack(kind, sequence) + payload
    return _RECORD.pack(len(payload), zlib.crc32(checked)) + checked


def read_snapshot(path: Path) -> tuple[Header, bytes]:
    """Read and check a snapshot; ValueError says how it is damaged, ConfigError that a newer version wrote it."""
    with path.open("rb") as file:
        head, size, checksum = _read_header(file, path, SNAPSHOT)
        payload = file.read()
    if len(payload) != size or zlib.crc32(payload) != checksum:
        raise ValueError(f"it holds {len(payload)} of {size} bytes, or their checksum differs")
    return head, payload


def read_journal(path: Path) -> Content:
    """Read the records up to the first one that is torn or damaged; none if even the header is."""
    total = path.stat().st_size
    with path.open("rb") as file:
        try:
            head, _, _ = _read_header(file, path, JOURNAL)
        except ValueError:
            return Content([], [], [], 0, 0, 0, total)
        return _read_records(file, head, total)


def continues(path: Path, before: Path) -> bool:
    """Whether a journal begins where the one before it ends: after a power failure its beginning can outlast their end.

    True also where there is none before, or nothing can be read: that is damage of another kind.
    """
    try:
        with path.open("rb") as file:
            head, _, _ = _read_header(file, path, JOURNAL)
        content = read_journal(before)
    except (OSError, ValueError):
        return True
    return content.cut == 0 and content.sequence >= head.sequence


def _read_records(file: BinaryIO, head: Header, total: int) -> Content:
    sequence = acknowledged = head.sequence
    records: list[bytes] = []
    notes: list[bytes] = []
    waiting: deque[tuple[int, bytes]] = deque()
    good = HEADER_BYTES
    while (read := _read_one(file, total - good)) is not None:
        kind, number, payload = read
        good += _RECORD.size + _CHECKED.size + len(payload)
        sequence = max(sequence, number)
        if kind == DATA:
            waiting.append((number, payload))
        elif kind == NOTE:
            notes.append(payload)
        elif kind == DISCARD:
            waiting.clear()
        elif kind == ACK:
            acknowledged = number
            while waiting and waiting[0][0] <= number:
                records.append(waiting.popleft()[1])
    return Content(records, notes, [payload for _, payload in waiting], sequence, acknowledged, good, total - good)


def _read_one(file: BinaryIO, left: int) -> tuple[int, int, bytes] | None:
    """Give kind, number and payload of the next record, or None if there is no whole one."""
    packed = file.read(_RECORD.size)
    if len(packed) < _RECORD.size:
        return None
    size, checksum = _RECORD.unpack(packed)
    if size + _RECORD.size + _CHECKED.size > left:
        return None
    checked = file.read(_CHECKED.size + size)
    if zlib.crc32(checked) != checksum:
        return None
    kind, number = _CHECKED.unpack_from(checked)
    return kind, number, checked[_CHECKED.size :]


def _read_header(file: BinaryIO, path: Path, kind: str) -> tuple[Header, int, int]:
    packed = file.read(HEADER_BYTES)
    if len(packed) < HEADER_BYTES or not packed.startswith(_MAGIC[kind]):
        raise ValueError("it has no header")
    _, schema, generation, sequence, size, checksum, header_checksum = _HEADER.unpack(packed)
    if zlib.crc32(packed[:-4]) != header_checksum:
        raise ValueError("the checksum of its header differs")
    if schema > SCHEMA:
        raise ConfigError(
            f"{path} was written by a newer foretail (state schema {schema}, this one reads up to {SCHEMA}): "
            "upgrade, or move the state directory away to start anew"
        )
    return Header(generation, sequence), size, checksum
