"""Where lines come from beside files: standard input, and shippers that hand lines over.

Each inlet has a thread that puts immutable batches into a bounded buffer and touches no other state. The loop calls
`receive()` until None, and `acknowledge(ticket)` when the journal has a batch and the sinks have acknowledged it.

`listeners.build(config, wake, known) -> list[Inlet]` makes those of a configuration. A batch's `source.path` names the
origin (`forward://ADDRESS/TAG`, `tcp://HOST`, `unix://PATH`, `stdin`) and stays the same over chunks and connections:
it, not `source.id`, is the identity of an endless session.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec

from foretail.lines import Batch, LineLimits, Lines, Source, Splitter
from foretail.telemetry import log, lost, metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretail.errors import StreamError

BUFFER_BYTES_MAX = 8 << 20


class Received(msgspec.Struct, frozen=True):
    """One batch of an inlet.

    Attributes:
        ticket: rises by one with each batch of the inlet; what acknowledge() takes.
        batch: the lines; `batch.source.id` is made from the chunk id for forward, else at random per connection.
        chunk: the forward chunk's id, to be journalled and given back as `known` at the next start; "" = none.
    """

    ticket: int
    batch: Batch
    chunk: str = ""


class Inlet(Protocol):
    """What the loop sees of a source."""

    @property
    def name(self) -> str:
        """In logs and metrics."""

    @property
    def ended(self) -> bool:
        """Nothing will come any more (stdin's end), once receive() has given None."""

    def receive(self) -> Received | None:
        """The next batch, if there is one; never waits."""

    def acknowledge(self, ticket: int) -> None:
        """All batches up to this ticket are in the journal and delivered; cumulative."""

    def close(self, timeout_s: float) -> object:
        """Stop reading and answering; what was not acknowledged comes again, if the sender is able to."""


class Buffer:
    """Batches between an inlet's thread and the loop, bounded in number and bytes (and by one read more)."""

    def __init__(self, wake: Callable[[], None], batches_max: int, bytes_max: int = BUFFER_BYTES_MAX) -> None:
        self._wake = wake
        self._batches_max = batches_max
        self._bytes_max = bytes_max
        self._queue: deque[Received] = deque()
        self._bytes = 0
        self._tickets = 0
        self._changed = threading.Condition()
        self.closing = False

    def put(self, batch: Batch, chunk: str = "") -> int:
        """Add a batch, full or not, and return its ticket: ask wait_for_room() before."""
        with self._changed:
            self._tickets += 1
            self._queue.append(Received(self._tickets, batch, chunk))
            self._bytes += _size(batch)
        self._wake()
        return self._tickets

    def get(self) -> Received | None:
        """The oldest batch or None."""
        with self._changed:
            if not self._queue:
                return None
            received = self._queue.popleft()
            self._bytes -= _size(received.batch)
            self._changed.notify_all()
            return received

    def has_room(self) -> bool:
        """Whether the sender may go on."""
        return len(self._queue) < self._batches_max and self._bytes < self._bytes_max

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until there is room; False when the time is over or close() was called."""
        with self._changed:
            self._changed.wait_for(lambda: self.closing or self.has_room(), timeout_s)
            return self.has_room() and not self.closing

    def close(self) -> None:
        """Wake who waits."""
        with self._changed:
            self.closing = True
            self._changed.notify_all()


def _size(batch: Batch) -> int:
    return sum(map(len, batch.lines)) + 100 * len(batch.lines)  # a bytes object and two list entries


class PipeInlet:
    """Lines on a file descriptor, each batch as soon as it is there.

    Args:
        stream: its name.
        limits: of a line.
        wake: called when something came or the end was seen.
        fd: 0 is standard input.
        plain: no byte order mark is looked for: one line out for one line in, whatever its bytes.
        read_bytes_max: of one read.
        batches_max: reads that wait for the loop: few, for a pipe does not give twice what a killed agent had read.
    """

    def __init__(
        self,
        stream: str,
        limits: LineLimits,
        wake: Callable[[], None],
        *,
        fd: int = 0,
        plain: bool = False,
        read_bytes_max: int = 64 << 10,
        batches_max: int = 1,
    ) -> None:
        self.name = "stdin"
        self._fd = fd
        self._read_bytes_max = read_bytes_max
        self._wake = wake
        self._cutter = Cutter(stream, Source(os.urandom(12).hex(), "stdin", whole=True), limits, plain=plain)
        self._buffer = Buffer(wake, batches_max)
        self._over = False
        threading.Thread(target=self._run, name="source stdin", daemon=True).start()

    @property
    def ended(self) -> bool:
        """See Inlet."""
        return self._over

    def receive(self) -> Received | None:
        """See Inlet."""
        return self._buffer.get()

    def acknowledge(self, ticket: int) -> None:
        """A pipe takes no answer here; `pipe --reply` writes its own."""

    def close(self, timeout_s: float) -> None:  # noqa: ARG002  the thread may be blocked in read() and is left behind
        """See Inlet."""
        self._buffer.close()

    def _run(self) -> None:
        try:
            while not self._buffer.closing:
                if not self._buffer.wait_for_room(1.0):
                    continue
                data = os.read(self._fd, self._read_bytes_max)
                if not data:
                    break
                self._put(self._cutter.feed(data))
        except OSError as error:
            log.warning("stdin.failed", error=error.strerror)
        self._put(self._cutter.flush())
        self._over = True
        self._wake()

    def _put(self, batch: Batch) -> None:
        if batch.lines:
            metrics.add("source_batches_total", source=self.name)
            self._buffer.put(batch)


class Cutter:
    """Bytes of one connection to batches; counts what was cut or skipped."""

    def __init__(self, stream: str, source: Source, limits: LineLimits, *, plain: bool = True) -> None:
        self._stream = stream
        self._source = source
        self._base = 1 if plain else 0  # a Splitter that starts beyond 0 looks for no byte order mark
        self._splitter = Splitter(limits, offset=self._base)
        self._lost = 0

    def feed(self, data: bytes) -> Batch:
        """The lines that these bytes complete."""
        return self._batch(self._splitter.feed(data))

    def flush(self) -> Batch:
        """The last line if it had no end."""
        return self._batch(self._splitter.flush())

    def _batch(self, lines: Lines) -> Batch:
        counts = self._splitter.counts
        cut = counts.cut_bytes + counts.skipped_bytes
        if cut > self._lost:
            lost(cut - self._lost, cause="long_line", unit="bytes", stream=self._stream)
            self._lost = cut
        offsets = [offset - self._base for offset in lines.offsets] if self._base else lines.offsets
        end = self._splitter.start - self._base
        return Batch(self._stream, self._source, lines.lines, offsets, end, time.time())


def chunk_source(chunk: str, origin: str) -> Source:
    """The source of a forward chunk: the same id whenever it comes again."""
    return Source(hashlib.sha256(chunk.encode("utf-8", "surrogatepass")).hexdigest()[:24], origin, whole=False)


class Chunks:
    """Which chunks are known and whom to answer: pure, no sockets.

    Args:
        known: ids acknowledged before, oldest first.
        chunks_max: how many ids are remembered.
    """

    def __init__(self, known: list[str], chunks_max: int) -> None:
        self._done = dict.fromkeys(known[-chunks_max:])
        self._chunks_max = chunks_max
        self._under_way: dict[str, set[int]] = {}  # chunk -> connections that wait for its acknowledgement
        self._tickets: deque[tuple[int, str]] = deque()

    def known(self, chunk: str) -> bool:
        """Whether it was acknowledged: to be acknowledged again at once."""
        return chunk in self._done

    def repeated(self, chunk: str, connection: int) -> bool:
        """Whether it is under way: then this connection waits for it too."""
        if chunk not in self._under_way:
            return False
        self._under_way[chunk].add(connection)
        return True

    def started(self, chunk: str, connection: int, ticket: int) -> None:
        """It was handed to the loop."""
        self._under_way[chunk] = {connection}
        self._tickets.append((ticket, chunk))

    def finished(self, ticket: int) -> list[tuple[str, set[int]]]:
        """The chunks up to this ticket, and the connections to answer."""
        answers = []
        while self._tickets and self._tickets[0][0] <= ticket:
            chunk = self._tickets.popleft()[1]
            answers.append((chunk, self._under_way.pop(chunk)))
            self._done[chunk] = None
            if len(self._done) > self._chunks_max:
                del self._done[next(iter(self._done))]
        return answers


def refused(name: str, peer: str, cause: str, error: StreamError | str) -> None:
    """Count and report a connection that is closed because of what it sent."""
    metrics.add("source_refused_total", source=name, cause=cause)
    log.warning("connection.refused", source=name, peer=peer, cause=cause, error=str(error))
