"""What typing a line costs, next to Drain3's match() in the same run (issue 3, bench-match).

    python tests/bench/bench_match.py [--data ../shared/data] [--check] [--quick]

The types are Drain3's own templates, so that both do the same work. CPU time of this process, best of three.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import lzma
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from drain3 import TemplateMiner

from foretail.formats import detect, parse_format
from foretail.patterns import Matcher, MatchLimits
from foretail.schema import Format, KeyRule, Pattern

ROOT = Path(__file__).parents[2]
HDFS = "<Date> <Time> <Pid> <Level> <Component>: <Content>"
READ_BYTES = 1 << 18
DISTINCT = 5_000_000


def best(work: Callable[[], object], times: int = 3) -> float:
    """Least CPU seconds of a few runs."""
    spent = []
    for _ in range(times):
        gc.collect()
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return min(spent)


def drain(messages: Sequence[str]) -> TemplateMiner:
    """Drain3, default settings, taught all messages."""
    logging.disable(logging.CRITICAL)
    miner = TemplateMiner()
    for message in messages:
        miner.add_log_message(message)
    return miner


def types(miner: TemplateMiner) -> list[Pattern]:
    """Drain3's templates as patterns, those with most fixed text first."""
    templates = sorted(
        {cluster.get_template() for cluster in miner.drain.clusters},
        key=lambda text: (-len(text.replace("<*>", "")), text),
    )
    rows = []
    for rank, template in enumerate(templates):
        parts = [r"\S+" if token == "<*>" else escape(token) for token in template.split()]
        rows.append(Pattern(1, rank, f"{rank:016x}", template, r"\s+".join(parts), rank))
    return rows


def escape(text: str) -> str:
    """A literal as an ASCII regex over bytes."""
    return "".join(
        chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else rf"\x{byte:02x}" for byte in text.encode()
    )


def type_file(path: Path, matcher: Matcher) -> int:
    """Reads, splits and types a file, as the agent does: returns the lines."""
    lines, rest = 0, b""
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            parts = (rest + block).split(b"\n")
            rest = parts.pop()
            matcher.match(parts)
            lines += len(parts)
    return lines


def against_drain(name: str, path: Path, form: Format, key: KeyRule, limit: float) -> dict[str, object]:
    """File to types against Drain3's match() on the messages and on the raw lines, us a line."""
    lines = path.read_bytes().split(b"\n")[:-1]
    reader = Matcher([], form, KeyRule())
    messages = [reader.message(line).decode("utf-8", "replace") for line in lines]
    raw = [line.decode("utf-8", "replace") for line in lines]
    of_messages, of_lines = drain(messages), drain(raw)
    patterns = types(of_messages)
    fresh = [Matcher(patterns, form, key) for _ in range(3)]  # loading a bundle is not typing lines
    ours = best(lambda: type_file(path, fresh.pop()))
    theirs = best(lambda: [of_messages.match(message) for message in messages])
    theirs_raw = best(lambda: [of_lines.match(line) for line in raw])
    matcher = Matcher(patterns, form, key)
    type_file(path, matcher)
    stats, scale = matcher.stats, 1e6 / len(lines)
    return {
        "name": name, "lines": len(lines), "types": len(patterns), "hit_rate": stats.hits / stats.lines,
        "untyped": stats.untyped / stats.lines, "us": ours * scale, "drain3_us": theirs_raw * scale,
        "drain3_messages_us": theirs * scale, "value": ours / theirs_raw, "limit": limit,
        "ratio_messages": ours / theirs, "unit": "x Drain3 on the same lines",
    }  # fmt: skip


def unpacked(path: Path, folder: Path) -> Path:
    """The .xz file, unpacked."""
    target = folder / path.stem
    target.write_bytes(lzma.decompress(path.read_bytes()))
    return target


def many_types(count: int, seed: int = 3) -> tuple[list[Pattern], Callable[[], bytes]]:
    """`count` types over a vocabulary of 400 words, and a source of lines of them, each with values of its own."""
    draw = random.Random(seed)
    vocabulary = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(3, 9))) for _ in range(400)]
    shapes = []
    for _ in range(count):
        shape = draw.sample(vocabulary, draw.randint(4, 9))
        for place in draw.sample(range(len(shape)), 2):
            shape[place] = draw.choice(["<*>", "id=<*>", "<*>"])
        shapes.append(shape)
    rows = [
        Pattern(
            1, rank, f"{rank:016x}", " ".join(shape), " ".join(word.replace("<*>", r"(\S+)") for word in shape), rank
        )
        for rank, shape in enumerate(shapes)
    ]

    def line() -> bytes:
        return " ".join(word.replace("<*>", f"{draw.getrandbits(64):x}") for word in draw.choice(shapes)).encode()

    return rows, line


def misses(count: int) -> dict[str, object]:
    """The median cost of a line whose skeleton is new."""
    rows, line = many_types(count)
    matcher = Matcher(rows, parse_format("iso8601"), KeyRule())
    spent = []
    for _ in range(100):
        batch = [b"2026-01-02T03:04:05.678Z " + line() for _ in range(200)]
        start = time.process_time_ns()
        matcher.match(batch)
        spent.append((time.process_time_ns() - start) / 200_000)
    return {
        "name": f"memo miss, {count} types", "us": statistics.median(spent), "value": statistics.median(spent),
        "limit": 15.0, "unit": "us, median", "hit_rate": matcher.stats.hits / matcher.stats.lines,
        "untyped": matcher.stats.untyped / matcher.stats.lines,
    }  # fmt: skip


def with_uuids(count: int) -> dict[str, object]:
    """Lines with a UUID each: the memo is useless and must cost little."""
    draw = random.Random(5)
    rows, _ = many_types(120)
    rows.append(Pattern(2, 0, "f" * 16, "", r"(\S+) request (\S+) from (\S+) finished in \d+ ms", len(rows)))
    lines = [
        b"2026-01-02T03:04:05.678Z INFO request %s from 10.0.0.%d finished in %d ms"
        % (str(uuid.UUID(int=draw.getrandbits(128))).encode(), draw.randrange(255), draw.randrange(10_000))
        for _ in range(count)
    ]
    form = parse_format("iso8601")

    def run() -> None:
        matcher = Matcher(rows, form, KeyRule())
        for start in range(0, count, 2000):
            matcher.match(lines[start : start + 2000])

    cost = best(run, 2) / count * 1e6
    return {"name": "a UUID a line", "lines": count, "us": cost, "value": cost, "limit": 20.0, "unit": "us a line"}


def memory(distinct: int) -> dict[str, object]:
    """Resident growth while `distinct` lines pass, enough of them twice to keep insertion going."""
    rows = [Pattern(1, 0, "0" * 16, "", r"session (\S+) opened for (\S+)", 0)]
    limits = MatchLimits()
    matcher = Matcher(rows, Format(), KeyRule(), limits)
    matcher.match([b"session x opened for y"] * 3000)
    names = bytes.maketrans(b"0123456789", b"ghijklmnop")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    largest = 0
    for start in range(0, distinct, 2000):
        batch = [(b"session %x opened for user" % number).translate(names) for number in range(start, start + 2000)]
        matcher.match(batch)
        matcher.match(batch[:1000])
        largest = max(largest, matcher.stats.memo_size)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {
        "name": f"memo while {distinct:,} distinct lines pass", "lines": distinct, "value": grown / 2**20,
        "limit": limits.bytes / 2**20, "unit": "MB resident", "estimated_mb": largest / 2**20,
        "hit_rate": matcher.stats.hits / matcher.stats.lines,
    }  # fmt: skip


def dirt() -> dict[str, object]:
    """The longest time on one line: random bytes and a line of 10 MB."""
    draw = random.Random(11)
    rows, _ = many_types(300)
    rows.append(Pattern(2, 0, "f" * 16, "", r".* a .* b .*c", len(rows)))
    matcher = Matcher(rows, parse_format("rfc3164"), KeyRule("search", r"blk_-?\d+"))
    worst = worst_wall = 0.0
    hostile = [b"a b " * 2_500_000, b" a " * 3_000_000, b"Jun  9 06:06:20 h a: " + b" a " * 20_000]
    for line in hostile + [draw.randbytes(draw.randrange(400)) for _ in range(100_000)]:
        start, wall = time.thread_time(), time.perf_counter()
        matcher.match([line])
        worst = max(worst, time.thread_time() - start)
        worst_wall = max(worst_wall, time.perf_counter() - wall)
    return {
        "name": "10 MB lines and 100,000 of random bytes", "lines": 100_003, "value": worst * 1000, "limit": 100.0,
        "unit": "ms CPU, worst line", "wall_ms": worst_wall * 1000, "timeouts": matcher.stats.timeouts,
    }  # fmt: skip


def property_test(examples: int) -> dict[str, object]:
    """Memo and index against trying in order."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/agent/test_patterns_property.py"],
        env={**os.environ, "FORETAIL_EXAMPLES": str(examples)}, cwd=ROOT, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        print(done.stdout[-3000:])
    return {
        "name": f"property test, {examples} examples",
        "value": float(done.returncode),
        "limit": 0.0,
        "unit": "failures",
    }


def show(rows: Sequence[dict[str, object]]) -> None:
    """The table."""
    print(f"{'':44} {'us':>8} {'Drain3':>8} {'messages':>9} {'hits':>6} {'value':>9} {'limit':>7}  unit")
    for row in rows:
        cells = [row.get(name) for name in ("us", "drain3_us", "drain3_messages_us", "hit_rate")]
        shown = [f"{cell:.3f}" if isinstance(cell, float) else "" for cell in cells]
        verdict = "" if row["value"] <= row["limit"] else "  MISSED"  # type: ignore[operator]
        print(
            f"{row['name']:44} {shown[0]:>8} {shown[1]:>8} {shown[2]:>9} {shown[3]:>6} {row['value']:9.3f}"
            f" {row['limit']:7.2f}  {row['unit']}{verdict}"
        )


def main() -> int:
    """Runs all parts and writes bench/match.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FORETAIL_DATA", ROOT / "../shared/data")))
    parser.add_argument("--check", action="store_true", help="exit 1 when a figure misses its limit")
    parser.add_argument("--quick", action="store_true", help="a tenth of the memory and property parts")
    args = parser.parse_args()
    rows = []
    # first, because the high-water mark of resident memory only rises
    rows.append(memory(DISTINCT // 10 if args.quick else DISTINCT))
    rows += [misses(1000), with_uuids(100_000)]
    with tempfile.TemporaryDirectory() as folder:
        if args.data.exists():
            hdfs = unpacked(args.data / "hdfs_raw/hdfs.log.xz", Path(folder))
            rows.append(
                against_drain("HDFS, file to types", hdfs, parse_format(HDFS), KeyRule("search", r"blk_-?\d+"), 0.35)
            )
            nginx = unpacked(args.data / "logs/nginx_access.log.xz", Path(folder))
            form = detect(nginx.read_bytes().split(b"\n")[:2000])
            rows.append(
                against_drain("nginx access, file to types", nginx, form, KeyRule("field", field="client"), 1.5)
            )
        else:
            print(f"no data at {args.data}: the parts against Drain3 are skipped")
    rows += [dirt(), property_test(200 if args.quick else 2000)]
    show(rows)
    target = ROOT / "bench"
    target.mkdir(exist_ok=True)
    (target / "match.json").write_text(json.dumps(rows, indent=1))
    missed = [row for row in rows if row["value"] > row["limit"]]  # type: ignore[operator]
    return 1 if missed and args.check else 0


if __name__ == "__main__":
    sys.exit(main())
