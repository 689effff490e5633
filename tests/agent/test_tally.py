import math
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretail.columns import Columns
from foretail.patterns import Matcher
from foretail.schema import Calibration, Format, KeyRule, Pattern, Reading, SeriesInfo, Tail, VolumeInfo
from foretail.tally import GAP, VALUES_MAX, Counter, Lines, Readings, Values, chosen, of_columns, places, readings_of

VOCABULARY = 6


def info(*, keys=False, readings=()):
    calibration = Calibration(0.01, "interval", 9.0, False, 10, 0.0, Tail((), (), 1.0))
    series = SeriesInfo((), (), "ae", False, 1, 0, calibration, interval_s=60.0)
    return VolumeInfo(series, ("a", "b"), readings, keys)


def lines(times, ids=None, *, errors=(), which=None, keys=(), readings=None):
    n = len(times)
    return Lines(
        ids=np.array(ids if ids is not None else [3] * n, np.int32),
        times=np.array(times, float),
        lengths=np.full(n, 10, np.int64),
        errors=np.array([i in errors for i in range(n)], bool),
        which=np.array(which if which is not None else [-1] * n, np.int32),
        keys=list(keys),
        readings=readings or Readings(),
    )


def counter(**more):
    return Counter(info(**more), np.array([3, 4]), VOCABULARY)


def test_features_of_an_interval():
    """Counts of the chosen types, then other types, unknown lines, all lines, bytes and error lines."""
    one = counter()
    closed = one.add(lines([0, 60, 61, 62, 63, 64, 130], [3, 3, 3, 4, 5, 2, 3], errors={2}))
    assert [interval.row.tolist() for interval in closed] == [[2, 1, 1, 1, 5, 50, 1]]


def test_the_first_interval_is_not_judged():
    """An origin seen in mid-interval has no whole one yet."""
    assert counter().add(lines([10, 20, 70])) == []


def test_silence_is_counted():
    """Intervals without a line close as empty, when the next line comes or event time says so."""
    one = counter()
    one.add(lines([0, 60]))
    assert [interval.start for interval in one.add(lines([200]))] == [60.0, 120.0]
    assert [(c.start, c.lines) for c in one.advance(300.0)] == [(180.0, 1), (240.0, 0)]


def test_a_hole_starts_anew():
    """After GAP silent intervals the origin is gone: what comes next is judged without a past, and its first is cut."""
    one = counter()
    one.add(lines([0, 60]))
    closed = one.advance(1e9)
    assert len(closed) == 1 + GAP
    assert one.add(lines([1e9 + 61])) == []
    assert [interval.fresh for interval in one.add(lines([1e9 + 125, 1e9 + 190]))] == [True]


def test_late_lines_count_where_they_come():
    """A clock that steps back opens no interval a second time."""
    one = counter()
    one.add(lines([0, 60, 125]))
    assert one.add(lines([30])) == []
    assert [interval.lines for interval in one.advance(180.0)] == [2]


def test_keys_are_counted_once():
    """Distinct keys of an interval, over batches."""
    one = counter(keys=True)
    one.add(lines([0, 60], which=[-1, 0], keys=[b"x"]))
    one.add(lines([61, 62], which=[0, 1], keys=[b"x", b"y"]))
    assert one.advance(120.0)[0].row[-1] == 2


def test_readings_are_mean_and_p95():
    """Numbers captured in lines become two features; an interval without them has none."""
    found = Readings(
        np.array([1, 2], np.int32).tobytes(), np.zeros(2, np.int16).tobytes(), np.array([10, 20], np.float32).tobytes()
    )
    one = counter(readings=(Reading("a", 0, "ms"),))
    one.add(lines([0, 60, 61], readings=found))
    first, second = one.advance(180.0)
    assert first.row[-2:].tolist() == [15.0, 19.5]
    assert all(map(math.isnan, second.row[-2:]))


def test_a_journalled_batch_is_counted():
    """Columns as the journal holds them: the length of each line, and the origin over rotations."""
    columns = Columns(
        path="/var/log/x.log.1",
        ids=np.array([3, 2], np.int16).tobytes(),
        keys=[b"k"],
        which=np.array([0, -1], np.int32).tobytes(),
        times=np.array([5.0]).tobytes(),
        runs=np.array([2], np.int32).tobytes(),
        offsets=np.array([100, 110], np.int64).tobytes(),
        errors=np.packbits(np.array([False, True])).tobytes(),
        size=25,
    )
    origin, got = of_columns(columns, np.array([3, 2], np.int32), np.array([5.0, 5.0]), np.array([False, True]))
    assert origin == "/var/log/x.log"
    assert [got.ids.tolist(), got.times.tolist(), got.lengths.tolist(), got.errors.tolist()] == [
        [3, 2],
        [5.0, 5.0],
        [10, 15],
        [False, True],
    ]


def test_captures_that_are_numbers():
    """Only finite numbers are readings, by row, of the types and captures that are wanted."""
    form, patterns = (
        Format(),
        tuple(
            Pattern(0, rank, f"{rank:016x}", f"{word} <*> of <*>", rf"{word} (\S+) of (\S+)", rank)
            for rank, word in enumerate(("sent", "took"))
        ),
    )
    lines = [b"took 5 of 7", b"sent 1e3 of x", b"took inf of 8", b"took x of 9", b"else 1 of 2", b"sent 3 of 4"]
    typed = Matcher(patterns, form, KeyRule()).match(lines)
    wanted = [Reading("0" * 15 + "1", 1, "b"), Reading("f" * 16, 0, "gone"), Reading("0" * 16, 0, "a")]
    found = readings_of(places(wanted, patterns), typed)
    rows, which, value = (
        np.frombuffer(data, kind).tolist()
        for data, kind in zip((found.row, found.which, found.value), (np.int32, np.int16, np.float32), strict=True)
    )
    assert list(zip(rows, which, value, strict=True)) == [(0, 0, 7), (1, 2, 1000), (2, 0, 8), (3, 0, 9), (5, 2, 3)]
    assert readings_of(places([], patterns), typed) == Readings()


@given(
    st.lists(st.tuples(st.floats(0, 400), st.integers(2, 5)), min_size=1, max_size=40),
    st.lists(st.integers(0, 40), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_intervals_do_not_depend_on_cuts(rows, cuts):
    """However lines are cut into batches, and through a snapshot at each cut, the same intervals close."""
    rows.sort()
    times, ids = [t for t, _ in rows], [i for _, i in rows]
    wanted = (Reading("a", 0, "ms"), Reading("b", 1, "size"))
    n = len(rows)
    value = np.float32(0.1) * np.arange(n, dtype=np.float32)
    found = Readings(
        np.arange(n, dtype=np.int32).tobytes(), (np.array(ids) % 2).astype(np.int16).tobytes(), value.tobytes()
    )
    whole = counter(readings=wanted).add(lines(times, ids, readings=found))
    one, closed = counter(readings=wanted), []
    edges = sorted({0, *[min(c, n) for c in cuts], n})
    for start, end in pairwise(edges):
        fresh = counter(readings=wanted)
        fresh.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(one.snapshot())))
        one = fresh
        part = chosen(found, np.arange(start, end))
        closed += one.add(lines(times[start:end], ids[start:end], readings=part))
    assert [(c.start, c.row.tobytes()) for c in whole] == [(c.start, c.row.tobytes()) for c in closed]


@given(st.integers(1, 6000), st.lists(st.integers(0, 6000), max_size=5))
@settings(max_examples=40, deadline=None)
def test_many_values_are_bounded_and_the_same_in_any_parts(n, cuts):
    """The mean is that of all of them, the percentile comes from a spread of all of them, not from the first."""
    values = (np.arange(n) % 1000 + 0.1).astype(np.float32)
    whole, parts = Values(), Values()
    whole.add(values)
    for start, end in pairwise(sorted({0, *[min(c, n) for c in cuts], n})):
        parts.add(values[start:end])
    assert whole.snapshot() == parts.snapshot()
    assert len(whole.snapshot()[3]) <= 4 * VALUES_MAX
    mean, high = whole.both()
    assert mean == pytest.approx(values.astype(np.float64).mean())
    assert high == pytest.approx(np.quantile(values, 0.95), abs=60)


def test_numbers_beyond_the_format_are_no_readings():
    """A float32 is journalled: what it cannot hold is left out, as words are."""
    patterns = (Pattern(0, 0, "0" * 16, "took <*>", r"took (\S+)", 0),)
    typed = Matcher(patterns, Format(), KeyRule()).match(
        [b"took 1e39", b"took " + b"9" * 39, b"took 7", b"took -1e300"]
    )
    found = readings_of(places([Reading("0" * 16, 0, "n")], patterns), typed)
    assert (np.frombuffer(found.row, np.int32).tolist(), np.frombuffer(found.value, np.float32).tolist()) == (
        [2],
        [7.0],
    )
