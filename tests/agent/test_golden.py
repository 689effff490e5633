"""The golden bundle says on this host and runtime what it said where it was made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from foretail import bundle as bundles
from foretail import golden

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NUMBERS = {"score": 0.02, "bits": 0.3}
"""Kernels differ by up to .03 nat (README): what may differ, by how much."""


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def alike(got, expected, name=""):
    """Equal but for numbers that depend on low-order bits of the kernels; machine ids are the host's."""
    if isinstance(expected, dict):
        keys = expected.keys() - {"id", "verdict", "p", "expected", "detectors"}
        assert keys == got.keys() - {"id", "verdict", "p", "expected", "detectors"}
        for key in keys:
            alike(got[key], expected[key], key)
    elif name in NUMBERS:
        assert got == pytest.approx(expected, abs=NUMBERS[name])
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


def test_the_golden_bundle_gives_its_golden_results():
    """Types, spans and surprises of golden.jsonl."""
    golden.verify(bundles.read(GOLDEN / "bundle"))
