"""The golden bundles say on this host and runtime what they said where they were made."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from foretail import bundle as bundles
from foretail import golden, others

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
PACED = runpy.run_path(str(GOLDEN / "paced.py"))
NUMBERS = {"score": (0.02, 0.0), "bits": (0.3, 0.0)}
"""Kernels differ by up to .03 nat (README): what may differ, by how much and by what share of itself."""
OTHERS = (0.02, 0.05)
"""Likewise for what else a network says: shares, probabilities, where a value would lie."""
EXACT = {"time", "interval_s", "seen"}
UNTOLD = {"id", "verdict", "p", "expected", "detectors"}


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def paced(folder: Path, emit: str) -> list[dict]:
    """What the other detectors say of the made-up service."""
    lines = PACED["log"](3, PACED["MINUTES"], faults=True)
    (folder / "paced.log").write_text("\n".join(lines) + "\n", encoding="ascii")
    command = ["score", "--bundle", str(GOLDEN / "others"), "--emit", emit, "paced.log"]
    done = subprocess.run([sys.executable, "-m", "foretail", *command], cwd=folder, check=True, capture_output=True)
    return records(done.stdout.decode("utf-8"))


def alike(got, expected, name=""):
    """Equal but for numbers that depend on low-order bits of the kernels; machine ids are the host's."""
    if isinstance(expected, dict):
        keys = expected.keys() - UNTOLD
        assert keys == got.keys() - UNTOLD
        for key in keys:
            alike(got[key], expected[key], key)
    elif isinstance(expected, list):
        assert len(got) == len(expected)
        for mine, theirs in zip(got, expected, strict=True):
            alike(mine, theirs, name)
    elif isinstance(expected, float) and name not in EXACT:
        most, share = NUMBERS.get(name, OTHERS)
        assert got == pytest.approx(expected, abs=most, rel=share)
    elif name != "summary":
        assert got == expected


@pytest.mark.parametrize("emit", ["lines", "sessions", "incidents"])
def test_the_golden_log_is_scored_as_where_it_was_made(emit):
    """Same lines, types, verdicts and reasons in the same order; scores within the kernels' difference."""
    command = [sys.executable, "-m", "foretail", "score", "--bundle", "bundle", "--emit", emit, "storage.log"]
    out = subprocess.run(command, cwd=GOLDEN, check=True, capture_output=True, text=True).stdout
    expected = records((GOLDEN / f"{emit}.jsonl").read_text(encoding="utf-8"))
    got = records(out)
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        alike(mine, theirs)


def test_the_other_detectors_judge_as_where_they_were_made(tmp_path):
    """A burst, slow answers, attacks in lines, silence: each is raised by its detector, in its minutes alone."""
    expected = records((GOLDEN / "others.jsonl").read_text(encoding="utf-8"))
    got = paced(tmp_path, "anomalies")
    alike(got, expected)
    minutes = {int(row["time"] - PACED["START"]) // 60 for row in got}
    faulty = {minute for first, last in PACED["FAULTS"].values() for minute in range(first, last + 1)}
    assert minutes <= faulty
    assert all(minutes & set(range(first, last + 1)) for first, last in PACED["FAULTS"].values())
    assert {reason for row in got for reason in row["reasons"]} == {"volume", "line"}


def test_an_incident_counts_all_its_intervals(tmp_path):
    """Whatever moves most in each of them: silence begins with silence and goes on with missing bytes."""
    times = [row["time"] for row in paced(tmp_path, "anomalies") if row["kind"] == "interval"]
    runs: list[list[float]] = []
    for time in times:
        if not runs or time - runs[-1][-1] > 6 * 60:
            runs.append([])
        runs[-1].append(time)
    rows = [row for row in paced(tmp_path, "incidents") if row["reasons"] == ["volume"]]
    assert [row["time"] for row in rows if row["state"] == "open"] == [run[0] for run in runs]
    closed = {row["time"]: row["count"] for row in rows if row["state"] == "closed"}
    assert closed == {run[0]: len(run) for run in runs if len(run) > 1}
    assert max(closed.values()) >= 5


@pytest.mark.parametrize("bundle", ["bundle", "others"])
def test_the_golden_bundles_give_their_golden_results(bundle):
    """Types, spans, surprises, and what each network gave."""
    found = bundles.read(GOLDEN / bundle)
    golden.verify(found)
    others.verify(found)
