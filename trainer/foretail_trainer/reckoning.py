"""Rows of normal numbers -> a fitted, calibrated and exported detector (DESIGN §6), for series and volume alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from msgspec.structs import replace

from foretail import arrays
from foretail.deviations import (
    CLIP,
    MIX_MIN,
    STATE_TAIL,
    VIEWS,
    Stats,
    calendar,
    fresh_limit,
    log_distance,
    standard,
    windows_of,
)
from foretail.errors import ConfigError
from foretail.schema import Calibration, SeriesInfo, Tail
from foretail.series import Core, Scored
from foretail_trainer import forecast
from foretail_trainer.quantiles import drift, quantile, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from foretail_trainer.forecast import Fitted, Plan, Shape

BLOCKS = 5
"""Time blocks of the cross-fit: each is judged by a model of the others."""
ROWS_MIN = 40
SCALE_MIN = 0.02
"""Least root mean square of a view: a constant column must not shout over a trifle."""
MODEL = "lstm"
RIDGE = 0.001
EXCESS_PRIOR = 0.25
"""The excess of a normal distribution beyond its last tenth, in units of where that begins."""
AGREE_MIN = 0.995


class Options(NamedTuple):
    """What a user can say.

    Attributes:
        model: one of `forecast.MODELS`.
        alpha: false alerts per row.
        window, units, latent: of the network; 0 = by the data.
        interval_s, aggregate: of the rows; 0 = as they come.
        seed: of everything random.
        plan: of the training.
        unit: of the calibration, `row` or `interval`.
    """

    model: str = MODEL
    alpha: float = 0.01
    window: int = 0
    units: int = 24
    latent: int = 0
    interval_s: float = 0.0
    aggregate: str = "mean"
    seed: int = 0
    plan: Plan = forecast.DEFAULT
    unit: Literal["row", "interval"] = "row"


DEFAULT = Options()


class Reckoned(NamedTuple):
    """A detector ready for a bundle.

    Attributes:
        info: its manifest section; `files`: of the bundle.
        scored: the training rows, judged as calibration saw them (each by a model that had not seen it).
        agreement: share of training rows that the int8 model decides like the float model.
        notes: what the user should know.
    """

    info: SeriesInfo
    files: dict[str, bytes]
    scored: Scored
    agreement: float
    notes: tuple[str, ...]


def fit(
    rows: NDArray[np.float64],
    times: NDArray[np.float64],
    columns: Sequence[str],
    name: str,
    options: Options = DEFAULT,
    *,
    logged: Sequence[bool] = (),
    timestamp: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Reckoned:
    """Fit, calibrate, export and gate.

    Args:
        rows: float64 `[n, F]` of normal data at even steps; NaN = no value.
        times: float64 `[n]`, epoch seconds; NaN = unknown.
        columns: F names.
        name: prefix of the files: `series` or `volume`.
        options: of the user.
        logged: which columns are taken as log(1 + value).
        timestamp: column name, for the manifest.
        progress: told what happens.

    Raises:
        ConfigError: too few rows, or the int8 model does not decide like the float model.
    """
    n, f = rows.shape
    if n < ROWS_MIN:
        raise ConfigError(f"{n} rows are too few to learn from: give at least {ROWS_MIN}, better some hundred")
    tell = progress or (lambda _: None)
    info, shape = described(rows, times, tuple(columns), tuple(logged) or (False,) * f, timestamp, options)
    flags = np.array(info.logged)
    stats = _stats(rows, flags)
    z = standard(rows, stats, flags)
    history, windows = windows_of(info, z, times, np.zeros((0, f), np.float32))
    tell(f"cross-fitting {options.model} on {n} rows of {f} columns")
    expected, level, mixed = _crossfit(shape, z, history, windows, options, tell)
    info, stats, normal, scored, notes = _calibrate(info, stats, z, expected, level, mixed, options)
    tell("fitting on all rows")
    fitted = forecast.fit(shape, windows, history, options.plan, seed=options.seed)
    files = forecast.files(fitted, name)
    agreement = _gate(info, stats, normal, z, windows, fitted, files, name)
    files[f"{name}.golden.npy"] = golden(fitted, files, name)
    files[f"{name}.stats.npy"] = arrays.written(np.vstack([stats.centre, stats.scale, stats.views, stats.excess]))
    if stats.mix is not None:
        files[f"{name}.mix.npy"] = arrays.written(stats.mix)
    files[f"{name}.normal.npy"] = arrays.written(normal[:, -max(info.memory, 1) :].astype(np.float32))
    return Reckoned(info, files, scored, agreement, notes)


def uncalibrated(unit: Literal["row", "interval"]) -> Calibration:
    """A calibration that raises nothing."""
    return Calibration(0.0, unit, math.inf, False, 0, 0.0, Tail((), (), 1.0))


def described(
    rows: NDArray[np.float64],
    times: NDArray[np.float64],
    columns: tuple[str, ...],
    logged: tuple[bool, ...],
    timestamp: str | None,
    options: Options,
) -> tuple[SeriesInfo, Shape]:
    """The section of the manifest that the data decide, as yet without a calibration, and its network.

    Arguments as of `fit`; ConfigError: an option cannot be.
    """
    if not 0 < options.alpha < 1:
        raise ConfigError(f"the rate of false alerts is {options.alpha}: give a number between 0 and 1")
    n, f = rows.shape
    known = bool(np.isfinite(times).all())
    span = float(times[-1] - times[0]) if known else 0.0
    step = options.interval_s or (float(np.median(np.diff(times))) if known else 0.0)
    kind = "none"
    if known and step and step <= 3 * 3600 and span >= 3 * 86_400:
        kind = "week" if span >= 21 * 86_400 else "day"
    window = options.window or max(8, min(16, n // 20))
    day = round(86_400 / step) if step else 0
    info = SeriesInfo(
        columns=columns,
        logged=logged,
        model=options.model,
        forecast=options.model in forecast.FORECASTERS,
        window=window,
        inputs=f + calendar(kind, np.zeros(1)).shape[1],
        calendar=kind,  # type: ignore[arg-type]
        interval_s=options.interval_s,
        aggregate=options.aggregate,  # type: ignore[arg-type]
        gap_s=20 * step if step > 0 else 0.0,
        follow=max(100, min(n, 10 * day) if day else n),
        calibration=Calibration(
            options.alpha, options.unit, math.inf, False, n, 86_400 / step if step else 0.0, Tail((), (), 1.0)
        ),
        timestamp=timestamp,
    )
    latent = options.latent or max(2, min(12, f // 2 + 1))
    shape = forecast.Shape(options.model, window, info.inputs, f, options.units, latent)
    forecast.check(shape)
    return info, shape


def _stats(rows: NDArray[np.float64], logged: NDArray[np.bool_]) -> Stats:
    """Centre and deviation; views as yet unscaled."""
    values = rows.astype(np.float64)
    values[:, logged] = np.log1p(np.maximum(values[:, logged], 0.0))
    centre = np.nanmean(values, axis=0)
    scale = np.nanstd(values, axis=0)
    scale = np.where(scale > 1e-9 * np.maximum(np.abs(centre), 1e-9), scale, np.maximum(0.01 * np.abs(centre), 1.0))
    f = len(centre)
    z = standard(rows, _unscaled(centre, scale, None), logged)
    mix = mixing(z) if f >= MIX_MIN else None
    return _unscaled(centre, scale, mix)


def _unscaled(centre: NDArray[np.float64], scale: NDArray[np.float64], mix: NDArray[np.float64] | None) -> Stats:
    views = np.ones((len(VIEWS) - (mix is None), len(centre)))
    return Stats(np.vstack([centre, scale, views, 0 * views]), mix)


def mixing(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix from deviations to what each feature is beyond the others: `[F, F]`, a ridge regression for each.

    With P the inverse of the covariance C + ridge, the residual of feature i given the others is (P z)_i / P_ii.
    """
    held = np.nan_to_num(np.clip(z, -CLIP, CLIP))
    inverse = np.linalg.inv(held.T @ held / len(held) + RIDGE * np.eye(held.shape[1]))
    return np.asarray(inverse / np.diag(inverse)[:, None])


def held_out(
    shape: Shape,
    windows: NDArray[np.float32],
    history: NDArray[np.float32],
    options: Options,
    tell: Callable[[str], None],
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]]:
    """Blocks of time, each with the rows whose windows have not seen it and what their model expects in it.

    Yields:
        int64 `[b]` rows, int64 `[r]` rows, float64 `[b, F]`.
    """
    n = len(windows)
    for number, block in enumerate(np.array_split(np.arange(n), BLOCKS)):
        tell(f"block {number + 1} of {BLOCKS}")
        away = np.ones(n, np.bool_)
        away[block[0] : block[-1] + 1 + shape.window] = False  # a window that reaches into the block has seen it
        rest = np.flatnonzero(away)
        fitted = forecast.fit(shape, windows[rest], history[rest], options.plan, seed=options.seed + number)
        yield block, rest, forecast.expected(fitted, windows[block]).astype(np.float64)


def _crossfit(
    shape: Shape,
    z: NDArray[np.float64],
    history: NDArray[np.float32],
    windows: NDArray[np.float32],
    options: Options,
    tell: Callable[[str], None],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """What models of the other blocks expect, the others' centre, and the mix: float64 `[n, F]` each."""
    expected, level, mixed = np.empty_like(z), np.empty_like(z), np.zeros_like(z)
    for block, rest, foreseen in held_out(shape, windows, history, options, tell):
        expected[block] = foreseen
        level[block] = np.nanmean(z[rest], axis=0)
        if z.shape[1] >= MIX_MIN:
            mixed[block] = (
                np.nan_to_num(np.clip(z[block] - level[block], -CLIP, CLIP)) @ mixing(z[rest] - level[block[:1]]).T
            )
    return expected, level, mixed


def _calibrate(
    info: SeriesInfo,
    stats: Stats,
    z: NDArray[np.float64],
    expected: NDArray[np.float64],
    level: NDArray[np.float64],
    mixed: NDArray[np.float64],
    options: Options,
) -> tuple[SeriesInfo, Stats, NDArray[np.float64], Scored, tuple[str, ...]]:
    """Scales of the views, tails, and the two thresholds, all from rows no model was fitted on."""
    n = len(z)
    plain = Core(info, stats, np.zeros((stats.count, 0)))
    centred = z - level
    # the same steps as in the agent: deviations from the others' centre, errors of the others' models
    raw = np.array([plain.views(c, r) for c, r in zip(centred, z - expected, strict=True)])
    if stats.mix is not None:
        mixed = plain.steady(mixed, np.nan_to_num(centred) - mixed)
        raw[:, -1] = mixed
    views = np.sqrt(np.nanmean(raw**2, axis=0))
    views, excess = np.maximum(views, SCALE_MIN), np.zeros_like(views)
    for view in range(stats.count):
        if VIEWS[view] == "mix":
            views[view], excess[view] = _tails(np.abs(raw[:, view]))
    stats = Stats(np.vstack([stats.centre, stats.scale, views, excess]), stats.mix)
    flags = np.array(info.logged)
    distance = log_distance(np.abs(raw) / stats.views, stats)
    normal = distance.T
    blocks = np.array_split(np.arange(n), BLOCKS)
    # No model has seen the row it judges; where it ranks among all distances is what a tail made of them says.
    state, fresh = _judge(Core(info, stats, normal), distance)
    limit_state, far = _threshold(state, blocks, options.alpha)
    limit_fresh = fresh_limit(options.alpha, stats.count)
    ratio = np.maximum(state / limit_state, fresh / limit_fresh)
    calibration = Calibration(
        alpha=options.alpha,
        unit=info.calibration.unit,
        threshold=limit_state,
        extrapolated=far,
        units=n,
        units_per_day=info.calibration.units_per_day,
        tail=tail(ratio * limit_state),
        weights={"state": limit_state, "fresh": limit_fresh},
        drift=drift(ratio, blocks),
    )
    info = replace(info, calibration=calibration)
    notes = []
    if calibration.extrapolated:
        notes.append(
            f"{n} rows cannot certify {options.alpha:g} false alerts a row: the threshold lies on the fitted tail"
        )
    scored = _step(Core(info, stats, normal), centred, z - expected, flags)
    return info, stats, normal, scored, tuple(notes)


def _tails(view: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each feature's last tenth begins, and its mean excess in units of that: `[n, F]` -> `[F]`, `[F]`."""
    begins = np.maximum(np.quantile(view, 1 - STATE_TAIL, axis=0), SCALE_MIN)
    over = np.maximum(view / begins - 1.0, 0.0)
    return begins, (over.sum(axis=0) + EXCESS_PRIOR * 3) / ((over > 0).sum(axis=0) + 3)


def _step(core: Core, z: NDArray[np.float64], r: NDArray[np.float64], logged: NDArray[np.bool_]) -> Scored:
    return core.step(z, z - r, logged)


def _judge(core: Core, distance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """State and fresh bits of log distances `[n, V]`."""
    state, fresh = zip(*(core.bits(row) for row in distance), strict=True)
    return core.state(np.array(state)), np.array(fresh)


def _threshold(bits: NDArray[np.float64], blocks: Sequence[NDArray[np.intp]], alpha: float) -> tuple[float, bool]:
    """The bits that a share of alpha reaches in all, and in no block: rows of one block are alike, the worst decides.

    Returns:
        The threshold, and whether it lies on a fitted exponential tail because there are too few rows.
    """
    parts = [bits[block] for block in blocks]
    highest = [min(quantile(part, alpha)[0], float(np.nextafter(part.max(), math.inf))) for part in parts]
    worst = max(highest, default=0.0)
    whole, far = quantile(bits, alpha)
    return max(worst, whole, 1.0), far


def _gate(
    info: SeriesInfo,
    stats: Stats,
    normal: NDArray[np.float64],
    z: NDArray[np.float64],
    windows: NDArray[np.float32],
    fitted: Fitted,
    files: dict[str, bytes],
    name: str,
) -> float:
    """Share of rows that int8 and float decide alike; ConfigError when it is too small."""
    flags = np.array(info.logged)
    exact = forecast.expected(fitted, windows).astype(np.float64)
    ours = forecast.runtime(fitted, files, name)(windows)[0].astype(np.float64)
    decisions = [Core(info, stats, normal).step(z, e, flags).anomalous for e in (exact, ours)]
    same = float((decisions[0] == decisions[1]).mean())
    if same < AGREE_MIN:
        raise ConfigError(
            f"the int8 {info.model} decides like the float model on {same:.2%} of rows ({AGREE_MIN:.1%} wanted): "
            "choose another --model or fewer units"
        )
    return same


def golden(fitted: Fitted, files: dict[str, bytes], name: str) -> bytes:
    """Synthetic windows and what the int8 model makes of them: float32 `[8, F + C * inputs]`."""
    shape = fitted.shape
    windows = np.random.default_rng(8).normal(size=(8, shape.window, shape.inputs)).astype(np.float32)
    got = forecast.runtime(fitted, files, name)(windows)[0]
    return arrays.written(np.concatenate([got, windows.reshape(8, -1)], axis=1))
