import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretail.errors import ConfigError
from foretail.evidence import HOLD, SPANS, TAIL, VIEWS, Scale, Tails, Weigher, sides

F = 3


def table(begin=1.0, excess=0.25, usual=4.0):
    parts = [np.full((2 * SPANS * len(VIEWS), F), value) for value in (begin, excess, usual)]
    return np.vstack([np.full((1, F), math.log(101)), np.ones((1, F)), *parts])


def weigher(features=20.0, silence=100.0, stats=None):
    tails = Tails(table() if stats is None else stats)
    return Weigher(tails, Scale(tails.centre, tails.scale, F), np.eye(F), (features, silence), follow=1000)


def judged(rows, *, silence=None, one=None):
    """Intervals of which each feature usually holds a hundred lines, judged."""
    one = one or weigher()
    tails = Tails(table())
    z = Scale(tails.centre, tails.scale, F).standard(np.array(rows, float))
    return one.step(z, np.zeros_like(z), np.zeros(len(rows)) if silence is None else np.array(silence, float))


def test_an_interval_as_usual_has_no_evidence():
    """A hundred lines where a hundred are usual."""
    assert judged([[100, 100, 100]]).ratio.tolist() == [0.0]


def test_a_tail_falls_exponentially_on_either_side():
    """Twice as far beyond where the tail begins, twice the bits; upwards and downwards apart."""
    views = np.array([[[1.5, -2.0, 0.5]]] * len(VIEWS))
    bits = Tails(table()).bits(sides(views, np.zeros((len(VIEWS), 2, F))))
    ends = -math.log2(TAIL)
    up, down = bits[0, 0, 0], bits[0, 1, 0]
    assert up[0] == pytest.approx(ends + 2 / math.log(2))
    assert (down[0], up[1]) == (0.0, 0.0)
    assert down[1] == pytest.approx(ends + 4 / math.log(2))
    assert up[2] == pytest.approx(2.0)


def test_what_many_normal_intervals_hold_says_little():
    """Where the tail begins at a value that half of all intervals have, that value is worth one bit."""
    assert Tails(table(usual=1.0)).bits(np.ones((SPANS * len(VIEWS), 2, 1, F))).max() == 1.0


def test_two_intervals_together_are_as_far_as_the_nearer():
    """To the same side: 3 then 2 are 2; up then down are nothing."""
    views = np.zeros((len(VIEWS), 3, F))
    views[0, :, 0] = 3, 2, -2
    found = sides(views, np.zeros((len(VIEWS), 2, F)))
    assert found[0, 0, :, 0].tolist() == [3, 2, 0]
    assert found[len(VIEWS), 0, :, 0].tolist() == [0, 2, 0]
    assert found[len(VIEWS), 1, :, 0].tolist() == [0, 0, 0]


def test_a_fault_that_lasts_is_found_where_each_interval_alone_is_not():
    """What comes and goes in normal data does not stay."""
    tight = table()
    tight[2 + 2 * len(VIEWS) : 2 + 2 * SPANS * len(VIEWS)] = 0.5  # where the tails of two intervals begin
    found = judged([[100] * 3, [175, 100, 100], [175, 100, 100]], one=weigher(features=30.0, stats=tight))
    assert found.anomalous.tolist() == [False, False, True]
    assert int(np.argmax(found.shares[2])) == 0
    assert found.low[2, 0] < 100 < found.high[2, 0] < 175


def test_silence_has_a_threshold_of_its_own():
    """However usual the counts are."""
    found = judged([[100] * 3] * 2, silence=[99, 101])
    assert (found.anomalous.tolist(), found.silent.tolist()) == ([False, True], [True, True])


def test_an_incident_is_new_once():
    """Until there were HOLD calm intervals."""
    rows = [[900, 100, 100]] * 2 + [[100] * 3] * (HOLD - 1) + [[900, 100, 100]] + [[100] * 3] * (HOLD + 1) + [[0] * 3]
    found = judged(rows)
    assert np.flatnonzero(found.new).tolist() == [0, len(rows) - 1]


def test_one_line_where_there_was_none_is_nothing():
    """Deviations are in units of the noise of a count."""
    scale = Scale(np.zeros(1), np.full(1, 0.01), 1)
    views, _ = scale.views(scale.standard(np.ones((1, 1))), np.zeros((1, 1)), np.zeros((1, 1)), np.eye(1))
    assert np.abs(views).max() < 1


def test_a_reading_that_did_not_come_does_not_deviate():
    """NaN says nothing."""
    assert judged([[100, math.nan, 100]]).ratio.tolist() == [0.0]


def test_the_baseline_follows_and_a_fault_moves_it_little():
    """A level that stays becomes normal; one wild interval does not."""
    one = weigher()
    judged([[1e6, 100, 100]], one=one)
    assert judged([[100] * 3], one=one).ratio[0] < 0.1
    slow = weigher()
    judged([[140, 100, 100]] * 5000, one=slow)
    assert judged([[140, 100, 100]], one=slow).bits[0, VIEWS.index("level")] < 0.5


@given(
    st.lists(st.lists(st.integers(0, 400), min_size=F, max_size=F), min_size=1, max_size=12),
    st.lists(st.integers(0, 12), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_verdicts_do_not_depend_on_cuts(rows, cuts):
    """In one piece, or with a snapshot at each cut."""
    whole = judged(rows)
    one, ratio, new = weigher(), [], []
    edges = sorted({0, *[min(c, len(rows)) for c in cuts], len(rows)})
    for start, end in pairwise(edges):
        fresh = weigher()
        fresh.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(one.snapshot())))
        one = fresh
        part = judged(rows[start:end], one=one)
        ratio += part.ratio.tolist()
        new += part.new.tolist()
    assert (ratio, new) == (whole.ratio.tolist(), whole.new.tolist())


@pytest.mark.parametrize("bad", [table()[:-1], table(begin=0.0), table(excess=-1.0), table(usual=math.nan)])
def test_damaged_statistics_are_refused(bad):
    """One sentence."""
    with pytest.raises(ConfigError, match="volume detector are damaged"):
        Tails(bad)
