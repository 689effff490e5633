"""Terms in bits add up to one x; one threshold spends one budget for lines and for the units that hold them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.counts import Counts
from foretail.schema import UNKNOWN, Calibration, Tail
from foretail.surprise import Surprise, exceedance

TAIL = Tail((0.0, 4.0, 8.0), (1.0, 0.1, 0.01), 1.4427)
COUNTS = Counts(np.array([[0, 0, 0, 2, 1]], np.int32), np.zeros(1), np.array([12.0, 12.0, 12.0, 9.0, 9.0]))


def scale(unit="session", **terms):
    weights = {"cap": 10.0, "novelty": 9.0}
    calibration = Calibration(0.001, unit, 12.0, False, 1023, 100.0, TAIL, terms, weights)
    return Surprise(calibration, COUNTS)


def lines(bits, unknown=False, rare=False):
    return scale().lines(np.array([bits]), unknown=np.array([unknown]), rare=np.array([rare]))


def unit(which=None, top=0.0, end=0.0, counts=(0, 0, 0, 2, 1), novel=0, ended=True):
    counts = np.array([counts])
    return (which or scale()).units(
        n=counts.sum(axis=1),
        total=np.array([top]),
        top=np.array([top]),
        novel=np.array([novel]),
        end=np.array([end]),
        counts=counts,
        ended=np.array([ended]),
    )


def test_a_line_says_its_bits():
    """As far as the training data can say them."""
    assert lines(3.5).x[0] == 3.5


def test_of_what_exceeds_the_cap_a_quarter_of_the_logarithm_counts():
    """Nothing ends in one heap at the cap: order is kept."""
    assert lines(10.0 + 7.0).x[0] == 10.75
    assert unit(end=10.0 + 3.0).x[0] == 10.5


def test_a_type_never_seen_says_more_than_any_known_event():
    """Cap and novelty, whatever the model says of an id it never learnt."""
    assert lines(0.0, unknown=True).x[0] == lines(9.9, unknown=True).x[0] == 19.0


def test_a_rare_type_adds_novelty_to_its_surprise():
    """Rare types have a place in the model; their coming is news all the same."""
    assert lines(8.0, rare=True).x[0] == 17.0


def test_two_detectors_that_agree_are_worth_more_than_either():
    """Sequence and counts add; sequence and end do not, for both are the network."""
    assert unit(top=8.0, counts=(0, 0, 0, 2, 0)).x[0] == 17.0
    assert unit(top=8.0, end=7.0).x[0] == 8.0


def test_reasons_come_strongest_first():
    """Detectors that say next to nothing are not named beside a strong one."""
    assert unit(top=8.0, counts=(0, 0, 0, 2, 0)).reasons(0) == ["counts", "sequence"]
    assert unit(top=2.0, end=9.0).reasons(0) == ["end"]


def test_partial_units_have_no_end_and_no_counts():
    """Of a session whose beginning or end was not seen, only lines speak."""
    assert unit(top=8.0, end=9.0, counts=(0, 0, 0, 9, 9), ended=False).x[0] == 8.0


def test_a_block_is_judged_when_it_is_full():
    """Blocks have counts at 100 lines and never an end."""
    blocks = scale("block")
    assert unit(blocks, end=9.0, counts=(0, 0, 0, 2, 1), ended=False).x[0] == 0.0
    assert unit(blocks, end=9.0, counts=(0, 0, 0, 60, 40), ended=False).x[0] > 10


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ({"top": 13.0}, False),  # at its cap an event alone stays below the threshold: no line was raised
        ({"counts": (0, 0, 1, 2, 1), "novel": 1, "ended": False}, True),  # an unknown line was
        ({"counts": (0, 0, 1, 9, 9), "novel": 1}, False),  # ... and the numbers are strange besides
    ],
)
def test_a_unit_that_adds_nothing_to_its_lines_is_told(what, told):
    """What a line was raised for is not raised once more as the session or block ends."""
    assert bool(unit(**what).told[0]) is told


def test_length_speaks_where_it_was_learnt():
    """Longer than any but one in a thousand."""
    tails = {"long": Tail((2.0, 3.0), (1.0, 0.001), 0.1), "short": Tail((-3.0, -2.0), (1.0, 0.001), 0.1)}
    assert unit(scale(**tails), counts=(0, 0, 0, 2, 1)).terms["length"][0] > 8
    assert unit(counts=(0, 0, 0, 2, 1)).terms["length"][0] == 0


@given(
    st.lists(st.tuples(st.floats(0, 40), st.sampled_from([UNKNOWN, 3, 4]), st.booleans()), min_size=1, max_size=20),
    st.booleans(),
)
def test_a_unit_is_at_least_as_strange_as_its_lines(events, ended):
    """A unit's x is never below that of a line in it, so that an alarm of a line is one of its unit."""
    bits, ids, rare = (np.array(column) for column in zip(*events, strict=True))
    unknown = ids == UNKNOWN
    rare = rare & ~unknown
    alone = scale().lines(bits, unknown=unknown, rare=rare).x.max()
    whole = unit(
        top=float(np.where(unknown, 0, bits).max()),
        counts=tuple(np.bincount(ids, minlength=5).tolist()),
        novel=int((unknown | rare).sum()),
        ended=ended,
    )
    assert whole.x[0] >= alone


@given(st.floats(0, 100))
def test_the_score_is_half_exactly_at_the_threshold(x):
    """A score of at least .5 means x >= t, to the last bit."""
    assert (x >= 12.0) == (scale().score(x) >= 0.5)


def test_p_falls_and_is_never_zero():
    """Counted up to the last level, then halved by each bit."""
    p = exceedance(TAIL, np.array([0.0, 3.0, 4.0, 8.0, 9.0, 10_000.0]))
    assert p[:4].tolist() == [1.0, 0.1, 0.1, 0.01]
    assert p[4] == pytest.approx(0.005, rel=1e-3)
    assert (np.diff(p) <= 0).all()
    assert p[-1] > 0
