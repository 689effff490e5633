"""The next-event model: windows of model ids -> surprise in nats. The only door to the TFLite runtime.

Two files hold the same weights for 1 and for 64 windows at a time; the results are the same bits. What a window and
its target once cost is remembered, because log traffic repeats itself (97 % of HDFS windows, DESIGN §5).
"""

from __future__ import annotations

import importlib
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from foretail.cache import Cache
from foretail.errors import ConfigError
from foretail.hush import hush
from foretail.ops import check_operators

if TYPE_CHECKING:
    from numpy.typing import NDArray

BATCH = 64
RESOLUTION = 256
"""Surprises are multiples of 1/256 nat: low-order bits of the kernels do not reach a verdict."""

_PADDED_MIN = 20  # from here on one padded batch of 64 is cheaper than single windows (3 against 10 us each)
_RUNTIMES = {"ai-edge-litert": "ai_edge_litert.interpreter", "tflite-runtime": "tflite_runtime.interpreter"}


def runtime() -> Any:
    """The interpreter module: ai-edge-litert where present, else tflite-runtime.

    `FORETAIL_RUNTIME=tflite-runtime` (or `ai-edge-litert`) takes that one and no other.

    Raises:
        ConfigError: the name is unknown or nothing is installed.
    """
    forced = os.environ.get("FORETAIL_RUNTIME", "")
    if forced and forced not in _RUNTIMES:
        raise ConfigError(f"FORETAIL_RUNTIME is {forced!r}: set it to one of {', '.join(_RUNTIMES)} or leave it out.")
    for name in [forced] if forced else _RUNTIMES:
        try:
            return importlib.import_module(_RUNTIMES[name])
        except ImportError:
            continue
    raise ConfigError(f"No TFLite runtime is installed: pip install {forced or 'ai-edge-litert'}.")


class _Graph:
    """One TFLite file at one static batch size."""

    def __init__(self, content: bytes, batch: int, window: int, vocabulary: int) -> None:
        check_operators(content)
        try:
            with hush():
                self._interpreter = runtime().Interpreter(model_content=content, num_threads=1)
                self._interpreter.allocate_tensors()
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(f"The runtime refuses the model of batch {batch}: {reason}") from None
        got = [(tuple(d["shape"].tolist()), np.dtype(d["dtype"]).name) for d in (*inputs, *outputs)]
        wanted = [((batch, window), "int32"), ((batch, vocabulary), "float32")]
        if got != wanted:
            raise ConfigError(f"The model of batch {batch} maps {got}, the manifest says {wanted}.")
        self._input, self._output = inputs[0]["index"], outputs[0]["index"]
        if not np.isfinite(self.logits(np.zeros((batch, window), np.int32))).all():
            raise ConfigError(f"The model of batch {batch} gives numbers that are not finite: build the bundle again.")

    def logits(self, windows: NDArray[np.int32]) -> NDArray[np.float32]:
        """int32 [batch, C] -> float32 [batch, V]."""
        self._interpreter.set_tensor(self._input, windows)
        self._interpreter.invoke()
        result: NDArray[np.float32] = self._interpreter.get_tensor(self._output)
        return result

    @property
    def accelerated(self) -> bool:
        """Whether a delegate (XNNPACK is the only default one) took part of the graph."""
        return any(op["op_name"] == "DELEGATE" for op in self._interpreter._get_ops_details())  # noqa: SLF001 (no public way)


class SequenceModel:
    """How surprising each event is after the C events before it.

    Args:
        b1, b64: TFLite files of batch 1 and 64; input `window` int32 [B, C], output `logits` float32 [B, V].
        window, vocabulary: C and V of the manifest.
        memo_entries: how many (window, target) pairs are remembered; 2 (C + 1) + 16 bytes each.

    Attributes:
        memo: its `hits` and `misses` are metrics.

    Raises:
        ConfigError: operators, shapes or bytes of a file are not those of such a model.
    """

    def __init__(self, b1: bytes, b64: bytes, *, window: int, vocabulary: int, memo_entries: int = 65_536) -> None:
        self.window, self.vocabulary = window, vocabulary
        self._single = _Graph(b1, 1, window, vocabulary)
        self._batch = _Graph(b64, BATCH, window, vocabulary)
        self.memo = Cache(window + 1, memo_entries)

    @cached_property
    def kernels(self) -> Literal["xnnpack", "reference"]:
        """`reference` is four times slower: /proc/cpuinfo may be hidden from the process (FACTS)."""
        return "xnnpack" if self._single.accelerated and self._batch.accelerated else "reference"

    def surprise(self, windows: NDArray[np.int32], targets: NDArray[np.int32]) -> NDArray[np.float32]:
        """-ln p(target | window) for each row.

        Args:
            windows: int32 [n, C], oldest event first; ids in [0, V).
            targets: int32 [n]; ids in [0, V).

        Returns:
            float32 [n], nats, rounded to 1/256; the same for a row however rows are batched.
        """
        rows = np.empty((len(targets), self.window + 1), np.int16 if self.vocabulary < 2**15 else np.int32)
        rows[:, :-1] = windows
        rows[:, -1] = targets
        return self.memo.values(rows, self._score)

    def distribution(self, window: NDArray[np.int32]) -> NDArray[np.float32]:
        """Log-probabilities in nats of every id after one window: int32 [C] -> float32 [V]."""
        result: NDArray[np.float32] = self.distributions(np.asarray(window).reshape(1, -1))[0]
        return result

    def distributions(self, windows: NDArray[np.int32]) -> NDArray[np.float32]:
        """Log-probabilities in nats of every id after each window: int32 [n, C] -> float32 [n, V]."""
        windows = np.ascontiguousarray(windows, np.int32)
        result = np.empty((len(windows), self.vocabulary), np.float32)
        for start in range(0, len(windows), BATCH):
            logits = self._logits(windows[start : start + BATCH])
            result[start : start + BATCH] = logits - _log_sum_exp(logits)[:, None]
        return result

    def _score(self, rows: NDArray[np.int16]) -> NDArray[np.float32]:
        windows = np.ascontiguousarray(rows[:, :-1], np.int32)
        targets = rows[:, -1].astype(np.intp)
        result = np.empty(len(rows), np.float32)
        for start in range(0, len(rows), BATCH):
            part = slice(start, start + BATCH)
            logits = self._logits(windows[part])
            result[part] = _log_sum_exp(logits) - logits[np.arange(len(logits)), targets[part]]
        return np.asarray(np.rint(result * RESOLUTION) / RESOLUTION + 0.0, np.float32)  # + 0.0: no -0.0 in a verdict

    def _logits(self, windows: NDArray[np.int32]) -> NDArray[np.float32]:
        n = len(windows)
        if n == BATCH:
            return self._batch.logits(windows)
        if n >= _PADDED_MIN:
            padded = np.zeros((BATCH, self.window), np.int32)
            padded[:n] = windows
            return self._batch.logits(padded)[:n]
        return np.concatenate([self._single.logits(windows[i : i + 1]) for i in range(n)])


def _log_sum_exp(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    top = logits.max(axis=1)
    result: NDArray[np.float32] = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return result
