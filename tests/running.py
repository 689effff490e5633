"""The agent as a process in a folder of its own, and waiting for what it does."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

GOLDEN = Path(__file__).resolve().parent / "golden"
BUNDLE = GOLDEN / "bundle"
LINES = (GOLDEN / "storage.log").read_bytes().splitlines(keepends=True)
PATIENCE_S = 120.0


def until(true, patience_s=PATIENCE_S):
    """Wait for a fact about another process."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, "the agent did not get there in time"
        time.sleep(0.02)


def rows(path: Path) -> list[dict]:
    """Whole JSON lines of a file that is being written."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def stream(name: str, log: Path, emit: str) -> str:
    """A [[stream]] on the golden bundle."""
    place = f'include = ["{log}"]\nbundle = "{BUNDLE}"\nstart = "head"\n'
    return f'[[stream]]\nname = "{name}"\nemit = "{emit}"\n{place}'


class Agent:
    """`foretail run` in a folder of its own."""

    def __init__(self, folder: Path, *, emit: str = "lines", sink: str = "", extra: str = "") -> None:
        self.folder, self.out, self.log = folder, folder / "out.jsonl", folder / "storage.log"
        self.socket = str(folder / "s.sock")
        self.config = folder / "agent.toml"
        sink = sink or f'[[sink]]\ntype = "file"\npath = "{self.out}"\n'
        self.config.write_text(
            f'[agent]\nstate_dir = "{folder / "state"}"\nstatus_socket = "{self.socket}"\nobserve_h = 0\n'
            f'observe_file = "{folder / "observe"}"\n{extra}' + stream("storage", self.log, emit) + sink
        )
        self.process: subprocess.Popen | None = None

    def start(self, *before: str) -> None:
        """Start it; `before` are words of a command that starts commands."""
        command = [*before, sys.executable, "-m", "foretail", "run", "-c", str(self.config)]
        with (self.folder / "err.log").open("ab") as err:
            self.process = subprocess.Popen(command, stderr=err, stdout=subprocess.DEVNULL)

    def signal(self, number: int) -> int:
        """Send a signal that ends it; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)

    def errors(self) -> str:
        """Its diagnostics so far."""
        return (self.folder / "err.log").read_text()
