"""Charts of the other detectors for the report: seen against expected with alarms, ROC and PR, confusion, errors."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context

from foretail_trainer.charts import ALERT, FAINT, FIRST, POINTS_MAX, STYLE, drawn, frame
from foretail_trainer.findings import Section, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.evidence import Weighed
    from foretail.series import Scored
    from foretail_trainer.characters import FittedLines, Judged
    from foretail_trainer.learn import Learned
    from foretail_trainer.timeseries import FittedSeries

EXAMPLES = 10
CURVES = 4


def curve(
    name: str, seen: NDArray[np.float64], scored: Scored | Weighed, feature: int, number: int = 0, what: str = "row"
) -> str:
    """One feature over the rows: what came, the range in which a normal value lies, alarms marked.

    Args:
        name: of the feature.
        seen: float64 `[n]`.
        scored: the same rows, judged.
        feature: its column.
        number: makes the ids of several curves of one page differ.
        what: the rows are.
    """
    at = np.unique(np.linspace(0, len(seen) - 1, min(POINTS_MAX, len(seen))).astype(int))
    odd = np.flatnonzero(scored.anomalous)
    with rc_context(STYLE):
        figure, axes = frame(what, visible(name))
        low, high = scored.low[at, feature], scored.high[at, feature]
        axes.fill_between(at, low, high, color=FAINT, alpha=0.3, linewidth=0, label="expected")
        axes.plot(at, seen[at], color=FIRST, linewidth=1.0, label="seen")
        axes.plot(odd, seen[odd], color=ALERT, marker="o", markersize=4, linestyle="", label="alarm")
        inside = seen[np.isfinite(seen)]
        if len(inside):
            room = 0.1 * (float(inside.max() - inside.min()) or 1.0)
            axes.set_ylim(float(inside.min()) - room, float(inside.max()) + room)
        axes.legend(loc="upper right", ncols=3)
        return drawn(figure, f"curve{number}", f"{visible(name)} over {len(seen)} {what}s; {len(odd)} alarms.")


def sections(learned: Learned) -> tuple[Section, ...]:
    """Parts of the page for the detectors that a fit of logs learned beside the sequence model."""
    found = []
    if learned.volume is not None:
        volume = learned.volume
        info = volume.info.series
        week = info.calibration.alpha * info.calibration.units_per_day * 7
        head = (
            f"<p>How much the log writes in intervals of {info.interval_s:g} s, judged by a network "
            f"({escape(info.model)}). {week:.2g} false alerts a week and host are expected; silence counts from "
            f"{info.calibration.weights['silence']:.0f} s on.</p>"
        )
        body = series_section(info.columns, volume.values, volume.weighed, "interval")
        found.append(Section("volume", "Volume", head + body))
    if learned.labelled is not None:
        found.append(lines(learned.labelled))
    return tuple(found)


def series(fitted: FittedSeries) -> Section:
    """The part of a fit of rows."""
    return Section("series", "Rows", series_section(fitted.info.columns, fitted.table.values, fitted.scored))


def lines(fitted: FittedLines) -> Section:
    """The part of a fit of labelled lines."""
    info = fitted.info
    said = ", ".join(f"{name} {value:.4f}" for name, value in fitted.metrics.items())
    judge = f"the int8 model ({escape(info.cell)})"
    head = f"<p>{len(fitted.judged.lines)} held-out lines, judged by {judge}: {escape(said)}.</p>"
    body = lines_section(fitted.judged, info.threshold, (info.positive, info.negative))
    return Section("lines", "Labelled lines", head + body)


def series_section(
    columns: Sequence[str], values: NDArray[np.float64], scored: Scored | Weighed, what: str = "row"
) -> str:
    """HTML of a series or volume detector: the features that moved most in the strangest rows."""
    worst = np.argsort(-scored.ratio, kind="stable")[:50]
    order = np.argsort(-scored.shares[worst].sum(axis=0), kind="stable")[:CURVES]
    charts = [curve(columns[at], values[:, at], scored, at, number, what) for number, at in enumerate(order.tolist())]
    alarms = int(scored.anomalous.sum())
    head = f"<p>{len(values)} {what}s, each judged by a model that had not seen it; {alarms} alarms.</p>"
    return head + "".join(f"<figure>{chart}</figure>" for chart in charts)


def roc(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> str:
    """Recall over the false-positive rate, and precision over recall."""
    order = np.argsort(-probability, kind="stable")
    hits, false = np.cumsum(truth[order]), np.cumsum(~truth[order])
    recall, fpr = hits / max(1, hits[-1]), false / max(1, false[-1])
    at = np.unique(np.linspace(0, len(order) - 1, min(POINTS_MAX, len(order))).astype(int))
    with rc_context(STYLE):
        figure, axes = frame("false-positive rate / recall", "recall / precision")
        axes.plot(fpr[at], recall[at], color=FIRST, label="ROC")
        axes.plot(recall[at], (hits / (hits + false))[at], color=ALERT, linestyle="--", label="precision over recall")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(0, 1.02)
        axes.legend(loc="lower center")
        return drawn(figure, "roc", f"ROC and precision-recall curves of {len(truth)} held-out lines.")


def lines_section(judged: Judged, threshold: float, labels: tuple[str, str]) -> str:
    """HTML of a line classifier: confusion matrix, curves, and examples of each kind of error.

    Args:
        judged: held-out lines.
        threshold: of the probability.
        labels: the positive and the negative one.
    """
    raised, truth = judged.probability >= threshold, judged.truth
    counts = [(int((raised & kind).sum()), int((~raised & kind).sum())) for kind in (truth, ~truth)]
    rows = "".join(
        f"<tr><th>{escape(visible(label))}</th><td>{yes}</td><td>{no}</td></tr>"
        for label, (yes, no) in zip(labels, counts, strict=True)
    )
    out = f"<table><tr><th>label</th><th>raised</th><th>not raised</th></tr>{rows}</table>"
    out += f"<figure>{roc(truth, judged.probability)}</figure>"
    for title, wrong in (("Missed", truth & ~raised), ("Raised wrongly", raised & ~truth)):
        found = np.flatnonzero(wrong)[:EXAMPLES].tolist()
        items = "".join(
            f"<li><code>{escape(visible(judged.lines[at]))}</code> {judged.probability[at]:.3f}</li>" for at in found
        )
        out += f"<h4>{title}: {int(wrong.sum())}</h4><ul>{items}</ul>" if found else ""
    return out
