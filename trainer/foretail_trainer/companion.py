"""The agent beside the demo: `foretail run` as a process of its own, what it says, and its end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec

from foretail import status
from foretail.errors import ConfigError
from foretail_trainer.tally import Arrival, Incident

if TYPE_CHECKING:
    from collections.abc import Callable

START_S, STOP_S, POLL_S = 60.0, 10.0, 0.05
INCIDENTS_PER_HOUR_MAX = 100_000
"""The demo counts false incidents, so the agent must not hold any back."""


class Load(NamedTuple):
    """What the agent has used so far: CPU seconds, resident megabytes, lines read."""

    cpu_s: float
    resident_mb: float
    lines: int


class Companion:
    """`foretail run` on one log; observe mode off, incidents collected as they come.

    Args:
        folder: for its configuration, state, diagnostics (`agent.log`) and records (`incidents.jsonl`).
        log: the file to tail, from its head.
        bundle: directory of the bundle.
        told: called with each incident on the reading thread.

    Raises:
        ConfigError: it does not start; its own words say why.
    """

    def __init__(self, folder: Path, log: Path, bundle: Path, told: Callable[[Arrival], None]) -> None:
        self.arrivals: list[Arrival] = []
        self.notices: list[str] = []
        self._told = told
        self._diagnostics, self._records = folder / "agent.log", folder / "incidents.jsonl"
        self._sockets = tempfile.mkdtemp(prefix="foretail-")  # short: a socket's path has at most 107 bytes
        self._socket = str(Path(self._sockets) / "s")
        config = folder / "agent.toml"
        config.write_text(configuration(folder, log, bundle, self._socket), encoding="utf-8")
        with self._diagnostics.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                [sys.executable, "-m", "foretail", "run", "-c", str(config)], stdout=subprocess.PIPE, stderr=errors
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._await_start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def load(self) -> Load:
        """Its figures now; ConfigError if it has died."""
        answer = status.ask(self._socket)
        streams: dict[str, dict[str, Any]] = answer["streams"]
        return Load(
            _cpu_s(self._process.pid), _resident_mb(self._process.pid), sum(s["lines_total"] for s in streams.values())
        )

    def await_lines(self, lines: int, timeout_s: float) -> Load:
        """Its figures once it has read so many lines, or when the time is over."""
        until = time.monotonic() + timeout_s
        while (load := self.load()).lines < lines and time.monotonic() < until:
            time.sleep(POLL_S)
        return load

    def stop(self) -> int:
        """Tell it to end, force it after STOP_S; its exit code, also when it has ended before."""
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(STOP_S)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()
        shutil.rmtree(self._sockets, ignore_errors=True)
        return code

    def _await_start(self) -> None:
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(ConfigError):  # no socket yet
                if status.ask(self._socket).get("streams"):
                    return
            time.sleep(POLL_S)
        words = self._diagnostics.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise ConfigError(f"the agent did not start: {words[-1] if words else 'it said nothing'}")

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        with self._records.open("wb") as kept:
            for line in self._process.stdout:
                at = time.time()
                kept.write(line)
                record = json.loads(line)
                if record.get("kind") == "incident":
                    arrival = Arrival(at, msgspec.convert(record, Incident))
                    self.arrivals.append(arrival)
                    self._told(arrival)
                elif record.get("kind") == "notice":
                    self.notices.append(str(record.get("summary", "")))


def seconds_at_rest(bundle: Path, log: Path) -> float:
    """How long `foretail score` takes for a log, its start included."""
    began = time.monotonic()
    subprocess.run(  # noqa: S603  our own program
        [sys.executable, "-m", "foretail", "score", "--bundle", str(bundle), str(log)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    return time.monotonic() - began


def configuration(folder: Path, log: Path, bundle: Path, socket: str) -> str:
    """agent.toml of the demo: all its state in `folder`, nothing observed, nothing held back."""
    return f"""\
[agent]
state_dir = {_toml(folder / "state")}
status_socket = {_toml(socket)}
observe_h = 0.0
observe_file = {_toml(folder / "observe")}
poll_s = 0.2

[[stream]]
name = "demo"
include = [{_toml(log)}]
bundle = {_toml(bundle)}
start = "head"

[[sink]]
type = "stdout"

[incidents]
cap_per_hour = {INCIDENTS_PER_HOUR_MAX}
mute_file = {_toml(folder / "mute.toml")}
"""


def _toml(value: Path | str) -> str:
    return json.dumps(str(Path(value).resolve()), ensure_ascii=False)


def _cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    """Resident memory of a process (proc(5), statm)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
