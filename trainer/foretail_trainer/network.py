"""The next-event networks: their shape, their Keras models, and one forward pass that training and export share."""

from __future__ import annotations

import os
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from foretail.errors import ConfigError
from foretail.hush import hush

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CELLS = {"lstm": 4, "gru": 3, "rnn": 1}
"""Cell -> how many gates its kernel holds."""


class Shape(NamedTuple):
    """What determines the size of a network.

    Attributes:
        cell: `lstm`, `gru` or `rnn`.
        layers, units: of the recurrent part.
        window, vocabulary: C and V.
        embedding: width of the vector that stands for an id.
    """

    cell: Literal["lstm", "gru", "rnn"] = "lstm"
    layers: int = 1
    units: int = 64
    window: int = 10
    vocabulary: int = 32
    embedding: int = 32

    @property
    def parameters(self) -> int:
        """Trainable numbers; what Keras counts for the same network."""
        gates, u = CELLS[self.cell], self.units
        bias = 2 if self.cell == "gru" else 1
        inputs = [self.embedding] + [u] * (self.layers - 1)
        cells = sum(gates * u * (i + u + bias) for i in inputs)
        return self.vocabulary * self.embedding + cells + (u + 1) * self.vocabulary


class Weights(NamedTuple):
    """A network: its shape and its arrays in the order of Keras' `get_weights()`."""

    shape: Shape
    arrays: tuple[NDArray[np.float32], ...]


@lru_cache(maxsize=1)
def tensorflow() -> Any:
    """TensorFlow, set so that the same input and seed give the same weights on the same machine.

    `TF_NUM_INTRAOP_THREADS` sets the threads of one operation, default 1: matrices this small gain little from more,
    several fits at once do (`fit_many`), and weights do not depend on the number of cores.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with hush(keep=lambda _line: False):  # what it says of CPUs and GPUs; a failed import still raises
        import tensorflow as tf  # noqa: PLC0415 (five seconds: only who trains or exports pays them)

    threads = int(os.environ.get("TF_NUM_INTRAOP_THREADS", "1"))
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(len(os.sched_getaffinity(0)))
    except RuntimeError:  # already running: then its threads are as fixed as ours would be
        pass
    tf.config.experimental.enable_op_determinism()
    return tf


def check(shape: Shape) -> None:
    """Refuse what cannot be built.

    Raises:
        ConfigError: names the value.
    """
    if shape.cell not in CELLS:
        raise ConfigError(f"The cell is {shape.cell!r}: choose one of {', '.join(CELLS)}.")
    limits = {
        "layers": (1, 4),
        "units": (1, 1024),
        "window": (1, 512),
        "vocabulary": (3, 30_000),
        "embedding": (1, 512),
    }
    for name, (least, most) in limits.items():
        value = getattr(shape, name)
        if not least <= value <= most:
            raise ConfigError(f"{name} is {value}: choose a number from {least} to {most}.")


def build(shape: Shape, *, seed: int = 0) -> Any:
    """A Keras model: int32 [B, C] -> logits float32 [B, V].

    Args:
        shape: cell, layers, units, window, vocabulary.
        seed: of the initial weights.
    """
    check(shape)
    tensorflow()
    import keras  # noqa: PLC0415 (see tensorflow)

    def drawn(kind: str, number: int) -> Any:
        return getattr(keras.initializers, kind)(seed=seed * 1000 + number)

    layer = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[shape.cell]
    layers = [
        keras.layers.Input((shape.window,), dtype="int32", name="window"),
        keras.layers.Embedding(shape.vocabulary, shape.embedding, embeddings_initializer=drawn("RandomUniform", 0)),
    ]
    layers += [
        layer(
            shape.units,
            return_sequences=i < shape.layers - 1,
            kernel_initializer=drawn("GlorotUniform", 10 * i + 1),
            recurrent_initializer=drawn("Orthogonal", 10 * i + 2),
        )
        for i in range(shape.layers)
    ]
    layers.append(keras.layers.Dense(shape.vocabulary, name="logits", kernel_initializer=drawn("GlorotUniform", 99)))
    return keras.Sequential(layers)


def initial(shape: Shape, *, seed: int = 0) -> Weights:
    """Untrained weights."""
    with _BUILDING:
        return Weights(shape, tuple(np.asarray(w, np.float32) for w in build(shape, seed=seed).get_weights()))


def keras_model(weights: Weights) -> Any:
    """The Keras model with these weights."""
    model = build(weights.shape)
    model.set_weights(list(weights.arrays))
    return model


_BUILDING = Lock()  # Keras keeps global names


class Folded(NamedTuple):
    """A network ready to run, arrays of numpy or TensorFlow.

    Attributes:
        table: [V, gates U], embedding x kernel + bias: what each id adds to the first layer's gates.
        layers: for each layer its (kernel [U, gates U] and bias or None for the first layer, recurrent kernel, GRU's
            recurrent bias of the candidate [U] or None).
        head, head_bias: [U, V], [V].
    """

    table: Any
    layers: tuple[tuple[Any, Any, Any, Any], ...]
    head: Any
    head_bias: Any


def fold(shape: Shape, arrays: Sequence[Any]) -> Folded:
    """Multiply embedding and first kernel once for every id instead of at every step."""
    u = shape.units
    embedding, *cells, head, head_bias = arrays
    layers: list[tuple[Any, Any, Any, Any]] = []
    table = None
    for kernel, recurrent, bias in zip(cells[::3], cells[1::3], cells[2::3], strict=True):
        candidate = None
        if shape.cell == "gru":  # the recurrent bias of z and r just adds; the candidate's stands inside the reset
            candidate, zero = bias[1, 2 * u :], bias[1, 2 * u :] * 0
            gates = [bias[0, :u] + bias[1, :u], bias[0, u : 2 * u] + bias[1, u : 2 * u], bias[0, 2 * u :] + zero]
            bias = tensorflow().concat(gates, 0) if not isinstance(zero, np.ndarray) else np.concatenate(gates)  # noqa: PLW2901
        if table is None:
            table = embedding @ kernel + bias
            layers.append((None, None, recurrent, candidate))
        else:
            layers.append((kernel, bias, recurrent, candidate))
    return Folded(table, tuple(layers), head, head_bias)


def logits(shape: Shape, folded: Folded, window: Any, *, keep: Any = None) -> Any:
    """The forward pass, unrolled over the C steps, from a zero state.

    Args:
        shape: of the network.
        folded: its arrays.
        window: int32 tensor [B, C].
        keep: None, or for each layer a dropout mask [B, U] that multiplies what the layer hands on.

    Returns:
        float32 tensor [B, V].
    """
    tf = tensorflow()
    states: list[tuple[Any, Any]] = [(None, None)] * shape.layers
    hidden, columns = None, tf.unstack(window, axis=1)
    for t in range(shape.window):
        for i, (kernel, bias, recurrent, candidate) in enumerate(folded.layers):
            inputs = tf.gather(folded.table, columns[t]) if kernel is None else tf.matmul(hidden, kernel) + bias
            states[i] = _STEPS[shape.cell](tf, inputs, *states[i], recurrent, candidate)
            hidden = states[i][0] if keep is None else states[i][0] * keep[i]
    return tf.matmul(hidden, folded.head) + folded.head_bias


def _lstm(tf: Any, inputs: Any, h: Any, c: Any, recurrent: Any, _: Any) -> tuple[Any, Any]:
    z = inputs if h is None else inputs + tf.matmul(h, recurrent)
    i, f, g, o = tf.split(z, 4, axis=1)
    new = tf.sigmoid(i) * tf.tanh(g)
    if c is not None:
        new += tf.sigmoid(f) * c
    return tf.sigmoid(o) * tf.tanh(new), new


def _gru(tf: Any, inputs: Any, h: Any, _: Any, recurrent: Any, candidate: Any) -> tuple[Any, Any]:
    xz, xr, xh = tf.split(inputs, 3, axis=1)
    if h is None:
        return (1.0 - tf.sigmoid(xz)) * tf.tanh(xh + tf.sigmoid(xr) * candidate), None
    hz, hr, hh = tf.split(tf.matmul(h, recurrent), 3, axis=1)
    z = tf.sigmoid(xz + hz)
    new = tf.tanh(xh + tf.sigmoid(xr + hr) * (hh + candidate))
    return new + z * (h - new), None


def _rnn(tf: Any, inputs: Any, h: Any, _: Any, recurrent: Any, __: Any) -> tuple[Any, Any]:
    return tf.tanh(inputs if h is None else inputs + tf.matmul(h, recurrent)), None


_STEPS = {"lstm": _lstm, "gru": _gru, "rnn": _rnn}
