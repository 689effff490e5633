"""What leaves the agent: verdicts, incidents and notices as JSON objects of one line (schema: docs/schema).

A verdict is a pure function of bundle and history, and so is its id: a line that is read twice gives the same record
twice, and a receiver can drop the second (DESIGN §2).
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

TEXT_CHARS_MAX = 2048
"""Characters of a line, key or path in a record; `cut` names what was longer."""


class Expected(msgspec.Struct, frozen=True):
    """A type that could have come next, with its probability."""

    type: str
    template: str | None
    p: float


class Moved(msgspec.Struct, frozen=True, omit_defaults=True):
    """A feature that is not where it should be.

    Attributes:
        feature: its name: a column, a template, a total.
        seen: its value; `expected`: what was expected; `low`, `high`: where a normal value lies.
        share: of the distance, 0 to 1.
        mostly: of the pooled types, the template that more than half of the lines have.
    """

    feature: str
    seen: float | None
    expected: float
    low: float
    high: float
    share: float
    mostly: str = ""


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a row or interval is what it is: `moved` features, strongest first, and bits of each view."""

    moved: tuple[Moved, ...] = ()
    detectors: dict[str, float] = {}
    summary: str = ""


class Span(msgspec.Struct, frozen=True):
    """The part of a line that speaks most: without it the probability would be `without`."""

    text: str
    start: int
    end: int
    without: float


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a verdict is what it is.

    Attributes:
        line: what came, as text.
        bits: surprise of what came, bits; `rank` among all types, 1 = most expected.
        expected: the likeliest types instead.
        context: templates of the events before, oldest first.
        detectors: bits of each detector that spoke.
        missing, extra: template to count, against the nearest normal session.
        events: of the session or block.
        moved: features of an interval that are not where they should be, strongest first.
        label: that the classifier of lines raises, with its `probability`; `span`: what speaks most for it.
    """

    line: str | None = None
    bits: float | None = None
    rank: int | None = None
    expected: tuple[Expected, ...] = ()
    context: tuple[str, ...] = ()
    detectors: dict[str, float] = {}
    missing: dict[str, int] = {}
    extra: dict[str, int] = {}
    events: int | None = None
    moved: tuple[Moved, ...] = ()
    label: str | None = None
    probability: float | None = None
    span: Span | None = None


class LineVerdict(msgspec.Struct, frozen=True, tag_field="kind", tag="line", omit_defaults=True):
    """The verdict of one line."""

    id: str
    stream: str
    bundle: str
    source: str
    offset: int
    time: float | None
    key: str | None
    type: str
    type_id: str | None
    template: str | None
    anomalous: bool
    score: float
    p: float
    reasons: tuple[str, ...]
    explanation: Explanation | None = None
    cut: tuple[str, ...] = ()


class SessionVerdict(msgspec.Struct, frozen=True, tag_field="kind", tag="session", omit_defaults=True):
    """The verdict of a session that ended, or of a block of an endless one (`block` true)."""

    id: str
    stream: str
    bundle: str
    session: str
    source: str
    offset: int
    time: float | None
    anomalous: bool
    score: float
    p: float
    reasons: tuple[str, ...]
    events: int
    block: bool = False
    whole: bool = True
    open: bool = False
    explanation: Explanation | None = None
    cut: tuple[str, ...] = ()


class IntervalVerdict(msgspec.Struct, frozen=True, tag_field="kind", tag="interval", omit_defaults=True):
    """The verdict of one interval of a stream: `[time, time + interval_s)`.

    Attributes:
        source: the log, over its rotations.
        lines: that it holds.
        fresh: the first of an incident.
        fingerprint: what moved and where to, without host or time.
        type_id: of the type that moved most, if it was one.
    """

    id: str
    stream: str
    bundle: str
    source: str
    time: float | None
    interval_s: float
    lines: int
    anomalous: bool
    score: float
    p: float
    reasons: tuple[str, ...]
    fresh: bool = False
    fingerprint: str = ""
    type_id: str | None = None
    explanation: Change | None = None


class Incident(msgspec.Struct, frozen=True, tag_field="kind", tag="incident", omit_defaults=True):
    """Verdicts of one cause. It is sent when it opens and, when more verdicts joined, once more as it closes.

    Attributes:
        state: `open` or `closed`.
        fingerprint: the same for the same cause on every host.
        verdict: id of the verdict that opened it.
        summary: one line for people.
        count: verdicts so far; `sessions`: keys so far; `suppressed`: incidents the rate cap held back since the last.
        observed: found in observe mode: nobody was alerted.
    """

    id: str
    state: str
    fingerprint: str
    verdict: str
    stream: str
    bundle: str
    time: float | None
    key: str | None
    source: str
    offset: int
    type: str
    type_id: str | None
    template: str | None
    anomalous: bool
    score: float
    p: float
    reasons: tuple[str, ...]
    summary: str
    count: int = 1
    sessions: int = 1
    last_time: float | None = None
    suppressed: int = 0
    observed: bool = False
    explanation: Explanation | None = None
    cut: tuple[str, ...] = ()


class Notice(msgspec.Struct, frozen=True, tag_field="kind", tag="notice", omit_defaults=True):
    """Something an operator should know that is no anomaly: drift, suppression."""

    id: str
    stream: str
    bundle: str
    time: float | None
    notice: str
    summary: str
    count: int = 0


Record = LineVerdict | SessionVerdict | IntervalVerdict | Incident | Notice
_encoder = msgspec.json.Encoder()


def encode(record: Record | dict[str, Any]) -> bytes:
    """One JSON object, valid UTF-8, no newline."""
    return _encoder.encode(record)


def line_id(machine: str, source: str, offset: int) -> str:
    """Id of a line's verdict: 24 hex digits."""
    return _hash(machine, source, str(offset))


def unit_id(machine: str, source: str, key: bytes, offset: int) -> str:
    """Id of the end of the session (or block) of `key` whose first event starts at `offset`."""
    return _hash(machine, source, key, str(offset), "end")


def fingerprint(reason: str, type_id: str | None, last: tuple[str, ...]) -> str:
    """The cause, without host, key or time: of the first reason, the type, and the three types before it."""
    return _hash(reason, type_id or "0", *last)


def text(raw: bytes) -> tuple[str, bool]:
    """Bytes as text of at most TEXT_CHARS_MAX characters, and whether it was cut."""
    whole = raw[: TEXT_CHARS_MAX * 4 + 4].decode("utf-8", "replace")
    return whole[:TEXT_CHARS_MAX], len(whole) > TEXT_CHARS_MAX or len(raw) > TEXT_CHARS_MAX * 4 + 4


def _hash(*parts: str | bytes) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        raw = part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
        digest.update(len(raw).to_bytes(4, "big") + raw)
    return digest.hexdigest()
