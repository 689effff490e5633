import math

import msgspec
import numpy as np
import pytest

from foretail.deviations import StateTail, Stats, calendar, fresh_limit, log_distance, standard, tail_bits, windows_of
from foretail.errors import ConfigError
from foretail.schema import Calibration, SeriesInfo, Tail
from foretail.series import CAP, Core


def info(f=1, *, forecast=True, window=3, logged=False, hold=20, **more):
    calibration = Calibration(
        0.01, "row", 20.0, False, 100, 0.0, Tail((), (), 1.0), weights={"state": 20.0, "fresh": 35.0}
    )
    names = tuple("abcdefgh"[:f])
    return SeriesInfo(names, (logged,) * f, "lstm", forecast, window, f, calibration, hold=hold, memory=500, **more)


def core(f=1, **more):
    rng = np.random.default_rng(0)
    normal = np.log(np.abs(rng.normal(size=(4, 400))) + 0.02)
    return Core(info(f, **more), Stats(np.vstack([np.zeros(f), np.ones(f), np.ones((4, f)), np.zeros((4, f))])), normal)


def step(one, z, logged=False):
    z = np.asarray(z, float).reshape(len(z), -1)
    return one.step(z, np.zeros_like(z), np.full(z.shape[1], logged))


def test_fresh_limit_is_the_bound_of_four_views():
    """P(a view has limit/4 bits) times four views is alpha."""
    assert pytest.approx(4 * 2 ** (-fresh_limit(0.01, 4) / 4)) == 0.01


def test_state_bits_never_fall_as_the_distance_grows():
    """A row further away is never less strange."""
    tail = StateTail(np.random.default_rng(1).normal(size=300))
    bits = [tail.bits(d) for d in np.linspace(-5, 8, 200)]
    assert bits == sorted(bits)


def test_a_jump_is_fresh_and_its_rest_is_capped():
    """The first rows of an incident stand out; those that follow stay anomalous and say no more than that."""
    rng = np.random.default_rng(2)
    quiet = rng.normal(size=200)
    found = step(core(), np.concatenate([quiet, np.full(40, 60.0)]))
    assert not found.anomalous[:200].any()
    assert found.anomalous[200:].all()
    assert found.new[200]
    assert found.ratio[200] >= CAP
    assert found.ratio[225:240].max() < CAP


def test_rows_cut_in_any_way_give_the_same():
    """The verdict of a row depends on the rows before it, not on how they came."""
    z = np.random.default_rng(3).normal(size=120)
    z[80:] += 9
    whole, one = step(core(), z), core()
    parts = [step(one, part) for part in (z[:1], z[1:50], z[50:])]
    assert whole.ratio.tolist() == np.concatenate([part.ratio for part in parts]).tolist()


def test_state_survives_a_snapshot():
    """A restored detector goes on as the one that was saved, through msgpack."""
    z = np.random.default_rng(4).normal(size=150)
    one, other = core(), core()
    step(one, z[:90])
    other.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(one.snapshot())))
    assert step(one, z[90:]).ratio.tolist() == step(other, z[90:]).ratio.tolist()


def test_missing_values_are_no_news():
    """A row without values has distance nought in what came."""
    found = step(core(), [math.nan, math.nan, math.nan])
    assert not found.anomalous.any()
    assert np.isfinite(found.ratio).all()


def test_a_feature_that_leaves_the_others_is_named():
    """The shares point at what moved; expected and range lie where the others are."""
    found = step(core(3), [[0.1, -0.2, 0.0]] * 30 + [[0.1, 50.0, 0.0]])
    assert int(found.shares[-1].argmax()) == 1
    assert found.high[-1, 1] < 10
    assert pytest.approx(found.shares[-1].sum()) == 1.0


def test_mix_speaks_by_its_strangest_feature():
    """A tight feature does not wait for a wild one: its own tail decides."""
    excess = np.zeros((5, 3))
    excess[4] = [0.1, 1.0, 1.0]
    table = np.vstack([np.zeros(3), np.ones(3), np.ones((5, 3)), excess])
    stats = Stats(table, np.eye(3))
    seen = np.zeros((5, 3))
    seen[4] = [3.0, 3.0, 0.0]
    bits = tail_bits(seen[4], stats.excess[4])
    assert bits[0] > 5 * bits[1] > 0
    assert log_distance(seen, stats)[4] == pytest.approx(math.log(bits[0] + 0.02), abs=1e-5)


def test_forecaster_sees_only_rows_before():
    """A row's window ends before it for a forecaster, with it for an autoencoder; before the first lies the centre."""
    z, times = np.arange(1.0, 6.0)[:, None], np.arange(5.0)
    empty = np.zeros((0, 1), np.float32)
    before = windows_of(info(), z, times, empty)[1][:, :, 0].tolist()
    there = windows_of(info(forecast=False), z, times, empty)[1][:, :, 0].tolist()
    assert before == [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert there == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]


def test_windows_go_on_over_a_cut():
    """The last rows of one batch are the past of the next."""
    z, times = np.arange(1.0, 8.0)[:, None], np.arange(7.0)
    whole = windows_of(info(), z, times, np.zeros((0, 1), np.float32))[1]
    history, first = windows_of(info(), z[:4], times[:4], np.zeros((0, 1), np.float32))
    _, second = windows_of(info(), z[4:], times[4:], history[-3:])
    assert whole.tolist() == [*first.tolist(), *second.tolist()]


def test_logged_columns_are_log_of_one_plus():
    """A count of e - 1 lies one unit above none."""
    stats = Stats(np.vstack([[0.0], [1.0], np.ones((4, 1)), np.zeros((4, 1))]))
    assert pytest.approx(standard(np.array([[math.e - 1]]), stats, np.array([True]))[0, 0]) == 1.0


@pytest.mark.parametrize(("kind", "width"), [("none", 0), ("day", 2), ("week", 4)])
def test_calendar_is_periodic(kind, width):
    """The same minute of the next day (or week) lies at the same place."""
    marks = calendar(kind, np.array([3600.0, 3600.0 + 7 * 86_400, math.nan]))
    assert (3, width) == marks.shape
    assert marks[0] == pytest.approx(marks[1], abs=1e-6)


def test_damaged_statistics_are_refused():
    """A scale of nought would divide by it."""
    with pytest.raises(ConfigError, match="damaged"):
        Stats(np.zeros((10, 2)))
