"""Are message types right on logs nobody tuned for, and do they stay the same when retrained?

    bench_types.py [--data DIR] [--check] [--stream LINES]

Per system of Loghub-2k: GA, FGA, PA and FTA (eval/type_accuracy.py) of foretail with the header given, with the
header detected, and of Drain3 as it comes. Then made-up logs in other styles, retraining on 80 % and on all of three
long logs, the time for the HDFS log and, with --stream, the memory for a long generated stream.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "trainer"))
import styles
from drain3 import TemplateMiner
from drain3.template_miner_config import TemplateMinerConfig

from foretail import logs
from foretail.formats import detect, parse_format
from foretail.patterns import Matcher
from foretail.schema import Format, KeyRule, Patterns
from foretail_trainer.mine import Mined, mine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEADERS = {
    "HDFS": "<Date> <Time> <Pid> <Level> <Component>: <Content>",
    "BGL": "<Label> <Timestamp> <Date> <Node> <Time> <NodeRepeat> <Type> <Component> <Level> <Content>",
    "Hadoop": r"<Date> <Time> <Level> \[<Process>\] <Component>: <Content>",
    "HPC": "<LogId> <Node> <Component> <State> <Time> <Flag> <Content>",
    "Linux": r"<Month> <Date> <Time> <Level> <Component>(\[<PID>\])?: <Content>",
    "OpenSSH": r"<Date> <Day> <Time> <Component> sshd\[<Pid>\]: <Content>",
    "OpenStack": r"<Logrecord> <Date> <Time> <Pid> <Level> <Component> \[<ADDR>\] <Content>",
    "Spark": "<Date> <Time> <Level> <Component>: <Content>",
    "Zookeeper": r"<Date> <Time> - <Level>  \[<Node>:<Component>@<Id>\] - <Content>",
    "Apache": r"\[<Time>\] \[<Level>\] <Content>",
}
RETRAINED = {
    "hdfs_raw/hdfs.log.xz": HEADERS["HDFS"],
    "logs/linux_syslog.log.xz": "rfc3164",
    "logs/nginx_access.log.xz": "combined",
}
Scores = tuple[float, float, float, float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=os.environ.get("FORETAIL_DATA", "../shared/data"))
    parser.add_argument("--check", action="store_true", help="exit 1 when a must-hold of issue 3 is missed")
    parser.add_argument("--stream", type=int, default=0, metavar="LINES", help="also mine a generated stream")
    options = parser.parse_args()
    data = Path(options.data)
    if not (data / "loghub2k").is_dir():
        print(f"{data} holds no loghub2k; set FORETAIL_DATA or --data", file=sys.stderr)
        return 2
    found: dict[str, Any] = {"accuracy": accuracy(data), "styles": made_up(), "retraining": retraining(data)}
    found["hdfs_seconds"] = hdfs_seconds(data)
    if options.stream:
        found["stream"] = stream(options.stream)
    Path("bench").mkdir(exist_ok=True)
    Path("bench/types.json").write_text(json.dumps(found, indent=1))
    missed = misses(found)
    for sentence in missed:
        print("MISSED", sentence)
    return int(bool(missed) and options.check)


def accuracy(data: Path) -> dict[str, dict[str, Scores]]:
    """GA, FGA, PA, FTA per system and way."""
    measure = evaluator(data)
    rows: dict[str, dict[str, Scores]] = {}
    ways = ("given", "auto", "drain3")
    print(f"{'':10}" + "".join(f"  {way:^23}" for way in ways))
    print(f"{'system':10}" + "   GA   FGA   PA    FTA  " * len(ways))
    for system, header in HEADERS.items():
        lines = read(data / "loghub2k" / f"{system}_2k.log")
        given, auto = parse_format(header), detect(lines)
        truth = data / "loghub2k" / f"{system}_2k.log_structured.csv"
        rows[system] = {
            "given": measure(truth, typed(lines, given)),
            "auto": measure(truth, typed(lines, auto)),
            "drain3": measure(truth, drained(lines, given)),
        }
        show(system, [rows[system][way] for way in ways])
    mean = {way: tuple(sum(row[way][i] for row in rows.values()) / len(rows) for i in range(4)) for way in ways}
    rows["average"] = mean  # type: ignore[assignment]
    show("average", [rows["average"][way] for way in ways])
    return rows


def show(name: str, columns: Sequence[Scores]) -> None:
    print(f"{name:10}" + "".join("  " + " ".join(f"{value:.3f}" for value in scores) for scores in columns))


def read(path: Path) -> list[bytes]:
    return [line for batch in logs.batches([str(path)], "bench") for line in batch.lines]


def evaluator(data: Path) -> Any:
    """The evaluation program beside the data, as a function of truth and (type, template) of each line."""
    spec = importlib.util.spec_from_file_location("type_accuracy", data.parent / "eval" / "type_accuracy.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def measure(truth: Path, found: Sequence[tuple[str, str]]) -> Scores:
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.writelines(json.dumps({"type": kind, "template": template}) + "\n" for kind, template in found)
            file.flush()
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                if module.main(str(truth), file.name):
                    raise SystemExit(printed.getvalue())
        words = printed.getvalue().split()
        return tuple(float(words[words.index(name) + 1]) for name in ("GA", "FGA", "PA", "FTA"))  # type: ignore[return-value]

    return measure


def typed(lines: list[bytes], form: Format) -> list[tuple[str, str]]:
    """What `foretail match` would print after training on these lines."""
    matcher = Matcher(mine([lines], form).patterns, form, KeyRule())
    index = matcher.match(lines).index.tolist()
    return [(matcher.patterns[i].type, matcher.patterns[i].template) if i >= 0 else ("0", "") for i in index]


def drained(lines: list[bytes], form: Format) -> list[tuple[str, str]]:
    """Drain3 with its default settings on the same messages."""
    miner = TemplateMiner(config=TemplateMinerConfig())
    messages = [message.decode("latin-1") for message in Matcher((), form, KeyRule()).match(lines).messages]
    ids = [miner.add_log_message(message)["cluster_id"] for message in messages]
    template = {cluster.cluster_id: cluster.get_template() for cluster in miner.drain.clusters}
    return [(str(number), template.get(number, "")) for number in ids]


def made_up() -> dict[str, tuple[float, float]]:
    """GA and FGA on generated logs in other styles."""
    found = {}
    print(f"\n{'made up':14}  GA    FGA")
    for style in styles.STYLES:
        lines, truth = styles.lines(style)
        index = Matcher(mine([lines], Format()).patterns, Format(), KeyRule()).match(lines).index.tolist()
        found[style] = styles.grouping(truth, index)
        print(f"{style:14} {found[style][0]:.3f} {found[style][1]:.3f}")
    mean = tuple(sum(scores[i] for scores in found.values()) / len(found) for i in (0, 1))
    print(f"{'average':14} {mean[0]:.3f} {mean[1]:.3f}")
    return found


def retraining(data: Path) -> dict[str, dict[str, float]]:
    """Lines that keep their type_id from 80 % to all, and type 0 on the last 20 %."""
    found = {}
    print(f"\n{'trained on 80 % and on all':28} {'types':>11} {'kept':>8} {'no base':>8} {'type 0':>8} {'of seen':>8}")
    for path, header in RETRAINED.items():
        lines = read(data / path)
        form = parse_format(header)
        cut = len(lines) * 8 // 10
        first = mine([lines[:cut]], form)
        before = ids(first, form, lines)
        again = mine([lines], form, base=Patterns(1, first.patterns))
        after = ids(again, form, lines)
        fresh = ids(mine([lines], form), form, lines)
        seen = set(after[:cut])
        row = {
            "types": len(first.patterns),
            "types_all": len(again.patterns),
            "kept": share(a == b for a, b in zip(before[:cut], after, strict=False)),
            "kept_without_base": share(a == b for a, b in zip(before[:cut], fresh, strict=False)),
            "untyped": share(one is None for one in before[cut:]),
            "untyped_of_seen": share(a is None and b in seen for a, b in zip(before[cut:], after[cut:], strict=True)),
        }
        found[path] = row
        print(
            f"{path:28} {row['types']:>5} {row['types_all']:>5} {row['kept']:8.4f} {row['kept_without_base']:8.4f}"
            f" {row['untyped']:8.4f} {row['untyped_of_seen']:8.4f}"
        )
    return found


def ids(mined: Mined, form: Format, lines: list[bytes]) -> list[str | None]:
    matcher = Matcher(mined.patterns, form, KeyRule())
    names = [pattern.type_id for pattern in matcher.patterns]
    return [names[i] if i >= 0 else None for i in matcher.match(lines).index.tolist()]


def share(flags: Any) -> float:
    values = list(flags)
    return sum(values) / len(values)


def hdfs_seconds(data: Path) -> float:
    began = time.perf_counter()
    batches = (batch.lines for batch in logs.batches([str(data / "hdfs_raw/hdfs.log.xz")], "bench"))
    mined = mine(batches, parse_format(HEADERS["HDFS"]))
    seconds = time.perf_counter() - began
    print(f"\nmining hdfs.log.xz ({mined.lines} lines): {seconds:.1f} s")
    return seconds


def stream(count: int) -> dict[str, float]:
    """Seconds and resident megabytes for mining `count` generated lines."""
    began = time.perf_counter()
    mined = mine(generated(count), parse_format("<Date> <Time> <Level> <Component>: <Content>"))
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.perf_counter() - began
    print(f"mining {count} generated lines: {seconds:.0f} s, {megabytes:.0f} MB resident, {len(mined.patterns)} types")
    return {"lines": count, "seconds": seconds, "megabytes": megabytes}


def generated(count: int) -> Iterator[list[bytes]]:
    r = random.Random(0)
    head = b"2026-03-01 10:%02d:%02d INFO node.Store: "
    events = (
        head + b"Receiving block blk_%d from 10.%d.7.9:50010 in %d ms",
        head + b"Deleting block blk_%d after %d retries of %d",
        head + b"request %08x-0a1b-4c3d-8e5f-%012x took %d us",
    )
    for start in range(0, count, 100_000):
        numbers = [r.getrandbits(62) for _ in range(min(100_000, count - start))]
        yield [events[(a % 100) // 49] % (a % 60, a // 60 % 60, a >> 30, a >> 20 & 255, a & 0xFFF) for a in numbers]


def misses(found: dict[str, Any]) -> list[str]:
    """The must-holds of issue 3 that do not hold."""
    given, auto = found["accuracy"]["average"]["given"], found["accuracy"]["average"]["auto"]
    worst = min((row["given"][0], name) for name, row in found["accuracy"].items())
    out = []
    if given[0] < 0.95 or given[1] < 0.90:
        out.append(f"average GA {given[0]:.3f} (.95) and FGA {given[1]:.3f} (.90)")
    if worst[0] < 0.80:
        out.append(f"GA {worst[0]:.3f} of {worst[1]} (.80)")
    if given[0] - auto[0] > 0.03:
        out.append(f"auto format GA {auto[0]:.3f}, .03 below the given one's at most")
    for path, row in found["retraining"].items():
        if row["kept"] < 0.99:
            out.append(f"{path}: {row['kept']:.4f} of lines keep their type_id (.99)")
        limit = 0.001 if "hdfs" in path else 0.02
        if row["untyped"] >= limit:
            out.append(
                f"{path}: {row['untyped']:.4f} of later lines are type 0 ({limit});"
                f" {row['untyped_of_seen']:.4f} of types that earlier lines have"
            )
    if found["hdfs_seconds"] > 15:
        out.append(f"mining the HDFS log took {found['hdfs_seconds']:.1f} s (15)")
    if found.get("stream", {}).get("megabytes", 0) > 1500:
        out.append("the stream took more than 1.5 GB")
    return out


if __name__ == "__main__":
    sys.exit(main())
