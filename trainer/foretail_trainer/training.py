"""Sessions -> a fitted network: which windows it learns from, which it is judged by while it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretail.schema import END, UNKNOWN
from foretail_trainer.crossfit import contexts, restricted
from foretail_trainer.export import distributions
from foretail_trainer.fit import DEFAULT, fit
from foretail_trainer.windows import Columns, Windows, windows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from foretail_trainer.crossfit import Fitter, Scorer
    from foretail_trainer.fit import Epoch, Fitted, Plan
    from foretail_trainer.network import Shape, Weights
    from foretail_trainer.sequences import Sessions

HELD_SHARE = 0.1


def learning_windows(sessions: Sessions, partial: NDArray[np.bool_] | None, window: int) -> Windows:
    """What a network learns: every event after those before it, and END wherever a session rested.

    Args:
        sessions: s sessions.
        partial: bool `[s]`: the beginning was not seen (left padding UNKNOWN).
        window: C.
    """
    unseen = np.zeros(len(sessions), np.bool_) if partial is None else partial
    everything = Columns(sessions.ids, sessions.starts, sessions.weight, np.ones(len(sessions), np.bool_))
    events = windows(everything, window=window, partial=unseen)
    last = np.flatnonzero(sessions.rests)
    if not len(last):
        return events
    owner = np.searchsorted(sessions.starts, last, "right") - 1
    rows = contexts(sessions.ids, sessions.starts[owner], last + 1, window)
    missing = np.arange(-window, 0) + (last + 1 - sessions.starts[owner])[:, None] < 0
    rows[missing & unseen[owner, None]] = UNKNOWN
    rows, inverse = np.unique(rows, axis=0, return_inverse=True)
    heavy = np.bincount(inverse.ravel(), sessions.weight[owner], len(rows)).astype(np.float64)
    return Windows(
        np.concatenate([events.window, rows]),
        np.concatenate([events.target, np.full(len(rows), END, np.int32)]),
        np.concatenate([events.weight, heavy]),
    )


def fit_network(
    sessions: Sessions,
    shape: Shape,
    plan: Plan = DEFAULT,
    *,
    seed: int = 0,
    partial: NDArray[np.bool_] | None = None,
    start: Weights | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> tuple[Fitted, Windows]:
    """Fit on nine tenths; the last tenth in time (a random one without times) decides when to stop.

    Returns:
        The fitted network, and the windows of the held-out tenth: what the export gate looks at.
    """
    held = _held(sessions, seed)
    rest = sessions.weight[sessions.owner] - held
    train = learning_windows(*restricted(sessions, rest, sessions.ids, partial), shape.window)
    judge = learning_windows(*restricted(sessions, held, sessions.ids, partial), shape.window)
    return fit(train, judge, shape, plan, seed=seed, start=start, progress=progress), judge


def fitter(shape: Shape, plan: Plan = DEFAULT) -> Fitter:
    """How `crossfit` fits: the network that will be shipped, in float."""

    def fit_one(sessions: Sessions, partial: NDArray[np.bool_], seed: int) -> Scorer:
        weights = fit_network(sessions, shape, plan, seed=seed, partial=partial)[0].weights
        return scorer(weights)

    return fit_one


def scorer(weights: Weights) -> Scorer:
    """A float network as crossfit asks it."""

    def nats(window: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.float32]:
        logp = distributions(weights, window)
        result: NDArray[np.float32] = -logp[np.arange(len(target)), target]
        return result

    return nats


def _held(sessions: Sessions, seed: int) -> NDArray[np.int64]:
    """How many of each unit are held out: int64 `[u]`."""
    weight = sessions.weight[sessions.owner]
    if not len(sessions.times):
        return np.random.default_rng([seed, 3]).binomial(weight, HELD_SHARE).astype(np.int64)
    order = np.argsort(sessions.times[sessions.units], kind="stable")
    held = np.zeros(len(weight), np.int64)
    late = order[len(order) - int(len(order) * HELD_SHARE) :]
    held[late] = weight[late]
    return held
