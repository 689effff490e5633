"""Keys to recent types: which window each line is judged in, and when a session ends (DESIGN §4).

Pure: event time comes in as an argument, arrays come out. A batch passes in two steps, because the model stands between
them: `step` gives each line its window; `finish` takes each line's surprise and gives the units that closed.

Two words: a *session* is what a key's windows continue over; a *unit* is what gets a verdict of its own at its end:
the session itself, or, for endless sessions, a tumbling block of lines.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from foretail.schema import PAD, UNKNOWN
from foretail.slots import BLOCK_LINES, Rules, Slots, Step
from foretail.units import Units

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Sessions:
    """Live sessions as columns of arrays: at most about 400 bytes a key, the key included."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.slots = Slots(rules)
        self._began = np.inf
        self._quiet_until = -np.inf

    def __len__(self) -> int:
        return len(self.slots)

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
        rules, n = self.rules, len(ids)
        self._began = min(self._began, float(times[0]))
        slots = self.slots.of(keys, float(times[0]))
        cols = self.slots.columns
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
            self.slots.forget(gone)
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
        slots = self.slots.all()
        lasts = self.slots.columns["last"][slots]
        over = now - lasts > self.rules.idle_s
        alive = lasts[~over]
        self._quiet_until = float(alive.min()) + self.rules.idle_s if len(alive) else now
        gone = slots[over]
        units = self._take(gone, times)
        self.slots.forget(gone)
        return units

    def close_all(self, *, ended: bool) -> Units:
        """Close every session at the end of input.

        Args:
            ended: the end of input is the end of each session; otherwise those younger than `idle_s` stay `open`:
                their end was not seen.
        """
        slots = self.slots.all()
        slots = slots[self.slots.columns["n"][slots] > 0]
        units = self._take(slots, np.zeros(0))
        self.slots.forget(self.slots.all())
        return replace(units, open=np.full(len(units), not ended)).sorted()

    def end(self, now: float) -> Units:
        """Close what event time `now` has passed: a host's clock advances a silent stream."""
        return self.expire(np.array([now])).sorted()

    def sources(self) -> set[int]:
        """Numbers of the sources in which live units began."""
        return set(self.slots.columns["source"][self.slots.all()].tolist())

    # -- state ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """All live sessions, as plain values that msgpack can hold."""
        return {**self.slots.snapshot(), "began": self._began}

    def restore(self, state: dict[str, Any]) -> None:
        """Take what `snapshot` gave, under the same rules."""
        self.slots.restore(state)
        self._began = state["began"]
        self._quiet_until = -np.inf

    def reserve(self, other: Sessions) -> None:
        """Have memory for what another one holds now and may soon hold."""
        self.slots.reserve(max(1024, len(other.slots.names) * 9 // 8))

    def take(self, other: Sessions) -> None:
        """Go on from a copy of what another one holds, under rules of the same window."""
        self.slots.take(other.slots)
        self._began = other._began
        self._quiet_until = -np.inf

    # -- parts ---------------------------------------------------------------------------------------------------

    def _fresh(
        self, time: NDArray[np.float64], ids: NDArray[np.int32], heads: NDArray[np.int64], resident: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which sorted lines begin a session."""
        cols = self.slots.columns
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
        early = ~(np.full(len(slots), whole) | (times - self._began > self.rules.idle_s))
        return ~(early | self.slots.evicted(slots, times))

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
            held = np.where(continued, self.slots.columns["n"][slot[unit_first]], 0)
            return held + unit_end + 1 - unit_first >= BLOCK_LINES, at
        ended = self.rules.ends[ids[unit_end]]
        passed = np.searchsorted(times, time[unit_end] + self.rules.idle_s, side="right").astype(np.float64)
        return ended | ~last, np.where(ended, at, passed)

    def _units(self, step: Step, surprise: NDArray[np.int64], novel: NDArray[np.bool_]) -> Units:
        """The units of a batch, each with what it held before."""
        cols, first, was = self.slots.columns, step.unit_first, step.continued
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
            spill[int(unit)] = more + self.slots.spill.get(int(slot[unit]), 0) if was[unit] else more
        return Units(
            keys=[self.slots.names[s] for s in slot],
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
        cols = self.slots.columns
        for name in ("n", "total", "top", "novel", "events", "recent", "whole", "source", "first_offset", "first_time"):
            cols[name][slot] = getattr(units, name)[rows]
        cols["last"][slot] = units.last_time[rows]
        cols["age"][slot] = step.ages[ends] + 1
        for row, place in zip(rows.tolist(), slot.tolist(), strict=True):
            if row in units.spill:
                self.slots.spill[place] = units.spill[row]
            else:
                self.slots.spill.pop(place, None)

    def _restart_blocks(self, step: Step) -> None:
        """Endless sessions whose last unit closed exactly go on with an empty unit."""
        rows = np.flatnonzero(step.last & step.closed)
        slot = step.slots[step.unit_first[rows]]
        ends = np.append(step.unit_first[1:], len(step.ids))[rows] - 1
        cols = self.slots.columns
        cols["n"][slot] = 0
        cols["recent"][slot] = step.recent[rows]
        cols["whole"][slot] = step.whole[rows]
        cols["last"][slot] = step.times[ends]
        cols["age"][slot] = step.ages[ends] + 1

    def _take(self, slots: NDArray[np.int64], times: NDArray[np.float64]) -> Units:
        """Resident units as they stand, closed when event time passed them."""
        cols = self.slots.columns
        deadline = cols["last"][slots] + self.rules.idle_s
        return Units(
            keys=[self.slots.names[s] for s in slots],
            n=cols["n"][slots].astype(np.int64),
            total=cols["total"][slots],
            top=cols["top"][slots].astype(np.int64),
            novel=cols["novel"][slots].astype(np.int64),
            events=cols["events"][slots],
            spill={row: self.slots.spill[s] for row, s in enumerate(slots.tolist()) if s in self.slots.spill},
            recent=cols["recent"][slots].astype(np.int32),
            whole=cols["whole"][slots],
            open=np.zeros(len(slots), np.bool_),
            source=cols["source"][slots].astype(np.int64),
            first_offset=cols["first_offset"][slots],
            first_time=cols["first_time"][slots],
            last_time=cols["last"][slots],
            close_at=np.searchsorted(times, deadline, side="right").astype(np.float64),
        )


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
