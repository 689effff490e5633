"""NAB's scoring rules, standard profile, from their published definition, and the baselines that need no training.

Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms - the Numenta Anomaly Benchmark" (2015): each
labelled window is worth what its earliest detection earns on a falling sigmoid, a miss costs 1, a detection outside
costs up to .11, the less the closer it follows a window; the first 15 % (of at most 5,000 rows) are not scored; one
threshold for all files; 0 = a detector that stays silent, 100 = perfect.
"""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from math import erfc, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = 1.0, 0.11, 1.0
PROBATION, PROBATION_ROWS_MAX = 0.15, 5000


class Series(NamedTuple):
    """One NAB file: its name, path, epoch seconds, values, and windows as first and last row."""

    name: str
    path: Path
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    windows: tuple[tuple[int, int], ...]

    @property
    def probation(self) -> int:
        """Rows that are not scored: the training data."""
        return int(PROBATION * min(len(self.values), PROBATION_ROWS_MAX))


def read(folder: Path) -> dict[str, list[Series]]:
    """Group name -> its files."""
    labels = json.loads((folder / "combined_windows.json").read_text())
    groups: dict[str, list[Series]] = {}
    for path in sorted(folder.glob("*/*.csv")):
        name = f"{path.parent.name}/{path.name}"
        with path.open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        times = np.array([_stamp(row[0]) for row in rows])
        windows = []
        for first, last in labels[name]:
            inside = np.flatnonzero((times >= _stamp(first)) & (times <= _stamp(last)))
            windows.append((int(inside[0]), int(inside[-1])))
        values = np.array([float(row[1]) for row in rows])
        groups.setdefault(path.parent.name, []).append(Series(name, path, times, values, tuple(windows)))
    return groups


def _stamp(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def sigmoid(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """NAB's scaled sigmoid of the position relative to a window's end: -1 = its start, 0 = its last row."""
    clipped = np.minimum(position, 3.0)
    return np.where(position > 3.0, -1.0, 2.0 / (1.0 + np.exp(5.0 * clipped)) - 1.0)


def worth(series: Series) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What a detection at each row earns or costs, and the number of the window it lies in (-1 = none)."""
    n = len(series.values)
    value, inside = np.full(n, -FALSE_POSITIVE), np.full(n, -1)
    rows = np.arange(n)
    for number, (first, last) in enumerate(series.windows):
        width = last - first + 1
        within = (rows >= first) & (rows <= last)
        value[within] = sigmoid(-(last - rows[within] + 1) / width) * TRUE_POSITIVE / sigmoid(np.array(-1.0))
        inside[within] = number
        after = rows > last
        value[after] = sigmoid((rows[after] - last) / max(width - 1, 1)) * FALSE_POSITIVE
    for number, (first, last) in enumerate(series.windows):  # a later window takes rows that an earlier one priced
        within = (rows >= first) & (rows <= last)
        width = last - first + 1
        value[within] = sigmoid(-(last - rows[within] + 1) / width) * TRUE_POSITIVE / sigmoid(np.array(-1.0))
        inside[within] = number
    return value, inside


def score(
    files: Sequence[Series], scores: Sequence[NDArray[np.float64]], threshold: float | None
) -> tuple[float, float]:
    """The normalised NAB score, and its threshold.

    Args:
        files: n series.
        scores: an anomaly score for each row of each.
        threshold: rows at or above are detections; None: the one that is best, found with the labels (NAB's way).
    """
    levels, gains, changes = [], 0.0, []
    for series, mine in zip(files, scores, strict=True):
        value, inside = worth(series)
        live = np.arange(len(value)) >= series.probation
        outside = live & (inside < 0)
        levels.append(mine[outside])
        changes.append(value[outside])
        for number in range(len(series.windows)):
            gains -= FALSE_NEGATIVE
            rows = np.flatnonzero(live & (inside == number))
            # as the threshold falls, the window's worth rises from -1 through the best of the rows detected so far
            order = rows[np.argsort(-mine[rows], kind="stable")]
            best = np.maximum.accumulate(np.concatenate([[-FALSE_NEGATIVE], value[order]]))
            levels.append(mine[order])
            changes.append(np.diff(best))
    level, change = np.concatenate(levels), np.concatenate(changes)
    order = np.argsort(-level, kind="stable")
    level, total = level[order], gains + np.cumsum(change[order])
    windows = sum(len(series.windows) for series in files)
    silent, perfect = -FALSE_NEGATIVE * windows, TRUE_POSITIVE * windows
    last = np.append(level[1:] != level[:-1], True)  # rows of one level are detected together
    level, total = np.append(np.inf, level[last]), np.append(gains, total[last])
    at = int(np.argmax(total)) if threshold is None else int(np.flatnonzero(level >= threshold)[-1])
    return 100 * (float(total[at]) - silent) / (perfect - silent), float(level[at])


def null(series: Series) -> NDArray[np.float64]:
    """Never raises anything: scores half everywhere."""
    return np.full(len(series.values), 0.5)


def random(series: Series, seed: int) -> NDArray[np.float64]:
    """A number out of a hat for each row."""
    return np.random.default_rng([seed, len(series.values), int(series.times[0])]).random(len(series.values))


def windowed_gaussian(series: Series, size: int = 6400, step: int = 100) -> NDArray[np.float64]:
    """NAB's own: the tail of a normal distribution fitted to the last `size` values, moved on by `step`."""
    window: list[float] = []
    fresh: list[float] = []
    mean, deviation = 0.0, 1.0
    result = np.zeros(len(series.values))
    for row, value in enumerate(series.values.tolist()):
        if window:
            result[row] = 1.0 - 0.5 * erfc(abs(value - mean) / deviation / sqrt(2.0))
        if len(window) < size:
            window.append(value)
        else:
            fresh.append(value)
            if len(fresh) < step:
                continue
            window, fresh = window[step:] + fresh, []
        mean, deviation = float(np.mean(window)), float(np.std(window)) or 1e-6
    return result
