"""Plain `.npy` arrays of a bundle, never pickled."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from foretail.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def file(files: Mapping[str, bytes], name: str) -> bytes:
    """The content of a file; ConfigError when it is absent."""
    if name not in files:
        raise ConfigError(f"the bundle has no {name}; fetch it again")
    return files[name]


def read(files: Mapping[str, bytes], name: str) -> NDArray[Any]:
    """The array of a file; ConfigError when it is absent or no plain array."""
    try:
        return np.asarray(np.load(io.BytesIO(file(files, name)), allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise ConfigError(f"{name} of the bundle is no readable array; fetch it again") from error


def written(array: NDArray[Any]) -> bytes:
    """The bytes of a `.npy` file."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()
