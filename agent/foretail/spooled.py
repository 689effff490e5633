"""A sink behind a spool: its peer may be dead for days, and the cursor goes on."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from foretail.delivery import Delivery, Writer
from foretail.errors import StreamError
from foretail.fitted import fitted
from foretail.telemetry import log, metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretail.config import Sink
    from foretail.spool import Position, Spool

_RETRY_S = 1.0


class SpooledDelivery:
    """A sink behind a spool: a batch is acknowledged when the spool has synced it; its peer may be dead for days.

    The spool's thread takes batches to disk and feeds a Delivery, whose thread waits for the peer.
    """

    def __init__(
        self, config: Sink, writer: Writer, spool: Spool, wake: Callable[[], None], record_bytes_max: int = 256 << 10
    ) -> None:
        self.name = config.name or config.type
        self._config = config
        self._spool = spool
        self._record_bytes_max = record_bytes_max
        self._wake = wake
        self._queue: deque[tuple[int, list[bytes]]] = deque()
        self._bytes = 0
        self._sent = 0
        self._acknowledged = 0
        self._closing = False
        self._poked = False
        self._changed = threading.Condition()
        self._under_way: deque[tuple[int, Position]] = deque()
        self._frames = 0
        self._failed = float("-inf")
        self._error = ""
        self._inner = Delivery(config, writer, self._poke, batches_max=4)
        self._thread = threading.Thread(target=self._run, name=f"spool {self.name}", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """See delivery.Outlet."""
        return self._inner.ended

    def ready(self) -> bool:
        """See delivery.Outlet: False only while the disk does not take what waits."""
        return self._bytes < self._config.queue_bytes_max

    def send(self, seq: int, records: list[bytes]) -> None:
        """See delivery.Outlet."""
        records = [fitted(record, self._record_bytes_max) for record in records]
        with self._changed:
            self._sent = seq
            if not records and not self._bytes:
                self._acknowledged = seq
            elif not records and self._queue:
                self._queue[-1] = (seq, self._queue[-1][1])
            else:
                self._queue.append((seq, records))
                self._bytes += sum(map(len, records))
                self._changed.notify()

    def acknowledged(self) -> int:
        """See delivery.Outlet."""
        return self._acknowledged

    def close(self, timeout_s: float) -> int:
        """See delivery.Outlet: gives the peer what time is left; what it does not take stays on disk."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        self._inner.close(max(0.0, deadline - time.monotonic()))
        if not self._thread.is_alive():
            self._settle()
        with self._changed:
            return sum(len(records) for _, records in self._queue)

    def status(self) -> dict[str, float | str]:
        """See delivery.Outlet."""
        inner = self._inner.status()
        return inner | {
            "acknowledged": self._acknowledged,
            "spool_bytes": self._spool.size,
            "spool_lost": self._spool.lost,
            "error": self._error or inner["error"],
        }

    def _poke(self) -> None:
        with self._changed:
            self._poked = True
            self._changed.notify()
        if self._inner.ended:
            self._wake()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing or self._poked, _RETRY_S)
                self._poked = False
                batches = list(self._queue)
                closing = self._closing
            stored = self._store(batches)
            self._feed()
            metrics.set("spool_bytes", self._spool.size, sink=self.name)
            if closing and (not batches or not stored):
                break
            if not stored:
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, _RETRY_S)
        self._feed()
        self._spool.close()

    def _store(self, batches: list[tuple[int, list[bytes]]]) -> bool:
        records = [record for _, added in batches for record in added]
        try:
            if records:
                self._spool.append(records)
                self._spool.sync()
        except StreamError as error:
            self._complain(str(error))
            return False
        self._error = ""
        if batches:
            with self._changed:
                for _ in batches:
                    self._acknowledged, taken = self._queue.popleft()
                    self._bytes -= sum(map(len, taken))
            self._wake()
        return True

    def _feed(self) -> None:
        """Forget what was delivered and hand on what fits."""
        self._settle()
        while self._inner.ready() and (taken := self._spool.take()) is not None:
            self._frames += 1
            self._under_way.append((self._frames, taken[0]))
            self._inner.send(self._frames, taken[1])

    def _settle(self) -> None:
        done = self._inner.acknowledged()
        while self._under_way and self._under_way[0][0] <= done:
            self._spool.trim(self._under_way.popleft()[1])

    def _complain(self, error: str) -> None:
        self._error = error
        if time.monotonic() - self._failed >= 60:
            self._failed = time.monotonic()
            log.error("spool.failed", sink=self.name, error=error)
