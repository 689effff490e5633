"""What changed is told by cause, most first, and hostile words stay words."""

from __future__ import annotations

import pytest
from rich.console import Console

from foretail_trainer import changes

pytestmark = pytest.mark.trainer

BEFORE = {
    "a": (("sequence", "closed after read"), 1),
    "b": (("sequence", "closed after read"), 3),
    "c": (("end", "x"), 1),
}
AFTER = {"c": (("end", "x"), 1), "d": (("counts", "session: 2 more read"), 2)}


def told(**more) -> changes.Changes:
    fields = {
        "base": "jobs:1:a", "bundle": "jobs:2:b", "added": (), "retired": (), "renamed": (), "threshold_before": 12.5,
        "threshold": 12.75, "alpha_before": 0.01, "alpha": 0.01, "labels": (), "judged": "last week",
        "raised_before": 5, "raised": 3, "differs": changes._differs(BEFORE, AFTER),
    }  # fmt: skip
    return changes.Changes(**{**fields, **more})


def text(found: changes.Changes) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        for part in changes.tables(found):
            console.print(part, highlight=False)
        return console.export_text()


def test_verdicts_that_differ_are_counted_by_cause():
    """Those of both bundles are not among them; sessions count as often as they came."""
    assert [(row.change, row.reason, row.count) for row in told().differs] == [
        ("no longer", "sequence", 4),
        ("new", "counts", 2),
    ]


def test_all_that_changed_is_shown():
    """Threshold before and now, types, labels that do not hold first, verdicts."""
    held = [changes.Held(str(n), "normal", f"what {n}", 0.7, 0.4 + n / 5, n == 0) for n in range(2)]
    shown = text(
        told(
            added=(changes.Added("0" * 16, "new <*>", 3),),
            retired=(changes.Retired("1" * 16, "old bob", "2" * 16),),
            renamed=(changes.Renamed("2" * 16, "old root", "old <*>"),),
            labels=tuple(held),
        )
    )
    for words in ("12.50 -> 12.75", "new <*>", "old bob", "old root -> old <*>", "5 anomalous verdicts before, 3 now"):
        assert words in shown
    assert shown.index("what 1") < shown.index("what 0")
    assert "does NOT hold" in shown


def test_templates_are_shown_as_text():
    """Neither markup nor escape sequences take effect."""
    assert "[red]x[/red]" in text(told(added=(changes.Added("0" * 16, "[red]x[/red] \x1b[2J", 1),)))
    assert "\x1b" not in text(told(added=(changes.Added("0" * 16, "\x1b[2J", 1),)))


def test_nothing_is_said_to_be_nothing():
    """No empty tables."""
    assert "types: none added, retired or renamed" in text(told(differs=()))
    assert "the same ones" in text(told(differs=()))
