"""The detectors that a fit learns beside the sequence model, and how all of them share one budget of false alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail import bundle as bundles
from foretail import tally
from foretail.errors import ConfigError
from foretail_trainer import parameters, volume
from foretail_trainer.reckoning import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretail.bundle import Bundle
    from foretail.schema import LinesInfo, Reading, VolumeInfo
    from foretail_trainer.learn import Learned
    from foretail_trainer.reading import Lines
    from foretail_trainer.stages import Stages
    from foretail_trainer.volume import FittedVolume

DETECTORS = ("sequence", "volume")
VOLUME_SHARE = 0.1
"""Of the budget of false alerts, where a bundle has a sequence model too: lines are what it is for, and with some
thousand sessions an alert less in the budget moves the threshold by bits."""


def add_volume(learned: Learned, lines: Lines, stages: Stages, readings: Sequence[Reading] = ()) -> None:
    """Learn how much of what the log writes; a log that cannot teach it gets a note.

    Args:
        learned: with patterns and sessions; its `volume` and `notes` are set.
        lines: of the log.
        stages: is told.
        readings: candidates; `lines.readings` are of these.
    """
    options = learned.options
    with stages.stage("volume"):
        hosts = []
        for host in range(lines.hosts):
            rows = np.flatnonzero(lines.host == host)
            keys = [lines.keys[row] for row in rows.tolist()] if lines.keys is not None else None
            hosts.append(
                volume.lines_of(
                    lines.ids[rows],
                    lines.times[rows],
                    lines.lengths[rows].astype(np.int64),
                    lines.errors[rows],
                    keys,
                    tally.chosen(lines.readings, rows),
                )
            )
        asked = Options(model=options.volume_model or volume.MODEL, seed=options.seed)
        share = VOLUME_SHARE if "sequence" in options.detectors and not options.types_only else 1.0
        try:
            fitted = volume.fit_volume(
                hosts, learned.patterns, asked, per_day=_per_day(learned, lines) * share, readings=readings
            )
        except ConfigError as error:
            if options.detectors == ("volume",):
                raise
            learned.notes.append(f"no volume detector: {error}")
            return
    learned.volume = fitted
    learned.notes += [f"volume: {note}" for note in fitted.notes]


def _per_day(learned: Learned, lines: Lines) -> float:
    """The whole budget in false alerts a day and host."""
    options = learned.options
    if options.rate is None:
        return options.per_week / 7
    known = lines.times[np.isfinite(lines.times)]
    days = max(float(known.max() - known.min()) / 86_400, 1e-3) if len(known) else 1.0
    sessions = int(learned.sessions.weight.sum()) if learned.sessions is not None else 0
    units = max(sessions, 1) if not learned.key.endless and learned.key.kind != "none" else len(lines.ids) / 100
    return options.rate * units / days / max(1, lines.hosts)


def left(learned: Learned) -> float:
    """The share of the budget that is left for the sequence model."""
    return 1.0 if learned.volume is None else 1.0 - VOLUME_SHARE


def promised(fitted: FittedVolume) -> float:
    """False incidents of the volume detector, a week and host."""
    calibration = fitted.info.series.calibration
    return calibration.alpha * calibration.units_per_day * 7


class Parts(NamedTuple):
    """What a bundle holds beside its sequence model: manifest sections, files, metrics."""

    volume: VolumeInfo | None
    lines: LinesInfo | None
    files: dict[str, bytes]
    metrics: dict[str, float]


def parts(learned: Learned) -> Parts:
    """Volume and line detectors as they were learned; a refit keeps the volume detector of its base."""
    files: dict[str, bytes] = {}
    metrics: dict[str, float] = {}
    info = None
    if learned.volume is not None:
        info = learned.volume.info
        files |= learned.volume.files
        metrics |= {
            "volume_agreement": learned.volume.agreement,
            "volume_false_per_week": round(promised(learned.volume), 6),
            "budget_share_sequence": left(learned) if learned.models else 0.0,
            "budget_share_volume": VOLUME_SHARE if learned.models else 1.0,
        }
    elif learned.options.feedback:
        info = _kept(learned, bundles.read(learned.options.base), files)
    if learned.labelled is not None:
        files |= learned.labelled.files
        metrics |= {f"line_{key}": value for key, value in learned.labelled.metrics.items()}
    return Parts(info, learned.labelled.info if learned.labelled else None, files, metrics)


def _kept(learned: Learned, base: Bundle, files: dict[str, bytes]) -> VolumeInfo | None:
    """The volume detector of an older bundle, if the types it counts and the numbers it follows are the same still."""
    info = base.manifest.volume
    if info is None:
        return None
    names = {pattern.type_id: pattern.template for pattern in learned.patterns}
    counted = all(names.get(type_id) == name for type_id, name in zip(info.types, info.series.columns, strict=False))
    followed = all(parameters.named(names.get(one.type_id, ""), one.capture) == one.name for one in info.readings)
    if not counted or not followed:
        learned.notes.append("no volume detector: the types that the base counts have changed; fit on a log")
        return None
    files |= {name: data for name, data in base.files.items() if name.startswith("volume.")}
    return info
