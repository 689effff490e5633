"""Attacks on a host that pulls signed bundles: each over HTTP from a real TUF repository, and what it said.

`python tests/bench/bench_updates.py [--check]`; writes bench/updates.json. The same attacks are tests.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attacks import ATTACKS, Attack, Host, attacked, standing

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


def main() -> int:
    """Print the table; with --check exit 1 unless every attack was refused and nothing was touched."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="exit 1 unless all hold")
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
    words = {True: "yes", False: "NO"}
    head = ["attack", "refused", "bundle untouched", "s", "said"]
    cells = [[row["attack"], words[row["refused"]], words[row["untouched"]], row["s"], row["said"]] for row in rows]
    table(head, cells)
    held = sum(bool(row["refused"] and row["untouched"]) for row in rows)
    print(f"\n{held} of {len(rows)} attacks refused, the bundle untouched; an honest pull takes {good_s:.2f} s")
    save("updates", {"attacks": rows, "held": held, "honest_pull": good, "honest_pull_s": good_s})
    return int(options.check and not (good and held == len(rows)))


if __name__ == "__main__":
    sys.exit(main())
