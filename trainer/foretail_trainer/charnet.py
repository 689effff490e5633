"""Byte-level classifiers: simple RNN, LSTM, stacked LSTM and a small convolution, unrolled over one chunk of a line.

Lines are filled up on their left to whole chunks, so that the last byte is always the last step; training loops over
the chunks of a batch of lines of like length, the agent over the exported chunk.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from foretail.arrays import written
from foretail.characters import chunks_of, ids_of
from foretail.model import BATCH
from foretail_trainer.descent import Arrays, Descent, convert, glorot, orthogonal
from foretail_trainer.network import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

CELLS = ("conv", "rnn", "lstm", "stacked")
BYTES = 257
"""Ids: 0 = nothing there, 1 to 256 the bytes."""


class Shape(NamedTuple):
    """What determines the size of a classifier.

    Attributes:
        cell: one of CELLS; `stacked` is two LSTM layers.
        units: of a layer, or filters of a convolution.
        embedding: numbers that stand for a byte.
        chunk: bytes of a step.
    """

    cell: str = "conv"
    units: int = 64
    embedding: int = 32
    chunk: int = 32

    @property
    def layers(self) -> int:
        """Recurrent layers."""
        return 2 if self.cell == "stacked" else 1

    @property
    def state(self) -> int:
        """Numbers carried from chunk to chunk."""
        return {"rnn": 1, "lstm": 2, "stacked": 4, "conv": 1}[self.cell] * self.units

    @property
    def halo(self) -> int:
        """Bytes of the chunk before that a convolution sees again: two layers of width 5 and 3."""
        return 6 if self.cell == "conv" else 0


class Plan(NamedTuple):
    """How to train.

    Attributes:
        epochs: at most; `chunks_max`: chunks of lines seen in all, which bounds the time.
        batch: lines in a batch of one chunk, fewer in longer ones.
        rate, dropout, decay: of the descent.
    """

    epochs: int = 14
    chunks_max: int = 1_000_000
    batch: int = 128
    rate: float = 0.004
    dropout: float = 0.2
    decay: float = 0.0005


LINE, DEFAULT = Shape(), Plan()


def initial(shape: Shape, seed: int) -> Arrays:
    """Untrained weights: embedding; cells or filters; head and its bias."""
    rng = np.random.default_rng([seed, 11])
    u, e = shape.units, shape.embedding
    table = rng.normal(0, 0.3, (BYTES, e)).astype(np.float32)
    head = glorot(rng, u, 1), np.zeros(1, np.float32)
    if shape.cell == "conv":
        first = glorot(rng, 5, e, u), np.zeros(u, np.float32)
        second = glorot(rng, 3, u, u), np.zeros(u, np.float32)
        return (table, *first, *second, *head)
    gates = 1 if shape.cell == "rnn" else 4
    cells: list[NDArray[np.float32]] = []
    for width in [e] + [u] * (shape.layers - 1):
        bias = np.zeros(gates * u, np.float32)
        bias[u : 2 * u] = 1.0 if gates == 4 else 0.0
        cells += [glorot(rng, width, gates * u), orthogonal(rng, u, gates * u), bias]
    return (table, *cells, *head)


def _step(shape: Shape, table: Any, cells: Sequence[Any], ids: Any, state: Any) -> Any:
    """One chunk: ids int32 `[B, chunk]`, state `[B, state]` -> state. `table` holds embedding x kernel + bias."""
    tf = tensorflow()
    parts = tf.split(state, shape.state // shape.units, axis=1)
    for column in tf.unstack(ids, num=shape.chunk, axis=1):
        z = tf.gather(table, column)
        if shape.cell == "rnn":
            parts = [tf.tanh(z + tf.matmul(parts[0], cells[1]))]
            continue
        for layer in range(shape.layers):
            kernel, recurrent, bias = cells[3 * layer : 3 * layer + 3]
            at = 2 * (shape.layers - 1 - layer)  # the last layer stands first: the head reads it
            if layer:
                z = tf.matmul(parts[at + 2], kernel) + bias
            i, f, g, o = tf.split(z + tf.matmul(parts[at], recurrent), 4, axis=1)
            c = tf.sigmoid(f) * parts[at + 1] + tf.sigmoid(i) * tf.tanh(g)
            parts[at : at + 2] = [tf.sigmoid(o) * tf.tanh(c), c]
    return tf.concat(parts, axis=1) if len(parts) > 1 else parts[0]


def _filters(weights: Sequence[Any], ids: Any) -> Any:
    """A convolution's features at each place: ids int32 `[B, n]` -> float32 `[B, n - halo, units]`."""
    tf = tensorflow()
    hidden = tf.gather(weights[0], ids)
    hidden = tf.nn.relu(tf.nn.conv1d(hidden, weights[1], 1, "VALID") + weights[2])
    return tf.nn.relu(tf.nn.conv1d(hidden, weights[3], 1, "VALID") + weights[4])


def _folded(weights: Sequence[Any]) -> tuple[Any, list[Any]]:
    """Embedding x first kernel + bias, for every byte at once; and the cells."""
    cells = list(weights[1:-2])
    return weights[0] @ cells[0] + cells[2], cells


def _features(shape: Shape, weights: Sequence[Any], ids: Any) -> Any:
    """What the head reads: ids int32 `[B, k * chunk]`, k as it comes -> float32 `[B, units]`."""
    tf = tensorflow()
    if shape.cell == "conv":
        padded = tf.pad(ids, [[0, 0], [shape.halo, 0]])
        return tf.reduce_max(_filters(weights, padded), axis=1)
    table, cells = _folded(weights)
    chunks = tf.transpose(tf.reshape(ids, [tf.shape(ids)[0], -1, shape.chunk]), [1, 0, 2])

    state = tf.zeros([tf.shape(ids)[0], shape.state])
    _, state = tf.while_loop(
        lambda at, _: at < tf.shape(chunks)[0],
        lambda at, state: (at + 1, _step(shape, table, cells, chunks[at], state)),
        (0, state),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, shape.state])),
    )
    return state[:, : shape.units]


def logit(shape: Shape, arrays: Arrays, line: bytes) -> float:
    """The log-odds of one line as training sees it."""
    tf = tensorflow()
    weights = [tf.constant(a) for a in arrays]
    hidden = _features(shape, weights, tf.constant(ids_of([line], shape.chunk, chunks_of(len(line), shape.chunk))))
    return float((tf.matmul(hidden, weights[-2]) + weights[-1])[0, 0])


@lru_cache(maxsize=4)
def _descent(shape: Shape, dropout: float, decay: float) -> Descent:
    tf = tensorflow()

    def loss(weights: Any, seed: Any, ids: Any, truth: Any, weight: Any) -> Any:
        hidden = _features(shape, weights, ids)
        if dropout:
            draw = tf.random.stateless_uniform(tf.shape(hidden), seed)
            hidden = hidden * tf.cast(draw >= dropout, tf.float32) / (1 - dropout)
        logit = (tf.matmul(hidden, weights[-2]) + weights[-1])[:, 0]
        return tf.reduce_mean(weight * tf.nn.sigmoid_cross_entropy_with_logits(truth, logit))

    return Descent(loss, [a.shape for a in initial(shape, 0)], decay=decay)


def train(
    lines: Sequence[bytes],
    truth: NDArray[np.bool_],
    shape: Shape,
    plan: Plan = DEFAULT,
    *,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Arrays:
    """Weights that tell two kinds of lines apart: batches of lines of like length, the kinds weighted to count alike.

    Args:
        lines: as the model reads them.
        truth: bool `[n]`.
        shape: of the network.
        plan: of the training.
        seed: of everything random.
        progress: told what happens.
    """
    tell = progress or (lambda _: None)
    steps = np.array([chunks_of(len(line), shape.chunk) for line in lines])
    epochs = max(2, min(plan.epochs, int(plan.chunks_max / steps.sum())))
    share = truth.mean()
    weight = np.where(truth, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)
    rng = np.random.default_rng([seed, 13])
    epochs_batches = [_batches(steps, plan.batch, rng) for _ in range(epochs)]
    total = sum(map(len, epochs_batches))

    def batches() -> Iterator[tuple[Any, ...]]:
        for number, parts in enumerate(epochs_batches):
            tell(f"epoch {number + 1} of {epochs}")
            for rows in parts:
                ids = ids_of([lines[row] for row in rows], shape.chunk, int(steps[rows].max()))
                yield ids, truth[rows].astype(np.float32), weight[rows]

    arrays, _ = _descent(shape, plan.dropout, plan.decay).fit(
        initial(shape, seed), batches(), steps=total, rate=plan.rate, seed=seed
    )
    return arrays


def _batches(steps: NDArray[np.int64], size: int, rng: np.random.Generator) -> list[NDArray[np.intp]]:
    """Rows in random batches of equal numbers of chunks; long lines in smaller ones."""
    out: list[NDArray[np.intp]] = []
    for count in np.unique(steps):
        rows = rng.permutation(np.flatnonzero(steps == count))
        each = max(16, size // max(1, int(count) // 2))
        out += np.array_split(rows, -(-len(rows) // each))
    return [out[at] for at in rng.permutation(len(out))]


def export(shape: Shape, arrays: Arrays, *, quantize: bool = True) -> dict[str, bytes]:
    """The files of a bundle: one chunk at batch 1 and 64, and the head."""
    tf = tensorflow()
    weights = [tf.constant(a) for a in arrays]
    files = {}
    for batch in (1, BATCH):
        ids = tf.TensorSpec([batch, shape.chunk + shape.halo], tf.int32, name="ids")
        if shape.cell == "conv":
            chunk = _conv_chunk(shape, weights)
            files[f"line.b{batch}.tflite"] = convert(chunk, [ids], quantize=quantize)
            continue
        table, cells = _folded(list(arrays))
        files[f"line.b{batch}.tflite"] = convert(
            _cell_chunk(shape, tf.constant(table), [tf.constant(c) for c in cells]),
            [ids, tf.TensorSpec([batch, shape.state], tf.float32, name="state")],
            quantize=quantize,
        )
    files["line.head.npy"] = written(np.append(arrays[-2][:, 0], arrays[-1]).astype(np.float32))
    return files


def _conv_chunk(shape: Shape, weights: Sequence[Any]) -> Callable[[Any], Any]:
    def chunk(ids: Any) -> Any:
        tf = tensorflow()
        places = _filters(weights, ids)[:, None, :, :]
        pooled = tf.nn.max_pool2d(places, [1, shape.chunk], [1, shape.chunk], "VALID")
        return tf.reshape(pooled, [ids.shape[0], shape.units])

    return chunk


def _cell_chunk(shape: Shape, table: Any, cells: Sequence[Any]) -> Callable[[Any, Any], Any]:
    def chunk(ids: Any, state: Any) -> Any:
        return _step(shape, table, cells, ids, state)

    return chunk
