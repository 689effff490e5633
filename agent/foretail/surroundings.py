"""What came before and after a judged line in its own session, read from the log as types; no text leaves here."""

from __future__ import annotations

import contextlib
import glob
import lzma
import math
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail import logs
from foretail.columns import columns_of
from foretail.errors import ConfigError
from foretail.lines import Batch, Source
from foretail.patterns import Matcher
from foretail.schema import FIRST, UNKNOWN
from foretail.slots import BLOCK_LINES
from foretail.verdicts import text

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail.bundle import Bundle

BACK_BYTES = 4 << 20
AHEAD_BYTES = 16 << 20
EVENTS_MAX = 1000
"""Events of a session that a label keeps."""
_ROTATIONS = 5


class Around(NamedTuple):
    """Events of one session around one of its lines.

    Attributes:
        ids: model ids, oldest first.
        at: place of that line among them.
        begins: the first event is the first of the session, as far as the bytes read tell.
        ends: the last event is its last: an end type, or silence for idle_s.
        unseen: the words of the line, hashed, if no pattern matched it.
    """

    ids: list[int]
    at: int
    begins: bool
    ends: bool
    unseen: str


def around(
    bundle: Bundle, path: str, offset: int, *, key: str | None, line: str | None, before: int, after: int
) -> Around | None:
    """Read the log around a line.

    Args:
        bundle: types the lines.
        path: of the log as the record names it; its latest rotations are tried too, packed ones as well.
        offset: where the line begins.
        key: of its session, None = the stream has none or the line has none.
        line: its text, to be sure that it is the same log; None: only the key says so.
        before: events wanted ahead of it.
        after: events wanted behind it.

    Returns:
        None: no such log any more, it cannot be read, or another line is there.
    """
    keyed = bundle.manifest.key.kind != "none"
    for place in _places(path):
        with contextlib.suppress(OSError, EOFError, lzma.LZMAError, zlib.error, ConfigError):
            lines, offsets = _lines(place, offset, before)
            if offset not in offsets:
                continue
            row = offsets.index(offset)
            if line is not None and text(lines[row])[0] != line:
                continue
            return _session(bundle, lines, offsets, row, key=key if keyed else None, before=before, after=after)
    return None


def _places(path: str) -> list[str]:
    """The log and its latest rotations."""
    rotated = [name for mark in ".-" for name in glob.glob(glob.escape(path) + mark + "*")]  # noqa: PTH207 - any path
    with contextlib.suppress(OSError):
        rotated.sort(key=lambda name: -Path(name).stat().st_mtime)
    return [path, *rotated[:_ROTATIONS]]


def _lines(path: str, offset: int, before: int) -> tuple[list[bytes], list[int]]:
    """Whole lines around a byte, and where they begin."""
    start = max(0, offset - (BACK_BYTES if before else 1))
    with logs.open_bytes(path) as file:
        file.seek(start)
        raw = file.read(offset - start + AHEAD_BYTES)
        whole = len(raw) < offset - start + AHEAD_BYTES
    parts = raw.split(b"\n")
    offsets = (start + np.cumsum([0, *(len(part) + 1 for part in parts[:-1])])).tolist()
    first, last = int(start > 0), len(parts) - (not whole or not parts[-1])
    return [part.removesuffix(b"\r") for part in parts[first:last]], offsets[first:last]


def _session(
    bundle: Bundle, lines: list[bytes], offsets: list[int], row: int, *, key: str | None, before: int, after: int
) -> Around | None:
    manifest = bundle.manifest
    matcher = Matcher(bundle.patterns, manifest.format, manifest.key)
    batch = Batch("label", Source("", "", whole=False), lines, offsets, offsets[-1] + len(lines[-1]), time.time())
    columns = columns_of(matcher, batch, keyed=manifest.key.kind != "none", now=-math.inf)
    ids = np.frombuffer(columns.ids, np.int16).astype(np.int64)
    which = np.frombuffer(columns.which, np.int32)
    times = np.repeat(np.frombuffer(columns.times), np.frombuffer(columns.runs, np.int32))
    unseen = columns.unseen[int((ids[:row] == UNKNOWN).sum())] if ids[row] == UNKNOWN else ""
    if which[row] < 0:
        return Around([int(ids[row])], 0, begins=False, ends=False, unseen=unseen)
    if key is not None and text(columns.keys[which[row]])[0] != key:
        return None
    mine = np.flatnonzero(which == which[row])
    at = int(np.searchsorted(mine, row))
    first, last, ended = _bounds(bundle, ids[mine], times[mine], at, float(times[-1]))
    begin, stop = max(first, at - before), min(last, at + after + 1)
    reached = begin == first and (first > 0 or offsets[0] == 0)
    return Around(ids[mine][begin:stop].tolist(), at - begin, reached, ended and stop == last, unseen)


def _bounds(
    bundle: Bundle, ids: NDArray[np.int64], times: NDArray[np.float64], at: int, now: float
) -> tuple[int, int, bool]:
    """First event of the session that event `at` of its key is in, one past its last, and whether its end was seen."""
    manifest = bundle.manifest
    if manifest.key.endless or manifest.key.kind == "none":
        return 0, len(ids), False
    ends = np.array([False] * FIRST + [pattern.end for pattern in bundle.patterns])
    cuts = (np.diff(times) > manifest.idle_s) | ends[ids[:-1]]
    edges = np.flatnonzero(cuts) + 1
    first = int(edges[edges <= at].max(initial=0))
    last = int(edges[edges > at].min(initial=len(ids)))
    ended = last < len(ids) or bool(ends[ids[-1]]) or now - float(times[-1]) > manifest.idle_s
    return first, last, ended


def block(bundle: Bundle, path: str, offset: int, *, key: str | None) -> Around | None:
    """The whole session, or block of an endless one, whose first event begins at `offset`; as `around`."""
    endless = bundle.manifest.key.endless or bundle.manifest.key.kind == "none"
    after = (BLOCK_LINES if endless else EVENTS_MAX) - 1
    return around(bundle, path, offset, key=key, line=None, before=0, after=after)
