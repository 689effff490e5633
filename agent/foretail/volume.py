"""Pure: typed lines -> what each interval of a log holds -> a verdict on every interval, in event time (DESIGN §4).

Each origin (a log over its rotations) has intervals of its own. One closes when event time passes its end; intervals
without a line count as empty, for silence is a fault too; after a hole of more than GAP intervals, or when the clock
jumps as far, counting starts anew. The interval in which an origin is first seen is not judged: it may be cut.
"""

from __future__ import annotations

import math
import os.path
import zlib
from collections import OrderedDict
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from foretail import rows
from foretail.errors import ConfigError
from foretail.identity import family
from foretail.schema import FIRST, UNKNOWN
from foretail.series import Detector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.columns import Columns
    from foretail.patterns import Typed
    from foretail.rows import IntervalVerdict
    from foretail.schema import Pattern, Reading, VolumeInfo

GAP = 60
"""Silent intervals that are judged one by one; after more the origin is gone or the clock jumped."""
ORIGINS_MAX = 64
VALUES_MAX = 4096
"""Values of one reading that an interval keeps."""
KEYS_MAX = 200_000
TOTALS = ("other types", "unknown lines", "lines", "bytes", "error lines")
KEYS = "distinct keys"


class Readings(msgspec.Struct, frozen=True, array_like=True):
    """Numbers captured in a batch, as the journal holds them: bytes of int32 row, int16 reading, float32 value."""

    row: bytes = b""
    which: bytes = b""
    value: bytes = b""


def features(info: VolumeInfo, patterns: Sequence[Pattern]) -> tuple[str, ...]:
    """Names of the features, in order: templates of counted types, totals, keys, mean and p95 of each reading."""
    templates = {pattern.type_id: pattern.template for pattern in patterns}
    names = [templates.get(type_id, type_id) for type_id in info.types]
    names += [*TOTALS, *([KEYS] if info.keys else [])]
    for reading in info.readings:
        names += [f"mean of {reading.name}", f"p95 of {reading.name}"]
    return tuple(names)


def readings_of(
    wanted: Sequence[Reading], patterns: Sequence[Pattern], typed: Typed, lines: Sequence[bytes]
) -> Readings:
    """The chosen numeric parameters of a typed batch.

    Args:
        wanted: of the bundle.
        patterns: of the bundle, by rank.
        typed: what the matcher gave; its spans refer to `lines`.
        lines: the batch.
    """
    if not wanted:
        return Readings()
    places = {pattern.type_id: number for number, pattern in enumerate(patterns)}
    at, which, value = [], [], []
    for number, reading in enumerate(wanted):
        index = places.get(reading.type_id)
        if index is None:
            continue
        for row in np.flatnonzero(typed.index == index).tolist():
            spans = typed.spans[row]
            if reading.capture >= len(spans):
                continue
            start, end = spans[reading.capture]
            found = parse(lines[row][start:end])
            if found is not None:
                at.append(row)
                which.append(number)
                value.append(found)
    return Readings(
        np.array(at, np.int32).tobytes(), np.array(which, np.int16).tobytes(), np.array(value, np.float32).tobytes()
    )


def parse(text: bytes) -> float | None:
    """The finite number in a capture, else None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


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


def of_columns(columns: Columns, readings: Readings | None = None) -> tuple[str, Lines]:
    """A journalled batch as the counter takes it: its origin (the file's path over rotations) and its lines."""
    folder, name = os.path.split(columns.path)
    offsets = np.frombuffer(columns.offsets, np.int64)
    end = (int(offsets[0]) if len(offsets) else 0) + columns.size
    times = np.repeat(np.frombuffer(columns.times), np.frombuffer(columns.runs, np.int32))
    return os.path.join(folder, family(name)), Lines(  # noqa: PTH118 (a text for ids, no file)
        ids=np.frombuffer(columns.ids, np.int16).astype(np.int32),
        times=times,
        lengths=np.maximum(np.diff(offsets, append=end), 0),
        errors=np.unpackbits(np.frombuffer(columns.errors, np.uint8), count=len(offsets)).astype(np.bool_),
        which=np.frombuffer(columns.which, np.int32),
        keys=columns.keys,
        readings=readings or Readings(),
    )


class Interval:
    """What one interval holds so far."""

    def __init__(self, info: VolumeInfo, vocabulary: int) -> None:
        self._info = info
        self.counts = np.zeros(vocabulary, np.int64)
        self.bytes = self.errors = 0
        self.keys: set[int] = set()
        self.values: list[list[float]] = [[] for _ in info.readings]

    @property
    def lines(self) -> int:
        """All lines, typed or not."""
        return int(self.counts.sum())

    def take(self, lines: Lines, part: slice) -> None:
        """Add a part of a batch."""
        self.counts += np.bincount(lines.ids[part], minlength=len(self.counts))
        self.bytes += int(lines.lengths[part].sum())
        self.errors += int(lines.errors[part].sum())
        if self._info.keys and len(self.keys) < KEYS_MAX:
            held = np.unique(lines.which[part])
            self.keys.update(zlib.crc32(lines.keys[number]) for number in held[held >= 0].tolist())
        if lines.readings.row:
            at = np.frombuffer(lines.readings.row, np.int32)
            inside = np.flatnonzero((at >= part.start) & (at < part.stop))
            which = np.frombuffer(lines.readings.which, np.int16)[inside]
            value = np.frombuffer(lines.readings.value, np.float32)[inside]
            for number, found in zip(which.tolist(), value.tolist(), strict=True):
                if len(self.values[number]) < VALUES_MAX:
                    self.values[number].append(found)

    def row(self, counted: NDArray[np.intp]) -> NDArray[np.float64]:
        """The features: float64 `[F]`, NaN for a reading that did not come."""
        each = self.counts[counted].astype(np.float64)
        unknown = float(self.counts[UNKNOWN])
        total = float(self.counts.sum())
        out = [*each, total - unknown - each.sum(), unknown, total, float(self.bytes), float(self.errors)]
        if self._info.keys:
            out.append(float(len(self.keys)))
        for values in self.values:
            out += [float(np.mean(values)), float(np.quantile(values, 0.95))] if values else [math.nan, math.nan]
        return np.array(out)

    def snapshot(self) -> Any:
        """Plain values."""
        used = np.flatnonzero(self.counts)
        return [used.tolist(), self.counts[used].tolist(), self.bytes, self.errors, sorted(self.keys), self.values]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave."""
        used, counts, self.bytes, self.errors, keys, self.values = state
        self.counts[used] = counts
        self.keys = set(keys)


class Closed(msgspec.Struct, frozen=True):
    """An interval that closed: its start in epoch seconds, features `[F]`, lines; `fresh`: nothing before it counts."""

    start: float
    row: Any
    lines: int
    fresh: bool


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
        self._now = Interval(info, vocabulary)

    def add(self, lines: Lines) -> list[Closed]:
        """Count a batch; the intervals that it closes, in order."""
        bins = np.floor(lines.times / self._step).astype(np.int64)
        starts = [*np.flatnonzero(np.diff(bins, prepend=bins[0] - 1)).tolist(), len(bins)] if len(bins) else []
        closed: list[Closed] = []
        for start, end in pairwise(starts):
            closed += self._move(int(bins[start]), line=True)
            self._now.take(lines, slice(start, end))
        return closed

    def advance(self, now: float) -> list[Closed]:
        """Event time moved on without a line of this origin."""
        return (
            self._move(math.floor(now / self._step), line=False) if self._bin is not None and math.isfinite(now) else []
        )

    @property
    def idle(self) -> bool:
        """Nothing is being counted."""
        return self._bin is None

    def _move(self, to: int, *, line: bool) -> list[Closed]:
        """Close intervals up to bin `to`, into which a line or only the time goes."""
        if self._bin is None:
            self._bin, self._whole, self._begun = to, False, True
            return []
        closed: list[Closed] = []
        silent = to - self._bin - 1
        if to <= self._bin:  # a late line counts where it comes
            return closed
        if self._whole:
            closed.append(self._close(self._bin))
        if silent > GAP:  # the origin was gone, or the clock jumped: nothing is counted until its next line
            closed += [self._empty(self._bin + number) for number in range(1, GAP + 1)] if self._whole else []
            self._bin, self._whole, self._begun = to if line else None, False, True
            self._now = Interval(self._info, self._vocabulary)
            return closed
        self._now = Interval(self._info, self._vocabulary)
        closed += [self._empty(self._bin + number) for number in range(1, silent + 1)]
        self._bin, self._whole = to, True
        return closed

    def _close(self, number: int) -> Closed:
        fresh, self._begun = self._begun, False
        return Closed(number * self._step, self._now.row(self._counted), self._now.lines, fresh)

    def _empty(self, number: int) -> Closed:
        fresh, self._begun = self._begun, False
        row = Interval(self._info, self._vocabulary).row(self._counted)
        return Closed(number * self._step, row, 0, fresh)

    def snapshot(self) -> Any:
        """Plain values."""
        return [self._bin, self._whole, self._begun, self._now.snapshot()]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave."""
        self._bin, self._whole, self._begun, now = state
        self._now.restore(now)


class Volume:
    """The volume detector of one stream; knows the time only from what it is told.

    Args:
        bundle: with a `volume` section.
        stream, machine: of every verdict.

    Raises:
        ConfigError: the section is missing or its files do not fit.
    """

    def __init__(self, bundle: Bundle, *, stream: str, machine: str = "") -> None:
        info = bundle.manifest.volume
        if info is None:
            raise ConfigError(f"bundle {bundle.path} has no volume detector; fit it on a log with times")
        places = {pattern.type_id: FIRST + number for number, pattern in enumerate(bundle.patterns)}
        if missing := [type_id for type_id in info.types if type_id not in places]:
            raise ConfigError(f"bundle {bundle.path} counts type {missing[0]}, which it does not have; make it again")
        if features(info, bundle.patterns) != info.series.columns or info.series.interval_s <= 0:
            raise ConfigError(f"bundle {bundle.path}: the features of its volume detector do not fit; make it again")
        self.info = info
        self._stream, self._machine, self._label = stream, machine, bundle.label
        self._counted = np.array([places[type_id] for type_id in info.types], np.intp)
        self._vocabulary = FIRST + len(bundle.patterns)
        self._type_ids = {pattern.template: pattern.type_id for pattern in bundle.patterns}
        self._detector = Detector(info.series, bundle.files, "volume")
        self._origins: OrderedDict[str, tuple[Counter, Detector]] = OrderedDict()
        self.evicted = 0

    def add(self, origin: str, lines: Lines) -> list[IntervalVerdict]:
        """Count the lines of one origin; verdicts of the intervals they close, in order of time."""
        if not len(lines.ids):
            return []
        pair = self._pair(origin)
        return self._judge(origin, pair, pair[0].add(lines))

    def advance(self, now: float) -> list[IntervalVerdict]:
        """Event time of the stream is `now`: silent origins close their intervals too."""
        out: list[IntervalVerdict] = []
        for origin, pair in self._origins.items():
            out += self._judge(origin, pair, pair[0].advance(now))
        return sorted(out, key=lambda verdict: verdict.time or 0.0)

    def _pair(self, origin: str) -> tuple[Counter, Detector]:
        if origin not in self._origins:
            if len(self._origins) >= ORIGINS_MAX:
                self._origins.popitem(last=False)
                self.evicted += 1
            counter = Counter(self.info, self._counted, self._vocabulary)
            self._origins[origin] = counter, self._detector.another()
        self._origins.move_to_end(origin)
        return self._origins[origin]

    def _judge(self, origin: str, pair: tuple[Counter, Detector], closed: Iterable[Closed]) -> list[IntervalVerdict]:
        runs: list[list[Closed]] = []
        for interval in closed:
            if interval.fresh or not runs:
                runs.append([])
            runs[-1].append(interval)
        out = []
        for run in runs:
            if run[0].fresh:
                pair[1].restart()
            values = np.array([interval.row for interval in run])
            scored = pair[1].score(values, np.array([interval.start for interval in run]))
            out += [self._verdict(origin, pair[1], interval, values, scored, row) for row, interval in enumerate(run)]
        return out

    def _verdict(
        self, origin: str, detector: Detector, interval: Closed, values: NDArray[np.float64], scored: Any, row: int
    ) -> IntervalVerdict:
        ratio = float(scored.ratio[row])
        anomalous = ratio >= 1
        why = rows.change(self.info.series, values, scored, row) if anomalous else None
        cause = why.moved[0] if why and why.moved else None
        return rows.IntervalVerdict(
            id=rows.interval_id(self._machine, f"{self._stream}\0{origin}", interval.start),
            stream=self._stream,
            bundle=self._label,
            source=origin,
            time=interval.start,
            interval_s=self.info.series.interval_s,
            lines=interval.lines,
            anomalous=anomalous,
            score=rows.shown(detector.score_of(ratio)),
            p=rows.short(detector.p_of(ratio)),
            reasons=("volume",) if anomalous else (),
            fresh=bool(scored.new[row]) and anomalous,
            fingerprint=self._fingerprint(cause) if anomalous else "",
            explanation=why,
        )

    def _fingerprint(self, cause: rows.Moved | None) -> str:
        """The feature that moved most and where to, without host or time."""
        if cause is None:
            return rows.cause("together", "")
        up = cause.seen is not None and cause.seen > cause.expected
        return rows.cause(self._type_ids.get(cause.feature, cause.feature), "more" if up else "less")

    def snapshot(self) -> Any:
        """All state as plain values for msgpack."""
        return [[origin, pair[0].snapshot(), pair[1].snapshot()] for origin, pair in self._origins.items()]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave under the same bundle."""
        self._origins.clear()
        for origin, counter, detector in state:
            pair = self._pair(origin)
            pair[0].restore(counter)
            pair[1].restore(detector)
