"""What labels teach: a cause in the contexts the log has for it, no more; and which sessions are like a label."""

from __future__ import annotations

import numpy as np
import pytest
from trainer.bigrams import V, untimed

from foretail.counts import Counts
from foretail.schema import END, FIRST, PAD, UNKNOWN, Label, Pattern, TypeName
from foretail_trainer import lessons
from foretail_trainer.lessons import LEAST, SHARE, Lesson
from foretail_trainer.vocabulary import Vocabulary
from foretail_trainer.windows import windows

pytestmark = pytest.mark.trainer

C = 4
TYPES = tuple(Pattern(1, n, f"{n:016x}", f"type {n}", rf"type {n}(?: \d+)?", n) for n in range(V - FIRST))


def label(ids: list[int], at: int | None, word: str = "normal", **more) -> Label:
    names = tuple(TypeName(TYPES[id_ - FIRST].type_id) if id_ >= FIRST else TypeName() for id_ in ids)
    fields = {
        "schema": 1, "id": "x", "label": word, "reason": "why", "labelled": "", "stream": "s", "bundle": "b",
        "kind": "line" if at is not None else "session", "fingerprint": "f", "reasons": ("sequence",), "score": 0.6,
        "types": names, "events": tuple(range(len(ids))), "at": at, "begins": True, "ends": True,
    }  # fmt: skip
    return Label(**{**fields, **more})


def lesson(ids: list[int], at: int | None, word: str = "normal", *, fresh: bool = False, **more) -> Lesson:
    return Lesson(label(ids, at, word, **more), np.array(ids, np.int32), len(ids) if at is None else at, fresh)


def vocabulary(added: tuple[str, ...] = ()) -> Vocabulary:
    return Vocabulary(TYPES, np.arange(V, dtype=np.int32), added, {}, {}, None)


CORPUS = windows(untimed([[3, 4, 5, 6]] * 90 + [[7, 3, 4, 5, 8]] * 10), window=C)


def taught(one: Lesson) -> dict[tuple[tuple[int, ...], int], float]:
    found = lessons.windows([one], CORPUS)
    pairs = zip(map(tuple, found.window.tolist()), found.target.tolist(), strict=True)
    return dict(zip(pairs, found.weight.tolist(), strict=True))


def test_types_are_known_by_id_by_template_and_by_their_words():
    """In this order; what none of them names is unknown."""
    names = (
        TypeName(TYPES[2].type_id),
        TypeName("f" * 16, "type 1"),
        TypeName(message="type 4 00"),
        TypeName("e" * 16),
    )
    one = label([3], 0, types=names, events=(0, 1, 2, 3))
    assert lessons.of([one], vocabulary())[0].ids.tolist() == [5, 4, 7, UNKNOWN]


def test_a_cause_is_taught_where_the_log_has_its_three_types():
    """After 3 4 5 came 6 or 8; 7 after them is normal from now on, also with another past, at the share of a cause."""
    found = taught(lesson([3, 4, 5, 7], 3))
    targets = {window: weight for (window, target), weight in found.items() if target == 7}
    assert set(targets) == {(PAD, 3, 4, 5), (7, 3, 4, 5)}
    assert sum(targets.values()) == pytest.approx(SHARE * 100)


def test_what_followed_is_taught_too():
    """With the end of the session, after each of the contexts."""
    found = taught(lesson([3, 4, 5, 7, 6], 3))
    assert ((4, 5, 7, 6), END) in found
    assert ((3, 4, 5, 7), 6) in found


def test_a_message_that_is_new_and_normal_may_come_anywhere():
    """In any of the log's windows, also more than once; what comes after it is what came without it."""
    found = taught(lesson([3, 4, 5, 7], 3, fresh=True, ends=False))
    came = {window for window, target in found if target == 7}
    assert {tuple(row) for row in CORPUS.window.tolist()} <= came
    without = {tuple(row): target for row, target in zip(CORPUS.window.tolist(), CORPUS.target.tolist(), strict=True)}
    after = {(window, target) for window, target in found if target != 7 and 7 in window[1:]}
    assert {target for _, target in after} == set(without.values()) - {7}
    assert any(window.count(7) > 1 for window, _ in after)


def test_a_context_the_log_never_had_counts_as_if_it_came_three_times():
    """There is nothing to take a share of."""
    assert taught(lesson([6, 6, 6, 7], 3))[(PAD, 6, 6, 6), 7] == LEAST


def test_other_steps_of_the_session_are_taught_only_where_they_are_too_rare():
    """3, 3 4, 3 4 5 are what the log is made of."""
    found = taught(lesson([3, 4, 5, 6], None))
    assert set(found) == {((3, 4, 5, 6), END)}
    assert ((PAD, PAD, PAD, 3), 8) in taught(lesson([3, 8], None))


def test_an_anomaly_teaches_what_comes_in_its_place():
    """After its own context alone; never itself."""
    found = taught(lesson([3, 4, 5, 8], 3, "anomaly"))
    assert {window for window, _ in found} == {(PAD, 3, 4, 5)}
    assert {target for _, target in found} == {6}


def test_an_unknown_event_teaches_nothing():
    """Of a line that still has no type."""
    assert not taught(lesson([3, 4, 5, UNKNOWN], 3, ends=False, begins=False))


def test_units_like_a_normal_cause_have_its_three_types():
    """Whatever came before them; those like an anomaly have all its context."""
    sessions = untimed([[3, 4, 5, 8], [7, 3, 4, 5, 8], [4, 5, 8], [3, 4, 5, 6]])
    assert lessons.units(lesson([3, 4, 5, 8], 3), sessions, C).tolist() == [True, True, False, False]
    assert lessons.units(lesson([3, 4, 5, 8], 3, "anomaly"), sessions, C).tolist() == [True, False, False, False]
    assert lessons.units(lesson([3, 8], 1, fresh=True), sessions, C).tolist() == [True, True, True, False]


def test_units_like_a_session_are_equal_to_it():
    """All its events, in order."""
    sessions = untimed([[3, 4, 5], [3, 5, 4], [3, 4, 5, 6]])
    assert lessons.units(lesson([3, 4, 5], None), sessions, C).tolist() == [True, False, False]


def test_a_confirmed_session_costs_nothing_and_moves_no_weight():
    """Its counts join the table; distances of all other sessions from the old vectors stay."""
    seen = np.zeros((2, V), np.int32)
    seen[0, 3:6], seen[1, 3:7] = 1, 1
    support = np.array([90, 10])
    extra = lessons.vectors([lesson([3, 3, 8], None), lesson([3], None, "anomaly")], V)
    none = np.zeros(V, np.bool_)
    before, after = lessons.taught(seen, support, extra[:0], none), lessons.taught(seen, support, extra, none)
    assert len(extra) == 1
    assert after.distance(extra.astype(np.int64))[0] == 0 < before.distance(extra.astype(np.int64))[0]
    assert (after.weight == before.weight).all()
    assert (after.distance(seen.astype(np.int64)) == before.distance(seen.astype(np.int64))).all()


def test_nobody_knows_how_often_a_new_message_comes():
    """Any number of it costs nothing; a type that was always absent costs as before."""
    seen, fresh = np.zeros((1, V), np.int32), np.arange(V) == 7
    seen[0, 3:6] = 1
    counts = lessons.taught(seen, np.array([100]), seen[:0], fresh)
    odd = np.repeat(seen.astype(np.int64), 2, axis=0)
    odd[0, 7], odd[1, 8] = 5, 1
    assert counts.distance(odd)[0] == 0
    assert counts.distance(odd)[1] > 5


def test_counts_of_a_session_whose_log_is_gone_are_told_by_what_it_lacks():
    """Of normal sessions that differ from it so, the one it is nearest to; none, if its size fits none."""
    seen = np.zeros((2, V), np.int32)
    seen[0, 3:6], seen[1, 3:8] = 1, 1
    table, names = Counts(seen, np.zeros(2), np.ones(V)), {f"type {n}": n + FIRST for n in range(V - FIRST)}
    gone = {"begins": False, "missing": {"type 1": 1}, "extra": {"type 5": 2}}
    assert lessons.vectors([lesson([5], None, total=4, **gone)], V, table, names).tolist() == [
        [0, 0, 0, 1, 0, 1, 0, 0, 2]
    ]
    assert not len(lessons.vectors([lesson([5], None, total=9, **gone)], V, table, names))


def test_a_session_whose_end_was_not_seen_teaches_no_end():
    """Its label may be about what is in it."""
    assert END not in {target for _, target in taught(lesson([3, 4, 5], None, ends=False, begins=False))}
