"""`fit --base B --feedback F LOGS`: what the base learned, new logs, and what people said, as one new bundle.

The order of steps. Types of the base stand, new ones join them. Old sessions come from the base's history, each in the
fold in which it was; so every network goes on from the one that never saw that fold, and calibration stays honest.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail import bundle as bundles
from foretail.counts import NAME, QUANTUM, Counts
from foretail.errors import ConfigError
from foretail.schema import FIRST, UNKNOWN
from foretail_trainer import (
    beside,
    calibrate,
    changes,
    crossfit,
    export,
    feedback,
    history,
    learn,
    lessons,
    material,
    pack,
    reading,
    rehearing,
    suspects,
    vectors,
    weights,
)
from foretail_trainer.fit import STEPS_MAX, STEPS_MIN, Plan, fit
from foretail_trainer.network import Shape
from foretail_trainer.training import HELD_SHARE, learning_windows, scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail_trainer.calibrate import Calibrated
    from foretail_trainer.fit import Fitted
    from foretail_trainer.history import History
    from foretail_trainer.learn import Learned
    from foretail_trainer.lessons import Lesson
    from foretail_trainer.material import Material
    from foretail_trainer.network import Weights
    from foretail_trainer.sequences import Sessions
    from foretail_trainer.stages import Stages
    from foretail_trainer.windows import Windows

RATE_SHARE = 0.4
"""Of the learning rate of a first fit: enough to learn what is new, too little to forget."""
STEPS_SHARE = 0.5
"""Of the steps of a first fit."""
ROUNDS = 3
"""Fits after which a label that does not hold is said not to hold."""
QUIET_MAX = 1.25
"""Times the calibrated threshold, to which it rises at most for the sake of the old log."""
SAMPLE = 1024
"""Windows on which the outputs for new types are set to begin with."""
INSISTENCE = 4.0
"""Times the weight of a lesson that did not hold, each round."""


def refit(options: learn.Options, stages: Stages) -> Learned:
    """Make a bundle from an older one's history, new logs and labels.

    Args:
        options: with `base` and `feedback`; `files` may be none. Network, header and key are those of the base.
        stages: is told of each step.

    Raises:
        ConfigError: the input, an option, or the export gate.
    """
    began = time.monotonic()
    base = bundles.read(options.base)
    past = history.read(history.beside(options.base), base)
    said = feedback.gather(options.feedback)
    options = _as_before(options, base, past)
    with reading.kept(options.files) as paths:
        learned, vocabulary, new = material.typed(options, base, past, said.labels, paths, stages)
        found = material.gathered(learned, vocabulary, new, past, said.labels)
        _model(learned, found, base, stages)
        with stages.stage("bundle"):
            learned.bundle = pack.pack(learned)
        if base.manifest.lines is not None:
            learned.notes.append("the classifier of single lines is not in this bundle; fit it with --lines again")
        learned.notes.append(feedback.summary(said))
        learned.notes += [f"a conflict was left out: {feedback.what(group[0].label)}" for group in said.conflicts]
        with stages.stage("what changed"):
            learned.changes = changes.of(base, learned, vocabulary, found.lessons, paths)
    learned.notes = list(dict.fromkeys(learned.notes))  # drafts were packed too
    learned.seconds = time.monotonic() - began
    return learned


def _as_before(options: learn.Options, base: Bundle, past: History) -> learn.Options:
    """The options with what the base says of name, network, budget and sessions."""
    sequence = base.manifest.sequence
    if sequence is None:
        raise ConfigError(f"bundle {base.path} has no sequence model; there is nothing to go on from")
    if options.types_file:
        raise ConfigError("a refit keeps the types of its base; edit them with --types in a fit with --base alone")
    key, header = base.manifest.key, base.manifest.format.name
    if options.format not in {"auto", header} or options.key not in {"auto", key.regex or key.field or "none"}:
        raise ConfigError("a refit keeps header and key of its base; leave --format and --key out")
    given = options.rate is not None or options.per_week != calibrate.ALERTS_PER_WEEK
    return msgspec.structs.replace(
        options,
        name=options.name or base.manifest.name,
        cell=sequence.cell,
        layers=sequence.layers,
        units=sequence.units,
        window=sequence.window,
        idle_s=options.idle_s or base.manifest.idle_s,
        rate=options.rate if given else past.rate or None,
        per_week=options.per_week if given else past.per_week,
    )


def _model(learned: Learned, found: Material, base: Bundle, stages: Stages) -> None:
    """Calibrate, fit until the labels hold and the old log is as quiet as before, export and pass the gate."""
    options, sessions = learned.options, found.sessions
    width = FIRST + len(learned.patterns)
    shape = Shape(options.cell, options.layers, options.units, options.window, width)  # type: ignore[arg-type]
    told = [one for one in found.lessons if one.normal]
    by_template = {one.template: number for number, one in enumerate(learned.patterns, FIRST)}
    extra = lessons.vectors(told, width, _counts(base, changes.backwards(base, learned)), by_template)
    weight = sessions.weight[sessions.owner]
    with stages.stage("calibration", found.share.shape[1]) as progress:
        held = crossfit.Held.join(
            [
                part
                for fold in range(found.share.shape[1])
                for part in _fold(learned, found, shape, told, extra, fold, progress)
            ]
        )
        share = 1.0 if base.manifest.volume is None else 1.0 - beside.VOLUME_SHARE  # `pack` keeps that detector
        rate = options.rate * share if options.rate is not None else None
        budget = calibrate.Budget(rate, options.per_week * share, learned.hosts)
        calibrated = calibrate.calibrate(sessions, held, vocabulary=width, budget=budget)
        counts = lessons.taught(*vectors.resting(sessions, weight, sessions.ids, width), extra, found.fresh)
        calibrated = replace(calibrated, counts=counts)
        names = ["(start)", "(end)", "(unknown)", *(pattern.template for pattern in learned.patterns)]
        learned.suspects = suspects.suspects(sessions, calibrated, names)
    start, unseen = _start(found, found.base.network), np.zeros(len(sessions), np.bool_)
    refused = None
    for attempt in range(ROUNDS):
        with stages.stage("model" if not attempt else f"model, round {attempt + 1}"):
            fitted, judge = _network(sessions, unseen, shape, options.plan, told, start=start, seed=options.seed)
            start = fitted.weights
            b1, b64 = export.export(fitted.weights, 1), export.export(fitted.weights, 64)
            try:
                learned.agreement = export.gate(b1, b64, start, judge, (calibrated.calibration.threshold,))
            except ConfigError as error:  # train on; a round that passed before stays
                refused = error
                continue
        learned.fitted, learned.judged, learned.curve = fitted, judge, list(fitted.curve)
        learned.models = {"sequence.b1.tflite": b1, "sequence.b64.tflite": b64}
        learned.calibrated = calibrated
        failing = _settled(learned, found, base)
        if not failing:
            break
        again = {one.label.id for one in failing}
        known = {one.label.id for one in told}
        told = [one._replace(weight=one.weight * INSISTENCE) if one.label.id in again else one for one in told]
        told += [one for one in failing if one.label.id not in known]
    if not learned.models and refused is not None:
        raise refused


def _counts(base: Bundle, back: NDArray[np.int32]) -> Counts:
    """The base's table of normal type counts in the numbers of the refit."""
    table = Counts.read(base)
    absent = (back == UNKNOWN) & (np.arange(len(back)) >= FIRST)
    penalty = base.array(NAME)[1:, -1].astype(np.float64) / QUANTUM if len(table) else np.zeros(0)
    rows, weight = np.where(absent, 0, table.vectors[:, back]), np.where(absent, 0.0, table.weight[back])
    return Counts(rows, penalty, weight, table.rank)


def _fold(
    learned: Learned,
    found: Material,
    shape: Shape,
    told: Sequence[Lesson],
    extra: NDArray[np.int32],
    fold: int,
    progress: Callable[[float], None],
) -> list[crossfit.Held]:
    """Old and new units of a fold as a network sees them that learned from all others; as `crossfit.cross_fit`."""
    sessions, options = found.sessions, learned.options
    share = found.share[:, fold]
    weight = sessions.weight[sessions.owner] - share
    progress(1)
    if not share.any() or not weight.any():
        return []
    support = np.bincount(sessions.ids, np.repeat(weight, sessions.unit_stops - sessions.units), shape.vocabulary)
    ids = np.where(support[sessions.ids] > 0, sessions.ids, UNKNOWN).astype(np.int32)
    part, partial = crossfit.restricted(sessions, weight, ids)
    before = found.base.folds[fold]
    start = _start(found, before) if before is not None else None
    fitted, _ = _network(part, partial, shape, options.plan, told, start=start, seed=options.seed + fold)
    learned.folds[fold] = fitted.weights
    counts = lessons.taught(*vectors.resting(sessions, weight, ids, shape.vocabulary), extra, found.fresh)
    rare = (support > 0) & (support < crossfit.RARE_BELOW) & ~found.confirmed
    ask = scorer(fitted.weights)
    return [
        crossfit.score(sessions, mine, ids, rare, ask, counts, window=options.window, fold=number)
        for number, mine in (
            (fold, np.where(found.old, share, 0)),
            (fold + found.share.shape[1], np.where(found.old, 0, share)),
        )
        if mine.any()
    ]


def _start(found: Material, before: Weights) -> Weights:
    """A network of the base for the types of the refit: what is new is expected as labels, or the new log, have it."""
    sessions = found.sessions
    carried = weights.carried(before, found.origin)
    new = [id_ for id_, old in enumerate(found.origin) if old < 0]
    rng = np.random.default_rng(len(found.origin))
    at = np.sort(rng.integers(0, len(sessions.ids), SAMPLE))
    begin = sessions.starts[np.searchsorted(sessions.starts, at, "right") - 1]
    window = crossfit.contexts(sessions.ids, begin, at, carried.shape.window)
    return weights.welcomed(carried, new, window, lessons.SHARE / max(1, len(new)))


def _network(
    sessions: Sessions,
    partial: NDArray[np.bool_],
    shape: Shape,
    plan: Plan,
    told: Sequence[Lesson],
    *,
    start: Weights | None,
    seed: int,
) -> tuple[Fitted, Windows]:
    """Fit on sessions and lessons, from an older network where there is one; and the windows held out.

    What decides when to stop is a random tenth: the last one in time would be all that is new.
    """
    weight = sessions.weight[sessions.owner]
    held = np.random.default_rng([seed, 3]).binomial(weight, HELD_SHARE).astype(np.int64)
    train = learning_windows(*crossfit.restricted(sessions, weight - held, sessions.ids, partial), shape.window)
    judge = learning_windows(*crossfit.restricted(sessions, held, sessions.ids, partial), shape.window)
    train = lessons.joined(train, lessons.windows(told, lessons.joined(train, judge)))
    if start is not None:
        steps = min(max(8 * len(train.target) // plan.batch, STEPS_MIN), STEPS_MAX)
        plan = plan._replace(steps=int((plan.steps or steps) * STEPS_SHARE), rate=plan.rate * RATE_SHARE)
    return fit(train, judge, shape, plan, seed=seed, start=start), judge


def _settled(learned: Learned, found: Material, base: Bundle) -> list[Lesson]:
    """Raise the threshold until old sessions raise no more than before; then the labels that do not hold.

    Labels alone are no evidence that it may be lower than it was: without a new log it never falls.
    """
    calibrated, before = learned.calibrated, base.manifest.calibration
    assert calibrated is not None  # noqa: S101 - our own bug
    assert before is not None  # noqa: S101 - what has a history has one
    old = np.zeros(len(found.sessions), np.bool_)
    old[found.sessions.owner[found.old]] = True
    now = calibrated.calibration.threshold
    floor = _lift(learned, calibrated, before.threshold if old.all() else now)
    draft = _draft(learned)
    most = rehearing.raised(rehearing.sessions(base, found.sessions, old, changes.backwards(base, learned)))
    wanted = rehearing.quiet(rehearing.sessions(draft, found.sessions, old), most, floor)
    if wanted > floor:
        _lift(learned, calibrated, max(floor, min(wanted, now * QUIET_MAX)))
        draft = _draft(learned)
    outcomes = rehearing.labels(draft, found.lessons)
    return [
        one
        for one, outcome in zip(found.lessons, outcomes, strict=True)
        if outcome is not None and outcome.raised == one.normal
    ]


def _lift(learned: Learned, calibrated: Calibrated, threshold: float) -> float:
    """The calibration with a threshold of at least so many bits; which it is."""
    least = max(round(threshold, 6), calibrated.calibration.threshold)
    calibration = msgspec.structs.replace(calibrated.calibration, threshold=least)
    learned.calibrated = replace(calibrated, calibration=calibration)
    return least


def _draft(learned: Learned) -> Bundle:
    """The bundle as it would be now."""
    with tempfile.TemporaryDirectory(prefix="foretail-") as folder:
        options = msgspec.structs.replace(learned.options, out=str(Path(folder) / "draft"))
        return pack.pack(replace(learned, options=options))
