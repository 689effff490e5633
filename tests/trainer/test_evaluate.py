"""Evaluation counts; it chooses nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score
from trainer.bigrams import V, fitter, service, untimed

from foretail.surprise import Surprise
from foretail_trainer.calibrate import Budget, calibrate
from foretail_trainer.crossfit import cross_fit, deal, fold_model
from foretail_trainer.evaluate import average_precision, baselines, f1, interval, judge, row, rows

pytestmark = pytest.mark.trainer


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 4), st.integers(1, 5)), min_size=1, max_size=30).filter(
        lambda cases: any(case[0] for case in cases)
    )
)
def test_average_precision_is_that_of_scikit_learn(cases):
    """Ties and weights included."""
    y, bits, weight = (np.array(column) for column in zip(*cases, strict=True))
    expected = average_precision_score(y, bits, sample_weight=weight)
    assert average_precision(y, bits.astype(float), weight) == pytest.approx(expected)


def test_a_row_counts_weights():
    """TP, FP, FN of single sessions behind each row."""
    found = row("x", np.array([True, True, False]), np.array([True, False, True]), np.array([6, 2, 4]))
    assert (found.true_positives, found.false_positives, found.false_negatives) == (6, 2, 4)
    assert (found.precision, found.recall, found.f1) == (0.75, 0.6, pytest.approx(2 / 3))
    assert found.f1_low < found.f1 < found.f1_high


def test_the_interval_narrows_with_the_number_of_sessions():
    """And is that of the normal approximation for many."""
    few, many = interval(60, 20, 20, 1000), interval(6000, 2000, 2000, 100_000)
    assert few[1] - few[0] > 8 * (many[1] - many[0])
    assert many[0] < f1(60, 20, 20) < many[1]


def test_nothing_found_is_nothing():
    """No division by zero."""
    assert f1(0, 0, 0) == 0
    assert interval(0, 0, 0, 0) == (0.0, 0.0)


def test_baselines_see_what_they_can_see():
    """Unseen counts, an unseen pair, a length out of range."""
    train = untimed([[3, 4, 5]] * 500 + [[3, 4, 4, 5]] * 500)
    test = untimed([[3, 4, 5], [4, 3, 5], [3, 4, 4, 4, 5], [3, 4]])
    found = {name: raised.tolist() for name, (raised, _) in baselines(train, test, 0.01).items()}
    assert found["unseen vector"] == [False, False, True, True]
    assert found["unseen 2-gram"] == [False, True, False, True]
    assert found["length"] == [False, False, True, True]


def test_the_table_of_a_bundle():
    """Combined first, each detector alone, then the baselines; faults are found."""
    train = untimed(service(3000))
    held = cross_fit(train, deal(train), fitter, window=4, vocabulary=V)
    made = calibrate(train, held, vocabulary=V, budget=Budget(rate=0.001))
    scorer, _, _, rare = fold_model(train, np.ones(3000, np.int64), fitter, V, 0)
    test = untimed([*service(300, seed=5), *([[3, 5, 6], [3, 4]] * 20)])
    labels = np.arange(340) >= 300
    judged = judge(test, scorer, Surprise(made.calibration, made.counts), rare, window=4)
    table = {found.detector: found for found in rows(judged, labels, made.calibration, train)}
    assert list(table) == [
        "combined", "lstm", "sequence", "end", "novelty", "counts", "unseen vector", "unseen 2-gram", "length",
    ]  # fmt: skip
    assert table["combined"].ours
    assert table["combined"].f1 == 1
    assert table["combined"].ap == 1
    assert table["unseen 2-gram"].recall == 1
    assert table["novelty"].recall == 0
