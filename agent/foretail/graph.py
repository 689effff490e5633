"""A TFLite file of one static batch size as a function of arrays, through the door of `foretail.model`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from foretail.errors import ConfigError
from foretail.hush import hush
from foretail.model import BATCH, runtime
from foretail.ops import check_operators

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_PADDED_MIN = 12  # from here on one padded batch of 64 is cheaper than single rows


class Graph:
    """One file: arrays in, arrays out.

    Args:
        content: the file.
        inputs, outputs: (shape, dtype name) of each tensor in the file's order.
        what: its name, for messages.

    Raises:
        ConfigError: operators, shapes or bytes are not those of such a model, or it gives NaN on zeros.
    """

    def __init__(
        self,
        content: bytes,
        inputs: Sequence[tuple[tuple[int, ...], str]],
        outputs: Sequence[tuple[tuple[int, ...], str]],
        what: str,
    ) -> None:
        check_operators(content)
        try:
            with hush():
                self._interpreter = runtime().Interpreter(model_content=content, num_threads=1)
                self._interpreter.allocate_tensors()
            entering = sorted(self._interpreter.get_input_details(), key=lambda detail: str(detail["name"]))
            leaving = self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"The runtime refuses {what}: {' '.join(str(error).split())[:200]}") from None
        got = [_form(detail) for detail in (*entering, *leaving)]
        if got != [*inputs, *outputs]:
            raise ConfigError(f"{what} maps {got}, the manifest says {[*inputs, *outputs]}.")
        self._entering = [detail["index"] for detail in entering]
        self._leaving = [detail["index"] for detail in leaving]
        if not all(np.isfinite(a).all() for a in self(*(np.zeros(shape, dtype) for shape, dtype in inputs))):
            raise ConfigError(f"{what} gives numbers that are not finite: build the bundle again.")

    def __call__(self, *arrays: NDArray[Any]) -> list[NDArray[np.float32]]:
        """The outputs for inputs in the order of their names."""
        for index, array in zip(self._entering, arrays, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index) for index in self._leaving]

    @property
    def accelerated(self) -> bool:
        """Whether a delegate (XNNPACK is the only default one) took part of the graph."""
        return any(op["op_name"] == "DELEGATE" for op in self._interpreter._get_ops_details())  # noqa: SLF001 (no public way)


def _form(detail: Any) -> tuple[tuple[int, ...], str]:
    return tuple(int(n) for n in detail["shape"]), np.dtype(detail["dtype"]).name


class Pair:
    """The same weights for 1 and for 64 rows at a time, each row a tuple of arrays.

    Args:
        b1, b64: the files.
        inputs, outputs: (shape of one row, dtype name) of each tensor.
        what: name of the detector, for messages.
    """

    def __init__(
        self,
        b1: bytes,
        b64: bytes,
        inputs: Sequence[tuple[tuple[int, ...], str]],
        outputs: Sequence[tuple[tuple[int, ...], str]],
        what: str,
    ) -> None:
        def of(batch: int, content: bytes) -> Graph:
            def forms(tensors: Sequence[tuple[tuple[int, ...], str]]) -> list[tuple[tuple[int, ...], str]]:
                return [((batch, *shape), dtype) for shape, dtype in tensors]

            return Graph(content, forms(inputs), forms(outputs), f"the {what} model of batch {batch}")

        self._inputs, self._outputs = inputs, outputs
        self._single, self._batch = of(1, b1), of(BATCH, b64)

    @property
    def accelerated(self) -> bool:
        """Whether XNNPACK took both graphs."""
        return self._single.accelerated and self._batch.accelerated

    def __call__(self, *columns: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Rows in, rows out: each input `[n, *shape]`, each output float32 `[n, *shape]`."""
        n = len(columns[0])
        out = [np.empty((n, *shape), np.float32) for shape, _ in self._outputs]
        columns = tuple(np.ascontiguousarray(c, dtype) for c, (_, dtype) in zip(columns, self._inputs, strict=True))
        for start in range(0, n, BATCH):
            part = [column[start : start + BATCH] for column in columns]
            size = len(part[0])
            if size >= _PADDED_MIN:
                if size < BATCH:
                    part = [np.concatenate([p, np.zeros((BATCH - size, *p.shape[1:]), p.dtype)]) for p in part]
                for whole, got in zip(out, self._batch(*part), strict=True):
                    whole[start : start + size] = got[:size]
                continue
            for row in range(size):
                for whole, got in zip(out, self._single(*(p[row : row + 1] for p in part)), strict=True):
                    whole[start + row] = got[0]
        return out
