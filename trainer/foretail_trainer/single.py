"""Bundles of one detector: `fit --timeseries CSV` and `fit --lines CSV` from the file to the bundle."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from foretail import __version__, others
from foretail.bundle import GOLDEN, PATTERNS, write
from foretail.schema import SCHEMA, Format, KeyRule, Manifest, Patterns, Training

if TYPE_CHECKING:
    from foretail.bundle import Bundle
    from foretail_trainer.characters import FittedLines
    from foretail_trainer.timeseries import FittedSeries


def write_series(out: str, fitted: FittedSeries, *, name: str = "", version: int = 0) -> Bundle:
    """Write a bundle that holds a series detector alone, and verify that it runs.

    Args:
        out: the directory.
        fitted: what `fit_timeseries` gave.
        name: of the bundle; empty: that of the directory.
        version: 0 = seconds since 1970.
    """
    training = Training(fitted.digest, len(fitted.table.values), 0, fitted.first, fitted.last)
    metrics = {"series_agreement": fitted.agreement}
    draft = _manifest(out, name, version, training, metrics)
    return _written(out, msgspec.structs.replace(draft, series=fitted.info), fitted.files)


def write_lines(out: str, fitted: FittedLines, *, name: str = "", version: int = 0) -> Bundle:
    """Write a bundle that holds a line classifier alone, and verify that it runs; arguments as of `write_series`."""
    training = Training(fitted.digest, fitted.lines, 0)
    metrics = {f"line_{key}": value for key, value in fitted.metrics.items()}
    draft = _manifest(out, name, version, training, metrics)
    return _written(out, msgspec.structs.replace(draft, lines=fitted.info), fitted.files)


def _manifest(out: str, name: str, version: int, training: Training, metrics: dict[str, float]) -> Manifest:
    now = datetime.now(UTC)
    return Manifest(
        schema=SCHEMA,
        name=name or Path(out).resolve().name,
        version=version or int(now.timestamp()),
        created=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        trainer=__version__,
        agent_min=__version__,
        files={},
        format=Format(),
        key=KeyRule(),
        idle_s=0.0,
        training=training,
        metrics=metrics,
    )


def _written(out: str, manifest: Manifest, files: dict[str, bytes]) -> Bundle:
    none = {PATTERNS: msgspec.json.encode(Patterns(SCHEMA, ())), GOLDEN: b""}
    bundle = write(out, manifest, {**files, **none})
    others.verify(bundle)
    return bundle
