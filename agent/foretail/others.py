"""The detectors beside the sequence model: which of them a bundle holds, and whether they run here as they should."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from foretail import arrays
from foretail.characters import LineModel
from foretail.errors import ConfigError
from foretail.series import Detector
from foretail.volume import Gauge, Volume

if TYPE_CHECKING:
    from foretail.bundle import Bundle

NEAR = 0.05
"""Kernels of different hosts differ by a few hundredths of a deviation, or of a logit, at most."""


def names(bundle: Bundle) -> tuple[str, ...]:
    """Detectors of a bundle: of `sequence`, `volume`, `series`, `line`."""
    manifest = bundle.manifest
    held = {
        "sequence": manifest.sequence,
        "volume": manifest.volume,
        "series": manifest.series,
        "line": manifest.lines,
    }
    return tuple(name for name, section in held.items() if section is not None)


def verify(bundle: Bundle) -> bool:
    """Make each of them once and compare with its golden results; True when XNNPACK took all their models.

    Raises:
        ConfigError: files, shapes, operators or results are not those of such a detector, in one sentence.
    """
    manifest, fast = bundle.manifest, True
    if manifest.volume is not None:
        Volume(bundle, stream="verify")
    for name, info in (("series", manifest.series), ("volume", manifest.volume.series if manifest.volume else None)):
        if info is not None:
            detector = Detector(info, bundle.files, name) if name == "series" else _gauge(bundle)
            table = _golden(bundle, name, len(info.columns) + info.window * info.inputs)
            f = len(info.columns)
            got = detector.expected(table[:, f:].reshape(-1, info.window, info.inputs).astype(np.float32))
            _compare(bundle, name, got, table[:, :f])
            fast &= detector.accelerated
    if manifest.lines is not None:
        model = LineModel(manifest.lines, bundle.files)
        table = _golden(bundle, "line", 0)
        lines = [bytes(int(b) for b in row[1:] if 0 <= b < 256) for row in table]
        _compare(bundle, "line", model.logits(lines), table[:, 0])
        fast &= model.accelerated
    return fast


def _gauge(bundle: Bundle) -> Gauge:
    assert bundle.manifest.volume is not None  # noqa: S101 - our own bug
    return Gauge(bundle.manifest.volume, bundle.files)


def _golden(bundle: Bundle, name: str, width: int) -> np.ndarray:
    table = arrays.read(bundle.files, f"{name}.golden.npy")
    if table.ndim != 2 or not len(table) or (width and table.shape[1] != width) or table.shape[1] < 2:
        raise ConfigError(f"bundle {bundle.path}: {name}.golden.npy does not fit its model; make the bundle again")
    return table


def _compare(bundle: Bundle, name: str, got: np.ndarray, wanted: np.ndarray) -> None:
    worst = float(np.abs(got - wanted).max())
    if not worst <= NEAR * max(1.0, float(np.abs(wanted).max())):
        raise ConfigError(
            f"bundle {bundle.path}: the {name} model gives results on this host that differ by {worst:.3g} from those "
            "where it was made; fetch the bundle again"
        )
