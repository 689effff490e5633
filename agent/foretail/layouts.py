"""The ways of writing a moment that logs use."""

from __future__ import annotations

from dataclasses import dataclass

_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}"
_MONTH = r"(?P<b>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_CLOCK = r"(?P<H>\d{1,2}):(?P<M>\d{1,2}):(?P<S>\d{1,2})(?:[.,:](?P<f>\d{1,9}))?"
_ZONE = r"(?: ?(?P<z>Z|UTC|GMT|[+-]\d\d:?\d\d))?"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way of writing a moment.

    Attributes:
        name: for people and `Format.time`.
        regex: of a whole stamp, with named parts Y (or y), m (or b), d, H, M, S, f, z, p (AM/PM), or e, E, U (epoch
            in s, ms, us).
        shape: digit-blind regex that finds such a stamp in a header, without groups.
    """

    name: str
    regex: str
    shape: str


_T = r"\d{1,2}:\d{1,2}:\d{1,2}(?:[.,:]\d{1,9})?"
_Z = r"(?: ?(?:Z\b|UTC\b|GMT\b|[+-]\d\d:?\d\d\b))?"
_B = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "iso8601",
        rf"(?P<Y>\d{{4}})[-/.](?P<m>\d\d?)[-/.](?P<d>\d\d?)(?:[T ]| ?[-_:|] ?|, ?| +){_CLOCK}{_ZONE}",
        rf"\d{{4}}[-/.]\d\d?[-/.]\d\d?(?:T|[-_:|]|,? +){_T}{_Z}",
    ),
    Layout("rfc3164", rf"(?:{_DAY},? )?{_MONTH} +(?P<d>\d{{1,2}}) {_CLOCK}{_ZONE}", rf"{_B} +\d\d? {_T}"),
    Layout(
        "ctime",
        rf"{_DAY} {_MONTH} +(?P<d>\d{{1,2}}) {_CLOCK}(?: (?P<z>UTC|GMT|[+-]\d\d:?\d\d|[A-Z]{{3,4}}))? (?P<Y>\d{{4}})",
        rf"{_DAY} {_B} +\d\d? {_T}(?: [A-Z]{{3,4}})? \d{{4}}",
    ),
    Layout(
        "java",
        rf"{_MONTH} +(?P<d>\d{{1,2}}), (?P<Y>\d{{4}}),? {_CLOCK}(?: (?P<p>[AP]M))?{_ZONE}",
        rf"{_B} +\d\d?, \d{{4}},? {_T}(?: [AP]M)?",
    ),
    Layout(
        "clf",
        rf"(?P<d>\d{{1,2}})[/ -]{_MONTH}[/ -](?P<Y>\d{{4}})[: ]{_CLOCK}{_ZONE}",
        rf"\d\d?[/ -]{_B}[/ -]\d{{4}}[: ]{_T}{_Z}",
    ),
    Layout(
        "bgl",
        r"(?P<Y>\d{4})-(?P<m>\d\d)-(?P<d>\d\d)-(?P<H>\d\d)\.(?P<M>\d\d)\.(?P<S>\d\d)(?:\.(?P<f>\d{1,9}))?",
        r"\d{4}-\d\d-\d\d-\d\d\.\d\d\.\d\d(?:\.\d{1,9})?",
    ),
    Layout("hdfs", r"(?P<y>\d\d)(?P<m>\d\d)(?P<d>\d\d) (?P<H>\d\d)(?P<M>\d\d)(?P<S>\d\d)", r"\d{6} \d{6}"),
    Layout("mysql", rf"(?P<y>\d\d)(?P<m>\d\d)(?P<d>\d\d) +{_CLOCK}", rf"\d{{6}} +{_T}"),
    Layout("spark", rf"(?P<y>\d\d)[/-](?P<m>\d\d)[/-](?P<d>\d\d) {_CLOCK}{_ZONE}", rf"\d\d[/-]\d\d[/-]\d\d {_T}"),
    Layout(
        "basic",
        rf"(?P<Y>\d{{4}})(?P<m>\d\d)(?P<d>\d\d)[-T _:]?"
        rf"(?:{_CLOCK}|(?P<H2>\d\d)(?P<M2>\d\d)(?P<S2>\d\d)(?:[.,](?P<f2>\d{{1,9}}))?){_ZONE}",
        rf"\d{{8}}(?:[-T _:]?{_T}|[-T _]\d{{6}}(?:[.,]\d{{1,9}})?){_Z}",
    ),
    Layout("klog", rf"[A-Z]?(?P<m>\d\d)(?P<d>\d\d) {_CLOCK}", rf"\d{{4}} +{_T}"),
    Layout("monthday", rf"(?P<m>\d\d?)[-./](?P<d>\d\d?) +{_CLOCK}{_ZONE}", rf"\d\d?[-./]\d\d? +{_T}"),
    Layout(
        "us",
        rf"(?P<m>\d\d?)/(?P<d>\d\d?)/(?P<Y>\d{{4}}),? {_CLOCK}(?: (?P<p>[AP]M))?{_ZONE}",
        rf"\d\d?/\d\d?/\d{{4}},? {_T}(?: [AP]M)?",
    ),
    Layout("epoch", r"(?P<e>\d{9,10}(?:\.\d{1,9})?)", r"\d{10}(?:\.\d{1,9})?"),
    Layout("epoch_ms", r"(?P<E>\d{12,13})", r"\d{13}"),
    Layout("epoch_us", r"(?P<U>\d{15,16})", r"\d{16}"),
    Layout("clock", _CLOCK, _T),
)
SHAPES = {layout.name: layout.shape for layout in LAYOUTS}
