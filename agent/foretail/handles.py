"""Files as the tailer sees them: told apart by device and inode, opened without waiting, read at an offset."""

from __future__ import annotations

import gzip
import os
import stat
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO or terminal must not hold the loop
_GZIP = b"\x1f\x8b\x08"
_MAGICS = (_GZIP, b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"BZh", b"\x04\x22\x4d\x18")


class Place(NamedTuple):
    """Which file: unique while it is open or linked."""

    device: int
    inode: int


class Look(NamedTuple):
    """What stat told about a file; changed_ns is its time of modification."""

    place: Place
    size: int
    changed_ns: int
    regular: bool

    @classmethod
    def of(cls, status: os.stat_result) -> Look:
        """Pick what matters."""
        place = Place(status.st_dev, status.st_ino)
        return cls(place, status.st_size, status.st_mtime_ns, stat.S_ISREG(status.st_mode))


def look(path: str) -> Look | None:
    """Stat the file a path leads to; None if there is none or it cannot be reached."""
    try:
        return Look.of(os.stat(path))  # noqa: PTH116 - a string, for every file at every look
    except OSError:
        return None


class Plain:
    """A regular file, open for reading; OSError if it cannot be opened."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, _FLAGS)
        status = os.fstat(self._fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(self._fd)
            raise OSError(0, f"{path} is not a regular file")
        self.place = Place(status.st_dev, status.st_ino)

    def read_at(self, offset: int, size: int) -> bytes:
        """Give up to `size` bytes from `offset`; fewer only at the end."""
        return os.pread(self._fd, size, offset)

    def look(self) -> Look:
        """Stat the open file, wherever its name went."""
        return Look.of(os.fstat(self._fd))

    def close(self) -> None:
        """Close it, if it is not."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Gzip:
    """The content of a .gz file, read forward; going back starts anew.

    OSError if it cannot be opened or is not whole yet, as when the compressor is still writing it.
    """

    def __init__(self, path: str) -> None:
        plain = Plain(path)
        self.place = plain.place
        plain.close()
        self._stream = gzip.open(path, "rb")  # noqa: SIM115 - open as long as this object
        self._look: Look | None = None

    def read_at(self, offset: int, size: int) -> bytes:
        """Give up to `size` bytes from `offset` of the content; fewer only at the end."""
        try:
            self._stream.seek(offset)
            return self._stream.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise OSError(0, f"not a whole gzip file: {error}") from error

    def look(self) -> Look:
        """Give what stat tells, with the size of the content, for which all of it is read once."""
        if self._look is None:
            size = 0
            while part := self.read_at(size, 1 << 20):
                size += len(part)
            self._look = Look.of(os.fstat(self._stream.fileno()))._replace(size=size)
        return self._look

    def close(self) -> None:
        """Close it."""
        self._stream.close()


File = Plain | Gzip


def open_file(path: str) -> File:
    """Open a file, decompressing if it is a .gz; OSError if that cannot be done now."""
    plain = Plain(path)
    if plain.read_at(0, len(_GZIP)) != _GZIP:
        return plain
    plain.close()
    return Gzip(path)


def compressed(head: bytes) -> bool:
    """Whether a file with this head is compressed: not a log to tail."""
    return head.startswith(_MAGICS)


def names(folder: str) -> Iterator[tuple[str, int]]:
    """Give name and inode of each entry of a folder; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            yield from [(entry.name, entry.inode()) for entry in entries]
    except OSError:
        return
