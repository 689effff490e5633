"""What was judged before, judged again by another bundle: labels and old sessions, by the agent's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from foretail.columns import Columns
from foretail.schema import UNKNOWN
from foretail.stream import Stream
from foretail.telling import Options
from foretail.verdicts import LineVerdict, SessionVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail_trainer.lessons import Lesson
    from foretail_trainer.sequences import Sessions

SEQUENCES_MAX = 20_000
"""Distinct old sessions, or blocks, that are judged again: the latest ones."""


class Outcome(NamedTuple):
    """How a bundle judges what was labelled: the greater of the scores of the line and of its session."""

    score: float
    raised: bool


class Heard(NamedTuple):
    """One distinct old session, or one block: its verdict, and how many sessions are like it."""

    verdict: SessionVerdict
    weight: int


def labels(bundle: Bundle, lessons: Sequence[Lesson]) -> list[Outcome | None]:
    """How the agent would judge what was labelled.

    Args:
        bundle: on its own numbers.
        lessons: in the same.

    Returns:
        None where it cannot be told.
    """
    stream = Stream(bundle, Options("label", emit="lines"))
    found: list[Outcome | None] = []
    for number, lesson in enumerate(lessons):
        scores = []
        if lesson.at < len(lesson.ids):
            records = stream.judge(_columns(lesson.ids, number, whole=lesson.label.begins))
            lines = [one for one in map(decoded, records) if isinstance(one, LineVerdict)]
            scores += [one.score for one in lines if one.offset == lesson.at]
        told = not (lesson.ids == UNKNOWN).any()  # what else is unknown in its session is no matter of this label
        if lesson.whole and told and not stream.sessions.rules.endless:
            scores += [one.score for one in stream.sequences([lesson.ids.tolist()])]
        alone = len(lesson.ids) == 1 and not lesson.label.begins  # a line of no session is judged by its type only
        known = not alone or lesson.label.reasons[:1] == ("novelty",)
        found.append(Outcome(max(scores), max(scores) >= 0.5) if scores and known else None)
    return found


def sessions(
    bundle: Bundle, old: Sessions, rows: NDArray[np.bool_], numbers: NDArray[np.int32] | None = None
) -> dict[bytes, Heard]:
    """Old sessions as a bundle judges them.

    Args:
        bundle: that judges.
        old: s sessions.
        rows: bool `[s]`: which; the end of the log is taken for the end of those whose end was not seen.
        numbers: int32 `[V]`: the bundle's model id of each of theirs; None = the same.

    Returns:
        By a name that is the same whichever bundle judges: the events, or number and place of a block.
    """
    ids = old.ids if numbers is None else numbers[old.ids]
    chosen = np.flatnonzero(rows)[::-1].tolist()
    if old.endless:
        return _blocks(bundle, old, chosen, ids)
    table: dict[bytes, tuple[int, int]] = {}
    for row in chosen:
        name = old.ids[old.starts[row] : old.stops[row]].tobytes()
        first, weight = table.get(name, (row, 0))
        if weight or len(table) < SEQUENCES_MAX:
            table[name] = first, weight + int(old.weight[row])
    events = [ids[old.starts[row] : old.stops[row]].tolist() for row, _ in table.values()]
    judged = Stream(bundle, Options("history")).sequences(events)
    return {name: Heard(verdict, weight) for (name, (_, weight)), verdict in zip(table.items(), judged, strict=True)}


def raised(heard: dict[bytes, Heard]) -> int:
    """Sessions that are anomalous."""
    return sum(one.weight for one in heard.values() if one.verdict.anomalous)


def quiet(heard: dict[bytes, Heard], most: int, threshold: float) -> float:
    """The lowest threshold, not below the one given, at which no more than `most` sessions are anomalous."""
    falling = sorted(((one.verdict.score, one.weight) for one in heard.values()), reverse=True)
    above = 0
    for score, weight in falling:
        above += weight
        if score < 0.5:
            break
        if above > most:
            return threshold * min(score / max(1 - score, 1e-9), 1e9) * 1.001
    return threshold


def decoded(record: bytes) -> LineVerdict | SessionVerdict | None:
    """A verdict as the agent wrote it; None for what else it writes."""
    if not record.startswith((b'{"kind":"line"', b'{"kind":"session"')):
        return None
    found: LineVerdict | SessionVerdict = msgspec.json.decode(record, type=LineVerdict | SessionVerdict)
    return found


def _blocks(bundle: Bundle, old: Sessions, chosen: Sequence[int], ids: NDArray[np.int32]) -> dict[bytes, Heard]:
    stream = Stream(bundle, Options("history", emit="sessions"))
    found: dict[bytes, Heard] = {}
    for row in chosen:
        records = stream.judge(_columns(ids[old.starts[row] : old.stops[row]], row, whole=True))
        for one in map(decoded, [*records, *stream.finish(ended=True)]):
            if isinstance(one, SessionVerdict) and len(found) < SEQUENCES_MAX:
                found[b"%d:%d" % (row, one.offset)] = Heard(one, 1)
    return found


def _columns(ids: NDArray[np.int32], number: int, *, whole: bool) -> Columns:
    """A session as the journal would hold it; offsets are places in it."""
    n = len(ids)
    return Columns(
        source=f"{number:024x}",
        path="history",
        whole=whole,
        ids=ids.astype(np.int16).tobytes(),
        keys=[b"%d" % number],
        which=np.zeros(n, np.int32).tobytes(),
        times=np.zeros(1).tobytes(),
        runs=np.array([n], np.int32).tobytes(),
        offsets=np.arange(n, dtype=np.int64).tobytes(),
        errors=np.packbits(np.zeros(n, np.bool_)).tobytes(),
        unseen=["0" * 16] * int((ids == UNKNOWN).sum()),
        size=n,
    )
