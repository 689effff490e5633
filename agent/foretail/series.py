"""Pure: rows of numbers -> how far each is from what was expected -> one calibrated verdict a row (DESIGN §6).

A row speaks through its views, each a distance over all F features in units of normal data:

    model  |r|           what came against what the network expected from the rows around it
    drift  |mean of r|   the same, signed, over the last rows: many small errors to one side
    level  |z - b|       what came against where the feature usually lies; b follows slowly
    trend  |mean of z-b| the same over the last rows
    mix    |z - E(z | the other features)|: what came against what the others came to (three features and more)

and each distance is worth -log2 P(a normal row lies as far) bits, twice over:

    state  against the training data: says how long something is wrong
    fresh  against the last `memory` rows, whatever they were: says when something new begins

P has a Pareto tail (peaks over a threshold: Siffer et al., "Anomaly Detection in Streams with Extreme Value Theory",
KDD 2017). Bits of the views add. x is the larger of fresh, on a row stranger than all of the last `hold` rows, and of
state, capped just above the threshold: rows of a lasting incident stay anomalous and say no more than that, rows that
begin one stand out.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretail import arrays
from foretail.deviations import (
    CLIP,
    FRESH_TAIL,
    MIX_MIN,
    NORM,
    VIEWS,
    StateTail,
    Stats,
    log_distance,
    pareto,
    standard,
    tail_bits,
    windows_of,
)
from foretail.errors import ConfigError
from foretail.graph import Pair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from foretail.schema import SeriesInfo

HELD, CAP = 1.09, 1.1
"""State alone lifts x to HELD thresholds at most; what is fresh to CAP at least."""
SLACK = 0.1
"""Rates move by so much of themselves without anything being wrong."""
USUAL = 2.5
"""Deviations beyond which nothing is expected."""
LEARN = 0.1
"""A row over the threshold moves the baseline so much slower."""
EVERY = 5
"""Rows between two fits of the fresh tail."""
HISTORY_MIN = 50


@dataclass(frozen=True, slots=True)
class Scored:
    """Judged rows, columns of length n.

    Attributes:
        ratio: float64 `[n]`, x in thresholds: 1 or more is anomalous.
        bits: float64 `[n, V]`, state bits of each view.
        fresh: float64 `[n]`, fresh bits; `state`: their state counterpart.
        expected: float64 `[n, F]`, in the features' own units.
        low, high: float64 `[n, F]`: where a normal value would lie.
        shares: float64 `[n, F]`, how much each feature adds to the strongest view; sums to 1.
        distance: float64 `[n, V]`, log distances.
        new: bool `[n]`: anomalous, and stranger than the rows before it or the first after `hold` calm ones: an alarm.
    """

    ratio: NDArray[np.float64]
    bits: NDArray[np.float64]
    fresh: NDArray[np.float64]
    state: NDArray[np.float64]
    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    shares: NDArray[np.float64]
    distance: NDArray[np.float64]
    new: NDArray[np.bool_]

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """True where a row is anomalous."""
        return self.ratio >= 1.0


class Detector:
    """The state of one series: rows in, verdicts out; the same rows give the same verdicts however they are cut.

    Args:
        info: of the bundle.
        files: of the bundle.
        name: prefix of its files, `series` or `volume`.

    Raises:
        ConfigError: a file is missing or does not fit the manifest.
    """

    def __init__(self, info: SeriesInfo, files: Mapping[str, bytes], name: str) -> None:
        table, normal = (arrays.read(files, f"{name}.{part}.npy").astype(np.float64) for part in ("stats", "normal"))
        f = len(info.columns)
        mix = arrays.read(files, f"{name}.mix.npy").astype(np.float64) if f >= MIX_MIN else None
        if mix is not None and (mix.shape != (f, f) or not np.isfinite(mix).all()):
            raise ConfigError(f"{name}.mix.npy does not fit its {f} columns; make the bundle again")
        self.info, self._stats = info, Stats(table, mix)
        if (
            self._stats.centre.shape != (f,)
            or len(info.logged) != f
            or len(normal) != self._stats.count
            or normal.size < 4
        ):
            raise ConfigError(f"the files of the {name} detector do not fit its {f} columns; make the bundle again")
        self._model = Pair(
            arrays.file(files, f"{name}.b1.tflite"),
            arrays.file(files, f"{name}.b64.tflite"),
            [((info.window, info.inputs), "float32")],
            [((f,), "float32")],
            name,
        )
        self._normal = normal
        self._core = Core(info, self._stats, normal)
        self._logged = np.array(info.logged)
        self.restart()

    @property
    def accelerated(self) -> bool:
        """Whether XNNPACK took the model."""
        return self._model.accelerated

    def another(self) -> Detector:
        """A detector of the same bundle with a state of its own; the model is shared."""
        other = copy(self)
        other._core = Core(self.info, self._stats, self._normal)  # noqa: SLF001 (its own class)
        other.restart()
        return other

    def restart(self) -> None:
        """Forget the last rows, as after a gap; what is normal is kept."""
        self._last = np.zeros((0, len(self.info.columns)), np.float32)
        self._last_time = math.nan
        self._core.restart()

    def score(self, rows: NDArray[np.float64], times: NDArray[np.float64]) -> Scored:
        """Judge rows in order.

        Args:
            rows: float64 `[n, F]` in the features' own units; NaN = no value.
            times: float64 `[n]`, epoch seconds; NaN = unknown.
        """
        parts = []
        begin = 0
        for end in [*self._gaps(times), len(rows)]:
            if begin:
                self.restart()
            parts.append(self._score(rows[begin:end], times[begin:end]))
            begin = end
        return Scored(*(np.concatenate([getattr(part, field) for part in parts]) for field in _FIELDS))

    def _gaps(self, times: NDArray[np.float64]) -> list[int]:
        """Rows before which a gap lies."""
        if not len(times):
            return []
        steps = np.diff(times, prepend=self._last_time)
        if not self.info.gap_s:
            return []
        odd = np.flatnonzero((steps > self.info.gap_s) | (steps < 0)).tolist()
        if odd and odd[0] == 0:
            self.restart()
            odd = odd[1:]
        return [int(row) for row in odd]

    def _score(self, rows: NDArray[np.float64], times: NDArray[np.float64]) -> Scored:
        info, stats = self.info, self._stats
        z = standard(rows, stats, self._logged)
        history, windows = windows_of(info, z, times, self._last)
        self._last, self._last_time = history[-info.window :], float(times[-1]) if len(times) else self._last_time
        expected = self.expected(windows).astype(np.float64)
        return self._core.step(z, expected, self._logged)

    def expected(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the model expects after (or of) windows: float32 `[n, C, inputs]` -> `[n, F]`, deviations."""
        return self._model(windows)[0]

    def snapshot(self) -> dict[str, Any]:
        """All state as plain values for msgpack."""
        return {"last": self._last.tolist(), "time": self._last_time, "core": self._core.snapshot()}

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave under the same bundle."""
        self._last = np.array(state["last"], np.float32).reshape(-1, len(self.info.columns))
        self._last_time = state["time"]
        self._core.restore(state["core"])


_FIELDS = ("ratio", "bits", "fresh", "state", "expected", "low", "high", "shares", "distance", "new")


class Core:
    """Distances, tails and the running state behind `Detector`, without its model; the trainer calibrates with it.

    Args:
        info: of the series; its calibration's weights `state` and `fresh` are the two thresholds in bits.
        stats: of normal data.
        normal: float64 `[V, n]`, log distances of normal rows in order; NaN is left out. Empty: no tails yet.
    """

    def __init__(self, info: SeriesInfo, stats: Stats, normal: NDArray[np.float64]) -> None:
        self._info, self._stats, self._logged = info, stats, np.array(info.logged)
        weights = info.calibration.weights
        self._limit_state, self._limit_fresh = weights.get("state", math.inf), weights.get("fresh", math.inf)
        self._tails = [StateTail(view[np.isfinite(view)]) for view in normal] if normal.size else []
        self._ring = np.zeros((stats.count, info.memory), np.float32)
        kept = normal[:, -info.memory :] if normal.size else np.zeros((stats.count, 0))
        self._ring[:, : kept.shape[1]] = kept
        self._count = kept.shape[1]
        self._fits = [(math.inf, 1.0)] * stats.count
        self._since = EVERY  # fit before the first row
        self._recent = np.zeros(info.hold)
        self._rows = 0
        self._flagged = False
        self._calm = info.hold  # rows since the last anomalous one
        self.restart()

    def restart(self) -> None:
        """Forget the running means."""
        f = len(self._info.columns)
        self._drift, self._trend, self._base = np.zeros(f), np.zeros(f), np.zeros(f)

    def views(self, z: NDArray[np.float64], r: NDArray[np.float64], *, slow: float = 1.0) -> NDArray[np.float64]:
        """One row's views, unscaled and signed, `[V, F]`; moves the running means and the baseline."""
        info = self._info
        missing = np.isnan(z)
        z = np.where(missing, 0.0, z)
        level = np.where(missing, 0.0, z - self._base)
        r = np.where(missing, 0.0, r)
        self._drift += (r - self._drift) / info.smooth
        self._trend += (level - self._trend) / info.smooth
        self._base += slow * level / info.follow
        found = [self.steady(r, z - r), self._drift, level, self._trend]
        if self._stats.mix is not None:
            mixed = self._stats.mix @ np.clip(z, -CLIP, CLIP)
            found.append(self.steady(mixed, z - mixed))
        return np.array(found)

    def steady(self, error: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """Errors of logged counts in units of the noise of a count: log(1 + n) varies by about 1/sqrt(1 + n).

        Args:
            error: float64 `[..., F]`, deviations.
            expected: of the same shape, deviations: what was expected.
        """
        return error / self._noise(expected)

    def _noise(self, expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far a logged count strays by itself, in deviations; 1 for other features."""
        logs = np.clip(expected * self._stats.scale + self._stats.centre, 0.0, 30.0)
        return np.where(self._logged, np.sqrt(np.exp(-logs) + SLACK**2) / self._stats.scale, 1.0)

    def _normal(
        self, view: str, z: NDArray[np.float64], expected: NDArray[np.float64], base: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What the strongest view expected of a row, and how far a normal value lies from it; deviations `[F]`."""
        views = self._stats.views
        if view in {"level", "trend"}:
            return base, 2 * views[2]
        if view == "mix" and self._stats.mix is not None:
            held = np.nan_to_num(np.clip(z, -CLIP, CLIP))
            among = np.clip(held - self._stats.mix @ held, -USUAL, USUAL)  # what the others came to, as far as one saw
            return among, 2 * views[4] * self._noise(among)
        return expected, 2 * views[0] * self._noise(expected)

    def step(self, z: NDArray[np.float64], expected: NDArray[np.float64], logged: NDArray[np.bool_]) -> Scored:
        """Judge rows: deviations and what the model expected of them, float64 `[n, F]`."""
        n, f = z.shape
        info, stats, views = self._info, self._stats, self._stats.count
        ratio, fresh, state = np.zeros(n), np.zeros(n), np.zeros(n)
        bits, distance, shares, around = np.zeros((n, views)), np.zeros((n, views)), np.zeros((n, f)), np.zeros((n, f))
        width, fresh_rows = np.zeros((n, f)), np.zeros(n, np.bool_)
        for row in range(n):
            base = self._base.copy()
            seen = (
                np.abs(self.views(z[row], z[row] - expected[row], slow=LEARN if self._flagged else 1.0)) / stats.views
            )
            distance[row] = log_distance(seen, stats)
            bits[row], fresh[row] = self.bits(distance[row])
            new = fresh[row] > self._recent.max()
            self._recent[self._rows % len(self._recent)] = fresh[row]
            self._rows += 1
            state[row] = self.state(bits[row])
            ratio[row] = min(state[row] / self._limit_state, HELD)
            if new:
                novel = fresh[row] / self._limit_fresh
                ratio[row] = max(ratio[row], novel if novel < 1 else CAP * novel)
            self._calm += 1
            if ratio[row] >= 1:
                fresh_rows[row] = self._calm > info.hold or ratio[row] >= CAP
                self._calm = 0
            self._flagged = bool(ratio[row] >= 1)
            strongest = int(np.argmax(bits[row]))
            each, own = seen[strongest], stats.excess[strongest]
            power = (tail_bits(each, own) if own[0] else each) ** NORM
            power = power * (0.25 + seen[2]) ** 2  # who left its own place moved, not who stayed while others did
            shares[row] = power / max(power.sum(), 1e-300)
            around[row], width[row] = self._normal(VIEWS[strongest], z[row], expected[row], base)
        return Scored(
            ratio,
            bits,
            fresh,
            state,
            self._values(around, logged),
            self._values(around - width, logged),
            self._values(around + width, logged),
            shares,
            distance,
            fresh_rows,
        )

    def state(self, bits: NDArray[np.float64]) -> Any:
        """What the views' bits `[..., V]` come to: their sum."""
        return bits.sum(axis=-1)

    def bits(self, distance: NDArray[np.float64]) -> tuple[list[float], float]:
        """State bits of each view and fresh bits of one row's log distances `[V]`, which then join the history."""
        values = distance.tolist()
        state = (
            [tail.bits(d) for tail, d in zip(self._tails, values, strict=True)] if self._tails else [0.0] * len(values)
        )
        return state, self._fresh(distance)

    def _fresh(self, distance: NDArray[np.float64]) -> float:
        """Bits against the last rows; the row then joins them."""
        self._since += 1
        if self._since >= EVERY:
            self._since = 0
            if self._count >= HISTORY_MIN:
                past = self._ring[:, : min(self._count, self._ring.shape[1])]
                self._fits = [pareto(view, FRESH_TAIL) for view in past]
        total = 0.0
        for (u, index), d in zip(self._fits, distance.tolist(), strict=True):
            if d > u:
                total += -math.log2(FRESH_TAIL) + (d - u) / index / math.log(2)
        self._ring[:, self._count % self._ring.shape[1]] = distance
        self._count += 1
        return total

    def _values(self, z: NDArray[np.float64], logged: NDArray[np.bool_]) -> NDArray[np.float64]:
        values = z * self._stats.scale + self._stats.centre
        values[:, logged] = np.maximum(np.expm1(np.minimum(values[:, logged], 700.0)), 0.0)
        return np.asarray(values)

    def snapshot(self) -> dict[str, Any]:
        """All state as plain values."""
        return {
            "means": [a.tolist() for a in (self._drift, self._trend, self._base)],
            "ring": self._ring.tobytes(),
            "count": self._count,
            "fits": [list(fit) for fit in self._fits],
            "since": self._since,
            "recent": self._recent.tobytes(),
            "rows": self._rows,
            "flagged": bool(self._flagged),
            "calm": self._calm,
        }

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave."""
        self._drift, self._trend, self._base = (np.array(a) for a in state["means"])
        self._ring = np.frombuffer(state["ring"], np.float32).reshape(self._ring.shape).copy()
        self._count, self._since, self._rows = state["count"], state["since"], state["rows"]
        self._fits = [(u, index) for u, index in state["fits"]]
        self._recent = np.frombuffer(state["recent"]).copy()
        self._flagged, self._calm = state["flagged"], state["calm"]
