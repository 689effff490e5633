"""Bytes from http://, https:// or file://, within a deadline that no server can stretch."""

from __future__ import annotations

import contextlib
import functools
import http.client
import socket
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK = 64 << 10


class CutError(OSError):
    """The time for the whole is over."""


class Wire:
    """Fetches until its deadline; a context, because the deadline has a thread.

    A socket's time limit starts anew with every byte; this one does not: at the deadline all sockets are shut.

    Args:
        timeout_s: for connecting and between two bytes.
        whole_s: for everything.
        proxy: for http and https; "" = as the environment says (`https_proxy`, `no_proxy`).
    """

    def __init__(self, timeout_s: float, whole_s: float, proxy: str = "") -> None:
        self._timeout_s, self._whole_s = timeout_s, whole_s
        self._sockets: list[socket.socket] = []
        self._responses: list[Any] = []
        self._end = time.monotonic() + whole_s
        self._timer = threading.Timer(whole_s, self._shut)
        self._timer.daemon = True
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler({"http": proxy, "https": proxy} if proxy else None),
            _Http(self._sockets),
            _Https(self._sockets),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPRedirectHandler(),
        ):
            self._opener.add_handler(handler)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._shut()
        for response in self._responses:  # whoever was to read them may have stopped in the middle
            response.close()

    def get(self, url: str) -> tuple[int, Iterator[bytes]]:
        """The HTTP status (404 for a file that is not there) and the body in chunks.

        Raises OSError, also while the chunks are read; CutError when the deadline passed.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme == "file":
            path = Path(urllib.parse.unquote(parts.path))
            return (200, _file(path)) if path.is_file() else (404, iter(()))
        with self._deadline():
            try:
                response = self._opener.open(url, timeout=self._timeout_s)
            except urllib.error.HTTPError as error:
                error.close()
                return error.code, iter(())
            if response is None:
                raise OSError(f"{parts.scheme}:// is not supported; use https://, http:// or file://")
            self._responses.append(response)
        return 200, self._body(response)

    def _body(self, response: Any) -> Iterator[bytes]:
        with self._deadline(), response:
            while chunk := response.read1(CHUNK):
                yield chunk

    @contextlib.contextmanager
    def _deadline(self) -> Iterator[None]:
        """Errors after the deadline, and silence, are the deadline's."""
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() < self._end:
                raise error if isinstance(error, OSError) else OSError(repr(error)) from error
        if time.monotonic() >= self._end:
            raise CutError(f"not done after {self._whole_s:g} s")

    def _shut(self) -> None:
        for plug in self._sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(plug, socket.SHUT_RDWR)


class _Noted:
    """Connections whose sockets are known from the first packet on."""

    def __init__(self, *args: Any, sockets: list[socket.socket], **options: Any) -> None:
        super().__init__(*args, **options)
        self._sockets = sockets
        self._create_connection = self._connected

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self._sockets.append(self.sock)  # type: ignore[attr-defined]

    def _connected(self, *args: Any, **options: Any) -> socket.socket:
        plug = socket.create_connection(*args, **options)
        self._sockets.append(plug)
        return plug


class _Plain(_Noted, http.client.HTTPConnection):
    pass


class _Tls(_Noted, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._make: Any = functools.partial(_Plain, sockets=sockets)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._make, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._make: Any = functools.partial(_Tls, sockets=sockets)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._make, req, context=self._context)  # type: ignore[attr-defined]


def _file(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk
