"""Weighted windows -> trained weights: Adam with a falling rate, early stopping on a held-out part, fixed seeds."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail.errors import ConfigError
from foretail_trainer.network import Shape, Weights, check, initial, tensorflow
from foretail_trainer.steps import Machine
from foretail_trainer.weights import on_grid
from foretail_trainer.windows import Columns, Sessions, Windows, unknowing, windows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from foretail_trainer.steps import Batch


class Plan(NamedTuple):
    """How to train.

    Attributes:
        steps: batches at most; the rate falls to nothing over them (cosine). 0: as many as the windows need.
        batch: windows in a batch.
        rate: highest learning rate of Adam.
        warm_up: share of steps over which the rate rises.
        evaluations: how often the held-out part is looked at.
        patience: evaluations without a better one before training stops.
        smoothing: label smoothing, 0 to .5.
        dropout: share of a layer's outputs set to 0 in training, 0 to .9.
        contexts, inputs: share of windows with an unknown left part, of unknown inputs (DESIGN §4).
        finish: share of steps spent at last on all data, the held-out part included.
        clip: greatest norm of a gradient.
    """

    steps: int = 0
    batch: int = 256
    rate: float = 0.015
    warm_up: float = 0.05
    evaluations: int = 30
    patience: int = 8
    smoothing: float = 0.0
    dropout: float = 0.0
    contexts: float = 0.1
    inputs: float = 0.015
    finish: float = 0.1
    clip: float = 0.1


DEFAULT = Plan()
STEPS_MIN, STEPS_MAX = 1500, 6000
"""Batches of a plan that leaves them open: eight rounds over the distinct windows, within these."""


JUDGED_MAX = 1 << 14
"""Held-out windows looked at in each evaluation."""


class Epoch(NamedTuple):
    """One point of the loss curves; nats per event."""

    step: int
    steps: int
    train: float
    held: float


class Fitted(NamedTuple):
    """Trained weights and how they came about."""

    weights: Weights
    curve: tuple[Epoch, ...]
    held: float  # nats per event on the held-out part, at the best step


def split(
    sessions: Sessions, *, share: float = 0.1, seed: int = 0, start_time: NDArray[np.float64] | None = None
) -> tuple[Columns, Columns]:
    """Sessions to train on and sessions held out.

    With times the last `share` of sessions by their beginning is held out; without, a random `share` of the single
    sessions behind each weight (a file sorted by frequency is no time series: FACTS).

    Args:
        sessions: columns.
        share: of sessions held out.
        seed: of the random choice.
        start_time: float64 [sessions]; NaN or None: no times.
    """
    weight = np.asarray(sessions.weight, np.int64)
    if start_time is not None and np.isfinite(start_time).all() and len(np.unique(start_time)) > 1:
        late = np.argsort(np.argsort(start_time, kind="stable"), kind="stable") >= len(weight) * (1 - share)
        held = np.where(late, weight, 0)
    else:
        held = np.random.default_rng(seed).binomial(weight, share)
    return _weighted(sessions, weight - held), _weighted(sessions, held)


def _weighted(sessions: Sessions, weight: NDArray[np.int64]) -> Columns:
    return Columns(sessions.ids, sessions.starts, weight, sessions.censored)


def fit_sessions(
    sessions: Sessions,
    shape: Shape,
    plan: Plan = DEFAULT,
    *,
    seed: int = 0,
    start: Weights | None = None,
    partial: NDArray[np.bool_] | None = None,
    start_time: NDArray[np.float64] | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Fitted:
    """`fit` on the windows of sessions, a tenth of them held out (see `split`).

    Args:
        sessions: columns of model ids.
        shape: of the network.
        plan: of the training.
        seed: of everything random.
        start: weights of an earlier fit to go on from.
        partial: see `windows`.
        start_time: see `split`.
        progress: called at each evaluation.
    """
    train, held = (
        windows(part, window=shape.window, partial=partial)
        for part in split(sessions, seed=seed, start_time=start_time)
    )
    return fit(train, held, shape, plan, seed=seed, start=start, progress=progress)


def fit(
    train: Windows,
    held: Windows,
    shape: Shape,
    plan: Plan = DEFAULT,
    *,
    seed: int = 0,
    start: Weights | None = None,
    progress: Callable[[Epoch], None] | None = None,
) -> Fitted:
    """Train; the same input, seed, machine and thread count give the same weights.

    Args:
        train: windows to learn from.
        held: windows that decide when to stop; learnt at last (`plan.finish`). Empty: the training windows decide.
        shape: of the network.
        plan: of the training.
        seed: of everything random.
        start: weights to go on from, of the same shape.
        progress: called at each evaluation.

    Raises:
        ConfigError: nothing to learn from, ids beyond the vocabulary, or `start` of another shape.
    """
    check(shape)
    _check_windows(train, shape)
    needed = min(max(8 * len(train.target) // plan.batch, STEPS_MIN), STEPS_MAX)
    plan = plan._replace(steps=plan.steps or needed)
    if start is not None and start.shape != shape:
        raise ConfigError(f"The weights to go on from are of shape {start.shape}, wanted is {shape}.")
    judge = _sample(held if len(held.target) else train, np.random.default_rng([seed, 2]))
    machine = Machine(start or initial(shape, seed=seed), plan.smoothing, plan.dropout, plan.clip)
    rng = np.random.default_rng([seed, 1])
    rates = _rates(plan)
    every = max(1, plan.steps // plan.evaluations)
    best, best_theta, curve, since = np.inf, machine.theta, [], 0
    losses = []
    for step, batch in enumerate(_batches(train, plan, rng, plan.steps)):
        losses.append(machine.step(batch, rates[step], rng))
        if (step + 1) % every:
            continue
        now = machine.loss(judge)
        curve.append(Epoch(step + 1, plan.steps, float(np.mean([float(x) for x in losses])), now))
        losses = []
        if progress:
            progress(curve[-1])
        since += 1
        if now < best - 1e-4:
            best, best_theta, since = now, machine.theta, 0
        elif since >= plan.patience:
            break
    machine.theta = best_theta
    if plan.finish and len(held.target):
        _finish(machine, _join(train, held), plan, rng)
    return Fitted(on_grid(Weights(shape, machine.arrays())), tuple(curve), float(best))


def fit_many(
    parts: Sequence[tuple[Windows, Windows]],
    shape: Shape,
    plan: Plan = DEFAULT,
    *,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, Epoch], None] | None = None,
) -> list[Fitted]:
    """Several fits at once, as a cross-fit needs them; each result is that of `fit` alone.

    Args:
        parts: for each fit the windows to learn from and those that decide when to stop.
        shape: of the networks.
        plan: of the trainings.
        seed: of each.
        workers: fits at a time; default one a core.
        progress: called with the number of the fit at each of its evaluations, from several threads.
    """

    def one(number: int) -> Fitted:
        told = None if progress is None else lambda epoch: progress(number, epoch)
        return fit(*parts[number], shape, plan, seed=seed, progress=told)

    tensorflow()
    with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(one, range(len(parts))))


def loss(weights: Weights, held: Windows) -> float:
    """Mean nats per event, weighted."""
    return Machine(weights).loss(held)


def _sample(held: Windows, rng: np.random.Generator, most: int = JUDGED_MAX) -> Windows:
    """At most `most` windows that stand for all, each drawn as often as its weight asks (systematic sampling)."""
    if len(held.target) <= most:
        return held
    reached = np.cumsum(held.weight)
    drawn = np.searchsorted(reached, (np.arange(most) + rng.random()) * (reached[-1] / most))
    rows, times = np.unique(np.minimum(drawn, len(reached) - 1), return_counts=True)
    return Windows(held.window[rows], held.target[rows], times.astype(np.float64))


def _check_windows(train: Windows, shape: Shape) -> None:
    if not len(train.target):
        raise ConfigError("No events to learn from: the training log gives no window.")
    top = int(max(train.window.max(), train.target.max()))
    if top >= shape.vocabulary or train.window.shape[1] != shape.window:
        raise ConfigError(
            f"The windows are of length {train.window.shape[1]} with ids up to {top}; "
            f"the network takes length {shape.window} and ids below {shape.vocabulary}."
        )


def _join(a: Windows, b: Windows) -> Windows:
    return Windows(
        np.concatenate([a.window, b.window]),
        np.concatenate([a.target, b.target]),
        np.concatenate([a.weight, b.weight]),
    )


def _rates(plan: Plan) -> NDArray[np.float32]:
    at = (np.arange(plan.steps) + 1) / plan.steps
    rising = np.minimum(1.0, at / plan.warm_up) if plan.warm_up else 1.0
    return (plan.rate * rising * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * at)))).astype(np.float32)


def _finish(machine: Machine, everything: Windows, plan: Plan, rng: np.random.Generator) -> None:
    steps = int(plan.steps * plan.finish)
    for step, batch in enumerate(_batches(everything, plan, rng, steps)):
        machine.step(batch, np.float32(plan.rate * 0.1 * (1 - step / steps)), rng)


def _batches(train: Windows, plan: Plan, rng: np.random.Generator, steps: int) -> Iterator[Batch]:
    """Batches with replacement, windows drawn by the root of their weight: rare ones are seen, common ones lead."""
    root = np.sqrt(train.weight)
    cumulated = np.cumsum(root) / root.sum()
    scale = train.weight / root * (root.sum() / train.weight.sum())
    for _ in range(steps):
        # systematic sampling: one draw from each of `batch` equal shares of the whole
        at = np.searchsorted(cumulated, (np.arange(plan.batch) + rng.random(plan.batch)) / plan.batch)
        at = np.minimum(at, len(root) - 1)
        context = unknowing(train.window[at], rng, contexts=plan.contexts, inputs=plan.inputs)
        yield context, train.target[at], scale[at].astype(np.float32)
