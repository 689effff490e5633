"""Pure: scores of normal rows -> the level that a share of them reaches, the tail for p-values, and how it drifts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from foretail.schema import Tail

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def quantile(values: NDArray[np.float64], alpha: float) -> tuple[float, bool]:
    """The ceil((n + 1)(1 - alpha))-th value; the largest, moved out along an exponential tail, if there is none."""
    ordered = np.sort(values)
    n = len(ordered)
    rank = math.ceil((n + 1) * (1 - alpha))
    if rank <= n:
        return float(np.nextafter(ordered[rank - 1], math.inf)), False
    u = float(np.quantile(ordered, 0.8))
    excess = ordered[ordered > u] - u
    scale = float(excess.mean()) if len(excess) else 1.0
    return max(float(np.nextafter(ordered[-1], math.inf)), u + scale * math.log(0.2 / alpha)), True


def tail(values: NDArray[np.float64], levels: int = 64) -> Tail:
    """P(score >= level) at rising levels of the upper half, exponential beyond."""
    ordered = np.sort(values)
    n = len(ordered)
    places = np.unique(
        np.concatenate([np.linspace(0, n - 1, levels // 2), n - np.geomspace(1, n, levels // 2)]).astype(int)
    )
    kept = np.unique(ordered[places])
    p = (n - np.searchsorted(ordered, kept, "left") + 1) / (n + 1)
    last = kept[-1]
    above = ordered[ordered > np.quantile(ordered, 0.9)]
    scale = float((above - np.quantile(ordered, 0.9)).mean()) if len(above) else 1.0
    return Tail(
        tuple(float(v) for v in kept), tuple(float(v) for v in p), max(scale, 1e-3 * max(1.0, abs(float(last))))
    )


def drift(ratio: NDArray[np.float64], blocks: Sequence[NDArray[np.intp]]) -> float:
    """Largest ratio of high scores between time blocks."""
    high = ratio >= np.quantile(ratio, 0.95)
    shares = [float(high[block].mean()) for block in blocks]
    return max(shares) / max(float(np.mean(shares)), 1e-9)
