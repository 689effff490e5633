"""`fit --timeseries CSV` and `fit --lines CSV`: bundles of one detector, or a classifier beside those of a log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from foretail.delimited import Dialect
from foretail.errors import ConfigError
from foretail_trainer import beside, characters, charnet, curves, history, reckoning, report, single, timeseries
from foretail_trainer.findings import ReportData, Section
from foretail_trainer.stages import Stages

if TYPE_CHECKING:
    import argparse

    from foretail.bundle import Bundle
    from foretail_trainer.characters import FittedLines
    from foretail_trainer.timeseries import FittedSeries


def fit(options: argparse.Namespace) -> int:
    """A bundle of one detector, with its report."""
    with Stages() as stages:
        if options.timeseries:
            series = _series(options, stages)
            bundle, notes = single.write_series(options.out, series, name=options.name or ""), series.notes
            section = curves.series(series)
        else:
            lines = labelled(options, stages)
            bundle, notes = single.write_lines(options.out, lines, name=options.name or ""), lines.notes
            section = curves.lines(lines)
        with stages.stage("report"):
            page = report.write(_report(options, bundle, tuple(notes), section), history.beside(options.out))
    for note in (*notes, *(f"{name}: {value:.4f}" for name, value in bundle.manifest.metrics.items())):
        stages.console.print(note, highlight=False, markup=False)
    stages.console.print(f"bundle {options.out}, report {page}", highlight=False, markup=False)
    return 0


def labelled(options: argparse.Namespace, stages: Stages) -> FittedLines:
    """The classifier that `--lines` asks for."""
    if not options.text or not options.label:
        raise ConfigError("--lines needs --text COLUMN and --label COLUMN")
    cell = "" if options.files else options.cell
    if cell and cell not in charnet.CELLS:
        raise ConfigError(f"--cell {cell!r} is not for --lines; use one of {', '.join(charnet.CELLS)}")
    shape = charnet.LINE._replace(cell=cell) if cell else charnet.LINE
    wanted = characters.Options(
        shape=shape, fpr=options.false_positive_rate, drop=tuple(options.drop), seed=options.seed
    )
    with stages.stage("lines"):
        return characters.fit_lines(options.lines, options.text, options.label, wanted, dialect=dialect(options))


def detectors(text: str) -> tuple[str, ...]:
    """`--detectors sequence,volume` as names.

    Raises:
        ConfigError: one is unknown.
    """
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names or set(names) - set(beside.DETECTORS):
        raise ConfigError(f"--detectors {text!r} is unknown; use one or more of {','.join(beside.DETECTORS)}")
    return names


def dialect(options: argparse.Namespace) -> Dialect:
    """How the CSV is written, as far as the user said."""
    return Dialect(
        separator=options.separator.replace("\\t", "\t"),
        quote=options.quote,
        header=False if options.no_header else None,
    )


def _series(options: argparse.Namespace, stages: Stages) -> FittedSeries:
    asked = reckoning.Options(
        model=options.model or reckoning.MODEL,
        alpha=options.false_alert_rate or reckoning.DEFAULT.alpha,
        interval_s=options.interval or 0.0,
        aggregate=options.aggregate,
        seed=options.seed,
    )
    with stages.stage("series"):
        return timeseries.fit_timeseries(
            options.timeseries, asked, dialect=dialect(options), columns=options.columns, drop=options.drop
        )


def _report(options: argparse.Namespace, bundle: Bundle, notes: tuple[str, ...], section: Section) -> ReportData:
    series = bundle.manifest.series
    about = ReportData.of(bundle, series.calibration if series else None)
    return replace(about, sources=(options.timeseries or options.lines,), notes=notes, sections=(section,))
