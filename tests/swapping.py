"""A running agent under load that takes one bundle after the other, and what became of the lines meanwhile."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, Self

from renumbered import renumbered

from foretail import bundle as bundles
from foretail.activation import Shelf
from foretail.lines import Batch, Source
from foretail.status import ask
from foretail.stream import Stream
from foretail.telling import Options

if TYPE_CHECKING:
    from collections.abc import Iterable

TESTS = Path(__file__).resolve().parent
GOLDEN = TESTS / "golden" / "bundle"
LINES = (GOLDEN.parent / "storage.log").read_bytes().splitlines(keepends=True)
PATIENCE_S = 120.0
TICK_S = 0.01
_ID = re.compile(rb'"id":"([^"]+)"')

TRACED = """
import sys, time
from array import array
from foretail import loop
from foretail.cli import main
begun, ended = array("d"), array("d")
take = loop.Loop._take
def traced(self, *arguments, **options):
    begun.append(time.time())
    try:
        return take(self, *arguments, **options)
    finally:
        ended.append(time.time())
loop.Loop._take = traced
code = main(sys.argv[2:])
with open(sys.argv[1], "wb") as file:
    begun.tofile(file)
    ended.tofile(file)
sys.exit(code)
"""


class Swapping:
    """`foretail run` on two bundles in turn: the golden one, and its twin with other numbers.

    Args:
        folder: for everything.
        emit: of the stream.
    """

    def __init__(self, folder: Path, *, emit: str = "lines") -> None:
        self.folder, self.log, self.out = folder, folder / "storage.log", folder / "out.jsonl"
        self.socket, self.config, self.err = folder / "s.sock", folder / "agent.toml", folder / "err.log"
        self.shelf = Shelf(folder / "state" / "bundles" / "golden")
        old = bundles.read(GOLDEN)
        self.pair = (old, renumbered(old, folder / "twin", 2))
        self.shelf.place.mkdir(parents=True)
        self.shelf.activate(old)
        self.config.write_text(
            f'[agent]\nstate_dir = "{folder / "state"}"\nstatus_socket = "{self.socket}"\nobserve_h = 0\n'
            f'observe_file = "{folder / "observe"}"\n[[stream]]\nname = "storage"\nstart = "head"\nemit = "{emit}"\n'
            f'include = ["{self.log}"]\nbundle = "{self.shelf.place / "current"}"\n'
            f'[[sink]]\ntype = "file"\npath = "{self.out}"\nrotate_bytes = 100000000000\n'
        )
        self.log.touch()
        self.written = self.swaps = 0

    def __enter__(self) -> Self:
        self.start(TRACED, str(self.folder / "trace"), "run", "-c", str(self.config))
        self.wait(self.socket.exists)
        return self

    def start(self, program: str, *arguments: str) -> None:
        """Run a Python program as the agent."""
        with self.err.open("ab") as err:
            command = [sys.executable, "-c", program, *arguments]
            self.process = subprocess.Popen(command, stderr=err, stdout=subprocess.DEVNULL)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def feed(self, lines: Iterable[bytes]) -> None:
        """Append to the log."""
        data = b"".join(lines)
        with self.log.open("ab") as file:
            file.write(data)
        self.written += data.count(b"\n")

    def pour(self, rate: int, stop: threading.Event) -> None:
        """Append `rate` lines a second, in ticks of ten milliseconds, until told to stop."""
        block, at, began, ticks = LINES * 2, 0, time.monotonic(), 0
        count = max(1, round(rate * TICK_S))
        while not stop.is_set():
            self.feed(block[at : at + count] if count <= len(LINES) else LINES * (count // len(LINES)))
            at = (at + count) % len(LINES)
            ticks += 1
            stop.wait(max(0.0, began + ticks * TICK_S - time.monotonic()))

    def swap(self) -> None:
        """Let the agent take the other bundle."""
        self.swaps += 1
        self.shelf.activate(self.pair[self.swaps % 2])
        self.process.send_signal(signal.SIGHUP)

    def taken(self) -> list[dict[str, object]]:
        """Events of bundles that were taken."""
        return [event for event in self.events() if event["event"] == "bundle.taken"]

    def events(self) -> list[dict[str, object]]:
        """What the agent said."""
        return [json.loads(line) for line in self.err.read_bytes().splitlines() if line.startswith(b"{")]

    def wait(self, true) -> None:
        """Until a fact about the agent holds."""
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end, f"the agent did not get there: {self.err.read_text()[-2000:]}"
            assert self.process.poll() is None, self.err.read_text()[-2000:]
            time.sleep(0.02)

    def end(self) -> None:
        """Stop it in the regular way."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0

    def ids(self) -> list[bytes]:
        """Of all line verdicts so far."""
        found = []
        with self.out.open("rb") as file:
            for line in file:
                if b'"kind":"line"' in line and line.endswith(b"\n"):
                    found.append(_ID.search(line)[1])
        return found

    def batches(self) -> tuple[list[float], list[float]]:
        """When each batch was begun and done, epoch seconds; after the end."""
        from array import array  # noqa: PLC0415

        times = array("d")
        times.frombytes((self.folder / "trace").read_bytes())
        return list(times[: len(times) // 2]), list(times[len(times) // 2 :])

    def status(self) -> dict[str, object]:
        """What the agent says of its stream."""
        return ask(str(self.socket))["streams"]["storage"]

    def verdicts(self) -> list[tuple[int, float]]:
        """Offset and score of all line verdicts so far, in order of offsets."""
        with self.out.open("rb") as file:
            rows = [json.loads(line) for line in file if b'"kind":"line"' in line]
        return sorted((row["offset"], row["score"]) for row in rows)

    def undisturbed(self) -> list[tuple[int, float]]:
        """The same of the whole log under one bundle all the time."""
        stream, offset, found = Stream(self.pair[0], Options("storage", emit="lines")), 0, []
        lines = self.log.read_bytes().splitlines()
        source = Source("0" * 24, "log", whole=True)
        for first in range(0, len(lines), 1000):
            part, offsets = lines[first : first + 1000], []
            for line in part:
                offsets.append(offset)
                offset += len(line) + 1
            rows = map(json.loads, stream.feed(Batch("storage", source, part, offsets, offset, time.time())))
            found += [(row["offset"], row["score"]) for row in rows if row["kind"] == "line"]
        return sorted(found)

    def gaps(self, moments: list[tuple[float, float]]) -> list[float]:
        """The longest time between the end of a batch and the beginning of the next one within each span."""
        begun, ended = self.batches()
        longest = []
        for first, last in moments:
            a, b = max(1, bisect_left(begun, first)), min(len(begun), bisect_right(begun, last) + 1)
            longest.append(max((begun[i] - ended[i - 1] for i in range(a, b)), default=0.0))
        return longest
