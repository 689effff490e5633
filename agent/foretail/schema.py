"""What crosses a boundary: the records of a bundle, frozen and checked by msgspec.

Extended, never changed: a new field gets a default, so that an older bundle still reads (DESIGN: formats).
JSON Schemas and examples stand in `docs/schema/`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

SCHEMA = 1
PAD, END, UNKNOWN, FIRST = 0, 1, 2, 3
"""Model ids: before the session began, session end, no pattern matched; types start at FIRST."""


class Format(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a record holds its message: a text header, or a wrapper that is decoded first.

    Attributes:
        kind: `text` (header is a regex before, after or around the message), `json`, `cri`, `docker` or `logfmt`.
        name: the detected or given format for people, such as `rfc3164` or the `--format` text.
        header: regex over bytes with named groups; `content` is the message; empty: the whole line is the message.
        time: strptime-like rule or a name that `foretail.formats` knows (`iso8601`, `rfc3164`, `epoch`, ...).
        message: the field of the message in JSON and logfmt records.
        fields: header groups or record fields that can serve as key.
        level: the header group or record field of the severity, if any.
        zone: offset of year-less or zone-less stamps from UTC, in seconds.
        inner: the format inside a CRI or Docker record.
    """

    kind: Literal["text", "json", "cri", "docker", "logfmt"] = "text"
    name: str = "line"
    header: str = ""
    time: str | None = None
    message: str | None = None
    fields: tuple[str, ...] = ()
    level: str | None = None
    zone: int = 0
    inner: Format | None = None


class KeyRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What joins lines to one session.

    Attributes:
        kind: `none`; `search` (first match of `regex` in the message); `field` (a header group or record field).
        regex: over bytes, for `search`; its first group, or else the whole match, is the key.
        field: for `field`.
        endless: keys such as host, program or pid never end.
    """

    kind: Literal["none", "search", "field"] = "none"
    regex: str | None = None
    field: str | None = None
    endless: bool = False


class Pattern(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    r"""One message type.

    Attributes:
        cluster, number: the type's display name is `cluster.number`.
        type_id: 16 hex digits, permanent over refits.
        template: the message with `<*>` for each variable part.
        regex: ASCII text of a regex over the bytes of the message (other bytes written `\xNN`), matched in full.
        rank: place in the order of trial, 0 first (most specific).
        support: training lines of this type.
        rare: support below 3: its arrival is a novelty.
        end: it ended at least 99 % of the training sessions that hold it.
        error: its training lines were error-level (header) or say so.
        name: given by a person.
    """

    cluster: int
    number: int
    type_id: str
    template: str
    regex: str
    rank: int
    support: int = 0
    rare: bool = False
    end: bool = False
    error: bool = False
    name: str | None = None

    @property
    def type(self) -> str:
        """`cluster.number`, for display."""
        return f"{self.cluster}.{self.number}"


class Patterns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`patterns.json`: all types of a bundle, by rank."""

    schema: int
    patterns: tuple[Pattern, ...]


class Tail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The upper tail of a calibration score: turns x into a p-value.

    Attributes:
        levels: rising scores in bits.
        p: P(score >= level) for each level, falling, as counted.
        scale: mean excess in bits of the exponential beyond the last level.
    """

    levels: tuple[float, ...]
    p: tuple[float, ...]
    scale: float


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The threshold of a calibrated unit (DESIGN §6).

    Attributes:
        alpha: wanted rate of false alerts per unit.
        unit: `session`, `block` (100 lines), `row` or `interval`.
        threshold: bits; x >= threshold is anomalous.
        extrapolated: the log is too short to certify alpha; the threshold lies on the fitted tail.
        units: calibration units (n).
        units_per_day: of the training data, for one host; 0 = unknown.
        tail: for p-values.
        terms: per detector name, its own tail, by which terms are made comparable.
        weights: further numbers the combination needs, by name.
        drift: largest alerts ratio between time blocks.
    """

    alpha: float
    unit: Literal["session", "block", "row", "interval"]
    threshold: float
    extrapolated: bool
    units: int
    units_per_day: float
    tail: Tail
    terms: dict[str, Tail] = {}
    weights: dict[str, float] = {}
    drift: float = 1.0


class SequenceInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The next-event model: `window` int32 `[B, C]` to `logits` float32 `[B, V]`.

    Attributes:
        window: C.
        vocabulary: V = FIRST + number of types.
        cell, layers, units: of the network, for people.
        types: type_id of each model id from FIRST on; V - FIRST of them.
    """

    window: int
    vocabulary: int
    cell: str
    layers: int
    units: int
    types: tuple[str, ...]


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a bundle."""

    bytes: int
    sha256: str


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the bundle was made from; no text of it.

    Attributes:
        digest: sha256 over the training lines.
        lines, sessions: counts.
        first, last: event times, epoch seconds; 0 = unknown.
        hosts: hosts the log came from.
        untyped_share, unseen_rate: share of type-0 lines; Good-Turing rate of unseen types per line.
    """

    digest: str
    lines: int
    sessions: int
    first: float = 0.0
    last: float = 0.0
    hosts: int = 1
    untyped_share: float = 0.0
    unseen_rate: float = 0.0


class Manifest(msgspec.Struct, frozen=True):
    """`manifest.json`. Unknown fields are ignored: a minor extension of a later trainer.

    Attributes:
        schema: refused when newer than SCHEMA.
        name, version: of the bundle; version increases.
        created: RFC 3339.
        trainer, agent_min: versions.
        files: every other file of the bundle.
        idle_s: a session ends when event time passes its last event by this.
        mix: share of each type (by model id) in training, for the drift notice.
        sha256: of all bytes of the file before this value: a damaged manifest is known as such.
    """

    schema: int
    name: str
    version: int
    created: str
    trainer: str
    agent_min: str
    files: dict[str, FileEntry]
    format: Format
    key: KeyRule
    idle_s: float
    training: Training
    sequence: SequenceInfo | None = None
    calibration: Calibration | None = None
    metrics: dict[str, float] = {}
    mix: tuple[float, ...] = ()
    sha256: str = ""
