"""Volume and time series: NAB by its own rules, and faults of volume injected into logs.

    python tests/bench/bench_volume.py [--parts nab logs models] [--seeds 3] [--trials 50] [--check]

NAB: the first 15 % of each file are the training data; score (a) under NAB's label-optimised threshold, (b) under the
threshold from training data, for the rows that begin an incident (`fresh`) and for all anomalous rows.
Logs: trained on the first part in time; the rest, as it is and with a fault at a random time in an interval in which
the type writes lines, judged with the 24 intervals before it; found = an anomalous interval that begins before the
fault is two intervals old. Models: each network of the volume detector on these logs, fewer trials, one seed.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import faults
import nab

from foretail import tally
from foretail.detection import detect
from foretail.patterns import Matcher
from foretail.schema import FIRST, UNKNOWN, KeyRule
from foretail.series import Detector
from foretail.tables import table
from foretail.tally import Counter, Readings
from foretail.volume import Gauge
from foretail_trainer import parameters, reckoning, volume
from foretail_trainer.forecast import MODELS
from foretail_trainer.mine import mine
from foretail_trainer.workload import Workload

ROOT = Path(__file__).resolve().parents[2]
ALPHA = 0.01


def data() -> Path:
    """The research data."""
    return Path(os.environ.get("FORETAIL_DATA", ROOT.parent / "shared" / "data"))


# -- NAB -------------------------------------------------------------------------------------------------------------


def judged(series: nab.Series, model: str, seed: int):
    """A NAB file through our detector: `Scored`."""
    n = series.probation
    options = reckoning.Options(model=model, seed=seed)
    fitted = reckoning.fit(series.values[:n, None], series.times[:n], ["value"], "series", options)
    return Detector(fitted.info, fitted.files, "series").score(series.values[:, None], series.times)


def nab_row(name: str, groups: dict, scores: dict, raised: dict | None) -> dict:
    """Scores of one detector on each group and on the union, (a), and (b) where it has a threshold."""
    union = [series for files in groups.values() for series in files]
    row = {"detector": name}
    for group, files in {**groups, "union": union}.items():
        row[group] = nab.score(files, [scores[s.name] for s in files], None)[0]
    if raised is not None:
        for what in ("fresh", "rows"):
            row[f"b {what}"] = nab.score(union, [raised[s.name][what] for s in union], 1.0)[0]
    return row


def bench_nab(models: list[str], seeds: int) -> dict:
    """The table of NAB scores."""
    groups = nab.read(data() / "timeseries" / "nab")
    union = [series for files in groups.values() for series in files]
    rows = [
        nab_row("null", groups, {s.name: nab.null(s) for s in union}, None),
        *(nab_row(f"random {k}", groups, {s.name: nab.random(s, k) for s in union}, None) for k in range(3)),
        nab_row("windowed Gaussian", groups, {s.name: nab.windowed_gaussian(s) for s in union}, None),
    ]
    for model in models:
        for seed in range(seeds):
            began = time.perf_counter()
            found = {s.name: judged(s, model, seed) for s in union}
            scores = {name: one.ratio / (1 + one.ratio) for name, one in found.items()}
            raised = {
                name: {"rows": one.anomalous.astype(float), "fresh": (one.anomalous & one.new).astype(float)}
                for name, one in found.items()
            }
            row = nab_row(f"{model} seed {seed}", groups, scores, raised)
            rows.append({**row, "seconds": time.perf_counter() - began})
            print(rows[-1], file=sys.stderr, flush=True)
    names = ["detector", *groups, "union", "b fresh", "b rows", "seconds"]
    cells = [[row.get(n, "") if n == "detector" or n not in row else f"{row[n]:.1f}" for n in names] for row in rows]
    print(table([*names[:1], *(n.removeprefix("real") for n in names[1:])], cells, right=frozenset(range(1, 7))))
    return {"groups": list(groups), "rows": rows}


# -- logs ------------------------------------------------------------------------------------------------------------


class Vocabulary(NamedTuple):
    """Message types, and the numbers in them that may be followed."""

    patterns: tuple
    readings: tuple


def typed(lines: list[bytes], key: str | None, share: float):
    """Patterns of the first part of a log and all of it as columns, cut in two in time."""
    form = detect(lines[:3000])
    first = lines[: min(int(len(lines) * share), 60_000)]
    patterns = mine([first[i : i + 5000] for i in range(0, len(first), 5000)], form).patterns
    readings = parameters.candidates(first[: parameters.SAMPLE_LINES], Matcher(patterns, form, KeyRule()))
    places = tally.places(readings, patterns)
    matcher = Matcher(patterns, form, KeyRule("search", key) if key else KeyRule())
    parts = [matcher.match(lines[i : i + 8192], 1.9e9) for i in range(0, len(lines), 8192)]
    above = np.cumsum([0, *(len(part.index) for part in parts)])
    index = np.concatenate([part.index for part in parts])
    whole = volume.lines_of(
        np.where(index < 0, UNKNOWN, index + FIRST).astype(np.int32),
        np.concatenate([part.times for part in parts]),
        np.array([len(line) + 1 for line in lines]),
        np.concatenate([part.errors for part in parts]),
        [key for part in parts for key in part.keys] if key else None,
        tally.joined([(n, tally.readings_of(places, part)) for n, part in zip(above.tolist(), parts, strict=False)]),
    )
    middle = whole.times[0] + share * (whole.times[-1] - whole.times[0])
    cut = faults.taken(whole, whole.times < middle), faults.taken(whole, whole.times >= middle)
    return Vocabulary(patterns, readings), *cut


class Trained:
    """A fitted volume detector on columns."""

    def __init__(self, known: Vocabulary, train, alpha: float, seed: int, model: str = volume.MODEL) -> None:
        options, patterns = reckoning.Options(model=model, alpha=alpha, seed=seed), known.patterns
        self.fitted = volume.fit_volume([train], patterns, options, readings=known.readings)
        self.info, self.step = self.fitted.info, self.fitted.info.series.interval_s
        self.candidates = len(known.readings)
        self.followed = [known.readings.index(reading) for reading in self.info.readings]
        places = {pattern.type_id: FIRST + number for number, pattern in enumerate(patterns)}
        self.counted = np.array([places[type_id] for type_id in self.info.types])
        self.vocabulary = FIRST + len(patterns)

    def judge(self, lines):
        """Interval rows, starts and verdicts."""
        lines = msgspec.structs.replace(lines, readings=self._followed(lines.readings))
        closed = Counter(self.info, self.counted, self.vocabulary).add(lines)
        rows, starts = np.array([c.row for c in closed]), np.array([c.start for c in closed])
        return rows, starts, Gauge(self.info, self.fitted.files).weigh(closed)

    def _followed(self, readings: Readings) -> Readings:
        """What of all candidates the bundle follows, by its numbers."""
        row, which = np.frombuffer(readings.row, np.int32), np.frombuffer(readings.which, np.int16)
        number = np.full(self.candidates, -1, np.int16)
        number[self.followed] = np.arange(len(self.followed))
        held = number[which] >= 0
        value = np.frombuffer(readings.value, np.float32)[held]
        return Readings(row[held].tobytes(), number[which][held].tobytes(), value.tobytes())


def bench_log(name: str, parts, seed: int, trials: int, model: str = volume.MODEL) -> dict:
    """Faults found and false incidents on one log, `parts` of it typed."""
    known, train, test = parts
    began = time.perf_counter()
    trained = Trained(known, train, ALPHA, seed, model)
    fit_s = time.perf_counter() - began
    rows, starts, clean = trained.judge(test)
    edges = np.searchsorted(test.times, starts)
    incidents = int(clean.new.sum())
    low, high = volume.promised(ALPHA, len(starts))
    step, rng = trained.step, np.random.default_rng(seed)
    pairs = np.argwhere(np.minimum(rows[:-6, : len(trained.counted)], rows[1:-5, : len(trained.counted)]) >= 20)
    pairs = pairs[pairs[:, 0] >= len(rows) // 20]
    read = {trained.info.types.index(one.type_id) for one in trained.info.readings if one.type_id in trained.info.types}
    out = {"log": name, "seed": seed, "interval_s": step, "intervals": len(starts), "incidents": incidents, "low": low}
    out |= {"high": high, "model": model, "fit_s": round(fit_s, 1), "agreement": trained.fitted.agreement}
    for kind in faults.KINDS if len(pairs) else ():
        hit, fit_ones = 0, pairs[np.isin(pairs[:, 1], list(read))] if kind == "slowed" else pairs
        if not len(fit_ones):
            out[kind] = None
            continue
        for row, feature in fit_ones[rng.integers(0, len(fit_ones), trials)]:
            start = float(starts[row] + rng.uniform(0, step))
            near = np.zeros(len(test.ids), np.bool_)
            near[edges[max(0, row - 25)] : edges[min(row + 8, len(edges) - 1)]] = True
            bent = faults.inject(faults.taken(test, near), kind, start, step, int(trained.counted[feature]), rng)
            _, when, found = trained.judge(bent)
            hit += bool((found.anomalous & (when >= starts[row]) & (when < start + 2 * step)).any())
        out[kind] = hit / trials
    print(out, file=sys.stderr, flush=True)
    return out


def bench_auth(seed: int) -> dict:
    """Bursts of refused logins in auth.log after its first two fifths: hours with at least 30 of them."""
    lines = (data() / "logs" / "auth.log").read_bytes().split(b"\n")[:-1]
    known, train, test = typed(lines, None, 0.4)
    trained = Trained(known, train, ALPHA, seed)
    _, starts, found = trained.judge(test)
    refused = np.array([b"nvalid user" in line or b"Failed" in line or b"BREAK-IN" in line for line in lines])
    hours, sizes = np.unique(test.times[refused[len(lines) - len(test.ids) :]] // 3600, return_counts=True)
    begins = hours[sizes >= 30] * 3600
    hits = [found.anomalous[(starts > b - trained.step) & (starts < b + 3600)].any() for b in begins]
    out = {
        "log": "auth.log",
        "seed": seed,
        "interval_s": trained.step,
        "intervals": len(starts),
        "bursts": len(begins),
        "found": int(sum(hits)),
        "sizes": sizes[sizes >= 30].tolist(),
        "incidents": int(found.new.sum()),
        "high": volume.promised(ALPHA, len(starts))[1],
    }
    print(out, file=sys.stderr, flush=True)
    return out


def bench_logs(seeds: int, trials: int, hours: float) -> list[dict]:
    """Workload and HDFS with faults; auth.log as it is."""
    rows = [bench_log("workload", workload(seed, hours), seed, trials) for seed in range(seeds)]
    hdfs = hdfs_raw()
    rows += [bench_log("hdfs_raw", hdfs, seed, trials) for seed in range(seeds)]
    rows += [bench_auth(seed) for seed in range(seeds)]
    show(rows[: 2 * seeds], "log", "seed")
    for log in ("workload", "hdfs_raw"):
        ours = [row for row in rows if row["log"] == log]
        for what, pick in (("mean", np.mean), ("worst", np.min)):
            print(
                f"{log} {what}: "
                + ", ".join(f"{kind} {pick([row[kind] for row in ours]):.3f}" for kind in asked(ours[0]))
            )
    show(rows[2 * seeds :], "log", "seed", ("interval_s", "intervals", "bursts", "found", "incidents", "high"))
    return rows


def workload(seed: int, hours: float):
    """The demo's service, typed."""
    lines = [event.text.encode() for event in Workload(seed + 1, 1.7e9, 5.0).events(hours * 3600)]
    return typed(lines, r"req-[0-9a-f]+", 0.5)


def hdfs_raw():
    """HDFS, typed."""
    return typed(
        lzma.decompress((data() / "hdfs_raw" / "hdfs.log.xz").read_bytes()).split(b"\n")[:-1], r"blk_-?\d+", 0.5
    )


def show(rows: list[dict], *first: str) -> None:
    """A table of rows; the last of `first` may be the columns."""
    columns = (
        first[-1]
        if isinstance(first[-1], tuple)
        else ("interval_s", "intervals", "incidents", "low", "high", *faults.KINDS)
    )
    names = [*(name for name in first if isinstance(name, str)), *columns]
    cells = [[f"{row[n]:g}" if isinstance(row[n], (int, float)) else row[n] or "-" for n in names] for row in rows]
    print(table(names, cells))


def bench_models(trials: int, hours: float) -> list[dict]:
    """Each network of the volume detector."""
    logs = {"workload": workload(0, hours), "hdfs_raw": hdfs_raw()}
    rows = [bench_log(name, parts, 0, trials, model) for model in MODELS for name, parts in logs.items()]
    show(rows, "model", "log", ("interval_s", "incidents", "high", *faults.KINDS, "fit_s", "agreement"))
    return rows


def asked(row: dict) -> list[str]:
    """The faults that were injected: none into auth.log, and no numbers are slowed where none is followed."""
    return [kind for kind in faults.KINDS if row.get(kind) is not None]


def missed(result: dict) -> list[str]:
    """Must-holds that do not hold."""
    out = []
    if "nab" in result:
        rows = {row["detector"]: row for row in result["nab"]["rows"]}
        ours = [row for name, row in rows.items() if name.startswith(f"{reckoning.MODEL} seed")]
        for group in result["nab"]["groups"]:
            out += [f"NAB {group}"] if min(r[group] for r in ours) <= rows["windowed Gaussian"][group] else []
        out += ["NAB union"] if min(r["union"] for r in ours) < 50 else []
    for row in result.get("logs", []):
        out += [f"{row['log']} {kind} {row[kind]:.2f}" for kind in asked(row) if row[kind] < 0.9]
        out += [f"{row['log']} incidents" if row["incidents"] > row["high"] else ""] if "incidents" in row else []
        out += ["auth.log"] if "bursts" in row and row["found"] < row["bursts"] else []
    return [line for line in out if line]


def main() -> int:
    """Print the tables, write bench/volume.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["nab", "logs"], choices=["nab", "logs", "models"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--hours", type=float, default=12.0, help="of the demo workload, at 5 lines a second")
    parser.add_argument("--networks", nargs="+", default=[reckoning.MODEL], choices=MODELS, help="of the NAB part")
    parser.add_argument("--check", action="store_true", help="exit 1 when a must-hold is missed")
    options = parser.parse_args()
    path = ROOT / "bench" / "volume.json"
    result: dict = {}
    if "nab" in options.parts:
        result["nab"] = bench_nab(options.networks, options.seeds)
    if "models" in options.parts:
        result["models"] = bench_models(max(5, options.trials // 5), options.hours)
    if "logs" in options.parts:
        result["logs"] = bench_logs(options.seeds, options.trials, options.hours)
    path.parent.mkdir(exist_ok=True)
    result = {**(json.loads(path.read_text()) if path.exists() else {}), **result}  # parts may run side by side
    path.write_text(json.dumps(result, indent=1))
    lost = missed(result)
    print("missed: " + "; ".join(lost) if lost else "all must-holds hold")
    return 1 if lost and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
