"""Pure: what an interval of a log held -> how far that is from normal, in bits -> one calibrated verdict an interval.

Each of the F features, taken as log(1 + n), speaks three times, signed and in units of the noise of a count:

    model  what came against what the network said of the interval
    level  what came against where the feature usually lies; that baseline follows slowly
    mix    what came against what the other features came to

and once more over two intervals, by the lesser deviation of the two to that side: a fault that lasts stands out from
what comes and goes. A deviation is worth -log2 P(a normal one is as large), with an exponential tail beyond the last
fiftieth of normal data (peaks over a threshold: Siffer et al., KDD 2017); so a tight feature need not wait for a wild
one. The strongest of all is the evidence of the interval; beside it stands the longest silence. Each has a threshold
of its own, together they spend one budget, counted in incidents: anomalous intervals with at most HOLD calm ones
between them are one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretail.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

VIEWS = ("model", "level", "mix")
SPANS = 2
"""Each view speaks of the interval alone, and of it and the one before."""
TAIL = 0.02
"""Share of normal intervals beyond which a tail is fitted."""
BEGIN_MIN = 0.5
"""A tail begins no nearer than this, in units of the noise of a count: one line more or less is nothing."""
SLACK = 0.1
"""Rates move by so much of themselves without anything being wrong."""
CLIP = 8.0
"""A feature that is further off does not distort what the others came to even more."""
FOLLOW_CLIP = 2.0
"""Deviations by which an interval moves the baseline at most: a fault must not become normal."""
USUAL = 2.5
"""Deviations beyond which nothing is said to have been expected."""
HOLD = 5
"""Calm intervals after which an anomalous one begins another incident."""
NEAR = 1e-6
"""Deviations that differ by less, in units of where the tail begins, are the same."""
_LN2 = math.log(2)


class Tails:
    """What is normal of each feature: the rows of `NAME.stats.npy`, float64 `[2 + 6 S, F]`, S = SPANS * len(VIEWS).

    Attributes:
        centre, scale: float64 `[F]` of the logged training values.
        begin, excess, usual: float64 `[S, 2, F]`, upwards and downwards: where the tail begins, its mean excess in
            units of that, and the bits of a deviation just there: few where many are (an interval without a line).
    """

    def __init__(self, table: NDArray[np.float64]) -> None:
        if table.ndim != 2 or len(table) != 2 + 6 * SPANS * len(VIEWS) or not np.isfinite(table).all():
            raise ConfigError("the statistics of the volume detector are damaged; fetch the bundle again")
        self.centre, self.scale = table[0], table[1]
        self.begin, self.excess, self.usual = table[2:].reshape(3, SPANS * len(VIEWS), 2, table.shape[1])
        if (self.scale <= 0).any() or (self.begin <= 0).any() or (self.excess <= 0).any() or (self.usual < 0).any():
            raise ConfigError("the statistics of the volume detector are damaged; fetch the bundle again")

    def bits(self, sides: NDArray[np.float64]) -> NDArray[np.float64]:
        """Deviations to either side, `[S, 2, n, F]` (see `sides`) -> bits of each, of the same shape."""
        far = sides / self.begin[:, :, None]
        beyond = -math.log2(TAIL) + (far - 1.0) / (self.excess[:, :, None] * _LN2)
        return np.asarray(np.where(far > 1.0 + NEAR, beyond, self.usual[:, :, None] * np.minimum(far, 1.0)))


class Scale:
    """Deviations in units of noise.

    Args:
        centre, scale: float64 `[F]` of the logged values.
        counts: features from this one on are no counts (means of readings): their unit is the deviation itself, and at
            least SLACK: a percentile of small whole numbers lies on one value until it does not.
    """

    def __init__(self, centre: NDArray[np.float64], scale: NDArray[np.float64], counts: int) -> None:
        self._centre, self._scale = centre, scale
        self._counts = np.arange(len(centre)) < counts

    def noise(self, expected: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far a feature strays by itself where `expected` deviations were expected; of the same shape."""
        logs = np.clip(expected * self._scale + self._centre, 0.0, 30.0)
        own = np.maximum(1.0, SLACK / self._scale)
        return np.asarray(np.where(self._counts, np.sqrt(np.exp(-logs) + SLACK**2) / self._scale, own))

    def standard(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values -> deviations, float64 `[n, F]`; NaN stays."""
        return np.asarray((np.log1p(np.maximum(rows, 0.0)) - self._centre) / self._scale)

    def values(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Deviations -> values."""
        return np.asarray(np.maximum(np.expm1(np.minimum(z * self._scale + self._centre, 700.0)), 0.0))

    def views(
        self, z: NDArray[np.float64], expected: NDArray[np.float64], base: NDArray[np.float64], mix: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """All views of n intervals.

        Args:
            z: float64 `[n, F]`, deviations; NaN = no value, which never deviates.
            expected: float64 `[n, F]`: what the network said.
            base: float64 `[n, F]`: the baseline of each.
            mix: float64 `[F, F]`: from deviations to what each feature is beyond the others.

        Returns:
            Signed deviations in units of noise and what each view expected, float64 `[V, n, F]` both.
        """
        missing = np.isnan(z)
        level = np.where(missing, 0.0, z - base)
        held = np.clip(level, -CLIP, CLIP)
        beyond = held @ mix.T
        others = base + np.clip(held - beyond, -CLIP, CLIP)
        around = np.stack([np.where(missing, 0.0, expected), base, others])
        errors = np.stack([np.where(missing, 0.0, z - expected), level, np.where(missing, 0.0, beyond)])
        return np.asarray(errors / self.noise(around)), around


def sides(views: NDArray[np.float64], before: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each interval lies to either side, alone and together with the one before it.

    Args:
        views: float64 `[V, n, F]`, signed.
        before: float64 `[V, 2, F]`: the interval before the first, upwards and downwards.

    Returns:
        float64 `[S, 2, n, F]`, at least 0.
    """
    alone = np.maximum(np.stack([views, -views], axis=1), 0.0)
    last = np.concatenate([before[:, :, None], alone[:, :, :-1]], axis=2)
    return np.concatenate([alone, np.minimum(alone, last)])


@dataclass(frozen=True, slots=True)
class Weighed:
    """Judged intervals, columns of length n; the fields of `foretail.series.Scored` that people see.

    Attributes:
        ratio: float64 `[n]`: evidence in thresholds, 1 or more is anomalous.
        silent: bool `[n]`: the silence says more than the features.
        bits: float64 `[n, V]`: of each view.
        expected, low, high: float64 `[n, F]`, in the features' own units: where a normal value would lie.
        shares: float64 `[n, F]`: how much each feature adds to the strongest view; sums to 1.
        new: bool `[n]`: the first of an incident.
    """

    ratio: NDArray[np.float64]
    silent: NDArray[np.bool_]
    bits: NDArray[np.float64]
    expected: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    shares: NDArray[np.float64]
    new: NDArray[np.bool_]

    @property
    def anomalous(self) -> NDArray[np.bool_]:
        """True where an interval is anomalous."""
        return self.ratio >= 1.0


class Weigher:
    """The running state behind the verdicts of one origin.

    Args:
        tails: of normal data.
        scale: of the features.
        mix: float64 `[F, F]`.
        limits: thresholds of the features' evidence in bits and of silence in seconds.
        follow: intervals of the baseline that follows.
    """

    def __init__(
        self, tails: Tails, scale: Scale, mix: NDArray[np.float64], limits: tuple[float, float], follow: int
    ) -> None:
        self._tails, self._scale, self._mix, self._limits, self._follow = tails, scale, mix, limits, follow
        self._base = np.zeros(len(tails.centre))
        self._calm = HOLD + 1
        self.restart()

    def restart(self) -> None:
        """Forget the interval before, as after a gap; the baseline is kept."""
        self._before = np.zeros((len(VIEWS), 2, len(self._base)))

    def step(
        self, z: NDArray[np.float64], expected: NDArray[np.float64], silence: NDArray[np.float64], *, tell: bool = False
    ) -> Weighed:
        """Judge n intervals in order.

        Args:
            z: float64 `[n, F]`, deviations.
            expected: float64 `[n, F]`: what the network said of them.
            silence: float64 `[n]`: longest time without a line that ended in each or lasts at its end, seconds.
            tell: what was expected is wanted of every interval; otherwise of anomalous ones alone.
        """
        base = self.baseline(z)
        views, around = self._scale.views(z, expected, base, self._mix)
        return self.weigh(views, around, silence, tell=tell)

    def weigh(
        self,
        views: NDArray[np.float64],
        around: NDArray[np.float64],
        silence: NDArray[np.float64],
        *,
        tell: bool = False,
    ) -> Weighed:
        """Judge n intervals by their views and what these expected, float64 `[V, n, F]` (see `Scale.views`)."""
        both = sides(views, self._before)
        bits = self._tails.bits(both)
        if bits.shape[2]:
            self._before = both[: len(VIEWS), :, -1]
        most = bits.max(axis=(1, 3)).reshape(SPANS, len(VIEWS), -1).max(axis=0).T
        loud, quiet = most.max(axis=1, initial=0.0) / self._limits[0], silence / self._limits[1]
        ratio = np.maximum(loud, quiet)
        n, f = len(ratio), len(self._base)
        new = np.zeros(n, np.bool_)
        odd = np.flatnonzero(ratio >= 1.0)
        last = -self._calm - 1
        for row in odd.tolist():
            new[row] = row - last > HOLD
            last = row
        self._calm = n - 1 - last
        low, high, expected, shares = (np.zeros((n, f)) for _ in range(4))
        rows = np.arange(n) if tell else odd
        if len(rows):
            bits = bits.reshape(SPANS, len(VIEWS), *bits.shape[1:]).max(axis=0)
            strongest = np.argmax(most[rows], axis=1)
            usual = around[VIEWS.index("level"), rows]
            middle = np.clip(around[strongest, rows], usual - USUAL, usual + USUAL)
            room = self._tails.begin[strongest].transpose(1, 0, 2) * self._scale.noise(middle)
            moved = 1.0 + bits[VIEWS.index("level"), :, rows].max(axis=1)  # who stayed while others left did not
            power = (bits[strongest, :, rows].max(axis=1) * moved) ** 2
            shares[rows] = power / np.maximum(power.sum(axis=1, keepdims=True), 1e-300)
            expected[rows] = self._scale.values(middle)
            low[rows], high[rows] = self._scale.values(middle - room[1]), self._scale.values(middle + room[0])
        return Weighed(ratio, quiet > loud, most, expected, low, high, shares, new)

    def baseline(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where each feature usually lies when each interval comes, float64 `[n, F]`; it then follows."""
        out = np.empty_like(z)
        base = self._base
        for row, values in enumerate(z):
            out[row] = base
            moved = np.clip(values - base, -FOLLOW_CLIP, FOLLOW_CLIP) / self._follow
            base = base + np.where(np.isnan(moved), 0.0, moved)
        self._base = base
        return out

    def snapshot(self) -> list[Any]:
        """Plain values."""
        return [self._base.tobytes(), self._before.tobytes(), self._calm]

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave."""
        base, before, self._calm = state
        self._base = np.frombuffer(base).copy()
        self._before = np.frombuffer(before).reshape(self._before.shape).copy()
