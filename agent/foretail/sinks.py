"""Where verdicts go. `build()` makes the sinks of a configuration, each with a thread and a policy of its own.

`build(config, wake) -> list[Outlet]`: each has `name`, `ended`, `ready()`, `send(seq, records)`, `acknowledged()`,
`close(timeout_s)`, `status()` (see `delivery.Outlet`). What counts as acknowledged: stdout, TCP and unix sockets:
write() returned, which is not delivery; file: write() returned, fsync by its own policy; HTTP: any 2xx; forward: the
chunk's acknowledgement; `policy = "spool"`: the spool's fsync; `policy = "drop"`: nothing, it never holds the cursor.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from foretail.config import Config, FileSink, ForwardSink, HttpSink, StdoutSink, TcpSink, UnixSink
from foretail.delivery import Delivery, Ended, Outlet, Writer
from foretail.errors import ConfigError, StreamError
from foretail.peers import ForwardWriter, HttpWriter, LineWriter
from foretail.spool import Spool
from foretail.spooled import SpooledDelivery
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretail.config import Sink

__all__ = ["Delivery", "FileWriter", "Outlet", "StdoutWriter", "build", "own_files", "writer"]


def build(config: Config, wake: Callable[[], None]) -> list[Outlet]:
    """All sinks of a configuration, running; ConfigError if one cannot be made (path, certificate, spool folder)."""
    folder = Path(config.agent.state_dir) / "spool"
    ways = [(sink, writer(sink), _spool(sink, folder)) for sink in config.sink]
    most = config.limits.record_bytes_max
    return [
        SpooledDelivery(sink, way, spool, wake, most) if spool else Delivery(sink, way, wake, record_bytes_max=most)
        for sink, way, spool in ways
    ]


def _spool(sink: Sink, folder: Path) -> Spool | None:
    return Spool(folder / sink.name, sink.spool_bytes_max) if sink.policy == "spool" else None


def writer(sink: Sink) -> Writer:
    """The way to a sink's peer, not yet connected."""
    match sink:
        case StdoutSink():
            return StdoutWriter()
        case FileSink():
            return FileWriter(sink)
        case HttpSink():
            return HttpWriter(sink)
        case ForwardSink():
            return ForwardWriter(sink)
        case TcpSink() | UnixSink():
            return LineWriter(sink)


def own_files(config: Config) -> list[str]:
    """Paths and glob patterns of what the agent itself writes, its diagnostics too: never tailed."""
    paths = [sink.path for sink in config.sink if isinstance(sink, FileSink)]
    state = [f"{config.agent.state_dir}/**"] if config.agent.state_dir else []
    return [*paths, *(f"{path}.*" for path in paths), *state, *_redirected()]


def _redirected() -> list[str]:
    """The files that standard output and diagnostics go to, where they are files."""
    found = []
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISREG(os.fstat(fd).st_mode):
                found.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
    return found


class StdoutWriter:
    """JSON lines on a file descriptor, flushed per batch; a reader that went away ends it."""

    group_bytes_max = 1 << 20

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, 0)  # POLLERR and POLLHUP are always reported

    def write(self, records: list[bytes]) -> None:
        """See Writer."""
        data = memoryview(b"\n".join([*records, b""]))
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except BrokenPipeError:
            raise Ended from None
        except OSError as error:
            raise StreamError(f"cannot write {len(data)} bytes to stdout: {error.strerror}.") from None

    def idle(self) -> None:
        """A shipper that died without a signal closes our pipe: end then, not at the next verdict."""
        if any(event & (select.POLLERR | select.POLLNVAL) for _, event in self._poll.poll(0)):
            raise Ended

    def interrupt(self) -> None:
        """A blocked write() to a pipe cannot be cut short; the thread is left behind."""

    def close(self) -> None:
        """The descriptor is the process's."""


class FileWriter:
    """Rotating JSON lines; each record is whole, in one file, also after a full disk or a kill."""

    group_bytes_max = 1 << 20

    def __init__(self, sink: FileSink) -> None:
        self._sink = sink
        self._path = Path(sink.path)
        self._fd = -1
        self._inode = 0
        self._size = 0
        self._half = False  # the file may end within a line
        self._unsynced = False
        self._synced = time.monotonic()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise ConfigError(f"sink.path {sink.path}: {error.strerror}; make it writable for this user.") from None

    def write(self, records: list[bytes]) -> None:
        """See Writer. After a failure the half line is ended and the whole list comes again."""
        data = b"\n".join([*records, b""])
        try:
            self._follow()
            if self._size and self._size + len(data) > self._sink.rotate_bytes:
                self._rotate()
            self._append(b"\n" + data if self._half else data)
            if self._sink.fsync == "batch":
                os.fsync(self._fd)
        except OSError as error:
            raise StreamError(f"cannot write {len(data)} bytes to {self._path}: {error.strerror}.") from None
        self._unsynced = self._sink.fsync == "interval"
        self._sync_when_due()

    def idle(self) -> None:
        """Sync what is due."""
        self._sync_when_due()

    def interrupt(self) -> None:
        """Writes to a file end by themselves."""

    def close(self) -> None:
        """See Writer."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                if self._sink.fsync != "never":
                    os.fsync(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _append(self, data: bytes) -> None:
        written = 0
        while written < len(data):
            written += os.write(self._fd, memoryview(data)[written:])
            self._half = data[written - 1] != ord("\n")
        self._size += written

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, int(self._sink.mode, 8))
        found = os.fstat(self._fd)
        self._inode, self._size = found.st_ino, found.st_size
        self._half = self._size > 0 and not self._ends_whole()

    def _ends_whole(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    def _follow(self) -> None:
        """Open the path anew if somebody else renamed or removed the file."""
        try:
            same = self._fd >= 0 and self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            same = False
        if not same:
            self.close()
            self._open()

    def _rotate(self) -> None:
        self.close()
        for number in range(self._sink.keep, 0, -1):
            older = self._numbered(number)
            newer = self._numbered(number - 1) if number > 1 else self._path
            with contextlib.suppress(FileNotFoundError):
                newer.rename(older)
        if self._sink.keep == 0:
            self._path.unlink(missing_ok=True)
        self._open()
        log.info("file.rotated", path=str(self._path))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _sync_when_due(self) -> None:
        now = time.monotonic()
        if self._unsynced and now - self._synced >= self._sink.fsync_s:
            self._synced, self._unsynced = now, False
            with contextlib.suppress(OSError):
                os.fsync(self._fd)
