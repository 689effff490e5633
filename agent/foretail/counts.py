"""The type counts of a whole session against those of normal ones: which is nearest, how far, and by what.

A normal vector is one that at least three training sessions share, so that what was strange once does not become
normal by being there. The distance is the price in bits of writing a session down as an edit of a normal one:

    d(x) = min over normal v of  penalty(v) + sum over types j with x_j != v_j of  weight(j) * (1 + log2 |x_j - v_j|)

weight(j) is the log-odds of a training session with another count of j than the usual one: an inverse document
frequency that also knows types which are always there. penalty(v) = log2(sessions of the most common v / of this v).
So repeats that vary in normal sessions cost next to nothing; a rare type, or a step that never failed to come, costs
much. All bits are whole multiples of 1/256: a distance does not depend on what it was computed together with.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from foretail.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail.bundle import Bundle

NAME = "counts.npy"
VECTORS_MAX = 1024
"""Normal vectors in a bundle."""
QUANTUM = 256
_WEIGHT_QUANTUM = 16
_DIFFERENCE_MAX = 4095
_PRICE = np.rint((1 + np.log2(np.maximum(np.arange(_DIFFERENCE_MAX + 1), 1))) * _WEIGHT_QUANTUM).astype(np.int64)
_PRICE[0] = 0
_CELLS = 1 << 20  # of the comparison of some sessions with all vectors: 8 MB
_MEMO_BYTES = 4 << 20


class Counts:
    """The table of normal vectors.

    Args:
        vectors: int32 `[m, V]`, m <= VECTORS_MAX; m = 0: no session is judged.
        penalty: float `[m]` bits.
        weight: float `[V]` bits.
        rank: the distance is that to the rank-th nearest vector. 1 where a vector stands for at least three sessions;
            3 where sessions are too diverse for that and each vector stands for one.
    """

    def __init__(
        self, vectors: NDArray[np.int32], penalty: NDArray[np.float64], weight: NDArray[np.float64], rank: int = 1
    ) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.int32)
        self.rank = rank
        self._penalty = np.rint(np.asarray(penalty) * QUANTUM).astype(np.int64)
        self._weight = np.rint(np.asarray(weight) * _WEIGHT_QUANTUM).astype(np.int64)
        self._memo: dict[bytes, tuple[int, int]] = {}
        self._memo_max = max(64, _MEMO_BYTES // (4 * self.vectors.shape[1] + 200))

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def weight(self) -> NDArray[np.float64]:
        """float64 `[V]`: bits of a first difference in each type."""
        return self._weight / _WEIGHT_QUANTUM

    @classmethod
    def read(cls, bundle: Bundle) -> Counts:
        """The table of a bundle; an empty one if it has none.

        Raises:
            ConfigError: the array is not such a table.
        """
        sequence = bundle.manifest.sequence
        width = sequence.vocabulary if sequence else 0
        if NAME not in bundle.files:
            return cls.empty(width)
        found = bundle.array(NAME)
        table = found.astype(np.int32) if found.dtype == np.int32 and found.ndim == 2 else np.zeros((0, 0), np.int32)
        shape_fits = 1 <= len(table) <= VECTORS_MAX + 1 and table.shape[1] == width + 1
        if not shape_fits or (table < 0).any() or not 1 <= int(table[0, -1]) <= 3:
            raise ConfigError(f"bundle {bundle.path}: {NAME} is no table of counts; fetch the bundle again")
        return cls(table[1:, :-1], table[1:, -1] / QUANTUM, table[0, :-1] / _WEIGHT_QUANTUM, int(table[0, -1]))

    @classmethod
    def empty(cls, vocabulary: int) -> Counts:
        """A table without vectors: every distance is 0."""
        return cls(np.zeros((0, vocabulary), np.int32), np.zeros(0), np.zeros(vocabulary))

    def files(self) -> dict[str, bytes]:
        """What a bundle holds of it: row 0 the weights (1/16 bit) and the rank, then vectors and penalties (1/256)."""
        table = np.zeros((len(self) + 1, self.vectors.shape[1] + 1), np.int32)
        table[0, :-1], table[0, -1] = self._weight, self.rank
        table[1:, :-1], table[1:, -1] = self.vectors, self._penalty
        out = io.BytesIO()
        np.save(out, table, allow_pickle=False)
        return {NAME: out.getvalue()}

    def distance(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bits from each session to the nearest normal one: int `[u, V]` -> float64 `[u]`."""
        return np.array([bits for bits, _ in self._nearest(counts)], np.float64) / QUANTUM

    def nearest(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row in `vectors` of the nearest normal session: int `[u, V]` -> int64 `[u]`; -1 without vectors."""
        return np.array([row for _, row in self._nearest(counts)], np.int64)

    def prices(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Bits that each type adds to the distance: int `[u, V]` -> float64 `[u, V]`."""
        rows = self.nearest(counts)
        if not len(self):
            return np.zeros(counts.shape)
        return _prices(counts, self.vectors[rows]) * self._weight / QUANTUM

    def difference(self, counts: NDArray[np.int64]) -> tuple[dict[int, int], dict[int, int]]:
        """How a session differs from the nearest normal one: int `[V]` -> missing and extra events by model id."""
        if not len(self):
            return {}, {}
        more = counts - self.vectors[int(self.nearest(counts[None])[0])]
        order = np.argsort(-_prices(more, 0) * self._weight, kind="stable").tolist()
        return {j: int(-more[j]) for j in order if more[j] < 0}, {j: int(more[j]) for j in order if more[j] > 0}

    def _nearest(self, counts: NDArray[np.int64]) -> list[tuple[int, int]]:
        """Distance in 1/256 bit and row of the nearest vector, remembered for vectors that come again."""
        if not len(self):
            return [(0, -1)] * len(counts)
        rows = np.minimum(counts, np.iinfo(np.int32).max).astype(np.int32)
        names = [row.tobytes() for row in rows]
        found = [self._memo.get(name) for name in names]
        fresh = {name: i for i, name in enumerate(names) if found[i] is None}
        if fresh:
            new = dict(zip(fresh, self._compare(rows[list(fresh.values())]), strict=True))
            if len(self._memo) + len(new) > self._memo_max:
                self._memo.clear()
            if len(new) <= self._memo_max:
                self._memo |= new
            found = [new[name] if pair is None else pair for name, pair in zip(names, found, strict=True)]
        return [pair for pair in found if pair is not None]

    def _compare(self, rows: NDArray[np.int32]) -> list[tuple[int, int]]:
        chunk = max(1, _CELLS // self.vectors.size)
        pairs: list[tuple[int, int]] = []
        for start in range(0, len(rows), chunk):
            prices = _prices(rows[start : start + chunk, None, :], self.vectors[None])
            total = prices @ self._weight + self._penalty
            place = min(self.rank, len(self)) - 1
            bits = np.partition(total, place, axis=1)[:, place]
            pairs += zip(bits.tolist(), total.argmin(axis=1).tolist(), strict=True)
        return pairs


def _prices(a: NDArray[np.integer], b: NDArray[np.integer] | int) -> NDArray[np.int64]:
    """Price of each difference, in 1/16."""
    prices: NDArray[np.int64] = _PRICE[np.minimum(np.abs(a - b), _DIFFERENCE_MAX)]
    return prices
