"""The unix socket where an agent tells what it does, and the client that asks.

One request is one JSON line `{"command": "status"}` (also `pause`, `resume`), one answer one JSON line. The server's
thread calls the functions it was given; they must read published snapshots or set flags and never touch state.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from foretail.errors import ConfigError
from foretail.listeners import listen_unix
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_REQUEST_BYTES_MAX = 4096
_ANSWER_BYTES_MAX = 16 << 20
_PEER_S = 2.0


class StatusServer:
    """Answers on a unix socket until close().

    Args:
        path: of the socket; a dead one in its place is replaced.
        commands: name -> function of no argument whose result, a JSON-able mapping, is the answer.
        mode: permissions of the socket.

    Raises ConfigError if the socket cannot be made.
    """

    def __init__(self, path: str, commands: Mapping[str, Callable[[], Mapping[str, Any]]], mode: int = 0o660) -> None:
        self._path = path
        self._commands = commands
        self._closing = False
        try:
            self._listening = listen_unix(path, mode)
        except OSError as error:
            raise ConfigError(
                f"agent.status_socket {path}: cannot listen: {error.strerror}; is another agent running?"
            ) from None
        self._inode = Path(path).stat().st_ino
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop answering and remove the socket."""
        self._closing = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(_PEER_S + 1)
        self._listening.close()
        with contextlib.suppress(OSError):
            if Path(self._path).stat().st_ino == self._inode:
                Path(self._path).unlink()

    def _run(self) -> None:
        while not self._closing:
            try:
                plug, _ = self._listening.accept()
            except OSError:
                continue
            with plug, contextlib.suppress(OSError):
                plug.settimeout(_PEER_S)
                plug.sendall(self._answer(_line(plug, _REQUEST_BYTES_MAX)) + b"\n")

    def _answer(self, request: bytes) -> bytes:
        try:
            command = msgspec.json.decode(request, type=dict[str, Any]).get("command", "status")
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _error('the request is no JSON object such as {"command": "status"}.')
        if command not in self._commands:
            return _error(f"command {command!r} is unknown; there are {', '.join(self._commands)}.")
        try:
            return msgspec.json.encode(self._commands[command](), enc_hook=str)
        except Exception as error:  # noqa: BLE001  a bug in a snapshot must not take the agent's eyes
            log.warning("status.failed", command=command, error=repr(error))
            return _error(f"the answer could not be made: {error!r}.")


def ask(path: str, command: str = "status", timeout_s: float = 5.0) -> dict[str, Any]:
    """The running agent's answer; ConfigError if there is none or it says `error`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
        plug.settimeout(timeout_s)
        try:
            plug.connect(path)
            plug.sendall(msgspec.json.encode({"command": command}) + b"\n")
            answer = msgspec.json.decode(_line(plug, _ANSWER_BYTES_MAX), type=dict[str, Any])
        except PermissionError:
            raise ConfigError(f"{path}: permission denied; run as root or as a member of the agent's group.") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise ConfigError(f"no agent answers at {path}; start `foretail run` with this status_socket") from None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: no proper answer within {timeout_s} s: {error}.") from None
    if "error" in answer:
        raise ConfigError(f"{path}: {answer['error']}")
    return answer


def _error(text: str) -> bytes:
    return msgspec.json.encode({"error": text})


def _line(plug: socket.socket, bytes_max: int) -> bytes:
    """One line, or what came until the end or the limit."""
    data = bytearray()
    while b"\n" not in data and len(data) <= bytes_max:
        more = plug.recv(65536)
        if not more:
            break
        data += more
    return bytes(data.partition(b"\n")[0])
