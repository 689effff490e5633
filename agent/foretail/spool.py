"""Records on disk for a sink that is slow or dead: bounded, the oldest dropped with a count.

Segments `00000001.spool`... hold frames: length and CRC-32 of the payload, 4 bytes each, big-endian, then the payload:
records, each ended by a line feed. A torn last frame is cut off at opening. `cursor` says what was delivered; a power
failure may repeat what was delivered since it was written.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

from foretail.delivery import pieces
from foretail.errors import ConfigError, StreamError
from foretail.telemetry import log, metrics

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_FRAME = struct.Struct(">II")
_FRAME_BYTES_MAX = 1 << 20


class Position(NamedTuple):
    """Where the next frame starts."""

    segment: int
    offset: int


class Spool:
    """The folder of one sink; used by one thread. ConfigError at opening if the folder cannot be used.

    Attributes:
        lost: records dropped or damaged since opening.
    """

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._segment_bytes_max = max(bytes_max // 16, 4096)
        self._sizes: dict[int, int] = {}
        self._counts: dict[int, int] = {}  # records of each segment not yet taken
        self._position = Position(1, 0)
        self.lost = 0
        self._fd = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._restore()
        except OSError as error:
            raise ConfigError(f"spool folder {folder}: {error.strerror}; make it writable for this user.") from None

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self._sizes.values())

    def append(self, records: list[bytes]) -> None:
        """Write frames; what does not fit drops the oldest segments. StreamError = all is to come again."""
        bytes_max = min(_FRAME_BYTES_MAX, self._segment_bytes_max)
        frames = [(_frame(piece), len(piece)) for piece in pieces(records, bytes_max)]
        try:
            for frame, count in frames:
                self._make_room(len(frame))
                self._write(frame, count)
        except OSError as error:
            raise StreamError(f"cannot spool {len(records)} records to {self._folder}: {error.strerror}.") from None

    def sync(self) -> None:
        """What was appended survives a power failure when this returns; StreamError if that cannot be said."""
        try:
            if self._fd >= 0:
                os.fsync(self._fd)
        except OSError as error:
            raise StreamError(f"cannot sync spool {self._folder}: {error.strerror}.") from None

    def take(self) -> tuple[Position, list[bytes]] | None:
        """The next frame's records and where the frame after it starts; None = nothing waits."""
        while self._position < (self._last, self._sizes[self._last]):
            number, offset = self._position
            if offset >= self._sizes.get(number, 0):
                self._position = Position(min(each for each in self._sizes if each > number), 0)
                continue
            payload = self._read(number, offset)
            if payload is None:
                self._skip(number, offset)
                continue
            self._position = Position(number, offset + _FRAME.size + len(payload))
            records = payload.split(b"\n")[:-1]
            self._counts[number] -= len(records)
            return self._position, records
        return None

    def trim(self, position: Position) -> None:
        """Forget all before `position`: it was delivered."""
        for number in [each for each in self._sizes if each < position.segment]:
            self._forget(number)
        with contextlib.suppress(OSError):
            (self._folder / "cursor").write_text(f"{position.segment} {position.offset}\n")

    def close(self) -> None:
        """Sync and give up the handle."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    @property
    def _last(self) -> int:
        return max(self._sizes)

    def _restore(self) -> None:
        start = self._cursor()
        for path in sorted(self._folder.glob("*.spool")):
            if not path.stem.isdigit():
                continue
            number = int(path.stem)
            if number < start.segment:
                path.unlink()
                continue
            self._sizes[number], self._counts[number] = _whole(path, start.offset if number == start.segment else 0)
        first = min(self._sizes, default=start.segment)
        self._position = start if start.segment == first else Position(first, 0)
        self._open(max(self._sizes, default=start.segment - 1) + 1)  # a torn frame stays behind in its segment

    def _cursor(self) -> Position:
        try:
            segment, offset = (self._folder / "cursor").read_text().split()
            return Position(int(segment), int(offset))
        except (OSError, ValueError):
            return Position(1, 0)

    def _open(self, number: int) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._fd = os.open(self._path(number), flags, 0o640)
        self._sizes[number], self._counts[number] = 0, 0
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.spool"

    def _write(self, frame: bytes, count: int) -> None:
        size = self._sizes[self._last]
        if size and size + len(frame) > self._segment_bytes_max:
            self._open(self._last + 1)
            size = 0
        try:
            written = 0
            while written < len(frame):
                written += os.write(self._fd, memoryview(frame)[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            raise
        self._sizes[self._last] = size + len(frame)
        self._counts[self._last] += count

    def _make_room(self, size: int) -> None:
        while self.size + size > self._bytes_max and self.size:
            oldest = min(number for number, size in self._sizes.items() if size)
            if oldest == self._last:
                self._open(self._last + 1)
            self._lose(self._counts[oldest], "spool_full")
            self._forget(oldest)

    def _forget(self, number: int) -> None:
        if number == self._last:
            return
        self._path(number).unlink(missing_ok=True)
        del self._sizes[number], self._counts[number]

    def _read(self, number: int, offset: int) -> bytes | None:
        try:
            with self._path(number).open("rb") as file:
                file.seek(offset)
                return _payload(file.read(_FRAME.size), file.read)
        except OSError:
            return None

    def _skip(self, number: int, offset: int) -> None:
        """Give up the rest of a damaged segment."""
        log.error("spool.damaged", path=str(self._path(number)), offset=offset, bytes=self._sizes[number] - offset)
        self._lose(max(self._counts[number], 1), "spool_damaged")
        self._counts[number] = 0
        self._position = Position(number, self._sizes[number])

    def _lose(self, records: int, cause: str) -> None:
        if records:
            self.lost += records
            metrics.add("losses_total", records, cause=cause, unit="records", sink=self._folder.name)
            log.error("spool.dropped", sink=self._folder.name, records=records, cause=cause, bytes_max=self._bytes_max)


def _frame(records: list[bytes]) -> bytes:
    payload = b"\n".join([*records, b""])
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _payload(head: bytes, read: Callable[[int], bytes]) -> bytes | None:
    """The payload after a frame's head; None if it is cut or damaged."""
    if len(head) < _FRAME.size:
        return None
    size, crc = _FRAME.unpack(head)
    payload = read(size)
    return payload if len(payload) == size and zlib.crc32(payload) == crc else None


def _whole(path: Path, offset: int) -> tuple[int, int]:
    """How far a segment is whole, and the records from `offset` to there; what is torn was never acknowledged."""
    records = 0
    end = offset
    with path.open("rb") as file:
        file.seek(offset)
        while (payload := _payload(file.read(_FRAME.size), file.read)) is not None:
            end += _FRAME.size + len(payload)
            records += payload.count(b"\n")
    if (torn := path.stat().st_size - end) > 0:
        log.warning("spool.torn", path=str(path), offset=end, bytes=torn)
    return end, records
