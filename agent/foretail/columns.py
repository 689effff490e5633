"""A typed batch as columns: all that a stream's state is a function of, as the journal holds it."""

from __future__ import annotations

import hashlib
import math
import os.path
import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail.identity import family
from foretail.schema import FIRST, UNKNOWN
from foretail.tally import Readings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.beside import Beside
    from foretail.lines import Batch
    from foretail.patterns import Matcher

WORD = re.compile(rb"[A-Za-z]{2,}")
FUTURE_S = 86_400.0
"""A stamp further ahead of the host's clock than this is not believed."""


class Columns(msgspec.Struct, frozen=True, array_like=True):
    """A typed batch of n lines: all that the state is a function of, as the journal holds it.

    Arrays are the bytes of their native values. The fields of an advance without lines are empty but for `now`.

    Attributes:
        source, path: of all lines; `whole`: read from byte 0.
        ids: int16 `[n]` model ids.
        keys: the distinct session keys; `which`: int32 `[n]` index into them, -1 = none.
        times: float64 `[r]`: event times, never falling; `runs`: int32 `[r]`: lines of each.
        offsets: int64 `[n]`.
        errors: `[n]` packed bits: error-level lines.
        unseen: the words of each line of unknown type, hashed: what it is folded by.
        size: bytes of the lines.
        now: event time of an advance without lines, seconds.
        readings: numbers in the lines whose mean and p95 are features of an interval.
        logits: float32 `[n]`: log-odds of the classifier of lines; empty without one.
    """

    source: str = ""
    path: str = ""
    whole: bool = False
    ids: bytes = b""
    keys: list[bytes] = []
    which: bytes = b""
    times: bytes = b""
    runs: bytes = b""
    offsets: bytes = b""
    errors: bytes = b""
    unseen: list[str] = []
    size: int = 0
    now: float = -math.inf
    readings: Readings = Readings()
    logits: bytes = b""


def columns_of(matcher: Matcher, batch: Batch, *, keyed: bool, now: float, beside: Beside | None = None) -> Columns:
    """Type the lines of one source.

    Args:
        matcher: of the bundle.
        batch: n lines.
        keyed: lines carry session keys; otherwise all are of one session, named by the file over its rotations.
        now: event time so far, epoch seconds; -inf before the first line.
        beside: the detectors that read more than types.
    """
    n = len(batch.lines)
    if not n:
        return Columns()
    typed = matcher.match(batch.lines, batch.arrived)
    ids = np.where(typed.index < 0, UNKNOWN, typed.index + FIRST).astype(np.int16)
    times = np.where(typed.times > batch.arrived + FUTURE_S, np.nan, typed.times)
    if np.isnan(times[0]):
        times[0] = now if math.isfinite(now) else batch.arrived
    times = np.fmax.accumulate(np.fmax(times, now))
    changes = np.flatnonzero(np.diff(times, prepend=np.nan) != 0)
    if keyed and typed.keys is not None:
        which, keys = _distinct(typed.keys)
    else:
        which, keys = np.zeros(n, np.int32), [_origin(batch.source.path)]
    readings, logits = beside.extracted(typed, batch.lines) if beside is not None else (Readings(), b"")
    return Columns(
        source=batch.source.id,
        path=batch.source.path,
        whole=batch.source.whole,
        ids=ids.tobytes(),
        keys=keys,
        which=which.tobytes(),
        times=times[changes].tobytes(),
        runs=np.diff(changes, append=n).astype(np.int32).tobytes(),
        offsets=np.array(batch.offsets, np.int64).tobytes(),
        errors=np.packbits(typed.errors).tobytes(),
        unseen=[_words(batch.lines[row]) for row in np.flatnonzero(ids == UNKNOWN).tolist()],
        size=batch.end - batch.offsets[0],
        readings=readings,
        logits=logits,
    )


def _origin(path: str) -> bytes:
    """A file's name without the marks of rotation: its endless session goes on in the next file."""
    folder, name = os.path.split(path)
    return os.path.join(folder, family(name)).encode("utf-8", "surrogateescape")  # noqa: PTH118 - bytes follow


def _distinct(keys: Sequence[bytes]) -> tuple[NDArray[np.int32], list[bytes]]:
    """Keys as numbers: int32 `[n]` index into the distinct ones in order of arrival, -1 for b""."""
    table: dict[bytes, int] = {b"": -1}
    which = [table.setdefault(key, len(table) - 1) for key in keys]
    del table[b""]
    return np.array(which, np.int32), list(table)


def _words(line: bytes) -> str:
    """The words of a line of unknown type, without its values: 16 hex digits."""
    words = b" ".join(WORD.findall(line, 0, 2048)[:16])
    return hashlib.blake2b(words, digest_size=8).hexdigest()
