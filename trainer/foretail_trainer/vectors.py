"""Training sessions -> the table of normal type counts that `foretail.counts` compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretail.counts import VECTORS_MAX, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail_trainer.sequences import Sessions

SUPPORT_MIN = 3
"""Sessions that must share a vector before it is normal."""
COVERAGE_MIN = 0.5
"""Share of sessions with a shared vector, below which each vector stands for itself (`Counts.rank` 3)."""
_CELLS = 1 << 22


def upto(
    sessions: Sessions, units: NDArray[np.int64], stops: NDArray[np.int64], ids: NDArray[np.int32], vocabulary: int
) -> NDArray[np.int32]:
    """Type counts of units from their first event to one before `stops`: int32 `[r, V]`.

    Args:
        sessions: whose units.
        units: int64 `[r]`.
        stops: int64 `[r]`, event indices.
        ids: int32 `[e]` model ids of all events.
        vocabulary: V.
    """
    lengths = stops - sessions.units[units]
    row = np.repeat(np.arange(len(units)), lengths)
    within = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    flat = row * vocabulary + ids[np.repeat(sessions.units[units], lengths) + within]
    return np.bincount(flat, minlength=len(units) * vocabulary).reshape(len(units), vocabulary).astype(np.int32)


def distinct(
    sessions: Sessions, units: NDArray[np.int64], stops: NDArray[np.int64], ids: NDArray[np.int32], vocabulary: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """`upto` in bounded memory: int32 `[d, V]` the distinct vectors, and int64 `[r]` which of them each row is."""
    table: dict[bytes, int] = {}
    which = np.zeros(len(units), np.int64)
    chunk = max(1, _CELLS // vocabulary)
    for start in range(0, len(units), chunk):
        part = slice(start, start + chunk)
        vectors = upto(sessions, units[part], stops[part], ids, vocabulary)
        which[part] = [table.setdefault(vector.tobytes(), len(table)) for vector in vectors]
    return np.frombuffer(b"".join(table), np.int32).reshape(len(table), vocabulary), which


def at_last_rest(sessions: Sessions, vocabulary: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Type counts of each unit up to its last rest, of all its events where it never rested; as `distinct`."""
    units = np.arange(len(sessions.units))
    last = sessions.last_rest(units)
    return distinct(sessions, units, np.where(last > 0, last, sessions.unit_stops), sessions.ids, vocabulary)


def resting(
    sessions: Sessions, weight: NDArray[np.int64], ids: NDArray[np.int32], vocabulary: int
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Where normal sessions rest: their type counts at each rest, or of each full block.

    Args:
        sessions: u units.
        weight: int64 `[u]`; units of weight 0 are left out.
        ids: int32 `[e]` model ids of all events.
        vocabulary: V.

    Returns:
        int32 `[r, V]` distinct vectors, and int64 `[r]` how many units rested there.
    """
    if sessions.endless:
        units = np.flatnonzero(sessions.full & (weight > 0))
        stops = sessions.unit_stops[units]
    else:
        stops = np.flatnonzero(sessions.rests) + 1
        units = np.searchsorted(sessions.units, stops - 1, "right") - 1
        units, stops = units[weight[units] > 0], stops[weight[units] > 0]
    vectors, which = distinct(sessions, units, stops, ids, vocabulary)
    pairs = np.unique(units * max(len(vectors), 1) + which)  # a unit that rests twice with the same counts is one
    support = np.bincount(pairs % max(len(vectors), 1), weight[pairs // max(len(vectors), 1)], len(vectors))
    return vectors, support.astype(np.int64)


def learn(vectors: NDArray[np.int32], support: NDArray[np.int64]) -> Counts:
    """The table of normal vectors (see `foretail.counts`).

    Args:
        vectors: int32 `[r, V]`, distinct.
        support: int64 `[r]`: sessions that share each.
    """
    total = int(support.sum())
    if not total:
        return Counts.empty(vectors.shape[1])
    weight = _weights(vectors, support, total)
    normal = np.flatnonzero(support >= SUPPORT_MIN)
    normal = normal[np.argsort(-support[normal], kind="stable")][:VECTORS_MAX]
    if support[normal].sum() >= COVERAGE_MIN * total:
        return Counts(vectors[normal], np.log2(support[normal[0]] / support[normal]), weight)
    spread = np.linspace(0, len(vectors) - 1, min(len(vectors), VECTORS_MAX)).astype(np.int64)
    return Counts(vectors[spread], np.zeros(len(spread)), weight, SUPPORT_MIN)


def _weights(vectors: NDArray[np.int32], support: NDArray[np.int64], total: int) -> NDArray[np.float64]:
    """Log-odds, in bits, of another count than the usual one; 0 where the usual one is not in the majority."""
    usual = np.zeros(vectors.shape[1])
    for j in range(vectors.shape[1]):
        values, place = np.unique(vectors[:, j], return_inverse=True)
        usual[j] = np.bincount(place, support, len(values)).max()
    other = total - usual
    return np.maximum(np.log2((usual + 0.5) / (other + 0.5)), 0.0)
