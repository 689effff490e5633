"""Old and new sessions together: what both logs hold counts once, what goes on is one session."""

from __future__ import annotations

import numpy as np
import pytest
from trainer.bigrams import V

from foretail.schema import FIRST, Pattern
from foretail_trainer import merging, sequences

pytestmark = pytest.mark.trainer


def log(*events: tuple[str, int, float], idle_s: float = 50.0) -> sequences.Sessions:
    keys, ids, times = zip(*events, strict=True)
    raw = [key.encode() for key in keys]
    return sequences.sessions(np.array(ids, np.int32), raw, np.array(times, float), vocabulary=V, idle_s=idle_s)


def rows(sessions: sequences.Sessions) -> list[list[int]]:
    return [sessions.ids[a:b].tolist() for a, b in zip(sessions.starts, sessions.stops, strict=True)]


def test_sessions_of_both_logs_are_there():
    """Old ones first."""
    both = merging.merged(log(("a", 3, 0), ("a", 4, 1), ("z", 3, 500)), log(("b", 5, 1000), ("z2", 3, 2000)))
    assert rows(both.sessions) == [[3, 4], [3], [5], [3]]
    assert both.old.tolist() == [True, True, False, False]
    assert both.sessions.keys == [b"a", b"z", b"b", b"z2"]


def test_a_session_that_is_in_both_logs_counts_once():
    """The same key at the same time: the logs overlap."""
    old = log(("a", 3, 0), ("a", 4, 1), ("b", 5, 200), ("z", 3, 500))
    both = merging.merged(old, log(("b", 5, 200), ("b", 6, 203), ("z", 3, 900)))
    assert rows(both.sessions) == [[3, 4], [3], [5, 6], [3]]
    assert (both.repeated, both.continued) == (1, 0)
    assert both.kept.tolist() == [True, False, True]


def test_a_session_that_goes_on_in_the_new_log_is_one():
    """The old log ended in the midst of it: no rest was seen there."""
    old = log(("a", 3, 0), ("a", 4, 1), ("b", 5, 490), ("b", 6, 495))
    both = merging.merged(old, log(("b", 7, 500), ("b", 8, 502), ("z", 3, 900)))
    assert rows(both.sessions) == [[3, 4], [5, 6, 7, 8], [3]]
    assert both.continued == 1
    assert not both.sessions.rests[3]
    assert (np.diff(both.sessions.times[2:6]) > 0).all()


def test_a_key_that_comes_again_after_its_session_had_ended_is_another():
    """More than idle_s later."""
    both = merging.merged(log(("b", 5, 490), ("b", 6, 495)), log(("b", 7, 600), ("z", 3, 900)))
    assert rows(both.sessions) == [[5, 6], [7], [3]]


def test_the_span_is_that_of_both_logs_and_of_no_gap_between_them():
    """Rates a day count the time that was logged."""
    both = merging.merged(log(("a", 3, 0), ("b", 4, 100)), log(("c", 3, 1e6), ("d", 4, 1e6 + 50)))
    assert both.sessions.span_s == 150


def test_an_end_type_that_new_logs_contradict_ends_no_session():
    """More than one in a hundred went on after it."""
    patterns = [Pattern(1, n, f"{n:016x}", "t", "t", n, support=100, end=n == 0) for n in range(V - FIRST)]
    calm = log(*[(f"k{n}", 3, n * 100.0) for n in range(20)])
    odd = log(*[(f"k{n}", i, n * 100.0 + i) for n in range(20) for i in (3, 4)])
    assert merging.ends(patterns, (), calm)[FIRST]
    assert not merging.ends(patterns, (), odd)[FIRST]
