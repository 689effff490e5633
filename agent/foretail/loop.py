"""The one place that knows the order: read, type, journal, judge, deliver, acknowledge; owns all mutable state.

A batch is journalled before it is judged and sent, and counts as done when every sink has acknowledged it; a restart
goes on from the last batch that was done, with the state of exactly that moment (DESIGN §2).
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from foretail.errors import StreamError
from foretail.figures import gauges, of_process
from foretail.state import CHUNKS_MAX, SNAPSHOT_SCHEMA, Entry, Note, Snapshot
from foretail.telemetry import log, metrics, notify_watchdog, watchdog_s
from foretail.wake import Flow
from foretail.watch import Watch

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping, Sequence

    from foretail.delivery import Outlet
    from foretail.journal import Journal
    from foretail.lines import Batch
    from foretail.observe import Observing
    from foretail.shadow import Recent
    from foretail.sources import Inlet
    from foretail.stream import Stream
    from foretail.swap import Swap
    from foretail.wake import Waker

ADVANCE_S = 1.0, 60.0
"""A silent stream's event time is advanced this often: a tenth of idle_s within these bounds."""
PUBLISH_S = 1.0
RETRY_S = 1.0
"""Pause after the journal refused a record."""
COMPLAIN_S = 60.0

Reason = Literal["stop", "reload", "ended"]


class _Sent(NamedTuple):
    """A batch under way to the sinks."""

    sequence: int
    inlet: Inlet | None
    ticket: int


class Loop:
    """Runs streams until it is told to stop.

    Args:
        streams: by name.
        watches: files of each stream that has some.
        inlets: other sources.
        outlets: sinks; each record goes to all of them.
        journal: None = nothing is kept over restarts.
        waker: file events.
        observing: whether incidents are kept back, asked once a batch with the time in epoch seconds.
        drain_s: what stopping leaves to the sinks.
        poll_s: how often files are looked at when nothing happens.
        ends: the agent ends when every inlet has ended (`pipe`).
    """

    def __init__(  # noqa: PLR0913 - everything a running agent is made of
        self,
        streams: Mapping[str, Stream],
        watches: Mapping[str, Watch],
        inlets: Sequence[Inlet],
        outlets: Sequence[Outlet],
        journal: Journal | None,
        *,
        wake: threading.Event,
        observing: Observing,
        waker: Waker | None = None,
        drain_s: float = 3.0,
        poll_s: float = 0.25,
        ends: bool = False,
    ) -> None:
        self.streams, self.watches, self.inlets, self.outlets = streams, watches, inlets, outlets
        self.published: dict[str, Any] = {}
        self.reason: Reason | None = None
        self._journal, self._wake, self._waker = journal, wake, waker
        self.observing, self._drain_s, self._poll_s, self._ends = observing, drain_s, poll_s, ends
        self._sequence = journal.sequence if journal else 0
        self._done = self._sequence
        self._sent: deque[_Sent] = deque()
        self._chunks: deque[str] = deque(maxlen=CHUNKS_MAX)
        self._held: tuple[Batch, Inlet | None, int, str] | None = None
        self._silent = dict.fromkeys(streams, (0.0, -math.inf))  # last line and advance, monotonic seconds
        self._advanced_from = dict.fromkeys(streams, -math.inf)
        self._swap: Swap | None = None
        self.recent: Recent | None = None
        self._turn = 0
        self._retry_at = self._complained_at = self._publish_at = self._watchdog_at = -math.inf
        self._watchdog_s = watchdog_s() / 2
        self._began = time.time()
        self._flow = Flow()
        self._publish(time.monotonic(), self._began)

    def know(self, chunks: Sequence[str]) -> None:
        """Remember forward chunks of an earlier run, oldest first."""
        self._chunks.extend(chunks)

    # -- start and stop ------------------------------------------------------------------------------------------

    def stop(self, reason: Reason = "stop") -> None:
        """Ask the loop to end; callable from a signal handler or another thread."""
        self.reason = self.reason or reason
        self._wake.set()

    def swap(self, swap: Swap) -> None:
        """Go over to other streams when all is acknowledged; callable from another thread."""
        self._swap = swap
        self._wake.set()

    def run(self) -> Reason:
        """Go round until `stop`, then drain; everything unacknowledged is read again next time."""
        while self.reason is None:
            if not self.round(time.monotonic(), time.time()):
                self._rest()
        self._drain()
        return self.reason

    def round(self, now: float, wall: float) -> bool:
        """One round; True when there was something to do.

        Args:
            now: monotonic seconds.
            wall: epoch seconds.
        """
        for watch in self.watches.values():
            watch.look_if_due(now, wall)  # also while nothing can be read: no rotation goes unseen
        self._acknowledge()
        self._keep(now)
        self._publish(now, wall)
        if any(outlet.ended for outlet in self.outlets):
            self.stop("ended")
            return True
        if now < self._retry_at or not all(outlet.ready() for outlet in self.outlets):
            return False
        if self._compaction_waits():
            return False
        if self._swap is not None:
            self._go_over(self._swap, now)
        if self._held is not None:
            batch, inlet, ticket, chunk = self._held
            return self._take(batch, now, wall, inlet=inlet, ticket=ticket, chunk=chunk)
        busy = self._read(now, wall)
        if not busy:
            self._advance(now, wall)
            if self._ends and all(inlet.ended for inlet in self.inlets):
                self.stop("ended")
        return busy

    def _rest(self) -> None:
        """Wait for an event, at most until the next look."""
        now, waker = time.monotonic(), self._waker
        flows = waker is not None and self._flow.flows(now)
        if waker is not None and not flows:
            waker.arm([folder for watch in self.watches.values() for folder in watch.folders()], now)
        self._wake.wait(self._flow.look_s if flows else self._poll_s)
        self._wake.clear()
        if waker is not None and (flows or waker.noticed):
            waker.noticed = False
            time.sleep(self._flow.settle_s)  # what is being written now comes in one look
            self.look()

    def look(self) -> None:
        """See which files there are and what became of them, now."""
        began = time.monotonic()
        for watch in self.watches.values():
            watch.look(time.monotonic(), time.time())
        self._flow.looked(time.monotonic() - began)

    def _drain(self) -> None:
        """Stop reading, let the sinks deliver what they can, keep the state."""
        if self._ends and self.reason == "ended" and not any(outlet.ended for outlet in self.outlets):
            self._finish()
        deadline = time.monotonic() + self._drain_s
        for outlet in self.outlets:
            outlet.close(max(0.1, deadline - time.monotonic()))
        self._acknowledge()
        for inlet in self.inlets:
            inlet.close(max(0.1, deadline - time.monotonic()))
        for watch in self.watches.values():
            watch.close()
        if self._waker is not None:
            self._waker.disarm()
        if self._journal is not None:
            self._journal.close()

    def _finish(self) -> None:
        """The end of input (`pipe`): sessions close, and what that gives is delivered."""
        for name, stream in self.streams.items():
            records = stream.finish(ended=False, observed=self.observing(time.time()))
            self._sequence += 1
            self._send(records, None, 0)
            log.info("stream.ended", stream=name, lines=stream.teller.totals.lines)

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, now: float, wall: float) -> bool:
        """One batch from the next source that has one: streams and inlets take turns."""
        places: list[Watch | Inlet] = [*self.watches.values(), *self.inlets]
        for step in range(len(places)):
            place = places[(self._turn + step) % len(places)]
            if isinstance(place, Watch):
                batch = place.read(now, wall)
                if batch is not None:
                    self._turn += step + 1
                    return self._take(batch, now, wall)
            elif (received := place.receive()) is not None:
                self._turn += step + 1
                return self._take(received.batch, now, wall, inlet=place, ticket=received.ticket, chunk=received.chunk)
        return False

    def _take(
        self, batch: Batch, now: float, wall: float, *, inlet: Inlet | None = None, ticket: int = 0, chunk: str = ""
    ) -> bool:
        """Journal a batch, judge it, send what it gives; held and tried again when the journal refuses."""
        stream = self.streams[batch.stream]
        observed = self.observing(wall)
        columns = stream.type(batch)
        try:
            self._note(batch.stream)
            self._append(Entry(batch.stream, columns, batch.cursor, chunk, observed))
        except StreamError as error:
            self._complain(error, now)
            self._held = (batch, inlet, ticket, chunk)
            return False
        if self._held is not None:
            log.info("journal.recovered")
            self._held, self._complained_at = None, -math.inf
        if chunk:
            self._chunks.append(chunk)
        if self.recent is not None and inlet is not None:
            self.recent.keep(batch.stream, batch.lines)
        self._send(stream.judge(columns, batch.lines, observed=observed), inlet, ticket)
        self._silent[batch.stream] = (now, now)
        self._advanced_from[batch.stream] = stream.now
        self._flow.batch(now)
        if self._waker is not None and self._waker.armed and self._flow.flows(now):
            self._waker.disarm()
        return True

    def _note(self, name: str) -> None:
        watch = self.watches.get(name)
        if self._journal is not None and watch is not None:
            noted = watch.take_notes()
            if noted is not None:
                try:
                    self._journal.note(msgspec.msgpack.encode(Note(name, noted)))
                except StreamError:
                    watch.return_notes(noted)
                    raise

    def _append(self, entry: Entry) -> None:
        if self._journal is None:
            self._sequence += 1
        else:
            self._sequence = self._journal.append(msgspec.msgpack.encode(entry))

    def _send(self, records: list[bytes], inlet: Inlet | None, ticket: int) -> None:
        for outlet in self.outlets:
            outlet.send(self._sequence, records)
        self._sent.append(_Sent(self._sequence, inlet, ticket))

    def _advance(self, now: float, wall: float) -> None:
        """Event time of streams that are read to their end goes on with the host's clock."""
        for name, stream in self.streams.items():
            line_at, advanced_at = self._silent[name]
            every = min(max(ADVANCE_S[0], stream.sessions.rules.idle_s / 10), ADVANCE_S[1])
            if not math.isfinite(self._advanced_from[name]) or now - max(line_at, advanced_at) < every:
                continue
            if not stream.waiting or self._behind(name):
                continue
            self._silent[name] = (line_at, now)
            columns = stream.advance(self._advanced_from[name] + now - line_at)
            observed = self.observing(wall)
            try:
                self._append(Entry(name, columns, observed=observed))
            except StreamError as error:
                self._complain(error, now)
                return
            self._send(stream.judge(columns, observed=observed), None, 0)

    def _behind(self, name: str) -> bool:
        """Whether a stream's files hold lines that were not read yet."""
        watch = self.watches.get(name)
        return watch is not None and any(tail.unread for tail in watch.tails())

    # -- state ---------------------------------------------------------------------------------------------------

    def _acknowledge(self) -> None:
        """What every sink has delivered is done."""
        if not self._sent:
            return
        done = min((outlet.acknowledged() for outlet in self.outlets), default=self._sequence)
        if done <= self._done:
            return
        if self._journal is not None:
            try:
                self._journal.acknowledge(done)
            except StreamError as error:
                self._complain(error, time.monotonic())
                return
        self._done = done
        while self._sent and self._sent[0].sequence <= done:
            _, inlet, ticket = self._sent.popleft()
            if inlet is not None:
                inlet.acknowledge(ticket)

    def _compaction_waits(self) -> bool:
        """Whether reading pauses until all is acknowledged and the snapshot is written."""
        journal = self._journal
        if journal is None or self._held is not None or not journal.needs_compaction:
            return False  # a held batch is given out but not journalled: a snapshot would skip it
        if self._sent:
            return True
        self.compact()
        return False

    def _go_over(self, swap: Swap, now: float) -> None:
        """The barrier between two batches after which other streams judge; put off while it would take long."""
        journal = self._journal
        unsettled = journal is not None and (journal.turning or journal.needs_compaction)
        if self._held is not None or unsettled or not swap.reached(self._sent, self._acknowledge):
            return
        try:
            swap.take(self.streams, journal, self.watches, self._chunks)
        except StreamError as error:
            self._complain(error, now)
            return
        self.streams, self._swap, self._publish_at = swap.streams, None, -math.inf
        if journal is not None:
            self._sequence = self._done = journal.sequence

    def compact(self) -> bool:
        """Write a snapshot of the present state; everything must be acknowledged. False if the system refuses."""
        if self._journal is None:
            return True
        snapshot = Snapshot(
            SNAPSHOT_SCHEMA,
            {name: stream.snapshot() for name, stream in self.streams.items()},
            {name: watch.registry().encode() for name, watch in self.watches.items()},
            list(self._chunks),
        )
        try:
            self._journal.compact(msgspec.msgpack.encode(snapshot))
        except StreamError as error:
            self._complain(error, time.monotonic())
            return False
        return True

    def _complain(self, error: StreamError, now: float) -> None:
        """The journal refused: counted, said once a minute, tried again after a pause."""
        metrics.add("journal_failures_total")
        self._retry_at = now + RETRY_S
        if now - self._complained_at >= COMPLAIN_S:
            self._complained_at = now
            log.error("journal.failed", error=str(error), retry_s=RETRY_S)

    def _keep(self, now: float) -> None:
        """What is due by the clock: where new files begin, fsync, systemd's watchdog."""
        if self._journal is not None and now >= self._retry_at:
            try:
                for name in self.watches:
                    self._note(name)
                self._journal.sync(now)
            except StreamError as error:
                self._complain(error, now)
        if self._watchdog_s and now >= self._watchdog_at:
            self._watchdog_at = now + self._watchdog_s
            notify_watchdog()

    def _publish(self, now: float, wall: float) -> None:
        """Figures for metrics and `status`, once a second."""
        if now < self._publish_at:
            return
        self._publish_at = now + PUBLISH_S
        streams = gauges.publish(self.streams, self.watches, self._journal, wall)
        metrics.set("unacknowledged_batches", len(self._sent))
        self.published = {
            **of_process(self._began, wall),
            "observing": self.observing.why(wall),
            "streams": streams,
            "sinks": [outlet.status() for outlet in self.outlets],
            "unacknowledged_batches": len(self._sent),
            "journal_bytes": self._journal.size if self._journal is not None else 0,
        }
