"""Tailing: random file actions against the exact model, and what following files costs (issue 5, bench-tail).

    python tests/bench/bench_tail.py [--runs 5000] [--check] [--quick]

CPU time of this process; the latency is wall time from a write to the batch that holds it, on an idle watch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "agent")]

from test_tailing_machine import Tailing  # noqa: E402

from foretail.globs import Globs  # noqa: E402
from foretail.tail import Reading  # noqa: E402
from foretail.wake import Waker  # noqa: E402
from foretail.watch import Watch  # noqa: E402

LINE = (
    b"081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for block blk_38865049064139660 ends ok\n"
)
SEED = 20261121


def machine(runs: int) -> float:
    """Seconds for so many runs of random actions; an error shows the shortest failing one."""

    @seed(SEED)
    class Run(Tailing):
        pass

    start = time.perf_counter()
    run_state_machine_as_test(
        Run,
        settings=settings(
            max_examples=runs,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        ),
    )
    return time.perf_counter() - start


def spent(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def best(work: Callable[[], object], times: int = 5) -> float:
    """Least CPU seconds of a few runs."""
    return min(spent(work) for _ in range(times))


def reading(root: Path, count: int) -> dict[str, float]:
    """CPU microseconds a line: plain reading and splitting, and the watch."""
    path = root / "app.log"
    path.write_bytes(LINE * count)

    def plain() -> None:
        with path.open("rb") as file:
            rest = b""
            while data := file.read(1 << 18):
                rest = (rest + data).split(b"\n")[-1]

    def followed() -> None:
        watch = Watch(Reading("bench"), Globs([str(path)]))
        found = 0
        while (batch := watch.read(0.0, 0.0)) is not None:
            found += len(batch.lines)
        watch.close()
        assert found == count

    figures = {"plain_us": best(plain) / count * 1e6, "followed_us": best(followed) / count * 1e6}
    path.unlink()
    return figures


def idle(root: Path, files: int) -> dict[str, float]:
    """CPU share of one core for looking at idle files at the default interval, file events on."""
    for number in range(files):
        (root / f"{number}.log").write_bytes(LINE)
    watch = Watch(Reading("bench"), Globs([f"{root}/*.log"]))
    while watch.read(0.0, 0.0) is not None:
        pass
    seconds = 60

    def minute() -> None:
        for tick in range(round(seconds / watch.limits.look_s)):
            watch.read(tick * watch.limits.look_s, 0.0)

    share = spent(minute) / seconds
    watch.close()
    for path in root.iterdir():
        path.unlink()
    return {f"idle_{files}_files_core_share": share}


def latency(root: Path, writes: int, *, watchdog: bool, poll_s: float) -> list[float]:
    """Seconds from a write to its batch, sorted; the loop sleeps as the agent's does."""
    path = root / "app.log"
    path.write_bytes(LINE)
    event = threading.Event()
    waker = Waker(event, enabled=watchdog)
    watch = Watch(Reading("bench"), Globs([str(path)]))
    written: list[float] = []
    done = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            for _ in range(writes):
                done.wait(0.05)
                written.append(time.monotonic())
                file.write(LINE)

    writer = threading.Thread(target=write)
    read: list[float] = []
    while watch.read(time.monotonic(), 0.0):
        pass
    waker.arm(watch.folders(), time.monotonic())
    writer.start()
    while len(read) < writes:
        if event.wait(poll_s):
            event.clear()
        watch.look(time.monotonic(), 0.0)
        while (batch := watch.read(time.monotonic(), 0.0)) is not None:
            read += [time.monotonic()] * len(batch.lines)
    writer.join()
    waker.disarm()
    watch.close()
    path.unlink()
    return sorted(after - before for before, after in zip(written, read, strict=True))


def memory(root: Path, lines: int) -> dict[str, float]:
    """Resident MB after a tenth of the lines and after all of them, through a rotation every 100,000."""
    path = root / "app.log"
    watch = Watch(Reading("bench"), Globs([str(path)]))
    found, now, early = 0, 0.0, 0.0
    block = LINE * 100_000
    for number in range(lines // 100_000):
        path.write_bytes(block)
        now += 60.0
        watch.look(now, now, listing=True)
        while (batch := watch.read(now, now)) is not None:
            found += len(batch.lines)
        path.unlink()
        if number + 1 == lines // 1_000_000:
            early = resident()
    watch.close()
    assert found == lines
    return {"resident_early_mb": early, "resident_late_mb": resident()}


def resident() -> float:
    """Resident MB of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> int:
    """Print a table; with --check, 1 if a must-hold is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000, help="runs of the state machine")
    parser.add_argument("--quick", action="store_true", help="fewer runs and lines")
    parser.add_argument("--check", action="store_true", help="exit 1 when a must-hold is missed")
    options = parser.parse_args()
    runs = 200 if options.quick else options.runs
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    memory_folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=memory_folder) as folder:
        root = Path(folder)
        figures |= memory(root, 1_000_000 if options.quick else 10_000_000)
        figures |= reading(root, 230_000)
        figures |= idle(root, 100)
        figures |= idle(root, 1500)
        for watchdog, poll_s, name in ((True, 1.0, "watchdog"), (False, 0.25, "polling")):
            times = latency(root, 40 if options.quick else 200, watchdog=watchdog, poll_s=poll_s)
            figures[f"latency_{name}_p50_ms"] = times[len(times) // 2] * 1e3
            figures[f"latency_{name}_p99_ms"] = times[int(len(times) * 0.99)] * 1e3
    figures["machine_s"] = machine(runs)
    figures["machine_runs"], figures["machine_seed"] = runs, SEED
    for name, value in figures.items():
        print(f"{name:32} {value:12.3f}")
    (ROOT / "bench").mkdir(exist_ok=True)
    (ROOT / "bench" / "tail.json").write_text(json.dumps(figures, indent=1))
    holds = {
        "a line is followed in 0.25 us more than plain reading": figures["followed_us"] - figures["plain_us"] <= 0.25,
        "idle CPU with 100 files below 1 %": figures["idle_100_files_core_share"] < 0.01,
        "write to batch p99 below 200 ms": figures["latency_watchdog_p99_ms"] < 200,
        "memory flat to 10 %": figures["resident_late_mb"] < 1.1 * figures["resident_early_mb"],
        f"no failure in {runs} runs": True,
    }
    for text, held in holds.items():
        print("holds " if held else "MISSED", text)
    return 1 if options.check and not all(holds.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
