"""Sessions of the last fits and sessions of new logs as one set; what is in both counts once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail.schema import FIRST
from foretail_trainer.sequences import END_SHARE, Sessions, spread

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from foretail.schema import Pattern

SAME_S = 1e-3
"""Two sessions of one key that begin this close together are one, read twice."""


class Merged(NamedTuple):
    """Old sessions first, then new ones.

    Attributes:
        sessions: all of them.
        old: bool `[u]`: units of the last fits.
        kept: bool `[u_old]`: old units that are still there; the others came again, or went on, in the new logs.
        repeated, continued: sessions.
    """

    sessions: Sessions
    old: NDArray[np.bool_]
    kept: NDArray[np.bool_]
    repeated: int
    continued: int


def merged(old: Sessions, new: Sessions) -> Merged:
    """Put sessions together.

    A session of the old log that the new one holds too counts once. One that the old log did not see the end of, and
    whose key comes again in the new one before it had ended, is one session.

    Args:
        old: numbered as `new` is.
        new: of the same kind (both endless or both not).
    """
    again = np.zeros(len(old), np.bool_)
    before: dict[int, int] = {}
    if not new.endless and old.keys and new.keys and len(old.times) and len(new.times):
        first = {key: number for number, key in reversed(list(enumerate(new.keys)))}
        for number, key in enumerate(old.keys):
            other = first.get(key)
            if other is None:
                continue
            began = float(new.times[new.starts[other]])
            pause = began - float(old.times[old.stops[number] - 1])
            if abs(began - float(old.times[old.starts[number]])) <= SAME_S:
                again[number] = True
            elif old.censored[number] and 0 <= pause <= old.idle_s:
                again[number], before[other] = True, number
    repeated = int(again.sum()) - len(before)
    grown = _continued(old, new, before) if before else new
    kept = np.repeat(~again, np.bincount(old.owner, minlength=len(old)))
    rest = old.rows(~again) if again.any() else old
    sessions = _both(rest, grown)
    return Merged(sessions, np.arange(len(sessions.units)) < len(rest.units), kept, repeated, len(before))


def _continued(old: Sessions, new: Sessions, before: dict[int, int]) -> Sessions:
    """New sessions with the beginnings that the old log saw put before them."""
    starts, stops = old.starts.tolist(), old.stops.tolist()
    pieces: list[tuple[Sessions, int, int]] = []
    lengths = []
    for number, (start, stop) in enumerate(zip(new.starts.tolist(), new.stops.tolist(), strict=True)):
        ahead = before.get(number)
        lengths.append(stop - start)
        if ahead is not None:
            pieces.append((old, starts[ahead], stops[ahead]))
            lengths[-1] += stops[ahead] - starts[ahead]
        pieces.append((new, start, stop))

    rests = [part.rests[start:stop].copy() for part, start, stop in pieces]
    for number, (part, _, stop) in enumerate(pieces):
        if part is old:  # the log's end is no pause: only what came after it tells
            pause = float(new.times[pieces[number + 1][1]]) - float(old.times[stop - 1])
            rests[number][-1] = pause >= old.rest_s
    return spread(
        new,
        np.concatenate([part.ids[start:stop] for part, start, stop in pieces]),
        np.array(lengths, np.int64),
        rests=np.concatenate(rests),
        times=np.concatenate([part.times[start:stop] for part, start, stop in pieces]),
    )


def _both(old: Sessions, new: Sessions) -> Sessions:
    """One after the other; without times if one of them has none."""
    timed = len(old.times) == len(old.ids) and len(new.times) == len(new.ids)
    span = old.span_s + new.span_s
    if timed and len(old.ids) and len(new.ids):
        edges = [float(part.times.min()) for part in (old, new)], [float(part.times.max()) for part in (old, new)]
        if max(edges[0]) < min(edges[1]):  # they overlap
            span = max(old.span_s, new.span_s, max(edges[1]) - min(edges[0]))
    return spread(
        old,
        np.concatenate([old.ids, new.ids]).astype(np.int32),
        np.concatenate([old.stops - old.starts, new.stops - new.starts]),
        weight=np.concatenate([old.weight, new.weight]),
        censored=np.concatenate([old.censored, new.censored]),
        rests=np.concatenate([old.rests, new.rests]),
        times=np.concatenate([old.times, new.times]) if timed else np.zeros(0),
        keys=old.keys + new.keys if old.keys and new.keys else [],
        span_s=span,
    )


def ends(patterns: Sequence[Pattern], added: Collection[str], new: Sessions | None) -> NDArray[np.bool_]:
    """Types that end a session, bool `[V]`: those of the base that new logs do not contradict, new ones by themselves.

    Args:
        patterns: by rank, with their support in old and new logs together.
        added: type_ids that the base did not have.
        new: sessions of the new logs, None = there are none.
    """
    fresh = np.array([False] * FIRST + [pattern.type_id in added for pattern in patterns])
    found: NDArray[np.bool_] = np.array([False] * FIRST + [pattern.end for pattern in patterns]) & ~fresh
    if new is None:
        return found
    inner = np.ones(len(new.ids), np.bool_)
    inner[new.stops - 1] = False
    against = np.bincount(new.ids[inner], minlength=len(found))
    support = np.array([0] * FIRST + [pattern.support for pattern in patterns])
    found &= against <= (1 - END_SHARE) * support
    if new.ends is not None:
        found |= new.ends & fresh
    return found
