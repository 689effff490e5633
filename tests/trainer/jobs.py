"""A log of small jobs, and what a turn of the reference loop needs: fit, score, label, refit."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np

from foretail import bundle as bundles
from foretail.cli import main
from foretail.rest import replay
from foretail.stream import Stream
from foretail.telling import Options
from foretail_trainer import history, learn, refit
from foretail_trainer.fit import Plan
from foretail_trainer.stages import Stages

KEY = r"job-\d+"
PLAN = Plan(steps=360, batch=128, evaluations=10)
WORDS = {
    "open": "job-{id} opened by user {a}",
    "read": "job-{id} reads {a} rows in {b} ms",
    "write": "job-{id} writes {a} rows to shard {b}",
    "close": "job-{id} closed after {a} ms",
    "retry": "job-{id} waits for a lease, attempt {b}",
    "compact": "job-{id} compacted {a} files into one",
}


def jobs(path: Path, kinds: list[list[str]], *, first: int = 0, start: float = 0.0) -> Path:
    """Write one job after another, two seconds a step, a minute apart."""
    rng = np.random.default_rng(first)
    lines = []
    for number, steps in enumerate(kinds):
        for place, step in enumerate(steps):
            at = np.datetime64(1_767_225_600 + int(start) + 60 * number + 2 * place, "s")
            a, b = rng.integers(1, 900, 2)
            lines.append(f"{at}Z INFO {WORDS[step].format(id=first + number, a=a, b=b)}\n")
    path.write_text("".join(lines), encoding="ascii")
    return path


def normal(count: int, seed: int) -> list[list[str]]:
    """Jobs that read, perhaps wait, write and close."""
    rng = np.random.default_rng(seed)
    return [
        ["open", *["read"] * int(rng.integers(1, 4)), *["retry"] * int(rng.integers(0, 2)), "write", "close"]
        for _ in range(count)
    ]


def options(out: Path, **more: object) -> learn.Options:
    """A quick fit."""
    return learn.Options(**{"out": str(out), "key": KEY, "plan": PLAN, "units": 24, "window": 6, "rate": 0.01, **more})


def fitted(asked: learn.Options) -> learn.Learned:
    """Fit, or refit where there is feedback; the history is kept as the command keeps it."""
    with Stages() as stages:
        learned = (refit.refit if asked.feedback else learn.fit)(asked, stages)
    folder = history.beside(asked.out)
    folder.mkdir(exist_ok=True)
    history.write(folder, history.of(learned))
    return learned


def records(bundle: Path, log: Path, emit: str) -> list[dict]:
    """What the agent says of a log."""
    stream = Stream(bundles.read(bundle), Options("default", machine="m", emit=emit, cap_per_hour=10_000))
    return [json.loads(record) for part in replay(stream, [str(log)], ended=True) for record in part]


def flagged(bundle: Path, log: Path) -> set[str]:
    """Sessions with an anomalous line or end."""
    rows = [row for row in records(bundle, log, "anomalies") if row["anomalous"]]
    return {row.get("session") or row.get("key") for row in rows} - {None}


def label(folder: Path, bundle: Path, rows: list[dict], word: str) -> str:
    """`foretail label` on records; the path of the labels."""
    (folder / "rows.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    for row in rows:
        asked = ["label", row["id"], word, "--reason", "a person looked", "--from", str(folder / "rows.jsonl")]
        assert main([*asked, "--bundle", str(bundle), "--state", str(folder), "-c", str(folder / "none")]) == 0
    return str(folder / "labels.jsonl")
