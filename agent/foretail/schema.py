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
        time: of JSON and logfmt records, the field of the stamp; of text, None (the header group `time` has the stamp).
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


class SeriesInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A detector on rows of numbers at even steps: the columns of a CSV, or the features of a log's intervals.

    Its files are `NAME.b1.tflite`, `NAME.b64.tflite` (`window` float32 `[B, C, inputs]` to the last row as expected,
    float32 `[B, F]`), `NAME.stats.npy` float64 `[2 + 2 V, F]`, `NAME.normal.npy` float32 `[V, n]` and, from 3
    features on, `NAME.mix.npy` float64 `[F, F]`; NAME is `series` or
    `volume` (see `foretail.series`).

    Attributes:
        columns: names of the F features.
        logged: which of them are taken as log(1 + value).
        model: the network, for people; `forecast`: it sees the rows before, otherwise the row itself too.
        window: C; `inputs`: F and the calendar's numbers; `calendar`: `none`, `day` or `week`.
        interval_s: seconds of a row; 0 = rows as they come.
        aggregate: how readings of one interval become a row.
        gap_s: a hole longer than this begins a new history; 0 = never.
        smooth, follow, hold, memory: rows of the running mean, of the baseline that follows, of an incident whose
            further rows are capped, and of the history that surprise is measured against.
        timestamp: name of the column of the stamps, if any.
        calibration: of its own budget.
    """

    columns: tuple[str, ...]
    logged: tuple[bool, ...]
    model: str
    forecast: bool
    window: int
    inputs: int
    calibration: Calibration
    calendar: Literal["none", "day", "week"] = "none"
    interval_s: float = 0.0
    aggregate: Literal["mean", "max", "last"] = "mean"
    gap_s: float = 0.0
    smooth: int = 5
    follow: int = 1000
    hold: int = 200
    memory: int = 6400
    timestamp: str | None = None


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number captured in lines of one type: its mean and 95th percentile are features of an interval.

    Attributes:
        unit: of the values, as the lines write it; a value in another unit of time or size is converted.
    """

    type_id: str
    capture: int
    name: str
    unit: str = ""


class VolumeInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is counted in each interval of a log (`foretail.volume`).

    Attributes:
        series: the detector on these features; its `interval_s` is the interval.
        types: type_ids that are counted one by one; all others are pooled.
        readings: numeric parameters.
        keys: distinct session keys are counted.
    """

    series: SeriesInfo
    types: tuple[str, ...]
    readings: tuple[Reading, ...] = ()
    keys: bool = False


class LinesInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A classifier of single lines, read byte by byte in chunks (`foretail.characters`).

    Its files are `line.b1.tflite`, `line.b64.tflite` and `line.head.npy`.

    Attributes:
        cell: `rnn`, `lstm`, `stacked` or `conv`.
        chunk: bytes of a step; `halo`: bytes of the chunk before that a convolution sees again.
        state: numbers carried from chunk to chunk.
        bytes_max: longer lines are judged by their first bytes.
        positive: the label that is raised; `negative`: the other.
        field: the field or column that is read; None = the message.
        drop: fields of a JSON record that are left out before it is read.
        threshold: probability from which on a line is anomalous; `fpr`: the false-positive rate it was chosen for.
        slope, offset: of the logistic calibration of the logit.
        tail: p-values of normal lines, by logit in bits.
    """

    cell: str
    chunk: int
    state: int
    bytes_max: int
    positive: str
    negative: str
    threshold: float
    fpr: float
    slope: float
    offset: float
    tail: Tail
    halo: int = 0
    field: str | None = None
    drop: tuple[str, ...] = ()


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
        series, volume, lines: the other detectors of the bundle.
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
    series: SeriesInfo | None = None
    volume: VolumeInfo | None = None
    lines: LinesInfo | None = None
    sha256: str = ""


class TypeName(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a label names a type of message.

    Attributes:
        type_id: of a known type.
        template: the same for people, and for a bundle that knows it under another id.
        message: of the judged line, when no pattern matched: without its header, every digit as 0.
    """

    type_id: str | None = None
    template: str | None = None
    message: str | None = None


class Label(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of `labels.jsonl`: what a person said of an incident or verdict, and what a trainer needs of it.

    It holds no session key, no source and no line of the log; `message` alone is text, of a line that no pattern knew.

    Attributes:
        schema: refused when newer than SCHEMA.
        id: of the incident or verdict.
        label: what it was.
        reason: why, in the person's words.
        labelled: RFC 3339; of two labels of one id the later counts.
        stream, bundle: of the verdict.
        kind: what was judged: one line, a session, or a block of an endless one.
        fingerprint: of the cause.
        reasons: detectors, strongest first.
        score: of the verdict.
        types: the types that `events` refers to.
        events: what came in the session, oldest first, as places in `types`: all of it as far as the log still told
            (of an endless one, C events on either side); otherwise the C events before the line and itself, or the
            last C of the judged session.
        at: place in `events` of the judged line; None: a session was judged.
        begins: the first of `events` is the first of its session; `ends`: the last is its last.
        total: events of the judged session, 0 = a line was judged.
        missing, extra: of a session, template to count, against the nearest normal one.
    """

    schema: int
    id: str
    label: Literal["normal", "anomaly"]
    reason: str
    labelled: str
    stream: str
    bundle: str
    kind: Literal["line", "session", "block"]
    fingerprint: str
    reasons: tuple[str, ...]
    score: float
    types: tuple[TypeName, ...]
    events: tuple[int, ...]
    at: int | None = None
    begins: bool = False
    ends: bool = False
    total: int = 0
    missing: dict[str, int] = {}
    extra: dict[str, int] = {}
