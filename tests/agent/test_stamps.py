"""Texts of stamps to event times."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.stamps import TABLE_MIN, Clock, unwrapped

NOW = dt.datetime(2026, 11, 21, 9, 0, tzinfo=dt.UTC).timestamp()


def at(*parts: int, hours: float = 0.0) -> float:
    """Epoch seconds of a UTC moment minus an offset in hours."""
    return dt.datetime(*parts, tzinfo=dt.UTC).timestamp() - hours * 3600  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (b"081109 203615", at(2008, 11, 9, 20, 36, 15)),
        (b"2015-10-18 18:01:47,978", at(2015, 10, 18, 18, 1, 47) + 0.978),
        (b"2015-10-18T18:01:47.978Z", at(2015, 10, 18, 18, 1, 47) + 0.978),
        (b"2015-10-18T18:01:47+02:00", at(2015, 10, 18, 18, 1, 47, hours=2)),
        (b"2015-10-18 18:01:47 -0330", at(2015, 10, 18, 18, 1, 47, hours=-3.5)),
        (b"2017/05/16 00:00:00", at(2017, 5, 16)),
        (b"26/Jan/2019:19:45:25 +0330", at(2019, 1, 26, 19, 45, 25, hours=3.5)),
        (b"Sun Dec 04 04:47:44 2005", at(2005, 12, 4, 4, 47, 44)),
        (b"Sun Dec  4 04:47:44 UTC 2005", at(2005, 12, 4, 4, 47, 44)),
        (b"Fri Sep 09 10:42:29.902022 2011", at(2011, 9, 9, 10, 42, 29) + 0.902022),
        (b"2005-06-03-15.42.50.363779", at(2005, 6, 3, 15, 42, 50) + 0.363779),
        (b"17/06/09 20:10:40", at(2017, 6, 9, 20, 10, 40)),
        (b"990609 2:10:40", at(1999, 6, 9, 2, 10, 40)),
        (b"20171223-22:15:29:606", at(2017, 12, 23, 22, 15, 29) + 0.606),
        (b"20171224-0:9:4:5", at(2017, 12, 24, 0, 9, 4) + 0.5),
        (b"20171223T221529Z", at(2017, 12, 23, 22, 15, 29)),
        (b"11/21/2026, 3:04:05 PM", at(2026, 11, 21, 15, 4, 5)),
        (b"12/31/2025 12:04:05 AM", at(2025, 12, 31, 0, 4, 5)),
        (b"1117838570", 1117838570.0),
        (b"1117838570.25", 1117838570.25),
        (b"1117838570123", 1117838570.123),
        (b"1117838570123456", 1117838570.123456),
        (b"I0612 14:03:22.123456", at(2026, 6, 12, 14, 3, 22) + 0.123456),
        (b"03-17 16:13:38.811", at(2026, 3, 17, 16, 13, 38) + 0.811),
        (b"Jun  9 06:06:20", at(2026, 6, 9, 6, 6, 20)),
        (b"Nov 22 05:00:00", at(2026, 11, 22, 5)),
        (b"Nov 22 12:00:00", at(2025, 11, 22, 12)),
        (b"Dec 31 23:59:59", at(2025, 12, 31, 23, 59, 59)),
        (b"Feb 29 12:00:00", at(2024, 2, 29, 12)),
        (b"08:30:00.5", at(2026, 11, 21, 8, 30) + 0.5),
        (b"22:30:00", at(2026, 11, 20, 22, 30)),
    ],
)
def test_known_layouts(stamp: bytes, expected: float) -> None:
    """Each layout is read to the fraction; year-less ones lie at most a day after the reference."""
    assert expected == pytest.approx(Clock(reference=NOW).time(stamp), abs=1e-6)


@pytest.mark.parametrize(
    "stamp", [b"", b"foo", b"2015-13-18 18:01:47", b"2015-02-29 18:01:47", b"Feb 30 01:02:03", b"-"]
)
def test_what_is_no_stamp_is_nan(stamp: bytes) -> None:
    """No layout, or a date that does not exist: no time, and no error."""
    assert math.isnan(Clock(reference=NOW).time(stamp))


def test_new_year_rolls_over() -> None:
    """Lines read just after midnight keep December in the old year."""
    clock = Clock(reference=at(2026, 12, 31, 23, 59, 50))
    before = clock.time(b"Dec 31 23:59:55")
    clock.reference = at(2027, 1, 1, 2)
    assert [at(2026, 12, 31, 23, 59, 55), at(2027, 1, 1, 0, 0, 5)] == [before, clock.time(b"Jan  1 00:00:05")]
    assert at(2026, 12, 31, 23, 59, 59) == clock.time(b"Dec 31 23:59:59")


def test_a_leap_day_is_found_in_the_leap_year_itself() -> None:
    """29 February belongs to the newest leap year, today's if it is one."""
    assert at(2028, 2, 29, 1) == Clock(reference=at(2028, 2, 29, 3)).time(b"Feb 29 01:00:00")
    assert at(2024, 2, 29, 1) == Clock(reference=at(2028, 2, 27, 3)).time(b"Feb 29 01:00:00")


def test_the_zone_applies_to_stamps_without_one() -> None:
    """`zone` is the offset from UTC; a written zone wins."""
    clock = Clock(zone=3600, reference=NOW)
    assert at(2020, 1, 1, 11) == clock.time(b"2020-01-01 12:00:00")
    assert at(2020, 1, 1, 12) == clock.time(b"2020-01-01 12:00:00Z")


moments = st.datetimes(dt.datetime(1971, 1, 1), dt.datetime(2069, 12, 31))  # noqa: DTZ001 - the zone is UTC below
formats = st.sampled_from(
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%y%m%d %H%M%S", "%d/%b/%Y:%H:%M:%S +0000", "%a %b %d %H:%M:%S %Y",
     "%Y-%m-%d-%H.%M.%S.%f", "%y/%m/%d %H:%M:%S"]
)  # fmt: skip


@given(st.lists(st.tuples(moments, formats), min_size=1, max_size=30), st.booleans())
def test_a_batch_reads_like_single_stamps(rows: list[tuple[dt.datetime, str]], mixed: bool) -> None:
    """Tables, memo and shortcuts give what datetime gives, in batches of one layout and of many."""
    stamps, expected = [], []
    for number in range(2 * TABLE_MIN):
        moment, form = rows[number % len(rows)]
        form = form if mixed else rows[0][1]
        moment += dt.timedelta(seconds=number * 37)
        stamps.append(moment.strftime(form).encode())
        exact = moment if "%f" in form else moment.replace(microsecond=0)
        expected.append(exact.replace(tzinfo=dt.UTC).timestamp())
    clock = Clock(reference=NOW)
    for _ in range(2):
        assert np.allclose(expected, clock.times(stamps), rtol=0, atol=2e-6)


def test_junk_in_a_batch_disturbs_nobody() -> None:
    """A table with broken rows reads the others."""
    stamps = [b"2020-01-01 12:00:%02d" % (number % 60) for number in range(400)]
    stamps[7], stamps[9], stamps[300] = b"", b"2020-01-01 12:0x:00", b"2020-01-01 12:00:61"
    clock = Clock(reference=NOW)
    for _ in range(2):
        times = clock.times(stamps)
        assert np.flatnonzero(np.isnan(times)).tolist()[:2] == [7, 9]
        assert at(2020, 1, 1, 12, 0, 11) == times[11]


def test_a_log_that_runs_past_todays_date_stays_in_order() -> None:
    """June to February, read in November: the first half belongs to the year before."""
    stamps = [b"Jun  9 06:06:20", b"-", b"Nov 20 01:00:00", b"Nov 30 01:00:00", b"Feb  2 01:00:00"]
    times = unwrapped(Clock(reference=NOW).times(stamps))
    assert [at(2025, 6, 9, 6, 6, 20), at(2025, 11, 20, 1), at(2025, 11, 30, 1), at(2026, 2, 2, 1)] == [
        *times[:1],
        *times[2:],
    ]
    assert math.isnan(times[1])


def test_disorder_is_left_alone() -> None:
    """Lines a little out of order, or without stamps, are no year's end."""
    for times in ([5.0, 3.0, 9.0], [math.nan, 7e8, 7e8 - 86_400], []):
        assert np.array_equal(np.array(times), unwrapped(np.array(times, dtype=np.float64)), equal_nan=True)
