"""The real agent as a process, for benchmarks: configured, started, killed, asked, weighed."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from foretail.errors import ConfigError
from foretail.status import ask

PATIENCE_S = 600.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Agent:
    """`foretail run` in a folder of its own.

    Args:
        folder: configuration, state and diagnostics are kept there.
        tables: TOML text of streams, sinks and sources.
        agent: further lines of [agent].
    """

    def __init__(self, folder: Path, tables: str, agent: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.socket, self.state, self._err = folder / "s.sock", folder / "state", folder / "err.log"
        self._config = folder / "agent.toml"
        head = f'[agent]\nstate_dir = "{self.state}"\nstatus_socket = "{self.socket}"\nobserve_h = 0\n'
        self._config.write_text(f'{head}observe_file = "{folder}/observe"\n{agent}\n{tables}')
        self.process: subprocess.Popen[bytes] | None = None
        self._said = 0

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self.process is not None
        return self.process.pid

    def start(self, *before: str) -> None:
        """Start it and return at once; `before` are words of a command that starts commands."""
        self._said = self._err.stat().st_size if self._err.exists() else 0
        command = [*before, sys.executable, "-m", "foretail", "run", "-c", str(self._config)]
        with self._err.open("ab") as err:
            self.process = subprocess.Popen(command, stderr=err, stdout=err)
        atexit.register(self.process.kill)  # a benchmark that fails leaves no agent behind

    def up(self) -> bool:
        """Whether this process has said that it runs."""
        with self._err.open("rb") as file:
            file.seek(self._said)
            return b"agent.started" in file.read()

    def wait(self, fact: str, true: Any, patience_s: float = PATIENCE_S) -> None:
        """Until something is true; ends the benchmark when it does not come or the agent dies."""
        deadline = time.monotonic() + patience_s
        while not true():
            if self.process is not None and self.process.poll() is not None:
                sys.exit(f"the agent ended before {fact}: {self.said()[-2000:]}")
            if time.monotonic() > deadline:
                sys.exit(f"the agent did not come to {fact} in {patience_s:.0f} s: {self.said()[-2000:]}")
            time.sleep(0.02)

    def started(self) -> None:
        """Wait until it runs."""
        self.wait("its start", self.up)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self.signal(signal.SIGTERM)

    def signal(self, number: int) -> int:
        """Send a signal that ends it, and wait for the end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def said(self) -> str:
        """All diagnostics."""
        return self._err.read_text(errors="replace")

    def status(self) -> dict[str, Any]:
        """What `foretail status` gets; empty while nobody answers."""
        try:
            return ask(str(self.socket))
        except ConfigError:
            return {}

    def lines(self) -> int:
        """Lines of all streams that were read since the state began."""
        return int(self.status_of("lines_total"))

    def status_of(self, figure: str) -> float:
        """A figure, summed over the streams."""
        return sum(stream[figure] for stream in self.status().get("streams", {}).values())

    def settled(self, lines: int) -> bool:
        """Whether so many lines were read and all is acknowledged."""
        told = self.status()
        return bool(told) and told["unacknowledged_batches"] == 0 and self.lines() >= lines

    def cpu_s(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_mb(self) -> float:
        """Resident memory now, MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def written_bytes(self, kind: str = "wchar") -> int:
        """Bytes that its write() calls took, of whatever file; `write_bytes`: that it made the disk write."""
        rows = dict(line.split(": ") for line in Path(f"/proc/{self.pid}/io").read_text(encoding="ascii").splitlines())
        return int(rows[kind])


def stream(name: str, include: str, bundle: Path | str, *, emit: str, start: str = "head", more: str = "") -> str:
    """A [[stream]] table."""
    lines = f'[[stream]]\nname = "{name}"\ninclude = ["{include}"]\nbundle = "{bundle}"\n'
    return f'{lines}emit = "{emit}"\nstart = "{start}"\n{more}\n'


def file_sink(path: Path, more: str = "") -> str:
    """A [[sink]] table: one file that is not rotated."""
    return f'[[sink]]\ntype = "file"\npath = "{path}"\nrotate_bytes = {1 << 40}\n{more}\n'
