"""The pages a person reads after `fit` and `evaluate`: self-contained HTML, each with its data as JSON beside it.

Training text appears here, so these files stay with the trainer and never go into a bundle (DESIGN §7). Log lines are
hostile input: everything is escaped, control and bidirectional characters are shown as text, and the page's own
script is the only one its content security policy admits.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import jinja2
import msgspec
from markupsafe import Markup

from foretail.errors import ConfigError
from foretail_trainer import charts
from foretail_trainer.findings import EvaluateData, ReportData, visible

if TYPE_CHECKING:
    from pathlib import Path

REPORT, EVALUATION = "report", "evaluate"
"""File names without suffix: `.html` for people, `.json` to render it again."""


def render(data: ReportData) -> str:
    """`report.html`: types, clusters, training, threshold and what to distrust, in one file without references."""
    figures = {
        "elbow": charts.elbow(data.elbow.k, data.elbow.value, data.elbow.chosen, data.elbow.criterion)
        if data.elbow
        else "",
        "map": charts.cluster_map(data.map.x, data.map.y, data.map.cluster) if data.map else "",
        "losses": charts.losses(data.losses.training, data.losses.validation, data.losses.best) if data.losses else "",
        "scores": charts.scores(data.scores, data.threshold, data.unit) if data.scores else "",
        "blocks": charts.blocks([b.expected for b in data.blocks], [b.observed for b in data.blocks])
        if data.blocks
        else "",
    }
    return _page("report.html.j2", data, {name: Markup(svg) for name, svg in figures.items()})  # noqa: S704  own SVG


def render_evaluation(data: EvaluateData) -> str:
    """`evaluate.html`: the ablation as a table and a chart of F1 with its intervals, best first."""
    rows = sorted(data.rows, key=lambda row: row.f1, reverse=True)
    figure = charts.intervals([(row.detector, row.f1, row.f1_low, row.f1_high, row.ours) for row in rows])
    data = msgspec.structs.replace(data, rows=tuple(rows))
    return _page("evaluate.html.j2", data, {"f1": Markup(figure)})  # noqa: S704  own SVG


def write(data: ReportData, folder: Path) -> Path:
    """Put `report.json` and `report.html` into a folder (made if absent) and return the page's path."""
    return _write(folder, REPORT, _encoded(data), render(data))


def write_evaluation(data: EvaluateData, folder: Path) -> Path:
    """Put `evaluate.json` and `evaluate.html` into a folder (made if absent) and return the page's path."""
    return _write(folder, EVALUATION, _encoded(data), render_evaluation(data))


def read(folder: Path) -> ReportData:
    """The data that `write` left.

    Raises:
        ConfigError: it is absent or not what `write` writes.
    """
    return _read(folder / f"{REPORT}.json", ReportData)


def read_evaluation(folder: Path) -> EvaluateData:
    """The data that `write_evaluation` left.

    Raises:
        ConfigError: it is absent or not what `write_evaluation` writes.
    """
    return _read(folder / f"{EVALUATION}.json", EvaluateData)


def _encoded(data: ReportData | EvaluateData) -> bytes:
    """As JSON; NumPy scalars, which fill these columns, are written as plain numbers."""
    return msgspec.json.encode(data, enc_hook=lambda scalar: scalar.item())


_Data = TypeVar("_Data", ReportData, EvaluateData)


def _read(path: Path, kind: type[_Data]) -> _Data:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; name the report folder that `fit` wrote.") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not the data of a report ({error}); run `fit` again.") from error


def _write(folder: Path, name: str, data: bytes, page: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_bytes(data)
        path = folder / f"{name}.html"
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; choose a folder that can be written.") from error
    return path


def _page(template: str, data: ReportData | EvaluateData, figures: dict[str, Markup]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("foretail_trainer"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value, 10_000) if type(value) is str else value,
    )
    environment.filters |= {"count": _count, "moment": _moment, "span": _span, "figure": _figure, "text": visible}
    environment.filters["own"] = Markup
    script, style = _asset("report.js"), _asset("report.css")
    return environment.get_template(template).render(
        data=data,
        figures=figures,
        style=Markup(style),  # noqa: S704  own file
        script=Markup(script),  # noqa: S704  own file
        script_digest=_digest(script),
    )


def _asset(name: str) -> str:
    return (importlib.resources.files("foretail_trainer") / "templates" / name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _count(number: float) -> str:
    return f"{number:,.0f}"


def _figure(number: float | None, digits: int = 3) -> str:
    """A number at `digits` significant digits, without exponents down to a millionth."""
    if number is None:
        return "-"
    if number != 0 and abs(number) < 1e-6:
        return f"{number:.{digits - 1}e}"
    if abs(number) >= 10 ** (digits - 1):
        return f"{number:,.0f}"
    text = f"{float(f'{number:.{digits}g}'):.{digits + 6}f}"
    return text.rstrip("0").rstrip(".")


def _moment(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if time else "unknown"


def _span(seconds: float) -> str:
    """A duration in the largest unit of which it has at least one and a half."""
    for size, unit in ((604_800, "weeks"), (86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} seconds"
