"""Trained weights -> TFLite files, and the gate that no bundle passes without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from foretail.errors import ConfigError
from foretail.hush import hush
from foretail.model import SequenceModel
from foretail.ops import check_operators
from foretail_trainer.network import Folded, Weights, fold, logits, tensorflow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from foretail_trainer.windows import Windows


BATCH = 1024
"""Windows that the float network is asked at once."""


def export(weights: Weights, batch: int, *, quantize: bool = True) -> bytes:
    """A TFLite file: `window` int32 [batch, C] -> `logits` float32 [batch, V].

    Unrolled over the C steps, embedding and input kernel folded into one table, zero state, builtin operators only.

    Args:
        weights: of a trained network.
        batch: static batch size; foretail ships 1 and 64.
        quantize: int8 weights, one scale per tensor (per-channel dense layers need a newer FULLY_CONNECTED than
            tflite-runtime 2.14 has); False makes the float32 twin.
    """
    tf = tensorflow()
    shape = weights.shape
    constants = _constant(tf, fold(shape, weights.arrays))
    signature = [tf.TensorSpec([batch, shape.window], tf.int32, name="window")]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def network(window: Any) -> Any:
        return {"logits": logits(shape, constants, window)}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()], tf.Module())
    if quantize:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # noqa: SLF001 (no public way)
    with hush(keep=lambda _line: False):
        content: bytes = converter.convert()
    return content


def _constant(tf: Any, folded: Folded) -> Folded:
    def constant(array: Any) -> Any:
        return None if array is None else tf.constant(array)

    layers = tuple((constant(a), constant(b), constant(c), constant(d)) for a, b, c, d in folded.layers)
    return Folded(constant(folded.table), layers, constant(folded.head), constant(folded.head_bias))


def distributions(weights: Weights, window: NDArray[np.int32]) -> NDArray[np.float32]:
    """The float network's log-probabilities in nats: int32 [n, C] -> float32 [n, V]; n V numbers at once."""
    parts = list(_distributions(weights, window))
    return np.concatenate(parts) if parts else np.zeros((0, weights.shape.vocabulary), np.float32)


def surprises(weights: Weights, window: NDArray[np.int32], target: NDArray[np.int32]) -> NDArray[np.float32]:
    """-ln p(target | window) of the float network: int32 [n, C], int32 [n] -> float32 [n], in bounded memory."""
    result = np.empty(len(target), np.float32)
    for i, logp in enumerate(_distributions(weights, window)):
        part = slice(i * BATCH, (i + 1) * BATCH)
        result[part] = -logp[np.arange(len(logp)), target[part]]
    return result


def _distributions(weights: Weights, window: NDArray[np.int32]) -> Iterator[NDArray[np.float32]]:
    """Log-probabilities of BATCH windows at a time."""
    tf = tensorflow()
    constants = _constant(tf, fold(weights.shape, weights.arrays))
    for start in range(0, len(window), BATCH):
        yield tf.nn.log_softmax(logits(weights.shape, constants, tf.constant(window[start : start + BATCH]))).numpy()


TIE_NATS = 0.05
"""A twentieth of a nat: five percent of a probability."""


class Agreement(NamedTuple):
    """How a quantized model compares with its float model, weighted by frequency.

    Attributes:
        top1: share of windows with the same most likely next event.
        decision: share of events on the same side of every threshold.
        worst: greatest difference of a surprise that came, nats.
        mean: mean difference, nats.
        bytes: of the larger file.
        tied: as top1, where two events that the float model holds equally likely within TIE_NATS are both its most
            likely one: a branch that is taken half the time has no winner to agree on.
    """

    top1: float
    decision: float
    worst: float
    mean: float
    bytes: int
    tied: float = 0.0


def agreement(model: SequenceModel, weights: Weights, held: Windows, thresholds: tuple[float, ...]) -> Agreement:
    """Compare on windows.

    Args:
        model: as the agent will run it.
        weights: of the float network it was made from.
        held: windows, targets and how often they came; at least one.
        thresholds: bits; a surprise at or above one decides otherwise than one below.
    """
    window, target = np.ascontiguousarray(held.window, np.int32), np.asarray(held.target)
    limits = np.asarray(thresholds) * np.log(2)
    share = held.weight / held.weight.sum()
    top1 = tied = decision = mean = worst = 0.0
    for i, truth in enumerate(_distributions(weights, window)):
        part = slice(i * BATCH, (i + 1) * BATCH)
        exact = -truth[np.arange(len(truth)), target[part]]
        ours = model.surprise(window[part], target[part])
        difference = np.abs(exact - ours)
        same = ((exact[:, None] >= limits) == (ours[:, None] >= limits)).all(axis=1)
        chosen = model.distributions(window[part]).argmax(axis=1)
        behind = truth.max(axis=1) - truth[np.arange(len(truth)), chosen]
        top1, tied = top1 + float(share[part] @ (behind == 0)), tied + float(share[part] @ (behind <= TIE_NATS))
        decision += float(share[part] @ same)
        mean, worst = mean + float(share[part] @ difference), max(worst, float(difference.max()))
    return Agreement(min(top1, 1.0), min(decision, 1.0), worst, mean, 0, min(tied, 1.0))


def gate(
    b1: bytes,
    b64: bytes,
    weights: Weights,
    held: Windows,
    thresholds: tuple[float, ...],
    *,
    bytes_max: int = 8_000_000,
    decision_min: float = 0.999,
    top1_min: float = 0.99,
) -> Agreement:
    """Let a pair of TFLite files pass into a bundle, or say why not (DESIGN §5).

    Args:
        b1: the file of batch 1.
        b64: the file of batch 64.
        weights: of the float network they were made from.
        held: windows it was not fitted on, weighted by frequency.
        thresholds: bits, at which the agent decides.
        bytes_max: of each file.
        decision_min: least share of events decided alike.
        top1_min: least share of windows with the same most likely next event, ties aside.

    Raises:
        ConfigError: an operator is not allowed, a file is too large, or the models disagree; with the figures.
    """
    if not len(held.target):
        raise ConfigError("No window was held out: the export cannot be judged; give more lines.")
    for content in (b1, b64):
        check_operators(content)
        if len(content) > bytes_max:
            raise ConfigError(f"The model takes {len(content)} bytes, {bytes_max} are allowed: choose fewer units.")
    model = SequenceModel(b1, b64, window=weights.shape.window, vocabulary=weights.shape.vocabulary)
    found = agreement(model, weights, held, thresholds)._replace(bytes=max(len(b1), len(b64)))
    if found.decision < decision_min or found.tied < top1_min:
        raise ConfigError(
            f"The int8 model decides like the float model on {found.decision:.4%} of events ({decision_min:.1%} wanted)"
            f" and names the same next event on {found.tied:.3%} ({top1_min:.0%} wanted): train longer or add units."
        )
    return found
