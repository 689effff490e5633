"""The strangest training sessions, for a person to look at and strike (DESIGN §6: robust to dirt).

Faults that repeat in the training log become common enough to look normal to any model fitted on it. They still stand
apart: nothing more common is near them. So sessions are ranked in groups of equal type counts, by the bits from a
group to the nearest group that is more common, and half of what its rareness says; after them, by what the cross-fit
said of their order. `fit --exclude` strikes a session with its group: a fault
that came forty times is listed once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail.counts import Counts
from foretail.errors import ConfigError
from foretail.schema import PAD
from foretail_trainer.vectors import at_last_rest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail_trainer.calibrate import Calibrated
    from foretail_trainer.sequences import Sessions

SUSPECTS_MAX = 100
GROUP_SHARE_MAX = 0.02
"""A larger group of alike sessions is what the log is made of, not a fault in it."""
ORDER_SHARE = 0.15
"""Of the list, kept for sessions that are strange by their order alone."""
EVENTS_MAX = 60
_COMMON_MAX = 512
_GROUPS_MAX = 3000


class Suspect(msgspec.Struct, frozen=True):
    """One line of `suspects.jsonl`.

    Attributes:
        session: its key; of a block, `key#number`; of a sequence without a key, its line.
        like: sessions that have the same type counts, itself included.
        bits: how far it stands apart.
        reason: `counts`, or the detector that found its order strange.
        time: of its first event, epoch seconds; 0 = unknown.
        missing, extra: events fewer and more than in the nearest more common session, by template.
        events: its first events, as templates.
    """

    session: str
    like: int
    bits: float
    reason: str
    time: float = 0.0
    missing: dict[str, int] = {}
    extra: dict[str, int] = {}
    events: tuple[str, ...] = ()


def suspects(sessions: Sessions, calibrated: Calibrated, names: Sequence[str]) -> list[Suspect]:
    """At most SUSPECTS_MAX of the strangest units, strangest first.

    Args:
        sessions: all training sessions.
        calibrated: their calibration.
        names: template of each model id.
    """
    vectors, group, size = groups(sessions, len(names))
    total = int(size.sum())
    if not total:
        return []
    strangest = np.zeros(len(vectors))
    held = calibrated.held
    np.maximum.at(strangest, group[held.unit], calibrated.x)
    fit = np.flatnonzero((size <= max(1, GROUP_SHARE_MAX * total)) & (vectors[:, PAD] == 0))
    fit = fit[np.argsort(-strangest[fit], kind="stable")][:_GROUPS_MAX]
    apart, near = _apart(vectors, size, fit, calibrated.counts.weight)
    bits = apart + 0.5 * np.log2(total / size[fit])
    order = np.argsort(-bits, kind="stable")[: int(SUSPECTS_MAX * (1 - ORDER_SHARE))]
    first_of = _first(group, len(vectors))
    found = [
        _suspect(
            sessions,
            names,
            int(first_of[fit[i]]),
            int(size[fit[i]]),
            float(bits[i]),
            "counts",
            _more(vectors, int(fit[i]), int(near[i])),
        )
        for i in order.tolist()
    ]
    return sorted(
        found + _by_order(sessions, calibrated, names, set(fit[order].tolist()), group, SUSPECTS_MAX - len(found)),
        key=lambda suspect: -suspect.bits,
    )


def groups(sessions: Sessions, vocabulary: int) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Units of equal type counts up to their last rest; those that never rested are groups of their own (a PAD).

    Returns:
        int32 `[g, V]` the counts, int64 `[u]` the group of each unit, int64 `[g]` how many units each group holds.
    """
    vectors, group = at_last_rest(sessions, vocabulary)
    rested = sessions.last_rest(np.arange(len(group))) > 0
    names, group = np.unique(group * 2 + ~rested, return_inverse=True)
    vectors = vectors[names // 2].copy()
    vectors[:, PAD] = names % 2
    return vectors, group, np.bincount(group, sessions.weight[sessions.owner], len(vectors)).astype(np.int64)


def label(sessions: Sessions, unit: int) -> str:
    """What a unit is called in `suspects.jsonl`."""
    owner = int(sessions.owner[unit])
    if not sessions.keys:
        return str(owner + 1)
    key = sessions.keys[owner].decode("utf-8", "replace")
    if not sessions.endless:
        return key
    return f"{key}#{unit - int(np.searchsorted(sessions.owner, owner))}"


def struck(path: str) -> set[str]:
    """The sessions that a file of suspects names.

    Raises:
        ConfigError: it cannot be read, or a line is no JSON object with a `session`.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 (one read)
            rows = [msgspec.json.decode(line) for line in file if line.strip()]
        return {str(row["session"]) for row in rows}
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no suspects.jsonl: give one JSON object with a session a line") from error


def without(sessions: Sessions, names: set[str], vocabulary: int) -> tuple[Sessions, int]:
    """The sessions less those named and their groups (up to 2 % of all sessions are alike by being faults).

    Args:
        sessions: all training sessions; of an endless one, the blocks named are cut out.
        names: from `struck`.
        vocabulary: V.

    Returns:
        What is left, and how many units went.
    """
    _, group, size = groups(sessions, vocabulary)
    named = np.array([label(sessions, unit) in names for unit in range(len(sessions.units))], np.bool_)
    alike = np.zeros(len(size), np.bool_)
    alike[group[named]] = True
    alike &= size <= max(1, GROUP_SHARE_MAX * int(size.sum()))
    gone = named | alike[group]
    return sessions.less(gone), int(gone.sum())


def _apart(
    vectors: NDArray[np.int32], size: NDArray[np.int64], wanted: NDArray[np.int64], weight: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Bits from each wanted group to the nearest more common one, and which that is (-1 = none)."""
    common = np.argsort(-size, kind="stable")[:_COMMON_MAX]
    bits, near = np.zeros(len(wanted)), np.full(len(wanted), -1, np.int64)
    for level in np.unique(size[wanted]):
        rows = np.flatnonzero(size[wanted] == level)
        table = common[size[common] > level]
        if len(table):
            counts = Counts(vectors[table], np.zeros(len(table)), weight)
            mine = vectors[wanted[rows]].astype(np.int64)
            bits[rows], near[rows] = counts.distance(mine), table[counts.nearest(mine)]
    return bits, near


def _more(vectors: NDArray[np.int32], group: int, near: int) -> NDArray[np.int64]:
    """Events that a group has more than another; nothing against none."""
    more: NDArray[np.int64] = vectors[group].astype(np.int64) - vectors[near if near >= 0 else group]
    return more


def _first(group: NDArray[np.int64], groups_total: int) -> NDArray[np.int64]:
    """The first unit of each group."""
    first = np.zeros(groups_total, np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]
    return first


def _by_order(
    sessions: Sessions,
    calibrated: Calibrated,
    names: Sequence[str],
    listed: set[int],
    group: NDArray[np.int64],
    limit: int,
) -> list[Suspect]:
    """Units that the cross-fit found strange, one a cause, of groups that are not listed yet."""
    held = calibrated.held
    causes: set[tuple[object, ...]] = set()
    found: list[Suspect] = []
    for row in np.argsort(-calibrated.x, kind="stable").tolist():
        unit, cause = int(held.unit[row]), calibrated.causes[row]
        if len(found) == limit:
            break
        if cause in causes or int(group[unit]) in listed:
            continue
        causes.add(cause)
        reason = calibrated.scores.reasons(row)[0]
        bits = float(calibrated.x[row])
        found.append(_suspect(sessions, names, unit, 1, bits, reason, np.zeros(len(names), np.int64)))
    return found


def _suspect(
    sessions: Sessions,
    names: Sequence[str],
    unit: int,
    like: int,
    bits: float,
    reason: str,
    more: NDArray[np.int64],
) -> Suspect:
    start, stop = int(sessions.units[unit]), int(sessions.unit_stops[unit])
    missing = {names[j]: int(-more[j]) for j in np.flatnonzero(more < 0).tolist()}
    extra = {names[j]: int(more[j]) for j in np.flatnonzero(more > 0).tolist()}
    time = float(sessions.times[start]) if len(sessions.times) else 0.0
    events = tuple(names[i] for i in sessions.ids[start : min(stop, start + EVENTS_MAX)].tolist())
    return Suspect(
        label(sessions, unit), like, round(bits, 3), reason, time if np.isfinite(time) else 0.0, missing, extra, events
    )
