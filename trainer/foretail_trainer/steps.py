"""One training step as a compiled program, and the state it moves."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from foretail_trainer.network import Shape, Weights, fold, logits, tensorflow

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foretail_trainer.windows import Windows

Batch = tuple["NDArray[np.int32]", "NDArray[np.int32]", "NDArray[np.float32]"]


class Machine:
    """The state of one training: all weights as one vector `theta`, and Adam's two moments.

    Args:
        start: weights to begin with.
        smoothing, dropout, clip: see `fit.Plan`.
    """

    def __init__(self, start: Weights, smoothing: float = 0.0, dropout: float = 0.0, clip: float = 1.0) -> None:
        tf = tensorflow()
        self._forms = tuple(a.shape for a in start.arrays)
        self._step, self._score = _programs(start.shape, self._forms, smoothing, dropout, clip)
        self.theta = tf.constant(np.concatenate([a.ravel() for a in start.arrays]))
        self._moments = tf.zeros_like(self.theta), tf.zeros_like(self.theta)
        self._count = 0

    def step(self, batch: Batch, rate: np.float32, rng: np.random.Generator) -> Any:
        """Learn from one batch (windows int32 [B, C], targets int32 [B], weights float32 [B]); its loss in nats."""
        self._count += 1
        correction = np.float32(np.sqrt(1 - 0.99**self._count) / (1 - 0.9**self._count))
        seed = rng.integers(0, 2**31, 2, np.int32)
        self.theta, *moments, value = self._step(self.theta, *self._moments, *batch, rate * correction, seed)
        self._moments = moments[0], moments[1]
        return value

    def loss(self, held: Windows, batch: int = 1024) -> float:
        """Mean nats per event, weighted."""
        total = 0.0
        for start in range(0, len(held.target), batch):
            part = [np.asarray(column[start : start + batch]) for column in held]
            short = batch - len(part[1])
            if short:
                part = [np.concatenate([p, np.zeros((short, *p.shape[1:]), p.dtype)]) for p in part]
            total += float(self._score(self.theta, part[0], part[1], part[2].astype(np.float32)))
        return total / float(held.weight.sum())

    def arrays(self) -> tuple[NDArray[np.float32], ...]:
        """The weights as Keras orders them."""
        return tuple(a.numpy() for a in _split(self.theta, self._forms))


def _split(theta: Any, forms: tuple[tuple[int, ...], ...]) -> list[Any]:
    tf = tensorflow()
    parts = tf.split(theta, [int(np.prod(form)) for form in forms])
    return [tf.reshape(part, form) for part, form in zip(parts, forms, strict=True)]


@lru_cache(maxsize=8)
def _programs(
    shape: Shape, forms: tuple[tuple[int, ...], ...], smoothing: float, dropout: float, clip: float
) -> tuple[Any, Any]:
    """The compiled training step and score; kept, so that the folds of a cross-fit trace them once."""
    tf = tensorflow()

    def nats(theta: Any, window: Any, target: Any, seed: Any = None) -> Any:
        keep = None
        if seed is not None and dropout:
            form = (tf.shape(window)[0], shape.units)
            draws = [tf.random.stateless_uniform(form, seed + i) for i in range(shape.layers)]
            keep = [tf.cast(draw >= dropout, tf.float32) / (1 - dropout) for draw in draws]
        out = logits(shape, fold(shape, _split(theta, forms)), window, keep=keep)
        result = tf.nn.sparse_softmax_cross_entropy_with_logits(target, out)
        if seed is not None and smoothing:
            result = (1 - smoothing) * result - smoothing * tf.reduce_mean(tf.nn.log_softmax(out), axis=1)
        return result

    @tf.function  # type: ignore[untyped-decorator]
    def step(theta: Any, m: Any, v: Any, window: Any, target: Any, weight: Any, rate: Any, seed: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(theta)
            value = tf.reduce_mean(weight * nats(theta, window, target, seed))
        gradient = tf.clip_by_norm(tape.gradient(value, theta), clip)
        m = 0.9 * m + 0.1 * gradient
        v = 0.99 * v + 0.01 * tf.square(gradient)
        return theta - rate * m / (tf.sqrt(v) + 1e-7), m, v, value

    @tf.function  # type: ignore[untyped-decorator]
    def score(theta: Any, window: Any, target: Any, weight: Any) -> Any:
        return tf.reduce_sum(weight * nats(theta, window, target))

    return step, score
