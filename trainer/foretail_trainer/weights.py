"""What is done to trained weights beside training: kept in files, carried to other vocabularies, put on a grid."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

import numpy as np

from foretail.errors import ConfigError
from foretail.schema import UNKNOWN
from foretail_trainer.export import distributions
from foretail_trainer.network import CELLS, Shape, Weights, check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def carried(weights: Weights, origin: Sequence[int]) -> Weights:
    """A trained network for another vocabulary, to go on from: a refit knows again what the last fit knew.

    Args:
        weights: of the last fit.
        origin: for each new id its old id; -1 for a type that was not there, which begins as UNKNOWN did.
    """
    old = np.array([UNKNOWN if id_ < 0 else id_ for id_ in origin], np.intp)
    embedding, *cells, head, bias = weights.arrays
    shape = weights.shape._replace(vocabulary=len(old))
    return Weights(shape, (embedding[old], *cells, np.ascontiguousarray(head[:, old]), bias[old]))


def welcomed(weights: Weights, new: Sequence[int], window: NDArray[np.int32], share: float) -> Weights:
    """The network with outputs for new types that expect them everywhere alike: training then says where not.

    What `carried` gives a new type for output is that of UNKNOWN, which never comes: hundreds of steps away from any
    use.

    Args:
        weights: of `carried`.
        new: ids of the new types.
        window: int32 `[n, C]`, a sample of the log.
        share: that each of them shall have of the events, on average over the sample (the geometric mean); all of
            them together less than 1.
    """
    if not len(new) or not len(window):
        return weights
    *rest, head, bias = (array.copy() for array in weights.arrays)
    head[:, list(new)], bias[list(new)] = 0.0, 0.0
    total = np.exp(-distributions(Weights(weights.shape, (*rest, head, bias)), window)[:, new[0]].astype(np.float64))
    known = np.log(np.maximum(total - len(new), 1e-9))  # of the exponents of all other outputs
    bias[list(new)] = np.log(share / (1 - len(new) * share)) + known.mean()
    return Weights(weights.shape, (*rest, head, bias))


def write(weights: Weights) -> bytes:
    """A network as the bytes of an .npz file without pickled objects."""
    file = io.BytesIO()
    shape = np.array([str(value) for value in weights.shape])
    np.savez(file, shape=shape, **{f"w{i:02}": array for i, array in enumerate(weights.arrays)})  # type: ignore[arg-type]
    return file.getvalue()


def read(content: bytes) -> Weights:
    """The network that `write` wrote.

    Raises:
        ConfigError: other bytes.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as found:
            cell, *numbers = found["shape"].tolist()
            arrays = tuple(found[name] for name in sorted(found.files) if name != "shape")
            shape = Shape(cell, *map(int, numbers))
    except (ValueError, KeyError, OSError, TypeError, EOFError, zipfile.BadZipFile):
        raise ConfigError("The saved network cannot be read: fit without it.") from None
    check(shape)
    if [a.shape for a in arrays] != _forms(shape):
        raise ConfigError("The saved network's arrays are not those of its shape: fit without it.")
    return Weights(shape, arrays)


def _forms(shape: Shape) -> list[tuple[int, ...]]:
    """Shapes of the arrays of a network."""
    gates, u = CELLS[shape.cell] * shape.units, shape.units
    bias = (2, gates) if shape.cell == "gru" else (gates,)
    inputs = [shape.embedding, *[u] * (shape.layers - 1)]
    cells = [form for width in inputs for form in ((width, gates), (u, gates), bias)]
    return [(shape.vocabulary, shape.embedding), *cells, (u, shape.vocabulary), (shape.vocabulary,)]


def on_grid(weights: Weights) -> Weights:
    """The network with every matrix that export keeps as it is rounded to the 255 values int8 can hold.

    Then int8 and float differ by what rounds at run time alone: a third of the difference, so that near ties between
    next events fall alike. Embedding and first kernel stay: export multiplies them first.
    """
    last = len(weights.arrays) - 1
    kept = {0, 1, last, *range(3, last - 1, 3)}  # embedding, first kernel, biases
    return Weights(weights.shape, tuple(a if i in kept else _rounded(a) for i, a in enumerate(weights.arrays)))


def _rounded(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    step = np.abs(matrix).max() / np.float32(127)
    return matrix if step == 0 else (np.rint(matrix / step) * step).astype(np.float32)
