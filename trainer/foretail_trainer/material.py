"""What a refit learns from: old and new sessions on one vocabulary, less anomalies, and what labels say of them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from foretail.patterns import Matcher
from foretail.schema import FIRST
from foretail_trainer import crossfit, feedback, learn, lessons, merging, reading, sequences, suspects
from foretail_trainer import vocabulary as vocabularies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.schema import Label, Pattern
    from foretail_trainer.history import History
    from foretail_trainer.learn import Learned
    from foretail_trainer.lessons import Lesson
    from foretail_trainer.reading import Lines
    from foretail_trainer.sequences import Sessions
    from foretail_trainer.stages import Stages
    from foretail_trainer.vocabulary import Vocabulary

KNOWN_MAX = 30
"""Units of one confirmed cause that every fold learns from; further ones are calibrated on like any other."""


class Material(NamedTuple):
    """What a refit learns from.

    Attributes:
        sessions: u units, old ones first.
        share: int64 `[u, folds]`; rows of units that every fold learns from are 0.
        old: bool `[u]`.
        lessons: of all labels.
        confirmed: bool `[V]`: types that a label calls normal; they are never rare. `fresh`: those that are new.
        base: what the networks go on from.
        origin: for each model id that of the base, -1 = new.
    """

    sessions: Sessions
    share: NDArray[np.int64]
    old: NDArray[np.bool_]
    lessons: tuple[Lesson, ...]
    confirmed: NDArray[np.bool_]
    fresh: NDArray[np.bool_]
    base: History
    origin: list[int]


def typed(
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
        new = sequences.of_lines(lines, width, manifest.key, idle_s=options.idle_s)
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


def gathered(
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
    new_types = np.zeros(width, np.bool_)
    new_types[[one.target for one in taught if one.normal and one.fresh]] = True
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
    return Material(learned.sessions, share, old_units, tuple(taught), confirmed, new_types, past, origin)


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
