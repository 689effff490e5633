"""Gradient descent that any small network here can use: Adam on one flat vector, a falling rate, fixed seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from foretail_trainer.network import tensorflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

Arrays = tuple["NDArray[np.float32]", ...]


class Descent:
    """A compiled training step for one loss and one set of shapes; use it again for further fits of the same network.

    Args:
        loss: (list of weight tensors, seed int32 [2], *batch tensors) -> mean loss, a scalar tensor.
        forms: shape of each weight.
        clip: greatest norm of a gradient.
        decay: share of the rate by which weights shrink at each step.
    """

    def __init__(
        self, loss: Callable[..., Any], forms: Sequence[tuple[int, ...]], *, clip: float = 1.0, decay: float = 0.0
    ) -> None:
        tf = tensorflow()
        self._forms, sizes = tuple(forms), [int(np.prod(form)) for form in forms]

        def split(theta: Any) -> list[Any]:
            parts = tf.split(theta, sizes)
            return [tf.reshape(part, form) for part, form in zip(parts, self._forms, strict=True)]

        def step(theta: Any, m: Any, v: Any, rate: Any, correction: Any, seed: Any, *batch: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(theta)
                value = loss(split(theta), seed, *batch)
            gradient = tf.clip_by_norm(tape.gradient(value, theta), clip)
            m = 0.9 * m + 0.1 * gradient
            v = 0.999 * v + 0.001 * tf.square(gradient)
            theta = theta - rate * (correction * m / (tf.sqrt(v) + 1e-7) + decay * theta)
            return theta, m, v, value

        self._step = tf.function(step, reduce_retracing=True, autograph=False)

    def fit(
        self,
        arrays: Arrays,
        batches: Iterable[tuple[Any, ...]],
        *,
        steps: int,
        rate: float,
        seed: int,
        progress: Callable[[int, float], None] | None = None,
    ) -> tuple[Arrays, list[float]]:
        """Weights after one step for each batch, and the losses.

        Args:
            arrays: to start from.
            batches: tuples of arrays.
            steps: how many batches come; the rate falls to nothing over them (cosine, after a rise over 5 %).
            rate: highest learning rate.
            seed: of what is random in the loss.
            progress: told the step and the loss, a hundred times in all.
        """
        tf = tensorflow()
        theta = tf.constant(np.concatenate([a.ravel() for a in arrays]))
        m = v = tf.zeros_like(theta)
        rng = np.random.default_rng([seed, 7])
        losses: list[Any] = []
        for number, batch in enumerate(batches, 1):
            at = number / steps
            now = rate * min(1.0, at / 0.05) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(at, 1.0))))
            correction = np.sqrt(1 - 0.999**number) / (1 - 0.9**number)
            theta, m, v, value = self._step(
                theta, m, v, tf.constant(now, tf.float32), tf.constant(correction, tf.float32),
                tf.constant(rng.integers(0, 2**31, 2), tf.int32), *map(tf.convert_to_tensor, batch)
            )  # fmt: skip
            losses.append(value)
            if progress and number % max(1, steps // 100) == 0:
                progress(number, float(value))
        ends = np.cumsum([int(np.prod(form)) for form in self._forms])[:-1]
        parts = np.split(theta.numpy(), ends)
        fitted = tuple(part.reshape(form) for part, form in zip(parts, self._forms, strict=True))
        return fitted, [float(value) for value in losses]


def glorot(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Uniform initial weights after Glorot and Bengio (2010); the last two axes are the fans."""
    fans = shape[-2] + shape[-1]
    reach = int(np.prod(shape[:-2])) if len(shape) > 2 else 1
    limit = np.sqrt(6.0 / (fans * reach))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float32]:
    """Initial recurrent weights: blocks of orthogonal columns."""
    blocks = [np.linalg.qr(rng.normal(size=(rows, rows)))[0] for _ in range(-(-columns // rows))]
    return np.ascontiguousarray(np.concatenate(blocks, axis=1)[:, :columns], np.float32)


def convert(function: Any, signature: Sequence[Any], *, quantize: bool = True) -> bytes:
    """A TFLite file of a `tf.function` with static shapes: int8 weights, one scale per tensor (FACTS: conversion).

    Args:
        function: takes tensors of `signature` in order, gives a tensor or a tuple of tensors.
        signature: `tf.TensorSpec`s with names.
        quantize: False makes the float32 twin.
    """
    from foretail.hush import hush  # noqa: PLC0415

    tf = tensorflow()
    concrete = tf.function(function, input_signature=list(signature), autograph=False).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], tf.Module())
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # noqa: SLF001 (no public way)
    with hush(keep=lambda _line: False):
        content: bytes = converter.convert()
    return content
