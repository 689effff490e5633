"""Typed lines become sessions as the agent would make them; what was not seen to end is not taught as an end."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.errors import ConfigError
from foretail.schema import FIRST, UNKNOWN
from foretail_trainer.sequences import IDLE_S_MAX, plain, read_sequences, renamed, sessions

pytestmark = pytest.mark.trainer
V = FIRST + 5


def made(rows, **options):
    """Sessions of (key, type, time) rows."""
    keys, types, times = zip(*rows, strict=True)
    keyed = None if keys[0] is None else [k.encode() for k in keys]
    return sessions(np.array(types, np.int32), keyed, np.array(times, float), vocabulary=V, **options)


def events(found):
    return [found.ids[a:b].tolist() for a, b in zip(found.starts, found.stops, strict=True)]


def test_lines_of_one_key_are_one_session():
    """Interleaved keys part, in the order of their first event; lines without a key belong to none."""
    found = made([("a", 3, 0), ("b", 4, 1), ("", 7, 1), ("a", 5, 2), ("b", 6, 3)], idle_s=10)
    assert events(found) == [[3, 5], [4, 6]]
    assert found.keys == [b"a", b"b"]


def test_silence_ends_a_session():
    """More than idle_s after its last event, a key begins a new session."""
    found = made([("a", 3, 0), ("a", 4, 10), ("a", 5, 20.5), ("b", 3, 99)], idle_s=10)
    assert events(found) == [[3, 4], [5], [3]]
    assert found.censored.tolist() == [False, False, True]


def test_idle_is_twice_the_greatest_gap_but_one_in_a_thousand():
    """From the gaps within keys, within bounds."""
    rows = sorted([(f"k{i % 50}", 3, i // 50 * 7.0 + 0.001 * (i % 50)) for i in range(1000)], key=lambda row: row[2])
    assert made([*rows, ("z", 3, 200)]).idle_s == pytest.approx(14.0)
    assert made([("a", 3, 0), ("b", 3, 5)]).idle_s == IDLE_S_MAX


def test_a_log_too_short_for_its_gaps_has_the_longest_idle():
    """Where most sessions go on at the log's end, its gaps say nothing of those to come."""
    rows = sorted([(f"k{i}", 3, i + j * 400.0) for i in range(100) for j in range(2)], key=lambda row: row[2])
    assert made(rows).idle_s == IDLE_S_MAX
    assert made([*rows, ("z", 3, 9000)]).idle_s == 800


def test_what_rests_may_have_ended():
    """An event after which nothing came for 2 % of the log is a rest; one just before the log's end is not."""
    found = made([("a", 3, 0), ("a", 4, 1), ("a", 5, 500), ("b", 3, 990), ("c", 3, 1000)], idle_s=3000)
    assert found.rest_s == 20
    assert [found.ids[i] for i in np.flatnonzero(found.rests)] == [4, 5]
    assert found.censored.all()


def test_an_end_type_ends():
    """A type that came last in a hundred sessions, and never else, closes them at once."""
    rows = [(f"k{i}", kind, 10.0 * i + j) for i in range(300) for j, kind in enumerate((3, 4, 5))]
    found = made(rows, idle_s=50)
    assert np.flatnonzero(found.ends).tolist() == [5]
    assert not found.censored[:-1].any()
    assert found.rests[found.stops - 1].all()


def test_a_type_that_repeats_at_the_end_is_no_end_type():
    """Sessions ending 5 5 5 do not end with the first 5."""
    rows = [(f"k{i}", kind, 10.0 * i + j) for i in range(300) for j, kind in enumerate((3, 5, 5))]
    assert not made(rows, idle_s=50).ends.any()


def test_files_are_never_joined():
    """One key in two files is two sessions, and each file has an end of its own."""
    rows = [("a", 3, 0), ("a", 4, 1), ("a", 5, 0), ("a", 6, 900)]
    found = made(rows, idle_s=1000, source=np.array([0, 0, 1, 1], np.int32))
    assert events(found) == [[3, 4], [5, 6]]


def test_a_stream_without_key_is_one_endless_session_in_blocks():
    """Units are blocks of 100 lines; nothing ends, nothing rests."""
    found = made([(None, 3, float(i)) for i in range(250)])
    assert found.endless
    assert found.units.tolist() == [0, 100, 200]
    assert found.full.tolist() == [True, True, False]
    assert not found.rests.any()


def test_stamps_that_fall_or_are_absent_are_the_newest_before():
    """Event time never falls."""
    found = made([("a", 3, float("nan")), ("a", 3, 5), ("a", 3, 2), ("a", 3, float("nan")), ("a", 3, 9)])
    assert found.times.tolist() == [5, 5, 5, 5, 9]


def test_a_log_without_any_stamp_has_sessions_that_end_with_it():
    """No time is known: each key is one session, its end taken as seen."""
    found = made([("a", 3, float("nan")), ("b", 4, float("nan")), ("a", 5, float("nan"))])
    assert events(found) == [[3, 5], [4]]
    assert not found.censored.any()


def test_no_line_with_a_key():
    """Nothing is found where no line has the key."""
    assert len(made([("", 3, 0.0)])) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(UNKNOWN, V - 1), st.floats(0, 1e5)), min_size=1))
def test_every_keyed_event_is_in_one_session(rows):
    """Nothing is lost, nothing comes twice, each key keeps its order."""
    rows = sorted(rows, key=lambda row: row[2])
    found = made(rows)
    assert sorted(found.ids.tolist()) == sorted(kind for _, kind, _ in rows)
    for key in "abc":
        mine = [i for s, k in zip(events(found), found.keys, strict=True) if k == key.encode() for i in s]
        assert mine == [kind for k, kind, _ in rows if k == key]


@given(st.lists(st.lists(st.integers(3, 9), min_size=1, max_size=9), min_size=1, max_size=9), st.data())
def test_what_is_left_without_some_sessions(rows, data):
    """`less` and `rows` keep the others as they were."""
    found = plain([np.array(row, np.int32) for row in rows])
    gone = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    left = [row for row, away in zip(rows, gone, strict=True) if not away]
    assert events(found.less(gone)) == events(found.rows(~gone)) == left


def test_sequences_of_a_file(tmp_path):
    """Ids of any size become model ids by frequency; the count before the tab is the weight."""
    path = tmp_path / "s.tsv"
    path.write_text("2\t900 7 7\n1\t7 5\n")
    found, names = read_sequences(str(path))
    assert names == ["7", "900", "5"]
    assert events(found) == [[4, 3, 3], [3, 5]]
    assert found.weight.tolist() == [2, 1]
    assert [r.tolist() for r in renamed([["5", "6"]], names)] == [[5, UNKNOWN]]


@pytest.mark.parametrize("content", ["", "a b\n", "x\t1 2\n"])
def test_a_bad_file_is_one_sentence(tmp_path, content):
    """No session, words, a count that is none."""
    path = tmp_path / "s.tsv"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"s\.tsv"):
        read_sequences(str(path))
