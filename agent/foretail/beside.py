"""The detectors of a stream beside its sequence model: how much each interval holds, and what labelled lines look like.

Both read what `Columns` holds and nothing else, so that a replay of the journal leads to the same state.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from foretail import tally
from foretail.cache import Cache
from foretail.characters import LineModel, record_text
from foretail.schema import Calibration, Tail
from foretail.surprise import Scores
from foretail.tally import Readings
from foretail.verdicts import Explanation, Incident, text
from foretail.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.columns import Columns
    from foretail.explain import Seen
    from foretail.patterns import Typed
    from foretail.verdicts import IntervalVerdict, Span

THRESHOLD = 10.0
"""Bits at which a line of a bundle without a sequence model is anomalous: only a unit."""
UNCALIBRATED = Calibration(0.0, "block", THRESHOLD, False, 1, 0.0, Tail((), (), 1.0))


class NoModel:
    """In the place of a sequence model where the bundle has none: nothing is surprising."""

    window = 1
    kernels: Literal["xnnpack", "reference"] = "xnnpack"

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary
        self.memo = Cache(2, 1)

    def surprise(self, windows: NDArray[np.int32], _targets: NDArray[np.int32]) -> NDArray[np.float32]:
        """float32 `[n]`, zeros."""
        return np.zeros(len(windows), np.float32)

    def distribution(self, _window: NDArray[np.int32]) -> NDArray[np.float32]:
        """float32 `[V]`: all alike."""
        return np.full(self.vocabulary, -math.log(self.vocabulary), np.float32)


class Beside:
    """Volume and line classifier of one stream, as far as the bundle has them.

    Args:
        bundle: verified.
        stream, machine: of every record.
        message: gives a line without its header.
    """

    def __init__(self, bundle: Bundle, *, stream: str, machine: str, message: Callable[[bytes], bytes]) -> None:
        manifest = bundle.manifest
        self._bundle, self._stream, self._machine, self._message = bundle, stream, machine, message
        self._line = LineModel(manifest.lines, bundle.files) if manifest.lines else None
        self._readings = tally.places(manifest.volume.readings if manifest.volume else (), bundle.patterns)
        self._templates = {pattern.type_id: pattern for pattern in bundle.patterns}
        self.forget()

    def forget(self) -> None:
        """Count anew, as after another bundle."""
        whole = self._bundle.manifest.volume is not None
        self._volume = Volume(self._bundle, stream=self._stream, machine=self._machine) if whole else None

    @property
    def counting(self) -> bool:
        """Intervals are open: time that passes without lines matters."""
        return self._volume is not None and self._volume.counting

    # -- what is journalled --------------------------------------------------------------------------------------

    def extracted(self, typed: Typed, lines: Sequence[bytes]) -> tuple[Readings, bytes]:
        """What the columns of a typed batch hold for these detectors: readings, and float32 log-odds of each line."""
        readings, logits = Readings(), b""
        if self._readings:
            readings = tally.readings_of(self._readings, typed)
        if self._line is not None:
            logits = self._line.logits([self._read(line) for line in lines]).astype(np.float32).tobytes()
        return readings, logits

    def _read(self, line: bytes) -> bytes:
        """What of a line the classifier reads: the message, or a record less what was dropped."""
        assert self._line is not None  # noqa: S101 - our own bug
        info = self._line.info
        if info.drop or info.field is not None:
            return record_text(line, info.drop, info.field)
        return self._message(line)

    # -- lines ---------------------------------------------------------------------------------------------------

    def joined(self, scores: Scores, columns: Columns, threshold: float) -> Scores:
        """The scores of lines with what the classifier says: at its threshold, x is the stream's threshold.

        Args:
            scores: of the other detectors.
            columns: of the same n lines.
            threshold: bits.
        """
        if self._line is None or not columns.logits:
            return scores
        logits = np.frombuffer(columns.logits, np.float32).astype(np.float64)
        limit = math.log(self._line.info.threshold / (1 - self._line.info.threshold))
        bits = np.maximum(threshold + (logits - limit) / math.log(2), 0.0)
        raised = self._line.anomalous(logits)
        bits = np.where(raised, np.maximum(bits, threshold), np.minimum(bits, math.nextafter(threshold, 0.0)))
        return Scores(np.maximum(scores.x, bits), {**scores.terms, "line": np.where(raised, bits, 0.0)})

    def p(self, columns_logits: bytes, row: int) -> float:
        """Share of normal lines with at least this log-odds."""
        assert self._line is not None  # noqa: S101 - our own bug
        return self._line.p(float(np.frombuffer(columns_logits, np.float32)[row]))

    def label(self) -> str:
        """The label that is raised."""
        return self._line.info.positive if self._line is not None else ""

    def finding(self, line: bytes, logits: bytes, row: int) -> tuple[float, Span | None]:
        """Probability of the raised label, and the span that speaks most for it."""
        assert self._line is not None  # noqa: S101 - our own bug
        logit = float(np.frombuffer(logits, np.float32)[row])
        probability = 1 / (1 + math.exp(-max(-700.0, min(700.0, logit))))
        return float(f"{probability:.6g}"), self._line.explain(self._read(line))

    # -- intervals -----------------------------------------------------------------------------------------------

    def count(self, columns: Columns, seen: Seen) -> list[tuple[int, IntervalVerdict]]:
        """The anomalous intervals that a batch closes, each with the row of the line that closed it, in order.

        Args:
            columns: of the batch.
            seen: the same lines, judged.
        """
        if self._volume is None:
            return []
        times = seen.times
        origin, lines = tally.of_columns(columns, seen.ids, times, seen.errors)
        found = self._volume.add(origin, lines) + self._volume.advance(float(times[-1]))
        if not found:
            return []
        step = self._volume.info.series.interval_s
        bins = np.floor(times / step)
        ends = np.array([round((verdict.time or 0.0) / step) + 1 for verdict in found])
        rows = np.searchsorted(bins, ends, "left").tolist()
        placed = zip(rows, found, strict=True)
        return sorted(placed, key=lambda pair: (pair[0], pair[1].time or 0.0, pair[1].source))

    def advance(self, now: float) -> list[tuple[int, IntervalVerdict]]:
        """The intervals that event time `now` closes, in order."""
        return [(0, verdict) for verdict in self._volume.advance(now)] if self._volume is not None else []

    def incident(self, verdict: IntervalVerdict, *, suppressed: int, observed: bool) -> Incident:
        """The incident that an interval opens; arguments as of `Explainer.incident`."""
        why = verdict.explanation
        pattern = self._templates.get(verdict.type_id or "")
        said, cut = text((why.summary if why else "").encode("utf-8", "surrogateescape"))
        return Incident(
            id=verdict.id,
            state="open",
            fingerprint=verdict.fingerprint,
            verdict=verdict.id,
            stream=verdict.stream,
            bundle=verdict.bundle,
            time=verdict.time,
            key=None,
            source=verdict.source,
            offset=0,
            type=pattern.type if pattern else "-",
            type_id=verdict.type_id,
            template=pattern.template if pattern else None,
            anomalous=True,
            score=verdict.score,
            p=verdict.p,
            reasons=verdict.reasons,
            summary=f"{verdict.lines} lines in {verdict.interval_s:g} s: {said}",
            last_time=verdict.time,
            suppressed=suppressed,
            observed=observed,
            explanation=Explanation(moved=why.moved, detectors=why.detectors) if why else None,
            cut=("summary",) if cut else (),
        )

    # -- state ---------------------------------------------------------------------------------------------------

    def snapshot(self) -> Any:
        """Plain values; None without a volume detector."""
        return self._volume.snapshot() if self._volume is not None else None

    def restore(self, state: Any) -> None:
        """Take what `snapshot` gave under the same bundle."""
        if self._volume is not None and state is not None:
            self._volume.restore(state)
