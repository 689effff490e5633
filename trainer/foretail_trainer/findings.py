"""What `fit` and `evaluate` found, as the reports need it: frozen, written as JSON beside each page.

All text of log lines in here has passed `visible`; times are epoch seconds, 0 = unknown; shares are of 1;
every number is finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from foretail.bundle import Bundle
    from foretail.schema import Calibration

TEXT_CHARACTERS_MAX = 400
"""A longer log line is cut in the report, with a mark."""


class TypeRow(msgspec.Struct, frozen=True):
    """A message type, as `Pattern` has it, with the number of its training lines and one of them as `visible` text."""

    type: str
    type_id: str
    template: str
    count: int
    example: str
    rare: bool = False
    error: bool = False
    end: bool = False


class Elbow(msgspec.Struct, frozen=True):
    """How k was chosen: the criterion for each k tried (same length), the k taken, the criterion's name."""

    k: tuple[int, ...]
    value: tuple[float, ...]
    chosen: int
    criterion: str


class ClusterMap(msgspec.Struct, frozen=True):
    """The clustered skeletons on their first two SVD axes (columns of one length); axes kept and their variance."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    cluster: tuple[int, ...]
    axes: int
    variance: float


class Losses(msgspec.Struct, frozen=True):
    """Nats per event after each epoch, on training and held-out windows; `best` is the epoch shipped, from 0."""

    training: tuple[float, ...]
    validation: tuple[float, ...]
    best: int


class BlockRow(msgspec.Struct, frozen=True):
    """One time block of the calibration: epoch seconds (0 = unknown), its units, alerts expected and observed."""

    first: float
    last: float
    units: int
    expected: float
    observed: int


class KeyRow(msgspec.Struct, frozen=True):
    """A candidate session key: share of lines that hold it, sessions it makes, bits per event (lower = better)."""

    rule: str
    sample: str
    coverage: float
    sessions: int
    bits: float | None
    chosen: bool
    note: str = ""


class SuspectRow(msgspec.Struct, frozen=True):
    """A strange training session or type: what to strike with `fit --exclude`, if it was a fault."""

    what: str
    bits: float
    reason: str
    example: str
    time: float = 0.0


class GateRow(msgspec.Struct, frozen=True):
    """One figure of the export gate: what it is, what came out, what was wanted, in text; and whether it passed."""

    figure: str
    value: str
    wanted: str
    passed: bool


class Section(msgspec.Struct, frozen=True):
    """A part of the page that a detector draws itself: `html` of its own making, escaped where it holds text."""

    id: str
    title: str
    html: str


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `report.html` shows. What is None or empty gets no section.

    Attributes:
        name, version, digest, created, trainer: of the bundle (`digest` of its manifest, hex).
        sources: the training files as they were named.
        header: name of the header format; `key`: the key rule in words.
        lines, sessions, first, last, hosts, idle_s, untyped_share: of the training data (times in epoch seconds).
        alpha, unit, threshold, extrapolated, units, units_per_day: of the calibration (`schema.Calibration`);
            `unit` empty = no calibration.
        model: the network in words (`LSTM, 1 layer of 64, window 10`); `seconds`: how long the fit took.
        scores: calibration scores in bits, one per unit.
    """

    name: str
    version: int
    digest: str
    created: str
    trainer: str = ""
    sources: tuple[str, ...] = ()
    header: str = ""
    key: str = ""
    lines: int = 0
    sessions: int = 0
    first: float = 0.0
    last: float = 0.0
    hosts: int = 1
    idle_s: float = 0.0
    untyped_share: float = 0.0
    alpha: float = 0.0
    unit: str = ""
    threshold: float = 0.0
    extrapolated: bool = False
    units: int = 0
    units_per_day: float = 0.0
    model: str = ""
    seconds: float = 0.0
    types: tuple[TypeRow, ...] = ()
    elbow: Elbow | None = None
    map: ClusterMap | None = None
    losses: Losses | None = None
    scores: tuple[float, ...] = ()
    blocks: tuple[BlockRow, ...] = ()
    keys: tuple[KeyRow, ...] = ()
    suspects: tuple[SuspectRow, ...] = ()
    gate: tuple[GateRow, ...] = ()
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, bundle: Bundle, calibration: Calibration | None) -> ReportData:
        """What every report says of its bundle and of the calibration of its main detector, if it has one."""
        manifest, training = bundle.manifest, bundle.manifest.training
        data = cls(
            name=manifest.name,
            version=manifest.version,
            digest=bundle.digest,
            created=manifest.created,
            trainer=manifest.trainer,
            lines=training.lines,
            first=training.first,
            last=training.last,
        )
        if calibration is None:
            return data
        return msgspec.structs.replace(
            data,
            alpha=calibration.alpha,
            unit=calibration.unit,
            threshold=calibration.threshold,
            extrapolated=calibration.extrapolated,
            units=calibration.units,
            units_per_day=calibration.units_per_day,
        )

    @property
    def expected_per_week(self) -> float | None:
        """False alerts to expect in a week from all hosts; None if the log has no times."""
        return self.alpha * self.units_per_day * 7 * self.hosts if self.units_per_day else None

    @property
    def units_needed(self) -> int:
        """Calibration units that certify alpha: n + 1 >= 1 / alpha."""
        return max(0, round(1 / self.alpha) - 1) if self.alpha else 0


class EvaluateRow(msgspec.Struct, frozen=True):
    """One detector, combination or baseline: shares of 1, a 95 % interval; `ours` marks the shipped combination."""

    detector: str
    precision: float
    recall: float
    f1: float
    f1_low: float | None = None
    f1_high: float | None = None
    ap: float | None = None
    true_positives: int = 0
    false_positives: int = 0
    false_negatives: int = 0
    ours: bool = False
    note: str = ""


class EvaluateData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `evaluate.html` shows; `data` names the labelled data, `unit` what a label belongs to."""

    name: str
    version: int
    digest: str
    created: str
    data: str
    unit: str
    normal: int
    anomalous: int
    rows: tuple[EvaluateRow, ...]
    notes: tuple[str, ...] = ()


def visible(line: bytes | str, characters_max: int = TEXT_CHARACTERS_MAX) -> str:
    r"""Text of a log line that shows what is in it and can neither steer a terminal nor reorder a page.

    Undecodable bytes, control, format (bidirectional), surrogate and private characters become `\xNN` or `\uNNNN`.
    """
    text = line.decode("utf-8", "backslashreplace") if isinstance(line, bytes) else line
    cut = text[:characters_max]
    if not cut.isprintable():
        cut = "".join(c if c.isprintable() or c == "\u00a0" else _escaped(c) for c in cut)
    return cut + (f" … {len(text) - characters_max} more" if len(text) > characters_max else "")


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
