"""What the demo prints at its end, as rich tables; text of log lines is made visible first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from foretail_trainer.findings import visible

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from foretail_trainer.companion import Load
    from foretail_trainer.tally import Arrival, Tally

LINES_SHOWN_MAX = 50


def faults(result: Tally) -> Table:
    """Each fault: caught or not, how soon, in whose words; then what was raised for nothing."""
    table = Table(title="Injected faults", title_justify="left", expand=True)
    table.add_column("#", justify="right")
    table.add_column("fault", ratio=3)
    table.add_column("caught")
    table.add_column("after ms", justify="right")
    table.add_column("the agent says", ratio=5)
    for fault, incident, ms in result.outcomes:
        table.add_row(
            str(fault.id),
            f"[bold]{fault.kind}[/]: {escape(fault.detail)}",
            "[green]yes[/]" if incident else "[red]no[/]",
            "" if ms is None else f"{ms:,.0f}",
            escape(visible(incident.summary)) if incident else "",
        )
    for arrival in result.false[:LINES_SHOWN_MAX]:
        table.add_row("", "[yellow]false incident[/]", "", "", escape(visible(arrival.incident.summary)))
    return table


def figures(result: Tally, load: Load, seconds: float, at_rest: float, bundle: Path, total_s: float) -> Table:
    """The figures of a run on the demo's own service.

    Args:
        result: of the live part.
        load: of the agent in the live part, which took `seconds`.
        seconds: as above.
        at_rest: lines a second of `foretail score` on the history.
        bundle: directory.
        total_s: all that the demo took.
    """
    table = Table(show_header=False, box=None)
    caught = f"{result.caught} of {len(result.outcomes)}"
    again = f" ({result.again} incidents more about these)" if result.again else ""
    table.add_row("caught", f"[bold]{caught}[/]{again}")
    table.add_row(
        "false incidents", f"{len(result.false)} in {result.lines:,} lines: {result.false_rate:.2f} per 10,000"
    )
    speed(table, load, seconds)
    table.add_row("", f"{at_rest:,.0f} lines/s at rest: `foretail score` on the history, its start included")
    table.add_row("report", f"[bold]{report(bundle)}[/]")
    table.add_row("bundle", str(bundle))
    table.add_row("time", f"{total_s:.0f} s")
    return table


def speed(table: Table, load: Load, seconds: float) -> None:
    """Lines a second, processor and memory, as rows; `seconds` the agent had for its lines."""
    busy = load.cpu_s / max(1e-9, seconds)
    table.add_row("lines/s", f"{load.lines / max(1e-9, seconds):,.0f} tailed, with {busy:.0%} of a core")
    table.add_row("memory", f"{load.resident_mb:.0f} MB resident")


def incidents(arrivals: Sequence[Arrival]) -> Table:
    """The first incidents by arrival, each once."""
    table = Table(title="Incidents in the rest of the log", title_justify="left", expand=True)
    table.add_column("time")
    table.add_column("session", ratio=1)
    table.add_column("score", justify="right")
    table.add_column("the agent says", ratio=4)
    first = {arrival.incident.id: arrival.incident for arrival in reversed(arrivals)}
    for incident in list(reversed(first.values()))[:LINES_SHOWN_MAX]:
        when = datetime.fromtimestamp(incident.time, UTC).strftime("%Y-%m-%d %H:%M:%S") if incident.time else ""
        key, summary = escape(visible(incident.key or "")), escape(visible(incident.summary))
        table.add_row(when, key, f"{incident.score:.2f}", summary)
    if len(first) > LINES_SHOWN_MAX:
        table.caption = f"the first {LINES_SHOWN_MAX} of {len(first):,}"
    return table


def openings(arrivals: Sequence[Arrival]) -> int:
    """Incidents, each counted once."""
    return len({arrival.incident.id for arrival in arrivals})


def own_figures(arrivals: Sequence[Arrival], lines: int, load: Load, seconds: float, bundle: Path) -> Table:
    """What the agent found in `lines` of a log of the user's own, and took."""
    table = Table(show_header=False, box=None)
    table.add_row("incidents", f"{openings(arrivals):,} in {lines:,} lines")
    speed(table, load, seconds)
    table.add_row("report", str(report(bundle)))
    table.add_row("bundle", str(bundle))
    return table


def report(bundle: Path) -> Path:
    """The page that `fit` wrote beside the bundle."""
    return bundle.with_name(f"{bundle.name}-report") / "report.html"
