"""`fit --lines CSV`: labelled lines to a calibrated classifier of lines (issue 8)."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foretail import arrays, delimited
from foretail.characters import LineModel, record_text
from foretail.errors import ConfigError
from foretail.schema import LinesInfo
from foretail_trainer import charnet
from foretail_trainer.quantiles import quantile, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from foretail.delimited import Dialect
    from foretail_trainer.charnet import Plan, Shape

HELD_SHARE = 0.15
AGREE_MIN = 0.999
RARE_MIN = 10
NORMAL_LABELS = {
    "0",
    "norm",
    "normal",
    "benign",
    "ok",
    "good",
    "false",
    "no",
    "negative",
    "legit",
    "legitimate",
    "valid",
}


class Options(NamedTuple):
    """What a user can say.

    Attributes:
        shape, plan: of network and training.
        fpr: wanted false-positive rate; None: the threshold is a probability of one half.
        positive: the label that is raised; None: the one that is not named like `normal`, else the rarer.
        drop: fields of JSON records that are left out; `field`: the one that is read.
        bytes_max: longer lines are judged by their first bytes.
        seed: of everything random.
    """

    shape: Shape = charnet.LINE
    plan: Plan = charnet.DEFAULT
    fpr: float | None = None
    positive: str | None = None
    drop: tuple[str, ...] = ()
    field: str | None = None
    bytes_max: int = 1024
    seed: int = 0


DEFAULT = Options()


class Judged(NamedTuple):
    """Held-out lines as the int8 model judges them, for the report: truth, probability, and confusion at the threshold.

    Attributes:
        truth: bool `[n]`: of the positive label; `probability` float64 `[n]`; `lines`: as read.
    """

    truth: NDArray[np.bool_]
    probability: NDArray[np.float64]
    lines: tuple[bytes, ...]


class FittedLines(NamedTuple):
    """What `fit_lines` gives.

    Attributes:
        files, info: for the bundle and `Manifest.lines`.
        judged: held-out lines.
        metrics: accuracy, auc, f1, fpr on them; `agreement` of int8 with float.
        notes: for the user.
        digest: sha256 of the training lines; `lines`: how many.
        float_files: the float32 twin, for benchmarks; never part of a bundle.
    """

    files: dict[str, bytes]
    info: LinesInfo
    judged: Judged
    metrics: dict[str, float]
    notes: tuple[str, ...]
    digest: str
    lines: int
    float_files: dict[str, bytes]


def fit_lines(
    path: str,
    text: str,
    label: str,
    options: Options = DEFAULT,
    *,
    dialect: Dialect = delimited.COMMON,
    progress: Callable[[str], None] | None = None,
) -> FittedLines:
    """Learn to tell two kinds of lines apart.

    Args:
        path: CSV, `.gz`, `.xz`, `.zst` or `-`.
        text: column of the lines, by name or number from 1.
        label: column of two labels.
        options: of the user.
        dialect: of the file.
        progress: told what happens.

    Raises:
        ConfigError: the file cannot be used, in one sentence.
    """
    sheet = delimited.read(path, dialect)
    lines = [
        record_text(cell.encode("utf-8", "surrogateescape"), options.drop, options.field)[: options.bytes_max]
        for cell in sheet.column(sheet.place(text))
    ]
    labels = [cell.strip() for cell in sheet.column(sheet.place(label))]
    positive, negative = _labels(labels, options.positive, path)
    return fit(lines, np.array([cell == positive for cell in labels]), options, (positive, negative), progress=progress)


def _labels(labels: Sequence[str], positive: str | None, path: str) -> tuple[str, str]:
    names, counts = np.unique(labels, return_counts=True)
    if len(names) != 2:
        shown = ", ".join(map(repr, names[:6].tolist()))
        raise ConfigError(f"{path}: the label column holds {len(names)} labels ({shown}); it must hold two")
    if counts.min() < RARE_MIN:
        raise ConfigError(
            f"{path}: only {counts.min()} lines are labelled {str(names[counts.argmin()])!r}; give {RARE_MIN}"
        )
    if positive is None:
        normal = [name for name in names.tolist() if name.lower() in NORMAL_LABELS]
        common = normal[0] if len(normal) == 1 else str(names[counts.argmax()])
        positive = str(next(name for name in names.tolist() if name != common))
    elif positive not in names:
        raise ConfigError(
            f"{path}: no line is labelled {positive!r}; the labels are {str(names[0])!r} and {str(names[1])!r}"
        )
    return positive, str(next(name for name in names.tolist() if name != positive))


def fit(
    lines: Sequence[bytes],
    truth: NDArray[np.bool_],
    options: Options = DEFAULT,
    names: tuple[str, str] = ("anomalous", "normal"),
    *,
    progress: Callable[[str], None] | None = None,
) -> FittedLines:
    """Train on 85 % of the lines, calibrate on the rest, export, and let the gate compare int8 with float.

    Args:
        lines: as the model reads them; equal lines stay on one side of the split.
        truth: bool `[n]`: of the positive label.
        options: of the user.
        names: of the labels, the positive first.
        progress: told what happens.
    """
    _check(options)
    shape, tell = options.shape, progress or (lambda _: None)
    held = _held(lines)
    train = np.flatnonzero(~held)
    for kind in (True, False):
        if not (truth[held] == kind).any() or not (truth[train] == kind).any():
            raise ConfigError(f"too few different lines are labelled {names[0] if kind else names[1]!r}; give more")
    learned = [lines[row] for row in train.tolist()]
    weights = charnet.train(learned, truth[train], shape, options.plan, seed=options.seed, progress=tell)
    tell("exporting")
    files, twin = charnet.export(shape, weights), charnet.export(shape, weights, quantize=False)
    info = plain(shape, options, names)
    rest = [lines[row] for row in np.flatnonzero(held).tolist()]
    raw, answer = LineModel(info, files).logits(rest), truth[held]
    exact = LineModel(info, twin).logits(rest)
    slope, offset = platt(raw, answer)
    logits = slope * raw + offset
    normal = logits[~answer]
    notes = []
    threshold = 0.5
    if options.fpr is not None:
        limit, far = quantile(normal, options.fpr)
        threshold = float(np.clip(1 / (1 + math.exp(-limit)), 1e-6, 1 - 1e-6))
        if far:
            notes.append(f"{len(normal)} held-out lines cannot certify {options.fpr:g} false positives: extrapolated")
    info = LinesInfo(**{name: getattr(info, name) for name in info.__struct_fields__} | {
        "threshold": threshold, "slope": slope, "offset": offset, "tail": tail(normal),
        "fpr": float((1 / (1 + np.exp(-normal)) >= threshold).mean()),
    })  # fmt: skip
    same = float(((raw * slope + offset >= _logit(threshold)) == (exact * slope + offset >= _logit(threshold))).mean())
    if same < AGREE_MIN:
        raise ConfigError(
            f"the int8 model decides like the float model on {same:.3%} of held-out lines ({AGREE_MIN:.1%} wanted): "
            "train longer or add units"
        )
    files["line.golden.npy"] = _golden(info, files)
    probability = 1 / (1 + np.exp(-logits))
    metrics = {**measures(answer, probability, threshold), "agreement": same}
    digest = hashlib.sha256(b"\n".join(lines)).hexdigest()
    return FittedLines(
        files, info, Judged(answer, probability, tuple(rest)), metrics, tuple(notes), digest, len(lines), twin
    )


def plain(shape: Shape, options: Options, names: tuple[str, str]) -> LinesInfo:
    """The manifest section of an uncalibrated model."""
    return LinesInfo(
        cell=shape.cell,
        chunk=shape.chunk,
        state=shape.state,
        halo=shape.halo,
        bytes_max=options.bytes_max,
        positive=names[0],
        negative=names[1],
        threshold=0.5,
        fpr=0.0,
        slope=1.0,
        offset=0.0,
        tail=tail(np.zeros(2)),
        field=options.field,
        drop=options.drop,
    )


def _golden(info: LinesInfo, files: dict[str, bytes]) -> bytes:
    """Synthetic lines and their log-odds: float32 `[8, 1 + 96]`, bytes as numbers, -1 = none."""
    rng = np.random.default_rng(8)
    table = np.full((8, 97), -1.0, np.float32)
    for number, row in enumerate(table):
        row[1 : 2 + 13 * number] = rng.integers(32, 127, 1 + 13 * number)
    lines = [bytes(int(b) for b in row[1:] if b >= 0) for row in table]
    table[:, 0] = LineModel(info, files).logits(lines)
    return arrays.written(table)


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _check(options: Options) -> None:
    shape = options.shape
    if shape.cell not in charnet.CELLS:
        raise ConfigError(f"the cell is {shape.cell!r}: choose one of {', '.join(charnet.CELLS)}")
    for name, value, (least, most) in (
        ("units", shape.units, (4, 512)),
        ("chunk", shape.chunk, (8, 64)),
        ("embedding", shape.embedding, (2, 256)),
        ("bytes_max", options.bytes_max, (16, 8192)),
    ):
        if not least <= value <= most:
            raise ConfigError(f"{name} is {value}: choose a number from {least} to {most}")
    if options.fpr is not None and not 0 < options.fpr < 1:
        raise ConfigError(f"the false-positive rate is {options.fpr}: give a number between 0 and 1")


def _held(lines: Sequence[bytes]) -> NDArray[np.bool_]:
    """A fixed share of the distinct lines, by their hash: the same line is never on both sides."""
    marks = [hashlib.blake2b(line, digest_size=4).digest() for line in lines]
    return np.array([int.from_bytes(mark, "big") < HELD_SHARE * 2**32 for mark in marks])


def platt(logits: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset that make log-odds true on held-out lines (Platt, 1999, with his smoothed targets)."""
    positive, negative = int(truth.sum()), int((~truth).sum())
    target = np.where(truth, (positive + 1) / (positive + 2), 1 / (negative + 2))
    scale = max(1.0, float(np.abs(logits).max()))
    x = np.stack([logits / scale, np.ones(len(logits))], axis=1)
    theta = np.array([scale, 0.0])

    def loss(theta: NDArray[np.float64]) -> float:
        z = x @ theta
        return float(np.mean(np.logaddexp(0.0, z) - target * z)) + 1e-6 * float(theta @ theta)

    now = loss(theta)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -500, 500)))
        gradient = x.T @ (p - target) / len(p) + 2e-6 * theta
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(p) + 2e-6 * np.eye(2)
        step, size = np.linalg.solve(hessian, gradient), 1.0
        while size > 1e-4 and loss(theta - size * step) > now:
            size /= 2
        theta = theta - size * step
        before, now = now, loss(theta)
        if before - now < 1e-12:
            break
    return max(float(theta[0] / scale), 1e-3), float(theta[1])


def measures(truth: NDArray[np.bool_], probability: NDArray[np.float64], threshold: float) -> dict[str, float]:
    """Accuracy, AUC, F1, precision, recall and false-positive rate."""
    raised = probability >= threshold
    hit, false = int((raised & truth).sum()), int((raised & ~truth).sum())
    missed = int((~raised & truth).sum())
    return {
        "accuracy": float((raised == truth).mean()),
        "auc": auc(truth, probability),
        "f1": 2 * hit / max(1, 2 * hit + false + missed),
        "precision": hit / max(1, hit + false),
        "recall": hit / max(1, hit + missed),
        "fpr": false / max(1, int((~truth).sum())),
    }


def auc(truth: NDArray[np.bool_], value: NDArray[np.float64]) -> float:
    """Area under the ROC curve: how often a positive line has the larger value, ties counting half."""
    order = np.sort(value[~truth])
    below = np.searchsorted(order, value[truth], "left") + np.searchsorted(order, value[truth], "right")
    return float(below.mean() / 2 / max(1, len(order)))
