"""The commands of `foretail-train`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foretail import bundle as bundles
from foretail.errors import ConfigError
from foretail_trainer import beside, calibrate, cells, changes, history, judging, learn, present, refit, report
from foretail_trainer import types as type_edits
from foretail_trainer.findings import visible
from foretail_trainer.fit import Plan
from foretail_trainer.stages import Stages

SUSPECTS = "suspects.jsonl"
CHANGES = "changes.json"

if TYPE_CHECKING:
    import argparse

    from foretail_trainer.findings import ReportData
    from foretail_trainer.learn import Learned


BOUNDS = {
    "window": (1, 128),
    "units": (1, 1024),
    "layers": (1, 4),
    "dropout": (0.0, 0.9),
    "smoothing": (0.0, 0.9),
    "hosts": (0, 1_000_000),
    "version_number": (0, 2**53),
    "false_alert_rate": (0.0, 0.5),
}
"""What options of a fit on logs may be."""
ELSEWHERE = {
    **dict.fromkeys(("interval", "columns"), "--timeseries"),
    **dict.fromkeys(("label", "text", "drop"), "--lines"),
}
"""Options that mean nothing without another one."""


def _check(options: argparse.Namespace) -> None:
    """ConfigError: an option of a fit on logs that cannot be, before anything is read."""
    for name, (least, most) in BOUNDS.items():
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise ConfigError(f"--{name.replace('_', '-')} takes {least:g} to {most:g}, not {value:g}")
    for name, other in ELSEWHERE.items():
        if getattr(options, name) and not getattr(options, other[2:]):
            raise ConfigError(f"--{name} belongs to {other} CSV; leave it out, or give {other}")
    if options.idle is not None and options.idle <= 0:
        raise ConfigError("--idle takes more than 0 s")
    if options.name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", options.name):
        raise ConfigError(f"--name {options.name!r}: up to 64 letters, digits, dots, dashes and underscores")
    if options.cell in {"conv", "stacked"}:
        raise ConfigError(f"--cell {options.cell} is for --lines alone; on a log use lstm, gru or rnn")
    if options.exclude and not Path(options.exclude).is_file():
        raise ConfigError(f"--exclude {options.exclude}: there is no such file")


def fit(options: argparse.Namespace) -> int:
    """`foretail-train fit`: a bundle, its report, and a closing table."""
    asked = [options.files, options.sequences, options.timeseries, options.lines]
    if options.feedback and not options.base:
        raise ConfigError("--feedback needs --base BUNDLE: the bundle that was judged")
    if options.feedback and any(asked[1:]):
        raise ConfigError("a refit with --feedback takes log files only")
    with_lines = options.files and options.lines and not options.sequences and not options.timeseries
    if sum(map(bool, asked)) != 1 and not options.feedback and not with_lines:
        raise ConfigError("give one of: log files, --sequences FILE, --timeseries CSV, --lines CSV")
    if options.timeseries or (options.lines and not options.files):
        return cells.fit(options)
    _check(options)
    with Stages() as stages:
        work = refit.refit if options.feedback else learn.fit
        learned = work(
            learn.Options(
                out=options.out,
                files=tuple(options.files),
                sequences=options.sequences or "",
                name=options.name or "",
                version=options.version_number,
                format=options.format,
                key=options.key,
                idle_s=options.idle or 0.0,
                types_file=options.types or "",
                exclude=options.exclude or "",
                base=options.base or "",
                feedback=tuple(options.feedback),
                cell=options.cell or "lstm",
                layers=options.layers,
                window=options.window,
                units=options.units,
                plan=Plan(smoothing=options.smoothing, dropout=options.dropout),
                rate=options.false_alert_rate,
                per_week=options.false_alerts_per_week or calibrate.ALERTS_PER_WEEK,
                hosts=options.hosts,
                seed=options.seed,
                types_only=options.types_only,
                detectors=cells.detectors(options.detectors),
                volume_model=options.model,
                labelled=cells.labelled(options, stages) if options.lines else None,
            ),
            stages,
        )
        with stages.stage("report"):
            page = report.write(_illustrated(present.report_data(learned), learned), report_folder(options.out))
            (report_folder(options.out) / SUSPECTS).write_bytes(present.suspects_file(learned))
            if (kept := history.of(learned)) is not None:
                history.write(report_folder(options.out), kept)
            if learned.changes is not None:
                (report_folder(options.out) / CHANGES).write_bytes(msgspec.json.encode(learned.changes) + b"\n")
    stages.console.print(closing(learned))
    for part in changes.tables(learned.changes) if learned.changes else []:
        stages.console.print(part, highlight=False)
    for note in learned.notes:
        stages.console.print(f"note: {note}", highlight=False, markup=False)
    if learned.suspects:
        words = f"the {len(learned.suspects)} strangest sessions are in {SUSPECTS} beside the report (fit --exclude)"
        stages.console.print(words, highlight=False)
    stages.console.print(f"bundle {options.out}, report {page}", highlight=False, markup=False)
    return 0


def types(options: argparse.Namespace) -> int:
    """`foretail-train types`: the message types of a bundle, with examples where the report is at hand."""
    bundle = bundles.read(options.bundle)
    folder = report_folder(options.bundle)
    examples = {row.type_id: row.example for row in report.read(folder).types} if folder.exists() else {}
    table = Table("type", "type_id", "lines", "share", "template, example", box=None)
    for row in type_edits.table(bundle.patterns):
        marks = " ".join(mark for mark, on in (("rare", row.rare), ("error", row.error)) if on)
        shown = escape(visible(row.template)) + (f"  [dim]({marks})[/dim]" if marks else "")
        shown += f" [bold]{escape(row.name)}[/bold]" if row.name else ""
        if example := examples.get(row.type_id):
            shown += f"\n[dim]{escape(example)}[/dim]"
        table.add_row(row.type, row.type_id, f"{row.count:,}", f"{row.share:.2%}", shown)
    Console().print(table)
    singletons = sum(pattern.support == 1 for pattern in bundle.patterns)
    Console(stderr=True).print(
        f"{len(bundle.patterns)} types, {singletons} with one line; edit them with fit --types FILE", highlight=False
    )
    return 0


def render(options: argparse.Namespace) -> int:
    """`foretail-train report`: report.html again, from its data."""
    folder = report_folder(options.bundle)
    page = report.write(report.read(folder), folder)
    Console(stderr=True).print(str(page), highlight=False)
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """`foretail-train evaluate`: how well a bundle finds labelled anomalies, beside baselines."""
    data = judging.run(options)
    table = Table("detector", "precision", "recall", "F1", "95 %", "AP", "TP", "FP", "FN", "what it is", box=None)
    for row in data.rows:
        low_high = f"{row.f1_low:.3f}-{row.f1_high:.3f}" if row.f1_low is not None else ""
        table.add_row(
            f"[bold]{row.detector}[/bold]" if row.ours else row.detector,
            f"{row.precision:.3f}",
            f"{row.recall:.3f}",
            f"{row.f1:.4f}",
            low_high,
            f"{row.ap:.3f}" if row.ap is not None else "",
            f"{row.true_positives:,}",
            f"{row.false_positives:,}",
            f"{row.false_negatives:,}",
            row.note,
        )
    console = Console(stderr=True)
    console.print(table)
    for note in data.notes:
        console.print(note, highlight=False, markup=False)
    sys.stdout.buffer.write(msgspec.json.encode(data) + b"\n")
    if options.out:
        console.print(str(report.write_evaluation(data, Path(options.out))), highlight=False, markup=False)
    return 0


def report_folder(out: str) -> Path:
    """`DIR-report` beside the bundle `DIR`: what must not go with it."""
    return history.beside(out)


def _illustrated(data: ReportData, learned: Learned) -> ReportData:
    """The report of a refit with the example lines that its base had: it has not seen the old log."""
    if learned.changes is None:
        return data
    try:
        old = {row.type_id: row.example for row in report.read(history.beside(learned.options.base)).types}
    except ConfigError:  # the page was thrown away: types go without examples
        return data
    rows = (
        row if row.example else msgspec.structs.replace(row, example=old.get(row.type_id, "")) for row in data.types
    )
    return msgspec.structs.replace(data, types=tuple(rows))


def closing(learned: Learned) -> Table:
    """What a person wants to know at the end of a fit."""
    bundle = learned.bundle
    assert bundle is not None  # noqa: S101 - our own bug
    manifest, calibration = bundle.manifest, bundle.manifest.calibration
    table = Table(show_header=False, box=None)
    table.add_row("bundle", f"{manifest.name}, version {manifest.version}")
    table.add_row("lines", f"{learned.lines:,}, {learned.untyped / max(1, learned.lines):.2%} untyped")
    table.add_row("header", manifest.format.name)
    rare = sum(pattern.rare for pattern in learned.patterns)
    table.add_row("message types", f"{len(learned.patterns)}, {rare} of them rare")
    errors = sum(pattern.error for pattern in learned.patterns)
    if errors:
        table.add_row("", f"{errors} types are error messages that the training log holds: see the report")
    table.add_row("key", escape(present.key_words(learned)))
    if learned.sessions is not None:
        table.add_row(
            "sessions", f"{int(learned.sessions.weight.sum()):,}, over after {manifest.idle_s:,.0f} s of silence"
        )
    if calibration:
        week = calibration.alpha * calibration.units_per_day * 7
        rate = f"{calibration.alpha:.3g} a {calibration.unit}" + (f", {week:.2g} a week and host" if week else "")
        table.add_row("false alerts", rate)
        how = "extrapolated: the log is too short to certify this rate" if calibration.extrapolated else "certified"
        certified = learned.calibrated.certified if learned.calibrated else 0.0
        table.add_row("threshold", f"{calibration.threshold:.2f} bits, {how} (it certifies {certified:.2g})")
    if learned.volume is not None:
        series = learned.volume.info.series
        table.add_row(
            "volume",
            f"intervals of {series.interval_s:g} s, {len(series.columns)} features, "
            f"{beside.promised(learned.volume):.2g} false alerts a week and host",
        )
        if learned.volume.info.readings:
            table.add_row("", "\n".join(f"follows {escape(visible(one.name))}" for one in learned.volume.info.readings))
    if learned.labelled is not None:
        found = learned.labelled.metrics
        table.add_row("labelled lines", f"accuracy {found['accuracy']:.4f}, AUC {found['auc']:.4f} on held-out lines")
    table.add_row("time", f"{learned.seconds:.1f} s")
    return table
