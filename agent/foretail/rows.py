"""Verdicts of rows and intervals: records, what moved, and a CSV scored from its first row to its last."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from foretail import delimited, evidence
from foretail.deviations import VIEWS
from foretail.errors import ConfigError
from foretail.numerals import numbers
from foretail.series import Detector
from foretail.surprise import exceedance
from foretail.verdicts import Change, Moved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.delimited import Dialect, Sheet
    from foretail.evidence import Weighed
    from foretail.schema import Calibration, SeriesInfo
    from foretail.series import Scored

MOVED_MAX = 5
SHARE_MIN = 0.05
"""A feature that adds less to the distance did not move."""
CHUNK = 4096


class RowVerdict(msgspec.Struct, frozen=True, tag_field="kind", tag="row", omit_defaults=True):
    """The verdict of one row of a series; `row` counts from 1.

    `fresh`: it says something new: the first row of an incident, or one stranger than all before it.
    """

    row: int
    time: float | None
    anomalous: bool
    score: float
    p: float
    reasons: tuple[str, ...]
    bundle: str = ""
    fresh: bool = False
    explanation: Change | None = None


def interval_id(machine: str, stream: str, start: float) -> str:
    """Id of an interval's verdict: 24 hex digits of machine, detector and start (DESIGN §2)."""
    return _hash(machine, stream, "volume", f"{start:.3f}")


def cause(feature: str, way: str) -> str:
    """Fingerprint of a change: what moved and where to, the same on every host."""
    return _hash("volume", feature, way)


def _hash(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        raw = part.encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.hexdigest()


def change(info: SeriesInfo, values: NDArray[np.float64], scored: Scored, row: int) -> Change:
    """What moved in a row, expected against seen.

    Args:
        info: names the columns.
        values: float64 `[n, F]`, as seen.
        scored: the same rows, judged.
        row: which of them.
    """
    return _change(info.columns, values[row], scored, row, VIEWS)


def moved(
    columns: Sequence[str], values: NDArray[np.float64], weighed: Weighed, row: int, mostly: Mapping[str, str]
) -> Change:
    """What moved in an interval.

    Args:
        columns: F names.
        values: float64 `[F]`, as seen.
        weighed: what was made of it in its `row`.
        row: which that is.
        mostly: what made up most of a pooled column, by its name.
    """
    change = _change(columns, values, weighed, row, evidence.VIEWS)
    told = tuple(
        replace(one, mostly=mostly.get(one.feature, "")) if (one.seen or 0.0) > one.high else one
        for one in change.moved
    )
    return replace(change, moved=told, summary=summary(told))


def silence(feature: str, seen: float, limit: float) -> Change:
    """A log that wrote nothing for `seen` seconds, where `limit` is the longest that is normal."""
    what = Moved(feature, short(seen), 0.0, 0.0, short(limit), 1.0)
    return Change((what,), {}, f"no line for {plain(round(seen))} s, expected one within {plain(round(limit))} s")


def _change(
    columns: Sequence[str], values: NDArray[np.float64], judged: Scored | Weighed, row: int, views: Sequence[str]
) -> Change:
    order = np.argsort(-judged.shares[row], kind="stable")[:MOVED_MAX]
    moved = tuple(
        Moved(
            columns[at],
            short(float(values[at])) if math.isfinite(values[at]) else None,
            short(float(judged.expected[row, at])),
            short(float(judged.low[row, at])),
            short(float(judged.high[row, at])),
            short(float(judged.shares[row, at])),
        )
        for at in order.tolist()
        if judged.shares[row, at] >= SHARE_MIN
    )
    spoke = {name: short(float(bits)) for name, bits in zip(views, judged.bits[row], strict=False) if bits >= 1}
    return Change(moved, dict(sorted(spoke.items(), key=lambda item: -item[1])), summary(moved))


def summary(moved: tuple[Moved, ...]) -> str:
    """One line for people: `"Failed password" 214, expected 0-3; ...`."""
    said = [
        f'"{m.feature}" {plain(m.seen) if m.seen is not None else "missing"}'
        + (f' (most of them "{m.mostly}")' if m.mostly else "")
        + f", expected {plain(m.low)}"
        + (f"-{plain(m.high)}" if plain(m.high) != plain(m.low) else "")
        for m in moved[:3]
    ]
    return "; ".join(said) or "the features no longer move together as they did"


def plain(value: float) -> str:
    """Four significant digits without an exponent where that is short."""
    return f"{value:.0f}" if abs(value) >= 1000 or value == round(value) else f"{value:.4g}"


def short(value: float) -> float:
    """Six significant digits: enough, and the same on every host."""
    return float(f"{value:.6g}")


def score(ratio: float) -> float:
    """`score` of a verdict from x in thresholds, in six digits: at least .5 exactly when it is anomalous."""
    if math.isinf(ratio):
        return 1.0
    found = short(ratio / (1 + ratio))
    return max(found, 0.5) if ratio >= 1 else min(found, 0.499999)


def p(ratio: float, calibration: Calibration) -> float:
    """Share of normal rows, or intervals, that are as strange."""
    return short(float(exceedance(calibration.tail, np.array([ratio * calibration.threshold]))[0]))


class Table(NamedTuple):
    """A series ready to be judged: values `[n, F]`, epoch seconds `[n]`, and the first source row of each, from 0."""

    values: NDArray[np.float64]
    times: NDArray[np.float64]
    rows: NDArray[np.int64]


def table(sheet: Sheet, columns: tuple[str, ...], stamp: int | None, interval_s: float, aggregate: str) -> Table:
    """Columns of a sheet as rows at even steps.

    Args:
        sheet: of the file.
        columns: names of the value columns.
        stamp: column of the stamps, None = there is none.
        interval_s: readings of so many seconds become one row; 0 = rows as they come. Intervals without a reading
            give no row.
        aggregate: `mean`, `max` or `last` of each interval.

    Raises:
        ConfigError: a column is missing or holds no number; intervals without stamps.
    """
    values = np.empty((len(sheet.rows), len(columns)))
    for at, name in enumerate(columns):
        values[:, at] = numbers(sheet.column(sheet.place(name)))
        if not np.isfinite(values[:, at]).any():
            raise ConfigError(f"{sheet.path}: column {name!r} holds no number; leave it out or check the file")
    rows = np.arange(len(values))
    times = delimited.times(sheet.column(stamp)) if stamp is not None else np.full(len(values), math.nan)
    if not interval_s:
        return Table(values, times, rows)
    if stamp is None:
        raise ConfigError(f"{sheet.path} has no time stamps, so --interval has nothing to go by; leave it out")
    known = np.flatnonzero(np.isfinite(times))
    order = known[np.argsort(times[known], kind="stable")]
    bins = np.floor(times[order] / interval_s)
    starts = np.flatnonzero(np.diff(bins, prepend=-math.inf) != 0)
    sorted_values = values[order]
    if aggregate == "last":
        ends = np.append(starts[1:], len(order)) - 1
        joined = sorted_values[ends]
    elif aggregate == "max":
        joined = np.fmax.reduceat(sorted_values, starts)
    else:
        count = np.add.reduceat(np.isfinite(sorted_values).astype(float), starts)
        total = np.add.reduceat(np.nan_to_num(sorted_values), starts)
        joined = np.where(count > 0, total / np.maximum(count, 1), math.nan)
    return Table(joined, bins[starts] * interval_s, order[starts])


def score_timeseries(bundle: Bundle, path: str, dialect: Dialect = delimited.COMMON) -> Iterator[RowVerdict]:
    """`foretail score --timeseries CSV`: one verdict per row, in order (per interval when the bundle has one).

    Raises:
        ConfigError: the bundle has no series detector; the file lacks a column or cannot be read.
    """
    info = bundle.manifest.series
    if info is None:
        raise ConfigError(
            f"bundle {bundle.path} has no series detector; make one with `foretail-train fit --timeseries`"
        )
    detector = Detector(info, bundle.files, "series")
    sheet = delimited.read(path, dialect)
    stamp = sheet.place(info.timestamp) if info.timestamp in sheet.names else delimited.timestamp(sheet)
    data = table(sheet, info.columns, stamp, info.interval_s, info.aggregate)
    for start in range(0, len(data.values), CHUNK):
        part = slice(start, start + CHUNK)
        scored = detector.score(data.values[part], data.times[part])
        for row in range(len(scored.ratio)):
            yield _verdict(bundle.label, detector, data, start + row, scored, row)


def _verdict(label: str, detector: Detector, data: Table, at: int, scored: Scored, row: int) -> RowVerdict:
    ratio, time = float(scored.ratio[row]), float(data.times[at])
    anomalous = ratio >= 1
    part = slice(at - row, at - row + len(scored.ratio))
    return RowVerdict(
        row=int(data.rows[at]) + 1,
        time=round(time, 6) if math.isfinite(time) else None,
        anomalous=anomalous,
        score=score(ratio),
        p=p(ratio, detector.info.calibration),
        reasons=("series",) if anomalous else (),
        bundle=label,
        fresh=bool(scored.new[row]) and anomalous,
        explanation=change(detector.info, data.values[part], scored, row) if anomalous else None,
    )
