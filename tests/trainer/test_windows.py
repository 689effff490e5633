"""Windows are the events of sessions after their C predecessors, each distinct pair once, with its weight."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.schema import END, PAD, UNKNOWN
from foretail_trainer.windows import Columns, columns, unknowing, windows

pytestmark = pytest.mark.trainer


def arrays(lists):
    return [np.array(x, np.int32) for x in lists]


def table(found):
    return {(*w, t): n for w, t, n in zip(found.window.tolist(), found.target.tolist(), found.weight, strict=True)} | {}


def slowly(sequences, window, weight=None, censored=False, pad=PAD):
    result = Counter()
    for s, n in zip(sequences, weight or [1] * len(sequences), strict=True):
        events = [*s] if censored else [*s, END]
        for i, event in enumerate(events):
            if event != UNKNOWN:
                result[(*([pad] * window + events[:i])[-window:], event)] += n
    return {tuple(k): float(v) for k, v in result.items()}


def test_one_session():
    """A whole session is padded with PAD on the left and ends with END."""
    found = windows(arrays([[5, 6]]), window=3)
    assert found.window.tolist() == [[PAD, PAD, PAD], [PAD, PAD, 5], [PAD, 5, 6]]
    assert found.target.tolist() == [5, 6, END]
    assert (np.int32, np.int32, np.float64) == tuple(c.dtype for c in found)


def test_weights_count_repeats():
    """Equal windows are one row with their number as weight; a session's own weight multiplies."""
    found = windows(columns(arrays([[5], [5], [6]]), [2, 3, 4]), window=2)
    assert table(found) == {(0, 0, 5): 5.0, (0, 5, END): 5.0, (0, 0, 6): 4.0, (0, 6, END): 4.0}


def test_censored_sessions_have_no_end():
    """Where the data ended before the session, END is no target."""
    found = windows(columns(arrays([[5, 6]]), censored=True), window=2)
    assert table(found) == {(0, 0, 5): 1.0, (0, 5, 6): 1.0}


def test_partial_sessions_are_padded_with_unknown():
    """A session whose beginning was not seen has UNKNOWN on its left."""
    found = windows(arrays([[5], [6]]), window=2, partial=np.array([True, False]))
    assert table(found) == {(2, 2, 5): 1.0, (2, 5, END): 1.0, (0, 0, 6): 1.0, (0, 6, END): 1.0}


def test_unknown_is_context_but_never_a_target():
    """An unseen line stands in windows as UNKNOWN; nobody learns to predict it."""
    found = windows(arrays([[5, UNKNOWN, 6]]), window=2)
    assert table(found) == {(0, 0, 5): 1.0, (5, 2, 6): 1.0, (2, 6, END): 1.0}


@given(
    st.lists(st.lists(st.integers(2, 6), min_size=1, max_size=20), max_size=12),
    st.integers(1, 5),
    st.sampled_from([1, 3, 7, 1 << 20]),
    st.booleans(),
)
def test_any_chunk_gives_what_a_plain_loop_gives(sequences, window, chunk, censored):
    """However the events are cut into chunks, also inside long sessions, the windows are the same."""
    found = windows(columns(arrays(sequences), censored=censored), window=window, chunk=chunk)
    assert slowly(sequences, window, censored=censored) == table(found)
    assert len(found.target) == len(table(found))


def test_starts_may_close_with_the_length():
    """`starts` with a closing len(ids) means the same."""
    plain = columns(arrays([[5, 6], [7]]))
    closed = Columns(plain.ids, np.append(plain.starts, 3), plain.weight, plain.censored)
    assert table(windows(plain, window=2)) == table(windows(closed, window=2))


def test_sessions_of_weight_zero_do_not_count():
    """What a split left out gives no window."""
    found = windows(columns(arrays([[5], [6]]), [1, 0]), window=1)
    assert {5, END} == set(found.target.tolist())


def test_a_long_endless_session_stays_small():
    """A million events of one endless session with 50 distinct windows become 50 rows."""
    ids = np.tile(np.arange(3, 53, dtype=np.int32), 20_000)
    found = windows(columns([ids], censored=True), window=10)
    assert len(found.target) == 60  # 50, and 10 that hold padding
    assert found.weight.sum() == 1_000_000


def test_unknowing_hides_left_parts_and_single_inputs():
    """About a tenth of windows lose their left part, about 1.5 % of the other inputs are unknown, padding stays."""
    context = np.full((20_000, 10), 7, np.int32)
    context[:, :4] = PAD
    hidden = unknowing(context, np.random.default_rng(3))
    left = hidden[:, 0] == UNKNOWN
    assert 0.09 < left.mean() < 0.11
    rest = hidden[~left]
    assert (rest[:, :4] == PAD).all()
    assert 0.013 < (rest[:, 4:] == UNKNOWN).mean() < 0.017
    known = hidden[left] != UNKNOWN
    assert (np.diff(known[:, :4].astype(int), axis=1) >= 0).all()
    assert (context[:, 0] == PAD).all()
    assert (hidden == unknowing(context, np.random.default_rng(3))).all()


def test_too_many_distinct_windows_become_a_fair_sample():
    """Beyond `rows_max` frequent windows all stay, rare ones are sampled, and the total weight is kept on average."""
    rng = np.random.default_rng(4)
    rare = [rng.integers(10, 3000, 6).astype(np.int32) for _ in range(4000)]
    common = [np.array([3, 4, 5], np.int32)]
    sessions = columns(rare + common, [1] * 4000 + [100_000])
    whole = windows(sessions, window=4, chunk=2000)
    some = windows(sessions, window=4, chunk=2000, rows_max=8000)
    assert len(whole.target) > 20_000
    assert len(some.target) <= 8000
    expected, found = table(whole), table(some)
    assert all(found[k] == pytest.approx(v) for k, v in expected.items() if v > 1000)
    assert set(found) <= set(expected)
    assert sum(found.values()) == pytest.approx(sum(expected.values()), rel=0.05)
