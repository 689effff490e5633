"""The distance of a session's type counts is the price of writing it down as an edit of a normal one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.counts import NAME, Counts
from foretail.errors import ConfigError

VECTORS = np.array([[0, 0, 0, 3, 3, 0], [0, 0, 0, 3, 3, 4]], np.int32)
TABLE = Counts(VECTORS, np.array([0.0, 2.0]), np.array([12.0, 12.0, 12.0, 10.0, 10.0, 1.0]))


class Bundle:
    """As much of a bundle as `Counts.read` looks at."""

    path = "b"

    def __init__(self, files, vocabulary):
        self.files = files
        self.manifest = type("M", (), {"sequence": type("S", (), {"vocabulary": vocabulary})})

    def array(self, name):
        import io  # noqa: PLC0415

        return np.load(io.BytesIO(self.files[name]), allow_pickle=False)


def distance(*row):
    return float(TABLE.distance(np.array([row]))[0])


def test_a_normal_vector_costs_its_penalty():
    """The most common vector costs nothing; a rarer one what its rareness says."""
    assert distance(0, 0, 0, 3, 3, 0) == 0.0
    assert distance(0, 0, 0, 3, 3, 4) == 2.0


def test_a_difference_costs_weight_and_size():
    """A difference of one costs the weight of its type, one of four three times that."""
    assert distance(0, 0, 0, 3, 2, 0) == 10.0
    assert distance(0, 0, 0, 3, 3, 1) == 1.0
    assert distance(0, 0, 0, 7, 3, 0) == 30.0


def test_types_that_vary_are_cheap_and_steps_that_never_fail_are_dear():
    """Eight repeats more of a varying type are nearer to normal than one event less of a constant one."""
    assert distance(0, 0, 0, 3, 3, 12) < distance(0, 0, 0, 2, 3, 4)


def test_difference_names_what_is_missing_and_extra():
    """Against the nearest vector: fewer and more events by model id."""
    assert TABLE.difference(np.array([0, 0, 1, 3, 2, 0])) == ({4: 1}, {2: 1})


def test_an_empty_table_judges_nothing():
    """Without normal vectors the distance is 0 and there is no difference."""
    empty = Counts.empty(6)
    assert empty.distance(np.ones((1, 6), np.int64)).tolist() == [0.0]
    assert empty.difference(np.ones(6, np.int64)) == ({}, {})


def test_rank_asks_for_more_neighbours():
    """Where sessions are diverse, one strange training session is not enough to make its like normal."""
    vectors = np.array([[9, 0], [9, 0], [0, 9]], np.int32)
    table = Counts(vectors, np.zeros(3), np.ones(2), rank=2)
    assert table.distance(np.array([[9, 0], [0, 9]])).tolist() == [0.0, 8.375]


@given(st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=30))
def test_a_distance_does_not_depend_on_its_company(rows):
    """Rows together, alone and again give the same bits."""
    together = TABLE.distance(np.array(rows))
    fresh = Counts(VECTORS, np.array([0.0, 2.0]), TABLE.weight)
    assert together.tolist() == [float(fresh.distance(np.array([row]))[0]) for row in rows]
    assert together.tolist() == TABLE.distance(np.array(rows)).tolist()


def test_what_is_written_is_read():
    """A table survives the bundle."""
    read = Counts.read(Bundle(TABLE.files(), 6))
    rows = np.random.default_rng(0).integers(0, 6, (50, 6))
    assert TABLE.distance(rows).tolist() == read.distance(rows).tolist()


def test_no_file_is_an_empty_table():
    """Bundles without counts have none."""
    assert len(Counts.read(Bundle({}, 6))) == 0


@pytest.mark.parametrize("vocabulary", [5, 7])
def test_a_table_of_another_vocabulary_is_refused(vocabulary):
    """V of the manifest and of the table must agree."""
    with pytest.raises(ConfigError, match=NAME):
        Counts.read(Bundle(TABLE.files(), vocabulary))


def test_the_memo_is_bounded():
    """However many vectors come, few are remembered."""
    table = Counts(VECTORS, np.array([0.0, 2.0]), TABLE.weight)
    table._memo_max = 100
    for start in range(0, 1000, 50):
        table.distance(np.arange(start, start + 50)[:, None] * np.ones((1, 6), np.int64))
    assert len(table._memo) <= 100
