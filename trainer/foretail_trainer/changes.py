"""What a refit changed: types, thresholds, labels, and the verdicts of the last week that would be others."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from rich.markup import escape
from rich.table import Table

from foretail import logs, verdicts
from foretail.rest import machine
from foretail.schema import FIRST, UNKNOWN
from foretail.stream import Stream
from foretail.telling import Options
from foretail_trainer import feedback, rehearing
from foretail_trainer.findings import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foretail.bundle import Bundle
    from foretail_trainer.learn import Learned
    from foretail_trainer.lessons import Lesson
    from foretail_trainer.sequences import Sessions
    from foretail_trainer.vocabulary import Vocabulary

WEEK_S = 7 * 86_400.0
SHOWN = 20


class Retired(msgspec.Struct, frozen=True):
    """A type that gave way to a wider one."""

    type_id: str
    template: str
    into: str


class Renamed(msgspec.Struct, frozen=True):
    """A type whose template changed under its id."""

    type_id: str
    before: str
    template: str


class Added(msgspec.Struct, frozen=True):
    """A type that is new."""

    type_id: str
    template: str
    lines: int


class Held(msgspec.Struct, frozen=True):
    """A label, the score of what it names before and now, and whether the bundle does as it says.

    `holds` is None where it cannot be told: the label names no type, or its past is not known.
    """

    id: str
    label: str
    what: str
    before: float | None
    score: float | None
    holds: bool | None


class Differs(msgspec.Struct, frozen=True):
    """Verdicts of one cause that would be others now."""

    change: str
    reason: str
    what: str
    count: int


class Changes(msgspec.Struct, frozen=True):
    """`changes.json` beside the report.

    Attributes:
        base, bundle: labels of the bundles.
        added, retired, renamed: types.
        threshold_before, threshold: bits; `alpha_before`, `alpha`: false alerts a unit.
        labels: what became of each.
        judged: what was judged again: the last week of the new logs, or of the old sessions.
        raised_before, raised: anomalous verdicts in it.
        differs: by cause, most first.
    """

    base: str
    bundle: str
    added: tuple[Added, ...]
    retired: tuple[Retired, ...]
    renamed: tuple[Renamed, ...]
    threshold_before: float
    threshold: float
    alpha_before: float
    alpha: float
    labels: tuple[Held, ...]
    judged: str
    raised_before: int
    raised: int
    differs: tuple[Differs, ...]


def of(
    base: Bundle, learned: Learned, vocabulary: Vocabulary, lessons: Sequence[Lesson], paths: Sequence[str]
) -> Changes:
    """Compare a refit with its base.

    Args:
        base: the bundle before.
        learned: with its bundle.
        vocabulary: of the refit.
        lessons: in its numbers.
        paths: of the new logs; none: the sessions of the history are compared.
    """
    bundle = learned.bundle
    assert bundle is not None  # noqa: S101 - our own bug
    old = {one.type_id: one for one in base.patterns}
    was, now = base.manifest.calibration, bundle.manifest.calibration
    assert was is not None  # noqa: S101 - `refit` saw to it
    assert now is not None  # noqa: S101
    assert learned.sessions is not None  # noqa: S101
    back = backwards(base, learned)
    before = rehearing.labels(base, [one._replace(ids=back[one.ids]) for one in lessons])
    after = rehearing.labels(bundle, lessons)
    if paths:
        judged = "the last week of the new logs"
        first, second = _anomalies(base, paths), _anomalies(bundle, paths)
    else:
        judged = "the last week that the base learned from"
        recent = _recent(learned.sessions)
        first = _sequences(rehearing.sessions(base, learned.sessions, recent, back))
        second = _sequences(rehearing.sessions(bundle, learned.sessions, recent))
    return Changes(
        base=base.label,
        bundle=bundle.label,
        added=tuple(
            Added(one.type_id, one.template, one.support) for one in bundle.patterns if one.type_id in vocabulary.added
        ),
        retired=tuple(Retired(name, old[name].template, into) for name, into in vocabulary.retired.items()),
        renamed=tuple(
            Renamed(one.type_id, vocabulary.renamed[one.type_id], one.template)
            for one in bundle.patterns
            if vocabulary.renamed.get(one.type_id, one.template) != one.template
        ),
        threshold_before=was.threshold,
        threshold=now.threshold,
        alpha_before=was.alpha,
        alpha=now.alpha,
        labels=tuple(map(_held, lessons, before, after)),
        judged=judged,
        raised_before=sum(count for _, count in first.values()),
        raised=sum(count for _, count in second.values()),
        differs=_differs(first, second),
    )


def backwards(base: Bundle, learned: Learned) -> np.ndarray:
    """The model id in the base of each model id now; what it lacks is unknown to it."""
    known = {one.type_id: number for number, one in enumerate(base.patterns, FIRST)}
    return np.array([*range(FIRST), *(known.get(one.type_id, UNKNOWN) for one in learned.patterns)], np.int32)


def _held(lesson: Lesson, before: rehearing.Outcome | None, after: rehearing.Outcome | None) -> Held:
    one = lesson.label
    return Held(
        one.id,
        one.label,
        feedback.what(one),
        before.score if before else None,
        after.score if after else None,
        None if after is None else after.raised != lesson.normal,
    )


Found = dict[str, tuple[tuple[str, str], int]]
"""Anomalous verdicts by id: reason and words, and how often."""


def _anomalies(bundle: Bundle, paths: Sequence[str]) -> Found:
    """The anomalous verdicts of the last week of logs."""
    found: dict[str, tuple[float, tuple[str, str]]] = {}
    newest = -np.inf
    for host in logs.hosts(paths):
        stream = Stream(bundle, Options("default", machine=machine() + host.name, emit="anomalies"))
        for record in _records(stream, host.paths):
            if record is not None and record.anomalous:
                found[record.id] = (record.time if record.time is not None else np.inf, _words(record))
        newest = max(newest, stream.now)
    return {name: (words, 1) for name, (when, words) in found.items() if when >= newest - WEEK_S}


def _records(stream: Stream, paths: Sequence[str]) -> Iterator[verdicts.LineVerdict | verdicts.SessionVerdict | None]:
    for batch in logs.batches(paths, "default"):
        yield from map(rehearing.decoded, stream.feed(batch))
    yield from map(rehearing.decoded, stream.finish(ended=False))


def _sequences(heard: dict[bytes, rehearing.Heard]) -> Found:
    """The anomalous ones among old sessions."""
    return {name.hex(): (_words(one.verdict), one.weight) for name, one in heard.items() if one.verdict.anomalous}


def _recent(sessions: Sessions) -> np.ndarray:
    """Sessions of the last week; all of them where there are no times."""
    if not len(sessions.times):
        return np.ones(len(sessions), np.bool_)
    last = sessions.times[sessions.stops - 1]
    return np.asarray(last >= last.max() - WEEK_S)


def _words(record: verdicts.LineVerdict | verdicts.SessionVerdict) -> tuple[str, str]:
    """Reason and what it is about."""
    why = record.explanation or verdicts.Explanation()
    if isinstance(record, verdicts.LineVerdict):
        last = why.context[-1] if why.context else None
        return record.reasons[0], (record.template or "a message never seen") + (f" after {last}" if last else "")
    odd = [f"{n} fewer {name}" for name, n in why.missing.items()] + [
        f"{n} more {name}" for name, n in why.extra.items()
    ]
    last = why.context[-1] if why.context else "nothing"
    return record.reasons[0], f"session: {', '.join(odd[:3])}" if odd else f"session that ends with {last}"


def _differs(before: Found, after: Found) -> tuple[Differs, ...]:
    counted: Counter[tuple[str, str, str]] = Counter()
    for change, mine, other in (("no longer", before, after), ("new", after, before)):
        for name in mine.keys() - other.keys():
            words, count = mine[name]
            counted[change, *words] += count
    rows = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Differs(*cause, count) for cause, count in rows)


# -- for people --------------------------------------------------------------------------------------------------------


def tables(found: Changes) -> list[Table | str]:
    """What `fit --feedback` prints."""
    rates = f"false alerts {found.alpha_before:.3g} -> {found.alpha:.3g} a unit"
    shown: list[Table | str] = [f"threshold {found.threshold_before:.2f} -> {found.threshold:.2f} bits, {rates}"]
    types = Table("types", "type_id", "template", box=None)
    for added in found.added:
        types.add_row("added", added.type_id, escape(visible(added.template)))
    for gone in found.retired:
        types.add_row("retired", gone.type_id, escape(visible(f"{gone.template} (now {gone.into})")))
    for one in found.renamed:
        types.add_row("renamed", one.type_id, escape(visible(f"{one.before} -> {one.template}")))
    shown.append(types if types.row_count else "types: none added, retired or renamed")
    words = {True: "holds", False: "does NOT hold", None: "cannot be told"}
    said = Table("label", "score before", "now", "", "what", box=None)
    for held in sorted(found.labels, key=lambda held: held.holds is not False)[:SHOWN]:
        said.add_row(
            held.label, _figure(held.before), _figure(held.score), words[held.holds], escape(visible(held.what))
        )
    if said.row_count:
        shown.append(said)
    counts = f"{found.raised_before} anomalous verdicts before, {found.raised} now"
    shown.append(f"{found.judged}: {counts}" + ("" if found.differs else "; the same ones"))
    if found.differs:
        differs = Table("verdicts", "", "detector", "what", box=None)
        for row in found.differs[:SHOWN]:
            differs.add_row(f"{row.count:,}", row.change, row.reason, escape(visible(row.what)))
        shown.append(differs)
    return shown


def _figure(score: float | None) -> str:
    return "" if score is None else f"{score:.3f}"
