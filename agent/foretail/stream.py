"""One stream: lines in, records out. Knows the order of type, window, surprise, verdict, incident (DESIGN §2).

Owned by one thread; touches no file, clock or socket. Everything that changes its state passes through `judge`, as
columns that the journal can hold: a restart replays the same columns through the same code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from foretail.beside import UNCALIBRATED, Beside, NoModel
from foretail.columns import Columns, columns_of
from foretail.counts import Counts
from foretail.errors import ConfigError
from foretail.explain import Explainer, Seen
from foretail.incidents import Incidents
from foretail.incidents import Rules as FoldRules
from foretail.model import SequenceModel
from foretail.patterns import Matcher
from foretail.schema import END, FIRST, UNKNOWN
from foretail.sessions import Sessions
from foretail.slots import Rules
from foretail.surprise import Scores, Surprise
from foretail.tally import Readings
from foretail.telling import Options, Teller, Totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.lines import Batch
    from foretail.slots import Step
    from foretail.units import Units
    from foretail.verdicts import IntervalVerdict, SessionVerdict

QUANTUM = 256
"""Surprise is counted in 1/256 nat, so that sums do not depend on how input was cut."""
QUANTUM_BITS = 1 / (QUANTUM * math.log(2))
SOURCES_MAX = 1024
"""Sources remembered by number, beyond those in which live sessions began."""


class Stream:
    """A bundle at work on one stream of lines."""

    def __init__(self, bundle: Bundle, options: Options) -> None:
        manifest, sequence = bundle.manifest, bundle.manifest.sequence
        if sequence is None and manifest.volume is None and manifest.lines is None:
            raise ConfigError(f"bundle {bundle.path} has no detector of lines; fit it on a log without --types-only")
        vocabulary = FIRST + len(bundle.patterns)
        self.bundle, self.options, self.totals = bundle, options, Totals()
        self.matcher = Matcher(bundle.patterns, manifest.format, manifest.key, options.match)
        self.model: SequenceModel | NoModel = NoModel(vocabulary)
        self._modelled = sequence is not None
        if sequence is not None:
            self.model = SequenceModel(
                bundle.files["sequence.b1.tflite"],
                bundle.files["sequence.b64.tflite"],
                window=sequence.window,
                vocabulary=sequence.vocabulary,
                memo_entries=options.windows_max,
            )
        counts = Counts.read(bundle) if self._modelled else Counts.empty(vocabulary)
        self.surprise = Surprise(manifest.calibration or UNCALIBRATED, counts)
        self.beside = Beside(bundle, stream=options.name, machine=options.machine, message=self.matcher.message)
        self._keyed = manifest.key.kind != "none"
        self._endless = manifest.key.endless or not self._keyed
        special = [False] * FIRST
        self._rare = np.array(special + [pattern.rare for pattern in bundle.patterns])
        ends = np.array(special + [pattern.end and not self._endless for pattern in bundle.patterns])
        self.sessions = Sessions(
            Rules(
                window=self.model.window,
                vocabulary=vocabulary,
                idle_s=options.idle_s or manifest.idle_s,
                ends=ends,
                endless=self._endless,
                keys_max=options.sessions_max,
            )
        )
        fold = Incidents(
            FoldRules(
                cooldown_s=options.cooldown_s,
                cap_per_hour=options.cap_per_hour,
                window=self.model.window,
                unseen_rate=manifest.training.unseen_rate,
                mix=manifest.mix,
                mutes=options.mutes,
            )
        )
        self._explainer = Explainer(
            bundle,
            self.model,
            self.surprise,
            message=self.matcher.message,
            stream=options.name,
            machine=options.machine,
            keyed=self._keyed,
            endless=self._endless,
            beside=self.beside,
        )
        self.teller = Teller(
            options,
            self._explainer,
            fold,
            threshold=self.surprise.threshold,
            label=bundle.label,
            endless=self._endless,
            beside=self.beside,
        )
        self._sources: dict[int, tuple[str, str]] = {}
        self._sources_made = 0
        self._now = -math.inf
        self._moved: NDArray[np.int16] | None = None
        self._severed = False
        self._given_cut: list[Any] = self._cut()
        self._given_digest = bundle.digest

    @property
    def now(self) -> float:
        """Event time: the newest stamp read, epoch seconds; -inf before the first."""
        return self._now

    @property
    def waiting(self) -> bool:
        """Time that passes without lines matters: a session may end, an interval may close."""
        return len(self.sessions) > 0 or self.beside.counting

    # -- input ---------------------------------------------------------------------------------------------------

    def type(self, batch: Batch) -> Columns:
        """Lines of one source as columns; changes no state but the matcher's memo."""
        return columns_of(self.matcher, batch, keyed=self._keyed, now=self._now, beside=self.beside)

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
        self._tell(units, None, None, [], records, observed=observed)
        self.teller.close(math.inf, records)
        return records

    def sequences(self, rows: Sequence[Sequence[int]]) -> list[SessionVerdict]:
        """The verdicts of whole sessions given as model ids, in order; no time, no lines, no incidents."""
        if not self._modelled:
            raise ConfigError(f"bundle {self.bundle.path} has no sequence model; fit it without --types-only")
        ids = np.array([name for row in rows for name in row], np.int32)
        keys = [b"%d" % number for number, row in enumerate(rows) for _ in row]
        times = np.zeros(len(ids))
        sessions = Sessions(self.sessions.rules.without_ends())  # a row ends where it ends
        step = sessions.step(keys, ids, times, np.arange(len(ids)), source=self._number("", ""), whole=True)
        sessions.finish(step, *self._surprises(step), times)
        units = sessions.close_all(ended=True)
        scores = self._unit_scores(units)
        return [self._explainer.unit(units, row, scores, "", "") for row in range(len(units))]

    # -- state ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """All state as plain values for msgpack."""
        return {**self._beside_sessions(), "sessions": self.sessions.snapshot()}

    def _beside_sessions(self) -> dict[str, Any]:
        return {
            **self.numbering(),
            "incidents": self.teller.incidents.snapshot(),
            "sources": self._sources,
            "now": self._now,
            "totals": msgspec.to_builtins(self.teller.totals),
            "beside": self.beside.snapshot(),
        }

    def numbering(self) -> dict[str, Any]:
        """What gives typed columns a meaning: the bundle, its types by model id, how it cuts the log."""
        types = [pattern.type_id for pattern in self.bundle.patterns]
        return {"digest": self.bundle.digest, "types": types, "cut": self._cut()}

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave. Under another bundle histories carry over by type_id (DESIGN §7).

        Types that the new bundle lacks become unknown. Where it cuts the log into sessions in another way (key, header,
        window), all sessions are dropped and counted; new ones begin partial.
        """
        self._resume(state)
        if self._severed:
            self.teller.totals.sessions_dropped += len(state["sessions"]["keys"])
        else:
            self.sessions.restore(state["sessions"])
            self._translate()

    def take(self, other: Stream) -> None:
        """Go on from a copy of the state of another stream, as `restore` does from its snapshot but without one."""
        self._resume(other._beside_sessions())
        self.teller.observed.extend(other.teller.observed)
        if self._severed:
            self.teller.totals.sessions_dropped += len(other.sessions)
        else:
            self.sessions.take(other.sessions)
            self._translate()

    def _resume(self, state: Any) -> None:
        """All of a state but its sessions."""
        self._sources = {number: (source, path) for number, (source, path) in state["sources"].items()}
        self._sources_made = max(self._sources, default=-1) + 1
        self._now = state["now"]
        self.teller.totals = msgspec.convert(state["totals"], Totals)
        self.teller.incidents.restore(state["incidents"])
        self._read_as(state)
        if state["digest"] == self.bundle.digest:
            self.beside.restore(state.get("beside"))

    def follow(self, numbering: Any) -> None:
        """Columns that `carried` is given from here on were typed as `numbering` says."""
        if numbering["cut"] != self._given_cut:  # as it was when the agent went over to that bundle
            self.teller.totals.sessions_dropped += len(self.sessions)
            self.sessions.slots.forget(self.sessions.slots.all())
        if numbering["digest"] != self._given_digest:
            self.beside.forget()
        self._read_as(numbering)

    def _read_as(self, numbering: Any) -> None:
        """See `follow`; sessions are left as they are."""
        self._given_cut, self._given_digest = numbering["cut"], numbering["digest"]
        self._severed = numbering["cut"] != self._cut()
        self._moved = None
        if not self._severed and numbering["digest"] != self.bundle.digest:
            known = {pattern.type_id: model_id for model_id, pattern in enumerate(self.bundle.patterns, FIRST)}
            moved = [*range(FIRST), *(known.get(type_id, UNKNOWN) for type_id in numbering["types"])]
            self._moved = np.array(moved, np.int16)

    def _translate(self) -> None:
        """Histories in the numbers of this bundle."""
        if self._moved is not None:
            self.sessions.slots.translate(self._moved, FIRST + len(self.bundle.patterns))

    def carried(self, columns: Columns) -> Columns:
        """Columns that were typed by the bundle of the restored state, in the numbers of this one.

        Where this one cuts the log into sessions in another way only their time is left.
        """
        if self._severed:
            return Columns(now=float(np.frombuffer(columns.times)[-1]) if columns.ids else columns.now)
        if self._moved is None or not columns.ids:
            return columns
        ids = np.frombuffer(columns.ids, np.int16)  # numbers and log-odds that another bundle took are not of this one
        known = ids < len(self._moved)
        moved = np.where(known, self._moved[np.where(known, ids, UNKNOWN)], np.int16(UNKNOWN)).astype(np.int16)
        words = iter(columns.unseen)  # of a type that is gone nobody has kept them
        unseen = [next(words) if old == UNKNOWN else "0" * 16 for old in ids[moved == UNKNOWN].tolist()]
        return msgspec.structs.replace(columns, ids=moved.tobytes(), unseen=unseen, readings=Readings(), logits=b"")

    def _cut(self) -> list[Any]:
        """What decides which lines make a session and what is kept of it."""
        manifest, rules = self.bundle.manifest, self.sessions.rules
        return [msgspec.to_builtins(manifest.key), manifest.format.header, rules.window, rules.endless]

    # -- the one path --------------------------------------------------------------------------------------------

    def judge(self, columns: Columns, lines: Sequence[bytes] | None = None, *, observed: bool = False) -> list[bytes]:
        """Score typed lines, change the state, and give the records.

        Args:
            columns: what `type` or `advance` gave.
            lines: the lines themselves; None on a replay, whose records nobody sees.
            observed: observe mode: incidents carry `observed`, for `status` and not for sinks.
        """
        records: list[bytes] = []
        ours = self._given_digest == self.bundle.digest  # what another bundle typed no interval of this one counts
        if columns.now > self._now:
            self._now = columns.now
            intervals = self.beside.advance(self._now) if ours else []
            self._tell(self.sessions.end(self._now), None, None, intervals, records, observed=observed)
        if columns.ids:
            seen, units = self._score(columns, lines)
            intervals = self.beside.count(columns, seen) if ours else []
            self._tell(units, seen, columns, intervals, records, observed=observed)
            self.teller.count(seen, columns, records)
        self.teller.close(self._now, records)
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
        rows = np.flatnonzero(which >= 0) if self._modelled else np.zeros(0, np.intp)
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
        scores = (
            self.surprise.lines(bits, unknown=ids == UNKNOWN, rare=self._rare[ids])
            if self._modelled
            else Scores(np.zeros(n), {})
        )
        scores = self.beside.joined(scores, columns, self.surprise.threshold)
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
                columns.logits,
            ),
            units,
        )

    def _tell(
        self,
        units: Units,
        seen: Seen | None,
        columns: Columns | None,
        intervals: list[tuple[int, IntervalVerdict]],
        records: list[bytes],
        *,
        observed: bool,
    ) -> None:
        scores, origins = self._unit_scores(units), self._origins(units)
        self.teller.tell(units, scores, origins, seen, columns, intervals, records, observed=observed)

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
            total=units.total.astype(np.float64) * QUANTUM_BITS,
            top=units.top.astype(np.float64) * QUANTUM_BITS,
            novel=units.novel,
            end=end,
            counts=units.counts(self.model.vocabulary),
            ended=ended,
        )

    def _number(self, source: str, path: str) -> int:
        """The number of a source; its path is kept as it is now, and sources that no session began in are forgotten."""
        number = next((n for n, (name, _) in self._sources.items() if name == source), None)
        if number is None:
            if len(self._sources) > SOURCES_MAX:
                used = self.sessions.sources()
                self._sources = {n: origin for n, origin in self._sources.items() if n in used}
            number = self._sources_made
            self._sources_made += 1
        self._sources[number] = (source, path)
        return number

    def _origins(self, units: Units) -> list[tuple[str, str]]:
        return [self._sources.get(number, ("", "")) for number in units.source.tolist()]
