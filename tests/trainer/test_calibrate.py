"""Calibration spends one budget on normal sessions that the model did not see, and says what it rests on."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer.bigrams import V, fitter, service, timed, untimed

from foretail.errors import ConfigError
from foretail.schema import UNKNOWN
from foretail.surprise import Surprise
from foretail_trainer.calibrate import ALPHA_MAX, BIT, EXTRAPOLATION_MAX, Budget, calibrate
from foretail_trainer.crossfit import cross_fit, deal, fold_model, restricted, score
from foretail_trainer.evaluate import judge
from foretail_trainer.sequences import plain, sessions

pytestmark = pytest.mark.trainer


def calibrated(found, budget=None, seed=0):
    held = cross_fit(found, deal(found, seed), fitter, window=4, vocabulary=V, seed=seed)
    return calibrate(found, held, vocabulary=V, budget=budget)


def alarms(found, budget, test):
    """Share of other sessions that a bundle of these would raise."""
    made = calibrated(found, budget)
    ones = np.ones(len(found.units), np.int64)
    scorer, _, _, rare = fold_model(found, ones, fitter, V, 0)
    surprise = Surprise(made.calibration, made.counts)
    x = judge(test, scorer, surprise, rare, window=4).scores.x
    return (x >= made.calibration.threshold).mean()


def test_folds_are_blocks_of_time():
    """With times each fold is a fifth of the log, in order."""
    share = deal(timed(service(100)))
    assert share.sum(axis=1).tolist() == [1] * 101
    assert (np.diff(share.argmax(axis=1)) >= 0).all()


@given(st.lists(st.integers(1, 23), min_size=1, max_size=30), st.integers(0, 5))
def test_without_times_single_sessions_are_dealt(weights, seed):
    """Each weight is spread over all folds as evenly as can be, and so is the whole."""
    found = plain([np.array([3 + i % 5], np.int32) for i in range(len(weights))], weights)
    share = deal(found, seed)
    assert share.sum(axis=1).tolist() == weights
    assert (share.max(axis=1) - share.min(axis=1) <= 1).all()
    assert np.ptp(share.sum(axis=0)) <= 1


def test_a_fold_is_scored_by_a_model_that_did_not_see_it():
    """A type that came in one block of time alone is unknown there."""
    rows = service(500)
    rows[30] = [3, 4, 8, 6]
    made = calibrated(timed(rows))
    row = int(np.flatnonzero(made.held.unit == 30)[0])
    assert made.held.unknown[row]
    assert made.scores.terms["novelty"][row] > 5
    assert made.held.unknown.sum() == 1


def test_the_threshold_is_the_order_statistic():
    """With enough sessions, that of rank (n + 1) alpha from the top, 20.01 here; no more of them reach it."""
    made = calibrated(untimed(service(2000, odd=[[4, 3]] * 30)), Budget(rate=0.01))
    falling = -np.sort(-made.x)
    assert not made.calibration.extrapolated
    assert falling[20] < made.calibration.threshold <= falling[19]
    assert Surprise(made.calibration, made.counts).p(made.calibration.threshold) <= 0.01


def test_beyond_the_data_the_tail_halves_with_every_bit():
    """Half the rate costs one bit more."""
    found = untimed(service(800, odd=[[4, 3], [6, 5], [5], [3]] * 4))
    held = cross_fit(found, deal(found), fitter, window=4, vocabulary=V)
    some, half = (calibrate(found, held, vocabulary=V, budget=Budget(rate=a)).calibration for a in (1e-3, 5e-4))
    assert some.extrapolated
    assert half.threshold - some.threshold == pytest.approx(1.0, abs=1e-5)
    assert Surprise(some, calibrated(found).counts).p(some.threshold) == pytest.approx(1e-3, rel=1e-3)
    assert pytest.approx(1 / math.log(2)) == BIT


@pytest.mark.parametrize("alpha", [0.02, 0.005])
def test_the_promise_is_kept_on_sessions_of_the_same_kind(alpha):
    """Observed false alerts are about alpha or fewer."""
    odd = [[3, 4, 6], [4, 5, 6], [3, 5, 6], [3, 4, 5], [3, 4, 4, 4, 4, 4, 5, 6]] * 8
    test = untimed(service(2000, seed=9, odd=odd))
    assert alarms(untimed(service(2000, seed=1, odd=odd)), Budget(rate=alpha), test) <= 1.5 * alpha + 0.005


def test_repeats_of_one_cause_are_one_alert():
    """A burst of one new thing in one block of time does not move the threshold as many would."""
    burst = service(2000)
    for i in range(100, 140):
        burst[i] = [3, 8, 5, 6]
    many = service(2000, odd=[[4, 3], [5, 3], [6, 3], [5, 4], [6, 4], [6, 5], [4, 6], [3, 6], [5, 5], [6, 6]] * 4)
    rate = Budget(rate=0.002)
    assert calibrated(timed(burst), rate).calibration.threshold < calibrated(timed(many), rate).calibration.threshold


def test_no_rate_is_promised_far_beyond_what_the_log_can_certify():
    """A rate three times lower than 1 / (n + 1) at most; the manifest holds the rate that is promised, not the wish."""
    found = untimed(service(300, odd=[[4, 3], [6, 5]]))
    made = calibrated(found, Budget(rate=1e-9))
    assert made.calibration.alpha == pytest.approx(made.certified / EXTRAPOLATION_MAX)


def test_a_rate_beyond_the_data_has_no_lower_threshold_than_the_reference_rate():
    """One odd session among 1,200 sets what .001 certifies; a smaller rate asked of the same log stays above it."""
    found = untimed(service(1200, odd=[[4, 3, 3, 5, 6]]))
    certain, beyond = calibrated(found, Budget(rate=0.001)), calibrated(found, Budget(rate=1e-9))
    assert not certain.calibration.extrapolated
    assert beyond.calibration.extrapolated
    assert beyond.calibration.threshold >= certain.calibration.threshold


def test_what_the_network_is_sure_of_is_an_alert_however_few_sessions_there_were():
    """In a log that is well predicted, an event far more surprising than any normal one reaches the threshold."""
    found = untimed(service(300))
    made = calibrated(found, Budget(rate=1e-9))
    surprise = Surprise(made.calibration, made.counts)
    bits = np.array([made.held.top.max(), 30.0])
    none = np.zeros(2, np.bool_)
    assert (surprise.lines(bits, unknown=none, rare=none).x >= surprise.threshold).tolist() == [False, True]
    assert made.held.top.max() < surprise.sure < 30


def test_a_budget_by_the_week_uses_the_units_a_day():
    """Twenty alerts a week and host at 8,640 sessions a day of two hosts."""
    made = calibrated(timed(service(1000)), Budget(per_week=20.0, hosts=2))
    per_day = made.calibration.units_per_day
    assert per_day == pytest.approx(1001 / (11_000 / 86_400) / 2, rel=1e-2)
    assert made.calibration.alpha == pytest.approx(20 / (7 * per_day))
    assert made.calibration.extrapolated


def test_budgets_have_bounds():
    """No times: 0.001. Next to no sessions: one in twenty. Nonsense: one sentence."""
    assert Budget().alpha(0) == 0.001
    assert Budget().alpha(0.1) == ALPHA_MAX
    with pytest.raises(ConfigError, match="--false-alert-rate"):
        Budget(rate=1.5).alpha(1)
    with pytest.raises(ConfigError, match="--false-alerts-per-week"):
        Budget(per_week=0).alpha(1)


def test_a_strange_session_is_found_and_a_normal_one_is_not():
    """The combination raises skipped, swapped, cut and repeated steps."""
    found = untimed(service(3000))
    made = calibrated(found)
    scorer, _, _, rare = fold_model(found, np.ones(3000, np.int64), fitter, V, 0)
    faults = untimed([[3, 5, 6], [3, 5, 4, 6], [3, 4], [3, 4, 5, 5, 5, 5, 6], [3, 4, UNKNOWN, 5, 6]])
    surprise = Surprise(made.calibration, made.counts)
    assert (judge(faults, scorer, surprise, rare, window=4).scores.x >= made.calibration.threshold).all()
    normal = judge(untimed([[3, 4, 5, 6], [3, 4, 4, 5, 6]]), scorer, surprise, rare, window=4)
    assert (normal.scores.x < made.calibration.threshold).all()


def test_endless_sessions_are_cut_where_a_block_is_held_out():
    """What follows a hole is a session of its own, its beginning not seen."""
    found = sessions(np.full(450, 3, np.int32), None, np.arange(450.0), vocabulary=V)
    part, partial = restricted(found, np.array([1, 0, 1, 1, 0]), found.ids)
    assert (part.stops - part.starts).tolist() == [100, 200]
    assert partial.tolist() == [False, True]
    made = calibrated(found)
    assert made.calibration.unit == "block"
    assert (made.held.ended.sum(), len(made.held.unit)) == (4, 5)


def test_counts_and_end_are_judged_at_the_last_rest():
    """What came after the last rest was cut by the end of the log: it has lines, no end."""
    rows = timed(service(300))
    held = score(
        rows, np.ones(301, np.int64), rows.ids, np.zeros(V, bool), fitter(rows, np.zeros(301, bool), 0),
        calibrated(rows).counts, window=4,
    )  # fmt: skip
    assert held.ended[:-1].all()
    assert not held.ended[-1]
    assert held.end[-1] == held.distance[-1] == 0


def test_the_same_seed_gives_the_same_threshold():
    """Deterministic."""
    found = untimed(service(500, odd=[[4, 3], [5, 6]]))
    assert calibrated(found, seed=3).calibration == calibrated(found, seed=3).calibration


def test_blocks_tell_expected_and_observed():
    """The fold in which something happened is the one with alerts; drift says how uneven they are."""
    rows = service(1000)
    for i, row in enumerate(([4, 3], [6, 3], [5, 4], [5, 3])):
        rows[850 + i] = row
    made = calibrated(timed(rows), Budget(rate=0.003))
    observed = [block.observed for block in made.blocks]
    assert observed[4] >= 1
    assert observed[:4] == [0, 0, 0, 0]
    assert sum(block.expected for block in made.blocks) == pytest.approx(3.0, abs=0.01)
    assert made.calibration.drift > 1
