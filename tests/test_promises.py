"""What docs/delivery.md names exists: tests, benchmarks, lines of the log, metrics and options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foretail.telemetry import METRICS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "delivery.md").read_text()
CODE = "\n".join(path.read_text() for path in (ROOT / "agent" / "foretail").glob("*.py"))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", TEXT))))
def test_a_test_that_a_promise_rests_on_is_there(name):
    """A file of that name."""
    assert list((ROOT / "tests").rglob(f"{name}.py"))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(?:make )?bench-(\w+)`", TEXT))))
def test_a_benchmark_that_a_promise_rests_on_is_there(name):
    """A target of the Makefile, and its script."""
    assert re.search(rf"^BENCHES := .*\b{name}\b", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert (ROOT / "tests" / "bench" / f"bench_{name}.py").exists()


def test_lines_and_metrics_of_the_table_of_troubles_are_those_of_the_code():
    """An operator searches for them as they are written."""
    table = TEXT.partition("## When something is wrong")[2]
    rows = re.findall(r"^\| .* \| (.*) \| (.*) \|$", table, re.MULTILINE)[1:]
    lines = re.findall(r"`([a-z]+\.[a-z]+)`", " ".join(line for line, _ in rows))
    assert [line for line in lines if f'"{line}"' not in CODE] == []
    named = re.findall(r"`(\w+)[`{]", " ".join(metric for _, metric in rows))
    assert [name for name in named if name not in METRICS] == []
    assert len(lines) > 10
    assert len(named) > 6


def test_options_are_those_of_the_configuration():
    """Each word that looks like an option is one."""
    options = set(re.findall(r"`(?:limits\.)?(\w+_(?:s|bytes_max|files_max))`", TEXT))
    assert {name for name in options if f"{name}:" not in CODE} == set()
    assert len(options) > 6
