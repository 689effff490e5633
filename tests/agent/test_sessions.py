"""Sessions against a line-by-line model that is too simple to be wrong."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretail.schema import PAD, UNKNOWN
from foretail.sessions import Sessions
from foretail.slots import BLOCK_LINES, EVENTS_MAX, Rules
from foretail.units import Units

C, V, IDLE = 4, 9, 10.0
END_TYPE = 8


def rules(*, endless: bool = False, keys_max: int = 1000) -> Rules:
    ends = np.zeros(V, np.bool_)
    ends[END_TYPE] = not endless
    return Rules(window=C, vocabulary=V, idle_s=IDLE, ends=ends, endless=endless, keys_max=keys_max)


@dataclass
class Live:
    """One live session of the model."""

    pad: int
    first: int
    events: list[int] = field(default_factory=list)
    last: float = 0.0
    surprise: list[int] = field(default_factory=list)


def naive(lines, *, whole, endless):
    """Windows of each line and closed units, one line at a time."""
    live: dict[bytes, Live] = {}
    windows, closed, began = [], [], None
    for offset, (key, event, time, surprise) in enumerate(lines):
        began = time if began is None else began
        if not endless:
            for name in [name for name, session in live.items() if time - session.last > IDLE]:
                closed.append((name, live.pop(name)))
        if key not in live:
            seen = whole or time - began > IDLE
            live[key] = Live(PAD if seen else UNKNOWN, offset)
        session = live[key]
        windows.append(([session.pad] * C + session.events)[-C:])
        session.events.append(event)
        session.surprise.append(surprise)
        session.last = time
        if not endless and event == END_TYPE:
            closed.append((key, live.pop(key)))
    return windows, closed, live


def run(lines, cuts, *, whole, endless=False, crash=False):
    """The same through Sessions, cut into batches (and saved and restored between them)."""
    sessions = Sessions(rules(endless=endless))
    windows, closed = [None] * len(lines), []
    for start, stop in zip([0, *cuts], [*cuts, len(lines)], strict=True):
        part = lines[start:stop]
        if not part:
            continue
        times = np.array([line[2] for line in part])
        ids = np.array([line[1] for line in part], np.int32)
        offsets = np.arange(start, stop)
        step = sessions.step([line[0] for line in part], ids, times, offsets, source=0, whole=whole)
        for row, window in zip(step.order, step.windows, strict=True):
            windows[start + row] = window.tolist()
        surprise = np.array([line[3] for line in part], np.int64)[step.order]
        closed.append(sessions.finish(step, surprise, step.ids == UNKNOWN, times))
        if crash:
            state = sessions.snapshot()
            sessions = Sessions(rules(endless=endless))
            sessions.restore(state)
    return windows, closed, sessions


def facts(units: Units):
    """What the model knows of each unit, too."""
    counts = units.counts(V)
    return [
        (
            units.keys[u],
            int(units.first_offset[u]),
            int(units.n[u]),
            int(units.total[u]),
            int(units.top[u]),
            tuple(counts[u].tolist()),
            tuple(units.recent[u].tolist()),
        )
        for u in range(len(units))
    ]


def model_facts(name, session, start=0, stop=None):
    events, surprise = session.events[start:stop], session.surprise[start:stop]
    recent = ([session.pad] * C + session.events[:stop])[-C:]
    counts = np.bincount(events, minlength=V)
    return (name, len(events), sum(surprise), max(surprise), tuple(counts.tolist()), tuple(recent))


lines_strategy = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b", b"c", b"d"]),
        st.integers(2, END_TYPE),
        st.sampled_from([0.0, 0.0, 1.0, 4.0, 11.0, 30.0]),
        st.integers(0, 5000),
    ),
    min_size=1,
    max_size=60,
)


def in_time(steps):
    """Steps of time to times."""
    now, lines = 0.0, []
    for key, event, step, surprise in steps:
        now += step
        lines.append((key, event, now, surprise))
    return lines


@settings(max_examples=150, deadline=None)
@given(steps=lines_strategy, data=st.data(), whole=st.booleans(), crash=st.booleans())
def test_windows_and_sessions_equal_the_line_by_line_model_however_the_input_is_cut(steps, data, whole, crash):
    """Same windows, same closed sessions, same order for any cut, also across a save and restore."""
    lines = in_time(steps)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=5)))
    expected_windows, expected_closed, expected_live = naive(lines, whole=whole, endless=False)
    windows, closed, sessions = run(lines, cuts, whole=whole, crash=crash)
    assert windows == expected_windows
    got = [fact for units in closed for fact in facts(units)]
    assert sorted((g[0], *g[2:]) for g in got) == sorted(model_facts(*pair) for pair in expected_closed)
    assert len(sessions) == len(expected_live)
    whole_run = [fact for units in run(lines, [], whole=whole)[1] for fact in facts(units)]
    assert got == whole_run
    rest = facts(sessions.close_all(ended=True))
    assert sorted((r[0], *r[2:]) for r in rest) == sorted(model_facts(*pair) for pair in expected_live.items())
    assert len(sessions) == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), data=st.data(), crash=st.booleans())
def test_endless_sessions_close_a_block_every_hundred_lines_and_keep_their_windows(seed, data, crash):
    """Blocks hold exactly the lines of their hundred; windows run on over their borders."""
    rng = np.random.default_rng(seed)
    lines = [
        (bytes([97 + rng.integers(2)]), int(rng.integers(2, V)), float(i), int(rng.integers(9))) for i in range(450)
    ]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(lines)), max_size=6)))
    expected_windows, _, live = naive(lines, whole=True, endless=True)
    windows, closed, _ = run(lines, cuts, whole=True, endless=True, crash=crash)
    assert windows == expected_windows
    expected = [
        model_facts(name, session, start, start + BLOCK_LINES)
        for name, session in live.items()
        for start in range(0, len(session.events) - BLOCK_LINES + 1, BLOCK_LINES)
    ]
    got = [(g[0], *g[2:]) for units in closed for g in facts(units)]
    assert sorted(got) == sorted(expected)


def test_a_session_longer_than_the_kept_events_counts_all_of_them():
    """Counts beyond the kept events are exact, over batches and a restore."""
    lines = [(b"k", 3 + i % 3, float(i) / 10, 1) for i in range(EVENTS_MAX * 3 + 5)]
    _, closed, sessions = run(lines, [10, EVENTS_MAX + 3, EVENTS_MAX * 2], whole=True, crash=True)
    assert sum(map(len, closed)) == 0
    units = sessions.close_all(ended=True)
    expected = np.bincount([line[1] for line in lines], minlength=V)
    assert units.counts(V)[0].tolist() == expected.tolist()


def test_the_least_recently_used_session_is_evicted_and_its_key_starts_partial():
    """Beyond keys_max the oldest goes without a verdict, is counted, and comes back partial."""
    sessions = Sessions(rules(keys_max=2))

    def feed(key, time, offset):
        times = np.array([time])
        ids = np.array([3], np.int32)
        step = sessions.step([key], ids, times, np.array([offset]), source=0, whole=True)
        closed = sessions.finish(step, np.zeros(1, np.int64), np.zeros(1, np.bool_), times)
        assert len(closed) == 0
        return step.windows[0].tolist()

    assert feed(b"a", 0.0, 0) == [PAD] * C
    feed(b"b", 1.0, 1)
    feed(b"c", 2.0, 2)
    assert sessions.slots.evicted_total == 1
    assert len(sessions) == 2
    assert feed(b"a", 3.0, 3) == [UNKNOWN] * C


def test_histories_move_to_another_bundle_by_type():
    """Types that the new bundle lacks become UNKNOWN in windows and counts."""
    lines = [(b"k", 3, 0.0, 0), (b"k", 4, 1.0, 0)]
    sessions = run(lines, [], whole=True)[2]
    moved = np.full(V, UNKNOWN, np.int16)
    moved[:UNKNOWN] = range(UNKNOWN)
    moved[4] = 3
    sessions.slots.translate(moved, V)
    units = sessions.close_all(ended=True)
    assert units.recent[0].tolist() == [PAD, PAD, UNKNOWN, 3]


@pytest.mark.parametrize("ended", [True, False])
def test_sessions_at_the_end_of_input_say_whether_their_end_was_seen(ended):
    """`open` is what `close_all` was told."""
    sessions = run([(b"k", 3, 0.0, 0)], [], whole=True)[2]
    assert sessions.close_all(ended=ended).open.tolist() == [not ended]


def test_a_live_session_costs_at_most_400_bytes():
    """State columns and the key's share of the table for 100,000 keys (issue: bounded keys)."""
    tracemalloc.start()
    sessions = Sessions(Rules(window=10, vocabulary=40, idle_s=1e9, ends=np.zeros(40, np.bool_), keys_max=200_000))
    n = 100_000
    keys = [b"blk_-%d" % (2**60 + i) for i in range(n)]
    before = tracemalloc.get_traced_memory()[0]
    for start in range(0, n, 10_000):
        times = np.full(10_000, float(start))
        ids = np.full(10_000, 3, np.int32)
        step = sessions.step(keys[start : start + 10_000], ids, times, times.astype(np.int64), source=0, whole=True)
        sessions.finish(step, ids.astype(np.int64), ids == UNKNOWN, times)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    del step
    assert used / n + 57 < 400  # 57: the key itself
