"""Pure: deviations of rows from what is normal, joined to distances, and what distances are worth in bits.

`foretail.series` says what the views and the two kinds of bits are for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from foretail.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail.schema import SeriesInfo

VIEWS = ("model", "drift", "level", "trend", "mix")
CLIP = 8.0
"""Inputs of the network lie within so many deviations."""
MIX_MIN = 3
"""Features from which on the mix speaks."""
NORM = 4
"""Features join as the 4-norm: between their mean, which one feature cannot move, and their maximum."""
FLOOR = 0.02
"""Distances below this share of the normal one are alike."""
STATE_TAIL, FRESH_TAIL = 0.1, 0.02
"""Share of normal distances that the Pareto tail is fitted to."""
PRIOR, PRIOR_ROWS = 0.1, 3
"""The tail index before any excess was seen, and how many excesses that is worth."""
_DAY_S, _WEEK_S = 86_400.0, 604_800.0


class Stats:
    """What is normal of each feature: rows of `NAME.stats.npy`.

    Attributes:
        centre, scale: float64 `[F]` of the (logged) training values.
        views: float64 `[V, F]`: root mean square of each view on rows the model was not fitted on.
        mix: float64 `[F, F]`: from deviations to what each feature is beyond the others; None = fewer than 3 features.
        excess: float64 `[V, F]`: of views whose features each have a tail of their own, the mean excess beyond the
            last tenth, in units of where that begins (then in `views`): a tight feature must not wait for a wild one;
            0 = the features of the view join in a norm.
    """

    def __init__(self, table: NDArray[np.float64], mix: NDArray[np.float64] | None = None) -> None:
        self.mix = mix
        if table.ndim != 2 or len(table) != 2 + 2 * self.count or not np.isfinite(table).all():
            raise ConfigError("the statistics of the series are damaged; fetch the bundle again")
        self.centre, self.scale, self.views = table[0], table[1], table[2 : 2 + self.count]
        self.excess = table[2 + self.count :]
        if (self.scale <= 0).any() or (self.views <= 0).any() or (self.excess < 0).any():
            raise ConfigError("the statistics of the series are damaged; fetch the bundle again")

    @property
    def count(self) -> int:
        """Views: V."""
        return len(VIEWS) if self.mix is not None else len(VIEWS) - 1


class StateTail:
    """-log2 P against training data: as counted up to the last tenth, a Pareto tail beyond."""

    def __init__(self, normal: NDArray[np.floating[Any]]) -> None:
        self._sorted = np.sort(normal)
        n = len(self._sorted)
        self._p = np.log2((n + 1) / (n - np.arange(n)))
        self._u, self._index = pareto(self._sorted, STATE_TAIL)

    def bits(self, distance: float) -> float:
        """Bits of a log distance; never falls as the distance grows."""
        if distance > self._u:
            return -math.log2(STATE_TAIL) + (distance - self._u) / self._index / math.log(2)
        return min(float(np.interp(distance, self._sorted, self._p, left=0.0)), -math.log2(STATE_TAIL))


def pareto(values: NDArray[np.floating[Any]], share: float) -> tuple[float, float]:
    """Where the tail begins and its index: the mean excess of logs (Hill), drawn to PRIOR while excesses are few."""
    u = float(np.quantile(values, 1 - share))
    excess = values[values > u] - u
    return u, float((excess.sum() + PRIOR * PRIOR_ROWS) / (len(excess) + PRIOR_ROWS))


def fresh_limit(alpha: float, views: int) -> float:
    """Fresh bits that fewer than a share of alpha of rows reach, whatever the data.

    Each view has b bits with probability 2^-b. A sum of x needs one of V views to have x/V, so that
    P(sum >= x) <= V * 2^(-x/V), however the views depend on each other.
    """
    return views * math.log2(views / alpha)


def tail_bits(view: NDArray[np.float64], excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits of each feature of a scaled view: float64 `[..., F]`."""
    beyond = np.maximum(view - 1.0, 0.0) / excess / math.log(2)
    return np.asarray(-math.log2(STATE_TAIL) * np.minimum(view, 1.0) + beyond)


def log_distance(views: NDArray[np.float64], stats: Stats) -> NDArray[np.float64]:
    """Scaled views `[..., V, F]` to log distances `[..., V]`, float32 as the history keeps them.

    A view whose features have tails of their own counts by its strangest feature, in bits: linear up to where the
    feature's last tenth begins, then as an exponential tail has them.
    """
    joined = np.mean(views**NORM, axis=-1) ** (1 / NORM)
    for view in range(stats.count):
        if stats.excess[view, 0]:
            joined[..., view] = tail_bits(views[..., view, :], stats.excess[view]).max(axis=-1)
    return np.asarray(np.log(joined + FLOOR).astype(np.float32), np.float64)


def standard(rows: NDArray[np.float64], stats: Stats, logged: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Values -> deviations from their centre, float64 `[n, F]`; NaN stays."""
    values = rows.astype(np.float64)
    values[:, logged] = np.log1p(np.maximum(values[:, logged], 0.0))
    return np.asarray((values - stats.centre) / stats.scale)


def calendar(kind: str, times: NDArray[np.float64]) -> NDArray[np.float32]:
    """Where in the day (and week) each time lies, on circles: float32 `[n, 0 | 2 | 4]`; NaN times lie nowhere."""
    periods = {"none": (), "day": (_DAY_S,), "week": (_DAY_S, _WEEK_S)}[kind]
    angles = [2 * np.pi * (times % period) / period for period in periods]
    columns = [wave(angle) for angle in angles for wave in (np.sin, np.cos)]
    return np.nan_to_num(np.array(columns, np.float32).reshape(len(columns), len(times)).T)


def windows_of(
    info: SeriesInfo, z: NDArray[np.float64], times: NDArray[np.float64], last: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The rows as the network sees them, with `last` before them, and a window for each new row.

    A missing value is the one before it. Before the first row lies the centre. A forecaster's window ends before its
    row; its calendar is that of the row after each.

    Returns:
        float32 `[m + n, F]`, float32 `[n, C, inputs]`.
    """
    n, f, c = len(z), z.shape[1], info.window
    clipped = np.clip(z, -CLIP, CLIP).astype(np.float32)
    history = np.concatenate([last, clipped])
    for row, column in np.argwhere(np.isnan(history)):
        history[row, column] = history[row - 1, column] if row else 0.0
    padded = np.concatenate([np.zeros((max(0, c + 1 - len(last)), f), np.float32), history])
    first = len(padded) - n  # place of the first new row
    starts = first + np.arange(n) - c + (0 if info.forecast else 1)
    windows = padded[starts[:, None] + np.arange(c)]
    if info.calendar == "none":
        return history, windows
    step = info.interval_s or (float(np.nanmedian(np.diff(times))) if n > 1 else 0.0)
    when = times[:, None] + step * (np.arange(c) - c + 1)
    marks = calendar(info.calendar, when.ravel()).reshape(n, c, -1)
    return history, np.concatenate([windows, marks], axis=2)
