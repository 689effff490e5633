"""A fold of verdicts into what people are told: one incident a cause (DESIGN §6).

Pure and in event time: mutes, the rate cap, observe mode and drift act here and never change a verdict.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

UNSEEN_LINES = 1000
"""The rate of unseen types is judged over this many lines."""
UNSEEN_P = 0.05
"""... and raised when it would come this rarely at the rate of the training data (Good 1953)."""
DRIFT_LINES = 10_000
DRIFT_BLOCKS = 3
DRIFT_DISTANCE = 0.5
"""Total variation between the type mix of a block and of the training data that counts as drift."""

STORM_S = 10.0
"""First sights come together (a start under a new version): those of one key so soon after the first are its incident.

An endless key is a program where the header names one, else a log."""
KEYS_MAX = 100
"""Keys counted for one incident."""
RAISED_MAX = 10_000
"""Live sessions known to have been raised."""

Outcome = Literal["opened", "folded", "muted", "suppressed", "expected"]


class Mute(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verdicts of one type that people do not want to hear of.

    Attributes:
        type_id: of the type.
        reason: why, for the next reader.
        expires: epoch seconds of event time; 0 = never.
    """

    type_id: str
    reason: str
    expires: float = 0.0


class Rules(msgspec.Struct, frozen=True):
    """Limits of the fold.

    Attributes:
        cooldown_s: a cause that returns within this is the same incident.
        cap_per_hour: incidents opened in one hour of event time; beyond it they are counted only.
        window: C, events after an anomaly that still belong to it.
        unseen_rate: unseen types a line in the training data.
        mix: share of each model id in the training data.
        mutes: by type_id.
    """

    cooldown_s: float = 3600.0
    cap_per_hour: int = 20
    window: int = 10
    unseen_rate: float = 0.0
    mix: tuple[float, ...] = ()
    mutes: tuple[Mute, ...] = ()


class Cause(msgspec.Struct, frozen=True):
    """An anomalous verdict, as the fold sees it.

    Attributes:
        verdict: its id.
        fingerprint: of its cause.
        key: session key, or the source of a line without one.
        endless: the key never ends: only what comes within C lines is the same cause, and unseen types within STORM_S.
        time: event time, seconds.
        line: number of the line in the stream.
        type_id: None = unknown type.
        unseen: its first reason is that no pattern matched.
        error: the line is error-level.
        told: of a session or block: a line of it was a cause before, and there is nothing more to it.
    """

    verdict: str
    fingerprint: str
    key: str
    endless: bool
    time: float
    line: int
    type_id: str | None
    unseen: bool = False
    error: bool = False
    told: bool = False


class Open(msgspec.Struct):
    """An incident that can still take verdicts in; `unseen`: it began with an unseen type."""

    id: str
    fingerprint: str
    opened: float
    last: float
    line: int
    count: int = 1
    keys: list[str] = []
    record: bytes = b""
    unseen: bool = False


class Closed(msgspec.Struct, frozen=True):
    """An incident that no verdict has joined for `cooldown_s`."""

    record: bytes
    count: int
    keys: int
    last: float


class State(msgspec.Struct):
    """All that the fold remembers, for the journal."""

    open: dict[str, Open] = {}
    by_key: dict[str, str] = {}
    openings: list[float] = []
    suppressed: int = 0
    suppressed_total: int = 0
    lines: int = 0
    unseen_at: list[int] = []
    block: dict[int, int] = {}
    block_lines: int = 0
    drifting: int = 0
    noticed: bool = False


class Incidents:
    """The fold of one stream."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._mutes = {mute.type_id: mute for mute in rules.mutes}
        self._state = State()
        self._unseen: deque[int] = deque()

    @property
    def lines(self) -> int:
        """Lines folded so far: the number of the next one."""
        return self._state.lines

    @property
    def suppressed(self) -> int:
        """Incidents held back since the last that opened."""
        return self._state.suppressed

    @property
    def suppressed_total(self) -> int:
        """Incidents that the rate cap held back."""
        return self._state.suppressed_total

    def unseen(self, line: int) -> None:
        """A line of unknown type came, as line number `line` of the stream."""
        self._unseen.append(line)
        while self._unseen and self._unseen[0] <= line - UNSEEN_LINES:
            self._unseen.popleft()

    def lasting(self, prefix: str) -> Open | None:
        """Of the open incidents with a key that begins so, the one that something joined last."""
        held = [one for one in self._state.open.values() if any(key.startswith(prefix) for key in one.keys)]
        return max(held, key=lambda one: one.last, default=None)

    def fold(self, cause: Cause) -> tuple[Outcome, int]:
        """Take one anomalous verdict in: what became of it, and how many were suppressed before (when `opened`)."""
        state = self._state
        mute = self._mutes.get(cause.type_id or "")
        if mute is not None and (not mute.expires or cause.time < mute.expires):
            return "muted", 0
        if not cause.endless and state.by_key.get(cause.key, cause.verdict) not in state.open.keys() | {cause.verdict}:
            return "folded", 0  # this session was raised before, and the incident has closed since
        known = self._same(cause)
        if known is not None:
            known.count += 1
            known.last = max(known.last, cause.time)
            known.line = cause.line
            if cause.key not in known.keys and len(known.keys) < KEYS_MAX:
                known.keys.append(cause.key)
            state.by_key[cause.key] = known.id
            return "folded", 0
        if cause.told or (cause.unseen and not cause.error and not self._too_many_unseen()):
            return "expected", 0
        state.openings = [time for time in state.openings if cause.time - time < 3600.0]
        if len(state.openings) >= self.rules.cap_per_hour:
            state.suppressed += 1
            state.suppressed_total += 1
            return "suppressed", 0
        state.openings.append(cause.time)
        state.open[cause.verdict] = Open(
            cause.verdict,
            cause.fingerprint,
            cause.time,
            cause.time,
            cause.line,
            keys=[cause.key],
            unseen=cause.unseen,
        )
        state.by_key[cause.key] = cause.verdict
        suppressed, state.suppressed = state.suppressed, 0
        return "opened", suppressed

    def keep(self, incident: str, record: bytes) -> None:
        """Remember the record of an open incident for its closing."""
        if incident in self._state.open:
            self._state.open[incident].record = record

    def close(self, now: float) -> list[Closed]:
        """Incidents that ended by event time `now` and that more than one verdict joined."""
        state, ended = self._state, []
        for incident in [open_ for open_ in state.open.values() if now - open_.last > self.rules.cooldown_s]:
            del state.open[incident.id]
            if incident.count > 1:
                ended.append(Closed(incident.record, incident.count, len(incident.keys), incident.last))
        if len(state.by_key) > RAISED_MAX:
            state.by_key = {key: name for key, name in state.by_key.items() if name in state.open}
        return ended

    def count(self, ids: dict[int, int], lines: int) -> bool:
        """Take the types of a batch in; True when the log has drifted from the training data, said once.

        Args:
            ids: model id to lines of the batch.
            lines: of the batch.
        """
        state = self._state
        state.lines += lines
        for name, n in ids.items():
            state.block[name] = state.block.get(name, 0) + n
        state.block_lines += lines
        if state.block_lines < DRIFT_LINES:
            return False
        total, mix = state.block_lines, self.rules.mix
        distance = sum(abs(state.block.get(i, 0) / total - share) for i, share in enumerate(mix)) / 2
        state.block, state.block_lines = {}, 0
        state.drifting = state.drifting + 1 if mix and distance > DRIFT_DISTANCE else 0
        if state.drifting < DRIFT_BLOCKS or state.noticed:
            return False
        state.noticed = True
        return True

    def forget(self, keys: Iterable[str]) -> None:
        """These sessions ended: later verdicts of their keys are other causes."""
        if self._state.by_key:
            for key in keys:
                self._state.by_key.pop(key, None)

    def snapshot(self) -> Any:
        """The state as plain values for msgpack."""
        self._state.unseen_at = list(self._unseen)
        return msgspec.to_builtins(self._state, builtin_types=(bytes,))

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave."""
        self._state = msgspec.convert(state, State, str_keys=True, builtin_types=(bytes,))
        self._unseen = deque(self._state.unseen_at)

    def _same(self, cause: Cause) -> Open | None:
        """The open incident that this verdict belongs to."""
        state = self._state
        known = state.open.get(state.by_key.get(cause.key, ""))
        if known is not None and (not cause.endless or cause.line - known.line <= self.rules.window):
            return known
        sight = cause.endless and cause.unseen and not cause.error
        for open_ in state.open.values():
            storm = open_.unseen and open_.keys[0] == cause.key and cause.time - open_.opened <= STORM_S
            if sight and storm:
                return open_
            if open_.fingerprint == cause.fingerprint and cause.time - open_.last <= self.rules.cooldown_s:
                return open_
        return None

    def _too_many_unseen(self) -> bool:
        """P(at least as many unseen lines among the last UNSEEN_LINES | training rate) < UNSEEN_P."""
        expected = self.rules.unseen_rate * UNSEEN_LINES
        term = below = math.exp(-expected)
        for k in range(1, len(self._unseen)):
            term *= expected / k
            below += term
        return 1.0 - below < UNSEEN_P
