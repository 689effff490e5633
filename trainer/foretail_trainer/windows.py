"""Sequences of model ids -> distinct training windows with weights, in bounded memory."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from foretail.schema import END, PAD, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CHUNK = 1 << 20  # events hashed at once: some 100 MB of work space
ROWS_MAX = 1 << 21  # distinct windows held: 44 bytes each with C 10, and twice that while they are joined


class Sessions(Protocol):
    """Sequences as columns; `sequences` makes them.

    Attributes:
        ids: int32, all sessions one after another.
        starts: int64, where each session begins in ids (a closing len(ids) may follow).
        weight: int64, how often each session came.
        censored: bool, the data ended before the session did: its end is not known.
    """

    @property
    def ids(self) -> NDArray[np.int32]: ...  # noqa: D102
    @property
    def starts(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def weight(self) -> NDArray[np.int64]: ...  # noqa: D102
    @property
    def censored(self) -> NDArray[np.bool_]: ...  # noqa: D102


class Columns(NamedTuple):
    """The least that is `Sessions`."""

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    weight: NDArray[np.int64]
    censored: NDArray[np.bool_]


class Windows(NamedTuple):
    """Distinct (window, target) pairs.

    Attributes:
        window: int32 [n, C], oldest event first, left padding PAD (whole session) or UNKNOWN (partial).
        target: int32 [n], END or a type; never PAD or UNKNOWN.
        weight: float64 [n], how often the pair came.
    """

    window: NDArray[np.int32]
    target: NDArray[np.int32]
    weight: NDArray[np.float64]


def columns(
    sequences: Sequence[NDArray[np.int32]], weight: Sequence[int] | None = None, *, censored: bool = False
) -> Columns:
    """Plain sequences of ids as columns.

    Args:
        sequences: int32 arrays of model ids.
        weight: how often each came, default once.
        censored: no sequence has a known end.
    """
    lengths = np.fromiter((len(s) for s in sequences), np.int64, len(sequences))
    ids = np.concatenate([np.zeros(0, np.int32), *sequences], dtype=np.int32)
    times = np.ones(len(sequences), np.int64) if weight is None else np.asarray(weight, np.int64)
    return Columns(ids, np.cumsum(lengths) - lengths, times, np.full(len(sequences), censored))


def windows(
    sequences: Sessions | list[NDArray[np.int32]],
    *,
    window: int,
    partial: NDArray[np.bool_] | None = None,
    chunk: int = CHUNK,
    rows_max: int = ROWS_MAX,
) -> Windows:
    """Every event after the C events before it, each distinct pair once, in order of first arrival.

    Args:
        sequences: sessions as columns, or a list of int32 arrays (each once, each with a known end).
        window: C.
        partial: bool [sessions]; the beginning of these was not seen: left padding UNKNOWN. None: all are whole.
        chunk: events held at once.
        rows_max: distinct pairs held; beyond it a weighted sample of them stands for all (see `_sampled`).

    Returns:
        Windows; a session that is not censored also gives END after its last C events. UNKNOWN is never a target.
    """
    sessions = columns(sequences) if isinstance(sequences, list) else sequences
    multipliers = np.random.default_rng(0).integers(1, 2**63, window + 1, np.uint64) * 2 + 1
    held, least = _Rows(np.zeros((0, window + 1), np.int32), np.zeros(0, np.uint64), np.zeros(0)), 0.0
    for padded, weight in _padded(sessions, window, partial, chunk):
        held, least = _sampled(_merged(held, _distinct(padded, weight, multipliers)), rows_max, least)
    return Windows(np.ascontiguousarray(held.rows[:, :-1]), held.rows[:, -1].copy(), np.maximum(held.weight, least))


class _Rows(NamedTuple):
    """Windows with their targets: int32 [n, C + 1], their hashes uint64 [n], float64 [n]."""

    rows: NDArray[np.int32]
    keys: NDArray[np.uint64]
    weight: NDArray[np.float64]

    @property
    def priority(self) -> NDArray[np.float64]:
        """Weight over a number in (0, 1] that the hash draws: the order in which rows give way."""
        drawn = ((self.keys >> np.uint64(11)).astype(np.float64) + 1.0) / 2.0**53
        return self.weight / drawn


def _pieces(sessions: Sessions, chunk: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Sessions cut into pieces of at most `chunk` events: session, first event and end of each piece."""
    starts = np.asarray(sessions.starts, np.int64)[: len(sessions.weight)]
    ends = np.append(starts, len(sessions.ids))[1:]
    parts = np.maximum(1, -(-(ends - starts) // chunk))
    session = np.repeat(np.arange(len(starts)), parts)
    number = np.arange(len(session)) - np.repeat(np.cumsum(parts) - parts, parts)
    first = starts[session] + number * chunk
    return session, first, np.minimum(first + chunk, ends[session])


def _padded(
    sessions: Sessions, window: int, partial: NDArray[np.bool_] | None, chunk: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64]]]:
    """Pieces one after another, C events or paddings before each, END behind a known end; weight 0 = no target."""
    ids = np.asarray(sessions.ids, np.int32)
    starts = np.asarray(sessions.starts, np.int64)[: len(sessions.weight)]
    ends = np.append(starts, len(ids))[1:]
    weights = np.asarray(sessions.weight, np.float64)
    pads = np.full(len(starts), PAD, np.int32) if partial is None else np.where(partial, UNKNOWN, PAD).astype(np.int32)
    session, first, end = _pieces(sessions, chunk)
    ended = (end == ends[session]) & ~np.asarray(sessions.censored, np.bool_)[session]
    length = window + end - first + ended
    reach = np.cumsum(length)
    cuts = [0]
    while cuts[-1] < len(length):
        before = int(reach[cuts[-1] - 1]) if cuts[-1] else 0
        cuts.append(max(cuts[-1] + 1, int(np.searchsorted(reach, before + chunk))))
    for a, b in pairwise(cuts):
        piece = np.repeat(np.arange(a, b), length[a:b])
        at = np.arange(len(piece)) - np.repeat(reach[a:b] - length[a:b] - (reach[a] - length[a]), length[a:b])
        source = first[piece] - window + at
        values = np.where(source < starts[session[piece]], pads[session[piece]], ids[source.clip(0, len(ids) - 1)])
        values[source >= end[piece]] = END
        yield values, np.where(at < window, 0.0, weights[session[piece]])


def _distinct(padded: NDArray[np.int32], weight: NDArray[np.float64], multipliers: NDArray[np.uint64]) -> _Rows:
    """The distinct windows of one part."""
    width = len(multipliers)
    weight = np.where((padded == UNKNOWN) | (padded == PAD), 0.0, weight)
    targets = np.flatnonzero(weight[width - 1 :])
    unsigned = padded.astype(np.uint64)
    hashes = np.zeros(len(targets), np.uint64)
    for i in range(width):
        hashes += unsigned[targets + i] * multipliers[i]
    keys, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rows = np.lib.stride_tricks.sliding_window_view(padded, width)[targets[first[order]]]
    total = np.bincount(inverse, weight[targets + width - 1], len(keys)).astype(np.float64)
    return _Rows(rows, keys[order], total[order])


def _merged(a: _Rows, b: _Rows) -> _Rows:
    """Join equal rows. Hashes of 64 bits stand for rows: two rows share one by chance of about n^2 / 2^60."""
    keys = np.concatenate([a.keys, b.keys])
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    total = np.bincount(inverse, np.concatenate([a.weight, b.weight]), len(first)).astype(np.float64)
    return _Rows(np.concatenate([a.rows, b.rows])[first[order]], keys[first[order]], total[order])


def _sampled(held: _Rows, rows_max: int, least: float) -> tuple[_Rows, float]:
    """At most `rows_max` rows: beyond it the half of highest priority, and never any that earlier rows gave way to.

    Priority sampling (Duffield, Lund, Thorup, JACM 2007): a row that stays counts for max(weight, least priority), so
    that sums of weights are right on average; frequent rows stay, rare ones stand for their like.
    """
    priority = held.priority
    if len(priority) > rows_max:
        least = max(least, float(np.partition(priority, -(rows_max // 2))[-(rows_max // 2)]))
    kept = priority >= least
    return (held if kept.all() else _Rows(held.rows[kept], held.keys[kept], held.weight[kept])), least


def unknowing(
    windows: NDArray[np.int32], rng: np.random.Generator, *, contexts: float = 0.1, inputs: float = 0.015
) -> NDArray[np.int32]:
    """A copy in which some of the past is not known (DESIGN §4): what a partial session or an unseen line looks like.

    Args:
        windows: int32 [n, C].
        rng: decides which.
        contexts: share of windows whose left part, of 1 to C events, becomes UNKNOWN.
        inputs: share of all other inputs that become UNKNOWN; padding stays.
    """
    n, length = windows.shape
    result = windows.copy()
    result[(rng.random(windows.shape, np.float32) < inputs) & (windows != PAD)] = UNKNOWN
    rows = np.flatnonzero(rng.random(n) < contexts)
    known_from = rng.integers(1, length + 1, len(rows))
    result[rows] = np.where(np.arange(length) < known_from[:, None], UNKNOWN, result[rows])
    return result
