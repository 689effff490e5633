"""How strange a line or a session is, in bits, and what that means: x, score, p and reasons. Pure numpy, by columns.

Every term is in bits: 2^-bits is how seldom a normal session or line holds such a thing. No term is more certain than
the training data: n units can show that something is rarer than cap = log2(n + 1); what exceeds a cap gives the order
and hardly more (`soft`).

    line      sequence = soft(surprise of what came, cap)
                         (0 where the past is not known: the first events of partial sessions)
              novelty  = rare type: N;  unknown type: N + what cap exceeds sequence by
              x = sequence + novelty                                            N = -log2(rate of units with novelties)
    unit      sequence = the greatest of its lines', end = soft(surprise of the end, cap), novelty as above
              counts   = distance to the nearest normal session (`foretail.counts`), softly at most 2 cap
              length   = -log2 p of its number of events, at most cap; only where there is no table of counts
              x = max(sequence, end) + novelty + counts + length

    both      x is at least t * b / sure, b the surprise in bits, before any cap, of a line or an end;
              and at least t where a type is unknown: whether anybody is told is for `incidents` to decide, by the rate
              at which unknown types come

The last but one is for logs that the network predicts well: where no normal event came near `sure` bits, one that does
is an alert by itself, however few sessions there were to learn from (`sure` lies on the tail of what normal ones
showed, so it is out of reach where the network is often surprised). Agreement counts because bits add: two detectors at
half the threshold each are as strange as one that reaches it. A unit's x is never below that of one of its lines, so
that one threshold t spends one budget for both.

What a session must remember for this (columns of `sessions`): n events; the greatest surprise `top` of its events of
known type, in bits; `novel` events; the vector of type counts at its end; and the surprise of END after its last C
events. Streams without a key, and endless keys: the unit is a tumbling block of 100 lines, with counts of the block
and without an end. Partial and open sessions: no end, counts or length term.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foretail.schema import UNKNOWN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail.counts import Counts
    from foretail.schema import Calibration, Tail

BLOCK_LINES = 100
"""Lines of a block: a shorter one (end of input) has no counts term."""
BEYOND_CAP = 0.25
"""Of the logarithm of what exceeds a cap: enough to keep the order, less than what another detector adds."""
P_MIN = 1e-12
"""No log is so long that it could show a smaller share."""
REASON_BITS_MIN = 3.0
"""A detector that says less does not appear among the reasons beside a stronger one."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Verdicts in bits, n rows.

    Attributes:
        x: float64 `[n]`, the combined surprise.
        terms: detector name to float64 `[n]`, what each one says.
        told: bool `[n]`, of units: a line of it had an anomalous verdict of its own, and the unit adds nothing to it.
    """

    x: NDArray[np.float64]
    terms: dict[str, NDArray[np.float64]]
    told: NDArray[np.bool_] | None = None

    def reasons(self, row: int) -> list[str]:
        """Detectors that speak in one row, strongest first; at least one."""
        bits = {name: float(term[row]) for name, term in self.terms.items()}
        order = sorted(bits, key=lambda name: -bits[name])
        return [name for name in order if bits[name] >= REASON_BITS_MIN] or order[:1]


class Surprise:
    """The calibrated scale of a bundle.

    Args:
        calibration: threshold, tail, `weights` (`cap`, `novelty` and `sure`, bits) and `terms` (tails
            of `long` and `short`: log2 of a session's events, and its negative; given only without a table of counts).
        counts: the table of normal vectors.
    """

    def __init__(self, calibration: Calibration, counts: Counts) -> None:
        self.counts = counts
        self.threshold = calibration.threshold
        self.cap = calibration.weights.get("cap", math.log2(calibration.units + 1))
        self.novelty = calibration.weights.get("novelty", self.cap)
        self.sure = calibration.weights.get("sure", math.inf)
        self._tail = calibration.tail
        self.blocks = calibration.unit == "block"
        self._long, self._short = calibration.terms.get("long"), calibration.terms.get("short")

    def score(self, x: float) -> float:
        """x/(x+t): at least .5 exactly when x >= t."""
        if x >= self.threshold:
            return max(0.5, x / (x + self.threshold))
        return min(x / (x + self.threshold), math.nextafter(0.5, 0.0))

    def p(self, x: float) -> float:
        """Share of normal units with at least this x."""
        return float(exceedance(self._tail, np.array([x]))[0])

    def lines(self, bits: NDArray[np.float64], *, unknown: NDArray[np.bool_], rare: NDArray[np.bool_]) -> Scores:
        """Verdicts of n lines.

        Args:
            bits: float64 `[n]`: -log2 p(type | past); 0 where it cannot be judged (and anything for unknown types).
            unknown: bool `[n]`: no pattern matched.
            rare: bool `[n]`: of a type with support below 3.

        Returns:
            Scores with the terms `sequence` and `novelty`.
        """
        sequence = np.where(unknown, 0.0, soft(bits, self.cap))
        novelty = self._novelty(sequence, unknown, rare | unknown)
        x = np.maximum(sequence + novelty, np.where(unknown, self.threshold, self._alone(bits)))
        return Scores(x, {"sequence": sequence, "novelty": novelty})

    def units(
        self,
        *,
        n: NDArray[np.int64],
        total: NDArray[np.float64],  # noqa: ARG002 (kept by sessions; a later combination may want it)
        top: NDArray[np.float64],
        novel: NDArray[np.int64],
        end: NDArray[np.float64],
        counts: NDArray[np.int64],
        ended: NDArray[np.bool_],
    ) -> Scores:
        """Verdicts of u sessions or blocks.

        Args:
            n: int64 `[u]`: events.
            total: float64 `[u]`: sum of the events' bits.
            top: float64 `[u]`: the greatest of them.
            novel: int64 `[u]`: events of unknown or rare type.
            end: float64 `[u]`: bits of END after the last event; used where `ended`.
            counts: int64 `[u, V]`.
            ended: bool `[u]`: whole, and its end was seen. Blocks have no end and are judged when they are full.

        Returns:
            Scores with the terms `sequence`, `end`, `novelty`, `counts` and `length`.
        """
        judged = n >= BLOCK_LINES if self.blocks else ended
        distance = np.zeros(len(n))
        rows = np.flatnonzero(judged)
        if len(rows):
            distance[rows] = self.counts.distance(counts[rows])
        return self.combine(
            top=top,
            end=end,
            ended=ended & (not self.blocks),
            unknown=counts[:, UNKNOWN] > 0,
            novel=novel > 0,
            distance=distance,
            length=np.where(judged, self.length(n), 0.0),
        )

    def combine(
        self,
        *,
        top: NDArray[np.float64],
        end: NDArray[np.float64],
        ended: NDArray[np.bool_],
        unknown: NDArray[np.bool_],
        novel: NDArray[np.bool_],
        distance: NDArray[np.float64],
        length: NDArray[np.float64],
    ) -> Scores:
        """`units` with the distance and length bits known: what calibration shares with the agent."""
        sequence = soft(top, self.cap)
        last = np.where(ended, soft(end, self.cap), 0.0)
        most = np.maximum(sequence, last)
        novelty = self._novelty(most, unknown, novel)
        far = soft(distance, 2 * self.cap)
        alone = self._alone(np.maximum(top, np.where(ended, end, 0.0)))
        x = np.maximum(most + novelty + far + length, np.maximum(alone, np.where(unknown, self.threshold, 0.0)))
        terms = {"sequence": sequence, "end": last, "novelty": novelty, "counts": far, "length": length}
        by_line = np.maximum(sequence, self._alone(top)) >= self.threshold
        told = by_line | (unknown & (most + far + length < self.threshold))
        return Scores(x, terms, told)

    def difference(self, counts: NDArray[np.int64]) -> tuple[dict[int, int], dict[int, int]]:
        """Events missing and extra against the nearest normal session, by model id, dearest first: int64 `[V]`."""
        return self.counts.difference(counts)

    def length(self, n: NDArray[np.int64]) -> NDArray[np.float64]:
        """How unusual a number of events is for an ended session: int64 `[u]` -> bits, float64 `[u]`."""
        if self._long is None or self._short is None:
            return np.zeros(len(n))
        size = np.log2(np.maximum(n, 1))
        p = np.minimum(exceedance(self._long, size), exceedance(self._short, -size))
        bits: NDArray[np.float64] = np.clip(-np.log2(2 * p), 0.0, self.cap)
        return bits

    def _alone(self, bits: NDArray[np.float64]) -> NDArray[np.float64]:
        """X of an event by the network's surprise alone: the threshold at `sure` bits."""
        x: NDArray[np.float64] = self.threshold * bits / self.sure
        return x

    def _novelty(
        self, known: NDArray[np.float64], unknown: NDArray[np.bool_], novel: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """A type never seen also takes the place of the most surprising event that is known."""
        return np.where(novel, self.novelty, 0.0) + np.where(unknown, np.maximum(self.cap - known, 0.0), 0.0)


def soft(bits: NDArray[np.float64], cap: float) -> NDArray[np.float64]:
    """Bits up to cap, and a little of the logarithm of the rest: order is kept, nothing ends in one heap at the cap."""
    beyond: NDArray[np.float64] = np.minimum(bits, cap) + BEYOND_CAP * np.log2(1.0 + np.maximum(bits - cap, 0.0))
    return beyond


def exceedance(tail: Tail, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(score >= x) for each x: counted up to the last level, exponential beyond it; never below P_MIN."""
    if not tail.levels:
        return np.ones(len(x))
    levels, p = np.array(tail.levels), np.array(tail.p)
    place = np.searchsorted(levels, x, "left")
    counted = np.append(p, p[-1])[place]
    excess = np.maximum(x - levels[-1], 0.0)
    beyond: NDArray[np.float64] = np.maximum(counted * np.exp(-excess / tail.scale), P_MIN)
    return beyond
