"""Ways to peers over sockets: HTTP, Fluent forward, JSON lines over TCP or a unix socket.

Each is used by its sink's thread alone. Every wait has a time limit; a failure closes the connection and raises
StreamError; the next write() connects again.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import ssl
import time
from base64 import b64encode
from pathlib import Path
from urllib.parse import urlsplit

from foretail import forward
from foretail.config import ForwardSink, HttpSink, TcpSink, UnixSink, host_port
from foretail.errors import ConfigError, StreamError
from foretail.telemetry import log

_ANSWER_BYTES_MAX = 64 << 10


def tls_context(ca: str, verify: bool, name: str) -> ssl.SSLContext:
    """A client context; ConfigError naming `name` if the file of certificates cannot be used."""
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"{name}: cannot load certificates from {ca}: {error.strerror or error}.") from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        log.warning("tls.unverified", sink=name)
    return context


class HttpWriter:
    """JSON lines in a POST over a kept connection; any 2xx is the acknowledgement."""

    def __init__(self, sink: HttpSink) -> None:
        url = urlsplit(sink.url)
        try:
            port = url.port
        except ValueError:
            raise ConfigError(f"sink.url {sink.url}: the port is no number below 65536.") from None
        if not url.hostname:
            raise ConfigError(f"sink.url {sink.url}: there is no host in it.")
        self.group_bytes_max = sink.body_bytes_max
        self._sink = sink
        self._target = (url.path or "/") + (f"?{url.query}" if url.query else "")
        self._peer = f"{url.scheme}://{url.hostname}" + (f":{port}" if port else "")
        self._connection: http.client.HTTPConnection
        if url.scheme == "https":
            context = tls_context(sink.ca, sink.verify, sink.name or sink.url)
            self._connection = http.client.HTTPSConnection(url.hostname, port, timeout=sink.timeout_s, context=context)
        else:
            self._connection = http.client.HTTPConnection(url.hostname, port, timeout=sink.timeout_s)

    def write(self, records: list[bytes]) -> None:
        """See delivery.Writer."""
        body = b"\n".join([*records, b""])
        headers = {"Content-Type": self._sink.content_type, "User-Agent": "foretail"} | self._authorization()
        try:
            self._drop_if_closed()
            self._connection.request("POST", self._target, body, headers)
            answer = self._connection.getresponse()
            text = answer.read(_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            raise StreamError(f"POST of {len(records)} records to {self._peer}: {_reason(error)}.") from None
        if not answer.isclosed():
            self._connection.close()  # an answer without end
        if not 200 <= answer.status < 300:
            said = text[:200].decode("utf-8", "replace").strip().rstrip(".")
            sent = f"POST of {len(records)} records ({len(body)} bytes) to {self._peer}"
            raise StreamError(f"{sent}: status {answer.status}{f' ({said})' if said else ''}.")

    def idle(self) -> None:
        """Nothing to do."""

    def interrupt(self) -> None:
        """Shut the socket down, so that a blocked wait ends."""
        _shutdown(self._connection.sock)

    def close(self) -> None:
        """See delivery.Writer."""
        self._connection.close()

    def _authorization(self) -> dict[str, str]:
        path = self._sink.bearer_token_file
        if not path:
            return {}
        try:
            token = Path(path).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise StreamError(f"bearer token {path}: {_reason(error)}.") from None
        if not token or not token.isprintable() or " " in token:
            raise StreamError(f"bearer token {path}: expected one token of printable ASCII.")
        return {"Authorization": f"Bearer {token}"}

    def _drop_if_closed(self) -> None:
        """A peer may close an idle connection: notice that before a request is spent on it."""
        if self._connection.sock is not None and _closed_by_peer(self._connection.sock):
            self._connection.close()


class _Plug:
    """One socket that is connected when needed."""

    def __init__(self, address: str, timeout_s: float, context: ssl.SSLContext | None) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._context = context
        self._socket: socket.socket | None = None

    def connected(self) -> socket.socket:
        """The socket; raises OSError."""
        if self._socket is not None and _closed_by_peer(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def interrupt(self) -> None:
        _shutdown(self._socket)

    def _connect(self) -> socket.socket:
        if self.address.startswith("unix:"):
            plug = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            plug.settimeout(self._timeout_s)
            try:
                plug.connect(self.address.removeprefix("unix:"))
            except OSError:
                plug.close()
                raise
            return plug
        host, port = host_port(self.address, "sink.address")
        plug = socket.create_connection((host, port), self._timeout_s)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._context is None:
            return plug
        try:
            return self._context.wrap_socket(plug, server_hostname=host)
        except OSError:
            plug.close()
            raise


class LineWriter:
    """JSON lines over TCP or a unix stream socket; write() returning is all the acknowledgement there is."""

    group_bytes_max = 1 << 20

    def __init__(self, sink: TcpSink | UnixSink) -> None:
        address = f"unix:{sink.path}" if isinstance(sink, UnixSink) else sink.address
        context = None
        if isinstance(sink, TcpSink) and sink.tls:
            context = tls_context(sink.ca, sink.verify, sink.name or address)
        self._plug = _Plug(address, sink.timeout_s, context)

    def write(self, records: list[bytes]) -> None:
        """See delivery.Writer."""
        try:
            self._plug.connected().sendall(b"\n".join([*records, b""]))
        except OSError as error:
            self._plug.close()
            raise StreamError(f"{len(records)} records to {self._plug.address}: {_reason(error)}.") from None

    def idle(self) -> None:
        """Nothing to do."""

    def interrupt(self) -> None:
        """See delivery.Writer."""
        self._plug.interrupt()

    def close(self) -> None:
        """See delivery.Writer."""
        self._plug.close()


class ForwardWriter:
    """Fluent forward: one chunk under way; it is sent again under the same id until that id is acknowledged."""

    def __init__(self, sink: ForwardSink) -> None:
        self.group_bytes_max = sink.chunk_bytes_max
        context = tls_context(sink.ca, sink.verify, sink.name or sink.address) if sink.tls else None
        self._sink = sink
        self._plug = _Plug(sink.address, sink.timeout_s, context)
        self._framer = forward.Framer(_ANSWER_BYTES_MAX)
        self._framed: socket.socket | None = None
        self._records: list[bytes] = []
        self._chunk = ""
        self._message = b""

    def write(self, records: list[bytes]) -> None:
        """See delivery.Writer."""
        if records is not self._records:
            self._chunk = b64encode(os.urandom(16)).decode()
            self._message = forward.encode(self._sink.tag, records, self._chunk, time.time())
            self._records = records
        try:
            plug = self._plug.connected()
            plug.sendall(self._message)
            self._await(plug)
        except (OSError, StreamError) as error:
            self._plug.close()
            sent = f"chunk of {len(records)} records ({len(self._message)} bytes) to {self._plug.address}"
            raise StreamError(f"{sent}: {_reason(error)}.") from None
        self._records, self._message = [], b""

    def idle(self) -> None:
        """Nothing to do."""

    def interrupt(self) -> None:
        """See delivery.Writer."""
        self._plug.interrupt()

    def close(self) -> None:
        """See delivery.Writer."""
        self._plug.close()

    def _await(self, plug: socket.socket) -> None:
        """Read until this chunk's acknowledgement; one of another chunk, late or twice, is passed over."""
        if plug is not self._framed:
            self._framer, self._framed = forward.Framer(_ANSWER_BYTES_MAX), plug
        deadline = time.monotonic() + self._sink.timeout_s
        try:
            while (left := deadline - time.monotonic()) > 0:
                plug.settimeout(left)
                data = plug.recv(4096)
                if not data:
                    raise StreamError("closed before the acknowledgement")
                answers = [forward.acknowledged(frame) for frame in self._framer.feed(data)]
                if self._chunk in answers:
                    return
                log.debug("acknowledgement.unexpected", chunks=answers, expected=self._chunk)
            raise StreamError(f"no acknowledgement within {self._sink.timeout_s} s")
        finally:
            with contextlib.suppress(OSError):
                plug.settimeout(self._sink.timeout_s)


def _closed_by_peer(plug: socket.socket) -> bool:
    """Whether the peer has ended the connection; bytes that wait unread (late acknowledgements) do not count."""
    timeout = plug.gettimeout()
    try:
        plug.setblocking(False)
        if isinstance(plug, ssl.SSLSocket):
            plug.recv(1)  # TLS cannot peek: whatever comes unasked, connect anew
            return True
        return plug.recv(1, socket.MSG_PEEK) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        with contextlib.suppress(OSError):
            plug.settimeout(timeout)


def _shutdown(plug: socket.socket | None) -> None:
    if plug is not None:
        with contextlib.suppress(OSError):
            plug.shutdown(socket.SHUT_RDWR)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    return str(getattr(error, "strerror", None) or error or type(error).__name__).rstrip(".")
