"""`fit --base B --feedback F LOGS`: what the base learned, new logs, and what people said, as one new bundle.

The order of steps. Types of the base stand, new ones join them. Old sessions come from the base's history, each in the
fold in which it was; so every network goes on from the one that never saw that fold, and calibration stays honest.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from foretail import bundle as bundles
from foretail.errors import ConfigError
from foretail.patterns import Matcher
from foretail.schema import FIRST, UNKNOWN
from foretail_trainer import (
    calibrate,
    changes,
    crossfit,
    export,
    feedback,
    history,
    learn,
    lessons,
    merging,
    pack,
    reading,
    sequences,
    suspects,
    vectors,
    weights,
)
from foretail_trainer import vocabulary as vocabularies
from foretail_trainer.fit import STEPS_MAX, STEPS_MIN, Plan, fit
from foretail_trainer.network import Shape
from foretail_trainer.training import HELD_SHARE, learning_windows, scorer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.schema import Label, Pattern
    from foretail_trainer.fit import Fitted
    from foretail_trainer.history import History
    from foretail_trainer.learn import Learned
    from foretail_trainer.lessons import Lesson
    from foretail_trainer.network import Weights
    from foretail_trainer.reading import Lines
    from foretail_trainer.sequences import Sessions
    from foretail_trainer.stages import Stages
    from foretail_trainer.vocabulary import Vocabulary
    from foretail_trainer.windows import Windows

RATE_SHARE = 0.4
"""Of the learning rate of a first fit: enough to learn what is new, too little to forget."""
STEPS_SHARE = 1 / 3
"""Of the steps of a first fit."""
KNOWN_MAX = 30
"""Units of one confirmed cause that every fold learns from; further ones are calibrated on like any other."""
ROUNDS = 3
"""Fits after which a label that does not hold is said not to hold."""
INSISTENCE = 4.0
"""Times the weight of a lesson that did not hold, each round."""


class Material(NamedTuple):
    """What a refit learns from.

    Attributes:
        sessions: u units, old ones first.
        share: int64 `[u, folds]`; rows of units that every fold learns from are 0.
        old: bool `[u]`.
        lessons: of all labels.
        confirmed: bool `[V]`: types that a label calls normal; they are never rare.
        base: what the networks go on from.
        origin: for each model id that of the base, -1 = new.
    """

    sessions: Sessions
    share: NDArray[np.int64]
    old: NDArray[np.bool_]
    lessons: tuple[Lesson, ...]
    confirmed: NDArray[np.bool_]
    base: History
    origin: list[int]


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
        learned, vocabulary, new = _types(options, base, past, said.labels, paths, stages)
        material = _material(learned, vocabulary, new, past, said.labels)
        _model(learned, material, stages)
        with stages.stage("bundle"):
            learned.bundle = pack.pack(learned)
        learned.notes.append(feedback.summary(said))
        learned.notes += [f"a conflict was left out: {feedback.what(group[0].label)}" for group in said.conflicts]
        with stages.stage("what changed"):
            learned.changes = changes.of(base, learned, vocabulary, material.lessons, paths)
    learned.seconds = time.monotonic() - began
    return learned


def _as_before(options: learn.Options, base: Bundle, past: History) -> learn.Options:
    """The options with what the base says of name, network, budget and sessions."""
    sequence = base.manifest.sequence
    if sequence is None:
        raise ConfigError(f"bundle {base.path} has no sequence model; there is nothing to go on from")
    if options.types_file:
        raise ConfigError("a refit keeps the types of its base; edit them with --types in a fit with --base alone")
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


def _types(
    options: learn.Options,
    base: Bundle,
    past: History,
    labels: Sequence[Label],
    paths: Sequence[str],
    stages: Stages,
) -> tuple[Learned, Vocabulary, Sessions | None]:
    """The types of base and new logs, and the sessions of the new logs."""
    manifest, size = base.manifest, sum(Path(path).stat().st_size for path in paths)
    messages = [name.message.encode() for one in labels for name in one.types if name.message]
    with stages.stage("message types", size or None) as progress:
        corpus = reading.Corpus(tuple(paths), progress) if paths else ()
        vocabulary = vocabularies.extended(base, corpus, messages, seed=options.seed)
    width, new, lines = FIRST + len(vocabulary.patterns), None, None
    if paths:
        with stages.stage("typing", size) as progress:
            lines = reading.read(paths, Matcher(vocabulary.patterns, manifest.format, manifest.key), progress)
        new = sequences.sessions(
            lines.ids,
            lines.keys,
            lines.times,
            vocabulary=width,
            source=lines.host,
            endless=manifest.key.endless,
            idle_s=options.idle_s,
        )
    patterns = _supported(vocabulary, base, lines)
    ends = merging.ends(patterns, vocabulary.added, new)
    learned = learn.Learned(
        options,
        manifest.format,
        manifest.key,
        tuple(msgspec.structs.replace(one, end=bool(ends[id_])) for id_, one in enumerate(patterns, FIRST)),
        lines=past.lines + (len(lines.ids) if lines else 0),
        digest=hashlib.sha256((past.text_digest + (lines.digest if lines else "")).encode()).hexdigest(),
        hosts=max(options.hosts, past.hosts, lines.hosts if lines else 1),
        untyped=past.untyped + (int((lines.ids < FIRST).sum()) if lines else 0),
        mined=vocabulary.mined,
        notes=list(vocabulary.mined.notes) if vocabulary.mined else [],
    )
    return learned, vocabulary, new


def _supported(vocabulary: Vocabulary, base: Bundle, lines: Lines | None) -> list[Pattern]:
    """The patterns with the lines of base and new logs."""
    support = np.zeros(FIRST + len(vocabulary.patterns), np.int64)
    np.add.at(support, vocabulary.moved[FIRST:], np.array([one.support for one in base.patterns], np.int64))
    if lines is not None:
        support += np.bincount(lines.ids, minlength=len(support))
    return [
        msgspec.structs.replace(one, support=int(support[id_]), rare=int(support[id_]) < crossfit.RARE_BELOW)
        for id_, one in enumerate(vocabulary.patterns, FIRST)
    ]


def _material(
    learned: Learned, vocabulary: Vocabulary, new: Sessions | None, past: History, labels: Sequence[Label]
) -> Material:
    """Sessions of base and new logs, less anomalies, and what labels say of them."""
    options, width = learned.options, FIRST + len(learned.patterns)
    old = replace(past.sessions, ids=vocabulary.moved[past.sessions.ids], idle_s=options.idle_s)
    both = merging.Merged(old, np.ones(len(old.units), np.bool_), np.ones(len(old.units), np.bool_), 0, 0)
    if new is not None and len(new):
        both = merging.merged(old, new)
    sessions = both.sessions
    fresh = sessions.rows(~np.isin(np.arange(len(sessions)), sessions.owner[both.old]))
    share = np.concatenate([past.share[both.kept], crossfit.deal(fresh, options.seed, past.share.shape[1])])
    taught = lessons.of(labels, vocabulary)
    confirmed = np.zeros(width, np.bool_)
    confirmed[[one.target for one in taught if one.normal and one.target >= FIRST]] = True
    gone = _excluded(sessions, options.exclude, width, learned.notes)
    for lesson in taught:
        like = lessons.units(lesson, sessions, options.window)
        if lesson.normal:
            rows = np.flatnonzero(like)
            share[rows[np.linspace(0, len(rows) - 1, min(len(rows), KNOWN_MAX)).astype(np.int64)]] = 0
        elif int(like.sum()) <= max(1, lessons.STRUCK_SHARE_MAX * len(like)):
            gone |= like
        else:
            learned.notes.append(
                f"{int(like.sum())} sessions hold what was called an anomaly, {feedback.what(lesson.label)}: "
                "too many to be faults, they were learned from"
            )
    if both.repeated or both.continued:
        learned.notes.append(f"{both.repeated} sessions were in the last log too, {both.continued} began there")
    if gone.any():
        learned.notes.append(f"{int(gone.sum())} sessions were struck: what people called anomalies, and --exclude")
        sessions, share, old_units = sessions.less(gone), share[~gone], both.old[~gone]
    else:
        old_units = both.old
    learned.sessions, learned.share = replace(sessions, idle_s=options.idle_s), share
    learned.patterns = tuple(
        msgspec.structs.replace(one, rare=one.rare and not confirmed[id_])
        for id_, one in enumerate(learned.patterns, FIRST)
    )
    known = {name: number for number, name in enumerate(past.types, FIRST)}
    origin = [*range(FIRST), *(known.get(one.type_id, -1) for one in learned.patterns)]
    return Material(learned.sessions, share, old_units, tuple(taught), confirmed, past, origin)


def _excluded(sessions: Sessions, path: str, width: int, notes: list[str]) -> NDArray[np.bool_]:
    """Units that --exclude names, and their like: bool `[u]`."""
    gone = np.zeros(len(sessions.units), np.bool_)
    if not path:
        return gone
    names = suspects.struck(path)
    _, group, size = suspects.groups(sessions, width)
    gone[:] = [suspects.label(sessions, unit) in names for unit in range(len(gone))]
    alike = np.isin(np.arange(len(size)), group[gone]) & (size <= max(1, suspects.GROUP_SHARE_MAX * int(size.sum())))
    gone |= alike[group]
    notes.append(f"{int(gone.sum())} sessions were struck by --exclude")
    return gone


def _model(learned: Learned, material: Material, stages: Stages) -> None:
    """Calibrate, fit until the labels hold, export and pass the gate."""
    options, sessions = learned.options, material.sessions
    width = FIRST + len(learned.patterns)
    shape = Shape(options.cell, options.layers, options.units, options.window, width)  # type: ignore[arg-type]
    told = [one for one in material.lessons if one.normal]
    extra = lessons.vectors(told, width)
    weight = sessions.weight[sessions.owner]
    with stages.stage("calibration", material.share.shape[1]) as progress:
        held = crossfit.Held.join(
            [
                part
                for fold in range(material.share.shape[1])
                for part in _fold(learned, material, shape, told, extra, fold, progress)
            ]
        )
        budget = calibrate.Budget(options.rate, options.per_week, learned.hosts)
        found = calibrate.calibrate(sessions, held, vocabulary=width, budget=budget)
        counts = lessons.taught(*vectors.resting(sessions, weight, sessions.ids, width), extra)
        learned.calibrated = replace(found, counts=counts)
        names = ["(start)", "(end)", "(unknown)", *(pattern.template for pattern in learned.patterns)]
        learned.suspects = suspects.suspects(sessions, learned.calibrated, names)
    start, unseen = weights.carried(material.base.network, material.origin), np.zeros(len(sessions), np.bool_)
    for attempt in range(ROUNDS):
        with stages.stage("model" if not attempt else f"model, round {attempt + 1}"):
            fitted, judge = _network(sessions, unseen, shape, options.plan, told, start=start, seed=options.seed)
            threshold = learned.calibrated.calibration.threshold
            b1, b64 = export.export(fitted.weights, 1), export.export(fitted.weights, 64)
            learned.agreement = export.gate(b1, b64, fitted.weights, judge, (threshold,))
        learned.fitted, learned.judged, learned.curve = fitted, judge, list(fitted.curve)
        learned.models = {"sequence.b1.tflite": b1, "sequence.b64.tflite": b64}
        failing = _failing(learned, material.lessons)
        if not failing:
            break
        start = fitted.weights
        told = [one._replace(weight=one.weight * INSISTENCE) if one in failing else one for one in told]
        told += [one for one in failing if not one.normal and one not in told]


def _fold(
    learned: Learned,
    material: Material,
    shape: Shape,
    told: Sequence[Lesson],
    extra: NDArray[np.int32],
    fold: int,
    progress: Callable[[float], None],
) -> list[crossfit.Held]:
    """Old and new units of a fold as a network sees them that learned from all others; as `crossfit.cross_fit`."""
    sessions, options = material.sessions, learned.options
    share = material.share[:, fold]
    weight = sessions.weight[sessions.owner] - share
    progress(1)
    if not share.any() or not weight.any():
        return []
    support = np.bincount(sessions.ids, np.repeat(weight, sessions.unit_stops - sessions.units), shape.vocabulary)
    ids = np.where(support[sessions.ids] > 0, sessions.ids, UNKNOWN).astype(np.int32)
    part, partial = crossfit.restricted(sessions, weight, ids)
    before = material.base.folds[fold]
    start = weights.carried(before, material.origin) if before is not None else None
    fitted, _ = _network(part, partial, shape, options.plan, told, start=start, seed=options.seed + fold)
    learned.folds[fold] = fitted.weights
    counts = lessons.taught(*vectors.resting(sessions, weight, ids, shape.vocabulary), extra)
    rare = (support > 0) & (support < crossfit.RARE_BELOW) & ~material.confirmed
    ask = scorer(fitted.weights)
    return [
        crossfit.score(sessions, mine, ids, rare, ask, counts, window=options.window, fold=number)
        for number, mine in (
            (fold, np.where(material.old, share, 0)),
            (fold + material.share.shape[1], np.where(material.old, 0, share)),
        )
        if mine.any()
    ]


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


def _failing(learned: Learned, all_lessons: Sequence[Lesson]) -> list[Lesson]:
    """Labels that the draft of the bundle does not obey."""
    with tempfile.TemporaryDirectory(prefix="foretail-") as folder:
        options = msgspec.structs.replace(learned.options, out=str(Path(folder) / "draft"))
        draft = pack.pack(replace(learned, options=options))
        return [
            one
            for one, outcome in zip(all_lessons, changes.outcomes(draft, all_lessons), strict=True)
            if outcome is not None and outcome.raised == one.normal
        ]
