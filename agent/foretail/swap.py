"""Other bundles under a running loop: a barrier between two batches, as short as a copy of the state (DESIGN §7).

The new streams are made by another thread while scoring goes on. The loop waits a moment for its sinks, gives the new
streams the state of the old ones, notes in the journal what its records mean from here on, and goes on. The snapshot
of that moment, which the old streams still hold, is written by the other thread.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from foretail.columns import Columns
from foretail.errors import StreamError
from foretail.state import SNAPSHOT_SCHEMA, Entry, Snapshot
from foretail.telemetry import log, metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from foretail.journal import Journal
    from foretail.stream import Stream
    from foretail.turning import Turning
    from foretail.watch import Watch

PATIENCE_S = 0.01, 1.0
"""How long the loop waits for its sinks, at first and at most: the double after each time in vain."""
AGAIN_S = 0.1
LOOK_S = 0.0005
RETRY_S = 1.0


class Swap:
    """Streams that wait to be taken by a loop.

    Args:
        streams: by name, the names of the loop's; fresh.
        step: told after each step; a test stops there.

    Attributes:
        taken: set when the loop runs on them.
        pause_s: how long it stood still for that; `cpu_s`: of it at work.
    """

    def __init__(self, streams: Mapping[str, Stream], step: Callable[[str], None] = lambda _: None) -> None:
        self.streams = dict(streams)
        self.taken = threading.Event()
        self.pause_s = self.cpu_s = 0.0
        self._step = step
        self._patience_s = PATIENCE_S[0]
        self._next = self._began = self._cpu = 0.0
        self._turning: Turning | None = None
        self._left: Snapshot | None = None

    # -- the loop's thread ---------------------------------------------------------------------------------------

    def reached(self, waiting: Sequence[Any], acknowledge: Callable[[], None]) -> bool:
        """Whether all is acknowledged now, or within a moment; the loop stands still meanwhile."""
        self._began, self._cpu = time.monotonic(), time.thread_time()
        if self._began < self._next:
            return False
        while waiting and time.monotonic() < self._began + self._patience_s:
            time.sleep(LOOK_S)
            acknowledge()
        if waiting:
            self._patience_s = min(2 * self._patience_s, PATIENCE_S[1])
            self._next = time.monotonic() + AGAIN_S
        return not waiting

    def take(
        self, old: Mapping[str, Stream], journal: Journal | None, watches: Mapping[str, Watch], chunks: Sequence[str]
    ) -> None:
        """Give the new streams the state of the old ones; StreamError if the journal refuses: nothing has changed."""
        self._next = time.monotonic() + AGAIN_S
        for name, stream in self.streams.items():
            stream.take(old[name])
        self._step("copied")
        if journal is not None:
            bundles = {name: stream.numbering() for name, stream in self.streams.items()}
            self._turning = journal.turn_over(msgspec.msgpack.encode(Entry("", Columns(), bundles=bundles)))
            registries = {name: watch.registry().encode() for name, watch in watches.items()}
            self._left = Snapshot(SNAPSHOT_SCHEMA, dict(old), registries, list(chunks))
        self._step("turned")
        self.pause_s, self.cpu_s = time.monotonic() - self._began, time.thread_time() - self._cpu
        self.taken.set()

    # -- the other thread ----------------------------------------------------------------------------------------

    def settle(self, given_up: Callable[[], bool]) -> bool:
        """Write the snapshot of the moment before the swap, and let go of the old streams; False if it was given up.

        What the system refuses is tried again until `given_up`; a start can do without, but a loop that goes on without
        it takes no other bundles.
        """
        if self._left is None or self._turning is None:
            return True
        self._turning.order()
        states = {name: stream.snapshot() for name, stream in self._left.streams.items()}
        snapshot = msgspec.msgpack.encode(msgspec.structs.replace(self._left, streams=states))
        self._left = None
        self._step("kept")
        while True:
            try:
                self._turning.settle(snapshot)
            except StreamError as error:
                metrics.add("journal_failures_total")
                log.error("journal.failed", error=str(error), retry_s=RETRY_S)
            else:
                self._step("settled")
                return True
            end = time.monotonic() + RETRY_S
            while time.monotonic() < end:
                if given_up():
                    return False
                time.sleep(0.05)
