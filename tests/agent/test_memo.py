"""The memo answers what it was told, computes the rest once, and never grows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretail.memo import Memo


def double(rows):
    return rows.sum(axis=1).astype(np.float32) * 2


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), max_size=60), st.integers(1, 7))
def test_values_are_those_computed_however_rows_are_cut(rows, cut):
    """What comes back is what `compute` says, for any rows, repeated or not, in any batches."""
    memo = Memo(3, 8)
    table = np.array(rows, np.int16).reshape(-1, 3)
    for start in range(0, len(table), cut):
        part = table[start : start + cut]
        assert double(part).tolist() == memo.values(part, double).tolist()
    assert len(rows) == memo.hits + memo.misses


def test_a_row_is_computed_once():
    """Five equal rows in one batch, and one in the next, cost one computation."""
    memo, asked = Memo(2, 64), []

    def compute(rows):
        asked.extend(rows.tolist())
        return double(rows)

    memo.values(np.full((5, 2), 7, np.int16), compute)
    memo.values(np.full((1, 2), 7, np.int16), compute)
    assert asked == [[7, 7]]
    assert (memo.hits, memo.misses) == (5, 1)


def test_memory_stays_bounded():
    """Ten times as many distinct rows as entries leave the tables at their size."""
    memo = Memo(4, 1000)
    rows = np.random.default_rng(1).integers(0, 30000, (10_000, 4)).astype(np.int16)
    for start in range(0, len(rows), 500):
        memo.values(rows[start : start + 500], double)
    assert 1024 == len(memo._rows) == len(memo._values)


def test_hot_rows_survive_a_flood_of_cold_ones():
    """The least recently used of a set gives way: rows in use are still there after many others passed."""
    memo = Memo(2, 4096)
    hot = np.arange(200, dtype=np.int16).reshape(100, 2)
    rng = np.random.default_rng(2)
    for _ in range(50):
        memo.values(hot, double)
        memo.values(rng.integers(1000, 30000, (500, 2)).astype(np.int16), double)
    before = memo.misses
    memo.values(hot, double)
    assert memo.misses - before <= 1


def test_clear_forgets():
    """After clear() everything is computed again."""
    memo = Memo(2, 64)
    rows = np.ones((1, 2), np.int16)
    memo.values(rows, double)
    memo.clear()
    assert memo.values(rows, lambda r: np.full(len(r), 9, np.float32)).tolist() == [9.0]
