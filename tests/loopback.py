"""Real peers on loopback for the edges: servers that obey, stall, reset or answer as a script says."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from typing import TYPE_CHECKING, Any, Self

from msgspec import msgpack

if TYPE_CHECKING:
    from collections.abc import Callable

    Script = Callable[[socket.socket, "Server"], None]

PATIENCE_S = 20.0


class Bell:
    """Called by a thread under test; a test waits on it for a fact to become true, without sleeping."""

    def __init__(self) -> None:
        self._changed = threading.Condition()

    def __call__(self, *_: object) -> None:
        with self._changed:
            self._changed.notify_all()

    def wait(self, fact: Callable[[], Any], timeout_s: float = PATIENCE_S) -> bool:
        """Whether the fact became true in time."""
        with self._changed:
            return bool(self._changed.wait_for(fact, timeout_s))


class Server:
    """Each connection runs the next script in a thread; the last script serves all further ones.

    `deaf`: connections are refused until `hear`.
    """

    def __init__(
        self, *scripts: Script, path: str | None = None, tls: ssl.SSLContext | None = None, deaf: bool = False
    ) -> None:
        self.bell = Bell()
        self.received: list[Any] = []
        self.connections = 0
        self.stopped = threading.Event()
        self._scripts = scripts
        self._tls = tls
        self._listening = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._listening.bind(path or ("127.0.0.1", 0))
        self.address = f"unix:{path}" if path else f"127.0.0.1:{self._listening.getsockname()[1]}"
        self._plugs: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        if not deaf:
            self.hear()

    def hear(self) -> None:
        """Take connections from now on."""
        self._listening.listen()
        self._threads.append(threading.Thread(target=self._accept, daemon=True))
        self._threads[-1].start()

    def got(self, item: Any) -> None:
        """Keep what a script received."""
        self.received.append(item)
        self.bell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        for plug in [self._listening, *self._plugs]:
            with contextlib.suppress(OSError):
                plug.shutdown(socket.SHUT_RDWR)
            plug.close()
        for thread in self._threads:
            thread.join(PATIENCE_S)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                plug, _ = self._listening.accept()
                script = self._scripts[min(self.connections, len(self._scripts) - 1)]
                self.connections += 1
                self._plugs.append(plug)
                thread = threading.Thread(target=self._serve, args=(script, plug), daemon=True)
                self._threads.append(thread)
                thread.start()
                self.bell()

    def _serve(self, script: Script, plug: socket.socket) -> None:
        with plug, contextlib.suppress(OSError, EOFError):
            if self._tls is None:
                script(plug, self)
            else:
                with self._tls.wrap_socket(plug, server_side=True) as secured:
                    script(secured, self)
        self.bell()


def reset(plug: socket.socket, _: Server) -> None:
    """Close with a TCP reset."""
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def stall(_: socket.socket, server: Server) -> None:
    """Accept, then never read nor answer."""
    server.stopped.wait(PATIENCE_S)


def lines(plug: socket.socket, server: Server) -> None:
    """Keep every line."""
    with plug.makefile("rb") as stream:
        for line in stream:
            server.got(line)


def forward_messages(plug: socket.socket) -> Any:
    """Yield what a forward client sends, message by message."""
    buffer = b""
    while data := plug.recv(65536):
        buffer += data
        with contextlib.suppress(Exception):
            yield msgpack.decode(buffer)
            buffer = b""


def acknowledging(*patterns: Callable[[str], list[str]]) -> Script:
    """A forward server: for the n-th message it answers the ids that patterns[n] makes of the message's id."""

    def script(plug: socket.socket, server: Server) -> None:
        for number, (tag, entries, option) in enumerate(forward_messages(plug)):
            server.got((tag, [record for _, record in entries], option["chunk"]))
            pattern = patterns[min(number, len(patterns) - 1)]
            for chunk in pattern(option["chunk"]):
                plug.sendall(msgpack.encode({"ack": chunk}))

    return script


def http(*statuses: int, once: bool = False) -> Script:
    """An HTTP/1.1 server on one kept connection: answers these statuses in turn, the last for ever, or `once`."""

    def script(plug: socket.socket, server: Server) -> None:
        with plug.makefile("rb") as stream:
            for number, request in enumerate(iter(stream.readline, b"")):
                headers = {}
                while (line := stream.readline()) not in (b"\r\n", b""):
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                body = stream.read(int(headers["content-length"]))
                server.got((request.decode().split()[1], headers, body))
                status = statuses[min(number, len(statuses) - 1)]
                text = b"so it is"
                plug.sendall(b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))
                if once:
                    return

    return script
