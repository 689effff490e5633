"""A new bundle beside the one in use, on the last real lines: one that does worse is refused (DESIGN §7)."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from foretail.errors import ConfigError
from foretail.lines import Batch, Source
from foretail.stream import Stream
from foretail.telling import Options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from foretail.bundle import Bundle
    from foretail.globs import Globs

SAMPLE_BYTES = 1 << 20
"""Real lines are taken from the ends of the newest files, so many bytes at most."""
LINE_BYTES_MAX = 64 << 10
BATCH_LINES = 1000
UNTYPED_RISE = 0.01
"""The share of lines without a type may rise by this."""
FLAGGED_RATIO, FLAGGED_MIN = 5, 10
"""Lines over the threshold: more than five times as many, and at least ten, are too many."""


class Count(NamedTuple):
    """What a bundle says of the sample."""

    lines: int
    untyped: int
    flagged: int
    cut: int = 0


class Recent:
    """The last lines of streams that have no files to read them from again; one thread keeps, any other asks."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[Sequence[bytes]]] = {}
        self._bytes: dict[str, int] = {}

    def keep(self, stream: str, lines: Sequence[bytes]) -> None:
        """Lines of a batch."""
        kept = self._kept.setdefault(stream, deque())
        kept.append(lines)
        size = self._bytes.get(stream, 0) + sum(map(len, lines))
        while size > SAMPLE_BYTES and len(kept) > 1:
            size -= sum(map(len, kept.popleft()))
        self._bytes[stream] = size

    def told(self) -> dict[str, bytes]:
        """At most `SAMPLE_BYTES` of each stream, whole lines, oldest first."""
        found = {}
        for stream, kept in list(self._kept.items()):
            data = b"".join(line + b"\n" for lines in list(kept) for line in lines)
            found[stream] = data if len(data) <= SAMPLE_BYTES else data[-SAMPLE_BYTES:].partition(b"\n")[2]
        return found


def sample(globs: Iterable[Globs]) -> bytes:
    """The last whole lines of a stream's newest readable files, oldest file first; b"" if there are none."""
    looks = []
    for path in {path for group in globs for path in group.paths()}:
        with contextlib.suppress(OSError):
            looks.append((Path(path).stat().st_mtime, path))
    parts: list[bytes] = []
    left = SAMPLE_BYTES
    for _, path in sorted(looks, reverse=True):
        with contextlib.suppress(OSError):
            parts.append(_end(path, left))
            left -= len(parts[-1])
        if left <= 0:
            break
    return b"".join(reversed(parts))


def compare(old: Bundle, new: Bundle, lines: Sequence[bytes]) -> None:
    """ConfigError if `new` knows or bears the lines so much worse than `old` that it cannot be meant for them."""
    before, after = count(old, lines), count(new, lines)
    if after.untyped - before.untyped > UNTYPED_RISE * after.lines:
        raise ConfigError(
            f"bundle {new.label} is refused: of the last {after.lines:,} lines it knows no type for {after.untyped:,}, "
            f"the one in use for {before.untyped:,}; --force takes it all the same"
        )
    if after.flagged >= FLAGGED_MIN and after.flagged > FLAGGED_RATIO * before.flagged:
        raise ConfigError(
            f"bundle {new.label} is refused: of the last {after.lines:,} lines {after.flagged:,} are over its "
            f"threshold, {before.flagged:,} over that of the one in use; --force takes it all the same"
        )


def count(bundle: Bundle, lines: Sequence[bytes]) -> Count:
    """Score lines that begin in mid-stream."""
    if bundle.manifest.sequence is None:
        return Count(len(lines), 0, 0)
    stream, source, offset = Stream(bundle, Options("shadow")), Source("0" * 24, "shadow", whole=False), 0
    for first in range(0, len(lines), BATCH_LINES):
        part = [line[:LINE_BYTES_MAX] for line in lines[first : first + BATCH_LINES]]
        offsets = []
        for line in part:
            offsets.append(offset)
            offset += len(line) + 1
        stream.feed(Batch("shadow", source, part, offsets, offset, time.time()))
    totals = stream.teller.totals
    return Count(totals.lines, totals.untyped, totals.anomalous_lines, stream.matcher.stats.timeouts)


def _end(path: str, size: int) -> bytes:
    """The last whole lines of a file."""
    with Path(path).open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - size))
        data = file.read(size)
    if length > size:
        data = data.partition(b"\n")[2]
    return data[: data.rfind(b"\n") + 1]
