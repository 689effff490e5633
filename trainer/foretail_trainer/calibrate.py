"""Cross-fit scores -> the threshold that spends the budget of false alerts (DESIGN §6).

An alert is what a person gets: in one block of time, units with one cause (the same type after the same three, the
same new type, the same type out of number) are one alert, as they are one incident. With n units and a wanted rate
alpha, the threshold is the score of rank (n + 1) alpha from the top if that is at least 1; between two ranks it is
interpolated by their logarithm, because the few highest scores lie far apart. Otherwise it lies beyond what was
seen, on an exponential tail that begins at the tenth highest alert and halves with every bit, because that is what a
bit means; a slope fitted to ten scores, most of them of two or three causes, would be a guess. A rate that is
extrapolated never has a lower threshold than the reference rate of one in a thousand where the log certifies that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from msgspec.structs import replace

from foretail.counts import Counts
from foretail.errors import ConfigError
from foretail.schema import END, FIRST, Calibration, Tail
from foretail.surprise import Surprise
from foretail_trainer.crossfit import contexts
from foretail_trainer.vectors import learn, resting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail.surprise import Scores
    from foretail_trainer.crossfit import Held
    from foretail_trainer.sequences import Sessions

ALPHA_DEFAULT = 0.001
ALPHA_MAX = 0.05
"""A budget of more than one unit in twenty is no budget."""
ALERTS_PER_WEEK = 1.0
BASE_RANK = 10
"""The extrapolated tail begins at this alert from the top."""
BIT = 1 / math.log(2)
EXTRAPOLATION_MAX = 3
"""No rate is promised that is more than three times lower than the lowest that the log can certify: of n units without
an alert nobody can say more than that the rate is below 3/n (the rule of three, at 95 %)."""
SURE_SHARE = 0.1
"""Of the budget, for what the network alone is sure of."""
LEVELS = 64
LENGTHS_MIN = 100
"""Ended sessions without which nothing is said of length."""
_WEEK_D = 7.0
_LEAST = 2.0**-10  # a detector that never spoke in training raises whatever it says


@dataclass(frozen=True, slots=True)
class Budget:
    """What a person asked for.

    Attributes:
        rate: false alerts a unit; None = by the week.
        per_week: false alerts a week, host and stream.
        hosts: the training log came from.
    """

    rate: float | None = None
    per_week: float = ALERTS_PER_WEEK
    hosts: int = 1

    def alpha(self, units_per_day: float) -> float:
        """False alerts a unit, given the units a day of one host (0 = unknown: no time in the data)."""
        if self.rate is not None:
            if not 0 < self.rate < 1:
                raise ConfigError(f"--false-alert-rate is {self.rate}: give a share of sessions between 0 and 1.")
            return self.rate
        if self.per_week <= 0:
            raise ConfigError(f"--false-alerts-per-week is {self.per_week}: give a number above 0.")
        return min(self.per_week / (_WEEK_D * units_per_day), ALPHA_MAX) if units_per_day else ALPHA_DEFAULT


@dataclass(frozen=True, slots=True)
class Block:
    """One time block, or fold: event times (NaN = none), units, alerts expected and observed at the threshold."""

    first: float
    last: float
    units: int
    expected: float
    observed: int


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A threshold and what it rests on; h rows as in `Held`.

    Attributes:
        calibration: for the manifest.
        counts: the table made from all sessions, for the bundle.
        held: what was scored.
        scores: its combined x and terms.
        causes: `[h]` what an alert of the row would be about: fold, detector, types.
        blocks: the folds.
        certified: the lowest rate that these units can certify, 1 / (n + 1).
        unseen_rate: Good-Turing rate of types never seen, a line.
    """

    calibration: Calibration
    counts: Counts
    held: Held
    scores: Scores
    causes: list[tuple[object, ...]]
    blocks: tuple[Block, ...]
    certified: float
    unseen_rate: float

    @property
    def x(self) -> NDArray[np.float64]:
        """Cross-fit scores, bits: float64 `[h]`."""
        return self.scores.x


def calibrate(sessions: Sessions, held: Held, *, vocabulary: int, budget: Budget | None = None) -> Calibrated:
    """The calibration of a bundle from cross-fit scores.

    Args:
        sessions: all training sessions.
        held: what `crossfit.cross_fit` gave.
        vocabulary: V.
        budget: default: one alert a week and host; without times a rate of 0.001.
    """
    n = int(held.weight.sum())
    weight = sessions.weight[sessions.owner]
    lines = int((weight * (sessions.unit_stops - sessions.units)).sum())
    timed = len(sessions.times) > 0
    budget = budget or Budget()
    per_day = n / max(sessions.span_s / 86_400, 1e-9) / budget.hosts if timed and sessions.span_s else 0.0
    alpha = max(budget.alpha(per_day), 1 / (EXTRAPOLATION_MAX * (n + 1)))
    cap = math.log2(n + 1)
    novel = held.novel > 0
    new = len(set(zip(held.fold[novel], held.strange[novel], strict=True))) if timed else held.weight[novel].sum()
    weights = {"cap": cap, "novelty": -math.log2((float(new) + 0.5) / (n + 1))}
    counts = learn(*resting(sessions, weight, sessions.ids, vocabulary))
    terms = {} if sessions.endless or len(counts) else _lengths(held)
    unit: Literal["session", "block"] = "block" if sessions.endless else "session"
    draft = Calibration(alpha, unit, 1.0, False, n, per_day, Tail((), (), BIT), terms, weights)
    surprise = Surprise(draft, Counts.empty(vocabulary))
    scores = held.combined(surprise)
    causes = _causes(sessions, held, scores)
    alerts, per = _alerts(scores.x, held.weight, causes) if timed else (scores.x, held.weight)
    threshold, tail, extrapolated = _threshold(alerts, per, n, alpha)
    if extrapolated and n + 1 >= 1 / ALPHA_DEFAULT:
        threshold = max(threshold, _threshold(alerts, per, n, ALPHA_DEFAULT)[0])
    floor = min(-math.log2(alpha), cap)
    threshold = max(threshold, floor)
    weights["chances"] = round(math.log2(max(lines / n, 1.0)), 6)
    weights |= _alone(held, scores, surprise, causes, n, alpha, chances=weights["chances"], timed=timed)
    sure = _sure(held, causes, n, alpha, timed=timed)
    if sure <= math.log2(lines + 1):  # more than that no log of so many lines can bear out: drift reaches it too
        weights["sure"] = round(sure, 6)
    known = scores.x
    scores = held.combined(Surprise(replace(draft, threshold=threshold, weights=weights), Counts.empty(vocabulary)))
    over = np.where(held.unknown, known, scores.x) >= threshold  # a first sight is told by the rate of first sights
    blocks = _blocks(sessions, held, causes, over, alpha, timed=timed)
    calibration = Calibration(
        alpha=alpha,
        unit=unit,
        threshold=round(threshold, 6),
        extrapolated=extrapolated,
        units=n,
        units_per_day=per_day,
        tail=tail,
        terms=terms,
        weights=weights,
        drift=_drift(held, scores.x, causes, n),
    )
    support = np.bincount(sessions.ids, np.repeat(weight, sessions.unit_stops - sessions.units), vocabulary)[FIRST:]
    return Calibrated(
        calibration=calibration,
        counts=counts,
        held=held,
        scores=scores,
        causes=causes,
        blocks=blocks,
        certified=1 / (n + 1),
        unseen_rate=(float((support == 1).sum()) + 0.5) / (lines + 1),
    )


def _alone(
    held: Held,
    scores: Scores,
    surprise: Surprise,
    causes: list[tuple[object, ...]],
    n: int,
    alpha: float,
    *,
    chances: float,
    timed: bool,
) -> dict[str, float]:
    """The threshold each detector would have by itself, for the same rate: what `evaluate` compares at."""
    found = {}
    for name, bits in {**scores.terms, "lstm": held.network(surprise, chances)}.items():
        alerts, per = _alerts(bits, held.weight, causes) if timed else (bits, held.weight)
        found[f"alone_{name}"] = round(max(_threshold(alerts, per, n, alpha)[0], _LEAST), 6)
    return found


def _sure(held: Held, causes: list[tuple[object, ...]], n: int, alpha: float, *, timed: bool) -> float:
    """Bits of one event or end that are an alert by themselves: a tenth of the budget, on the tail as it was seen.

    The tail begins at the tenth highest alert and falls as those above it do, but never faster than e-fold in a bit:
    ten scores do not show more than that.
    """
    bits = np.maximum(held.top, np.where(held.ended, held.end, 0.0))
    alerts, per = _alerts(bits, held.weight, causes) if timed else (bits, held.weight)
    order = np.argsort(-alerts, kind="stable")
    falling, above = alerts[order], np.cumsum(per[order])
    rank = max(1, min(BASE_RANK, int(per[alerts > 0].sum())))
    place = int(np.searchsorted(above, rank, "left"))
    base = float(falling[place])
    excess = max(float(np.mean(falling[: place + 1] - base)), 1.0)
    rate = SURE_SHARE * max(alpha, 1 / (n + 1))
    return base + excess * max(math.log(rank / (n + 1) / rate), 0.0)


def _causes(sessions: Sessions, held: Held, scores: Scores) -> list[tuple[object, ...]]:
    """What each row's alert would be about, by its strongest detector (as `verdicts.fingerprint` does)."""
    before = contexts(sessions.ids, sessions.starts[sessions.owner[held.unit]], held.place, 3)
    last = sessions.ids[held.place]
    ends = contexts(sessions.ids, sessions.units[held.unit], sessions.units[held.unit] + held.n, 3)
    result: list[tuple[object, ...]] = []
    terms = scores.terms
    strongest = np.argmax([terms["sequence"], terms["end"], terms["counts"], terms["length"]], axis=0)
    for row, (fold, kind) in enumerate(zip(held.fold.tolist(), strongest.tolist(), strict=True)):
        if held.novel[row]:
            result.append((fold, "novelty", int(held.strange[row])))
        elif kind == 0:
            result.append((fold, "sequence", int(last[row]), *before[row].tolist()))
        elif kind == 1:
            result.append((fold, "end", END, *ends[row].tolist()))
        elif kind == 2:
            result.append((fold, "counts", int(held.odd[row])))
        else:
            result.append((fold, "length"))
    return result


def _alerts(
    x: NDArray[np.float64], weight: NDArray[np.int64], causes: list[tuple[object, ...]]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One score for each cause, its greatest; the other units of the cause score nothing."""
    best: dict[tuple[object, ...], int] = {}
    for row in np.argsort(-x, kind="stable").tolist():
        best.setdefault(causes[row], row)
    rows = np.array(sorted(best.values()), np.int64)
    rest = int(weight.sum()) - len(rows)
    return np.append(x[rows], 0.0), np.append(np.ones(len(rows), np.int64), rest)


def _threshold(x: NDArray[np.float64], weight: NDArray[np.int64], n: int, alpha: float) -> tuple[float, Tail, bool]:
    """Threshold, tail for p-values, and whether the threshold is extrapolated."""
    order = np.argsort(-x, kind="stable")
    falling, above = x[order], np.cumsum(weight[order])
    last = np.append(falling[1:] < falling[:-1], True)
    levels, reached = falling[last], above[last]  # falling levels, and how many units reach each
    certified = n + 1 >= 1 / alpha
    rank = n + 1 - math.ceil((n + 1) * (1 - alpha) - 1e-9) if certified else min(BASE_RANK, n)
    base = max(int(np.searchsorted(reached, rank, "right")) - 1, 0)  # of scores that tie across the rank, none counts
    ranks = np.unique(np.geomspace(max(rank, 1), n, LEVELS).round().astype(np.int64))
    chosen = np.unique(np.append(np.searchsorted(reached, ranks, "left"), base))
    chosen = chosen[chosen >= base][::-1]
    tail = Tail(tuple(levels[chosen].tolist()), tuple((reached[chosen] / (n + 1)).tolist()), BIT)
    if certified and reached[base] <= rank:
        exact = math.log(max((n + 1) * alpha, 1.0))
        threshold = -float(np.interp(exact, np.log(reached[base : base + 2]), -levels[base : base + 2]))
        tail = Tail((threshold, *tail.levels), (alpha, *tail.p), BIT) if threshold < tail.levels[0] else tail
        return threshold, tail, False
    return float(levels[base]) + BIT * max(math.log(tail.p[-1] / alpha), 0.0), tail, not certified


def _lengths(held: Held) -> dict[str, Tail]:
    """Tails of log2 of the number of events, upwards and downwards; nothing where too few sessions ended."""
    rows = held.ended
    n = int(held.weight[rows].sum())
    if n < LENGTHS_MIN:
        return {}
    size, weight = np.log2(held.n[rows]), held.weight[rows]
    tails = {}
    for name, x in (("long", size), ("short", -size)):
        order = np.argsort(-x, kind="stable")
        falling, above = x[order], np.cumsum(weight[order])
        ranks = np.unique(np.geomspace(1, n, LEVELS).round().astype(np.int64))[::-1]
        levels = falling[np.searchsorted(above, ranks, "left")]
        first = np.append(True, levels[1:] > levels[:-1])
        counted = above[np.searchsorted(-falling, -levels[first], "right") - 1]
        high = levels[np.searchsorted(-ranks, -max(1, n // 100), "left")]
        excess = float(np.average(x[x >= high] - high, weights=weight[x >= high]))
        tails[name] = Tail(
            tuple(np.round(levels[first], 6).tolist()), tuple((counted / (n + 1)).tolist()), max(excess, 0.1)
        )
    return tails


def _blocks(
    sessions: Sessions,
    held: Held,
    causes: list[tuple[object, ...]],
    over: NDArray[np.bool_],
    alpha: float,
    *,
    timed: bool,
) -> tuple[Block, ...]:
    """Expected and observed alerts of each fold."""
    blocks = []
    for fold in np.unique(held.fold).tolist():
        rows = np.flatnonzero(held.fold == fold)
        times = sessions.times[sessions.units[held.unit[rows]]] if timed else np.full(1, np.nan)
        alerts = (
            len({causes[row] for row in rows[over[rows]].tolist()})
            if timed
            else int(held.weight[rows[over[rows]]].sum())
        )
        units = int(held.weight[rows].sum())
        blocks.append(Block(float(times.min()), float(times.max()), units, alpha * units, alerts))
    return tuple(blocks)


def _drift(held: Held, x: NDArray[np.float64], causes: list[tuple[object, ...]], n: int) -> float:
    """How many times its share the strangest fold holds of the strangest hundredth of alerts."""
    top: dict[tuple[object, ...], int] = {}
    for row in np.argsort(-x, kind="stable").tolist():
        top.setdefault(causes[row], row)
        if len(top) >= max(BASE_RANK, n // 100):
            break
    per = np.bincount(held.fold[list(top.values())])
    return float(per.max() / per.sum() * len(np.unique(held.fold)))
