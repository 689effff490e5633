"""Bytes in, whole lines out: pure, so that a replay of the same bytes gives the same lines at the same offsets."""

from __future__ import annotations

from itertools import accumulate, count
from operator import add
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from foretail.identity import Cursor

Encoding = Literal["bytes", "utf-16-le", "utf-16-be"]
"""How lines lie in the file: `bytes` is UTF-8 and everything else in which byte 10 ends a line."""

_BOM_UTF8 = b"\xef\xbb\xbf"
_BOMS: dict[bytes, Encoding] = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class Source(msgspec.Struct, frozen=True):
    """Where lines come from.

    Attributes:
        id: 24 hex digits (96 random bits), given when the file is first seen, inherited across renames.
        path: where the file is now; for people.
        whole: it is read from byte 0, so nothing before its first line is missing.
        after: id of the source whose place it took in a rotation, if that is known: it continues that log.
    """

    id: str
    path: str
    whole: bool
    after: str = ""


class Batch(msgspec.Struct, frozen=True):
    """The lines of one read, as columns.

    Attributes:
        stream: name of the stream.
        source: of all these lines.
        lines: without their line ends; may be empty when the read only moved over bytes that are no lines.
        offsets: of each line's first byte in the file, in bytes; as many as lines.
        end: where the next read starts: the first byte that is in no line of this or an earlier batch.
        arrived: when it was read, epoch seconds.
        cursor: of the source after this batch, for the journal; None if the source is no file.
    """

    stream: str
    source: Source
    lines: list[bytes]
    offsets: list[int]
    end: int
    arrived: float
    cursor: Cursor | None = None


class LineLimits(msgspec.Struct, frozen=True):
    """What a line may be.

    Attributes:
        line_bytes_max: a longer line is cut to this length or skipped; the file is read on.
        overlong: which of both.
    """

    line_bytes_max: int = 256 * 1024
    overlong: Literal["cut", "skip"] = "cut"


class LineCounts(msgspec.Struct):
    """What was left out of the lines on purpose; the bytes are those of the file."""

    cut_lines: int = 0
    cut_bytes: int = 0
    skipped_lines: int = 0
    skipped_bytes: int = 0
    hole_bytes: int = 0

    def add(self, other: LineCounts) -> None:
        """Add the counts of another splitter."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Lines(NamedTuple):
    """Whole lines and the offset of each one's first byte."""

    lines: list[bytes]
    offsets: list[int]


def encoding_of(head: bytes) -> Encoding:
    """Tell the encoding by the byte order mark at the head of a file."""
    return _BOMS.get(head[:2], "bytes")


class Splitter:
    r"""Cuts the bytes of one file into whole lines; the result does not depend on how the bytes were fed.

    A line ends with LF or CRLF; its end is stripped. NULs before a line's first other byte are the hole that a stale
    writer leaves after a truncation: skipped and counted, the line's offset is that of its first other byte. Other
    NULs and invalid UTF-8 stay. UTF-16 with a byte order mark becomes UTF-8 with replacement; offsets and limits stay
    those of the file's bytes. A UTF-8 byte order mark is stripped.

    Args:
        limits: of a line.
        offset: of the first byte that will be fed; the start of a line.
        encoding: of the file; found by itself when offset is 0.

    Attributes:
        start: offset of the first byte that is in no line given out: where a reader that starts anew must start.
        position: offset of the next byte to feed.
        counts: what was left out.
    """

    def __init__(self, limits: LineLimits, *, offset: int = 0, encoding: Encoding = "bytes") -> None:
        self.limits = limits
        self.start = offset
        self.position = offset
        self.counts = LineCounts()
        self._head = b"" if offset == 0 else None  # first bytes, held while they could be a byte order mark
        self._part = bytearray()  # the unfinished line: never more than the limit and a line end
        self._over = 0  # bytes of the unfinished line that were not kept in _part
        self._last = b""  # the last bytes of the unfinished line, when _over > 0
        self._odd = b""  # half a UTF-16 unit
        self._encode_as(encoding)

    def _encode_as(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._width = 1 if encoding == "bytes" else 2
        self._cr = "\r".encode("ascii" if encoding == "bytes" else encoding)

    @property
    def partial(self) -> bool:
        """Whether bytes of an unfinished line are held."""
        return self.start < self.position

    def feed(self, data: bytes) -> Lines:
        """Take the next bytes of the file and give the lines that they complete."""
        self.position += len(data)
        if self._head is not None:
            data = self._after_mark(self._head + data)
        if self._width == 2:
            data, self._odd = _even(self._odd + data)
        base = self.position - len(self._odd) - len(data) - len(self._part) - self._over
        pieces = data.split(b"\n") if self._width == 1 else _split_wide(data, self._encoding)
        rest = pieces.pop()
        lines = Lines([], [])
        if pieces:
            lines = self._cut(data, pieces, base)
            self.start = self.position - len(self._odd) - len(rest)
        self._keep(rest)
        return lines

    def flush(self) -> Lines:
        """Give the unfinished line as if the file ended with a line end: when nothing more can come."""
        if not self.partial:
            return Lines([], [])
        last = (self._head or b"") + self._odd  # what was held because it could have become something else
        self._head, self._odd = None, b""
        lines = Lines([], [])
        if last or self._part or self._over:  # else only a hole or a byte order mark
            lines = self._exact([last], self.position - len(last) - len(self._part) - self._over)
        self.start = self.position
        return lines

    def _after_mark(self, head: bytes) -> bytes:
        """Strip the byte order mark, or hold the bytes while they may be the beginning of one."""
        self._head = head
        if len(head) < len(_BOM_UTF8) and any(mark.startswith(head) and mark != head for mark in (_BOM_UTF8, *_BOMS)):
            return b""
        self._head = None
        self._encode_as(encoding_of(head))
        return head[2:] if self._width == 2 else head.removeprefix(_BOM_UTF8)

    def _cut(self, data: bytes, pieces: list[bytes], base: int) -> Lines:
        """Make lines of pieces, of which the first continues the unfinished line; all in C when nothing is odd."""
        if self._width == 2 or self._over or b"\0" in data:
            return self._exact(pieces, base)
        returns = b"\r" in data or self._part[-1:] == b"\r"
        if self._part:
            pieces[0] = bytes(self._part) + pieces[0]
        sizes = list(map(len, pieces))
        if max(sizes) > self.limits.line_bytes_max:
            pieces[0] = pieces[0][len(self._part) :]
            return self._exact(pieces, base)
        self._part.clear()
        offsets = list(map(add, accumulate(sizes[:-1], initial=base), count()))
        if returns:
            pieces = [piece[:-1] if piece[-1:] == b"\r" else piece for piece in pieces]
        return Lines(pieces, offsets)

    def _exact(self, pieces: list[bytes], base: int) -> Lines:
        """Do the same line by line, with holes, limits and UTF-16."""
        lines: list[bytes] = []
        offsets: list[int] = []
        for piece in pieces:
            raw = bytes(self._part) if self._over else bytes(self._part) + piece
            over = self._over + len(piece) if self._over else 0
            last = self._last + piece if over else raw
            self._part.clear()
            self._over = 0
            hole = self._hole(raw)
            end = base + len(raw) + over + self._width
            returns = len(self._cr) if last.endswith(self._cr) else 0
            size = len(raw) - hole + over - returns
            line = self._limited(raw[hole:], size)
            if line is not None:
                lines.append(line)
                offsets.append(base + hole)
            base = end
        return Lines(lines, offsets)

    def _limited(self, raw: bytes, size: int) -> bytes | None:
        """Give the first `size` bytes of raw as a line within the limit, or None if it is skipped."""
        limit = self.limits.line_bytes_max
        if size > limit and self.limits.overlong == "skip":
            self.counts.skipped_lines += 1
            self.counts.skipped_bytes += size
            return None
        if size > limit:
            kept = limit & -self._width
            self.counts.cut_lines += 1
            self.counts.cut_bytes += size - kept
            size = kept
        raw = raw[:size]
        return raw if self._width == 1 else raw.decode(self._encoding, "replace").encode()

    def _hole(self, raw: bytes) -> int:
        """Count the NULs before a line's first other byte."""
        hole = (len(raw) - len(raw.lstrip(b"\0"))) & -self._width
        self.counts.hole_bytes += hole
        return hole

    def _keep(self, rest: bytes) -> None:
        """Hold the unfinished line, up to the limit and a line end."""
        if not self._part and not self._over:
            rest = rest[self._hole(rest) :] if rest[:1] == b"\0" else rest
        room = self.limits.line_bytes_max + self._width - len(self._part)
        self._part += rest[:room]
        if len(rest) > room:
            self._over += len(rest) - room
            self._last = (self._last + rest)[-self._width :]


def _even(data: bytes) -> tuple[bytes, bytes]:
    """Split off the last byte if it is half a unit."""
    whole = len(data) & -2
    return data[:whole], data[whole:]


def _split_wide(data: bytes, encoding: Encoding) -> list[bytes]:
    """Do what `data.split(LF)` does, on UTF-16 units."""
    units = np.frombuffer(data, "<u2" if encoding == "utf-16-le" else ">u2")
    ends = (np.flatnonzero(units == 10) * 2).tolist()
    starts = [0, *(end + 2 for end in ends)]
    return [data[start:end] for start, end in zip(starts, [*ends, len(data)], strict=True)]
