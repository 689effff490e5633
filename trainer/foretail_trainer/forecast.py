"""Networks that say what a row of numbers should be: forecasters from the rows before, autoencoders from the row too.

Each is a pure function of its weights, unrolled over the C rows of its window, shared by training and export:
float32 `[B, C, inputs]` -> float32 `[B, steps, F]`, of which the last step is the row that is judged.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from foretail.errors import ConfigError
from foretail.graph import Pair
from foretail.model import BATCH
from foretail_trainer.descent import Arrays, Descent, convert, glorot, orthogonal
from foretail_trainer.network import CELLS, tensorflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FORECASTERS = ("lstm", "gru", "rnn", "stacked")
AUTOENCODERS = ("lstm-ae", "ae", "conv-ae")
MODELS = FORECASTERS + AUTOENCODERS


class Shape(NamedTuple):
    """What determines the size of a network.

    Attributes:
        model: one of MODELS.
        window: C; `inputs`: numbers in a row; `outputs`: F, the first of them.
        units: of a recurrent layer or hidden layer; `latent`: width of an autoencoder's waist.
    """

    model: str = "lstm"
    window: int = 16
    inputs: int = 1
    outputs: int = 1
    units: int = 24
    latent: int = 6

    @property
    def forecast(self) -> bool:
        """Whether it sees only the rows before."""
        return self.model in FORECASTERS


class Plan(NamedTuple):
    """How to train: batches, their size, the highest rate, the noise added to inputs, and weight decay."""

    steps: int = 300
    batch: int = 64
    rate: float = 0.004
    noise: float = 0.1
    decay: float = 0.001


DEFAULT = Plan()


class Fitted(NamedTuple):
    """A trained network."""

    shape: Shape
    arrays: Arrays


def check(shape: Shape) -> None:
    """ConfigError for what cannot be built."""
    if shape.model not in MODELS:
        raise ConfigError(f"the model is {shape.model!r}: choose one of {', '.join(MODELS)}")
    limits = {"window": (4, 128), "inputs": (1, 2048), "outputs": (1, 2048), "units": (1, 512), "latent": (1, 256)}
    for name, (least, most) in limits.items():
        if not least <= getattr(shape, name) <= most:
            raise ConfigError(f"{name} is {getattr(shape, name)}: choose a number from {least} to {most}")


def initial(shape: Shape, seed: int) -> Arrays:
    """Untrained weights."""
    check(shape)
    rng = np.random.default_rng([seed, 3])
    u, k, i, f, c = shape.units, shape.latent, shape.inputs, shape.outputs, shape.window

    def dense(rows: int, columns: int) -> list[NDArray[np.float32]]:
        return [glorot(rng, rows, columns), np.zeros(columns, np.float32)]

    def cell(kind: str, rows: int, width: int) -> list[NDArray[np.float32]]:
        gates = CELLS[kind]
        bias = np.zeros(gates * width, np.float32)
        if kind == "lstm":
            bias[width : 2 * width] = 1.0  # remember at first
        return [glorot(rng, rows, gates * width), orthogonal(rng, width, gates * width), bias]

    if shape.model in FORECASTERS:
        kind = "lstm" if shape.model == "stacked" else shape.model
        cells = cell(kind, i, u) + (cell(kind, u, u) if shape.model == "stacked" else [])
        return (*cells, *dense(u, f), np.full(f, 0.5, np.float32))  # the last: how much of the row before stays
    if shape.model == "lstm-ae":
        return (*cell("lstm", i, u), *dense(u, k), *cell("lstm", k, u), *dense(u, f))
    if shape.model == "ae":
        return (*dense(c * i, 2 * u), *dense(2 * u, k), *dense(k, 2 * u), *dense(2 * u, c * f))
    half = _half(c)
    return (
        glorot(rng, 5, i, u), np.zeros(u, np.float32), glorot(rng, 5, u, k), np.zeros(k, np.float32),
        glorot(rng, 5, k, u), np.zeros(u, np.float32), glorot(rng, 5, u, f), np.zeros(f, np.float32),
        *dense(half * k, k), *dense(k, half * k),
    )  # fmt: skip


def _half(window: int) -> int:
    return -(-window // 2)


def forward(shape: Shape, weights: Any, window: Any) -> Any:
    """The network: float32 `[B, C, inputs]` -> float32 `[B, steps, F]`; a forecaster has one step."""
    tf = tensorflow()
    if shape.model in FORECASTERS:
        return _forecaster(tf, shape, weights, window)
    return {"lstm-ae": _lstm_ae, "ae": _ae, "conv-ae": _conv_ae}[shape.model](tf, shape, weights, window)


def _forecaster(tf: Any, shape: Shape, weights: Any, window: Any) -> Any:
    kind = "lstm" if shape.model == "stacked" else shape.model
    *cells, head, bias, stay = weights
    rows = tf.unstack(window, axis=1)
    sequence = rows
    for at in range(0, len(cells), 3):
        sequence = _unroll(tf, kind, sequence, *cells[at : at + 3])
    last = rows[-1][:, : shape.outputs]
    return (tf.matmul(sequence[-1], head) + bias + last * stay)[:, None, :]


def _lstm_ae(tf: Any, shape: Shape, weights: Any, window: Any) -> Any:
    waist = tf.matmul(_unroll(tf, "lstm", tf.unstack(window, axis=1), *weights[:3])[-1], weights[3]) + weights[4]
    decoded = _unroll(tf, "lstm", [waist] * shape.window, *weights[5:8])
    return tf.stack([tf.matmul(h, weights[8]) + weights[9] for h in decoded], axis=1)


def _ae(tf: Any, shape: Shape, weights: Any, window: Any) -> Any:
    hidden = tf.reshape(window, [-1, shape.window * shape.inputs])
    for at in range(0, 8, 2):
        hidden = tf.matmul(hidden, weights[at]) + weights[at + 1]
        if at in {0, 4}:
            hidden = tf.tanh(hidden)
    return tf.reshape(hidden, [-1, shape.window, shape.outputs])


def _conv_ae(tf: Any, shape: Shape, weights: Any, window: Any) -> Any:
    """Two convolutions down, a waist, two up; the row that is judged lies at the end, where padding is."""
    half = _half(shape.window)
    hidden = tf.nn.relu(tf.nn.conv1d(window, weights[0], 2, "SAME") + weights[1])
    hidden = tf.tanh(tf.nn.conv1d(hidden, weights[2], 1, "SAME") + weights[3])
    waist = tf.matmul(tf.reshape(hidden, [-1, half * shape.latent]), weights[8]) + weights[9]
    hidden = tf.reshape(tf.matmul(waist, weights[10]) + weights[11], [-1, half, shape.latent])
    hidden = tf.nn.relu(tf.nn.conv1d(hidden, weights[4], 1, "SAME") + weights[5])
    wide = tf.reshape(tf.stack([hidden, hidden], axis=2), [-1, 2 * half, shape.units])[:, : shape.window]
    return tf.nn.conv1d(wide, weights[6], 1, "SAME") + weights[7]


def _unroll(tf: Any, kind: str, rows: list[Any], kernel: Any, recurrent: Any, bias: Any) -> list[Any]:
    """The outputs of a recurrent layer at each step, from a zero state."""
    h, c, out = None, None, []
    for row in rows:
        z = tf.matmul(row, kernel) + bias
        if kind == "lstm":
            z = z if h is None else z + tf.matmul(h, recurrent)
            i, f, g, o = tf.split(z, 4, axis=1)
            new = tf.sigmoid(i) * tf.tanh(g)
            c = new if c is None else new + tf.sigmoid(f) * c
            h = tf.sigmoid(o) * tf.tanh(c)
        elif kind == "gru":
            xz, xr, xh = tf.split(z, 3, axis=1)
            if h is None:
                h = (1.0 - tf.sigmoid(xz)) * tf.tanh(xh)
            else:
                hz, hr, hh = tf.split(tf.matmul(h, recurrent), 3, axis=1)
                fresh = tf.tanh(xh + tf.sigmoid(xr + hr) * hh)
                h = fresh + tf.sigmoid(xz + hz) * (h - fresh)
        else:
            h = tf.tanh(z if h is None else z + tf.matmul(h, recurrent))
        out.append(h)
    return out


@lru_cache(maxsize=8)
def _descent(shape: Shape, plan: Plan) -> Descent:
    tf = tensorflow()

    def loss(weights: Any, seed: Any, window: Any, target: Any) -> Any:
        noisy = window + plan.noise * tf.random.stateless_normal(tf.shape(window), seed)
        error = tf.abs(forward(shape, weights, noisy) - target)
        return tf.reduce_mean(
            tf.where(error < 1.0, 0.5 * error * error, error - 0.5)
        )  # Huber: dirt may lie in the data

    return Descent(loss, [a.shape for a in initial(shape, 0)], decay=plan.decay)


def fit(
    shape: Shape, windows: NDArray[np.float32], targets: NDArray[np.float32], plan: Plan = DEFAULT, *, seed: int = 0
) -> Fitted:
    """Train on windows of normal rows.

    Args:
        shape: of the network.
        windows: float32 `[n, C, inputs]`.
        targets: float32 `[n, F]`, the row that is judged.
        plan: of the training.
        seed: of everything random.
    """
    if not len(windows):
        raise ConfigError(
            f"there is no window of {shape.window} rows to learn from: give more rows or a shorter window"
        )
    goal = targets[:, None, :] if shape.forecast else windows[:, :, : shape.outputs]
    rng = np.random.default_rng([seed, 5])

    def batches() -> Iterator[tuple[Any, ...]]:
        for _ in range(plan.steps):
            at = rng.integers(0, len(windows), plan.batch)
            yield windows[at], goal[at]

    arrays, _ = _descent(shape, plan).fit(initial(shape, seed), batches(), steps=plan.steps, rate=plan.rate, seed=seed)
    return Fitted(shape, arrays)


def expected(fitted: Fitted, windows: NDArray[np.float32], batch: int = 1024) -> NDArray[np.float32]:
    """The float network's last step: float32 `[n, C, inputs]` -> float32 `[n, F]`."""
    run = _runner(fitted.shape)
    n = len(windows)
    whole = np.concatenate([windows, np.zeros((-n % batch, *windows.shape[1:]), np.float32)])  # one shape, one trace
    parts = [run(list(fitted.arrays), whole[i : i + batch]).numpy() for i in range(0, n, batch)]
    return np.concatenate(parts)[:n] if parts else np.zeros((0, fitted.shape.outputs), np.float32)


@lru_cache(maxsize=8)
def _runner(shape: Shape) -> Any:
    tf = tensorflow()
    return tf.function(lambda weights, window: forward(shape, weights, window)[:, -1, :], autograph=False)


def export(fitted: Fitted, batch: int, *, quantize: bool = True) -> bytes:
    """A TFLite file: `window` float32 `[batch, C, inputs]` -> float32 `[batch, F]`."""
    tf = tensorflow()
    shape, weights = fitted.shape, [tf.constant(a) for a in fitted.arrays]
    signature = [tf.TensorSpec([batch, shape.window, shape.inputs], tf.float32, name="window")]
    return convert(lambda window: forward(shape, weights, window)[:, -1, :], signature, quantize=quantize)


def files(fitted: Fitted, name: str) -> dict[str, bytes]:
    """The two TFLite files of a bundle."""
    return {f"{name}.b1.tflite": export(fitted, 1), f"{name}.b64.tflite": export(fitted, BATCH)}


def runtime(fitted: Fitted, content: dict[str, bytes], name: str) -> Pair:
    """The model as the agent runs it."""
    shape = fitted.shape
    return Pair(
        content[f"{name}.b1.tflite"],
        content[f"{name}.b64.tflite"],
        [((shape.window, shape.inputs), "float32")],
        [((shape.outputs,), "float32")],
        name,
    )
