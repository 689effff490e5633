"""Numbers in lines and cells, with and without units."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.numerals import UNITS, numbers, quantities, unit


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        (b"82 ms", b"ms", 82),
        (b"82ms", b"ms", 82),
        (b"1.5s", b"ms", 1500),
        (b"250 us", b"ms", 0.25),
        (b"250 \xc2\xb5s", b"us", 250),
        (b"2 MB", b"kB", 2048),
        (b"7", b"", 7),
        (b"1e3", b"", 1000),
        (b"99 %", b"%", 99),
        (b"5 lines", b"lines", 5),
    ],
)
def test_quantities_come_in_one_unit(text, wanted, value):
    assert quantities([text], wanted).tolist() == [pytest.approx(value)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"82 ms", b""),
        (b"2 MB", b"ms"),
        (b"5 lines", b"rows"),
        (b"inf ms", b"ms"),
        (b"", b"ms"),
        (b"x", b""),
        (b"-", b"%"),
    ],
)
def test_what_cannot_be_converted_is_no_number(text, wanted):
    assert np.isnan(quantities([text, b"x"], wanted)).all()


def test_no_text_takes_long():
    """Captures hold free text too: no number is longer than forty characters, whatever comes after its digits."""
    for text in (b"1" * 65_000 + b"! ms", b" " * 65_000 + b"1 ms", b"1" * 65_000, b"1.5 " + b"m" * 65_000):
        for wanted in (b"", b"ms"):
            assert np.isnan(quantities([text] * 50, wanted)).all()
        assert unit(text) == b""


def test_underscores_are_no_part_of_a_number():
    assert np.isnan(numbers([b"12_3", b"1"])).tolist() == [True, False]
    assert np.isnan(numbers(["12_3"])).all()


def test_the_unit_follows_the_number():
    assert [unit(text) for text in (b"1 ms", b"1ms", b"1", b"ms", b"1 2", b"59c15b1916cd")] == [
        b"ms",
        b"ms",
        *[b""] * 4,
    ]


@given(st.lists(st.one_of(st.binary(max_size=12), st.from_regex(rb"[-+]?[0-9.]{1,6} ?[a-zA-Z%]{0,4}", fullmatch=True))))
def test_any_text_is_a_finite_number_or_none(texts):
    """In arrays as one by one, whatever stands beside it."""
    for wanted in (b"", b"ms", b"MB", b"x"):
        found = quantities(texts, wanted)
        assert not np.isinf(found).any()
        alone = [quantities([text], wanted)[0] for text in texts]
        assert np.array_equal(found, np.array(alone, np.float64), equal_nan=True)
    assert len(numbers([])) == 0
    assert all(math.isfinite(scale) and scale > 0 for _, scale in UNITS.values())
