"""Judged lines and units as records: verdicts, and incidents of the anomalous ones, in the order in which they came."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from foretail import incidents, verdicts
from foretail.patterns import MatchLimits
from foretail.schema import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foretail.beside import Beside
    from foretail.columns import Columns
    from foretail.explain import Explainer, Seen
    from foretail.surprise import Scores
    from foretail.units import Units
    from foretail.verdicts import Incident, IntervalVerdict

Emit = Literal["incidents", "anomalies", "lines", "sessions"]
_INTERVAL, _UNIT, _LINE = range(3)
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
    windows_max: int = 32_768
    idle_s: float = 0.0
    match: MatchLimits = MatchLimits(entries=50_000, bytes=4 << 20)
    cooldown_s: float = 3600.0
    cap_per_hour: int = 20
    mutes: tuple[incidents.Mute, ...] = ()


class Totals(msgspec.Struct):
    """Counts since the stream began, for metrics and `status`."""

    lines: int = 0
    bytes: int = 0
    untyped: int = 0
    anomalous_lines: int = 0
    units: int = 0
    anomalous_units: int = 0
    anomalous_intervals: int = 0
    incidents: int = 0
    observed: int = 0
    muted: int = 0
    drifts: int = 0
    sessions_dropped: int = 0
    by_detector: dict[str, int] = {}
    verdicts: dict[str, int] = {}

    def verdict(self, detector: str) -> None:
        """Count an anomalous verdict by the detector that weighed most."""
        self.verdicts[detector] = self.verdicts.get(detector, 0) + 1


class Teller:
    """Makes the records of one stream, and owns its fold into incidents.

    Args:
        options: of the stream.
        explainer: words and numbers of its verdicts.
        fold: of its incidents.
        threshold: bits from which on a score is anomalous.
        label: of the bundle.
        endless: units are blocks of endless sessions.
        beside: words of intervals.
    """

    def __init__(
        self,
        options: Options,
        explainer: Explainer,
        fold: incidents.Incidents,
        *,
        threshold: float,
        label: str,
        endless: bool,
        beside: Beside,
    ) -> None:
        self.totals = Totals()
        self.incidents = fold
        self.observed: deque[bytes] = deque(maxlen=OBSERVED_MAX)
        self._options, self._explainer, self._beside = options, explainer, beside
        self._threshold, self._label, self._endless = threshold, label, endless

    def tell(
        self,
        units: Units,
        scores: Scores,
        origins: Sequence[tuple[str, str]],
        seen: Seen | None,
        columns: Columns | None,
        intervals: Sequence[tuple[int, IntervalVerdict]],
        records: list[bytes],
        *,
        observed: bool,
    ) -> None:
        """Add the records of a batch, or of units that closed without one.

        Args:
            units: that closed.
            scores: of the units.
            origins: source id and path of each unit.
            seen: the judged lines, or None.
            columns: the lines came from, or None.
            intervals: that closed, each with the row of the line that closed it.
            records: to which is added.
            observed: observe mode: incidents carry `observed`, for `status` and not for sinks.
        """
        emit = self._options.emit
        flagged = scores.x >= self._threshold
        self.totals.units += len(units)
        self.totals.anomalous_units += int(flagged.sum())
        shown = np.arange(len(units)) if emit == "sessions" else np.flatnonzero(flagged)
        order = [(float(row), _INTERVAL, number) for number, (row, _) in enumerate(intervals)]
        order += [(float(units.close_at[row]), _UNIT, row) for row in shown.tolist()]
        now = seen.times if seen is not None else np.full(1, units.last_time.max(initial=-math.inf))
        unseen: dict[int, str] = {}
        if seen is not None and columns is not None:
            unseen = dict(zip(np.flatnonzero(seen.ids == UNKNOWN).tolist(), columns.unseen, strict=True))
            speaking = range(len(seen.ids)) if emit == "lines" else np.flatnonzero(seen.flagged | (seen.ids == UNKNOWN))
            order += [(int(row) + 0.25, _LINE, int(row)) for row in speaking]
        order.sort()
        for at, kind, row in order:
            self.close(float(now[min(int(at), len(now) - 1)]), records)  # whatever the reads, in event time
            if kind == _INTERVAL:
                self._interval(intervals[row][1], records, observed=observed)
            elif kind == _LINE and seen is not None:
                self._line(seen, row, unseen.get(row), records, observed=observed)
            else:
                self._unit(units, row, scores, origins[row], records, observed=observed)
        if not self._endless:
            self.incidents.forget(key.decode("latin-1") for key in units.keys)

    def _line(self, seen: Seen, row: int, unseen: str | None, records: list[bytes], *, observed: bool) -> None:
        """One line that is anomalous, of unknown type, or wanted by `emit`."""
        emit, number = self._options.emit, self.incidents.lines + row
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
        self.totals.verdict(reasons[0])
        cause = incidents.Cause(
            verdict=verdicts.line_id(self._options.machine, seen.source, int(seen.offsets[row])),
            fingerprint=self._fingerprint(reasons[0], model_id, last, unseen),
            key=key.decode("latin-1") if place >= 0 else seen.source,
            endless=self._endless or place < 0,
            time=float(seen.times[row]),
            line=number,
            type_id=self._explainer.type_id(model_id),
            unseen=unseen is not None and reasons[0] == "novelty",
            error=bool(seen.errors[row]),
        )
        self._raise(
            cause,
            lambda held: self._explainer.incident(
                verdict or self._explainer.line(seen, row),
                cause.fingerprint,
                model_id,
                suppressed=held,
                observed=observed,
            ),
            records,
            observed=observed,
        )

    def _unit(
        self,
        units: Units,
        row: int,
        scores: Scores,
        origin: tuple[str, str],
        records: list[bytes],
        *,
        observed: bool,
    ) -> None:
        """One session or block that is anomalous, or wanted by `emit`."""
        verdict = self._explainer.unit(units, row, scores, *origin)
        if self._options.emit != "incidents":
            records.append(verdicts.encode(verdict))
        if not verdict.anomalous:
            return
        self.totals.verdict(verdict.reasons[0])
        model_id = int(units.recent[row][-1])
        cause = incidents.Cause(
            verdict=verdict.id,
            fingerprint=self._fingerprint(verdict.reasons[0], model_id, units.recent[row][-4:-1].tolist(), None),
            key=units.keys[row].decode("latin-1"),
            endless=self._endless,
            time=float(units.last_time[row]),
            line=self.incidents.lines,
            type_id=self._explainer.type_id(model_id),
            told=scores.told is not None and bool(scores.told[row]),
        )
        self._raise(
            cause,
            lambda held: self._explainer.incident(
                verdict, cause.fingerprint, model_id, suppressed=held, observed=observed
            ),
            records,
            observed=observed,
        )

    def _interval(self, verdict: IntervalVerdict, records: list[bytes], *, observed: bool) -> None:
        """One anomalous interval; those that follow the first of an incident join it, whatever moves most in them."""
        self.totals.anomalous_intervals += 1
        if self._options.emit in {"anomalies", "lines"}:
            records.append(verdicts.encode(verdict))
        fingerprint = verdict.fingerprint
        if not verdict.fresh:
            begun = self.incidents.lasting(f"{verdict.source}\0")
            if begun is None:
                return
            fingerprint = begun.fingerprint
        cause = incidents.Cause(
            verdict=verdict.id,
            fingerprint=fingerprint,
            key=f"{verdict.source}\0{fingerprint}",
            endless=True,
            time=verdict.time or 0.0,
            line=self.incidents.lines,
            type_id=verdict.type_id,
        )
        self._raise(
            cause,
            lambda held: self._beside.incident(verdict, suppressed=held, observed=observed),
            records,
            observed=observed,
        )

    def _fingerprint(self, reason: str, model_id: int, last: Sequence[int], unseen: str | None) -> str:
        names = tuple(self._explainer.type_id(i) or str(i) for i in last)
        return verdicts.fingerprint(reason, unseen or self._explainer.type_id(model_id), () if unseen else names)

    def _raise(
        self,
        cause: incidents.Cause,
        incident_of: Callable[[int], Incident],
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
            cap = f"more than {self._options.cap_per_hour} incidents in an hour; further ones are counted only"
            self._notice("suppressing", cap, cause.time, records)
        elif outcome == "opened":
            totals.incidents += 1
            incident = incident_of(suppressed)
            reason = incident.reasons[0]
            totals.by_detector[reason] = totals.by_detector.get(reason, 0) + 1
            record = verdicts.encode(incident)
            self.incidents.keep(cause.verdict, record)
            self._send(record, records, observed=observed)

    def close(self, now: float, records: list[bytes]) -> None:
        """Add the second records of incidents that ended by event time `now`."""
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
        elif self._options.emit == "incidents":
            records.append(record)

    def _notice(self, kind: str, summary: str, time: float, records: list[bytes]) -> None:
        name = verdicts.line_id(self._options.machine, f"{self._options.name}/{kind}", int(time))
        notice = verdicts.Notice(name, self._options.name, self._label, round(time, 6), kind, summary)
        if self._options.emit == "incidents":
            records.append(verdicts.encode(notice))

    def count(self, seen: Seen, columns: Columns, records: list[bytes]) -> None:
        """Take a batch into the totals; a drifting log is said once."""
        totals = self.totals
        totals.lines += len(seen.ids)
        totals.bytes += columns.size
        totals.untyped += len(columns.unseen)
        totals.anomalous_lines += int(seen.flagged.sum())
        ids, counts = np.unique(seen.ids, return_counts=True)
        if self.incidents.count(dict(zip(ids.tolist(), counts.tolist(), strict=True)), len(seen.ids)):
            totals.drifts += 1
            words = "the mix of message types is no longer that of the training data; retrain the bundle"
            self._notice("retrain", words, float(seen.times[-1]), records)
