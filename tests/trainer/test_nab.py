import numpy as np
import pytest
from bench import nab

pytestmark = pytest.mark.trainer


def series(n=1000, windows=((400, 499), (700, 799))):
    return nab.Series("x", None, np.arange(n) * 300.0, np.zeros(n), tuple(windows))


def at(rows, n=1000):
    scores = np.zeros(n)
    scores[list(rows)] = 1.0
    return scores


def test_silence_is_nought_and_the_first_rows_of_all_windows_are_a_hundred():
    """0 is the detector that raises nothing, 100 the one that raises each window at its first row."""
    assert nab.score([series()], [at([])], 0.5)[0] == 0.0
    assert pytest.approx(nab.score([series()], [at([400, 700])], 0.5)[0]) == 100.0


def test_later_in_the_window_is_worth_less():
    """The earliest detection counts, on a falling sigmoid."""
    early, late = (nab.score([series()], [at([row, 450])], 0.5)[0] for row in (410, 450))
    assert 50 > early > late > 0


def test_a_false_alarm_costs_least_right_after_a_window():
    """Far from any window it costs .11 of a window, just behind one next to nothing."""
    hits = [400, 700]
    far, near = (nab.score([series()], [at([*hits, row])], 0.5)[0] for row in (300, 500))
    assert pytest.approx(far) == 100 - 100 * 0.11 / 4
    assert 99.9 < near <= 100


def test_the_probation_is_not_scored():
    """What is raised in the first 15 % costs nothing."""
    assert series().probation == 150
    assert nab.score([series()], [at(range(150))], 0.5)[0] == 0.0


def test_one_threshold_serves_all_files():
    """The label-optimised threshold is the best for all files together."""
    one, two = at([400, 700]) * 3, at([400, 700]) + at([300]) * 2
    best, threshold = nab.score([series(), series()], [one, two], None)
    assert (threshold, 98 < best < 100) == (1.0, True)


def test_windowed_gaussian_raises_a_jump():
    """A value ten deviations away has next to no tail."""
    values = np.random.default_rng(0).normal(size=1000)
    values[600] = 10
    found = nab.windowed_gaussian(series()._replace(values=values))
    assert int(found[200:].argmax()) + 200 == 600
