"""Live sessions as columns of arrays: at most about 400 bytes a key, the key included. Rules, slots, steps."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.units import Units

BLOCK_LINES = 100
"""Lines of one unit of an endless session."""
EVENTS_MAX = 36
"""Events of a unit kept in order; counts of later ones are kept in a vector of their own."""
_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Rules:
    """What a bundle and its stream say about sessions.

    Attributes:
        window: C, events of left context.
        vocabulary: V, number of model ids.
        idle_s: event time without an event after which a session has ended.
        ends: bool `[V]`: types that end a session.
        endless: sessions never end; units are blocks of `BLOCK_LINES`.
        keys_max: live sessions; beyond it the least recently used are evicted.
    """

    window: int
    vocabulary: int
    idle_s: float
    ends: NDArray[np.bool_]
    endless: bool = False
    keys_max: int = 100_000

    @property
    def events_max(self) -> int:
        """Events of a unit kept in order."""
        return BLOCK_LINES if self.endless else EVENTS_MAX

    def without_ends(self) -> Rules:
        """The same where no type ends a session."""
        return replace(self, ends=np.zeros_like(self.ends))


@dataclass(frozen=True, slots=True)
class Step:
    """A batch, sorted by session, in order within each; n lines, U units.

    Attributes:
        order: int64 `[n]`: arrival position of each sorted line.
        slots: int64 `[n]`.
        ids: int32 `[n]`: what came, as model ids.
        windows: int32 `[n, C]`: what came before it.
        scored: bool `[n]`: False for the first C/2 events of a partial session.
        ages: int64 `[n]`: events of the session before this one.
        times: float64 `[n]`: event times.
        offsets: int64 `[n]`.
        source: number of the source, for ids of units.
        unit_first: int64 `[U]`: sorted index of each unit's first line in this batch.
        continued: bool `[U]`: the unit began in an earlier batch.
        last: bool `[U]`: the session's last unit in this batch (it stays resident unless it closed).
        closed: bool `[U]`: the unit ended in this batch.
        whole: bool `[U]`.
        close_at: float64 `[U]`: arrival position at which a closed unit closed.
        recent: int32 `[U, C]`: context after the unit's last line.
        stale: units that were resident and ended before this batch reached their key.
    """

    order: NDArray[np.int64]
    slots: NDArray[np.int64]
    ids: NDArray[np.int32]
    windows: NDArray[np.int32]
    scored: NDArray[np.bool_]
    ages: NDArray[np.int64]
    times: NDArray[np.float64]
    offsets: NDArray[np.int64]
    source: int
    unit_first: NDArray[np.int64]
    continued: NDArray[np.bool_]
    last: NDArray[np.bool_]
    closed: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    close_at: NDArray[np.float64]
    recent: NDArray[np.int32]
    stale: Units


def _columns(slots: int, rules: Rules) -> dict[str, NDArray[Any]]:
    """Empty state columns; about 200 bytes a session with C 10."""
    return {
        "recent": np.zeros((slots, rules.window), np.int16),
        "events": np.zeros((slots, rules.events_max), np.int16),
        "n": np.zeros(slots, np.int32),
        "age": np.zeros(slots, np.int64),
        "last": np.full(slots, -np.inf),
        "first_time": np.zeros(slots),
        "first_offset": np.zeros(slots, np.int64),
        "source": np.zeros(slots, np.int32),
        "total": np.zeros(slots, np.int64),
        "top": np.zeros(slots, np.int32),
        "novel": np.zeros(slots, np.int32),
        "whole": np.zeros(slots, np.bool_),
    }


class Slots:
    """Where each live session is kept: a row of every column.

    Attributes:
        columns: name to array; a row a slot.
        names: key of each slot.
        spill: slot to int64 `[V]`: counts of events beyond those kept in order.
        evicted_total: sessions dropped for want of room.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.columns = _columns(1024, rules)
        self.names: list[bytes] = []
        self.spill: dict[int, NDArray[np.int64]] = {}
        self.evicted_total = 0
        self._table: dict[bytes, int] = {}
        self._free: list[int] = []
        self._evicted: dict[bytes, float] = {}

    def __len__(self) -> int:
        return len(self._table)

    def all(self) -> NDArray[np.int64]:
        """Every slot in use: int64."""
        return np.fromiter(self._table.values(), np.int64, len(self._table))

    def of(self, keys: Sequence[bytes], now: float) -> NDArray[np.int64]:
        """The slot of each key, new ones for new keys: int64 `[n]`.

        Args:
            keys: `[n]`.
            now: event time, for the memory of evicted keys.
        """
        table = self._table
        found = list(map(table.get, keys))
        if None in found:
            fresh = dict.fromkeys(key for key, slot in zip(keys, found, strict=True) if slot is None)
            if len(table) + len(fresh) > self.rules.keys_max:
                self._evict(set(keys), len(table) + len(fresh) - self.rules.keys_max, now)
            for key in fresh:
                table[key] = self._new(key)
            found = list(map(table.get, keys))
        return np.array(found, np.int64)

    def forget(self, slots: NDArray[np.int64]) -> None:
        """Free these slots."""
        for slot in slots.tolist():
            del self._table[self.names[slot]]
            self.names[slot] = b""
            self._free.append(slot)
            self.spill.pop(slot, None)
        self.columns["age"][slots] = 0
        self.columns["n"][slots] = 0
        self.columns["last"][slots] = -np.inf

    def evicted(self, slots: NDArray[np.int64], times: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether the keys of these slots were evicted less than idle_s before these times: bool `[s]`."""
        seen = np.zeros(len(slots), np.bool_)
        if self._evicted:
            for row, slot in enumerate(slots.tolist()):
                seen[row] = self._evicted.get(_hash(self.names[slot]), -np.inf) >= times[row]
        return seen

    def snapshot(self) -> dict[str, Any]:
        """All of it, as plain values that msgpack can hold."""
        slots = self.all()
        return {
            "keys": list(self._table),
            "columns": {name: column[slots].tobytes() for name, column in self.columns.items()},
            "spill": {key: self.spill[s].tolist() for key, s in self._table.items() if s in self.spill},
            "evicted": self._evicted,
            "evicted_total": self.evicted_total,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `snapshot` gave, under the same rules."""
        keys = [bytes(key) for key in state["keys"]]
        self.columns = _columns(max(1024, len(keys) * 5 // 4), self.rules)
        for name, column in self.columns.items():
            values = np.frombuffer(state["columns"][name], column.dtype)
            column[: len(keys)] = values.reshape(len(keys), *column.shape[1:])
        self._table = {key: slot for slot, key in enumerate(keys)}
        self.names, self._free = list(keys), []
        self.spill = {self._table[bytes(key)]: np.array(v, np.int64) for key, v in state["spill"].items()}
        self._evicted = {bytes(key): until for key, until in state["evicted"].items()}
        self.evicted_total = state["evicted_total"]

    def translate(self, ids: NDArray[np.int16], vocabulary: int) -> None:
        """Carry histories over to another bundle.

        Args:
            ids: int16 `[V_old]`: the new model id of each old one; absent types are UNKNOWN.
            vocabulary: V of the new bundle.
        """
        most = int(self.columns["n"].max(initial=0))  # beyond it no unit has events: all is PAD, which stays
        for name, width in (("recent", self.rules.window), ("events", min(most, self.rules.events_max))):
            column = self.columns[name][: len(self.names)]
            for first in range(0, len(column), _ROWS):  # parts that fit the processor's cache: a swap waits for it
                part = column[first : first + _ROWS, :width]
                part[:] = np.take(ids, part, mode="clip")
        for slot, counts in self.spill.items():
            moved = np.zeros(vocabulary, np.int64)
            np.add.at(moved, ids, counts)
            self.spill[slot] = moved

    def reserve(self, slots: int) -> None:
        """Have memory for so many, before it is needed in a hurry."""
        self.columns = _columns(slots, self.rules)
        for column in self.columns.values():
            column[:] = column[0]  # zeros have no memory until they are written

    def take(self, other: Slots) -> None:
        """Copy what another one holds under rules of the same window; both go on by themselves."""
        used = len(other.names)
        if len(self.columns["n"]) < used:
            self.columns = _columns(used, self.rules)
        for name, column in other.columns.items():
            self.columns[name][:used] = column[:used]
        self.names, self._free = other.names.copy(), other._free.copy()
        self.spill = {slot: counts.copy() for slot, counts in other.spill.items()}
        self.evicted_total = other.evicted_total
        self._table, self._evicted = other._table.copy(), other._evicted.copy()

    def _new(self, key: bytes) -> int:
        if self._free:
            slot = self._free.pop()
            self.names[slot] = key
            return slot
        slot = len(self.names)
        self.names.append(key)
        if slot >= len(self.columns["n"]):
            bigger = _columns(len(self.columns["n"]) * 5 // 4, self.rules)
            for name, column in self.columns.items():
                bigger[name][: len(column)] = column
            self.columns = bigger
        return slot

    def _evict(self, wanted: set[bytes], more: int, now: float) -> None:
        """Drop the least recently used sessions without a verdict; their keys begin partial for `idle_s`."""
        held = np.array([slot for key, slot in self._table.items() if key not in wanted], np.int64)
        count = min(len(held), max(more, self.rules.keys_max // 16))
        oldest = held[np.argsort(self.columns["last"][held], kind="stable")[:count]]
        if len(self._evicted) > self.rules.keys_max:
            self._evicted = {key: until for key, until in self._evicted.items() if until > now}
        for slot in oldest.tolist():
            self._evicted[_hash(self.names[slot])] = now + self.rules.idle_s
        self.forget(oldest)
        self.evicted_total += count


def _hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=8).digest()
