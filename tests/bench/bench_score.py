"""What a line costs to score, in one run beside Drain3's match() alone; memory with many live keys (issue 4)."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig
from measure import foretail, lines_of, need, own_cpu, save, table

FORMAT = "<Date> <Time> <Pid> <Level> <Component>: <Content>"
KEY = r"blk_-?\d+"
TRAIN = 111_000
RUNS = 5
KEYS = 100_000

LIVE = """
import os, resource, sys
from foretail import bundle
from foretail.lines import Batch, Source
from foretail.stream import Stream
from foretail.telling import Options

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

stream = Stream(bundle.read(sys.argv[1]), Options("s", sessions_max=200_000))
line = b"081109 203518 143 INFO dfs.DataNode$DataXceiver: Receiving block blk_%d src: /10.0.0.1:5 dest: /10.0.0.2:6"

def feed(first, keys):
    for start in range(first, first + keys, 5000):
        rows = [line % (10**18 + i) for i in range(start, min(start + 5000, first + keys))]
        stream.feed(Batch("s", Source("0" * 24, "x", True), rows, list(range(len(rows))), len(rows), 2e9))

feed(0, 5000)
before = resident()
feed(5000, int(sys.argv[2]))
print(resident() - before)
"""


SECOND = """
import os, sys
from foretail import bundle, logs
from foretail.stream import Stream
from foretail.telling import Options

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

def scored(name, folder, log):
    stream = Stream(bundle.read(folder), Options(name))
    for batch in logs.batches([log], name):
        stream.feed(batch)
    return stream

first = scored("first", sys.argv[1], sys.argv[2])
before = resident()
second = scored("second", sys.argv[3], sys.argv[4])
print(resident() - before)
"""


def drain_us(lines: list[bytes]) -> float:
    """CPU of `match()` without masks on lines it was trained with, microseconds a line."""
    config = TemplateMinerConfig()
    config.profiling_enabled = False
    miner = TemplateMiner(config=config)
    text = [line.decode("utf-8", "replace").rstrip() for line in lines]
    for line in text[: len(text) // 2]:
        miner.add_log_message(line)
    began = own_cpu()
    for line in text:
        miner.match(line)
    return (own_cpu() - began) / len(text) * 1e6


def main() -> None:
    """Print the table; with --check exit 1 when a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true")
    options.add_argument("--bundle", type=Path, help="a bundle of this log, instead of fitting one")
    asked = options.parse_args()
    lines = lines_of(need("hdfs_raw", "hdfs.log.xz"))
    with tempfile.TemporaryDirectory() as folder:
        whole, first, train = Path(folder, "hdfs.log"), Path(folder, "ten.log"), Path(folder, "train.log")
        whole.write_bytes(b"".join(lines))
        first.write_bytes(b"".join(lines[:10]))
        train.write_bytes(b"".join(lines[:TRAIN]))
        bundle = asked.bundle or Path(folder, "bundle")
        if asked.bundle is None:
            foretail("fit", train, "--format", FORMAT, "--key", KEY, "--out", bundle, program="foretail-train")
        ours, starts, theirs, resident = [], [], [], 0.0
        for _ in range(RUNS):
            full, ten = (foretail("score", "--bundle", bundle, log) for log in (whole, first))
            ours.append((full.cpu_s - ten.cpu_s) / len(lines) * 1e6)
            starts.append(ten.wall_s)
            theirs.append(drain_us(lines))
            resident = max(resident, full.resident_mb)
        live = subprocess.run(
            [sys.executable, "-c", LIVE, str(bundle), str(KEYS)], capture_output=True, text=True, check=True
        )
        golden = Path(__file__).resolve().parents[1] / "golden"
        arguments = [str(bundle), str(whole), str(golden / "bundle"), str(golden / "storage.log")]
        second = subprocess.run([sys.executable, "-c", SECOND, *arguments], capture_output=True, text=True, check=True)
    us, drain = statistics.median(ours), statistics.median(theirs)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    keys_mb = float(live.stdout)
    rows: list[list[object]] = [
        ["score, CPU a line", f"{us:.2f} us", f"{ratio:.2f} x Drain3's match() ({drain:.2f} us)", "1.00 x"],
        ["start to end of 10 lines", f"{statistics.median(starts):.2f} s", "", "0.60 s"],
        ["resident", f"{resident:.0f} MB", "", "120 MB"],
        [f"{KEYS:,} live keys", f"{keys_mb:.0f} MB", "", "40 MB"],
        ["a second stream", f"{float(second.stdout):.1f} MB", "", "10 MB"],
    ]
    table(["what", "measured", "beside", "bound"], rows)
    figures = {"us": us, "drain3_us": drain, "ratio": ratio, "start_s": statistics.median(starts)}
    save("score", {**figures, "resident_mb": resident, "keys_mb": keys_mb, "second_mb": float(second.stdout)})
    if asked.check and (ratio > 1 or resident > 120 or keys_mb > 40):
        sys.exit("a bound is missed: " + json.dumps(figures))


if __name__ == "__main__":
    main()
