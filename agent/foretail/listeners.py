"""Inlets that listen: Fluent forward with chunk acknowledgement, and lines over TCP or a unix socket.

One thread per listener serves all its connections. While the loop's buffer is full nothing is read, so that senders
wait; acknowledgements go out meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import stat
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from foretail import forward
from foretail.config import Config, host_port
from foretail.config import Source as SourceConfig
from foretail.errors import ConfigError, StreamError
from foretail.lines import Batch, LineLimits, Source
from foretail.sources import Buffer, Chunks, Cutter, Inlet, Received, chunk_source, refused
from foretail.telemetry import log, lost, metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_READ_BYTES = 64 << 10
_TICK_S = 1.0
_ANSWERS_BYTES_MAX = 256 << 10
EVENTS_MAX = 500_000
"""Events in one message: what is journalled of more would exceed what a journal record may hold."""
_NIL = b"\xc0"  # the forward protocol's heartbeat


def build(config: Config, wake: Callable[[], None], known: Iterable[str] = ()) -> list[Inlet]:
    """The inlets of all [[source]] tables, listening; ConfigError if an address cannot be bound.

    Args:
        config: its sources, streams and limits are read.
        wake: called from an inlet's thread when a batch came.
        known: forward chunk ids that the journal holds as acknowledged, oldest first.
    """
    streams = {stream.name: stream for stream in config.stream}
    made: list[Inlet] = []
    try:
        for source in config.source:
            stream = streams[source.stream]
            limits = LineLimits(stream.line_bytes_max, stream.long_lines)
            kind = ForwardListener if source.type == "forward" else LineListener
            made.append(kind(source, config, limits, wake, list(known)))
    except ConfigError:
        for inlet in made:
            inlet.close(1)
        raise
    return made


class Connection:
    """One peer: its socket, what is left to send, and the listener's parser state."""

    def __init__(self, number: int, plug: socket.socket, peer: str) -> None:
        self.number = number
        self.plug = plug
        self.peer = peer
        self.outgoing = bytearray()
        self.heard = time.monotonic()
        self.framer: forward.Framer | None = None
        self.cutter: Cutter | None = None

    def send(self, data: bytes) -> bool:
        """Send without waiting, keep the rest; False when the peer is gone or does not read its answers."""
        self.outgoing += data
        try:
            while self.outgoing:
                del self.outgoing[: self.plug.send(self.outgoing)]
        except BlockingIOError:
            return len(self.outgoing) <= _ANSWERS_BYTES_MAX
        except OSError:
            return False
        return True


class Listener:
    """What both kinds share: the socket, the thread, limits; a kind says what bytes mean."""

    def __init__(
        self,
        source: SourceConfig,
        config: Config,
        limits: LineLimits,
        wake: Callable[[], None],
        known: list[str],
    ) -> None:
        self.name = f"{source.type} {source.address}"
        self.ended = False
        self._source = source
        self._limits = limits
        self._chunks = Chunks(known, config.limits.chunks_max)
        self._buffer = Buffer(wake, config.limits.queue_batches_max)
        self._connections: dict[int, Connection] = {}
        self._accepted = 0
        self._full = False
        self._acknowledged: deque[int] = deque()
        self._selector = selectors.DefaultSelector()
        self._listening = _listen(source)
        self._poke, poked = socket.socketpair()
        self._poke.setblocking(False)
        poked.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._selector.register(poked, selectors.EVENT_READ)
        self._poked = poked
        self._thread = threading.Thread(target=self._run, name=f"source {self.name}", daemon=True)
        self._thread.start()

    @property
    def address(self) -> tuple[str, int] | str:
        """Where it listens: (host, port), or the path of a unix socket."""
        found = self._listening.getsockname()
        return found if isinstance(found, str) else (found[0], found[1])

    def receive(self) -> Received | None:
        """See Inlet."""
        received = self._buffer.get()
        if received is not None:
            self._wake_thread()
        return received

    def acknowledge(self, ticket: int) -> None:
        """See Inlet."""
        self._acknowledged.append(ticket)
        self._wake_thread()

    def close(self, timeout_s: float) -> None:
        """See Inlet."""
        self._buffer.close()
        self._wake_thread()
        self._thread.join(timeout_s)
        self._poke.close()

    def take(self, connection: Connection, data: bytes) -> bool:
        """Bytes of a peer (none = it has ended); False or StreamError = close the connection."""
        raise NotImplementedError

    def answer(self, ticket: int) -> None:
        """Tell the peers that all up to this ticket is safe."""

    def _wake_thread(self) -> None:
        with contextlib.suppress(OSError):
            self._poke.send(b"1")

    def _run(self) -> None:
        while not self._buffer.closing:
            if self._full == self._buffer.has_room():
                self._full = not self._full
                self._read_interest(not self._full)
            for key, events in self._selector.select(_TICK_S):
                if key.fileobj is self._poked:
                    self._answer_all()
                elif key.fileobj is self._listening:
                    self._accept()
                elif key.data.number in self._connections:
                    self._serve(key.data, events)
            self._drop_silent()
        self._answer_all()
        for connection in list(self._connections.values()):
            self._drop(connection)
        self._listening.close()
        self._selector.close()
        self._poked.close()
        if self._source.address.startswith("/") or self._source.address.startswith("unix:"):
            Path(self._source.address.removeprefix("unix:")).unlink(missing_ok=True)

    def _read_interest(self, wanted: bool) -> None:
        """Read peers, or leave their bytes in the kernel until the loop has taken some batches."""
        for connection in self._connections.values():
            connection.heard = time.monotonic()
            with contextlib.suppress(KeyError, ValueError):
                if wanted:
                    self._selector.register(connection.plug, selectors.EVENT_READ, connection)
                else:
                    self._selector.unregister(connection.plug)

    def _answer_all(self) -> None:
        with contextlib.suppress(OSError):
            while self._poked.recv(4096):
                pass
        ticket = 0
        while self._acknowledged:
            ticket = max(ticket, self._acknowledged.popleft())
        if ticket:
            self.answer(ticket)

    def _accept(self) -> None:
        try:
            plug, peer = self._listening.accept()
        except OSError as error:
            log.warning("connection.failed", source=self.name, error=error.strerror)
            return
        plug.setblocking(False)
        host = str(peer[0]) if isinstance(peer, tuple) else self._source.address.removeprefix("unix:")
        if len(self._connections) >= self._source.connections_max:
            refused(self.name, host, "connections_max", f"more than {self._source.connections_max} connections.")
            plug.close()
            return
        self._accepted += 1
        connection = Connection(self._accepted, plug, host)
        self._connections[connection.number] = connection
        if not self._full:
            self._selector.register(plug, selectors.EVENT_READ, connection)

    def _serve(self, connection: Connection, events: int) -> None:
        if events & selectors.EVENT_READ and self._buffer.has_room():
            try:
                data = connection.plug.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            connection.heard = time.monotonic()
            if not self._taken(connection, data) or not data:
                self._drop(connection)

    def _taken(self, connection: Connection, data: bytes) -> bool:
        try:
            return self.take(connection, data)
        except StreamError as error:
            refused(self.name, connection.peer, "malformed", error)
        except Exception as error:  # noqa: BLE001  one peer's bytes must not end the listener for all
            refused(self.name, connection.peer, "failed", repr(error))
        return False

    def _drop_silent(self) -> None:
        """Close peers that said nothing for long, and send on what waits for slow ones."""
        now = time.monotonic()
        for connection in list(self._connections.values()):
            silent = not self._full and now - connection.heard > self._source.idle_timeout_s
            if silent or (connection.outgoing and not connection.send(b"")):
                self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        if self._connections.pop(connection.number, None) is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(connection.plug)
            connection.plug.close()


class ForwardListener(Listener):
    """Fluent forward: a chunk is acknowledged after acknowledge(); a known one at once, without being scored again."""

    def take(self, connection: Connection, data: bytes) -> bool:
        """See Listener."""
        if connection.framer is None:
            connection.framer = forward.Framer(self._source.message_bytes_max)
        frames = connection.framer.feed(data)
        return all(frame == _NIL or self._chunk(connection, frame) for frame in frames)

    def answer(self, ticket: int) -> None:
        """See Listener."""
        for chunk, waiting in self._chunks.finished(ticket):
            for number in waiting:
                connection = self._connections.get(number)
                if connection is not None and not connection.send(forward.acknowledgement(chunk)):
                    self._drop(connection)

    def _chunk(self, connection: Connection, frame: bytes) -> bool:
        message = forward.decode(frame, self._source.message_bytes_max)
        chunk = message.chunk
        if len(message.records) > EVENTS_MAX:
            raise StreamError(f"a message of {len(message.records)} events; at most {EVENTS_MAX} are taken.")
        if chunk and self._chunks.known(chunk):
            metrics.add("source_repeats_total", source=self.name)
            return connection.send(forward.acknowledgement(chunk))
        if chunk and self._chunks.repeated(chunk, connection.number):
            metrics.add("source_repeats_total", source=self.name)
            return True
        metrics.add("source_batches_total", source=self.name)
        ticket = self._buffer.put(self._batch(message), chunk)
        if chunk:
            self._chunks.started(chunk, connection.number, ticket)
        return True

    def _batch(self, message: forward.Chunk) -> Batch:
        limit = self._limits.line_bytes_max
        lines = [forward.line(record, self._source.field) for record in message.records]
        over = sum(len(line) - limit for line in lines if len(line) > limit)
        if over:
            lines = [line[:limit] for line in lines]
            lost(over, cause="long_line", unit="bytes", stream=self._source.stream)
        origin = f"forward://{self._source.address.removeprefix('unix:')}/{message.tag}"
        source = chunk_source(message.chunk or os.urandom(12).hex(), origin)
        return Batch(self._source.stream, source, lines, list(range(len(lines))), len(lines), time.time())


class LineListener(Listener):
    """Lines, raw or each a JSON object, over TCP or a unix socket; this protocol has no acknowledgement."""

    def take(self, connection: Connection, data: bytes) -> bool:
        """See Listener."""
        if connection.cutter is None:
            origin = f"{self._source.type}://{connection.peer}"
            source = Source(os.urandom(12).hex(), origin, whole=False)
            connection.cutter = Cutter(self._source.stream, source, self._limits)
        batch = connection.cutter.feed(data) if data else connection.cutter.flush()
        if batch.lines:
            metrics.add("source_batches_total", source=self.name)
            self._buffer.put(self._decoded(batch) if self._source.codec == "json" else batch)
        return True

    def _decoded(self, batch: Batch) -> Batch:
        return msgspec.structs.replace(batch, lines=[self._line(line) for line in batch.lines])

    def _line(self, text: bytes) -> bytes:
        """The line in a JSON object; what is none is scored as it came, counted."""
        try:
            record = msgspec.json.decode(text, type=dict[str, object])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            metrics.add("source_undecoded_total", source=self.name)
            return text
        return forward.line(record, self._source.field)


def _listen(source: SourceConfig) -> socket.socket:
    path = source.address.removeprefix("unix:")
    try:
        if source.type == "unix" or source.address.startswith("unix:"):
            return listen_unix(path, int(source.mode, 8))
        host, port = host_port(source.address, "source.address")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        raise ConfigError(f"source.address {source.address}: cannot listen: {error.strerror}.") from None


def listen_unix(path: str, mode: int) -> socket.socket:
    """A listening unix socket with these permissions; a dead one in its place is removed, a living one: OSError."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _answers(path):
            Path(path).unlink()
    plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        plug.bind(path)
        Path(path).chmod(mode)  # nobody can connect before listen()
        plug.listen(64)
    except OSError:
        plug.close()
        raise
    return plug


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True
