"""Units that closed: sessions that ended, or blocks of an endless session, as columns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Units:
    """Closed units, u rows.

    Attributes:
        keys: `[u]` session keys.
        n: int64 `[u]`: events.
        total, top: int64 `[u]`: sum and maximum of the events' surprise, 1/256 nat.
        novel: int64 `[u]`: events of unknown or rare type.
        events: int16 `[u, E]`: the first E events as model ids, 0 after the last.
        spill: row to int64 `[V]`: counts of the events beyond E.
        recent: int32 `[u, C]`: the last C events.
        whole: bool `[u]`: seen from its first event, never evicted.
        open: bool `[u]`: input ended before its end was seen.
        source: int64 `[u]`: number of the source of its first event.
        first_offset: int64 `[u]`: where its first event starts there.
        first_time, last_time: float64 `[u]`: event times, epoch seconds.
        close_at: float64 `[u]`: position in the batch at which it closed.
    """

    keys: list[bytes]
    n: NDArray[np.int64]
    total: NDArray[np.int64]
    top: NDArray[np.int64]
    novel: NDArray[np.int64]
    events: NDArray[np.int16]
    spill: dict[int, NDArray[np.int64]]
    recent: NDArray[np.int32]
    whole: NDArray[np.bool_]
    open: NDArray[np.bool_]
    source: NDArray[np.int64]
    first_offset: NDArray[np.int64]
    first_time: NDArray[np.float64]
    last_time: NDArray[np.float64]
    close_at: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, rows: NDArray[np.int64]) -> Units:
        """Some of the rows, in the order asked for."""
        columns = {
            field.name: getattr(self, field.name)[rows] for field in fields(self) if field.name not in {"keys", "spill"}
        }
        spill = {new: self.spill[old] for new, old in enumerate(rows.tolist()) if old in self.spill}
        return Units(keys=[self.keys[row] for row in rows.tolist()], spill=spill, **columns)

    def sorted(self) -> Units:
        """In an order that does not depend on how the input was cut: by closing, then last event, then first."""
        if len(self) < 2:
            return self
        return self.rows(np.lexsort((self.first_offset, self.source, self.last_time, self.close_at)))

    @staticmethod
    def join(parts: Sequence[Units]) -> Units:
        """The rows of all parts, one after the other."""
        full = [part for part in parts if len(part)]
        if len(full) < 2:
            return full[0] if full else parts[0]
        columns = {
            field.name: np.concatenate([getattr(part, field.name) for part in full])
            for field in fields(Units)
            if field.name not in {"keys", "spill"}
        }
        keys: list[bytes] = []
        spill: dict[int, NDArray[np.int64]] = {}
        for part in full:
            spill |= {row + len(keys): counts for row, counts in part.spill.items()}
            keys += part.keys
        return Units(keys=keys, spill=spill, **columns)

    def counts(self, vocabulary: int) -> NDArray[np.int64]:
        """How often each type came: int64 `[u, V]`."""
        u, kept = self.events.shape
        inside = np.arange(kept) < self.n[:, None]
        flat = (np.arange(u)[:, None] * vocabulary + self.events)[inside]
        table = np.bincount(flat, minlength=u * vocabulary).reshape(u, vocabulary)
        for row, more in self.spill.items():
            table[row] += more
        return table
