"""Typed lines of a normal log -> the numbers in them worth following: latencies, sizes, shares.

A parameter is a measurement, not an identifier, where it is a number in nearly all lines of its type and its whole
numbers come again. Its mean and 95th percentile are features of an interval where both lie close together from interval
to interval: a mean that a single line can double tells nothing when it doubles.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from foretail import numerals
from foretail.schema import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.patterns import Matcher

SAMPLE_LINES = 20_000
LINES_MIN = 100
"""Lines of a type without which nothing is said of its numbers."""
NUMERIC_SHARE = 0.99
DISTINCT_MAX = 0.5
"""Whole numbers of which more are distinct are identifiers: ports, counters, keys."""
BEFORE = " \t=:([{<,;|\"'"
"""What may stand before a number that measures."""
CANDIDATES_MAX = 16
READINGS_MAX = 8
"""Followed at most, of the candidates that are steady."""
PRESENT_SHARE = 0.5
"""Of the intervals, that a reading must come in."""
STEADY = math.log(2) / 3
"""Robust standard deviation of the logarithm from interval to interval, at most, of mean or percentile (the other may
have twice as much): a double must stand out."""
TREND_MAX = 0.8
"""Rank correlation with time above which a number counts up (an uptime, a sequence number)."""


def candidates(lines: Sequence[bytes], matcher: Matcher) -> tuple[Reading, ...]:
    """Numeric parameters of a sample, those with the most values first: a latency before the number of a shard."""
    typed = matcher.match(lines)
    support = np.bincount(typed.index[typed.index >= 0], minlength=len(matcher.patterns))
    found: list[tuple[int, Reading]] = []
    for rank in np.flatnonzero(support >= LINES_MIN).tolist():
        pattern, rows = matcher.patterns[rank], np.flatnonzero(typed.index == rank).tolist()
        for capture in range(max(len(typed.captures(row)) for row in rows[:LINES_MIN])):
            texts = typed.parameters(rows, capture)
            unit = Counter(map(numerals.unit, texts)).most_common(1)[0][0]
            values = _measured(numerals.quantities(texts, unit), named_unit=unit in numerals.UNITS)
            if values and _apart(pattern.template, capture):
                name = named(pattern.template, capture)
                found.append((values, Reading(pattern.type_id, capture, name, unit.decode("utf-8"))))
    found.sort(key=lambda each: -each[0])
    return tuple(reading for _, reading in found[:CANDIDATES_MAX])


def _measured(values: NDArray[np.float64], *, named_unit: bool) -> int:
    """How many values a parameter (NaN = no number) has; 0: it measures nothing. A unit of time or size measures."""
    held = values[np.isfinite(values)]
    if len(held) < NUMERIC_SHARE * len(values) or held.min() < 0:
        return 0
    distinct = len(np.unique(held))
    whole = bool((held == np.floor(held)).all())
    identifies = whole and distinct > DISTINCT_MAX * len(held) and not named_unit
    return 0 if distinct < 2 or identifies or abs(_trend(held)) >= TREND_MAX else distinct


def _apart(template: str, capture: int) -> bool:
    """Whether the parameter stands by itself: the digits of `node-7` or `rdd_3` are part of a name."""
    parts = template.split("<*>")
    return capture + 1 >= len(parts) or not parts[capture] or parts[capture][-1] in BEFORE


def named(template: str, capture: int) -> str:
    """The template with the parameter marked."""
    parts = template.split("<*>")
    if capture + 1 >= len(parts):
        return f"parameter {capture + 1} of {template}"
    return "<*>".join(parts[: capture + 1]) + "<number>" + "<*>".join(parts[capture + 1 :])


def steady(rows: NDArray[np.float64], first: int) -> list[int]:
    """Which readings are worth following.

    Args:
        rows: float64 `[n, F]` features of intervals; NaN = a reading that did not come.
        first: from this column on they are mean and 95th percentile of each reading.
    """
    kept = []
    for number, column in enumerate(range(first, rows.shape[1], 2)):
        both = np.log1p(rows[:, column : column + 2])
        held = np.isfinite(both[:, 0])
        if held.mean() < PRESENT_SHARE:
            continue
        both = both[held]
        spread = 1.4826 * np.median(np.abs(both - np.median(both, axis=0)), axis=0)
        if (
            spread.min() <= STEADY
            and spread.max() <= 2 * STEADY
            and np.ptp(both[:, 0]) > 0
            and abs(_trend(both[:, 0])) < TREND_MAX
        ):
            kept.append(number)
    return kept[:READINGS_MAX]


def _trend(values: NDArray[np.float64]) -> float:
    """Rank correlation with the order (Spearman); equal values share their mean rank. 0 where none differ."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - count / 2)[place]
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1]) if len(count) > 1 else 0.0
