"""`fit --timeseries CSV`: columns of numbers to a detector; and what was found in the file, in words."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail import delimited
from foretail.errors import ConfigError
from foretail.numerals import numbers
from foretail.rows import table
from foretail_trainer import reckoning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foretail.delimited import Dialect, Sheet
    from foretail.rows import Table
    from foretail.schema import SeriesInfo
    from foretail.series import Scored
    from foretail_trainer.reckoning import Options

TRUTH_NAME = re.compile(r"(is_?)?(anomal|outlier|attack|label|fault|change_?point|normal)", re.IGNORECASE)
"""Names of columns that hold the answer; a detector of normal data must not see it."""


class FittedSeries(NamedTuple):
    """What `fit_timeseries` gives.

    Attributes:
        files: for the bundle; `info`: for `Manifest.series`.
        notes: for the user: columns left out, gaps, what was certified.
        digest: sha256 of the values, hex; `first`, `last`: epoch seconds, 0 = unknown.
        table: the rows that were learned; `scored`: how calibration judged them (for the report).
        agreement: of int8 with float.
    """

    files: dict[str, bytes]
    info: SeriesInfo
    notes: tuple[str, ...]
    digest: str
    first: float
    last: float
    table: Table
    scored: Scored
    agreement: float


def fit_timeseries(
    path: str,
    options: Options = reckoning.DEFAULT,
    *,
    dialect: Dialect = delimited.COMMON,
    columns: Sequence[str] = (),
    drop: Sequence[str] = (),
    progress: Callable[[str], None] | None = None,
) -> FittedSeries:
    """Learn what is normal in a CSV of readings.

    Args:
        path: CSV, `.gz`, `.xz`, `.zst` or `-`; any number of value columns, a column of stamps if there is one.
        options: model, alpha, interval.
        dialect: of the file.
        columns: the value columns; empty: all that hold numbers, but for 0/1 columns named like a label.
        drop: columns to leave out.
        progress: told what happens.

    Raises:
        ConfigError: the file or its columns cannot be used, in one sentence.
    """
    sheet = delimited.read(path, dialect)
    stamp = delimited.timestamp(sheet)
    chosen, notes = _columns(sheet, stamp, columns, drop)
    if options.aggregate not in {"mean", "max", "last"}:
        raise ConfigError(f"the aggregate is {options.aggregate!r}: choose mean, max or last")
    data = table(sheet, chosen, stamp, options.interval_s, options.aggregate)
    notes += _time_notes(sheet, stamp, data, options)
    name = sheet.names[stamp] if stamp is not None else None
    fitted = reckoning.fit(data.values, data.times, chosen, "series", options, timestamp=name, progress=progress)
    known = data.times[np.isfinite(data.times)]
    return FittedSeries(
        files=fitted.files,
        info=fitted.info,
        notes=(*notes, *fitted.notes),
        digest=hashlib.sha256(np.ascontiguousarray(data.values).tobytes()).hexdigest(),
        first=float(known[0]) if len(known) else 0.0,
        last=float(known[-1]) if len(known) else 0.0,
        table=data,
        scored=fitted.scored,
        agreement=fitted.agreement,
    )


def _columns(
    sheet: Sheet, stamp: int | None, columns: Sequence[str], drop: Sequence[str]
) -> tuple[tuple[str, ...], list[str]]:
    """Names of the value columns, and notes on those left out."""
    dropped = {sheet.place(name) for name in drop}
    if columns:
        places = [sheet.place(name) for name in columns]
        return tuple(sheet.names[at] for at in places if at not in dropped), []
    kept, words, truth = [], [], []
    for at, name in enumerate(sheet.names):
        if at == stamp or at in dropped:
            continue
        values = numbers(sheet.column(at))
        filled = [text.strip().lower() not in delimited.MISSING for text in sheet.column(at)]
        if np.isfinite(values).sum() < 0.9 * max(1, sum(filled)) or not np.isfinite(values).any():
            words.append(name)
        elif TRUTH_NAME.search(name) and set(np.unique(values[np.isfinite(values)]).tolist()) <= {0.0, 1.0}:
            truth.append(name)
        else:
            kept.append(name)
    if not kept:
        raise ConfigError(f"{sheet.path} has no column of numbers; name one with --columns or check --separator")
    notes = [f"left out, no numbers: {', '.join(words)}"] if words else []
    if truth:
        notes.append(f"left out, looks like the answer: {', '.join(truth)} (name it in --columns to keep it)")
    return tuple(kept), notes


def _time_notes(sheet: Sheet, stamp: int | None, data: Table, options: Options) -> list[str]:
    if stamp is None:
        return ["no column of time stamps: rows are taken as evenly spaced"]
    times = data.times
    unknown = int(np.isnan(times).sum())
    notes = [f"time stamps: {sheet.names[stamp]}"]
    if unknown:
        notes.append(f"{unknown} rows have no readable time stamp")
    steps = np.diff(times[np.isfinite(times)])
    if not len(steps):
        return notes
    step = options.interval_s or float(np.median(steps))
    gaps = steps > 1.5 * step
    if gaps.any():
        notes.append(
            f"{int(gaps.sum())} gaps in the time stamps, the longest {float(steps.max()):g} s (usual step {step:g} s)"
        )
    if (steps < 0).any():
        notes.append(f"time runs backwards {int((steps < 0).sum())} times: sort the file by time")
    return notes
