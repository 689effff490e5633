"""What the benchmarks share: the data folder, whole-process figures, tables, and bench/NAME.json."""

from __future__ import annotations

import csv
import json
import lzma
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("FORETAIL_DATA", ROOT.parent / "shared" / "data"))


class Run(NamedTuple):
    """One finished process: seconds of CPU and of wall, MB of resident memory at its height."""

    cpu_s: float
    wall_s: float
    resident_mb: float


def need(*parts: str) -> Path:
    """A file of the research data; ends the benchmark with one sentence when it is not there."""
    path = DATA.joinpath(*parts)
    if not path.exists():
        sys.exit(f"{path} is missing: set FORETAIL_DATA to the folder of the research data (docs/benchmarks.md).")
    return path


def lines_of(path: Path) -> list[bytes]:
    """All lines of a log, unpacked, with their line ends."""
    raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    return raw.splitlines(keepends=True)


def foretail(*arguments: object, program: str = "foretail", out: Path | None = None) -> Run:
    """Run a command of ours as its own process and measure the whole of it; its standard output goes to a file."""
    module = {"foretail": "foretail", "foretail-train": "foretail_trainer.cli"}[program]
    return measured([sys.executable, "-m", module, *map(str, arguments)], out)


def measured(command: list[str], out: Path | None = None) -> Run:
    """Run any command and measure it; ends the benchmark if it fails.

    Memory is the process's own high-water mark: what wait4 tells also counts the parent it was forked from.
    """
    began, peak = time.monotonic(), 0
    with (out or Path(os.devnull)).open("wb") as file, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=file, stderr=errors)
        finished = 0
        while not finished:
            peak = max(peak, _high_water(process.pid))
            time.sleep(0.01)
            finished, status, usage = os.wait4(process.pid, os.WNOHANG)
        process.returncode = status
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    if status:
        sys.exit(f"{' '.join(command)} failed: {text[-2000:]}")
    return Run(usage.ru_utime + usage.ru_stime, time.monotonic() - began, peak / 1e6)


def _high_water(pid: int) -> int:
    """Bytes of resident memory at its height, 0 when the process is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    rows = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
    return int(rows[0][1]) * 1024 if rows else 0


def hdfs_labels() -> dict[str, bool]:
    """Block to whether it is anomalous."""
    with need("hdfs_raw", "labels.csv").open(newline="") as file:
        return {row["BlockId"]: row["Label"] == "Anomaly" for row in csv.DictReader(file)}


def own_cpu() -> float:
    """CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def table(head: list[str], rows: list[list[object]]) -> None:
    """Print aligned columns."""
    cells = [[str(cell) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def save(name: str, figures: dict[str, object]) -> None:
    """Write bench/NAME.json, what the README's tables are made of."""
    folder = ROOT / "bench"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def f1(tp: int, fp: int, fn: int) -> float:
    """Harmonic mean of precision and recall."""
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0
