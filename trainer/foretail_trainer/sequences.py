"""Typed lines -> sessions as columns: where each begins, whether its end was seen, where it came to rest (DESIGN §4).

A *unit* is what gets a verdict of its own: a session, or a block of 100 lines of an endless one. A *rest* is an event
after which nothing came for `rest_s`: the end of a session, or a pause that could have been one. Where sessions last
almost as long as the log itself, hardly any end is seen; but a state in which sessions rest is one in which they
may end, and a state in which they never rest for a moment is one in which they do not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from foretail import sequences as files
from foretail.schema import END, FIRST, UNKNOWN
from foretail.surprise import BLOCK_LINES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.schema import KeyRule
    from foretail_trainer.reading import Lines

IDLE_S_MIN, IDLE_S_MAX = 1.0, 86_400.0
GAP_QUANTILE = 0.999
REST_SHARE = 0.02
"""Rests are at least this share of the log's time span (and never longer than idle_s)."""
END_SHARE = 0.99
END_SESSIONS_MIN = 100
"""Ended sessions that must hold a type before 99 % of them can be counted."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """s sessions of e events, as columns; a `windows.Sessions`.

    Attributes:
        ids: int32 `[e]` model ids, session after session.
        starts: int64 `[s]`.
        weight: int64 `[s]`: how often each came.
        censored: bool `[s]`: its end was not seen.
        rests: bool `[e]`: nothing followed this event for rest_s.
        times: float64 `[e]` event times, or empty: no time is known.
        keys: `[s]` session keys, or empty.
        units: int64 `[u]`: where each unit begins in ids.
        endless: units are blocks.
        idle_s, rest_s: seconds; 0 without times.
        ends: bool `[V]`: types that end a session.
        span_s: seconds between first and last event, greatest of all sources; 0 without times.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    weight: NDArray[np.int64]
    censored: NDArray[np.bool_]
    rests: NDArray[np.bool_]
    times: NDArray[np.float64]
    keys: list[bytes]
    units: NDArray[np.int64]
    endless: bool = False
    idle_s: float = 0.0
    rest_s: float = 0.0
    ends: NDArray[np.bool_] | None = None
    span_s: float = 0.0

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def stops(self) -> NDArray[np.int64]:
        """int64 `[s]`: one past the last event of each session."""
        return np.append(self.starts[1:], len(self.ids))[: len(self.starts)].astype(np.int64)

    @property
    def unit_stops(self) -> NDArray[np.int64]:
        """int64 `[u]`: one past the last event of each unit."""
        return np.append(self.units[1:], len(self.ids))[: len(self.units)].astype(np.int64)

    @property
    def owner(self) -> NDArray[np.int64]:
        """int64 `[u]`: the session of each unit."""
        return np.searchsorted(self.starts, self.units, "right") - 1

    @property
    def full(self) -> NDArray[np.bool_]:
        """Of blocks those of 100 events, of sessions all: bool `[u]`."""
        return np.asarray((self.unit_stops - self.units == BLOCK_LINES) | (not self.endless), np.bool_)

    def last_rest(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """One past the last rest of each unit (of a block: its end, if full), 0 = it never rested: int64 `[r]`."""
        stops = self.unit_stops[units]
        if self.endless:
            return np.where(self.full[units], stops, 0)
        rests = np.append(-1, np.flatnonzero(self.rests))
        last = rests[np.searchsorted(rests, stops, "left") - 1] + 1
        result: NDArray[np.int64] = np.where(last > self.units[units], last, 0)
        return result

    def less(self, gone: NDArray[np.bool_]) -> Sessions:
        """The sessions without some of their units (bool `[u]`); what is left of an endless one is joined."""
        lengths = self.unit_stops - self.units
        kept = np.repeat(~gone, lengths)
        size = np.bincount(self.owner, np.where(gone, 0, lengths), len(self)).astype(np.int64)
        stay = size > 0
        return spread(
            self,
            self.ids[kept],
            size[stay],
            weight=self.weight[stay],
            censored=self.censored[stay],
            rests=self.rests[kept],
            times=self.times[kept] if len(self.times) else self.times,
            keys=[key for key, stays in zip(self.keys, stay.tolist(), strict=True) if stays] if self.keys else [],
        )

    def rows(self, keep: NDArray[np.bool_]) -> Sessions:
        """Some of the sessions: bool `[s]`."""
        lengths = self.stops - self.starts
        events = np.repeat(keep, lengths)
        return spread(
            self,
            self.ids[events],
            lengths[keep],
            weight=self.weight[keep],
            censored=self.censored[keep],
            rests=self.rests[events],
            times=self.times[events] if len(self.times) else self.times,
            keys=[key for key, kept in zip(self.keys, keep.tolist(), strict=True) if kept] if self.keys else [],
        )


def spread(like: Sessions, ids: NDArray[np.int32], lengths: NDArray[np.int64], **columns: object) -> Sessions:
    """Sessions of these lengths one after another in `ids`, all else as in `like` or in `columns`."""
    starts = np.cumsum(lengths) - lengths
    units = _blocks(lengths) if like.endless else starts
    return replace(like, ids=ids, starts=starts, units=units, **columns)  # type: ignore[arg-type]


def of_lines(lines: Lines, vocabulary: int, key: KeyRule, *, idle_s: float) -> Sessions:
    """`sessions` of what `reading.read` gave; hosts are never joined."""
    return sessions(
        lines.ids,
        lines.keys,
        lines.times,
        vocabulary=vocabulary,
        source=lines.host,
        endless=key.endless,
        idle_s=idle_s,
    )


def sessions(
    types: NDArray[np.int32],
    keys: Sequence[bytes] | None,
    times: NDArray[np.float64],
    *,
    vocabulary: int,
    source: NDArray[np.int32] | None = None,
    endless: bool = False,
    idle_s: float = 0.0,
) -> Sessions:
    """Sessions of typed lines, as the agent would have made them.

    Args:
        types: int32 `[n]` model ids in the order read (UNKNOWN where no pattern matched).
        keys: `[n]`, b"" = the line has none and belongs to no session; None: the stream has no key.
        times: float64 `[n]` epoch seconds, NaN = no stamp; stamps that fall are raised to the newest before them.
        vocabulary: V.
        source: int32 `[n]`, the file of each line: sessions are never joined across files. None: one file.
        endless: the key never ends (host, program, pid); without a key it is so anyway.
        idle_s: instead of 2 x the 99.9 % gap (24 h where the log ends sooner than that after most sessions).

    Returns:
        Sessions in the order of their first event.
    """
    source = np.zeros(len(types), np.int32) if source is None else source
    codes, names = _codes(keys, source)
    endless = endless or keys is None
    kept = np.flatnonzero(codes >= 0)
    if not len(kept):
        none = np.zeros(0, np.int64)
        return Sessions(types[:0], none, none, none > 0, none > 0, times[:0], [], none, endless)
    clock, last = _clock(times, source)
    order = kept[np.argsort(codes[kept], kind="stable")]
    code, time, ids = codes[order], clock[order], types[order]
    first = np.append(True, code[1:] != code[:-1])
    gaps = np.append(np.diff(time), 0.0)[np.append(~first[1:], False)]
    timed = bool(np.isfinite(time).all()) and float(time.max() - time.min()) > 0
    idle = idle_s or _idle(gaps if timed else gaps[:0])
    span = max(float(np.ptp(clock[source == s])) for s in np.unique(source)) if timed else 0.0
    ends = np.zeros(vocabulary, np.bool_)
    horizon = last[source[order]]
    if not idle_s and np.mean(time[np.append(first[1:], True)] + idle >= horizon[np.append(first[1:], True)]) > 0.5:
        idle = IDLE_S_MAX  # most ends are out of sight: the log is too short to show how long its gaps can be
    if not endless:
        first[1:] |= np.diff(time) > idle
        ends = _end_types(ids, first, time + idle <= horizon, vocabulary)
        first[1:] |= ends[ids[:-1]]
    rest = min(idle, REST_SHARE * span) if timed else idle
    starts = np.flatnonzero(first)
    earliest = np.argsort(order[starts], kind="stable")
    lengths = np.diff(np.append(starts, len(ids)))
    stops = starts + lengths - 1
    silence = np.append(np.diff(time), np.inf)
    silence[stops] = horizon[stops] - time[stops]
    censored = (silence[stops] < idle) & ~ends[ids[stops]] if timed else np.zeros(len(starts), np.bool_)
    rests = silence >= rest if timed else np.isin(np.arange(len(ids)), stops)
    rests[stops] |= ends[ids[stops]]
    event = np.concatenate([np.arange(a, a + n) for a, n in zip(starts[earliest], lengths[earliest], strict=True)])
    lengths = lengths[earliest]
    new = np.cumsum(lengths) - lengths
    return Sessions(
        ids=ids[event],
        starts=new,
        weight=np.ones(len(new), np.int64),
        censored=np.ones(len(new), np.bool_) if endless else censored[earliest],
        rests=np.zeros(len(ids), np.bool_) if endless else rests[event],
        times=time[event],
        keys=[names[i] for i in code[starts[earliest]].tolist()],
        units=_blocks(lengths) if endless else new,
        endless=endless,
        idle_s=idle,
        rest_s=rest,
        ends=ends,
        span_s=span,
    )


def plain(rows: Sequence[NDArray[np.int32]], weight: Sequence[int] | None = None) -> Sessions:
    """Whole sessions of model ids without time: the end of a row is the end of its session."""
    lengths = np.array([len(row) for row in rows], np.int64)
    starts = np.cumsum(lengths) - lengths
    rests = np.zeros(int(lengths.sum()), np.bool_)
    rests[starts + lengths - 1] = True
    times = np.ones(len(rows), np.int64) if weight is None else np.asarray(weight, np.int64)
    ids = np.concatenate([np.zeros(0, np.int32), *rows]).astype(np.int32)
    return Sessions(ids, starts, times, np.zeros(len(rows), np.bool_), rests, np.zeros(0), [], starts)


def read_sequences(path: str) -> tuple[Sessions, list[str]]:
    """`--sequences FILE`: sessions of model ids, and the text of each id from FIRST on, most frequent first.

    Raises:
        ConfigError: no such file, nothing in it, or a line of another form, named by its number.
    """
    rows, weights = files.read(path)
    support: dict[str, int] = {}
    for row, weight in zip(rows, weights, strict=True):
        for name in row:
            support[name] = support.get(name, 0) + weight
    names = sorted(support, key=lambda name: (-support[name], int(name)))
    number = {name: i for i, name in enumerate(names, FIRST)}
    return plain([np.array([number[name] for name in row], np.int32) for row in rows], weights), names


def renamed(rows: Sequence[Sequence[str]], names: Sequence[str]) -> list[NDArray[np.int32]]:
    """Rows of id texts as model ids; texts that are not among `names` become UNKNOWN."""
    number = {name: i for i, name in enumerate(names, FIRST)}
    return [np.array([number.get(name, UNKNOWN) for name in row], np.int32) for row in rows]


def _codes(keys: Sequence[bytes] | None, source: NDArray[np.int32]) -> tuple[NDArray[np.int64], list[bytes]]:
    """The session key of each line as a number, -1 = none; and the key of each number."""
    table: dict[tuple[int, bytes], int] = {}
    if keys is None:
        found, codes = np.unique(source, return_inverse=True)
        return codes.astype(np.int64), [b"%d" % s for s in found.tolist()]
    numbers = [
        table.setdefault((s, key), len(table)) if key else -1 for s, key in zip(source.tolist(), keys, strict=True)
    ]
    return np.array(numbers, np.int64), [key for _, key in table]


def _clock(times: NDArray[np.float64], source: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Event time at each line, never falling within a source; and the last of each source by number."""
    clock = times.astype(np.float64)
    last = np.full(int(source.max()) + 1, np.nan)
    for s in np.unique(source):
        rows = source == s
        clock[rows] = np.fmax.accumulate(clock[rows])
        known = clock[rows][np.isfinite(clock[rows])]
        if len(known):
            clock[rows] = np.where(np.isfinite(clock[rows]), clock[rows], known[0])
            last[s] = known[-1]
    return clock, last


def _idle(gaps: NDArray[np.float64]) -> float:
    """2 x the 99.9 % gap within a key, within bounds."""
    if not len(gaps):
        return IDLE_S_MAX
    return float(np.clip(2 * np.quantile(gaps, GAP_QUANTILE), IDLE_S_MIN, IDLE_S_MAX))


def _end_types(
    ids: NDArray[np.int32], first: NDArray[np.bool_], seen: NDArray[np.bool_], vocabulary: int
) -> NDArray[np.bool_]:
    """Bool `[V]`: types whose events are the last of their session in 99 % of all cases (where that can be known)."""
    last = np.append(first[1:], True)
    final = np.bincount(ids[last & seen], minlength=vocabulary)
    inner = np.bincount(ids[~last], minlength=vocabulary)
    ends = (final >= END_SESSIONS_MIN) & (final >= END_SHARE * (final + inner))
    ends[: max(END, UNKNOWN) + 1] = False
    return ends


def _blocks(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each block of 100 events begins in endless sessions of these lengths."""
    starts = np.cumsum(lengths) - lengths
    parts = [np.arange(a, a + n, BLOCK_LINES) for a, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)
