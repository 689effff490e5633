"""What came, how surprising it was, what was expected instead: a judged batch as records (DESIGN §6)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from foretail import verdicts
from foretail.schema import END, FIRST, PAD, UNKNOWN
from foretail.verdicts import Expected, Explanation, Incident, LineVerdict, SessionVerdict, text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from foretail.beside import Beside, NoModel
    from foretail.bundle import Bundle
    from foretail.model import SequenceModel
    from foretail.surprise import Scores, Surprise
    from foretail.units import Units

EXPECTED = 5
"""Types that are named as what could have come instead."""
SUMMARY_CHARS = 160
_SPECIAL = {PAD: "(start)", END: "(end)", UNKNOWN: "(unknown)"}


@dataclass(frozen=True, slots=True)
class Seen:
    """A judged batch of n lines, in arrival order.

    Attributes:
        source, path: of all lines; `offsets` int64 `[n]`.
        lines: the lines, or None on a replay.
        ids: int32 `[n]` model ids; `times` float64 `[n]`; `errors` bool `[n]`.
        keys: `[n]` session keys, b"" = none.
        place: int64 `[n]`: row of the line in `windows`, -1 = no session.
        windows: int32 `[m, C]`: what came before.
        bits: float64 `[n]`: surprise of what came.
        scores: x and terms of all lines; `flagged` bool `[n]`: anomalous.
        logits: float32 `[n]` bytes of the classifier of lines; empty without one.
    """

    source: str
    path: str
    offsets: NDArray[np.int64]
    lines: Sequence[bytes] | None
    ids: NDArray[np.int32]
    times: NDArray[np.float64]
    errors: NDArray[np.bool_]
    keys: Sequence[bytes]
    place: NDArray[np.int64]
    windows: NDArray[np.int32]
    bits: NDArray[np.float64]
    scores: Scores
    flagged: NDArray[np.bool_]
    logits: bytes = b""


class Explainer:
    """Makes the records of one stream.

    Args:
        bundle: for names of types.
        model: for what was expected.
        surprise: for scores, p-values and nearest sessions.
        message: gives a line without its header.
        stream, machine: of every record.
        keyed: False: the key is the source itself and is not shown.
        endless: units are blocks.
        beside: what the classifier of lines says.
    """

    def __init__(  # noqa: PLR0913 - all that records are made of
        self,
        bundle: Bundle,
        model: SequenceModel | NoModel,
        surprise: Surprise,
        *,
        message: Callable[[bytes], bytes],
        stream: str,
        machine: str,
        keyed: bool,
        endless: bool,
        beside: Beside,
    ) -> None:
        self._beside = beside
        self._patterns, self._label = bundle.patterns, bundle.label
        self._model, self._surprise = model, surprise
        self._message, self._stream, self._machine = message, stream, machine
        self._keyed, self._endless = keyed, endless

    def template(self, model_id: int) -> str | None:
        """The template of a type; None for what is no type."""
        return self._patterns[model_id - FIRST].template if model_id >= FIRST else None

    def type_id(self, model_id: int) -> str | None:
        """The permanent id of a type; None for what is no type."""
        return self._patterns[model_id - FIRST].type_id if model_id >= FIRST else None

    def line(self, seen: Seen, row: int) -> LineVerdict:
        """The verdict of one line, explained when it is anomalous."""
        model_id, anomalous = int(seen.ids[row]), bool(seen.flagged[row])
        x, cut = float(seen.scores.x[row]), []
        key, key_cut = text(seen.keys[row]) if self._keyed and seen.keys[row] else (None, False)
        if key_cut:
            cut.append("key")
        explanation = None
        if anomalous:
            explanation, line_cut = self._line_explanation(seen, row)
            cut += ["line"] * line_cut
        return LineVerdict(
            id=verdicts.line_id(self._machine, seen.source, int(seen.offsets[row])),
            stream=self._stream,
            bundle=self._label,
            source=seen.path,
            offset=int(seen.offsets[row]),
            time=_time(seen.times[row]),
            key=key,
            type=self._patterns[model_id - FIRST].type if model_id >= FIRST else "0",
            type_id=self.type_id(model_id),
            template=self.template(model_id),
            anomalous=anomalous,
            score=_short(self._surprise.score(x)),
            p=_short(self._beside.p(seen.logits, row) if self._labelled(seen, row) else self._surprise.p(x)),
            reasons=tuple(seen.scores.reasons(row)) if anomalous else (),
            explanation=explanation,
            cut=tuple(cut),
        )

    def unit(self, units: Units, row: int, scores: Scores, source: str, path: str) -> SessionVerdict:
        """The verdict of a session that ended, or of a block, explained when it is anomalous."""
        x = float(scores.x[row])
        anomalous = x >= self._surprise.threshold
        session, cut = text(units.keys[row]) if self._keyed else text(path.encode("utf-8", "surrogateescape"))
        return SessionVerdict(
            id=verdicts.unit_id(self._machine, source, units.keys[row], int(units.first_offset[row])),
            stream=self._stream,
            bundle=self._label,
            session=session,
            source=path,
            offset=int(units.first_offset[row]),
            time=_time(units.last_time[row]),
            anomalous=anomalous,
            score=_short(self._surprise.score(x)),
            p=_short(self._surprise.p(x)),
            reasons=tuple(scores.reasons(row)) if anomalous else (),
            events=int(units.n[row]),
            block=self._endless,
            whole=bool(units.whole[row]),
            open=bool(units.open[row]),
            explanation=self._unit_explanation(units, row, scores) if anomalous else None,
            cut=("session",) if cut else (),
        )

    def incident(
        self, verdict: LineVerdict | SessionVerdict, fingerprint: str, model_id: int, *, suppressed: int, observed: bool
    ) -> Incident:
        """The incident that a verdict opens.

        Args:
            verdict: anomalous.
            fingerprint: of its cause.
            model_id: what came (a session: what came last).
            suppressed: incidents that the cap held back before.
            observed: nobody is alerted.
        """
        return Incident(
            id=verdict.id,
            state="open",
            fingerprint=fingerprint,
            verdict=verdict.id,
            stream=verdict.stream,
            bundle=verdict.bundle,
            time=verdict.time,
            key=verdict.session if isinstance(verdict, SessionVerdict) else verdict.key,
            source=verdict.source,
            offset=verdict.offset,
            type=self._patterns[model_id - FIRST].type if model_id >= FIRST else "0",
            type_id=self.type_id(model_id),
            template=self.template(model_id),
            anomalous=True,
            score=verdict.score,
            p=verdict.p,
            reasons=verdict.reasons,
            summary=summary(verdict, self.template(model_id) or self._said(verdict)),
            last_time=verdict.time,
            suppressed=suppressed,
            observed=observed,
            explanation=verdict.explanation,
            cut=verdict.cut,
        )

    def _said(self, verdict: LineVerdict | SessionVerdict) -> str | None:
        """The message of a line of unknown type, without its header."""
        line = verdict.explanation.line if verdict.explanation else None
        return text(self._message(line.encode("utf-8", "replace")))[0] if line else None

    def _line_explanation(self, seen: Seen, row: int) -> tuple[Explanation, bool]:
        line, cut = text(seen.lines[row]) if seen.lines is not None else (None, False)
        place = int(seen.place[row])
        detectors = {name: _short(float(bits[row])) for name, bits in seen.scores.terms.items() if bits[row] > 0}
        probability = span = label = None
        if self._labelled(seen, row) and seen.lines is not None:
            probability, span = self._beside.finding(seen.lines[row], seen.logits, row)
            label = self._beside.label()
        if place < 0:
            return Explanation(line=line, detectors=detectors, label=label, probability=probability, span=span), cut
        window, model_id = seen.windows[place], int(seen.ids[row])
        logp = self._model.distribution(window)
        known = model_id != UNKNOWN
        return (
            Explanation(
                line=line,
                bits=_short(float(seen.bits[row])) if known else None,
                rank=int((logp > logp[model_id]).sum()) + 1 if known else None,
                expected=self._expected(logp),
                context=tuple(self._name(int(i)) for i in window if i != PAD),
                detectors=detectors,
                label=label,
                probability=probability,
                span=span,
            ),
            cut,
        )

    def _labelled(self, seen: Seen, row: int) -> bool:
        """The classifier of lines speaks loudest."""
        line = seen.scores.terms.get("line")
        return line is not None and 0 < float(line[row]) >= float(seen.scores.x[row])

    def _unit_explanation(self, units: Units, row: int, scores: Scores) -> Explanation:
        detectors = {name: _short(float(bits[row])) for name, bits in scores.terms.items() if bits[row] > 0}
        missing: dict[str, int] = {}
        extra: dict[str, int] = {}
        if "counts" in detectors:
            counts = units.rows(np.array([row])).counts(self._model.vocabulary)[0]
            less, more = self._surprise.difference(counts)
            missing = {self._name(i): n for i, n in less.items()}
            extra = {self._name(i): n for i, n in more.items()}
        window = units.recent[row]
        expected = () if self._endless else self._expected(self._model.distribution(window))
        return Explanation(
            expected=expected,
            context=tuple(self._name(int(i)) for i in window if i != PAD),
            detectors=detectors,
            missing=missing,
            extra=extra,
            events=int(units.n[row]),
        )

    def _expected(self, logp: NDArray[np.float32]) -> tuple[Expected, ...]:
        top = np.argsort(-logp, kind="stable")
        return tuple(
            Expected(self._patterns[i - FIRST].type if i >= FIRST else "end", self._name(i), _short(math.exp(logp[i])))
            for i in top[: EXPECTED + 2].tolist()
            if i not in {PAD, UNKNOWN} and logp[i] > math.log(0.001)
        )[:EXPECTED]

    def _name(self, model_id: int) -> str:
        """The template of a type, which is empty where the message was, or the word for what is no type."""
        name = self.template(model_id)
        return _SPECIAL[model_id] if name is None else name


_HELD = {
    "sequence": "it took a step that normal ones do not take",
    "novelty": "it holds a message seen at most twice before",
    "counts": "by its numbers of messages",
    "length": "by its number of events",
}
"""What is said of a session by its first reason where no single message is to blame."""


def summary(verdict: LineVerdict | SessionVerdict, said: str | None) -> str:
    """One line for people: what came and what was expected.

    Args:
        verdict: anomalous.
        said: the template of what came, or the message itself where no pattern matched.
    """
    why = verdict.explanation or Explanation()
    likely = next((e for e in why.expected), None)
    instead = f"; expected {_quote(likely.template)} ({likely.p:.0%})" if likely else ""
    if isinstance(verdict, SessionVerdict):
        where = f"block in {verdict.session}" if verdict.block else f"session {verdict.session}"
        if "end" in verdict.reasons[:1]:
            return f"{where} ended after {_quote(said)}{instead}"
        odd = [f"{n} more {_quote(name)}" for name, n in why.extra.items()]
        if sum(why.extra.values()) < verdict.events:  # else the nearest normal one has nothing in common with it
            odd += [f"{n} fewer {_quote(name)}" for name, n in why.missing.items()]
        detail = ", ".join(odd[:3]) or _HELD[verdict.reasons[0]]
        return f"{where} of {verdict.events} events is unlike any normal one: {detail}"
    where = f" in session {verdict.key}" if verdict.key else ""
    if "line" in verdict.reasons[:1]:
        return f"like lines labelled {_quote(why.label)}{where}: {_quote(why.line or said)}"
    if verdict.template is None:
        return f"a message never seen{where}: {_quote(said)}" if said else f"a message never seen{where}"
    if "novelty" in verdict.reasons[:1]:
        return f"a message seen at most twice before{where}: {_quote(said)}"
    return f"unexpected {_quote(said)}{where}{instead}"


def _quote(words: str | None) -> str:
    plain = words or ""
    return f'"{plain if len(plain) <= SUMMARY_CHARS else plain[: SUMMARY_CHARS - 1] + "…"}"'


def _short(value: float) -> float:
    """Six significant digits: enough, and the same on every host."""
    return float(f"{value:.6g}")


def _time(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None
