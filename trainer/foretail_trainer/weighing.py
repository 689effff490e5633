"""Intervals of a normal log -> a fitted, calibrated and exported volume detector (`foretail.evidence`)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace

from foretail import arrays
from foretail.deviations import windows_of
from foretail.errors import ConfigError
from foretail.evidence import BEGIN_MIN, CLIP, HOLD, NEAR, TAIL, VIEWS, Scale, Tails, Weighed, Weigher, sides
from foretail_trainer import forecast, reckoning
from foretail_trainer.quantiles import drift, tail
from foretail_trainer.reckoning import BLOCKS, mixing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from foretail.schema import SeriesInfo
    from foretail_trainer.forecast import Shape
    from foretail_trainer.reckoning import Options

SILENCE_SHARE = 0.25
"""Of the budget, for silence; what it leaves the features may spend."""
SILENCE_SLACK = 1.05
"""Timers are no more exact than this: the silence between two runs of a job is the same every time."""
EXCESS_PRIOR, PRIOR_INTERVALS = 0.25, 10
"""The mean excess before any was seen (a normal distribution's), and how many excesses that is worth."""
PEAKS = 10
"""Incidents that an extrapolated tail is fitted to."""
STRANGE_MAX = 2
"""Incidents that may be set aside as no part of normal: what came three times is normal, however strange."""
STRANGE_P = 0.05
"""Share of normal logs whose highest peak would be set aside."""
SLOPE_MIN = 2 / math.log(2)
"""Bits that make a peak e times rarer, at least: one should halve its rate, but tails are fitted to few values."""
WINDOW = 8
"""Intervals that the network sees."""
PARTS, PARTS_INTERVALS = 60, 200_000
"""Parts of the log, each judged by tails of the rest: small ones, for a tail rests on few intervals, and leaving out a
fifth of them would judge by a worse one than the agent has; of many intervals fewer parts do, and cost less."""
CHUNK = 4096


class Intervals(NamedTuple):
    """What a normal log held: float64 `[n, F]` features, `[n]` starts in epoch seconds, `[n]` silences in seconds.

    Attributes:
        counts: features from this one on are means and quantiles of readings.
    """

    rows: NDArray[np.float64]
    times: NDArray[np.float64]
    silence: NDArray[np.float64]
    counts: int


class Fitted(NamedTuple):
    """A detector ready for a bundle: see `foretail_trainer.volume.FittedVolume`.

    Attributes:
        aside: training intervals, the highest of their incidents, that no threshold rests on.
    """

    info: SeriesInfo
    files: dict[str, bytes]
    weighed: Weighed
    agreement: float
    aside: NDArray[np.intp]


class _Limits(NamedTuple):
    """Thresholds in bits and in seconds, whether the first is extrapolated, and what they do not rest on.

    Attributes:
        aside: rows, see `Fitted`.
        usual, calm: bool `[n]`, False for all rows of their incidents, and for those near them too.
    """

    evidence: float
    silence: float
    extrapolated: bool
    aside: NDArray[np.intp]
    usual: NDArray[np.bool_]
    calm: NDArray[np.bool_]


def fit(
    normal: Intervals, columns: Sequence[str], options: Options, progress: Callable[[str], None] | None = None
) -> Fitted:
    """Fit, calibrate, export and gate.

    Args:
        normal: intervals of a normal log.
        columns: F names.
        options: of the user; `interval_s` is that of the rows.
        progress: told what happens.

    Raises:
        ConfigError: the int8 model does not decide like the float model, or an option cannot be.
    """
    f = normal.rows.shape[1]
    tell = progress or (lambda _: None)
    options = options._replace(window=options.window or WINDOW)
    info, shape = reckoning.described(normal.rows, normal.times, tuple(columns), (True,) * f, None, options)
    logs = np.log1p(normal.rows)
    centre = np.nan_to_num(np.nanmean(np.vstack([logs, np.zeros((1, f))]), axis=0))
    spread = np.nan_to_num(np.nanstd(logs, axis=0))
    spread = np.where(spread > 1e-9, spread, 1.0)
    scale = Scale(centre, spread, normal.counts)
    z = scale.standard(normal.rows)
    history, windows = windows_of(info, z, normal.times, np.zeros((0, f), np.float32))
    views, around = _crossfit(shape, scale, z, history, windows, options, tell)
    apart, mix = sides(views, np.zeros((len(VIEWS), 2, f))), mixing(z)
    parts = Tails(_table(centre, spread, apart)), scale, mix, info.follow
    found = _limits(views, around, normal, parts, options)
    table = _table(centre, spread, apart[:, :, found.usual])
    tails, limits = Tails(table), (found.evidence, found.silence)
    weigher = Weigher(tails, scale, mix, limits, info.follow)
    weighed = _weighed(weigher, views, around, normal.silence, tell=True)
    info = _calibrated(info, weighed.ratio[found.calm], limits, found.extrapolated, options.alpha)
    tell("fitting on all intervals")
    fitted = forecast.fit(shape, windows, history, options.plan, seed=options.seed)
    files = forecast.files(fitted, "volume")
    both = [forecast.expected(fitted, windows), forecast.runtime(fitted, files, "volume")(windows)[0]]
    agreement = _agreement(Weigher, (tails, scale, mix, limits, info.follow), z, both, normal.silence)
    if agreement < reckoning.AGREE_MIN:
        raise ConfigError(
            f"the int8 {info.model} of the volume detector decides like the float model on {agreement:.2%} of "
            f"intervals ({reckoning.AGREE_MIN:.1%} wanted): choose another model"
        )
    files["volume.golden.npy"] = reckoning.golden(fitted, files, "volume")
    files["volume.stats.npy"] = arrays.written(table)
    files["volume.mix.npy"] = arrays.written(mix)
    return Fitted(info, files, weighed, agreement, found.aside)


def peaks(x: NDArray[np.float64], hold: int = HOLD) -> NDArray[np.intp]:
    """Where each incident is highest, the highest first: a value within `hold` of a higher one belongs to it."""
    taken = np.zeros(len(x) + 2 * hold, np.bool_)
    found = []
    for row in np.argsort(-x, kind="stable").tolist():
        if not taken[row : row + 2 * hold + 1].any():
            found.append(row)
        taken[row + hold] = True
    return np.array(found, np.intp)


def strange(evidence: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Incidents that the others of a log cannot account for: a fault in the log must not deafen the detector.

    The strongest intervals make incidents as in the agent, at most STRANGE_MAX. Each of these reaches beyond what an
    exponential tail of the next PEAKS, as uncertain as so few leave its slope (the predictive distribution is a
    Pareto's), would exceed in one log of 1 / STRANGE_P, and none of those is half as high.

    Args:
        evidence: float64 `[n]`.

    Returns:
        The intervals of each; the one of most intervals that is possible.
    """
    order = np.argsort(-evidence, kind="stable")[: max(1, int(len(evidence) * TAIL))]  # what lasts longer is usual
    for number in range(len(order), 0, -1):
        rows = np.sort(order[:number])
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > HOLD) + 1)
        if len(runs) > STRANGE_MAX:
            continue
        least, others = min(float(evidence[run].max()) for run in runs), outside(runs, len(evidence), HOLD)
        if least <= 2 * evidence[others].max(initial=0.0):
            continue
        rest = evidence[others][peaks(evidence[others])]
        m = min(PEAKS, len(rest) - 1)
        if m < PEAKS // 2:
            return []
        excess = max(float((rest[:m] - rest[m]).mean()), SLOPE_MIN)
        if least > rest[m] + excess * m * ((m / STRANGE_P) ** (1 / m) - 1):
            return runs
    return []


def outside(runs: Sequence[NDArray[np.intp]], n: int, near: int) -> NDArray[np.bool_]:
    """Intervals that lie in none of these incidents nor as `near` to one: bool `[n]`."""
    found = np.ones(n, np.bool_)
    for run in runs:
        found[max(int(run[0]) - near, 0) : int(run[-1]) + near + 1] = False
    return found


def limit(tops: NDArray[np.float64], wanted: float) -> tuple[float, bool]:
    """The level that `wanted` incidents exceed.

    Args:
        tops: peaks, falling.
        wanted: how many; below one the level lies on an exponential tail beyond them all.

    Returns:
        The level, and whether it is extrapolated.
    """
    if wanted >= 1:
        place = min(wanted, len(tops)) - 1
        below = tops[min(int(place) + 1, len(tops) - 1)]
        level = tops[int(place)] + (below - tops[int(place)]) * (place - int(place))
        return float(np.nextafter(level, math.inf)), False
    base = tops[min(PEAKS, len(tops) - 1)]
    excess = max(float((tops[:PEAKS] - base).mean()), 0.05 * float(tops[0]), 1e-9)
    return float(tops[0]) + excess * math.log(1 / max(wanted, 1e-12)), True


def silence_limit(silence: NDArray[np.float64], alpha: float, step: float) -> float:
    """Seconds without a line that are exceeded so often; half an interval at least.

    Args:
        silence: float64 `[n]`: of each interval.
        alpha: incidents an interval.
        step: seconds of an interval.
    """
    tops = silence[peaks(silence)]
    return max(limit(tops, alpha * (len(silence) + 1))[0] * SILENCE_SLACK, step / 2)


def _calibrated(
    info: SeriesInfo,
    ratio: NDArray[np.float64],
    limits: tuple[float, float],
    extrapolated: bool,
    alpha: float,
) -> SeriesInfo:
    """The section of a volume detector with its calibration.

    Args:
        info: what `described` gave.
        ratio: float64 `[n]`: of the training intervals.
        limits: thresholds of evidence in bits and of silence in seconds.
        extrapolated: the first of them lies beyond what was seen.
        alpha: incidents an interval.
    """
    calibration = replace(
        info.calibration,
        alpha=alpha,
        threshold=limits[0],
        extrapolated=extrapolated,
        tail=tail(ratio * limits[0]),
        weights={"features": limits[0], "silence": limits[1]},
        drift=drift(ratio, np.array_split(np.arange(len(ratio)), BLOCKS)),
    )
    return replace(info, calibration=calibration)


def _table(centre: NDArray[np.float64], spread: NDArray[np.float64], both: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows of `Tails` from deviations to either side, `[S, 2, n, F]`."""
    found = np.stack([_tails(both[:, side]) for side in (0, 1)], axis=2)
    return np.vstack([centre[None], spread[None], found.reshape(-1, both.shape[-1])])


def _tails(side: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of `[S, n, F]`: where the last fiftieth begins, its mean excess in units of that, the bits there: `[3, S, F]`."""
    begin = np.maximum(np.quantile(side, 1 - TAIL, axis=1), BEGIN_MIN)
    over = np.maximum(side / begin[:, None] - 1.0, 0.0)
    excess = (over.sum(axis=1) + EXCESS_PRIOR * PRIOR_INTERVALS) / ((over > NEAR).sum(axis=1) + PRIOR_INTERVALS)
    there = (side >= begin[:, None] * (1 - NEAR)).mean(axis=1)
    return np.stack([begin, excess, -np.log2(np.maximum(there, TAIL))])


def _crossfit(
    shape: Shape,
    scale: Scale,
    z: NDArray[np.float64],
    history: NDArray[np.float32],
    windows: NDArray[np.float32],
    options: Options,
    tell: Callable[[str], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Views of each block by network, centre and mix of the others, and what they expected: `[V, n, F]` both."""
    n, f = z.shape
    views, around = np.empty((len(VIEWS), n, f)), np.empty((len(VIEWS), n, f))
    for block, rest, expected in reckoning.held_out(shape, windows, history, options, tell):
        base = np.nan_to_num(np.nanmean(np.vstack([z[rest], np.zeros((1, f))]), axis=0))
        mix = mixing(np.clip(np.nan_to_num(z[rest] - base), -CLIP, CLIP))
        views[:, block], around[:, block] = scale.views(z[block], expected, np.broadcast_to(base, (len(block), f)), mix)
    return views, around


def _limits(
    views: NDArray[np.float64],
    around: NDArray[np.float64],
    normal: Intervals,
    parts: tuple[Tails, Scale, NDArray[np.float64], int],
    options: Options,
) -> _Limits:
    """Thresholds of evidence and of silence that together spend the budget."""
    n, step = len(normal.silence), options.interval_s
    quiet = silence_limit(normal.silence, options.alpha * SILENCE_SHARE, step)
    spent = int((normal.silence[peaks(normal.silence)] > quiet).sum())
    left = max(options.alpha * (n + 1) - spent, options.alpha * (n + 1) * (1 - SILENCE_SHARE))
    evidence = _evidence(views, around, parts, np.ones(n, np.bool_))
    runs = strange(evidence)
    usual, calm = outside(runs, n, 0), outside(runs, n, HOLD)
    tops = [int(run[np.argmax(evidence[run])]) for run in runs]
    if runs:  # nor do tails rest on them
        evidence = _evidence(views, around, parts, usual)[calm]
    left = max(left - len(runs), min(left, 1.0))  # a budget that can pay for them does
    loud, far = limit(evidence[peaks(evidence)], left)
    return _Limits(loud, quiet, far, np.array(tops, np.intp), usual, calm)


def _evidence(
    views: NDArray[np.float64],
    around: NDArray[np.float64],
    parts: tuple[Tails, Scale, NDArray[np.float64], int],
    normal: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Bits of each part by the tails of the others' normal intervals, as the agent judges what is new: `[n]`."""
    n = len(normal)
    tails, scale, mix, follow = parts
    both = sides(views, np.zeros((len(VIEWS), 2, views.shape[2])))
    evidence = np.zeros(n)
    pieces = min(PARTS, n // (2 * HOLD), max(BLOCKS, PARTS_INTERVALS // n))
    for block in np.array_split(np.arange(n), pieces):
        rest = normal.copy()
        rest[block] = False
        others = Tails(_table(tails.centre, tails.scale, both[:, :, rest]))
        plain = Weigher(others, scale, mix, (1.0, math.inf), follow)
        evidence[block] = _weighed(plain, views[:, block], around[:, block], np.zeros(len(block)), tell=False).ratio
    return evidence


def _weighed(
    weigher: Weigher,
    views: NDArray[np.float64],
    around: NDArray[np.float64],
    silence: NDArray[np.float64],
    *,
    tell: bool,
) -> Weighed:
    parts = [
        weigher.weigh(
            views[:, start : start + CHUNK], around[:, start : start + CHUNK], silence[start : start + CHUNK], tell=tell
        )
        for start in range(0, len(silence), CHUNK)
    ]
    return Weighed(*(np.concatenate([getattr(part, name) for part in parts]) for name in Weighed.__slots__))


def _agreement(
    kind: type[Weigher],
    parts: tuple[Tails, Scale, NDArray[np.float64], tuple[float, float], int],
    z: NDArray[np.float64],
    expected: Sequence[NDArray[np.float32]],
    silence: NDArray[np.float64],
) -> float:
    """Share of intervals that are decided alike whichever network speaks."""
    decided = []
    for one in expected:
        weigher = kind(*parts)
        decided.append(
            np.concatenate(
                [
                    weigher.step(
                        z[s : s + CHUNK], one[s : s + CHUNK].astype(np.float64), silence[s : s + CHUNK]
                    ).anomalous
                    for s in range(0, len(z), CHUNK)
                ]
            )
        )
    return float((decided[0] == decided[1]).mean())
