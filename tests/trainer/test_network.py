"""The networks: exact sizes, and one forward pass that equals Keras'."""

import numpy as np
import pytest

from foretail.errors import ConfigError
from foretail_trainer.export import distributions
from foretail_trainer.network import Shape, Weights, build, check, initial, keras_model
from foretail_trainer.weights import carried, on_grid, read, write

pytestmark = pytest.mark.trainer

SHAPES = [
    Shape("lstm", 1, 8, 5, 11, 4),
    Shape("gru", 1, 8, 5, 11, 4),
    Shape("rnn", 1, 8, 5, 11, 4),
    Shape("lstm", 2, 8, 5, 11, 4),
    Shape("gru", 2, 8, 5, 11, 4),
]


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        (SHAPES[0], 11 * 4 + 4 * 8 * (4 + 8 + 1) + 9 * 11),
        (SHAPES[1], 11 * 4 + 3 * 8 * (4 + 8 + 2) + 9 * 11),
        (SHAPES[2], 11 * 4 + 8 * (4 + 8 + 1) + 9 * 11),
        (SHAPES[3], 11 * 4 + 4 * 8 * (4 + 8 + 1) + 4 * 8 * (8 + 8 + 1) + 9 * 11),
        (Shape(), 32 * 32 + 4 * 64 * (32 + 64 + 1) + 65 * 32),
    ],
)
def test_parameters_are_counted_exactly(shape, parameters):
    """The network holds as many trainable numbers as its formula says, and Keras agrees."""
    assert parameters == shape.parameters
    assert parameters == build(shape).count_params()


def scattered(shape):
    """Weights with no zero bias, so that a misplaced one shows."""
    rng = np.random.default_rng(4)
    return Weights(shape, tuple(rng.normal(0, 0.4, a.shape).astype(np.float32) for a in initial(shape).arrays))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.cell}{s.layers}")
def test_folding_changes_nothing(shape):
    """The unrolled, folded forward pass gives Keras' log-probabilities within 1e-4."""
    weights = scattered(shape)
    window = np.random.default_rng(5).integers(0, shape.vocabulary, (40, shape.window)).astype(np.int32)
    logits = keras_model(weights)(window).numpy()
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert np.abs(expected - distributions(weights, window)).max() < 1e-4


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.cell}{s.layers}")
def test_matrices_come_to_lie_on_the_grid_of_int8(shape):
    """Recurrent and upper kernels and the head take 255 values at most, near their old ones; all else stays."""
    weights = scattered(shape._replace(units=24, vocabulary=60))
    rounded = on_grid(weights)
    assert len(rounded.arrays) == len(weights.arrays)
    for i, (old, new) in enumerate(zip(weights.arrays, rounded.arrays, strict=True)):
        if i in {0, 1} or min(old.shape) < 24 or old.ndim == 1:
            assert (old == new).all()
        else:
            step = np.abs(old).max() / 127
            assert np.abs(new / step - np.rint(new / step)).max() < 1e-3
            assert np.abs(old - new).max() <= step / 2 + 1e-6


def test_initial_weights_depend_on_the_seed_alone():
    """The same seed gives the same weights, another seed others."""
    one, same, other = (initial(SHAPES[0], seed=s).arrays for s in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(one, same, strict=True))
    assert not (one[0] == other[0]).all()


def test_a_network_survives_writing():
    """What was written is read back to the bit; damaged bytes are refused."""
    for shape in SHAPES:
        weights = scattered(shape)
        again = read(write(weights))
        assert again.shape == shape
        assert all((a == b).all() for a, b in zip(weights.arrays, again.arrays, strict=True))
    content = write(weights)
    other = write(weights._replace(shape=weights.shape._replace(cell="rnn")))
    for damaged in (b"", content[:100], other):
        with pytest.raises(ConfigError, match="saved network"):
            read(damaged)


def test_a_network_is_carried_to_another_vocabulary():
    """Types keep what was learnt of them under their new ids; new ones begin as UNKNOWN."""
    weights = scattered(SHAPES[0])
    moved = carried(weights, [0, 1, 2, 5, -1, 3])
    assert moved.shape.vocabulary == 6
    old = distributions(weights, np.array([[0, 0, 3, 5, 2]], np.int32))[0]
    new = distributions(moved, np.array([[0, 0, 5, 3, 4]], np.int32))[0]
    assert np.abs((old[5] - old[3]) - (new[3] - new[5])) < 1e-5
    assert new[4] == new[2]


@pytest.mark.parametrize("wrong", [{"cell": "cnn"}, {"layers": 0}, {"units": 5000}, {"window": 0}, {"vocabulary": 2}])
def test_impossible_shapes_are_refused(wrong):
    """A value out of range is named."""
    with pytest.raises(ConfigError, match=str(next(iter(wrong.values())))):
        check(Shape(**wrong))
