"""Lines read byte by byte -> probability that each is of the kind that is raised (issue 8: labelled lines).

A line of b bytes takes ceil(b / chunk) steps of one small graph, the first chunk filled up on its left; the state goes
from chunk to chunk, and lines whose chunks are done take no part in further steps: what is not there costs nothing.
A recurrent cell hands on its state; a convolution has none, its features are joined by their maximum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from foretail import arrays, delimited
from foretail.errors import ConfigError
from foretail.graph import Pair
from foretail.surprise import exceedance
from foretail.verdicts import Span, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.delimited import Dialect
    from foretail.schema import LinesInfo

MEMO_BYTES_MAX = 8 << 20
"""Of remembered lines; the older half is forgotten when it is full."""
SPANS_MAX = 63
PASS = 4096
"""Lines judged at once."""


class LineFinding(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a labelled line is raised: what was read, its probability, and the span that speaks most."""

    line: str
    probability: float
    label: str
    span: Span | None = None


class LabelVerdict(msgspec.Struct, frozen=True, tag_field="kind", tag="line", omit_defaults=True):
    """The verdict of one row of a CSV of lines; `row` counts from 1."""

    row: int
    anomalous: bool
    score: float
    p: float
    probability: float
    label: str
    reasons: tuple[str, ...]
    bundle: str = ""
    explanation: LineFinding | None = None
    cut: tuple[str, ...] = ()


def ids_of(lines: Sequence[bytes], chunk: int, chunks: int) -> NDArray[np.int32]:
    """Bytes as ids 1..256, filled up on the left with 0: int32 `[n, chunks * chunk]`.

    Args:
        lines: at most `chunks * chunk` bytes each.
        chunk: bytes of a step.
        chunks: steps.
    """
    width = chunk * chunks
    joined = np.frombuffer(b"".join(line.rjust(width, b"\0") for line in lines), np.uint8).reshape(len(lines), width)
    ids = joined.astype(np.int32) + 1
    lengths = np.array([len(line) for line in lines])
    ids[np.arange(width) < width - lengths[:, None]] = 0
    return ids


def chunks_of(length: int, chunk: int) -> int:
    """Steps that a line of `length` bytes takes."""
    return max(1, -(-length // chunk))


def record_text(line: bytes, drop: Sequence[str], field: str | None = None) -> bytes:
    """What is read of a JSON record: all of it but the dropped fields, or one field; other lines as they are.

    Args:
        line: bytes.
        drop: names of fields left out wherever they stand, or dotted paths.
        field: the one field that is read, dotted.
    """
    if not drop and field is None:
        return line
    try:
        record = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line
    if not isinstance(record, dict):
        return line
    if field is not None:
        value: Any = record
        for name in field.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value.encode() if isinstance(value, str) else (b"" if value is None else msgspec.json.encode(value))
    return msgspec.json.encode(_without(record, frozenset(drop), ""))


def _without(value: Any, drop: frozenset[str], path: str) -> Any:
    if isinstance(value, dict):
        kept = {}
        for name, inner in value.items():
            place = f"{path}.{name}" if path else name
            if name not in drop and place not in drop:
                kept[name] = _without(inner, drop, place)
        return kept
    return [_without(inner, drop, path) for inner in value] if isinstance(value, list) else value


class LineModel:
    """A classifier of lines.

    Args:
        info: of the bundle.
        files: of the bundle.

    Attributes:
        hits, misses: of the memo.

    Raises:
        ConfigError: a file is missing or does not fit the manifest.
    """

    def __init__(self, info: LinesInfo, files: Mapping[str, bytes]) -> None:
        self.info = info
        b1, b64 = (arrays.file(files, f"line.b{batch}.tflite") for batch in (1, 64))
        head = arrays.read(files, "line.head.npy")
        self._conv = info.cell == "conv"
        seen = ((info.chunk + info.halo,), "int32")
        inputs = [seen] if self._conv else [seen, ((info.state,), "float32")]
        self._pair = Pair(b1, b64, inputs, [((info.state,), "float32")], "line")
        if head.ndim != 1 or not 1 < len(head) <= info.state + 1 or not np.isfinite(head).all():
            raise ConfigError("line.head.npy does not fit the line model; make the bundle again")
        self._head = head.astype(np.float32)
        self._memo: dict[bytes, float] = {}
        self._older: dict[bytes, float] = {}
        self._memo_bytes = 0
        self.hits = self.misses = 0

    @property
    def accelerated(self) -> bool:
        """Whether XNNPACK took the model."""
        return self._pair.accelerated

    def logits(self, lines: Sequence[bytes]) -> NDArray[np.float64]:
        """The calibrated log-odds of `positive`: float64 `[n]`, rounded to 1/256; remembered."""
        cut = [line[: self.info.bytes_max] for line in lines]
        wanted = list(dict.fromkeys(line for line in cut if line not in self._memo))
        fresh = []
        for line in wanted:
            if line in self._older:
                self._remember(line, self._older[line])
            else:
                fresh.append(line)
        self.misses += len(fresh)
        self.hits += len(lines) - len(fresh)
        known: dict[bytes, float] = {}
        for start in range(0, len(fresh), PASS):
            part = fresh[start : start + PASS]
            known.update(zip(part, self._raw(part).tolist(), strict=True))
        found = np.array([known[line] if line in known else self._known(line) for line in cut])
        for line, value in known.items():
            self._remember(line, value)
        return found

    def _known(self, line: bytes) -> float:
        return self._memo[line] if line in self._memo else self._older[line]

    def probabilities(self, lines: Sequence[bytes]) -> NDArray[np.float64]:
        """float64 `[n]`."""
        return np.asarray(1 / (1 + np.exp(-self.logits(lines))))

    def _remember(self, line: bytes, value: float) -> None:
        self._memo[line] = value
        self._memo_bytes += len(line) + 100
        if self._memo_bytes > MEMO_BYTES_MAX // 2:
            self._older, self._memo, self._memo_bytes = self._memo, {}, 0

    def _raw(self, lines: Sequence[bytes]) -> NDArray[np.float64]:
        """Log-odds without the memo; lines of like length go together."""
        info = self.info
        steps = np.array([chunks_of(len(line), info.chunk) for line in lines])
        order = np.argsort(steps, kind="stable")
        result = np.empty(len(lines))
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            state = self._run([lines[row] for row in rows], steps[rows])
            used = len(self._head) - 1
            result[rows] = state[:, :used].astype(np.float64) @ self._head[:-1] + self._head[-1]
        return np.rint((info.slope * result + info.offset) * 256) / 256 + 0.0

    def _run(self, lines: Sequence[bytes], steps: NDArray[np.int64]) -> NDArray[np.float32]:
        """The last state of at most 64 lines, float32 `[n, state]`; the shortest come first."""
        info, most = self.info, int(steps.max())
        ids = ids_of(lines, info.chunk, most)
        if info.halo:
            ids = np.concatenate([np.zeros((len(ids), info.halo), np.int32), ids], axis=1)
        state = np.full((len(lines), info.state), -np.inf if self._conv else 0.0, np.float32)
        for step in range(most):
            active = slice(int(np.searchsorted(steps, most - step)), None)  # lines end together, at the last chunk
            part = ids[active, step * info.chunk : (step + 1) * info.chunk + info.halo]
            if self._conv:
                state[active] = np.maximum(state[active], self._pair(part)[0])
            else:
                state[active] = self._pair(part, state[active])[0]
        return state

    def anomalous(self, logits: NDArray[np.float64]) -> NDArray[np.bool_]:
        """True where the probability reaches the threshold."""
        return np.asarray(1 / (1 + np.exp(-logits)) >= self.info.threshold)

    def score(self, logit: float) -> float:
        """At least .5 exactly when the line is anomalous; the odds against those of the threshold."""
        limit = math.log(self.info.threshold / (1 - self.info.threshold))
        value = 1 / (1 + math.exp(-max(-700.0, min(700.0, logit - limit))))
        raised = 1 / (1 + math.exp(-max(-700.0, min(700.0, logit)))) >= self.info.threshold
        return max(0.5, value) if raised else min(value, 0.499999)

    def p(self, logit: float) -> float:
        """Share of `negative` lines with at least this log-odds."""
        return float(exceedance(self.info.tail, np.array([logit]))[0])

    def explain(self, line: bytes) -> Span | None:
        """The shortest span of a line whose removal lowers its log-odds nearly most; None if none lowers it."""
        line = line[: self.info.bytes_max]
        spans = _spans(len(line))
        if not spans:
            return None
        values = self._raw([line, *(line[:a] + line[b:] for a, b in spans)])
        drops = values[0] - values[1:]
        best = float(drops.max())
        if best <= 0:
            return None
        at = min((b - a, at) for at, (a, b) in enumerate(spans) if drops[at] >= 0.8 * best)[1]
        a, b = spans[at]
        return Span(text(line[a:b])[0], a, b, short(1 / (1 + math.exp(-max(-700.0, float(values[1 + at]))))))

    def finding(self, line: bytes, logit: float) -> tuple[LineFinding, bool]:
        """The explanation of a line that is raised, and whether its text was cut."""
        shown, cut = text(line)
        probability = short(1 / (1 + math.exp(-max(-700.0, logit))))
        return LineFinding(shown, probability, self.info.positive, self.explain(line)), cut


def _spans(length: int) -> list[tuple[int, int]]:
    """Spans of halving widths, each overlapping the next by half; few of them for any length."""
    spans: list[tuple[int, int]] = []
    width = length // 2
    while width >= 3 and len(spans) < SPANS_MAX:
        starts = range(0, length - width + 1, max(1, width // 2))
        if len(spans) + len(starts) > SPANS_MAX:
            break
        spans += [(start, start + width) for start in starts]
        width //= 2
    return spans


def short(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")


def score_lines(bundle: Bundle, path: str, column: str, dialect: Dialect = delimited.COMMON) -> Iterator[LabelVerdict]:
    """`foretail score --lines CSV --text COLUMN`: one verdict per row, in order.

    Raises:
        ConfigError: the bundle has no line classifier, or the file cannot be read.
    """
    info = bundle.manifest.lines
    if info is None:
        raise ConfigError(f"bundle {bundle.path} has no line classifier; make one with `foretail-train fit --lines`")
    model = LineModel(info, bundle.files)
    sheet = delimited.read(path, dialect)
    place = sheet.place(column)
    for start in range(0, len(sheet.rows), PASS):
        lines = [readable(row[place], info) for row in sheet.rows[start : start + PASS]]
        yield from verdicts_of(model, lines, start, bundle.label)


def readable(cell: str, info: LinesInfo) -> bytes:
    """A cell as the model reads it."""
    return record_text(cell.encode("utf-8", "surrogateescape"), info.drop, info.field)


def verdicts_of(model: LineModel, lines: Sequence[bytes], first: int, label: str) -> list[LabelVerdict]:
    """Verdicts of n lines, `first` rows after the beginning."""
    logits = model.logits(lines)
    raised = model.anomalous(logits)
    out = []
    for number, (line, logit, odd) in enumerate(zip(lines, logits.tolist(), raised.tolist(), strict=True), first + 1):
        why, cut = model.finding(line, logit) if odd else (None, False)
        out.append(
            LabelVerdict(
                row=number,
                anomalous=odd,
                score=min(short(model.score(logit)), 1.0 if odd else 0.499999),
                p=short(model.p(logit)),
                probability=short(1 / (1 + math.exp(-max(-700.0, logit)))),
                label=model.info.positive if odd else model.info.negative,
                reasons=("line",) if odd else (),
                bundle=label,
                explanation=why,
                cut=("line",) if cut else (),
            )
        )
    return out
