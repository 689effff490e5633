"""The cache answers what it was told, computes the rest once, and never grows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from foretail.cache import Cache


def double(rows):
    return rows.sum(axis=1).astype(np.float32) * 2


@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), max_size=60), st.integers(1, 7))
def test_values_are_those_computed_however_rows_are_cut(rows, cut):
    """What comes back is what `compute` says, for any rows, repeated or not, in any batches."""
    cache = Cache(3, 8)
    table = np.array(rows, np.int16).reshape(-1, 3)
    for start in range(0, len(table), cut):
        part = table[start : start + cut]
        assert double(part).tolist() == cache.values(part, double).tolist()
    assert len(rows) == cache.hits + cache.misses


def test_a_row_is_computed_once():
    """Five equal rows in one batch, and one in the next, cost one computation."""
    cache, asked = Cache(2, 64), []

    def compute(rows):
        asked.extend(rows.tolist())
        return double(rows)

    cache.values(np.full((5, 2), 7, np.int16), compute)
    cache.values(np.full((1, 2), 7, np.int16), compute)
    assert asked == [[7, 7]]
    assert (cache.hits, cache.misses) == (5, 1)


def test_memory_stays_bounded():
    """Ten times as many distinct rows as entries leave the tables at their size."""
    cache = Cache(4, 1000)
    rows = np.random.default_rng(1).integers(0, 30000, (10_000, 4)).astype(np.int16)
    for start in range(0, len(rows), 500):
        cache.values(rows[start : start + 500], double)
    assert 1024 == len(cache._rows) == len(cache._values)


def test_hot_rows_survive_a_flood_of_cold_ones():
    """The least recently used of a set gives way: rows in use are still there after many others passed."""
    cache = Cache(2, 4096)
    hot = np.arange(200, dtype=np.int16).reshape(100, 2)
    rng = np.random.default_rng(2)
    for _ in range(50):
        cache.values(hot, double)
        cache.values(rng.integers(1000, 30000, (500, 2)).astype(np.int16), double)
    before = cache.misses
    cache.values(hot, double)
    assert cache.misses - before <= 1


def test_clear_forgets():
    """After clear() everything is computed again."""
    cache = Cache(2, 64)
    rows = np.ones((1, 2), np.int16)
    cache.values(rows, double)
    cache.clear()
    assert cache.values(rows, lambda r: np.full(len(r), 9, np.float32)).tolist() == [9.0]
