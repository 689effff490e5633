"""Keys to recent types: which window each line is judged in, and when a session ends (DESIGN §4).

Pure: event time comes in as an argument, arrays come out. A batch passes in two steps, because the model stands between
them: `step` gives each line its window; `finish` takes each line's surprise and gives the units that closed.

Two words: a *session* is what a key's windows continue over; a *unit* is what gets a verdict of its own at its end:
the session itself, or, for endless sessions, a tumbling block of lines.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foretail.schema import PAD, UNKNOWN
from foretail.units import Units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

BLOCK_LINES = 100
"""Lines of one unit of an endless session."""
EVENTS_MAX = 48
"""Events of a unit kept in order; counts of later ones are kept in a vector of their own."""


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


class Sessions:
    """Live sessions as columns of arrays: at most about 400 bytes a key, the key included."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.evicted_total = 0
        self._slots: dict[bytes, int] = {}
        self._names: list[bytes] = []
        self._free: list[int] = []
        self._spill: dict[int, NDArray[np.int64]] = {}
        self._evicted: dict[bytes, float] = {}
        self._cols = _columns(1024, rules)
        self._began = np.inf
        self._quiet_until = -np.inf

    def __len__(self) -> int:
        return len(self._slots)

    def step(
        self,
        keys: Sequence[bytes],
        ids: NDArray[np.int32],
        times: NDArray[np.float64],
        offsets: NDArray[np.int64],
        *,
        source: int,
        whole: bool,
    ) -> Step:
        """Give each line of a batch its window.

        Args:
            keys: `[n]` session keys; n >= 1.
            ids: `[n]` model ids.
            times: `[n]` event times, never falling, seconds.
            offsets: `[n]` where each line starts in its source.
            source: number of the source.
            whole: the stream was read from the first byte of its file.
        """
        rules, cols, n = self.rules, self._cols, len(ids)
        self._began = min(self._began, float(times[0]))
        slots = self._slots_of(keys, float(times[0]))
        cols = self._cols
        order = np.argsort(slots, kind="stable")
        slot, time, idn = slots[order], times[order], ids[order]
        head = np.empty(n, np.bool_)
        head[0] = True
        np.not_equal(slot[1:], slot[:-1], out=head[1:])
        heads = np.flatnonzero(head)
        resident = slot[heads]
        fresh = self._fresh(time, idn, heads, resident)
        stale_slots = resident[fresh[heads] & (cols["age"][resident] > 0)]
        stale = self._take(stale_slots, times)
        run_start = head | fresh
        run_first = np.flatnonzero(run_start)
        run_of = np.cumsum(run_start) - 1
        run_slot, run_fresh = slot[run_first], fresh[run_first]
        run_whole = np.where(run_fresh, self._whole(run_slot, time[run_first], whole=whole), cols["whole"][run_slot])
        history = np.where(
            run_fresh[:, None], np.where(run_whole, PAD, UNKNOWN)[:, None], cols["recent"][run_slot]
        ).astype(np.int32)
        windows, recent_after = _windows(idn, history, run_first, run_of)
        within = np.arange(n) - run_first[run_of]
        ages = np.where(run_fresh, 0, cols["age"][run_slot])[run_of] + within
        unit_start = run_start.copy()
        if rules.endless:
            before = np.where(run_fresh, 0, cols["n"][run_slot])[run_of] + within
            unit_start |= before % BLOCK_LINES == 0
        unit_first = np.flatnonzero(unit_start)
        unit_end = np.append(unit_first[1:], n) - 1
        continued = run_start[unit_first] & ~fresh[unit_first]
        if rules.endless:
            continued &= cols["n"][slot[unit_first]] > 0
        last = np.append(head[unit_first[1:]], True)
        closed, close_at = self._closings(slot, times, order, (unit_first, unit_end, continued, last), time, idn)
        return Step(
            order=order,
            slots=slot,
            ids=idn,
            windows=windows,
            scored=run_whole[run_of] | (ages >= rules.window // 2),
            ages=ages,
            times=time,
            offsets=offsets[order],
            source=source,
            unit_first=unit_first,
            continued=continued,
            last=last,
            closed=closed,
            whole=run_whole[run_of[unit_first]],
            close_at=close_at,
            recent=recent_after(unit_end),
            stale=stale,
        )

    def finish(
        self, step: Step, surprise: NDArray[np.int64], novel: NDArray[np.bool_], times: NDArray[np.float64]
    ) -> Units:
        """Take each line's surprise and give every unit that closed, in the order in which they closed.

        Args:
            step: what `step` gave.
            surprise: int64 `[n]` in sorted order, 1/256 nat; 0 where not scored.
            novel: bool `[n]` in sorted order: unknown or rare.
            times: float64 `[n]` in arrival order, as given to `step`.
        """
        units = self._units(step, surprise, novel)
        keep = step.last & ~step.closed
        self._store(step, units, keep)
        gone = step.slots[step.unit_first[step.last & step.closed]]
        if not self.rules.endless:
            self._forget(gone)
        else:
            self._restart_blocks(step)
        closed = units.rows(np.flatnonzero(step.closed))
        return Units.join([step.stale, closed, self.expire(times)]).sorted()

    def expire(self, times: NDArray[np.float64]) -> Units:
        """Close the sessions that event time has passed by more than `idle_s`.

        Args:
            times: float64 `[n]`, never falling; the last is now.
        """
        now = float(times[-1])
        if self.rules.endless or now <= self._quiet_until:
            return self._take(np.zeros(0, np.int64), times)
        slots = np.fromiter(self._slots.values(), np.int64, len(self._slots))
        lasts = self._cols["last"][slots]
        over = now - lasts > self.rules.idle_s
        alive = lasts[~over]
        self._quiet_until = float(alive.min()) + self.rules.idle_s if len(alive) else now
        gone = slots[over]
        units = self._take(gone, times)
        self._forget(gone)
        return units

    def close_all(self, *, ended: bool) -> Units:
        """Close every session at the end of input.

        Args:
            ended: the end of input is the end of each session; otherwise those younger than `idle_s` stay `open`:
                their end was not seen.
        """
        slots = np.fromiter(self._slots.values(), np.int64, len(self._slots))
        slots = slots[self._cols["n"][slots] > 0]
        units = self._take(slots, np.zeros(0))
        self._forget(np.fromiter(self._slots.values(), np.int64, len(self._slots)))
        return replace(units, open=np.full(len(units), not ended)).sorted()

    def end(self, now: float) -> Units:
        """Close what event time `now` has passed: a host's clock advances a silent stream."""
        return self.expire(np.array([now])).sorted()

    # -- state ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """All live sessions, as plain values that msgpack can hold."""
        slots = np.fromiter(self._slots.values(), np.int64, len(self._slots))
        return {
            "keys": list(self._slots),
            "columns": {name: column[slots].tobytes() for name, column in self._cols.items()},
            "spill": {key: self._spill[s].tolist() for key, s in self._slots.items() if s in self._spill},
            "evicted": self._evicted,
            "evicted_total": self.evicted_total,
            "began": self._began,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `snapshot` gave, under the same rules."""
        keys = [bytes(key) for key in state["keys"]]
        self._cols = _columns(max(1024, len(keys) * 2), self.rules)
        for name, column in self._cols.items():
            values = np.frombuffer(state["columns"][name], column.dtype)
            column[: len(keys)] = values.reshape(len(keys), *column.shape[1:])
        self._slots = {key: slot for slot, key in enumerate(keys)}
        self._names = list(keys)
        self._free = []
        self._spill = {self._slots[bytes(key)]: np.array(v, np.int64) for key, v in state["spill"].items()}
        self._evicted = {bytes(key): until for key, until in state["evicted"].items()}
        self.evicted_total = state["evicted_total"]
        self._began = state["began"]
        self._quiet_until = -np.inf

    def translate(self, ids: NDArray[np.int16], vocabulary: int) -> None:
        """Carry histories over to another bundle.

        Args:
            ids: int16 `[V_old]`: the new model id of each old one; absent types are UNKNOWN.
            vocabulary: V of the new bundle.
        """
        for name in ("recent", "events"):
            self._cols[name] = ids[self._cols[name]]
        for slot, counts in self._spill.items():
            moved = np.zeros(vocabulary, np.int64)
            np.add.at(moved, ids, counts)
            self._spill[slot] = moved

    # -- parts ---------------------------------------------------------------------------------------------------

    def _slots_of(self, keys: Sequence[bytes], now: float) -> NDArray[np.int64]:
        """The slot of each key, new ones for new keys."""
        table = self._slots
        found = list(map(table.get, keys))
        if None in found:
            fresh = dict.fromkeys(key for key, slot in zip(keys, found, strict=True) if slot is None)
            if len(table) + len(fresh) > self.rules.keys_max:
                self._evict(set(keys), len(table) + len(fresh) - self.rules.keys_max, now)
            for key in fresh:
                table[key] = self._new_slot(key)
            found = list(map(table.get, keys))
        return np.array(found, np.int64)

    def _new_slot(self, key: bytes) -> int:
        if self._free:
            slot = self._free.pop()
            self._names[slot] = key
            return slot
        slot = len(self._names)
        self._names.append(key)
        if slot >= len(self._cols["n"]):
            bigger = _columns(len(self._cols["n"]) * 5 // 4, self.rules)
            for name, column in self._cols.items():
                bigger[name][: len(column)] = column
            self._cols = bigger
        return slot

    def _fresh(
        self, time: NDArray[np.float64], ids: NDArray[np.int32], heads: NDArray[np.int64], resident: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which sorted lines begin a session."""
        cols = self._cols
        fresh = np.zeros(len(time), np.bool_)
        if not self.rules.endless:
            before = np.empty(len(time))
            before[1:] = time[:-1]
            before[heads] = cols["last"][resident]
            fresh = time - before > self.rules.idle_s
            after_end = np.zeros(len(time), np.bool_)
            after_end[1:] = self.rules.ends[ids[:-1]]
            after_end[heads] = False
            fresh |= after_end
        fresh[heads] |= cols["age"][resident] == 0
        return fresh

    def _whole(self, slots: NDArray[np.int64], times: NDArray[np.float64], *, whole: bool) -> NDArray[np.bool_]:
        """Whether sessions that begin at these times are seen from their first event."""
        seen = np.full(len(slots), whole) | (times - self._began > self.rules.idle_s)
        if self._evicted:
            for row, slot in enumerate(slots):
                until = self._evicted.get(_hash(self._names[slot]))
                if until is not None and times[row] <= until:
                    seen[row] = False
        return seen

    def _closings(
        self,
        slot: NDArray[np.int64],
        times: NDArray[np.float64],
        order: NDArray[np.int64],
        bounds: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]],
        time: NDArray[np.float64],
        ids: NDArray[np.int32],
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which units closed in this batch, and at which arrival position."""
        unit_first, unit_end, continued, last = bounds
        at: NDArray[np.float64] = (order[unit_end] + 0.5).astype(np.float64)
        if self.rules.endless:
            held = np.where(continued, self._cols["n"][slot[unit_first]], 0)
            return held + unit_end + 1 - unit_first >= BLOCK_LINES, at
        ended = self.rules.ends[ids[unit_end]]
        passed = np.searchsorted(times, time[unit_end] + self.rules.idle_s, side="right").astype(np.float64)
        return ended | ~last, np.where(ended, at, passed)

    def _units(self, step: Step, surprise: NDArray[np.int64], novel: NDArray[np.bool_]) -> Units:
        """The units of a batch, each with what it held before."""
        cols, first, was = self._cols, step.unit_first, step.continued
        slot = step.slots[first]
        ends = np.append(first[1:], len(step.ids))
        held = np.where(was, cols["n"][slot], 0)
        events = np.where(was[:, None], cols["events"][slot], 0)
        unit_of = np.repeat(np.arange(len(first)), ends - first)
        place = held[unit_of] + np.arange(len(step.ids)) - first[unit_of]
        inside = place < self.rules.events_max
        events[unit_of[inside], place[inside]] = step.ids[inside]
        spill: dict[int, NDArray[np.int64]] = {}
        for unit in np.unique(unit_of[~inside]):
            lines = slice(first[unit], ends[unit])
            more = np.bincount(step.ids[lines][~inside[lines]], minlength=self.rules.vocabulary)
            spill[int(unit)] = more + self._spill.get(int(slot[unit]), 0) if was[unit] else more
        return Units(
            keys=[self._names[s] for s in slot],
            n=held + ends - first,
            total=np.where(was, cols["total"][slot], 0) + np.add.reduceat(surprise, first),
            top=np.maximum(np.where(was, cols["top"][slot], 0), np.maximum.reduceat(surprise, first)),
            novel=np.where(was, cols["novel"][slot], 0) + np.add.reduceat(novel.astype(np.int64), first),
            events=events,
            spill=spill,
            recent=step.recent,
            whole=step.whole,
            open=np.zeros(len(first), np.bool_),
            source=np.where(was, cols["source"][slot], step.source),
            first_offset=np.where(was, cols["first_offset"][slot], step.offsets[first]),
            first_time=np.where(was, cols["first_time"][slot], step.times[first]),
            last_time=step.times[ends - 1],
            close_at=step.close_at,
        )

    def _store(self, step: Step, units: Units, keep: NDArray[np.bool_]) -> None:
        """Write the units that go on back to their slots."""
        rows = np.flatnonzero(keep)
        slot = step.slots[step.unit_first[rows]]
        ends = np.append(step.unit_first[1:], len(step.ids))[rows] - 1
        cols = self._cols
        for name in ("n", "total", "top", "novel", "events", "recent", "whole", "source", "first_offset", "first_time"):
            cols[name][slot] = getattr(units, name)[rows]
        cols["last"][slot] = units.last_time[rows]
        cols["age"][slot] = step.ages[ends] + 1
        for row, place in zip(rows.tolist(), slot.tolist(), strict=True):
            if row in units.spill:
                self._spill[place] = units.spill[row]
            else:
                self._spill.pop(place, None)

    def _restart_blocks(self, step: Step) -> None:
        """Endless sessions whose last unit closed exactly go on with an empty unit."""
        rows = np.flatnonzero(step.last & step.closed)
        slot = step.slots[step.unit_first[rows]]
        ends = np.append(step.unit_first[1:], len(step.ids))[rows] - 1
        cols = self._cols
        cols["n"][slot] = 0
        cols["recent"][slot] = step.recent[rows]
        cols["whole"][slot] = step.whole[rows]
        cols["last"][slot] = step.times[ends]
        cols["age"][slot] = step.ages[ends] + 1

    def _take(self, slots: NDArray[np.int64], times: NDArray[np.float64]) -> Units:
        """Resident units as they stand, closed when event time passed them."""
        cols = self._cols
        deadline = cols["last"][slots] + self.rules.idle_s
        return Units(
            keys=[self._names[s] for s in slots],
            n=cols["n"][slots].astype(np.int64),
            total=cols["total"][slots],
            top=cols["top"][slots].astype(np.int64),
            novel=cols["novel"][slots].astype(np.int64),
            events=cols["events"][slots],
            spill={row: self._spill[s] for row, s in enumerate(slots.tolist()) if s in self._spill},
            recent=cols["recent"][slots].astype(np.int32),
            whole=cols["whole"][slots],
            open=np.zeros(len(slots), np.bool_),
            source=cols["source"][slots].astype(np.int64),
            first_offset=cols["first_offset"][slots],
            first_time=cols["first_time"][slots],
            last_time=cols["last"][slots],
            close_at=np.searchsorted(times, deadline, side="right").astype(np.float64),
        )

    def _forget(self, slots: NDArray[np.int64]) -> None:
        for slot in slots.tolist():
            del self._slots[self._names[slot]]
            self._names[slot] = b""
            self._free.append(slot)
            self._spill.pop(slot, None)
        self._cols["age"][slots] = 0
        self._cols["n"][slots] = 0
        self._cols["last"][slots] = -np.inf

    def _evict(self, wanted: set[bytes], more: int, now: float) -> None:
        """Drop the least recently used sessions without a verdict; their keys begin partial for `idle_s`."""
        held = np.array([slot for key, slot in self._slots.items() if key not in wanted], np.int64)
        count = min(len(held), max(more, self.rules.keys_max // 16))
        oldest = held[np.argsort(self._cols["last"][held], kind="stable")[:count]]
        if len(self._evicted) > self.rules.keys_max:
            self._evicted = {key: until for key, until in self._evicted.items() if until > now}
        for slot in oldest.tolist():
            self._evicted[_hash(self._names[slot])] = now + self.rules.idle_s
        self._forget(oldest)
        self.evicted_total += count


def _hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=8).digest()


def _windows(
    ids: NDArray[np.int32], history: NDArray[np.int32], run_first: NDArray[np.int64], run_of: NDArray[np.int64]
) -> tuple[NDArray[np.int32], Any]:
    """Windows of all lines from one flat array in which each run follows its history."""
    size = history.shape[1]
    flat = np.empty(len(ids) + size * len(run_first), np.int32)
    place = np.arange(len(ids)) + size * (run_of + 1)
    flat[place] = ids
    start = place[run_first] - size
    flat[start[:, None] + np.arange(size)] = history
    views = np.lib.stride_tricks.sliding_window_view(flat, size)

    def after(lines: NDArray[np.int64]) -> NDArray[np.int32]:
        """The last C ids up to and with each of these sorted lines."""
        rows: NDArray[np.int32] = views[place[lines] - size + 1].copy()
        return rows

    return views[place - size].copy(), after
