"""The only door to matplotlib: numbers to inline SVG that takes its colours from the page, light or dark."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from foretail_trainer.findings import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

INK, FAINT, FIRST, SECOND, ALERT = "#010101", "#020202", "#030303", "#040404", "#050505"
HUES = tuple(f"#06060{i}" for i in range(8))
"""Stand-ins: no chart needs these near-blacks, so each can be replaced by a variable of the style sheet."""
VARIABLES = {INK: "--ink", FAINT: "--faint", FIRST: "--first", SECOND: "--second", ALERT: "--alert"} | {
    hue: f"--hue{i}" for i, hue in enumerate(HUES)
}
POINTS_MAX = 1500
"""More points than this make a page slow and no chart clearer; an even sample is drawn."""
BARS = 60
"""Classes of the histogram of scores."""
LABEL_CHARACTERS_MAX = 36
LABELLED_MAX = 40
"""Clusters that get their number written on the map, largest first."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: searchable, scaled, read aloud
    "svg.hashsalt": "foretail",  # same input, same bytes
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def elbow(k: Sequence[int], value: Sequence[float], chosen: int, criterion: str) -> str:
    """The criterion over k, the k taken marked."""
    with rc_context(STYLE):
        figure, axes = frame("number of clusters k", criterion)
        axes.plot(k, value, color=FIRST, marker="o", markersize=3.5)
        if chosen in k:
            at = value[list(k).index(chosen)]
            axes.plot([chosen], [at], color=ALERT, marker="o", markersize=9, fillstyle="none", markeredgewidth=1.8)
            axes.annotate(f"k = {chosen}", (chosen, at), xytext=(8, 8), textcoords="offset points")
        axes.grid(axis="y")
        return drawn(figure, "elbow", f"{criterion} for {len(k)} values of k; {chosen} was chosen.")


def cluster_map(x: Sequence[float], y: Sequence[float], cluster: Sequence[int]) -> str:
    """The skeletons on two SVD axes, coloured by cluster, the largest clusters numbered at their median."""
    with rc_context(STYLE):
        figure, axes = frame("first SVD axis", "second SVD axis")
        points, names = np.column_stack([x, y]).astype(float), np.asarray(cluster)
        points = np.arcsinh((points - np.median(points, axis=0)) / _spread(points))  # one outlier must not squeeze all
        axes.set_xticks([])
        axes.set_yticks([])
        shown = np.unique(np.linspace(0, len(points) - 1, min(POINTS_MAX, len(points))).astype(int))
        colours = [HUES[int(name) % len(HUES)] for name in names[shown]]
        axes.scatter(points[shown, 0], points[shown, 1], s=16, c=colours, alpha=0.75, linewidths=0)
        found, sizes = np.unique(names, return_counts=True)
        for name in found[np.argsort(-sizes, kind="stable")][:LABELLED_MAX]:
            middle = np.median(points[names == name], axis=0)
            axes.annotate(str(name), (middle[0], middle[1]), xytext=(4, 4), textcoords="offset points", fontsize=9)
        return drawn(figure, "map", f"Map of {len(points)} distinct message shapes in {len(found)} clusters.")


def losses(training: Sequence[float], validation: Sequence[float], best: int) -> str:
    """Loss after each epoch on training and held-out windows, the shipped epoch marked."""
    with rc_context(STYLE):
        figure, axes = frame("epoch", "nats per event")
        epochs = range(1, len(training) + 1)
        axes.plot(epochs, training, color=FIRST, marker="o", markersize=3.5, label="training")
        axes.plot(range(1, len(validation) + 1), validation, color=SECOND, marker="s", markersize=3.5, label="held out")
        axes.axvline(best + 1, color=ALERT, linestyle=":", label="shipped")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0)
        axes.grid(axis="y")
        axes.legend(loc="upper right")
        return drawn(figure, "losses", f"Loss over {len(training)} epochs; epoch {best + 1} was shipped.")


def scores(bits: Sequence[float], threshold: float, unit: str) -> str:
    """How many calibration units reach each score, on a log axis, against the threshold."""
    with rc_context(STYLE):
        figure, axes = frame("surprise in bits", f"{unit}s")
        values = np.asarray(bits, dtype=float)
        edges = np.linspace(0, max(float(values.max()), threshold) * 1.05 + 1e-9, BARS + 1)
        axes.hist(values, edges.tolist(), color=FIRST, log=True)
        axes.axvline(threshold, color=ALERT, linestyle="--")
        axes.annotate(
            f"threshold {threshold:.1f}",
            (threshold, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-6, -12),
            textcoords="offset points",
            ha="right",
        )
        above = int((values >= threshold).sum())
        return drawn(figure, "scores", f"{len(values)} calibration scores, {above} at or over {threshold:.1f} bits.")


def blocks(expected: Sequence[float], observed: Sequence[int]) -> str:
    """Alerts per time block: a bar for what came, a mark for what was expected."""
    with rc_context(STYLE):
        figure, axes = frame("time block", "alerts")
        at = range(1, len(observed) + 1)
        axes.bar(at, observed, color=FIRST, width=0.6, label="observed")
        axes.plot(
            at, expected, color=ALERT, marker="_", markersize=22, markeredgewidth=2.2, linestyle="", label="expected"
        )
        axes.set_xticks(list(at))
        axes.set_ylim(0, max(*observed, *expected, 1) * 1.35)
        axes.legend(loc="upper right", ncols=2)
        return drawn(figure, "blocks", f"Observed {list(observed)} against expected alerts in {len(observed)} blocks.")


def intervals(rows: Sequence[tuple[str, float, float | None, float | None, bool]]) -> str:
    """One line per detector (name, F1, low, high, ours), the first on top."""
    with rc_context(STYLE):
        figure, axes = frame("F1", "", height=0.9 + 0.33 * len(rows))
        for row, (_, f1, low, high, ours) in enumerate(rows):
            colour = ALERT if ours else FIRST
            axes.plot([f1 if low is None else low, f1 if high is None else high], [row, row], color=colour)
            axes.plot([f1], [row], color=colour, marker="o", markersize=6)
        axes.set_yticks(range(len(rows)), [_plain(name) for name, *_ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        least = min((f1 if low is None else low for _, f1, low, _, _ in rows), default=0.0)
        axes.set_xlim(max(0.0, least - 0.1), 1.02)
        axes.grid(axis="x")
        return drawn(figure, "f1", f"F1 of {len(rows)} detectors with 95 % intervals; the table has the figures.")


def frame(across: str, up: str, *, height: float = 3.1) -> tuple[Figure, Axes]:
    """An empty chart with words along its axes; `height` in inches."""
    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(_plain(across))
    axes.set_ylabel(_plain(up))
    return figure, axes


def _spread(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median distance from the median on each axis, or 1 where all points are one."""
    spread = np.median(np.abs(points - np.median(points, axis=0)), axis=0)
    return np.where(spread > 0, spread, 1.0)


def _plain(text: str) -> str:
    """A label that leaves room for its chart and that matplotlib does not read as mathematics."""
    short = text if len(text) <= LABEL_CHARACTERS_MAX else text[: LABEL_CHARACTERS_MAX - 1] + "…"
    return visible(short).replace("$", r"\$")


def drawn(figure: Figure, name: str, label: str) -> str:
    """The figure as an SVG element with its own ids, the page's colours and a name for screen readers."""
    out = io.StringIO()
    with warnings.catch_warnings():  # the reader's browser has more glyphs than the font measured with
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r"#0[1-6]0[1-6]0[0-7]", lambda match: f"var({VARIABLES[match[0]]})", svg)
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    title = visible(label).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    head = f'<svg role="img" aria-label="{title}" class="chart" '
    return re.sub(r' (?:width|height)="[^"]*pt"', "", svg, count=2).replace("<svg ", head, 1)
