"""Faults of volume for a typed log: a type doubled, halved or silenced, a burst, a stalled service, slowed answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail import tally
from foretail.tally import Lines, Readings

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("doubled", "halved", "silenced", "burst", "stalled", "slowed")
BURST = 10
"""A burst writes so many times the lines of a usual interval, within one."""
SLOWED = 4
"""Answers that are slowed give so many times the numbers they give otherwise."""


def inject(lines: Lines, kind: str, start: float, step: float, model_id: int, rng: np.random.Generator) -> Lines:
    """The log with a fault that begins at `start` and lasts five intervals of `step` seconds (a burst: one)."""
    during = (lines.times >= start) & (lines.times < start + 5 * step)
    mine = lines.ids == model_id
    if kind == "silenced":
        return taken(lines, ~(during & mine))
    if kind == "halved":
        return taken(lines, ~(during & mine) | (rng.random(len(lines.ids)) < 0.5))
    if kind == "stalled":
        return taken(lines, ~during)
    if kind == "slowed":
        return _slowed(lines, np.flatnonzero(during & mine))
    if kind == "doubled":
        source = np.flatnonzero(during & mine)
        return _joined(lines, source, lines.times[source])
    usual = (mine & (np.abs(lines.times - start) < 5 * step)).sum() / 10
    source = rng.choice(np.flatnonzero(mine), int(BURST * max(usual, 3)))
    return _joined(lines, source, start + rng.random(len(source)) * step)


def taken(lines: Lines, keep: NDArray[np.bool_]) -> Lines:
    """Some of the lines."""
    return Lines(
        ids=lines.ids[keep],
        times=lines.times[keep],
        lengths=lines.lengths[keep],
        errors=lines.errors[keep],
        which=lines.which[keep],
        keys=lines.keys,
        readings=tally.chosen(lines.readings, np.flatnonzero(keep)),
    )


def _slowed(lines: Lines, rows: NDArray[np.intp]) -> Lines:
    held = lines.readings
    inside = np.isin(np.frombuffer(held.row, np.int32), rows)
    value = np.frombuffer(held.value, np.float32) * np.where(inside, np.float32(SLOWED), np.float32(1))
    return msgspec.structs.replace(lines, readings=Readings(held.row, held.which, value.tobytes()))


def _joined(lines: Lines, source: NDArray[np.intp], times: NDArray[np.float64]) -> Lines:
    when = np.concatenate([lines.times, times])
    order = np.argsort(when, kind="stable")

    def both(column: NDArray[np.generic]) -> NDArray[np.generic]:
        return np.concatenate([column, column[source]])[order]

    return Lines(
        ids=both(lines.ids),
        times=when[order],
        lengths=both(lines.lengths),
        errors=both(lines.errors),
        which=both(lines.which),
        keys=lines.keys,
        readings=tally.chosen(lines.readings, both(np.arange(len(lines.ids)))),
    )
