"""Sequences of model ids -> distinct training windows with weights, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from foretail.schema import END, PAD, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CHUNK = 1 << 20  # events hashed at once: some 30 MB of work space


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
) -> Windows:
    """Every event after the C events before it, each distinct pair once, in order of first arrival.

    Args:
        sequences: sessions as columns, or a list of int32 arrays (each once, each with a known end).
        window: C.
        partial: bool [sessions]; the beginning of these was not seen: left padding UNKNOWN. None: all are whole.
        chunk: events held at once.

    Returns:
        Windows; a session that is not censored also gives END after its last C events. UNKNOWN is never a target.
    """
    sessions = columns(sequences) if isinstance(sequences, list) else sequences
    multipliers = np.random.default_rng(0).integers(1, 2**63, window + 1, np.uint64) * 2 + 1
    rows, keys, weights = np.zeros((0, window + 1), np.int32), np.zeros(0, np.uint64), np.zeros(0)
    for padded, weight in _padded(sessions, window, partial, chunk):
        new = _distinct(padded, weight, multipliers)
        keys = np.concatenate([keys, new[1]])
        rows, weights = np.concatenate([rows, new[0]]), np.concatenate([weights, new[2]])
        rows, keys, weights = _merge(rows, keys, weights)
    return Windows(np.ascontiguousarray(rows[:, :-1]), rows[:, -1].copy(), weights)


def _padded(
    sessions: Sessions, window: int, partial: NDArray[np.bool_] | None, chunk: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64]]]:
    """Parts of all sessions, each session with C paddings before it and END behind it; weight 0 where no target is."""
    ids = np.asarray(sessions.ids, np.int32)
    starts = np.asarray(sessions.starts, np.int64)[: len(sessions.weight)]
    ends = np.append(starts, len(ids))[1:]
    pads = np.full(len(starts), PAD, np.int32) if partial is None else np.where(partial, UNKNOWN, PAD).astype(np.int32)
    part: list[NDArray[np.int32]] = []
    part_weight: list[NDArray[np.float64]] = []
    held = 0
    for start, end, pad, weight, censored in zip(
        starts.tolist(), ends.tolist(), pads.tolist(), sessions.weight, sessions.censored, strict=True
    ):
        for left in range(start, end, chunk):
            right = min(left + chunk, end)
            before = ids[max(start, left - window) : left]
            tail = [END] if right == end and not censored else []
            part += [np.full(window - len(before), pad, np.int32), before, ids[left:right], np.array(tail, np.int32)]
            part_weight += [np.zeros(window), np.full(right - left + len(tail), float(weight))]
            held += right - left + window + 1
            if held >= chunk:
                yield np.concatenate(part), np.concatenate(part_weight)
                part, part_weight, held = [], [], 0
    if part:
        yield np.concatenate(part), np.concatenate(part_weight)


def _distinct(
    padded: NDArray[np.int32], weight: NDArray[np.float64], multipliers: NDArray[np.uint64]
) -> tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.float64]]:
    """Rows, hashes and weights of the distinct windows of one part."""
    width = len(multipliers)
    weight = np.where((padded == UNKNOWN) | (padded == PAD), 0.0, weight)
    targets = np.flatnonzero(weight[width - 1 :])
    unsigned = padded.astype(np.uint64)
    hashes = np.zeros(len(targets), np.uint64)
    for i in range(width):
        hashes += unsigned[targets + i] * multipliers[i]
    keys, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    rows = np.lib.stride_tricks.sliding_window_view(padded, width)[targets[first]]
    return rows, keys, np.bincount(inverse, weight[targets + width - 1], len(keys)).astype(np.float64)


def _merge(
    rows: NDArray[np.int32], keys: NDArray[np.uint64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.uint64], NDArray[np.float64]]:
    """Join equal rows. Hashes of 64 bits stand for rows: two rows share one by chance of about n^2 / 2^60."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    total = np.bincount(inverse, weights, len(first)).astype(np.float64)
    return rows[first[order]], keys[first[order]], total[order]


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
