"""Typed lines -> a verdict on every interval of a log: how much of what it writes, in event time (DESIGN §4).

Each origin (a log over its rotations) has intervals and a history of its own; `tally` counts, a small network says what
an interval should have held, `evidence` weighs what it did.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from foretail import arrays, rows
from foretail.deviations import windows_of
from foretail.errors import ConfigError
from foretail.evidence import Scale, Tails, Weigher
from foretail.graph import Pair
from foretail.schema import FIRST
from foretail.tally import Counter
from foretail.verdicts import IntervalVerdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.evidence import Weighed
    from foretail.schema import Pattern, Reading, VolumeInfo
    from foretail.tally import Closed, Lines
    from foretail.verdicts import Moved

ORIGINS_MAX = 64
OTHER = "other types"
TOTALS = (OTHER, "unknown lines", "lines", "bytes", "error lines")
KEYS = "distinct keys"
SILENCE = "seconds without a line"


def features(info: VolumeInfo, patterns: Sequence[Pattern]) -> tuple[str, ...]:
    """Names of the features, in order: templates of counted types, totals, keys, mean and p95 of each reading."""
    templates = {pattern.type_id: pattern.template for pattern in patterns}
    names = [templates.get(type_id, type_id) for type_id in info.types]
    names += [*TOTALS, *([KEYS] if info.keys else [])]
    return (*names, *(name for reading in info.readings for name in _both(reading)))


def _both(reading: Reading) -> tuple[str, str]:
    """The features of a reading; its unit is said where the template does not."""
    said = not reading.unit or re.search(rf"<number>\s*{re.escape(reading.unit)}(?![A-Za-z])", reading.name)
    name = reading.name if said else f"{reading.name} ({reading.unit})"
    return f"mean of {name}", f"p95 of {name}"


class Gauge:
    """How far each interval of one origin is from normal; the same intervals weigh the same however they are cut.

    Args:
        info: of the bundle.
        files: of the bundle.

    Raises:
        ConfigError: a file is missing or does not fit the manifest.
    """

    def __init__(self, info: VolumeInfo, files: Mapping[str, bytes]) -> None:
        series, f = info.series, len(info.series.columns)
        tails = Tails(arrays.read(files, "volume.stats.npy").astype(np.float64))
        mix = arrays.read(files, "volume.mix.npy").astype(np.float64)
        weights = series.calibration.weights
        limits = weights.get("features", 0.0), weights.get("silence", 0.0)
        if tails.centre.shape != (f,) or mix.shape != (f, f) or not np.isfinite(mix).all() or min(limits) <= 0:
            raise ConfigError(f"the files of the volume detector do not fit its {f} features; make the bundle again")
        self.info, self.silence_s = series, limits[1]
        self._scale = Scale(tails.centre, tails.scale, f - 2 * len(info.readings))
        self._parts = tails, self._scale, mix, limits, series.follow
        self._model = Pair(
            arrays.file(files, "volume.b1.tflite"),
            arrays.file(files, "volume.b64.tflite"),
            [((series.window, series.inputs), "float32")],
            [((f,), "float32")],
            "volume",
        )
        self._begin()

    def _begin(self) -> None:
        self._weigher = Weigher(*self._parts)
        self._last = np.zeros((0, len(self.info.columns)), np.float32)

    @property
    def accelerated(self) -> bool:
        """Whether XNNPACK took the model."""
        return self._model.accelerated

    def another(self) -> Gauge:
        """A gauge of the same bundle with a state of its own; the model is shared."""
        other = copy(self)
        other._begin()  # noqa: SLF001 (its own class)
        return other

    def restart(self) -> None:
        """Forget the last intervals, as after a gap; where features usually lie is kept."""
        self._last = np.zeros((0, len(self.info.columns)), np.float32)
        self._weigher.restart()

    def weigh(self, closed: Sequence[Closed], *, tell: bool = False) -> Weighed:
        """Judge intervals in order, none of which is `fresh` but perhaps the first; `tell` as of `Weigher.step`."""
        if closed and closed[0].fresh:
            self.restart()
        times = np.array([interval.start for interval in closed])
        z = self._scale.standard(np.array([interval.row for interval in closed]))
        history, windows = windows_of(self.info, z, times, self._last)
        self._last = history[-self.info.window :]
        expected = self.expected(windows).astype(np.float64)
        silence = np.array([interval.silence for interval in closed])
        return self._weigher.step(z, expected, silence, tell=tell)

    def expected(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the network says after (or of) windows: float32 `[n, C, inputs]` -> `[n, F]`, deviations."""
        return self._model(windows)[0]

    def snapshot(self) -> Any:
        """Plain values."""
        return [self._last.tobytes(), self._weigher.snapshot()]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave under the same bundle."""
        last, weigher = state
        self._last = np.frombuffer(last, np.float32).reshape(-1, len(self.info.columns)).copy()
        self._weigher.restore(weigher)


class Volume:
    """The volume detector of one stream; knows the time only from what it is told.

    Args:
        bundle: with a `volume` section.
        stream, machine: of every verdict.
        every: verdicts of all intervals are wanted, not of anomalous ones alone.

    Raises:
        ConfigError: the section is missing or its files do not fit.
    """

    def __init__(self, bundle: Bundle, *, stream: str, machine: str = "", every: bool = False) -> None:
        self._every = every
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
        self._templates = [pattern.template for pattern in bundle.patterns]
        self._type_ids = {pattern.template: pattern.type_id for pattern in bundle.patterns}
        self._read_in = {name: reading.type_id for reading in info.readings for name in _both(reading)}
        self._gauge = Gauge(info, bundle.files)
        self._origins: OrderedDict[str, tuple[Counter, Gauge]] = OrderedDict()
        self.evicted = 0

    def add(self, origin: str, lines: Lines) -> list[IntervalVerdict]:
        """Count the lines of one origin; verdicts of (anomalous) intervals that they close, in order of time."""
        if not len(lines.ids):
            return []
        pair = self._pair(origin)
        return self._judge(origin, pair[1], pair[0].add(lines))

    def advance(self, now: float) -> list[IntervalVerdict]:
        """Event time of the stream is `now`: silent origins close their intervals too."""
        out: list[IntervalVerdict] = []
        for origin, (counter, gauge) in self._origins.items():
            out += self._judge(origin, gauge, counter.advance(now))
        return sorted(out, key=lambda verdict: (verdict.time or 0.0, verdict.source))

    @property
    def counting(self) -> bool:
        """Some origin is being counted: time that passes without lines matters."""
        return any(not counter.idle for counter, _ in self._origins.values())

    def _pair(self, origin: str) -> tuple[Counter, Gauge]:
        if origin not in self._origins:
            if len(self._origins) >= ORIGINS_MAX:
                self._origins.popitem(last=False)
                self.evicted += 1
            counter = Counter(self.info, self._counted, self._vocabulary)
            self._origins[origin] = counter, self._gauge.another()
        self._origins.move_to_end(origin)
        return self._origins[origin]

    def _judge(self, origin: str, gauge: Gauge, closed: Sequence[Closed]) -> list[IntervalVerdict]:
        runs: list[list[Closed]] = []
        for interval in closed:
            if interval.fresh or not runs:
                runs.append([])
            runs[-1].append(interval)
        out = []
        for run in runs:
            weighed = gauge.weigh(run)
            wanted = range(len(run)) if self._every else np.flatnonzero(weighed.anomalous).tolist()
            out += [self._verdict(origin, gauge, run[row], weighed, row) for row in wanted]
        return out

    def _verdict(self, origin: str, gauge: Gauge, interval: Closed, weighed: Weighed, row: int) -> IntervalVerdict:
        ratio = float(weighed.ratio[row])
        anomalous, silent = ratio >= 1, bool(weighed.silent[row]) or not interval.lines
        why = cause = None
        if anomalous and silent:
            why = rows.silence(SILENCE, interval.silence, gauge.silence_s)
        elif anomalous:
            mostly = {OTHER: self._templates[interval.most - FIRST]} if interval.most else {}
            why = rows.moved(gauge.info.columns, interval.row, weighed, row, mostly)
            cause = why.moved[0] if why.moved else None
        return IntervalVerdict(
            id=rows.interval_id(self._machine, f"{self._stream}\0{origin}", interval.start),
            stream=self._stream,
            bundle=self._label,
            source=origin,
            time=interval.start,
            interval_s=self.info.series.interval_s,
            lines=interval.lines,
            anomalous=anomalous,
            score=rows.score(ratio),
            p=rows.p(ratio, gauge.info.calibration),
            reasons=("volume",) if anomalous else (),
            fresh=bool(weighed.new[row]) and anomalous,
            fingerprint=self._fingerprint(cause, silent=silent) if anomalous else "",
            type_id=self._type(cause) if cause else None,
            explanation=why,
        )

    def _fingerprint(self, cause: Moved | None, *, silent: bool) -> str:
        """The feature that moved most and where to, without host or time."""
        if silent or cause is None:
            return rows.cause(SILENCE if silent else "together", "")
        up = cause.seen is not None and cause.seen > cause.expected
        return rows.cause(self._type_ids.get(cause.mostly or cause.feature, cause.feature), "more" if up else "less")

    def _type(self, cause: Moved) -> str | None:
        """The type that a feature is about."""
        return self._type_ids.get(cause.mostly or cause.feature) or self._read_in.get(cause.feature)

    def snapshot(self) -> Any:
        """All state as plain values for msgpack."""
        return [[origin, pair[0].snapshot(), pair[1].snapshot()] for origin, pair in self._origins.items()]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave under the same bundle."""
        self._origins.clear()
        for origin, counter, gauge in state:
            pair = self._pair(origin)
            pair[0].restore(counter)
            pair[1].restore(gauge)
