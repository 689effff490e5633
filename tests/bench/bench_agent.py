"""What the whole agent costs beside `foretail score`, how late a verdict is, what it weighs and writes (issue 5).

    python tests/bench/bench_agent.py [--quick] [--only speed,latency,idle,memory,writes] [--check]

Every figure is of a `foretail run` process with its default settings, from /proc. The log of `speed` is raw HDFS with a
bundle fitted on its first half; the other logs are the golden bundle's service, as many lines as wanted.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
from agents import Agent, file_sink, stream
from measure import foretail, lines_of, need, save, table
from traffic import BUNDLE, Pace, lines, number_of

FORMAT = "<Date> <Time> <Pid> <Level> <Component>: <Content>"
KEY = r"blk_-?\d+"
RUNS = 5
KEYS, KEYS_MADE = 100_000, 130_000
"""Live keys that are wanted, and that take turns: sessions also end."""
DAY_S = 86_400


def speed(folder: Path, *, quick: bool) -> dict[str, float]:
    """CPU microseconds a line of `foretail score` and of the agent, both with anomalies, in turn; start-up left out."""
    log = lines_of(need("hdfs_raw", "hdfs.log.xz"))
    whole, first, train = folder / "whole.log", folder / "ten.log", folder / "train.log"
    whole.write_bytes(b"".join(log))
    first.write_bytes(b"".join(log[:10]))
    train.write_bytes(b"".join(log[: len(log) // 2]))
    bundle = Path(tempfile.gettempdir()) / "foretail-bench-hdfs"
    if not (bundle / "manifest.json").exists():
        fit = ("fit", train, "--format", FORMAT, "--key", KEY, "--out", bundle)
        foretail(*fit, "--false-alert-rate", "0.001", program="foretail-train")
    score, agent = [], []
    for number in range(2 if quick else RUNS):
        run = ("score", "--bundle", bundle, "--emit", "anomalies")
        full, ten = foretail(*run, whole), foretail(*run, first)
        score.append((full.cpu_s - ten.cpu_s) / (len(log) - 10) * 1e6)
        agent.append(tailed_us(folder / f"run-{number}", bundle, log))
    ratios = [ours / plain for ours, plain in zip(agent, score, strict=True)]
    return {
        "speed_lines": len(log),
        "score_us": statistics.median(score),
        "agent_us": statistics.median(agent),
        "agent_to_score": statistics.median(ratios),
    }


def tailed_us(folder: Path, bundle: Path, log: list[bytes]) -> float:
    """CPU microseconds a line of an agent that finds a whole log, after it has read ten lines."""
    folder.mkdir()
    path = folder / "hdfs.log"
    path.write_bytes(b"".join(log[:10]))
    agent = Agent(folder, stream("hdfs", str(path), bundle, emit="anomalies") + file_sink(folder / "out.jsonl"))
    agent.start()
    agent.wait("the first lines", lambda: agent.settled(10))
    before = agent.cpu_s()
    with path.open("ab") as file:
        file.write(b"".join(log[10:]))
    while agent.lines() < len(log):
        time.sleep(0.3)
    agent.wait("the end", lambda: agent.settled(len(log)))
    used = agent.cpu_s() - before
    agent.stop()
    return used / (len(log) - 10) * 1e6


def latency(folder: Path, *, quick: bool) -> dict[str, float]:
    """Milliseconds from a write to its verdict on a unix socket; a line every 0.05 to 0.5 s."""
    count, path, log = 60 if quick else 300, folder / "sink.sock", folder / "app.log"
    written, came = [0.0] * count, [0.0] * count
    chance = random.Random(1)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        thread = threading.Thread(target=_received, args=(listening, came), daemon=True)
        thread.start()
        sink = f'[[sink]]\ntype = "unix"\npath = "{path}"\n'
        agent = Agent(folder, stream("app", str(log), BUNDLE, emit="lines") + sink)
        log.touch()
        agent.start()
        agent.started()
        time.sleep(3)
        with log.open("ab", buffering=0) as file:
            for number, line in enumerate(lines(0, count)):
                time.sleep(chance.uniform(0.05, 0.5))
                written[number] = time.monotonic()
                file.write(line)
        agent.wait("the last verdict", lambda: all(came))
        agent.stop()
    times = sorted((after - before) * 1e3 for before, after in zip(written, came, strict=True))
    return {
        "latency_p50_ms": times[count // 2],
        "latency_p99_ms": times[int(count * 0.99)],
        "latency_max_ms": times[-1],
        "load_average": os.getloadavg()[0],
    }


def _received(listening: socket.socket, came: list[float]) -> None:
    plug, _ = listening.accept()
    with plug, plug.makefile("rb") as verdicts, contextlib.suppress(IndexError):
        for verdict in verdicts:
            row = msgspec.json.decode(verdict)
            if row["kind"] == "line":
                came[number_of(row["time"])] = time.monotonic()


def idle(folder: Path, *, quick: bool) -> dict[str, float]:
    """CPU share of one core with 100 files to which nobody writes."""
    logs, seconds = folder / "logs", 10 if quick else 60
    logs.mkdir()
    for number in range(100):
        (logs / f"{number}.log").write_bytes(b"".join(lines(number * 50, number * 50 + 50)))
    agent = Agent(folder, stream("app", f"{logs}/*.log", BUNDLE, emit="anomalies") + file_sink(folder / "out.jsonl"))
    agent.start()
    agent.wait("the end of 100 files", lambda: agent.settled(5000))
    time.sleep(3)
    before = agent.cpu_s()
    time.sleep(seconds)
    share = (agent.cpu_s() - before) / seconds
    agent.stop()
    return {"idle_100_files_core_share": share}


def memory(folder: Path, *, quick: bool) -> dict[str, float]:
    """Resident MB after a tenth of the lines and after all; event times go on, keys are fresh, the log is rotated."""
    total, block, log = 1_000_000 if quick else 10_000_000, 250_000, folder / "app.log"
    agent = Agent(folder, stream("app", str(log), BUNDLE, emit="anomalies") + file_sink(folder / "out.jsonl"))
    agent.start()
    agent.started()
    early = peak = 0.0
    for first in range(0, total, block):
        with log.open("ab") as file:
            file.write(b"".join(lines(first, first + block)))
        agent.wait(f"line {first + block}", lambda end=first + block: agent.lines() >= end)
        log.rename(f"{log}.1")
        peak = max(peak, agent.resident_mb())
        if first + block == max(block, total // 10):
            early = agent.resident_mb()
        print(f"\r{first + block} lines, {peak:.1f} MB", end="", file=sys.stderr)
    print(file=sys.stderr)
    late = agent.resident_mb()
    agent.stop()
    return {"lines": total, "resident_early_mb": early, "resident_late_mb": late, "resident_peak_mb": peak}


def writes(folder: Path, *, quick: bool) -> dict[str, float]:
    """GB a day of journal and snapshots at 100,000 live keys and 1,000 lines/s.

    The journal's rate is measured over a minute at that pace, by the process's own account of bytes given to write()
    and by that of bytes sent to the disk; a snapshot's size is that of one taken with all keys alive. A day has as many
    snapshots as the journal grows to its bound.
    """
    seconds, log = 20 if quick else 90, folder / "app.log"
    more = "idle_s = 1e7"
    tables = stream("app", str(log), BUNDLE, emit="incidents", more=more) + file_sink(folder / "out.jsonl")
    agent = Agent(folder, tables)
    journal = agent.state / "journal"
    log.touch()
    agent.start()
    agent.started()
    written = 0
    while (snapshot := _snapshot_bytes(journal)) == 0 or written < 3 * KEYS or agent.status_of("sessions_open") < KEYS:
        with log.open("ab") as file:
            file.write(b"".join(lines(written, written + 100_000, keys=KEYS_MADE)))
        written += 100_000
        agent.wait(f"line {written}", lambda end=written: agent.settled(end))
        if written > 40 * KEYS:
            sys.exit(f"no {KEYS} live keys after {written} lines: {agent.status_of('sessions_open')}")
    time.sleep(6)
    before, disk, began = agent.written_bytes(), agent.written_bytes("write_bytes"), time.monotonic()
    sent, generation = (folder / "out.jsonl").stat().st_size, max(journal.glob("snapshot-*"))
    pace, first = Pace(1000), written
    while time.monotonic() - began < seconds:
        due = first + pace.due()
        with log.open("ab") as file:
            file.writelines(lines(written, due, keys=KEYS_MADE))
        written = due
        time.sleep(0.02)
    spent = time.monotonic() - began
    bytes_per_s = (agent.written_bytes() - before - (folder / "out.jsonl").stat().st_size + sent) / spent
    disk_per_s = (agent.written_bytes("write_bytes") - disk) / spent
    keys = agent.status_of("sessions_open")
    assert generation == max(journal.glob("snapshot-*")), "a snapshot fell into the measured time; run it again"
    agent.stop()
    bound = max(1 << 20, min(64 << 20, 4 * snapshot))
    snapshots = DAY_S * bytes_per_s / bound
    return {
        "live_keys": keys,
        "journal_bytes_a_line": bytes_per_s / 1000,
        "snapshot_mb": snapshot / 1e6,
        "snapshots_a_day": snapshots,
        "journal_gb_a_day": DAY_S * bytes_per_s / 1e9,
        "journal_disk_gb_a_day": DAY_S * disk_per_s / 1e9,
        "written_gb_a_day": (DAY_S * max(bytes_per_s, disk_per_s) + snapshots * snapshot) / 1e9,
    }


def _snapshot_bytes(journal: Path) -> int:
    return max((path.stat().st_size for path in journal.glob("snapshot-*[0-9]")), default=0)


BOUNDS = {
    "agent_to_score": 1.3,
    "latency_p99_ms": 200.0,
    "idle_100_files_core_share": 0.01,
    "resident_peak_mb": 90.0,
    "written_gb_a_day": 10.0,
}
PARTS = {"speed": speed, "latency": latency, "idle": idle, "memory": memory, "writes": writes}


def main() -> int:
    """Print a table; with --check, 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="fewer runs, lines and seconds")
    parser.add_argument("--check", action="store_true", help="exit 1 when a bound is missed")
    options = parser.parse_args()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for part in options.only.split(","):
            folder = Path(name) / part
            folder.mkdir()
            print(f"{part} ...", file=sys.stderr)
            figures |= PARTS[part](folder, quick=options.quick)
    rows: list[list[object]] = []
    for key, value in figures.items():
        bound = BOUNDS.get(key)
        rows.append(
            [key, f"{value:.4g}", "" if bound is None else f"{bound:g}", "" if bound is None else held(key, value)]
        )
    table(["figure", "measured", "at most", ""], rows)
    if len(figures) > len(BOUNDS) and not options.quick and options.only == ",".join(PARTS):
        save("agent", dict(figures))
    return 1 if options.check and any(figures.get(key, 0) > bound for key, bound in BOUNDS.items()) else 0


def held(key: str, value: float) -> str:
    """Whether a bound holds."""
    return "holds" if value <= BOUNDS[key] else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
