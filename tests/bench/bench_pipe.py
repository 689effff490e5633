"""Lines a second through `foretail pipe`, one answered line at a time as rsyslog asks, and in one stream.

python tests/bench/bench_pipe.py [--lines N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure import save, table
from plugins import syslog_bundle


def rate(command: list[str], lines: list[bytes], *, answered: bool) -> tuple[float, float]:
    """Lines a second, and CPU microseconds of the agent a line; start-up is not counted."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    if "omprog" in command:
        process.stdout.readline()
    process.stdin.write(lines[0])
    process.stdin.flush()
    process.stdout.readline()
    cpu, began = _cpu_s(process.pid), time.monotonic()
    if answered:
        for line in lines[1:]:
            process.stdin.write(line)
            process.stdin.flush()
            process.stdout.readline()
    else:
        sent, got = 0, 1
        while got < len(lines):
            if sent < len(lines) - 1:
                process.stdin.write(b"".join(lines[1 + sent : 1001 + sent]))
                process.stdin.flush()
                sent += 1000
            while got < min(sent, len(lines)):
                process.stdout.readline()
                got += 1
    wall, cpu = time.monotonic() - began, _cpu_s(process.pid) - cpu
    process.stdin.close()
    process.stdout.read()
    process.wait()
    return (len(lines) - 1) / wall, cpu / (len(lines) - 1) * 1e6


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--check", action="store_true", help="no figure here must hold")
    options = parser.parse_args()
    texts = syslog_bundle.messages(options.lines)
    lines = [f"2026-11-21T09:00:00+00:00 web1 prog[12]: {text}\n".encode() for text in texts]
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = syslog_bundle.write(Path(folder) / "bundle")
        base = [sys.executable, "-m", "foretail", "pipe", "--bundle", bundle]
        for name, more, answered in (
            ("omprog, a line at a time", ["--reply", "omprog", "--state", f"{folder}/omprog"], True),
            ("mmexternal, a line at a time", ["--reply", "mmexternal"], True),
            ("mmexternal, with a journal", ["--reply", "mmexternal", "--state", f"{folder}/mmexternal"], True),
            ("none, 1,000 lines at a time", ["--emit", "lines"], False),
        ):
            lines_per_s, cpu_us = rate(base + more, lines, answered=answered)
            rows.append([name, round(lines_per_s), round(cpu_us)])
    table(["foretail pipe", "lines/s", "CPU us a line"], rows)
    save("pipe", {str(name): {"lines_per_s": rate, "cpu_us": cpu} for name, rate, cpu in rows})


if __name__ == "__main__":
    main()
