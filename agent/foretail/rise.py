"""Pure: whether a share has risen, by more than a tolerance and more than chance and bursts explain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGMAS = 6.0
"""Looked at every second for ten minutes on many hosts: 10^-9 a look is once in a million updates."""
SPANS_MIN, TRIALS_MIN = 20, 200
"""A few lines, or a few moments, are no evidence."""


class Span(NamedTuple):
    """What was counted in a short span of time: `hits` of `trials`."""

    hits: float
    trials: float


class Share(NamedTuple):
    """An estimate with the square of its standard error."""

    value: float
    variance: float


def rose(before: Sequence[Span], after: Sequence[Span], by: float) -> bool:
    """Whether the share of hits after is higher than before by more than `by`.

    Spans are of about the same length; those without trials say nothing. They are the sample, not the trials: lines
    come in bursts, and a thousand lines of one second are one witness. The standard errors are those of a ratio over
    clusters (Cochran, Sampling Techniques, 6.3), never below the binomial.

    Args:
        before: spans to compare with.
        after: spans in question.
        by: tolerance, a share.
    """
    before, after = ([span for span in spans if span.trials > 0] for spans in (before, after))
    if not before or len(after) < SPANS_MIN or sum(span.trials for span in after) < TRIALS_MIN:
        return False
    was, now = share(before), share(after)
    return now.value - was.value - by > SIGMAS * math.sqrt(was.variance + now.variance)


def share(spans: Sequence[Span]) -> Share:
    """The share of hits in spans that hold trials; half a hit is added, so that none at all is no certainty."""
    trials = sum(span.trials for span in spans)
    value = (sum(span.hits for span in spans) + 0.5) / (trials + 1)
    binomial = value * max(0.0, 1 - value) / trials
    if len(spans) < 2:
        return Share(value, binomial)
    scatter = sum((span.hits - value * span.trials) ** 2 for span in spans)
    return Share(value, max(binomial, scatter / trials**2 * len(spans) / (len(spans) - 1)))
