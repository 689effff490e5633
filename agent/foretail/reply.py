"""`foretail pipe --reply omprog|mmexternal`: standard input and output as one inlet and outlet of a loop.

omprog is confirmed after the journal's write() and the sink's acknowledgement; its verdicts go to a rotating file,
`verdicts.jsonl` in the state directory. The hash of the last confirmed line is journalled; one equal line right after a
restart is confirmed and not scored again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from foretail.answers import OK, Answers, Confirmations, line_of, mark
from foretail.config import Config, StdoutSink, build
from foretail.delivery import Delivery
from foretail.errors import ConfigError
from foretail.lines import LineLimits
from foretail.sinks import StdoutWriter
from foretail.sources import PipeInlet, Received
from foretail.telemetry import log

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from foretail.loop import Loop


class Dialogue:
    """Standard input and output as one inlet and outlet of the loop: each line gets its answer in its turn.

    Args:
        stream: its name.
        limits: of a line.
        protocol: Answers or Confirmations.
        wake: of the loop.
        ended: called when input has ended and every line is answered.
    """

    def __init__(
        self,
        stream: str,
        limits: LineLimits,
        protocol: Answers | Confirmations,
        wake: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self.name = "stdin"
        self._protocol = protocol
        self._over = ended
        self._replies = Delivery(StdoutSink(name="reply"), StdoutWriter(), wake)
        self._replied = self._sent = 0
        self._writable = select.poll()
        self._writable.register(1, select.POLLOUT)
        if isinstance(protocol, Confirmations):
            self._reply([OK])
        self._pipe = PipeInlet(stream, limits, wake, plain=True)

    @property
    def ended(self) -> bool:
        """See delivery.Outlet: rsyslog reads no more answers. Input's end is told by the callback."""
        return self._replies.ended

    def receive(self) -> Received | None:
        """See sources.Inlet."""
        over = self._pipe.ended
        received = self._pipe.receive()
        if received is None:
            if over and not self._protocol.waiting:
                self._over()
            return None
        return self._expected(received)

    def acknowledge(self, ticket: int) -> None:
        """See sources.Inlet."""
        self._reply(self._protocol.take(ticket))

    def ready(self) -> bool:
        """See delivery.Outlet."""
        return self._replies.ready()

    def send(self, seq: int, records: list[bytes]) -> None:
        """See delivery.Outlet: verdicts wait here for their lines' turn."""
        self._sent = seq
        if isinstance(self._protocol, Answers):
            for record in records:
                self._protocol.add(record)

    def acknowledged(self) -> int:
        """See delivery.Outlet."""
        return self._sent

    def close(self, timeout_s: float) -> int:
        """See both."""
        self._pipe.close(0)
        return self._replies.close(timeout_s)

    def status(self) -> dict[str, float | str]:
        """See delivery.Outlet."""
        return self._replies.status()

    def _expected(self, received: Received) -> Received | None:
        batch = received.batch
        if isinstance(self._protocol, Answers):
            self._protocol.expect(received.ticket, batch.offsets)
            lines = [line_of(line) for line in batch.lines]
            return Received(received.ticket, msgspec.structs.replace(batch, lines=lines))
        chunk = mark(batch.lines[-1])
        if self._protocol.repeated(batch.lines):
            self._reply([OK])
            batch = msgspec.structs.replace(batch, lines=batch.lines[1:], offsets=batch.offsets[1:])
        self._protocol.expect(received.ticket, len(batch.lines))
        return Received(received.ticket, batch, chunk) if batch.lines else self.receive()

    def _reply(self, answers: list[bytes]) -> None:
        if answers and not self._at_once(b"\n".join([*answers, b""])):
            self._replied += 1
            self._replies.send(self._replied, answers)

    def _at_once(self, data: bytes) -> bool:
        """Write short answers to a reader that waits for them: a change of threads costs more than the line."""
        if len(data) > select.PIPE_BUF or self._replies.acknowledged() < self._replied:
            return False
        if not any(event == select.POLLOUT for _, event in self._writable.poll(0)):
            return False
        try:
            return os.write(1, data) == len(data)  # a pipe that polls writable takes so much whole
        except OSError:
            return False


def run(options: argparse.Namespace) -> int:
    """`foretail pipe --reply ...`: answer until standard input ends, its reader goes away, or SIGTERM."""
    with _apart(options.state):
        return _run(options)


@contextlib.contextmanager
def _apart(state: str | None) -> Iterator[None]:
    """Keep diagnostics out of the answers: mmexternal gives its program one pipe for both stdout and stderr.

    They go to `foretail.log` in the state directory, or nowhere; the sentence of a ConfigError still goes to rsyslog.
    """
    if not os.path.sameopenfile(1, 2) or not stat.S_ISFIFO(os.fstat(1).st_mode):
        yield
        return
    shared = os.dup(2)
    if state:
        Path(state).mkdir(parents=True, exist_ok=True)
    name = str(Path(state) / "foretail.log") if state else os.devnull
    apart = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    os.dup2(apart, 2)
    os.close(apart)
    try:
        yield
    finally:
        os.dup2(shared, 2)
        os.close(shared)


def _run(options: argparse.Namespace) -> int:
    from foretail import service  # noqa: PLC0415  the service calls this module

    confirm = options.reply == "omprog"
    if confirm and not options.state:
        raise ConfigError("pipe --reply omprog needs --state DIR: the journal, and verdicts.jsonl with what was found")
    config = _config(options, confirm=confirm)
    wake = threading.Event()
    loops: list[Loop] = []

    def stop(*_: object) -> None:
        loops[0].stop("stop")

    def talk(known: list[str]) -> Dialogue:
        protocol = Confirmations(known) if confirm else Answers()
        limits = LineLimits(config.stream[0].line_bytes_max, config.stream[0].long_lines)
        return Dialogue(options.stream, limits, protocol, wake.set, stop)

    loops.append(service.assemble(config, wake, talk=talk))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    log.info("agent.started", streams=[options.stream], reply=options.reply)
    log.info("agent.stopped", reason=loops[0].run())
    return 0


def _config(options: argparse.Namespace, *, confirm: bool) -> Config:
    """The configuration that the options mean."""
    agent = {"state_dir": options.state or "", "status_socket": "", "observe_file": ""}
    stream = {"name": options.stream, "bundle": options.bundle, "include": ["stdin"]}
    table: dict[str, Any] = {
        "agent": {**agent, "observe_h": options.observe / 3600},
        "stream": [stream | {"emit": options.emit if confirm else "lines"}],
        "sink": [{"type": "file", "path": str(Path(options.state) / "verdicts.jsonl")}] if confirm else [],
        "limits": {"journal_bytes_max": 8 << 20},  # who waits for a restart waits in rsyslog's queue
    }
    return build(table, "options")
