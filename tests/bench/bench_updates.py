"""Attacks on a host that pulls signed bundles: each over HTTP from a real TUF repository, and what it said.

`python tests/bench/bench_updates.py [--check]`; writes bench/updates.json. The same attacks are tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attacks import ATTACKS, BUNDLE, Attack, Host, attacked, standing

from foretail.activation import Shelf

sys.path.insert(0, str(Path(__file__).resolve().parent))

from measure import save, table


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


def swapped(folder: Path, count: int, rate: int) -> dict[str, object]:
    """A running agent under `rate` lines a second takes `count` bundles in turn: lines lost or repeated, pauses."""
    host = Host(folder)
    with contextlib.redirect_stdout(io.StringIO()):
        host.begin()
    shelf, pair = Shelf(host.shelf), [host.bundle(number) for number in (1, 2)]
    lines = (BUNDLE.parent / "storage.log").read_bytes().splitlines(keepends=True)
    log, out, err = folder / "storage.log", folder / "out.jsonl", folder / "err.log"
    log.touch()
    with err.open("wb") as file:
        command = [sys.executable, "-m", "foretail", "run", "-c", str(host.config)]
        agent = subprocess.Popen(command, stderr=file, stdout=subprocess.DEVNULL)
    written, began, swaps = 0, time.monotonic(), 0
    waited("agent.started", err, 1)
    try:
        while swaps < count:
            with log.open("ab") as file:
                for _ in range(rate // 10):
                    file.write(lines[written % len(lines)])
                    written += 1
            time.sleep(0.1)
            if err.read_bytes().count(b"agent.started") == swaps + 1 and time.monotonic() - began > 1 + swaps:
                shelf.activate(pair[(swaps + 1) % 2])
                agent.send_signal(signal.SIGHUP)
                swaps += 1
        waited("agent.started", err, count + 1)
        end = time.monotonic() + 60
        while len(ids := verdicts(out)) < written and time.monotonic() < end:
            time.sleep(0.2)
    finally:
        agent.terminate()
        agent.wait()
    events = [json.loads(line) for line in err.read_bytes().splitlines()]
    times = [(e["event"], datetime.fromisoformat(e["timestamp"]).timestamp()) for e in events if "timestamp" in e]
    stops = [at for event, at in times if event == "agent.stopped"]
    starts = [at for event, at in times if event == "agent.started"][1:]
    pauses = sorted(start - stop for stop, start in zip(stops, starts, strict=False))
    return {
        "swaps": swaps,
        "lines": written,
        "lost": written - len(set(ids)),
        "repeated": len(ids) - len(set(ids)),
        "pause_s_median": round(pauses[len(pauses) // 2], 3) if pauses else None,
        "pause_s_max": round(pauses[-1], 3) if pauses else None,
    }


def verdicts(out: Path) -> list[str]:
    """Ids of all line verdicts so far."""
    rows = [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]] if out.exists() else []
    return [row["id"] for row in rows if row["kind"] == "line"]


def waited(event: str, err: Path, times: int) -> None:
    """Until the agent has said it so often."""
    end = time.monotonic() + 60
    while err.read_bytes().count(event.encode()) < times:
        if time.monotonic() > end:
            sys.exit(f"the agent did not say {event} {times} times: {err.read_text()[-2000:]}")
        time.sleep(0.05)


def main() -> int:
    """Print the table; with --check exit 1 unless every attack was refused and nothing was touched."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 unless all hold")
    parser.add_argument("--swaps", type=int, default=20, metavar="N", help="updates in a row under load (default 20)")
    parser.add_argument("--rate", type=int, default=2000, metavar="R", help="lines a second meanwhile (default 2000)")
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
        (folder / "swaps").mkdir()
        swaps = swapped(folder / "swaps", options.swaps, options.rate) if options.swaps else {}
    words = {True: "yes", False: "NO"}
    head = ["attack", "refused", "bundle untouched", "s", "said"]
    cells = [[row["attack"], words[row["refused"]], words[row["untouched"]], row["s"], row["said"]] for row in rows]
    table(head, cells)
    held = sum(bool(row["refused"] and row["untouched"]) for row in rows)
    print(f"\n{held} of {len(rows)} attacks refused, the bundle untouched; an honest pull takes {good_s:.2f} s")
    print(", ".join(f"{name} {value}" for name, value in swaps.items()))
    save("updates", {"attacks": rows, "held": held, "honest_pull": good, "honest_pull_s": good_s, "swaps": swaps})
    whole = not (swaps.get("lost") or swaps.get("repeated"))
    return int(options.check and not (good and whole and held == len(rows)))


if __name__ == "__main__":
    sys.exit(main())
