"""Attacks on a host that pulls signed bundles, each over HTTP from a real TUF repository; and updates under load.

`python tests/bench/bench_updates.py [--check]`; writes bench/updates.json. The same attacks are tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attacks import ATTACKS, Attack, Host, attacked, standing
from swapping import LINES, Swapping

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measure import save, table

if TYPE_CHECKING:
    from collections.abc import Iterator

PAUSE_MS = 50.0
"""The loop may stand still for so long at the 99th percentile."""


def tried(base: Path, folder: Path, attack: Attack) -> dict[str, object]:
    """One attack on a copy of the host: refused or not, untouched or not, seconds, and the sentence."""
    out, err = io.StringIO(), io.StringIO()
    with attacked(base, folder) as (host, web), contextlib.redirect_stdout(out):
        attack.arrange(host, web)
        before, began = standing(host), time.monotonic()
        with contextlib.redirect_stderr(err):
            code = host.take("pull", "--url", web.url)
        seconds = time.monotonic() - began
        untouched = standing(host) == before
    said = err.getvalue().strip()
    refused = code in (1, 2) and "\n" not in said and re.search(attack.sentence, said) is not None
    sentence = said.replace(str(folder), "").replace(web.url, "URL")
    return {"attack": attack.name, "refused": refused, "untouched": untouched, "s": round(seconds, 2), "said": sentence}


def swapped(folder: Path, name: str, count: int, rate: int, *, emit: str, keys: int = 0) -> dict[str, object]:
    """A running agent under `rate` lines a second takes `count` bundles in turn, each with other type numbers.

    With `emit` "lines" every line's verdict is compared with a run without swaps; otherwise lines are counted. `keys`
    sessions are open all the time.
    """
    stop, swaps, calm = threading.Event(), [], []
    folder.mkdir()
    with Swapping(folder, emit=emit) as agent:
        if keys:
            agent.feed(keyed(keys))
            agent.wait(lambda: agent.status()["lines_total"] == agent.written)
        pouring = threading.Thread(target=agent.pour, args=(rate, stop))
        began = time.monotonic()
        pouring.start()
        time.sleep(1.0)
        for number in range(count):
            first = time.time()
            calm.append((first - 0.5, first))
            agent.swap()
            agent.wait(lambda number=number: len(agent.taken()) > number)
            swaps.append((first, time.time()))
            time.sleep(0.6)
        stop.set()
        pouring.join()
        seconds = time.monotonic() - began
        poured = agent.written - keys
        agent.wait(lambda: agent.status()["lines_total"] >= agent.written)
        behind, status = time.monotonic() - began - seconds, agent.status()
        agent.end()
        pauses, cpu = (sorted(event[what] for event in agent.taken()) for what in ("pause_ms", "cpu_ms"))
        found: dict[str, object] = {"load": name, "lines/s": round(poured / seconds), "lines": poured, "swaps": count}
        if emit == "lines":
            ids, given, expected = agent.ids(), agent.verdicts(), agent.undisturbed()
            found |= {"lost": agent.written - len(set(ids)), "repeated": len(ids) - len(set(ids))}
            found |= {"other scores": sum(a != b for a, b in zip(given, expected, strict=False))}
        else:
            found |= {"lost": max(0, agent.written - status["lines_total"])}
            found |= {"repeated": max(0, status["lines_total"] - agent.written), "other scores": None}
        found |= {f"pause {q}": percentile(pauses, q) for q in (50, 99, 100)} | {"cpu 99": percentile(cpu, 99)}
        found |= {"gap 99": percentile(sorted(1000 * gap for gap in agent.gaps(swaps)), 99)}
        found |= {"calm gap 99": percentile(sorted(1000 * gap for gap in agent.gaps(calm)), 99)}
        return found | {"sessions": status["sessions_open"], "behind_s": round(behind, 1)}


def keyed(count: int) -> Iterator[bytes]:
    """Lines of so many sessions, all at the time of the last line of the log."""
    line = next(line for line in LINES if b"req-" in line)
    line = max(LINES)[:24] + line[24:]
    return (re.sub(rb"req-[0-9a-f]+", b"req-%012x" % (number * 7919 + 10**9), line) for number in range(count))


def percentile(ordered: list[float], q: int) -> float:
    """The smallest value with at least q of a hundred at or below it."""
    return round(ordered[max(0, -(-len(ordered) * q // 100) - 1)], 1)


def main() -> int:
    """Print the table; with --check exit 1 unless every attack was refused and nothing was touched."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 unless all hold")
    parser.add_argument("--swaps", type=int, default=20, metavar="N", help="updates in a row under load (default 20)")
    parser.add_argument(
        "--rate", type=int, default=50_000, metavar="R", help="lines a second meanwhile (default 50000)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base").mkdir()
        with contextlib.redirect_stdout(io.StringIO()):
            Host(folder / "base").begin()
        rows = [tried(folder / "base", folder / f"h{number}", attack) for number, attack in enumerate(ATTACKS)]
        with attacked(folder / "base", folder / "good") as (host, web), contextlib.redirect_stdout(io.StringIO()):
            began = time.monotonic()
            good = host.take("pull", "--url", web.url) == 0
            good_s = time.monotonic() - began
        loads = [("counted", options.rate, "anomalies", 0), ("each line compared", options.rate // 10, "lines", 0)]
        loads += [("100,000 open sessions", options.rate // 2, "anomalies", 100_000)]
        count = options.swaps
        swaps = [
            swapped(folder / name[:4], name, count, rate, emit=emit, keys=keys)
            for name, rate, emit, keys in loads
            if count
        ]
    words = {True: "yes", False: "NO"}
    head = ["attack", "refused", "bundle untouched", "s", "said"]
    cells = [[row["attack"], words[row["refused"]], words[row["untouched"]], row["s"], row["said"]] for row in rows]
    table(head, cells)
    held = sum(bool(row["refused"] and row["untouched"]) for row in rows)
    print(f"\n{held} of {len(rows)} attacks refused, the bundle untouched; an honest pull takes {good_s:.2f} s")
    if swaps:
        print(f"\n{count} updates in a row under load; milliseconds\n")
        table([*swaps[0]], [["-" if value is None else value for value in row.values()] for row in swaps])
    save("updates", {"attacks": rows, "held": held, "honest_pull": good, "honest_pull_s": good_s, "swaps": swaps})
    whole = not any(row["lost"] or row["repeated"] or row["other scores"] for row in swaps)
    quick = all(row["pause 99"] <= PAUSE_MS for row in swaps)
    return int(options.check and not (good and whole and quick and held == len(rows)))


if __name__ == "__main__":
    sys.exit(main())
