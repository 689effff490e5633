"""Pure: typed lines -> what each interval of a log holds, in event time (DESIGN §4).

An interval closes when event time passes its end; intervals without a line count as empty, for silence is a fault too;
after a hole of more than GAP intervals, or when the clock jumps as far, counting starts anew. The interval in which an
origin is first seen does not count: it may be cut.
"""

from __future__ import annotations

import math
import os.path
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from foretail.identity import family
from foretail.numerals import quantities
from foretail.schema import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.columns import Columns
    from foretail.patterns import Typed
    from foretail.schema import Pattern, Reading, VolumeInfo

GAP = 60
"""Intervals of silence that are judged one by one; after more the origin is gone or the clock jumped."""
VALUES_MAX = 512
"""Values of one reading that an interval keeps for the 95th percentile: of more, every second, fourth ... one."""
KEYS_MAX = 50_000
"""Distinct keys of one interval; more are not counted."""


class Readings(msgspec.Struct, frozen=True, array_like=True):
    """Numbers in a batch, as the journal holds them: bytes of int32 rows (rising), int16 readings, float32 values."""

    row: bytes = b""
    which: bytes = b""
    value: bytes = b""


def places(wanted: Sequence[Reading], patterns: Sequence[Pattern]) -> list[tuple[int, int, bytes]]:
    """Rank of the pattern (-1 = it is gone), capture and unit of each reading."""
    ranks = {pattern.type_id: number for number, pattern in enumerate(patterns)}
    return [(ranks.get(one.type_id, -1), one.capture, one.unit.encode("utf-8")) for one in wanted]


def readings_of(wanted: Sequence[tuple[int, int, bytes]], typed: Typed) -> Readings:
    """The chosen numeric parameters of a typed batch, by row.

    Args:
        wanted: what `places` gave.
        typed: what the matcher gave.
    """
    at, which, value = [np.zeros(0, np.intp)], [np.zeros(0, np.int16)], [np.zeros(0, np.float32)]
    for number, (rank, capture, unit) in enumerate(wanted):
        rows = np.flatnonzero(typed.index == rank) if rank >= 0 else at[0]
        if len(rows):
            with np.errstate(over="ignore"):
                found = quantities(typed.parameters(rows.tolist(), capture), unit).astype(np.float32)
            held = np.isfinite(found)  # also of what a float32 cannot hold
            at.append(rows[held])
            which.append(np.full(len(at[-1]), number, np.int16))
            value.append(found[held])
    rows = np.concatenate(at)
    if not len(rows):
        return Readings()
    order = np.argsort(rows, kind="stable")
    return Readings(
        rows[order].astype(np.int32).tobytes(),
        np.concatenate(which)[order].tobytes(),
        np.concatenate(value)[order].tobytes(),
    )


def joined(parts: Sequence[tuple[int, Readings]]) -> Readings:
    """Readings of batches as those of one; with each the number of lines before it."""
    rows = [np.frombuffer(part.row, np.int32) + np.int32(above) for above, part in parts]
    return Readings(
        b"".join(row.tobytes() for row in rows),
        b"".join(part.which for _, part in parts),
        b"".join(part.value for _, part in parts),
    )


def chosen(readings: Readings, lines: NDArray[np.intp]) -> Readings:
    """Readings of some of the lines: these, in this order."""
    row = np.frombuffer(readings.row, np.int32)
    if not len(row):
        return readings
    first = np.searchsorted(row, lines)
    count = np.searchsorted(row, lines, "right") - first
    taken = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    return Readings(
        np.repeat(np.arange(len(lines), dtype=np.int32), count).tobytes(),
        np.frombuffer(readings.which, np.int16)[taken].tobytes(),
        np.frombuffer(readings.value, np.float32)[taken].tobytes(),
    )


class Lines(msgspec.Struct, frozen=True):
    """A typed batch of one origin, columns of length n, in order of event time.

    Attributes:
        ids: int32 model ids; `times` float64, never falling; `lengths` int64 bytes; `errors` bool.
        which: int32 index into `keys`, -1 = none.
        readings: as extracted.
    """

    ids: Any
    times: Any
    lengths: Any
    errors: Any
    which: Any
    keys: list[bytes]
    readings: Readings = Readings()


def of_columns(
    columns: Columns, ids: NDArray[np.int32], times: NDArray[np.float64], errors: NDArray[np.bool_]
) -> tuple[str, Lines]:
    """A journalled batch as the counter takes it: its origin (the file's path over rotations) and its lines.

    Args:
        columns: of the batch.
        ids: int32 `[n]` model ids.
        times: float64 `[n]`, epoch seconds.
        errors: bool `[n]`: error-level.
    """
    folder, name = os.path.split(columns.path)
    offsets = np.frombuffer(columns.offsets, np.int64)
    end = (int(offsets[0]) if len(offsets) else 0) + columns.size
    return os.path.join(folder, family(name)), Lines(  # noqa: PTH118 (a text for ids, no file)
        ids=ids,
        times=times,
        lengths=np.maximum(np.diff(offsets, append=end), 0),
        errors=errors,
        which=np.frombuffer(columns.which, np.int32),
        keys=columns.keys,
        readings=columns.readings,
    )


class Values:
    """The numbers of one reading in an interval: the exact mean, and every `stride`-th value for the percentile.

    The same however they come in parts: sums go one by one, and which values are kept depends on their number alone.
    """

    def __init__(self) -> None:
        self._count, self._total, self._stride, self._kept = 0, 0.0, 1, np.zeros(0, np.float32)

    def add(self, values: NDArray[np.float32]) -> None:
        """Take values in, in order."""
        places = np.arange(self._count, self._count + len(values))
        self._total = float(np.cumsum(np.append(self._total, values.astype(np.float64)))[-1])
        self._count += len(values)
        self._kept = np.append(self._kept, values[places % self._stride == 0])
        while len(self._kept) > VALUES_MAX:
            self._kept, self._stride = self._kept[::2].copy(), 2 * self._stride

    def both(self) -> tuple[float, float]:
        """Mean and 95th percentile; NaN where no value came."""
        if not self._count:
            return math.nan, math.nan
        return self._total / self._count, float(np.quantile(self._kept.astype(np.float64), 0.95))

    def snapshot(self) -> Any:
        """Plain values."""
        return [self._count, self._total, self._stride, self._kept.tobytes()]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave."""
        self._count, self._total, self._stride, kept = state
        self._kept = np.frombuffer(kept, np.float32).copy()


class Interval:
    """What one interval holds so far; `silence`: the longest time without a line that ended in it, seconds."""

    def __init__(self, info: VolumeInfo, vocabulary: int) -> None:
        self._info = info
        self.counts = np.zeros(vocabulary, np.int64)
        self.bytes = self.errors = 0
        self.silence = 0.0
        self.keys: set[bytes] = set()
        self.values = [Values() for _ in info.readings]

    @property
    def lines(self) -> int:
        """All lines, typed or not."""
        return int(self.counts.sum())

    def take(self, lines: Lines, part: slice, sums: tuple[int, int, float]) -> None:
        """Add a part of a batch; `sums`: its bytes, its error lines, the longest time before one of its lines."""
        self.counts += np.bincount(lines.ids[part], minlength=len(self.counts))
        self.bytes += sums[0]
        self.errors += sums[1]
        self.silence = max(self.silence, sums[2])
        if self._info.keys and len(self.keys) < KEYS_MAX:
            held = np.flatnonzero(np.bincount(lines.which[part] + 1)[1:])
            self.keys.update(map(lines.keys.__getitem__, held.tolist()))
        if lines.readings.row:
            bounds = np.array((part.start, part.stop), np.int32)  # of the same type, or all rows are converted
            inside = slice(*np.searchsorted(np.frombuffer(lines.readings.row, np.int32), bounds))
            which = np.frombuffer(lines.readings.which, np.int16)[inside]
            value = np.frombuffer(lines.readings.value, np.float32)[inside]
            for number in np.unique(which).tolist():
                self.values[number].add(value[which == number])

    def row(self, counted: NDArray[np.intp]) -> NDArray[np.float64]:
        """The features: float64 `[F]`, NaN for a reading that did not come."""
        each = self.counts[counted].astype(np.float64)
        unknown = float(self.counts[UNKNOWN])
        total = float(self.counts.sum())
        out = [*each.tolist(), total - unknown - each.sum(), unknown, total, float(self.bytes), float(self.errors)]
        if self._info.keys:
            out.append(float(len(self.keys)))
        for values in self.values:
            out += values.both()
        return np.array(out)

    def most(self, counted: NDArray[np.intp]) -> int:
        """Model id of the known type that more than half of the lines beside those that are counted have; 0 = none."""
        pooled = self.counts.copy()
        pooled[counted], pooled[UNKNOWN] = 0, 0
        most = int(np.argmax(pooled))
        return most if 2 * pooled[most] > pooled.sum() else 0

    def snapshot(self) -> Any:
        """Plain values."""
        used = np.flatnonzero(self.counts)
        counts = [used.tolist(), self.counts[used].tolist()]
        values = [one.snapshot() for one in self.values]
        return [*counts, self.bytes, self.errors, self.silence, sorted(self.keys), values]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave."""
        used, counts, self.bytes, self.errors, self.silence, keys, values = state
        self.counts[used] = counts
        for one, held in zip(self.values, values, strict=True):
            one.restore(held)
        self.keys = set(keys)


class Closed(msgspec.Struct, frozen=True):
    """An interval that closed.

    Attributes:
        start: epoch seconds.
        row: float64 `[F]`, its features.
        lines: that it holds.
        silence: seconds: the longest time without a line that ended in it, or that lasts at its end.
        fresh: nothing before it counts.
        most: model id of the type of most lines whose types are not counted one by one; 0 = no type has more than half.
    """

    start: float
    row: Any
    lines: int
    silence: float
    fresh: bool
    most: int = 0


class Counter:
    """Lines of one origin into intervals.

    Args:
        info: what is counted.
        counted: model ids of `info.types`.
        vocabulary: ids are below this.
    """

    def __init__(self, info: VolumeInfo, counted: NDArray[np.intp], vocabulary: int) -> None:
        self._info, self._counted, self._vocabulary = info, counted, vocabulary
        self._step = info.series.interval_s
        self._bin: int | None = None
        self._whole = False
        self._begun = False
        self._quiet = 0  # intervals without a line that closed since the last one with a line
        self._last: float | None = None
        self._now = Interval(info, vocabulary)

    def add(self, lines: Lines) -> list[Closed]:
        """Count a batch; the intervals that it closes, in order."""
        closed: list[Closed] = []
        if not len(lines.times):
            return closed
        bins = np.floor(lines.times / self._step).astype(np.int64)
        starts = np.flatnonzero(np.diff(bins, prepend=bins[0] - 1))
        gaps = np.diff(lines.times, prepend=lines.times[0])
        longest = np.maximum.reduceat(gaps, starts).tolist()
        size = np.add.reduceat(lines.lengths, starts).tolist()
        errors = np.add.reduceat(lines.errors.astype(np.int64), starts).tolist()
        for number, (start, end) in enumerate(pairwise([*starts.tolist(), len(bins)])):
            self._move(int(bins[start]), closed, line=True)
            if self._last is None:  # nothing came before: what lies between is no silence
                longest[number] = float(gaps[start + 1 : end].max(initial=0.0))
            elif not start:
                longest[number] = max(longest[number], float(lines.times[0]) - self._last)
            self._now.take(lines, slice(start, end), (size[number], errors[number], longest[number]))
            self._last = float(lines.times[end - 1])
        return closed

    def advance(self, now: float) -> list[Closed]:
        """Event time moved on without a line of this origin."""
        closed: list[Closed] = []
        if self._bin is not None and math.isfinite(now):
            self._move(math.floor(now / self._step), closed, line=False)
        return closed

    @property
    def idle(self) -> bool:
        """Nothing is being counted."""
        return self._bin is None

    def _move(self, to: int, closed: list[Closed], *, line: bool) -> None:
        """Close intervals up to bin `to`, into which a line or only the time goes; a late line counts where it comes.

        One by one, so that it does not matter in how many steps event time got there.
        """
        while self._bin is not None and self._bin < to:
            self._quiet = 0 if self._now.lines else self._quiet + 1
            if self._quiet > GAP:  # the origin was gone, or the clock jumped: nothing is counted until its next line
                self._bin = None
                break
            if self._whole:
                closed.append(self._close(self._bin))
            self._now = Interval(self._info, self._vocabulary)
            self._bin, self._whole = self._bin + 1, True
        if self._bin is None and line:
            self._now = Interval(self._info, self._vocabulary)
            self._bin, self._whole, self._begun, self._quiet, self._last = to, False, True, 0, None

    def _close(self, number: int) -> Closed:
        fresh, self._begun = self._begun, False
        open_s = (number + 1) * self._step - self._last if self._last is not None else 0.0
        silence = max(self._now.silence, open_s)
        row, most = self._now.row(self._counted), self._now.most(self._counted)
        return Closed(number * self._step, row, self._now.lines, silence, fresh, most)

    def snapshot(self) -> Any:
        """Plain values."""
        return [self._bin, self._whole, self._begun, self._quiet, self._last, self._now.snapshot()]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave."""
        self._bin, self._whole, self._begun, self._quiet, self._last, now = state
        self._now.restore(now)
