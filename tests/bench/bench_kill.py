"""The agent SIGKILLed again and again under load and rotation: what is lost, what is repeated, what differs (issue 5).

    python tests/bench/bench_kill.py [--kills 100] [--seed N] [--quick] [--check]

Two streams, half the rate each: one log is rotated by rename and create, the other by copytruncate. The writer numbers
its lines by event time, which never falls: a line that comes too late has the number of another. After the last kill
the agent reads to the end. Then every number is looked for in the verdicts, and an agent that nobody disturbs reads the
same bytes. What copytruncate itself loses (lines written between copy and truncate) is told from the files alone: it is
in no copy and not in the log. Sessions that such a line belongs to are told apart.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from agents import Agent, file_sink, stream
from measure import save, table
from traffic import BUNDLE, GOLDEN, Pace, lines, number_of

from foretail.ledger import HEADER_BYTES, read_journal
from foretail.rest import machine
from foretail.state import Entry
from foretail.verdicts import line_id

STREAMS = ("renamed", "truncated")
PLACE = re.compile(rb'"source":"[^"]*",')
OWN = re.compile(rb'"(?:id|source)":"[^"]*",|"offset":\d+,')
"""What two runs over the same bytes in other files may differ in."""
ROTATE_S = 1.5, 4.0
START_SHARE = 0.15
"""So many of the kills hit the start-up; the others come up to LIFE_S after it."""
LIFE_S = 1.0
SETTLED_LINES = 1000
"""Sessions whose last line is among so many last ones may not have ended."""


class Writer(threading.Thread):
    """Writes numbered lines to both logs at a steady rate, some to a log in two parts."""

    def __init__(self, folder: Path, rate: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.folder, self.rate, self.written = folder, rate // 2, 0
        self.over = threading.Event()
        self._chance = random.Random(seed)
        self._open = {name: self._opened(name) for name in STREAMS}
        self.reopen = threading.Event()

    def _opened(self, name: str) -> int:
        return os.open(self.folder / f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def run(self) -> None:
        """Until `over` is set; the last line is whole then."""
        pace = Pace(self.rate)
        while not self.over.is_set():
            due = pace.due()
            for first in range(self.written, due, 10):
                self._write(b"".join(lines(first, min(first + 10, due))))
            self.written = max(self.written, due)
            if self.reopen.is_set():
                self.reopen.clear()
                os.close(self._open["renamed"])
                self._open["renamed"] = self._opened("renamed")
            time.sleep(0.005)

    def _write(self, block: bytes) -> None:
        cut = self._chance.randrange(len(block)) if self._chance.random() < 0.05 else len(block)
        os.write(self._open["renamed"], block[:cut])  # a reader may look in between
        os.write(self._open["truncated"], block)
        if cut < len(block):
            os.write(self._open["renamed"], block[cut:])


class Logrotate(threading.Thread):
    """Rotates both logs at random moments and keeps all copies."""

    def __init__(self, writer: Writer, seed: int) -> None:
        super().__init__(daemon=True)
        self._writer, self._chance = writer, random.Random(seed)
        self.over = threading.Event()
        self.rotations = dict.fromkeys(STREAMS, 0)

    def run(self) -> None:
        """Until `over` is set."""
        while not self.over.wait(self._chance.uniform(*ROTATE_S)):
            name = self._chance.choice(STREAMS)
            log = self._writer.folder / f"{name}.log"
            for number in range(self.rotations[name], 0, -1):
                log.with_name(f"{log.name}.{number}").rename(log.with_name(f"{log.name}.{number + 1}"))
            self.rotations[name] += 1
            if name == "renamed":
                log.rename(log.with_name(f"{log.name}.1"))
                self.over.wait(self._chance.uniform(0, 0.05))  # the writer goes on in the old file meanwhile
                self._writer.reopen.set()
            else:
                with log.open("rb") as source, log.with_name(f"{log.name}.1").open("wb") as copy:
                    shutil.copyfileobj(source, copy, 64 << 10)
                os.truncate(log, 0)


class Account:
    """What became of the lines of one stream: per number how often, under which id, and the record's hash."""

    def __init__(self, count: int) -> None:
        self.times = np.zeros(count, np.int32)
        self.ids = np.zeros(count, np.uint64)
        self.records = np.zeros(count, np.uint64)
        self.scores = np.zeros(count, np.uint64)
        self.runs = np.zeros(count, np.int32)
        self.two_ids = self.two_records = self.strange = 0
        self.sessions: dict[str, tuple[int, int]] = {}
        self._all = array("Q")

    @property
    def distinct(self) -> int:
        """Lines with a verdict, by id."""
        return len(np.unique(np.frombuffer(self._all, np.uint64)))

    def add(self, run: int, row: Row, record: bytes) -> bool:
        """Take one verdict; whether an earlier run had given it."""
        number = number_of(row.time)
        if row.kind == "session":
            told = (_hash(OWN.sub(b"", record)), number)
            self.two_records += self.sessions.setdefault(row.session, told) != told
            return False
        if not 0 <= number < len(self.times):
            self.strange += 1
            return False
        name, whole = int(row.id[:16], 16), _hash(PLACE.sub(b"", record))
        self._all.append(name)
        if self.times[number] == 0:
            self.ids[number], self.records[number] = name, whole
            self.scores[number], self.runs[number] = _hash(OWN.sub(b"", record)), run
        else:
            self.two_ids += int(self.ids[number]) != name
            self.two_records += int(self.ids[number]) == name and int(self.records[number]) != whole
        self.times[number] += 1
        return int(self.runs[number]) != run

    def sessions_that_differ(self, truth: Account, apart: np.ndarray) -> int:
        """Anomalous sessions that only one of two accounts knows, or that differ; the last ones may still be open."""
        end = len(apart) - SETTLED_LINES
        both = self.sessions.items() ^ truth.sessions.items()
        return sum(not (number >= end or apart[number]) for _, (_, number) in both)


class Row(msgspec.Struct):
    """What is looked at of a verdict."""

    kind: str
    id: str
    stream: str
    time: float = 0.0
    session: str = ""


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")


def rows(path: Path, ends: list[int]) -> Iterator[tuple[int, Row, bytes]]:
    """Each whole record of a verdict file with the run that wrote it; the half lines of kills are left out.

    Args:
        path: of the file.
        ends: its size at each kill, rising.
    """
    decoder, at, run = msgspec.json.Decoder(Row), 0, 0
    with path.open("rb") as file:
        for raw in file:
            while run < len(ends) and at >= ends[run]:
                run += 1
            at += len(raw)
            try:
                yield run, decoder.decode(raw), raw
            except msgspec.DecodeError:
                continue


def unacknowledged(state: Path, host: str) -> set[str]:
    """Ids of the lines in the journal of a dead agent that no sink had acknowledged."""
    folder = state / "journal"
    journals = sorted(folder.glob("journal-*"), key=lambda path: -int(path.name[8:])) if folder.exists() else []
    newest = next((path for path in journals if path.stat().st_size > HEADER_BYTES), None)
    found = set()
    for payload in read_journal(newest).waiting if newest else []:
        columns = msgspec.msgpack.decode(payload, type=Entry).columns
        offsets = np.frombuffer(columns.offsets, np.int64).tolist()
        found |= {line_id(host, columns.source, offset) for offset in offsets}
    return found


def disturbed(
    agent: Agent, writer: Writer, rotate: Logrotate, kills: int, seed: int
) -> tuple[list[int], list[set[str]]]:
    """Kill it so often under load, then let it read to the end: size of the verdicts and open lines at each kill."""
    chance, out, host = random.Random(seed), agent.folder / "out.jsonl", machine()
    ends, waiting = [], []
    writer.start()
    rotate.start()
    for number in range(kills):
        agent.start()
        if chance.random() < START_SHARE:
            time.sleep(chance.uniform(0, 1.0))
        else:
            agent.started()
            time.sleep(chance.uniform(0, LIFE_S))
        agent.kill()
        ends.append(out.stat().st_size if out.exists() else 0)
        waiting.append(unacknowledged(agent.state, host))
        print(f"\r{number + 1} kills, {writer.written * 2} lines written", end="", file=sys.stderr)
    rotate.over.set()
    rotate.join()
    writer.over.set()
    writer.join()
    print("; reading to the end", file=sys.stderr)
    finish(agent)
    return ends, waiting


def finish(agent: Agent) -> None:
    """Start it, let it read all there is, stop it."""
    agent.start()
    agent.started()
    seen, since = -1, time.monotonic()
    while time.monotonic() - since < 3.0:  # nothing more came for so long
        time.sleep(0.1)
        told = agent.status()
        lag = sum(file["lag_bytes"] for each in told.get("streams", {}).values() for file in each["files"])
        now = agent.lines()
        if now != seen or lag or told["unacknowledged_batches"]:
            seen, since = now, time.monotonic()
    agent.stop()


def standing(folder: Path, name: str, count: int) -> tuple[np.ndarray, int]:
    """Which numbers are whole lines of the log or of its copies, and how many lines there are fragments."""
    found, fragments = np.zeros(count, np.int32), 0
    stamp = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d00Z ")
    for path in folder.glob(f"{name}.log*"):
        with path.open("rb") as file:
            for line in file:
                number = _number(line) if stamp.match(line) else -1
                if 0 <= number < count and line == next(lines(number, number + 1)):
                    found[number] += 1
                else:
                    fragments += 1
    return found, fragments


def _number(line: bytes) -> int:
    return number_of(time_of(line[:20]) + int(line[20:21]) / 10)


def time_of(second: bytes, known: dict[bytes, float] = {}) -> float:  # noqa: B006 - a memo
    """Epoch seconds of `2026-01-01T00:00:00.`."""
    if second not in known:
        import calendar  # noqa: PLC0415

        known.clear()
        known[second] = float(calendar.timegm(time.strptime(second.decode(), "%Y-%m-%dT%H:%M:%S.")))
    return known[second]


def undisturbed(folder: Path, kept: dict[str, np.ndarray]) -> dict[str, Account]:
    """The verdicts of an agent that reads these lines, one file a stream, and is left alone."""
    folder.mkdir()
    for name, which in kept.items():
        with (folder / f"{name}.log").open("wb") as file:
            for first in range(0, len(which), 100_000):
                part = enumerate(lines(first, min(first + 100_000, len(which))), first)
                file.writelines(line for number, line in part if which[number])
    agent = tailing(folder, folder)
    finish(agent)
    return accounts(folder / "out.jsonl", [], {name: len(which) for name, which in kept.items()}, [])[0]


class Repeats:
    """Which lines came again in a later run, and whether any of them had been acknowledged.

    Args:
        waiting: ids that no sink had acknowledged at each kill; what the next run did not come to read stays open.
    """

    def __init__(self, waiting: list[set[str]]) -> None:
        self.lines = self.needless = 0
        self._waiting, self._run = waiting, 0
        self._open: set[str] = set()
        self._closed: set[str] = set()

    def add(self, run: int, name: str, *, again: bool) -> None:
        """Take a line verdict of a run, `again` if an earlier run had given it."""
        while self._run < run:
            self._open = (self._open - self._closed) | self._waiting[self._run]
            self._closed.clear()
            self._run += 1
        self.lines += again
        if name in self._open:
            self._closed.add(name)
        else:
            self.needless += again


def accounts(
    path: Path, ends: list[int], counts: dict[str, int], waiting: list[set[str]]
) -> tuple[dict[str, Account], Repeats]:
    """What became of the lines, and what came twice."""
    found, repeats = {name: Account(count) for name, count in counts.items()}, Repeats(waiting)
    for run, row, record in rows(path, ends):
        again = found[row.stream].add(run, row, record)
        if row.kind == "line":
            repeats.add(run, row.id, again=again)
    return found, repeats


def tailing(logs: Path, folder: Path) -> Agent:
    """An agent on both logs that delivers every verdict to a file."""
    tables = [stream(name, f"{logs}/{name}.log", BUNDLE, emit="lines") for name in STREAMS]
    return Agent(folder, "".join([*tables, file_sink(folder / "out.jsonl")]))


def touched(lost: np.ndarray, count: int) -> np.ndarray:
    """Numbers of all lines that share a session, or its round of the golden log, with a lost line."""
    size = len((GOLDEN / "storage.log").read_bytes().splitlines())
    marked = np.zeros(count, np.bool_)
    for turn in np.unique(np.flatnonzero(lost) // size).tolist():
        marked[max(0, turn * size - 100) : (turn + 1) * size + 100] = True
    return marked


def main() -> int:
    """Print the table; with --check, 1 if anything was lost, differed, or came again without need."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="SIGKILLs (default 100)")
    parser.add_argument("--rate", type=int, default=20_000, help="lines a second of both logs together")
    parser.add_argument("--seed", type=int, default=20261121)
    parser.add_argument("--quick", action="store_true", help="10 kills")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in and to keep")
    parser.add_argument("--check", action="store_true", help="exit 1 when a must-hold is missed")
    options = parser.parse_args()
    kills = 10 if options.quick else options.kills
    with tempfile.TemporaryDirectory() as name:
        return told(options.keep or Path(name), kills, options)


def told(folder: Path, kills: int, options: argparse.Namespace) -> int:
    """Run it in this folder and print what came of it."""
    logs = folder / "logs"
    logs.mkdir(parents=True)
    writer = Writer(logs, options.rate, options.seed)
    rotate = Logrotate(writer, options.seed + 1)
    began = time.monotonic()
    agent = tailing(logs, folder)
    ends, waiting = disturbed(agent, writer, rotate, kills, options.seed + 2)
    written = writer.written
    found, repeats = accounts(folder / "out.jsonl", ends, dict.fromkeys(STREAMS, written), waiting)
    stands = {name: standing(logs, name, written) for name in STREAMS}
    kept = {name: (stands[name][0] > 0) | (found[name].times > 0) for name in STREAMS}
    print("an undisturbed agent reads the same bytes", file=sys.stderr)
    truth = undisturbed(folder / "again", kept)
    shown, figures, whole = [], {}, True
    for name in STREAMS:
        here, apart = found[name], touched(stands[name][0] == 0, written)
        result = {
            "written": written,
            "rotations": rotate.rotations[name],
            "lost_by_copytruncate": int((stands[name][0] == 0).sum()),
            "of_them_delivered": int(((stands[name][0] == 0) & (here.times > 0)).sum()),
            "fragments": stands[name][1],
            "lost": max(0, int((stands[name][0] > 0).sum()) - here.distinct),
            "out_of_order": int(((stands[name][0] > 0) & (here.times == 0)).sum()),
            "repeated": int((here.times > 1).sum()),
            "two_ids": here.two_ids,
            "two_records": here.two_records,
            "strange": here.strange,
            "told_apart": int(apart.sum()),
            "anomalous_sessions": len(here.sessions),
            "sessions_differ": here.sessions_that_differ(truth[name], apart),
            "differ": int(((here.scores != truth[name].scores) & kept[name] & ~apart).sum()),
            "differ_apart": int(((here.scores != truth[name].scores) & kept[name] & apart).sum()),
        }
        figures[name] = result
        bad = sum(result[key] for key in ("lost", "out_of_order", "two_records", "differ", "sessions_differ"))
        whole &= bad == 0 and result["two_ids"] + result["strange"] <= result["fragments"]
        shown.append(result)
    table(["", *STREAMS], [[key.replace("_", " "), *(each[key] for each in shown)] for key in shown[0]])
    delivered = sum(int((each.times > 0).sum()) for each in found.values())
    open_lines = [len(each) for each in waiting]
    summary = {
        "kills": kills,
        "seed": options.seed,
        "lines_per_s": options.rate,
        "seconds": round(time.monotonic() - began),
        "unacknowledged_lines_at_a_kill_mean": round(float(np.mean(open_lines)), 1),
        "unacknowledged_lines_at_a_kill_max": max(open_lines),
        "repeated_lines": repeats.lines,
        "repeated_share": repeats.lines / delivered,
        "repeated_though_acknowledged": repeats.needless,
    }
    print()
    table(["all", ""], [[key.replace("_", " "), value] for key, value in summary.items()])
    whole &= repeats.needless == 0
    traces = agent.said().count("Traceback")
    losses = sorted({line for line in agent.said().splitlines() if '"level": "error"' in line})
    print(f"\n{traces} tracebacks, {len(losses)} ERROR lines in the agent's log", *losses[:5], sep="\n")
    print("holds" if whole and not traces else "MISSED", "every line its verdict, repeats equal, as undisturbed")
    save("kill", {**summary, "streams": figures, "tracebacks": traces, "errors": len(losses)})
    return 1 if options.check and not (whole and not traces) else 0


if __name__ == "__main__":
    sys.exit(main())
