"""Training learns, stops, repeats itself exactly, and goes on from where it was."""

import numpy as np
import pytest

from foretail.errors import ConfigError
from foretail.schema import END, UNKNOWN
from foretail_trainer.export import distributions
from foretail_trainer.fit import Plan, _sample, fit, fit_many, fit_sessions, loss, split
from foretail_trainer.network import Shape, initial
from foretail_trainer.windows import Windows, columns, windows

pytestmark = pytest.mark.trainer

SMALL = Shape("lstm", 1, 16, 4, 8, 8)
SHORT = Plan(steps=400, batch=64, evaluations=20)


@pytest.fixture(scope="module")
def sessions():
    """Two kinds of sessions: 3 4 5 6 and 3 5 4 7, the first three times as frequent."""
    return columns([np.array([3, 4, 5, 6], np.int32), np.array([3, 5, 4, 7], np.int32)], [300, 100])


@pytest.fixture(scope="module")
def fitted(sessions):
    return fit_sessions(sessions, SMALL, SHORT, seed=1)


def test_one_step_lowers_the_loss(sessions):
    """A single small step along the gradient makes the loss fall."""
    train = windows(sessions, window=4)
    before = loss(initial(SMALL, seed=1), train)
    after = fit(train, train, SMALL, Plan(steps=1, evaluations=1, finish=0, warm_up=0, contexts=0, inputs=0), seed=1)
    assert loss(after.weights, train) < before


def test_it_learns_the_grammar(sessions, fitted):
    """The loss comes close to the entropy of the data: one choice of 1:3 in five events."""
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / 5
    assert entropy < loss(fitted.weights, windows(sessions, window=4)) < entropy + 0.1


def test_curve_and_best(fitted):
    """The curve holds every evaluation, falls, and the best of its held-out losses is reported."""
    assert fitted.curve[0].held > fitted.curve[-1].held
    assert fitted.held == min(e.held for e in fitted.curve)
    assert all(e.steps == 400 for e in fitted.curve)


def test_the_same_seed_gives_the_same_bits(sessions, fitted):
    """Input and seed decide every weight."""
    again = fit_sessions(sessions, SMALL, SHORT, seed=1)
    assert all((a == b).all() for a, b in zip(fitted.weights.arrays, again.weights.arrays, strict=True))
    other = fit_sessions(sessions, SMALL, SHORT, seed=2)
    assert not (fitted.weights.arrays[0] == other.weights.arrays[0]).all()


def test_unknown_contexts_mean_the_average(fitted):
    """After a context nobody saw, the next events are about as frequent as they are at large; UNKNOWN is not one."""
    p = np.exp(distributions(fitted.weights, np.full((1, 4), UNKNOWN, np.int32))[0])
    assert p[[3, 4, 5, END]].min() > 0.05
    assert p[UNKNOWN] < 0.02


def test_an_unknown_line_does_not_blind_the_model(fitted):
    """One UNKNOWN among known events leaves the next event clear."""
    p = np.exp(distributions(fitted.weights, np.array([[3, UNKNOWN, 5, 6]], np.int32))[0])
    assert p[END] > 0.8


def test_a_warm_start_is_ahead(sessions, fitted):
    """Going on from trained weights begins where they are."""
    plan = Plan(steps=10, batch=64, evaluations=10, rate=0.0005)
    again = fit_sessions(sessions, SMALL, plan, seed=3, start=fitted.weights)
    assert again.curve[0].held < fitted.curve[0].held / 2


def test_patience_ends_training(sessions):
    """Without progress training stops after `patience` evaluations."""
    done = fit_sessions(sessions, SMALL, Plan(steps=400, batch=32, evaluations=100, patience=2, rate=1e-9), seed=1)
    assert len(done.curve) < 10


def test_a_large_held_out_part_is_sampled_fairly():
    """Of many held-out windows some stand for all: frequent ones are there with their share."""
    rng = np.random.default_rng(6)
    weight = np.append(np.ones(5000), 5000.0)
    window = rng.integers(3, 8, (5001, 4)).astype(np.int32)
    held = Windows(window, np.append(np.full(5000, 3), 7).astype(np.int32), weight)
    some = _sample(held, np.random.default_rng(7), 1000)
    assert 490 < len(some.target) < 510
    assert some.weight[some.target == 7].sum() == pytest.approx(500, abs=1)
    assert some.weight.sum() == 1000
    assert _sample(held, np.random.default_rng(7), 6000) is held


def test_progress_is_told(sessions):
    """The callback gets each point of the curve."""
    told = []
    done = fit_sessions(sessions, SMALL, Plan(steps=6, batch=16, evaluations=3), progress=told.append)
    assert list(done.curve) == told


def test_fits_at_once_are_those_one_by_one(sessions):
    """Three fits in two threads give the bits of the same fits alone."""
    plan = Plan(steps=30, batch=32, evaluations=3)
    parts = [tuple(windows(s, window=4) for s in split(sessions, seed=i)) for i in range(3)]
    together = fit_many(parts, SMALL, plan, seed=5, workers=2)
    for part, found in zip(parts, together, strict=True):
        alone = fit(*part, SMALL, plan, seed=5)
        assert alone.curve == found.curve
        assert all((a == b).all() for a, b in zip(alone.weights.arrays, found.weights.arrays, strict=True))


@pytest.mark.parametrize(
    ("cell", "plan"),
    [("gru", Plan(steps=20, batch=32, smoothing=0.1)), ("rnn", Plan(steps=20, batch=32, dropout=0.3))],
)
def test_smoothing_dropout_and_cells_train(sessions, cell, plan):
    """Every cell trains with label smoothing and with dropout, the same each time."""
    shape = SMALL._replace(cell=cell, layers=2)
    one, same = (fit_sessions(sessions, shape, plan, seed=1) for _ in range(2))
    assert one.curve[-1].held < loss(initial(shape, seed=1), windows(sessions, window=4))
    assert all((a == b).all() for a, b in zip(one.weights.arrays, same.weights.arrays, strict=True))


def test_split_by_time_holds_out_the_last():
    """With times the sessions that begin last are held out."""
    ten = columns([np.array([3], np.int32)] * 10)
    train, held = split(ten, share=0.2, start_time=np.arange(10.0)[::-1])
    assert held.weight.tolist() == [1, 1] + [0] * 8
    assert train.weight.tolist() == [0, 0] + [1] * 8


def test_split_without_time_is_random_within_weights(sessions):
    """Without times a random tenth of the single sessions behind each weight is held out."""
    train, held = split(sessions, seed=1)
    assert (train.weight + held.weight == sessions.weight).all()
    assert 15 < held.weight[0] < 45


def test_impossible_input_is_refused(sessions, fitted):
    """Ids beyond the vocabulary, no events, or weights of another shape give one sentence."""
    train = windows(sessions, window=4)
    with pytest.raises(ConfigError, match="ids below 5"):
        fit(train, train, SMALL._replace(vocabulary=5))
    with pytest.raises(ConfigError, match="No events"):
        fit_sessions(columns([]), SMALL)
    with pytest.raises(ConfigError, match="shape"):
        fit(train, train, SMALL._replace(units=8), start=fitted.weights)
