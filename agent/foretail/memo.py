"""A bounded memo in two generations: what was used lately survives, the rest is dropped with its generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")
PAUSE_LINES = 10_000
PAUSE_HITS = 0.3
PAUSED_WINDOWS = 8
"""Windows without insertion, before two with it show whether the log has changed."""


class Memo(Generic[Value]):
    """bytes -> Value, at most `entries` and `bytes_max` in both generations together.

    `get` is the dict's own, for map(); what it misses may be in the older generation: `recall`. Insertion pauses while
    the last PAUSE_LINES lines had less than PAUSE_HITS hits: then storing costs more than it saves. `cost(key, value)`
    estimates the bytes of an entry.
    """

    def __init__(self, entries: int, bytes_max: int, cost: Callable[[bytes, Value], int]) -> None:
        self._half_entries = max(entries // 2, 1)
        self._half_bytes = bytes_max // 2
        self._cost = cost
        self._young: dict[bytes, Value] = {}
        self._old: dict[bytes, Value] = {}
        self._young_bytes = self._old_bytes = 0
        self._lines = self._hits = self._windows = 0
        self.paused = False

    @property
    def get(self) -> Callable[[bytes], Value | None]:
        """The lookup of this moment; take it anew for each batch."""
        return self._young.get

    def recall(self, key: bytes) -> Value | None:
        """The value of the older generation, moved to the younger."""
        value = self._old.get(key)
        if value is not None:
            paused, self.paused = self.paused, False
            self.put(key, value, self._cost(key, value))
            self.paused = paused
        return value

    def put(self, key: bytes, value: Value, size: int) -> None:
        """Stores unless paused; `size`: estimated bytes of key and value."""
        if self.paused or size > self._half_bytes:
            return
        if self._young_bytes + size > self._half_bytes or len(self._young) >= self._half_entries:
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0
        self._young[key] = value
        self._young_bytes += size

    def count(self, lines: int, hits: int) -> None:
        """Told of each batch; decides on pausing."""
        self._lines += lines
        self._hits += hits
        if self._lines < PAUSE_LINES:
            return
        poor = self._hits < PAUSE_HITS * self._lines
        self._lines = self._hits = 0
        if self.paused:
            self._windows += 1
            if not poor or self._windows >= PAUSED_WINDOWS:
                self.paused, self._windows = False, 0
        else:
            self._windows = self._windows + 1 if poor else 0
            if self._windows >= 2:
                self.paused, self._windows = True, 0

    def keys(self, most: int) -> list[bytes]:
        """At most so many of the younger generation; another thread may ask."""
        return list(self._young)[-most:]

    @property
    def entries(self) -> int:
        """Entries of both generations."""
        return len(self._young) + len(self._old)

    @property
    def size(self) -> int:
        """Estimated bytes of both generations."""
        return self._young_bytes + self._old_bytes
