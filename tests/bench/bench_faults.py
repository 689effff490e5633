"""What the agent makes of dead sinks, full disks, unreadable files, vanished folders, limits and clocks (issue 5).

    python tests/bench/bench_faults.py [--only NAME,...] [--seconds 10] [--check]

Each row is a `foretail run` process (the clock that steps back: its loop alone) under a writer of 500 lines/s. The
fault lasts so many seconds; CPU is that of its last two thirds, as a share of one core; memory is compared between
their begin and end. Then the fault is mended, and every line that was written must have its verdict.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import disks
import loopback
from agents import Agent, file_sink, stream
from measure import save, table
from traffic import BUNDLE, Pace, lines

from foretail import config, service

AS_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
NO_INOTIFY = ("unshare", "--user", "--map-root-user", "sh", "-c")
RATE = 500
RETRIES = "retry_first_s = 0.2\nretry_max_s = 2\ntimeout_s = 2\nqueue_bytes_max = 200000\n"


class Blocked(NamedTuple):
    """While the fault lasts: share of a core, and MB at its begin and end."""

    cpu_share: float
    before_mb: float
    after_mb: float


class Outcome(NamedTuple):
    """What became of it; `note` is what the agent said, or why it was not tried."""

    written: int
    lost: int
    repeated: int
    blocked: Blocked | None
    note: str


class Source:
    """A log that is written at a steady rate."""

    def __init__(self, log: Path) -> None:
        self.log, self.written = log, 0
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()

    def write(self, count: int) -> None:
        """Append so many lines."""
        with self.log.open("ab") as file:
            file.writelines(lines(self.written, self.written + count))
        self.written += count

    def steadily(self, seconds: float) -> None:
        """Append at RATE for so long."""
        pace, first, end = Pace(RATE), self.written, time.monotonic() + seconds
        while time.monotonic() < end:
            self.write(first + pace.due() - self.written)
            time.sleep(0.05)


def blocked(agent: Agent, source: Source, seconds: float) -> Blocked:
    """Let the fault last under the writer."""
    source.steadily(seconds / 3)
    cpu, began, before = agent.cpu_s(), time.monotonic(), agent.resident_mb()
    source.steadily(seconds * 2 / 3)
    share = (agent.cpu_s() - cpu) / (time.monotonic() - began)
    return Blocked(share, before, agent.resident_mb())


def verdicts(out: Path) -> list[str]:
    """Ids of all line verdicts in a file."""
    found = [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]] if out.exists() else []
    return [row["id"] for row in found if row["kind"] == "line"]


def events(agent: Agent, *names: str) -> str:
    """How often it said what."""
    said = [json.loads(line).get("event") for line in agent.said().splitlines() if line.startswith("{")]
    other = sum(not line.startswith("{") for line in agent.said().splitlines())
    told = ", ".join(f"{name} {said.count(name)}x" for name in names)
    return told + (f", {other} lines that are no JSON" if other else "")


# Sinks


class Peer:
    """A receiver on loopback that misbehaves until it is mended.

    Args:
        bad: what a connection meets before; None: it is refused.
        good: what it meets after.
    """

    def __init__(self, bad: loopback.Script | None, good: loopback.Script) -> None:
        self._mended = threading.Event()
        self._bad, self._good = bad, good
        if bad is good:
            self._mended.set()
        self.server = loopback.Server(self._script, deaf=bad is None)

    def _script(self, plug: socket.socket, server: loopback.Server) -> None:
        if self._bad is not None and not self._mended.is_set():
            self._bad(plug, server)
            server.received.clear()  # it was not taken
        else:
            self._good(plug, server)

    def mend(self) -> None:
        """Behave from the next connection on."""
        self._mended.set()
        if self._bad is None:
            self.server.hear()

    def ids(self, kind: str) -> list[str]:
        """Ids of the line verdicts that it took."""
        taken = list(self.server.received)
        if kind == "http":
            taken = [json.loads(line) for _, _, body in taken for line in body.splitlines()]
        else:
            taken = [record for _, records, _ in taken for record in records]
        return [row["id"] for row in taken if row["kind"] == "line"]


def out_of_order() -> Callable[[str], list[str]]:
    """Answers that begin with the id of the message before."""
    before = ["never sent"]

    def answers(chunk: str) -> list[str]:
        told = [*before, chunk]
        before[:] = [chunk]
        return told

    return answers


def sink(kind: str, bad: loopback.Script | None, good: loopback.Script) -> Fault:
    """A fault of a receiver."""

    def fault(folder: Path, seconds: float) -> Outcome:
        peer = Peer(bad, good)
        with peer.server:
            place = f'url = "http://{peer.server.address}/"' if kind == "http" else f'address = "{peer.server.address}"'
            source = Source(folder / "logs" / "app.log")
            table = f'[[sink]]\ntype = "{kind}"\n{place}\n{RETRIES}'
            agent = Agent(folder, stream("app", str(source.log), BUNDLE, emit="lines") + table)
            agent.start()
            agent.started()
            source.write(2000)
            held = blocked(agent, source, seconds)
            peer.mend()
            agent.wait("the end", lambda: agent.settled(source.written), 60)
            agent.stop()
            return outcome(source, peer.ids(kind), held, events(agent, "sink.failed", "sink.recovered"))

    return fault


def working(script: loopback.Script) -> Fault:
    """A receiver that is strange all the time and takes everything."""
    return sink("forward", script, script)


# Disks and files


def to_file(folder: Path, include: str = "", agent: str = "", more: str = "") -> tuple[Agent, Source, Path]:
    """An agent that delivers to a file, its log and that file."""
    source, out = Source(folder / "logs" / "app.log"), folder / "out.jsonl"
    tables = stream("app", include or str(source.log), BUNDLE, emit="lines", more=more) + file_sink(out)
    return Agent(folder, tables, agent), source, out


def ended(agent: Agent, source: Source, out: Path, held: Blocked, *names: str, lines: int = 0) -> Outcome:
    """Wait for all lines, stop, compare."""
    agent.wait("the end", lambda: len(set(verdicts(out))) >= (lines or source.written), 60)
    agent.wait("the last acknowledgement", lambda: agent.settled(0), 30)
    agent.stop()
    return outcome(source, verdicts(out), held, events(agent, *names), lines)


def outcome(source: Source, ids: list[str], held: Blocked, note: str, lines: int = 0) -> Outcome:
    """Lines, less those with a verdict; verdicts that came twice."""
    written = lines or source.written
    return Outcome(written, written - len(set(ids)), len(ids) - len(set(ids)), held, note)


def journalling(folder: Path, seconds: float) -> Outcome:
    """The disk of the state is full: no batch can be journalled."""
    with disks.small(folder / "state", 4 << 20) as disk:
        agent, source, out = to_file(folder)
        agent.start()
        agent.started()
        source.write(2000)
        agent.wait("2000 lines", lambda: agent.settled(2000))
        disks.fill(disk)
        held = blocked(agent, source, seconds)
        disks.free(disk)
        return ended(agent, source, out, held, "journal.failed", "journal.recovered")


def compacting(folder: Path, seconds: float) -> Outcome:
    """There is room for records, not for the snapshot that is due; then for nothing."""
    with disks.small(folder / "state", 8 << 20) as disk:
        agent, source, out = to_file(folder, more="idle_s = 1e7")
        agent.start()
        agent.started()
        while sum(path.stat().st_size for path in (folder / "state" / "journal").glob("journal-*")) < 900_000:
            source.write(1000)
            agent.wait(f"{source.written} lines", lambda: agent.settled(source.written))
        disks.fill(disk, leave=200_000)
        source.write(5000)
        held = blocked(agent, source, seconds)
        snapshots = {path.name for path in (folder / "state" / "journal").glob("snapshot-*")}
        said = [json.loads(line)["error"] for line in agent.said().splitlines() if "journal.failed" in line]
        disks.free(disk)
        result = ended(agent, source, out, held, "journal.failed", "journal.recovered")
        later = {path.name for path in (folder / "state" / "journal").glob("snapshot-*")}
        first = said[0].partition(" in /")[0] if said else "nothing"
        return result._replace(note=f"{result.note}; first: {first}; a snapshot after it: {later > snapshots}")


def unreadable(folder: Path, seconds: float) -> Outcome:
    """Nobody may read the log, then everybody."""
    agent, source, out = to_file(folder)
    source.log.chmod(0)
    agent.start(*(AS_OTHERS if os.geteuid() == 0 else ()))
    agent.started()
    held = blocked(agent, source, seconds)
    source.log.chmod(0o644)
    return ended(agent, source, out, held, "file.unreadable", "file.readable")


def directory(folder: Path, seconds: float) -> Outcome:
    """The folder of the log is removed and made again."""
    agent, source, out = to_file(folder)
    agent.start()
    agent.started()
    source.write(2000)
    agent.wait("2000 lines", lambda: agent.settled(2000))
    shutil.rmtree(source.log.parent)
    other = Source(folder / "elsewhere" / "app.log")
    held = blocked(agent, other, seconds)
    source.log.parent.mkdir()
    source.log.touch()
    source.write(3000)
    return ended(agent, source, out, held, "file.found")


def many(folder: Path, seconds: float) -> Outcome:
    """1,500 files, one of them written all the time."""
    agent, source, out = to_file(folder, f"{folder}/logs/*.log")
    for number in range(1499):
        (folder / "logs" / f"{number}.log").write_bytes(b"".join(lines(number * 10, number * 10 + 10)))
    agent.start()
    agent.started()
    agent.wait("14990 lines", lambda: agent.settled(14_990), 120)
    held = blocked(agent, source, seconds)
    files = len(list(Path(f"/proc/{agent.pid}/fd").iterdir()))
    result = ended(agent, source, out, held, lines=14_990 + source.written)
    return result._replace(note=f"{files} descriptors; the writer costs most of the CPU")


def no_inotify(folder: Path, seconds: float) -> Outcome:
    """The kernel gives this user one inotify watch and instance."""
    agent, source, out = to_file(folder, f"{folder}/*/app.log")
    limit = "for f in watches instances; do echo 1 > /proc/sys/user/max_inotify_$f; done"
    agent.start(*NO_INOTIFY, f'{limit}; exec "$@"', "sh")
    agent.started()
    source.write(2000)
    held = blocked(agent, source, seconds)
    return ended(agent, source, out, held, "watchdog.failed")


def clock(folder: Path, seconds: float) -> Outcome:
    """Both clocks step back by a day, again and again; the loop is driven with such times in this process."""
    _, source, out = to_file(folder)
    loop = service.assemble(config.load(folder / "agent.toml"), threading.Event())
    cpu, began, steps, idle = time.process_time(), time.monotonic(), 0, 0
    while time.monotonic() - began < seconds:
        steps += 1
        source.write(50)
        back = 86_400.0 * (steps % 3)
        for _ in range(20):
            busy = loop.round(time.monotonic() - back, time.time() - back)
            idle += not busy
            time.sleep(0.0 if busy else 0.005)
    spent = (time.process_time() - cpu) / (time.monotonic() - began)
    end = time.monotonic() + 30
    while len(set(verdicts(out))) < source.written and time.monotonic() < end:
        loop.round(time.monotonic(), time.time())
        time.sleep(0.005)
    loop.stop()
    loop.run()
    return Outcome(
        source.written,
        source.written - len(set(verdicts(out))),
        len(verdicts(out)) - len(set(verdicts(out))),
        None,
        f"{steps} steps of a day; {spent:.0%} of a core, writer included",
    )


Fault = Callable[[Path, float], Outcome]
FAULTS: dict[str, Fault] = {
    "sink refuses": sink("http", None, loopback.http(200)),
    "sink stalls": sink("http", loopback.stall, loopback.http(200)),
    "sink resets": sink("http", loopback.reset, loopback.http(200)),
    "sink answers 500": sink("http", loopback.http(500, once=True), loopback.http(200)),
    "sink acknowledges others": sink(
        "forward", loopback.acknowledging(lambda _: ["of another chunk"]), loopback.acknowledging(lambda c: [c])
    ),
    "sink acknowledges out of order": working(loopback.acknowledging(out_of_order())),
    "sink acknowledges twice": working(loopback.acknowledging(lambda chunk: [chunk, chunk])),
    "disk full: journal": journalling,
    "disk full: compaction": compacting,
    "log unreadable": unreadable,
    "folder removed": directory,
    "1500 files": many,
    "one inotify watch": no_inotify,
    "clocks step back": clock,
}
WORKS = ("sink acknowledges out of order", "sink acknowledges twice", "1500 files", "one inotify watch")
"""Nothing is blocked: the CPU is that of the work."""


def main() -> int:
    """Print the table; with --check, 1 if anything was lost, spun or grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"some of: {', '.join(FAULTS)}")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a fault lasts")
    parser.add_argument("--check", action="store_true", help="exit 1 when a must-hold is missed")
    options = parser.parse_args()
    rows: list[list[object]] = []
    figures: dict[str, object] = {}
    missed = 0
    for name in options.only.split(",") if options.only else FAULTS:
        print(f"{name} ...", file=sys.stderr)
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = FAULTS[name](Path(folder), options.seconds)
            except disks.NoDisk as why:
                result = Outcome(0, 0, 0, None, str(why))
        held = result.blocked
        good = result.lost == 0 and (
            held is None or (abs(held.after_mb / held.before_mb - 1) < 0.1 and (held.cpu_share < 0.05 or name in WORKS))
        )
        missed += not good
        cpu = f"{held.cpu_share:.1%}" if held else ""
        memory = f"{held.before_mb:.0f} -> {held.after_mb:.0f}" if held else ""
        word = "holds" if good else "MISSED"
        rows.append([name, result.written, result.lost, result.repeated, cpu, memory, word, result.note])
        figures[name] = {**result._asdict(), "blocked": held and held._asdict(), "holds": good}
    table(["fault", "lines", "lost", "twice", "CPU meanwhile", "MB meanwhile", "", "what was said"], rows)
    if not options.only:
        save("faults", figures)
    return 1 if options.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
