"""What labels teach: sessions of model ids, the windows a network learns from them, the units that are like them.

A cause is what came after the last three types (as `verdicts.fingerprint` has it). One label is one case of it; the
network is taught the cause in the contexts in which the training data has those three types, so that the next case
of it, which will have another past, is known too. Where the label holds the whole session, its other steps and its
type counts are normal as well: a person who called the incident normal meant all that happened there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail.counts import VECTORS_MAX, Counts
from foretail.schema import END, FIRST, PAD, UNKNOWN
from foretail_trainer.crossfit import contexts
from foretail_trainer.vectors import learn
from foretail_trainer.windows import Windows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from foretail.schema import Label
    from foretail_trainer.sequences import Sessions
    from foretail_trainer.vocabulary import Vocabulary

CAUSE = 3
"""Types before the judged one that make a cause."""
SHARE = 0.05
"""What a confirmed cause gets of the events that follow its three types: four bits of surprise."""
LEAST = 3.0
"""A lesson counts as if it had come three times at least."""
CONTEXTS_MAX = 32
"""Other contexts in which a cause is taught."""
ANYWHERE = 1024
"""Windows of the log in which a new message is put to teach that it may come."""
STRUCK_SHARE_MAX = 0.02
"""More units than that are what the log is made of, not a fault in it (as in `suspects`)."""


class Lesson(NamedTuple):
    """A label in the numbers of a refit.

    Attributes:
        label: what was said.
        ids: int32 `[n]` events as model ids.
        at: place of the judged event; n = what was judged is the end.
        fresh: the judged type is new in this refit.
        weight: times what it counts otherwise.
    """

    label: Label
    ids: NDArray[np.int32]
    at: int
    fresh: bool
    weight: float = 1.0

    @property
    def normal(self) -> bool:
        """A person called it normal."""
        return self.label.label == "normal"

    @property
    def target(self) -> int:
        """What came: a model id, END, or UNKNOWN where it cannot be named."""
        return int(self.ids[self.at]) if self.at < len(self.ids) else END

    @property
    def whole(self) -> bool:
        """All events of a session that is over."""
        return self.label.begins and (self.label.ends or len(self.ids) == self.label.total)

    def window(self, size: int) -> NDArray[np.int32]:
        """The events before the judged one: int32 `[size]`."""
        return _window(self.ids[: self.at], size, PAD if self.label.begins else UNKNOWN)


def of(labels: Sequence[Label], vocabulary: Vocabulary) -> list[Lesson]:
    """Labels as lessons; types are known by id, else by template, else by the words of the line."""
    known, matcher = vocabulary.model_ids(), vocabulary.matcher()
    by_template = {pattern.template: number for number, pattern in enumerate(vocabulary.patterns, FIRST)}
    found = []
    for label in labels:
        numbers = []
        for name in label.types:
            number = known.get(name.type_id or "", by_template.get(name.template or "", UNKNOWN))
            if number == UNKNOWN and name.message is not None:
                number = int(matcher.match([name.message.encode()]).index[0]) + FIRST
            numbers.append(number if number >= FIRST else UNKNOWN)
        ids = np.array([numbers[event] for event in label.events], np.int32)
        at = len(ids) if label.at is None else label.at
        fresh = at < len(ids) and ids[at] >= FIRST and vocabulary.patterns[ids[at] - FIRST].type_id in vocabulary.added
        found.append(Lesson(label, ids, at, bool(fresh)))
    return found


def windows(lessons: Sequence[Lesson], corpus: Windows) -> Windows:
    """What a network shall learn beside the windows of its training sessions; of two equal ones the heavier.

    Args:
        lessons: normal ones teach their cause; anomalies teach what comes in their place.
        corpus: the windows of the training sessions, int32 `[n, C]`.
    """
    found: dict[tuple[bytes, int], float] = {}
    taught = [row for one in lessons if one.normal for row in (*_taught(one, corpus), *_steps(one, corpus))]
    for target, weight in {one.target: one.weight for one in lessons if one.normal and one.fresh}.items():
        taught += _anywhere(target, weight, corpus)
    for window, target, weight in [
        *taught,
        *(row for one in lessons if not one.normal for row in _instead(one, corpus)),
    ]:
        name = window.tobytes(), target
        found[name] = max(found.get(name, 0.0), weight)
    size = corpus.window.shape[1]
    return Windows(
        np.frombuffer(b"".join(window for window, _ in found), np.int32).reshape(-1, size).copy(),
        np.array([target for _, target in found], np.int32),
        np.array(list(found.values()), np.float64),
    )


def joined(a: Windows, b: Windows) -> Windows:
    """Both, one after the other."""
    return Windows(
        np.concatenate([a.window, b.window]),
        np.concatenate([a.target, b.target]),
        np.concatenate([a.weight, b.weight]),
    )


def _taught(lesson: Lesson, corpus: Windows) -> list[tuple[NDArray[np.int32], int, float]]:
    """A confirmed cause and what followed it, in its own context and in those that end alike."""
    size = corpus.window.shape[1]
    own, target = lesson.window(size), lesson.target
    if target in {PAD, UNKNOWN} or (own == UNKNOWN).all() or (target == END and not lesson.label.ends):
        return []
    rows = _alike(own, corpus)
    others = _distinct(corpus, rows)
    others = others[(others != own).any(axis=1)]
    share = max(LEAST, SHARE * float(corpus.weight[rows].sum())) * lesson.weight / (len(others) + 1)
    after = lesson.ids[lesson.at + 1 :][:size]
    closes = lesson.label.ends and len(lesson.ids) - lesson.at - 1 <= size and target != END
    found = []
    for context in [own, *others]:
        past = np.append(context, target).astype(np.int32)
        found.append((context, target, share))
        for event in after.tolist():
            if event >= FIRST:
                found.append((past[-size:], event, share))
            past = np.append(past, event).astype(np.int32)
        if closes:
            found.append((past[-size:], END, share))
    return found


def _steps(lesson: Lesson, corpus: Windows) -> list[tuple[NDArray[np.int32], int, float]]:
    """The other steps of a session that was called normal, where the training data has too little of them."""
    size, found = corpus.window.shape[1], []
    pad = PAD if lesson.label.begins else UNKNOWN
    for place, target in enumerate(lesson.ids.tolist()):
        if place == lesson.at or target < FIRST or (pad == UNKNOWN and place < CAUSE):
            continue
        own = _window(lesson.ids[:place], size, pad)
        rows = _alike(own, corpus)
        wanted = max(LEAST, SHARE * float(corpus.weight[rows].sum()))
        if float(corpus.weight[rows][corpus.target[rows] == target].sum()) >= wanted:
            continue
        others = _distinct(corpus, rows)
        others = others[(others != own).any(axis=1)]
        found += [(one, target, wanted * lesson.weight / (len(others) + 1)) for one in (own, *others)]
    return found


def _anywhere(target: int, weight: float, corpus: Windows) -> list[tuple[NDArray[np.int32], int, float]]:
    """A message that is new and normal may come anywhere, once or more, and the log goes on as it would without it."""
    rng = np.random.default_rng(target)
    chance = corpus.weight / corpus.weight.sum()
    rows = rng.choice(len(chance), ANYWHERE, p=chance)
    each = SHARE * float(corpus.weight.sum()) / ANYWHERE * weight
    size = corpus.window.shape[1]
    found = []
    for number, row in enumerate(rows.tolist()):
        window = corpus.window[row]
        found.append((window, target, each))
        for _ in range(1 + number % 3):
            window = np.insert(window, int(rng.integers(1, size + 1)), target)[1:].astype(np.int32)
        found.append((window, int(corpus.target[row]), each))
        found.append((window, target, each))
    return found


def _instead(lesson: Lesson, corpus: Windows) -> list[tuple[NDArray[np.int32], int, float]]:
    """After the context of an anomaly: what the training data has there, as far back as it knows the context."""
    own, target = lesson.window(corpus.window.shape[1]), lesson.target
    for depth in range(len(own), 0, -1):
        rows = np.flatnonzero((corpus.window[:, -depth:] == own[-depth:]).all(axis=1) & (corpus.target != target))
        if len(rows):
            break
    else:
        return []
    mass = float(corpus.weight[rows].sum())
    total = max(LEAST, SHARE * mass) * lesson.weight
    names = np.unique(corpus.target[rows])
    return [
        (own, int(name), total * float(corpus.weight[rows][corpus.target[rows] == name].sum()) / mass) for name in names
    ]


def _alike(own: NDArray[np.int32], corpus: Windows) -> NDArray[np.int64]:
    """Rows whose last three events are those of a window, as far as they are known: int64."""
    last = own[-CAUSE:]
    known = last != UNKNOWN
    return np.flatnonzero((corpus.window[:, -CAUSE:][:, known] == last[known]).all(axis=1))


def _distinct(corpus: Windows, rows: NDArray[np.int64]) -> NDArray[np.int32]:
    """The most frequent of the windows in these rows, each once: int32 `[d, C]`."""
    if not len(rows):
        return corpus.window[:0]
    names, place = np.unique(corpus.window[rows], axis=0, return_inverse=True)
    mass = np.bincount(place.ravel(), corpus.weight[rows], len(names))
    return names[np.argsort(-mass, kind="stable")[:CONTEXTS_MAX]]


def _window(past: NDArray[np.int32], size: int, pad: int) -> NDArray[np.int32]:
    kept = past[-size:] if len(past) else past
    return np.concatenate([np.full(size - len(kept), pad, np.int32), kept]).astype(np.int32)


# -- units that are like a label ---------------------------------------------------------------------------------------


def units(lesson: Lesson, sessions: Sessions, size: int) -> NDArray[np.bool_]:
    """Units that hold what was labelled: bool `[u]`.

    Of a normal cause: its type after its three types (a type that is new: anywhere). Of an anomaly: its type after all
    its C events, because only that was called one. Of a session: the same events.
    """
    found = np.zeros(len(sessions.units), np.bool_)
    if lesson.label.at is None:
        lengths = sessions.unit_stops - sessions.units
        for unit in np.flatnonzero(lengths == len(lesson.ids)).tolist() if lesson.whole else []:
            start = int(sessions.units[unit])
            found[unit] = bool((sessions.ids[start : start + len(lesson.ids)] == lesson.ids).all())
        return found
    places = np.flatnonzero(sessions.ids == lesson.target)
    if lesson.target < FIRST or not len(places):
        return found
    owner = np.searchsorted(sessions.starts, places, "right") - 1
    depth = (0 if lesson.fresh else CAUSE) if lesson.normal else size
    if depth:
        own = lesson.window(size)[-depth:]
        rows = contexts(sessions.ids, sessions.starts[owner], places, depth)
        places = places[((rows == own) | (own == UNKNOWN)).all(axis=1)]
    found[np.searchsorted(sessions.units, places, "right") - 1] = True
    return found


# -- type counts -------------------------------------------------------------------------------------------------------


def vectors(
    lessons: Sequence[Lesson], vocabulary: int, base: Counts | None = None, names: Mapping[str, int] | None = None
) -> NDArray[np.int32]:
    """Type counts of the sessions that were called normal as a whole: int32 `[m, V]`.

    Args:
        lessons: of any kind.
        vocabulary: V.
        base: the table of the bundle that judged, in the numbers of the lessons: what is missing and extra against a
            normal session tells the counts of one whose log is gone.
        names: model id of each template.
    """
    rows = [np.bincount(one.ids, minlength=vocabulary) for one in lessons if one.normal and one.whole]
    for one in lessons:
        if base is not None and one.normal and not one.whole and (one.label.missing or one.label.extra):
            found = _rebuilt(one, base, names or {})
            rows += [] if found is None else [found]
    return np.unique(np.array(rows, np.int32).reshape(-1, vocabulary), axis=0)


def _rebuilt(lesson: Lesson, base: Counts, names: Mapping[str, int]) -> NDArray[np.int64] | None:
    """The counts of a session from how it differs from the nearest normal one; of several that fit the commonest."""
    more = np.zeros(base.vectors.shape[1], np.int64)
    for sign, part in ((-1, lesson.label.missing), (1, lesson.label.extra)):
        for template, count in part.items():
            if template not in names:
                return None
            more[names[template]] += sign * count
    candidates = base.vectors + more
    fit = (candidates >= 0).all(axis=1) & (candidates.sum(axis=1) == lesson.label.total)
    rows = np.flatnonzero(fit)
    near = rows[base.nearest(candidates[rows]) == rows]
    result: NDArray[np.int64] | None = candidates[near[0]] if len(near) else None
    return result


def taught(
    seen: NDArray[np.int32], support: NDArray[np.int64], extra: NDArray[np.int32], fresh: NDArray[np.bool_]
) -> Counts:
    """The table of normal type counts; those of confirmed sessions cost nothing, because a person vouches for them.

    Args:
        seen: int32 `[r, V]` distinct vectors of the training sessions.
        support: int64 `[r]`.
        extra: int32 `[m, V]` of labels. They move no weight: what else differs is as odd as before.
        fresh: bool `[V]`: new types that a label calls normal. Nobody knows yet how often they come: any number does.
    """
    counts = learn(seen, support)
    if not len(counts) or not (len(extra) or fresh.any()):
        return counts
    held = dict(zip(map(bytes, np.ascontiguousarray(seen, np.int32)), support.tolist(), strict=True))
    said = {bytes(row) for row in np.ascontiguousarray(extra, np.int32)}
    stay = np.array([bytes(row) not in said for row in counts.vectors], np.bool_)
    rest = counts.vectors[stay]
    price = [np.log2(max(held.values()) / held[bytes(row)]) if counts.rank == 1 else 0.0 for row in rest]
    first = np.repeat(extra, counts.rank, axis=0)[:VECTORS_MAX]
    room = VECTORS_MAX - len(first)
    return Counts(
        np.concatenate([first, rest[:room]]),
        np.concatenate([np.zeros(len(first)), np.array(price[:room], np.float64)]),
        np.where(fresh, 0.0, counts.weight),
        counts.rank,
    )
