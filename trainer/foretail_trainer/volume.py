"""A typed normal log -> the volume detector of its bundle: what to count, how long an interval is, what is normal."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from msgspec.structs import replace

from foretail import tally
from foretail.errors import ConfigError
from foretail.schema import FIRST, UNKNOWN, SeriesInfo, VolumeInfo
from foretail.tally import Counter, Lines, Readings
from foretail.volume import features
from foretail_trainer import parameters, reckoning, weighing
from foretail_trainer.calibrate import EXTRAPOLATION_MAX
from foretail_trainer.reckoning import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from foretail.evidence import Weighed
    from foretail.schema import Pattern, Reading

STEPS_S = (60.0, 120.0, 180.0, 300.0, 600.0)
"""To choose from: the shortest that holds LINES_MIN lines in the median, as long as ROWS_MIN intervals remain.

No longer ones: in a quiet log a burst of a minute stands out in ten minutes, not in two hours (auth.log)."""
LINES_MIN = 30
ROWS_MIN = 150
TYPES_MAX = 24
ALPHA, ALPHA_MAX = 0.001, 0.05
MODEL = "ae"
"""An autoencoder sees the interval itself: what types write together tells more than what they wrote before."""


class FittedVolume(NamedTuple):
    """What `fit_volume` gives.

    Attributes:
        files: for the bundle; `info`: for `Manifest.volume`.
        times, values: the training intervals, float64 `[n]`, `[n, F]`; `weighed`: how calibration judged them.
        notes: for the user; `agreement`: of int8 with float.
    """

    files: dict[str, bytes]
    info: VolumeInfo
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    weighed: Weighed
    notes: tuple[str, ...]
    agreement: float


def fit_volume(
    hosts: Sequence[Lines],
    patterns: Sequence[Pattern],
    options: Options | None = None,
    *,
    per_day: float = 0.0,
    readings: Sequence[Reading] = (),
    progress: Callable[[str], None] | None = None,
) -> FittedVolume:
    """Learn how much of what a normal log writes.

    Args:
        hosts: the typed lines of each host, in order of event time.
        patterns: of the bundle, by rank.
        options: model, alpha; `interval_s` 0 = chosen by the data.
        per_day: incidents a day and host that may be false, instead of `alpha`; no fewer than one in the whole log.
        readings: candidates for numeric parameters whose mean and p95 are features: what the lines hold.
        progress: told what happens.

    Raises:
        ConfigError: no event times, or too short a log.
    """
    options = (options or Options(model=MODEL, alpha=ALPHA))._replace(unit="interval")
    vocabulary = FIRST + len(patterns)
    known = [host for host in hosts if len(host.ids) and np.isfinite(host.times).all()]
    if not known:
        raise ConfigError("the volume detector needs a log whose lines carry times; check --format or leave it out")
    if per_day:
        options = options._replace(alpha=0.0)
    step = options.interval_s or interval(known, options.alpha, per_day)
    counts = np.bincount(np.concatenate([host.ids for host in known]), minlength=vocabulary)
    counted = informative(counts, known, step)
    draft = VolumeInfo(
        series=_series(step),
        types=tuple(patterns[number - FIRST].type_id for number in counted.tolist()),
        readings=tuple(readings),
        keys=any((host.which >= 0).any() and len(host.keys) > 1 for host in known),
    )
    closed = [interval_ for host in known for interval_ in Counter(draft, counted, vocabulary).add(host)]
    if len(closed) < reckoning.ROWS_MIN:
        raise ConfigError(
            f"the log spans {len(closed)} whole intervals of {step:g} s, too few for the volume detector "
            f"({reckoning.ROWS_MIN} are needed): give a longer log"
        )
    rows, first = np.array([one.row for one in closed]), len(features(replace(draft, readings=()), patterns))
    followed = parameters.steady(rows, first)
    draft = replace(draft, readings=tuple(readings[number] for number in followed))
    names = features(draft, patterns)
    columns = [*range(first), *(first + 2 * number + half for number in followed for half in (0, 1))]
    normal = weighing.Intervals(
        rows=rows[:, columns],
        times=np.array([one.start for one in closed]),
        silence=np.array([one.silence for one in closed]),
        counts=first,
    )
    asked = max(options.alpha, per_day * step / 86_400)
    alpha = min(max(asked, 1 / (EXTRAPOLATION_MAX * (len(closed) + 1))), ALPHA_MAX)
    notes = []
    if alpha > asked * 1.01:
        week = 7 * 86_400 / step
        notes.append(
            f"{asked * week:.2g} false alerts a week and host were asked for; {len(closed):,} intervals of training "
            f"data support no less than {alpha * week:.2g}: train on a longer log for fewer"
        )
    options = options._replace(interval_s=step, alpha=alpha)
    fitted = weighing.fit(normal, names, options, progress)
    notes += [_aside(fitted, normal, row) for row in fitted.aside.tolist()]
    info = VolumeInfo(fitted.info, draft.types, draft.readings, draft.keys)
    return FittedVolume(fitted.files, info, normal.times, normal.rows, fitted.weighed, tuple(notes), fitted.agreement)


def _aside(fitted: weighing.Fitted, normal: weighing.Intervals, row: int) -> str:
    """A note on an incident of the log that is no part of what is normal."""
    weighed = fitted.weighed
    most = int(np.argmax(weighed.shares[row]))
    when = datetime.fromtimestamp(normal.times[row], UTC)
    return (
        f"far beyond the rest of the log, so taken for a fault: {when:%Y-%m-%d %H:%M}, "
        f"'{fitted.info.columns[most]}' {normal.rows[row, most]:.4g}, expected {weighed.low[row, most]:.3g} to "
        f"{weighed.high[row, most]:.3g}; what a log holds three times is normal"
    )


def interval(hosts: Sequence[Lines], alpha: float = ALPHA, per_day: float = 0.0) -> float:
    """Seconds of an interval: long enough to hold lines, short enough that many remain.

    A longer one is taken where two would be over before a silence is longer than normal ones, if any helps.
    """
    fitting, shortest = 0.0, STEPS_S[0]
    for step in STEPS_S:
        held = [np.bincount((host.times // step - host.times[0] // step).astype(np.int64)) for host in hosts]
        if sum(map(len, held)) < ROWS_MIN:
            break
        shortest = step
        if float(np.median(np.concatenate(held))) < LINES_MIN:
            continue
        fitting = fitting or step
        silence = np.concatenate([_silences(host.times, step) for host in hosts])
        least = 1 / (EXTRAPOLATION_MAX * (len(silence) + 1))
        rate = max(alpha, per_day * step / 86_400, least) * weighing.SILENCE_SHARE
        if weighing.silence_limit(silence, rate, step) <= 2 * step:
            return step
    return fitting or shortest


def _silences(times: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """The longest time without a line that ended in each interval, seconds."""
    bins = (times // step - times[0] // step).astype(np.int64)
    longest = np.zeros(int(bins[-1]) + 1)
    np.maximum.at(longest, bins[1:], np.diff(times))
    return longest


def informative(counts: NDArray[np.int64], hosts: Sequence[Lines], step: float) -> NDArray[np.intp]:
    """Model ids of the types worth counting one by one: those that tell most nats of an interval, rarest left out.

    A type tells -ln of its share for each of its lines; one that comes less than once in ten intervals has no rate.
    """
    span = sum(max(1.0, float(host.times[-1] - host.times[0]) / step) for host in hosts)
    share = counts / max(1, counts.sum())
    worth = np.where(counts >= span / 10, -share * np.log(np.maximum(share, 1e-12)), 0.0)
    worth[: UNKNOWN + 1] = 0.0
    order = np.argsort(-worth, kind="stable")[:TYPES_MAX]
    return np.sort(order[worth[order] > 0])


def _series(step: float) -> SeriesInfo:
    """A section with nothing but the interval: for counting before anything was learned."""
    calibration = reckoning.uncalibrated("interval")
    return SeriesInfo((), (), "none", forecast=False, window=1, inputs=0, calibration=calibration, interval_s=step)


def lines_of(
    ids: NDArray[np.int32],
    times: NDArray[np.float64],
    lengths: NDArray[np.int64],
    errors: NDArray[np.bool_] | None = None,
    keys: Sequence[bytes] | None = None,
    readings: Readings | None = None,
) -> Lines:
    """Columns of one host as the counter takes them; times are made to never fall, lines before the first time go.

    Args:
        ids: int32 `[n]` model ids.
        times: float64 `[n]`, epoch seconds; NaN = unknown.
        lengths: int64 `[n]`, bytes.
        errors: bool `[n]`, None = none.
        keys: `[n]` session keys, b"" = none; None = no keys.
        readings: numbers in the lines.
    """
    n = len(ids)
    when = np.fmax.accumulate(times) if n else times
    keep = np.isfinite(when)
    table: dict[bytes, int] = {b"": -1}
    which = [table.setdefault(key, len(table) - 1) for key in keys] if keys is not None else [-1] * n
    del table[b""]
    return Lines(
        ids=ids[keep],
        times=when[keep],
        lengths=np.asarray(lengths, np.int64)[keep],
        errors=(np.zeros(n, np.bool_) if errors is None else errors)[keep],
        which=np.array(which, np.int32)[keep],
        keys=list(table),
        readings=tally.chosen(readings or Readings(), np.flatnonzero(keep)),
    )


def promised(alpha: float, intervals: int) -> tuple[int, int]:
    """The 99 % Poisson interval of false alerts among so many intervals."""
    mean = alpha * intervals
    p, total, low, number = math.exp(-mean), 0.0, -1, 0
    while total < 0.995 and number < 100_000:
        total += p
        if low < 0 and total > 0.005:
            low = number
        number += 1
        p *= mean / number
    return max(low, 0), number - 1
