"""One sink's thread: a bounded queue, ordered delivery with retries, cumulative acknowledgement.

A `Writer` knows its peer and nothing of queues; `Delivery` knows queues and nothing of peers. What is acknowledged was
taken by the writer: written, answered 2xx, or acknowledged by chunk id, as the writer's class says.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from foretail.errors import StreamError
from foretail.fitted import fitted
from foretail.telemetry import log, metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretail.config import Sink

_IDLE_S = 1.0
_COMPLAIN_EVERY_S = 60.0


class Ended(Exception):  # noqa: N818  no error: the reader went away, as readers may
    """Nobody reads this sink any more and nobody will."""


class Writer(Protocol):
    """The way to one peer; used by one thread, but for interrupt()."""

    group_bytes_max: int
    """write() gets records of at most this many bytes, or one record."""

    def write(self, records: list[bytes]) -> None:
        """Deliver all in order; StreamError = not delivered, to be called again with the same list; Ended = never."""

    def idle(self) -> None:
        """About once a second while there is nothing to write; may raise Ended."""

    def interrupt(self) -> None:
        """From another thread: make a blocked write() fail if that is possible."""

    def close(self) -> None:
        """Give up all handles."""


class Outlet(Protocol):
    """What the loop sees of a sink, with or without a spool."""

    @property
    def name(self) -> str:
        """In logs and metrics."""

    @property
    def ended(self) -> bool:
        """The reader is gone for good (stdout): the agent ends."""

    def ready(self) -> bool:
        """Whether there is room; where False the loop reads no further."""

    def send(self, seq: int, records: list[bytes]) -> None:
        """Hand over one batch, `seq` rising; never blocks; an empty batch only carries the acknowledgement on."""

    def acknowledged(self) -> int:
        """The highest seq up to which everything is delivered (policy drop: handed over); 0 = none."""

    def close(self, timeout_s: float) -> int:
        """Deliver what waits for at most timeout_s; the number of records not acknowledged."""

    def status(self) -> dict[str, float | str]:
        """For `foretail status`: queue, failures, last error."""


class Delivery:
    """A writer with a queue and a thread.

    Args:
        config: its name, policy (`spool` counts as `block` here), queue_bytes_max, retry_first_s, retry_max_s.
        writer: of its peer.
        wake: called from the sink's thread after an acknowledgement (there is room again), a failure, and the end.
        batches_max: bound of the queue beside queue_bytes_max; empty batches do not count.
        record_bytes_max: longer records are cut to it, their cut fields named.
    """

    def __init__(
        self,
        config: Sink,
        writer: Writer,
        wake: Callable[[], None],
        batches_max: int = 4096,
        record_bytes_max: int = 256 << 10,
    ) -> None:
        self.name = config.name or config.type
        self.ended = False
        self._config = config
        self._writer = writer
        self._wake = wake
        self._batches_max = batches_max
        self._record_bytes_max = record_bytes_max
        self._queue: deque[tuple[int, list[bytes]]] = deque()
        self._bytes = 0  # of queued and unfinished batches
        self._records = 0
        self._sent = 0
        self._acknowledged = 0
        self._changed = threading.Condition()
        self._closing = False
        self._abort = threading.Event()
        self._failures = 0
        self._error = ""
        self._complained = float("-inf")
        self._thread = threading.Thread(target=self._run, name=f"sink {self.name}", daemon=True)
        self._thread.start()

    def ready(self) -> bool:
        """See Outlet."""
        return self._config.policy == "drop" or self._room()

    def send(self, seq: int, records: list[bytes]) -> None:
        """See Outlet."""
        records = [fitted(record, self._record_bytes_max) for record in records]
        with self._changed:
            self._sent = seq
            if records and self._config.policy == "drop" and not self._room():
                self._lose(len(records))
                records = []
            if not records and self._records == 0:
                self._acknowledged = seq
            elif not records and self._queue:
                self._queue[-1] = (seq, self._queue[-1][1])
            else:
                self._queue.append((seq, records))
                self._bytes += sum(map(len, records))
                self._records += len(records)
                self._changed.notify()
            metrics.set("queue_bytes", self._bytes, sink=self.name)
            metrics.set("queue_batches", len(self._queue), sink=self.name)

    def acknowledged(self) -> int:
        """See Outlet."""
        return self._sent if self._config.policy == "drop" else self._acknowledged

    def close(self, timeout_s: float) -> int:
        """See Outlet; returns in time whatever the peer does."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._abort.set()
            self._writer.interrupt()
            self._thread.join(max(0.05, min(0.2, deadline - time.monotonic())))
        with self._changed:
            left = self._records
            if left and self._config.policy == "drop":
                self._lose(left)
        if left and self._config.policy != "drop":
            log.info("sink.unfinished", sink=self.name, records=left)
        return left

    def status(self) -> dict[str, float | str]:
        """See Outlet."""
        with self._changed:
            return {
                "name": self.name,
                "type": self._config.type,
                "queue_bytes": self._bytes,
                "queue_records": self._records,
                "acknowledged": self._acknowledged,
                "failures": self._failures,
                "error": self._error,
            }

    def _room(self) -> bool:
        return self._bytes < self._config.queue_bytes_max and len(self._queue) < self._batches_max

    def _lose(self, records: int) -> None:
        metrics.add("losses_total", records, cause="sink_full", unit="records", sink=self.name)
        if time.monotonic() - self._complained >= _COMPLAIN_EVERY_S:
            self._complained = time.monotonic()
            log.error("sink.dropped", sink=self.name, records=records, queue_bytes=self._bytes)

    def _run(self) -> None:
        try:
            while (group := self._take()) is not None:
                seq, records, batches = group
                for piece in pieces(records, self._writer.group_bytes_max):
                    if not self._deliver(piece):
                        return
                self._finish(seq, records, batches)
        except Ended:
            self.ended = True
            self._wake()
        finally:
            self._writer.close()

    def _take(self) -> tuple[int, list[bytes], int] | None:
        """The batches at the head of the queue as one group; None when closing and nothing is left."""
        with self._changed:
            while not self._queue:
                if self._closing:
                    return None
                if not self._changed.wait(_IDLE_S):
                    self._writer.idle()
            seq, records = self._queue.popleft()
            size = sum(map(len, records))
            batches = 1
            while self._queue:
                more = sum(map(len, self._queue[0][1]))
                if size + more > self._writer.group_bytes_max:
                    break
                seq, added = self._queue.popleft()
                records += added
                size += more
                batches += 1
            return seq, records, batches

    def _deliver(self, records: list[bytes]) -> bool:
        """True when the writer took them; False when closing cut it short."""
        attempt = 0
        while not self._abort.is_set():
            try:
                self._writer.write(records)
            except Ended:
                raise
            except Exception as error:  # noqa: BLE001  a bug in a writer must be seen, not end delivery in silence
                self._failed(str(error) if isinstance(error, StreamError) else repr(error), attempt)
                cap = min(self._config.retry_max_s, self._config.retry_first_s * 2.0 ** min(attempt, 30))
                self._abort.wait(random.random() * cap)  # noqa: S311  full jitter, no secret
                attempt += 1
            else:
                self._recovered(attempt)
                return True
        return False

    def _finish(self, seq: int, records: list[bytes], batches: int) -> None:
        with self._changed:
            self._acknowledged = seq
            self._bytes -= sum(map(len, records))
            self._records -= len(records)
            metrics.set("queue_bytes", self._bytes, sink=self.name)
            metrics.set("queue_batches", len(self._queue), sink=self.name)
        metrics.add("sink_records_total", len(records), sink=self.name)
        log.debug("batches.delivered", sink=self.name, batches=batches, records=len(records), seq=seq)
        self._wake()

    def _failed(self, error: str, attempt: int) -> None:
        with self._changed:
            self._failures += 1
            self._error = error
        metrics.add("sink_failures_total", sink=self.name)
        if attempt == 0 or time.monotonic() - self._complained >= _COMPLAIN_EVERY_S:
            self._complained = time.monotonic()
            log.warning("sink.failed", sink=self.name, error=error, attempt=attempt + 1, policy=self._config.policy)
        self._wake()

    def _recovered(self, attempt: int) -> None:
        if attempt:
            log.info("sink.recovered", sink=self.name, attempts=attempt + 1)
            with self._changed:
                self._error = ""


def pieces(records: list[bytes], bytes_max: int) -> Iterator[list[bytes]]:
    """Cut a list into runs of at most bytes_max bytes (or one record), in order."""
    piece: list[bytes] = []
    size = 0
    for record in records:
        if piece and size + len(record) > bytes_max:
            yield piece
            piece, size = [], 0
        piece.append(record)
        size += len(record)
    if piece:
        yield piece
