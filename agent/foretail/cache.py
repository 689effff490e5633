"""Pure: a bounded memory of what a row of small integers is worth, in columns.

A set-associative table as in a processor's cache: a row's hash names a set of WAYS places, the least recently used of
them gives way. Look-up, comparison and replacement of a whole batch are numpy operations, about 0.1 us a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WAYS = 4


class Cache:
    """Remembers float32 values of integer rows; at most `entries` of them, no more memory ever.

    Args:
        width: integers in a row.
        entries: rounded up to a power of two; each takes 16 bytes and its row.

    Attributes:
        hits, misses: rows answered from memory, rows computed (a row repeated in one batch is computed once).
    """

    def __init__(self, width: int, entries: int) -> None:
        self._sets = 1 << max(0, (max(entries, WAYS) - 1).bit_length() - 2)
        # Odd multipliers: a multilinear hash, two rows share it by chance of about 2^-50. Equality is checked anyway.
        self._multipliers = np.random.default_rng(0x5EED).integers(1, 2**63, width, np.uint64) * 2 + 1
        self._width = width
        self.hits = self.misses = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._rows: NDArray[Any] = np.zeros((0, self._width), np.int16)  # made when the dtype is known
        self._tags = np.zeros((self._sets, WAYS), np.uint64)
        self._values = np.zeros(self._sets * WAYS, np.float32)
        self._used = np.zeros(self._sets * WAYS, np.uint32)
        self._clock = 0

    def values(self, rows: NDArray[Any], compute: Callable[[NDArray[Any]], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The value of each row; `compute` is asked once for each distinct row not remembered.

        Args:
            rows: integers [n, width], not negative, of one dtype at every call.
            compute: distinct rows [m, width] -> float32 [m].
        """
        if not len(self._rows):
            self._rows = np.full((self._sets * WAYS, self._width), -1, rows.dtype)
        self._clock += 1
        tags = self._hash(rows)
        sets = self._set(tags)
        places = sets * WAYS + (self._tags[sets] == tags[:, None]).argmax(axis=1)
        found = (self._rows[places] == rows).all(axis=1)
        self._used[places[found]] = self._clock
        result: NDArray[np.float32] = self._values[places]
        missing = np.flatnonzero(~found)
        self.hits += len(rows) - len(missing)
        if len(missing):
            result[missing] = self._learn(rows[missing], tags[missing], compute)
        return result

    def rows(self, most: int) -> NDArray[Any]:
        """At most so many rows, those used last: [m, width]. Another thread may ask; then a few may be mixed."""
        rows, used = self._rows.copy(), self._used.copy()
        latest = np.argsort(used)[-most:] if len(rows) else np.zeros(0, np.intp)
        found: NDArray[Any] = rows[latest][used[latest] > 0]
        return found[(found >= 0).all(axis=1)]

    def _hash(self, rows: NDArray[Any]) -> NDArray[np.uint64]:
        result: NDArray[np.uint64] = rows.astype(np.uint64) @ self._multipliers
        return result

    def _set(self, tags: NDArray[np.uint64]) -> NDArray[np.intp]:
        return ((tags >> np.uint64(32)) & np.uint64(self._sets - 1)).astype(np.intp)  # low bits mix worst

    def _learn(
        self, rows: NDArray[Any], tags: NDArray[np.uint64], compute: Callable[[NDArray[Any]], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * self._width))).ravel()
        _, index, inverse = np.unique(whole, return_index=True, return_inverse=True)
        fresh, tags = rows[index], tags[index]
        values = compute(fresh)
        self.misses += len(fresh)
        self.hits += len(rows) - len(fresh)
        places = self._places(self._set(tags))
        self._rows[places], self._values[places], self._used[places] = fresh, values, self._clock
        self._tags.ravel()[places] = tags
        return values[inverse]

    def _places(self, sets: NDArray[np.intp]) -> NDArray[np.intp]:
        """Where new rows go: the oldest place of each set, its next oldest for a second row of one batch, and so on."""
        order = np.argsort(sets, kind="stable")
        rank = np.empty(len(sets), np.intp)
        rank[order] = np.arange(len(sets)) - np.searchsorted(sets[order], sets[order])
        by_age = self._used.reshape(-1, WAYS)[sets].argsort(axis=1, kind="stable")
        return sets * WAYS + by_age[np.arange(len(sets)), rank % WAYS]
