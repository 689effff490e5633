"""Export keeps what training found; the gate lets nothing else into a bundle."""

import numpy as np
import pytest

from foretail.errors import ConfigError
from foretail.model import SequenceModel
from foretail.ops import ALLOWED, operators
from foretail_trainer.export import distributions, export, gate, surprises
from foretail_trainer.fit import Plan, fit_sessions
from foretail_trainer.network import Shape, Weights, tensorflow
from foretail_trainer.windows import Windows, columns, windows

pytestmark = pytest.mark.trainer

CELLS = [("lstm", 1), ("gru", 1), ("rnn", 1), ("lstm", 2)]


@pytest.fixture(scope="module")
def sessions():
    rng = np.random.default_rng(6)
    grammar = {3: (4, 5), 4: (5, 6), 5: (6, 7), 6: (7, 8), 7: (9, 4), 8: (9, 9), 9: (3, 3)}
    result = []
    for _ in range(200):
        events = [3]
        for _ in range(rng.integers(4, 14)):
            events.append(grammar[events[-1]][int(rng.random() < 0.2)])
        result.append(np.array(events, np.int32))
    return columns(result)


@pytest.fixture(scope="module", params=CELLS, ids=lambda c: f"{c[0]}{c[1]}")
def made(request, sessions):
    """Weights and files of each kind of network."""
    cell, layers = request.param
    shape = Shape(cell, layers, 32, 6, 10, 8)
    weights = fit_sessions(sessions, shape, Plan(steps=120, batch=64, evaluations=6), seed=1).weights
    return weights, export(weights, 1), export(weights, 64)


@pytest.fixture(scope="module")
def held(sessions):
    return windows(sessions, window=6)


def test_int8_agrees_and_passes(made, held):
    """Every cell passes the gate: same decision on 99.9 % of events, same first guess on 99 %."""
    weights, b1, b64 = made
    found = gate(b1, b64, weights, held, (5.0,))
    assert found.decision >= 0.999
    assert found.top1 >= 0.99
    assert found.mean < 0.05
    assert max(len(b1), len(b64)) == found.bytes


def test_only_builtin_operators(made):
    """The files hold allowed builtins, int8 weights among them."""
    for content in made[1:]:
        assert set(operators(content)) <= ALLOWED
        assert "FULLY_CONNECTED" in operators(content)


def test_int8_is_smaller():
    """At the default size each file is at most 0.45 of its float32 twin."""
    rng = np.random.default_rng(7)
    shape = Shape(vocabulary=100)
    forms = [(100, 32), (32, 256), (64, 256), (256,), (64, 100), (100,)]
    weights = Weights(shape, tuple(rng.normal(0, 0.3, f).astype(np.float32) for f in forms))
    for batch in (1, 64):
        assert len(export(weights, batch)) <= 0.45 * len(export(weights, batch, quantize=False))


def test_batches_give_the_same_bits(made):
    """A window's surprise does not depend on the company it is scored in."""
    _, b1, b64 = made
    rng = np.random.default_rng(8)
    window = rng.integers(0, 10, (200, 6)).astype(np.int32)
    target = rng.integers(1, 10, 200).astype(np.int32)

    def scored(cut):
        model = SequenceModel(b1, b64, window=6, vocabulary=10)
        return np.concatenate([model.surprise(window[i : i + cut], target[i : i + cut]) for i in range(0, 200, cut)])

    whole = scored(200)
    assert all((whole == scored(cut)).all() for cut in (1, 7, 30, 64))
    assert (whole * 256 == np.rint(whole * 256)).all()
    assert np.float32 == whole.dtype


def test_surprise_is_the_float_models_within_a_tenth(made):
    """The agent's surprise is minus the float network's log-probability, within 0.1 nat where it matters."""
    weights, b1, b64 = made
    window = np.random.default_rng(9).integers(0, 10, (64, 6)).astype(np.int32)
    model = SequenceModel(b1, b64, window=6, vocabulary=10)
    truth = distributions(weights, window)
    ours = np.stack([model.distribution(w) for w in window])
    assert np.abs(np.exp(ours) - np.exp(truth)).max() < 0.1
    top = truth.argmax(axis=1).astype(np.int32)
    assert np.abs(model.surprise(window, top) + truth.max(axis=1)).mean() < 0.1


def test_the_gate_refuses_a_model_that_does_not_agree(made, held):
    """Files of other weights are turned away with the figures."""
    weights = made[0]
    rng = np.random.default_rng(10)
    spoiled = Weights(weights.shape, tuple(a + rng.normal(0, 0.5, a.shape).astype(np.float32) for a in weights.arrays))
    with pytest.raises(ConfigError, match=r"decides like the float model on \d"):
        gate(export(spoiled, 1), export(spoiled, 64), weights, held, (5.0,))


def test_surprises_are_the_log_probabilities(made, held):
    """`surprises` of the float network are what `distributions` say of the targets."""
    weights = made[0]
    truth = distributions(weights, held.window)
    assert (surprises(weights, held.window, held.target) == -truth[np.arange(len(held.target)), held.target]).all()


def test_the_gate_refuses_to_judge_by_nothing(made, held):
    """Without a held-out window nothing is certified."""
    weights, b1, b64 = made
    with pytest.raises(ConfigError, match="held out"):
        gate(b1, b64, weights, Windows(held.window[:0], held.target[:0], held.weight[:0]), (5.0,))


def test_the_gate_refuses_a_large_file(made, held):
    """A size limit holds for each file."""
    weights, b1, b64 = made
    with pytest.raises(ConfigError, match="1000 are allowed"):
        gate(b1, b64, weights, held, (5.0,), bytes_max=1000)


def test_the_gate_refuses_other_operators(made, held):
    """A graph with control flow is no model of foretail's."""
    tf = tensorflow()
    weights, b1, _ = made

    @tf.function(input_signature=[tf.TensorSpec([64, 6], tf.int32)])
    def loop(window):
        total = tf.zeros([64, 10])
        for i in tf.range(tf.reduce_max(window)):
            total += tf.cast(i, tf.float32)
        return total

    converter = tf.lite.TFLiteConverter.from_concrete_functions([loop.get_concrete_function()], tf.Module())
    with pytest.raises(ConfigError, match="WHILE"):
        gate(b1, converter.convert(), weights, held, (5.0,))
