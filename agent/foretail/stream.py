"""One stream: lines in, records out. Knows the order of type, window, surprise, verdict, incident (DESIGN §2).

Owned by one thread; touches no file, clock or socket. Everything that changes its state passes through `judge`, as
columns that the journal can hold: a restart replays the same columns through the same code.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import deque
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from foretail import incidents, verdicts
from foretail.counts import Counts
from foretail.errors import ConfigError
from foretail.explain import Explainer, Seen
from foretail.model import SequenceModel
from foretail.patterns import Matcher, MatchLimits
from foretail.schema import END, FIRST, UNKNOWN
from foretail.sessions import Rules, Sessions
from foretail.surprise import Surprise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.lines import Batch
    from foretail.sessions import Step
    from foretail.surprise import Scores
    from foretail.units import Units
    from foretail.verdicts import LineVerdict, SessionVerdict

Emit = Literal["incidents", "anomalies", "lines", "sessions"]
WORD = re.compile(rb"[A-Za-z]{2,}")
QUANTUM = 256
"""Surprise is counted in 1/256 nat, so that sums do not depend on how input was cut."""
QUANTUM_BITS = 1 / (QUANTUM * math.log(2))
FUTURE_S = 86_400.0
"""A stamp further ahead of the host's clock than this is not believed."""
OBSERVED_MAX = 200
"""Incidents of observe mode that `status` can show."""


class Options(msgspec.Struct, frozen=True):
    """What a stream is told beside its bundle.

    Attributes:
        name: `stream` of its records.
        machine: id of the host, part of every verdict id.
        emit: which records leave.
        sessions_max: live sessions.
        windows_max: entries of the window memo.
        idle_s: instead of the bundle's; 0 = as in the bundle.
        match: limits of the matcher.
        cooldown_s, cap_per_hour, mutes: of the fold into incidents.
    """

    name: str
    machine: str = ""
    emit: Emit = "incidents"
    sessions_max: int = 100_000
    windows_max: int = 65_536
    idle_s: float = 0.0
    match: MatchLimits = MatchLimits()
    cooldown_s: float = 3600.0
    cap_per_hour: int = 20
    mutes: tuple[incidents.Mute, ...] = ()


class Columns(msgspec.Struct, frozen=True, array_like=True):
    """A typed batch of n lines: all that the state is a function of, as the journal holds it.

    Arrays are the bytes of their native values. The fields of an advance without lines are empty but for `now`.

    Attributes:
        source, path: of all lines; `whole`: read from byte 0.
        ids: int16 `[n]` model ids.
        keys: the distinct session keys; `which`: int32 `[n]` index into them, -1 = none.
        times: float64 `[r]`: event times, never falling; `runs`: int32 `[r]`: lines of each.
        offsets: int64 `[n]`.
        errors: `[n]` packed bits: error-level lines.
        unseen: the words of each line of unknown type, hashed: what it is folded by.
        size: bytes of the lines.
        now: event time of an advance without lines, seconds.
    """

    source: str = ""
    path: str = ""
    whole: bool = False
    ids: bytes = b""
    keys: list[bytes] = []
    which: bytes = b""
    times: bytes = b""
    runs: bytes = b""
    offsets: bytes = b""
    errors: bytes = b""
    unseen: list[str] = []
    size: int = 0
    now: float = -math.inf


class Totals(msgspec.Struct):
    """Counts since the stream began, for metrics and `status`."""

    lines: int = 0
    bytes: int = 0
    untyped: int = 0
    anomalous_lines: int = 0
    units: int = 0
    anomalous_units: int = 0
    incidents: int = 0
    observed: int = 0
    muted: int = 0
    drifts: int = 0
    by_detector: dict[str, int] = {}


class Stream:
    """A bundle at work on one stream of lines."""

    def __init__(self, bundle: Bundle, options: Options) -> None:
        manifest, sequence = bundle.manifest, bundle.manifest.sequence
        if sequence is None or manifest.calibration is None:
            raise ConfigError(f"bundle {bundle.path} has no sequence model; fit it without --types-only")
        self.bundle, self.options, self.totals = bundle, options, Totals()
        self.matcher = Matcher(bundle.patterns, manifest.format, manifest.key, options.match)
        self.model = SequenceModel(
            bundle.files["sequence.b1.tflite"],
            bundle.files["sequence.b64.tflite"],
            window=sequence.window,
            vocabulary=sequence.vocabulary,
            memo_entries=options.windows_max,
        )
        self.surprise = Surprise(manifest.calibration, Counts.read(bundle))
        self._keyed = manifest.key.kind != "none"
        self._endless = manifest.key.endless or not self._keyed
        special = [False] * FIRST
        self._rare = np.array(special + [pattern.rare for pattern in bundle.patterns])
        ends = np.array(special + [pattern.end and not self._endless for pattern in bundle.patterns])
        self.sessions = Sessions(
            Rules(
                window=sequence.window,
                vocabulary=sequence.vocabulary,
                idle_s=options.idle_s or manifest.idle_s,
                ends=ends,
                endless=self._endless,
                keys_max=options.sessions_max,
            )
        )
        self.incidents = incidents.Incidents(
            incidents.Rules(
                cooldown_s=options.cooldown_s,
                cap_per_hour=options.cap_per_hour,
                window=sequence.window,
                unseen_rate=manifest.training.unseen_rate,
                mix=manifest.mix,
                mutes=options.mutes,
            )
        )
        self._explainer = Explainer(
            bundle,
            self.model,
            self.surprise,
            stream=options.name,
            machine=options.machine,
            keyed=self._keyed,
            endless=self._endless,
        )
        self.observed: deque[bytes] = deque(maxlen=OBSERVED_MAX)
        self._sources: list[tuple[str, str]] = []
        self._now = -math.inf

    @property
    def now(self) -> float:
        """Event time: the newest stamp read, epoch seconds; -inf before the first."""
        return self._now

    # -- input ---------------------------------------------------------------------------------------------------

    def type(self, batch: Batch) -> Columns:
        """Lines of one source as columns; changes no state but the matcher's memo."""
        typed = self.matcher.match(batch.lines)
        n = len(batch.lines)
        if not n:
            return Columns()
        ids = np.where(typed.index < 0, UNKNOWN, typed.index + FIRST).astype(np.int16)
        times = np.where(typed.times > batch.arrived + FUTURE_S, np.nan, typed.times)
        if np.isnan(times[0]):
            times[0] = self._now if math.isfinite(self._now) else batch.arrived
        times = np.fmax.accumulate(np.fmax(times, self._now))
        changes = np.flatnonzero(np.diff(times, prepend=np.nan) != 0)
        keys = typed.keys if self._keyed and typed.keys is not None else None
        which, distinct = _distinct(keys) if keys is not None else (np.zeros(n, np.int32), [batch.source.id.encode()])
        return Columns(
            source=batch.source.id,
            path=batch.source.path,
            whole=batch.source.whole,
            ids=ids.tobytes(),
            keys=distinct,
            which=which.tobytes(),
            times=times[changes].tobytes(),
            runs=np.diff(changes, append=n).astype(np.int32).tobytes(),
            offsets=np.array(batch.offsets, np.int64).tobytes(),
            errors=np.packbits(typed.errors).tobytes(),
            unseen=[_words(batch.lines[row]) for row in np.flatnonzero(ids == UNKNOWN).tolist()],
            size=batch.end - batch.offsets[0],
        )

    def feed(self, batch: Batch, *, observed: bool = False) -> list[bytes]:
        """Type and judge a batch: the records it gives, in order."""
        return self.judge(self.type(batch), batch.lines, observed=observed)

    def advance(self, now: float) -> Columns:
        """The host's clock advances a silent stream to event time `now`."""
        return Columns(now=now)

    def finish(self, *, ended: bool, observed: bool = False) -> list[bytes]:
        """The end of input: all sessions close; those that may go on are `open` unless `ended`."""
        records: list[bytes] = []
        units = self.sessions.close_all(ended=ended)
        self._fold(units, None, None, records, observed=observed)
        self._close_incidents(math.inf, records)
        return records

    def sequences(self, rows: Sequence[Sequence[int]]) -> list[SessionVerdict]:
        """The verdicts of whole sessions given as model ids, in order; no time, no lines, no incidents."""
        ids = np.array([name for row in rows for name in row], np.int32)
        keys = [b"%d" % number for number, row in enumerate(rows) for _ in row]
        times = np.zeros(len(ids))
        step = self.sessions.step(keys, ids, times, np.arange(len(ids)), source=self._number("", ""), whole=True)
        self.sessions.finish(step, *self._surprises(step), times)
        units = self.sessions.close_all(ended=True)
        scores = self._unit_scores(units)
        return [self._explainer.unit(units, row, scores, "", "") for row in range(len(units))]

    # -- state ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """All state as plain values for msgpack."""
        return {
            "digest": self.bundle.digest,
            "types": [pattern.type_id for pattern in self.bundle.patterns],
            "sessions": self.sessions.snapshot(),
            "incidents": self.incidents.snapshot(),
            "sources": self._sources,
            "now": self._now,
            "totals": msgspec.to_builtins(self.totals),
        }

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave under the same bundle."""
        if state["digest"] != self.bundle.digest:
            raise ConfigError(f"the saved state is of another bundle than {self.bundle.path}; use `adopt`")
        self._sources = [(source, path) for source, path in state["sources"]]
        self._now = state["now"]
        self.totals = msgspec.convert(state["totals"], Totals)
        self.sessions.restore(state["sessions"])
        self.incidents.restore(state["incidents"])

    # -- the one path --------------------------------------------------------------------------------------------

    def judge(self, columns: Columns, lines: Sequence[bytes] | None = None, *, observed: bool = False) -> list[bytes]:
        """Score typed lines, change the state, and give the records.

        Args:
            columns: what `type` or `advance` gave.
            lines: the lines themselves; None on a replay, whose records nobody sees.
            observed: observe mode: incidents carry `observed`, for `status` and not for sinks.
        """
        records: list[bytes] = []
        if columns.now > self._now:
            self._now = columns.now
            units = self.sessions.end(self._now)
            self._fold(units, None, None, records, observed=observed)
        if columns.ids:
            seen, units = self._score(columns, lines)
            self._fold(units, seen, columns, records, observed=observed)
            self._count(seen, columns, records)
        self._close_incidents(self._now, records)
        return records

    def _score(self, columns: Columns, lines: Sequence[bytes] | None) -> tuple[Seen, Units]:
        """Give each line its window and its scores; the units that closed."""
        ids = np.frombuffer(columns.ids, np.int16).astype(np.int32)
        n = len(ids)
        times = np.repeat(np.frombuffer(columns.times), np.frombuffer(columns.runs, np.int32))
        which = np.frombuffer(columns.which, np.int32)
        offsets = np.frombuffer(columns.offsets, np.int64)
        keys = (
            columns.keys * n
            if len(columns.keys) == 1 and not which.any()
            else [columns.keys[k] if k >= 0 else b"" for k in which.tolist()]
        )
        rows = np.flatnonzero(which >= 0)
        bits, place = np.zeros(n), np.full(n, -1)
        source = self._number(columns.source, columns.path)
        if len(rows):
            kept = keys if len(rows) == n else [keys[row] for row in rows.tolist()]
            step = self.sessions.step(kept, ids[rows], times[rows], offsets[rows], source=source, whole=columns.whole)
            quanta, novel = self._surprises(step)
            arrival = rows[step.order]
            bits[arrival], place[arrival] = quanta * QUANTUM_BITS, np.arange(len(rows))
            units = self.sessions.finish(step, quanta, novel, times[rows])
            units.close_at[:] = np.interp(units.close_at, np.arange(len(rows)), rows, right=n)
            windows = step.windows
        else:
            units, windows = self.sessions.end(float(times[-1])), np.zeros((0, self.model.window), np.int32)
        self._now = float(times[-1])
        scores = self.surprise.lines(bits, unknown=ids == UNKNOWN, rare=self._rare[ids])
        errors = np.unpackbits(np.frombuffer(columns.errors, np.uint8), count=n).astype(np.bool_)
        flagged = scores.x >= self.surprise.threshold
        return (
            Seen(
                columns.source,
                columns.path,
                offsets,
                lines,
                ids,
                times,
                errors,
                keys,
                place,
                windows,
                bits,
                scores,
                flagged,
            ),
            units,
        )

    def _surprises(self, step: Step) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Surprise of each line in 1/256 nat, 0 where it cannot be judged; and whether its type is a novelty."""
        quanta = np.rint(self.model.surprise(step.windows, step.ids) * QUANTUM).astype(np.int64)
        quanta[~step.scored | (step.ids == UNKNOWN)] = 0
        return quanta, (step.ids == UNKNOWN) | self._rare[step.ids]

    def _unit_scores(self, units: Units) -> Scores:
        """Scores of closed units; the end is judged only where it was seen."""
        ended = units.whole & ~units.open & (not self._endless)
        end = np.zeros(len(units))
        rows = np.flatnonzero(ended)
        if len(rows):
            targets = np.full(len(rows), END, np.int32)
            end[rows] = np.rint(self.model.surprise(units.recent[rows], targets) * QUANTUM) * QUANTUM_BITS
        return self.surprise.units(
            n=units.n,
            total=units.total * QUANTUM_BITS,
            top=units.top * QUANTUM_BITS,
            novel=units.novel,
            end=end,
            counts=units.counts(self.model.vocabulary),
            ended=ended,
        )

    def _fold(
        self, units: Units, seen: Seen | None, columns: Columns | None, records: list[bytes], *, observed: bool
    ) -> None:
        """Lines and units in the order in which they came: verdicts, and incidents of the anomalous ones."""
        emit, scores = self.options.emit, self._unit_scores(units)
        flagged = scores.x >= self.surprise.threshold
        self.totals.units += len(units)
        self.totals.anomalous_units += int(flagged.sum())
        shown = np.arange(len(units)) if emit == "sessions" else np.flatnonzero(flagged)
        order = [(float(units.close_at[row]), row, False) for row in shown.tolist()]
        unseen: dict[int, str] = {}
        if seen is not None and columns is not None:
            unseen = dict(zip(np.flatnonzero(seen.ids == UNKNOWN).tolist(), columns.unseen, strict=True))
            speaking = range(len(seen.ids)) if emit == "lines" else np.flatnonzero(seen.flagged | (seen.ids == UNKNOWN))
            order += [(int(row) + 0.25, int(row), True) for row in speaking]
            order.sort()
        for _, row, is_line in order:
            if is_line and seen is not None:
                self._line(seen, row, unseen.get(row), records, observed=observed)
            else:
                self._unit(units, row, scores, records, observed=observed)
        if not self._endless:
            self.incidents.forget(key.decode("latin-1") for key in units.keys)

    def _line(self, seen: Seen, row: int, unseen: str | None, records: list[bytes], *, observed: bool) -> None:
        """One line that is anomalous, of unknown type, or wanted by `emit`."""
        emit, number = self.options.emit, self.incidents.lines + row
        if unseen is not None:
            self.incidents.unseen(number)
        flagged, verdict = bool(seen.flagged[row]), None
        if emit == "lines" or (emit == "anomalies" and flagged):
            verdict = self._explainer.line(seen, row)
            records.append(verdicts.encode(verdict))
        if not flagged:
            return
        model_id, place, key = int(seen.ids[row]), int(seen.place[row]), seen.keys[row]
        last = seen.windows[place][-3:].tolist() if place >= 0 else []
        reasons = seen.scores.reasons(row)
        cause = incidents.Cause(
            verdict=verdicts.line_id(self.options.machine, seen.source, int(seen.offsets[row])),
            fingerprint=self._fingerprint(reasons[0], model_id, last, unseen),
            key=key.decode("latin-1") if place >= 0 else seen.source,
            endless=self._endless or place < 0,
            time=float(seen.times[row]),
            line=number,
            type_id=self._explainer.type_id(model_id),
            unseen=unseen is not None and reasons[0] == "novelty",
            error=bool(seen.errors[row]),
        )
        self._raise(cause, lambda: verdict or self._explainer.line(seen, row), model_id, records, observed=observed)

    def _unit(self, units: Units, row: int, scores: Scores, records: list[bytes], *, observed: bool) -> None:
        """One session or block that is anomalous, or wanted by `emit`."""
        number = int(units.source[row])
        source, path = self._sources[number] if number < len(self._sources) else ("", "")
        verdict = self._explainer.unit(units, row, scores, source, path)
        if self.options.emit != "incidents":
            records.append(verdicts.encode(verdict))
        if not verdict.anomalous:
            return
        model_id = int(units.recent[row][-1])
        cause = incidents.Cause(
            verdict=verdict.id,
            fingerprint=self._fingerprint(verdict.reasons[0], model_id, units.recent[row][-4:-1].tolist(), None),
            key=units.keys[row].decode("latin-1"),
            endless=self._endless,
            time=float(units.last_time[row]),
            line=self.incidents.lines,
            type_id=self._explainer.type_id(model_id),
        )
        self._raise(cause, lambda: verdict, model_id, records, observed=observed)

    def _fingerprint(self, reason: str, model_id: int, last: Sequence[int], unseen: str | None) -> str:
        names = tuple(self._explainer.type_id(i) or str(i) for i in last)
        return verdicts.fingerprint(reason, unseen or self._explainer.type_id(model_id), () if unseen else names)

    def _raise(
        self,
        cause: incidents.Cause,
        verdict: Callable[[], LineVerdict | SessionVerdict],
        model_id: int,
        records: list[bytes],
        *,
        observed: bool,
    ) -> None:
        """Fold one cause; what it opens or reaches becomes a record."""
        outcome, suppressed = self.incidents.fold(cause)
        totals = self.totals
        if outcome == "muted":
            totals.muted += 1
        elif outcome == "suppressed" and self.incidents.suppressed == 1:
            cap = f"more than {self.options.cap_per_hour} incidents in an hour; further ones are counted only"
            self._notice("suppressing", cap, cause.time, records)
        elif outcome == "opened":
            totals.incidents += 1
            incident = self._explainer.incident(
                verdict(), cause.fingerprint, model_id, suppressed=suppressed, observed=observed
            )
            reason = incident.reasons[0]
            totals.by_detector[reason] = totals.by_detector.get(reason, 0) + 1
            record = verdicts.encode(incident)
            self.incidents.keep(cause.verdict, record)
            self._send(record, records, observed=observed)

    def _close_incidents(self, now: float, records: list[bytes]) -> None:
        for closed in self.incidents.close(now):
            incident = msgspec.json.decode(closed.record, type=verdicts.Incident)
            last = closed.last if math.isfinite(closed.last) else None
            incident = msgspec.structs.replace(
                incident, state="closed", count=closed.count, sessions=closed.keys, last_time=last
            )
            self._send(verdicts.encode(incident), records, observed=incident.observed)

    def _send(self, record: bytes, records: list[bytes], *, observed: bool) -> None:
        """An incident to the sinks, or, in observe mode, to `status` alone."""
        if observed:
            self.totals.observed += 1
            self.observed.append(record)
        elif self.options.emit == "incidents":
            records.append(record)

    def _notice(self, kind: str, summary: str, time: float, records: list[bytes]) -> None:
        label = self.bundle.label
        name = verdicts.line_id(self.options.machine, f"{self.options.name}/{kind}", int(time))
        notice = verdicts.Notice(name, self.options.name, label, round(time, 6), kind, summary)
        if self.options.emit == "incidents":
            records.append(verdicts.encode(notice))

    def _count(self, seen: Seen, columns: Columns, records: list[bytes]) -> None:
        """Totals and drift of a batch."""
        totals = self.totals
        totals.lines += len(seen.ids)
        totals.bytes += columns.size
        totals.untyped += len(columns.unseen)
        totals.anomalous_lines += int(seen.flagged.sum())
        ids, counts = np.unique(seen.ids, return_counts=True)
        if self.incidents.count(dict(zip(ids.tolist(), counts.tolist(), strict=True)), len(seen.ids)):
            totals.drifts += 1
            words = "the mix of message types is no longer that of the training data; retrain the bundle"
            self._notice("retrain", words, self._now, records)

    def _number(self, source: str, path: str) -> int:
        """The number of a source; its path is kept as it is now."""
        for number, (name, _) in enumerate(self._sources):
            if name == source:
                self._sources[number] = (source, path)
                return number
        self._sources.append((source, path))
        return len(self._sources) - 1


def _distinct(keys: Sequence[bytes]) -> tuple[NDArray[np.int32], list[bytes]]:
    """Keys as numbers: int32 `[n]` index into the distinct ones in order of arrival, -1 for b""."""
    table: dict[bytes, int] = {b"": -1}
    which = [table.setdefault(key, len(table) - 1) for key in keys]
    del table[b""]
    return np.array(which, np.int32), list(table)


def _words(line: bytes) -> str:
    """The words of a line of unknown type, without its values: 16 hex digits."""
    words = b" ".join(WORD.findall(line, 0, 2048)[:16])
    return hashlib.blake2b(words, digest_size=8).hexdigest()
