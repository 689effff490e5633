"""Texts of time stamps to event times: known layouts, year-less dates, zones; memoised.

Stamps without a zone are taken as UTC plus `zone`; a year-less one gets the latest year that does not put it more than
a day after the reference time (issue 3, build 2).
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

DAY_S = 86_400.0
STAMPS_MAX = 65_536
"""Entries of a Clock's memo before it is dropped."""

_MONTHS = {name: number for number, name in enumerate(calendar.month_abbr) if name}
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}"
_MONTH = r"(?P<b>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}"
_CLOCK = r"(?P<H>\d{1,2}):(?P<M>\d\d):(?P<S>\d\d)(?:[.,:](?P<f>\d{1,9}))?"
_ZONE = r"(?: ?(?P<z>Z|UTC|GMT|[+-]\d\d:?\d\d))?"


@dataclass(frozen=True, slots=True)
class Layout:
    """One way of writing a moment.

    Attributes:
        name: for people and `Format.time`.
        regex: of a whole stamp, with named parts Y (or y), m (or b), d, H, M, S, f, z, p (AM/PM), or e, E (epoch s, ms).
        shape: digit-blind regex that finds such a stamp in a header, without groups.
    """

    name: str
    regex: str
    shape: str


_T = r"\d\d:\d\d:\d\d(?:[.,:]\d{1,9})?"
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
    Layout("spark", rf"(?P<y>\d\d)[/-](?P<m>\d\d)[/-](?P<d>\d\d) {_CLOCK}{_ZONE}", rf"\d\d[/-]\d\d[/-]\d\d {_T}"),
    Layout(
        "basic",
        rf"(?P<Y>\d{{4}})(?P<m>\d\d)(?P<d>\d\d)[-T _:]?(?:{_CLOCK}|(?P<H2>\d\d)(?P<M2>\d\d)(?P<S2>\d\d)(?:[.,](?P<f2>\d{{1,9}}))?){_ZONE}",
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
    Layout("clock", _CLOCK, _T),
)
SHAPES = {layout.name: layout.shape for layout in LAYOUTS}
_RULES = {layout.name: re.compile(layout.regex) for layout in LAYOUTS}


class Clock:
    """Stamps to epoch seconds (UTC), memoised and bounded.

    `zone`: offset of zone-less stamps from UTC in seconds. `reference`: the newest time that is surely not in the
    future's past, epoch seconds: now for a live stream, the file's modification time for a file at rest.
    """

    def __init__(self, *, zone: int = 0, reference: float = math.inf) -> None:
        self.zone = zone
        self._reference = reference
        self._memo: dict[bytes, float] = {b"": math.nan}
        self._last: tuple[bytes, bytes, float] | None = None
        self._rule = next(iter(_RULES.values()))

    @property
    def reference(self) -> float:
        """No stamp lies more than a day after it; infinity = unknown (year-less stamps are then in 1970..)."""
        return self._reference

    @reference.setter
    def reference(self, now: float) -> None:
        if not abs(now - self._reference) < 3600:  # a year-less stamp of last year must not come from the memo
            self._memo = {b"": math.nan}
            self._last = None
            self._reference = now

    def times(self, stamps: Sequence[bytes]) -> npt.NDArray[np.float64]:
        """float64[n], NaN where a stamp has no known layout or is empty."""
        memo = self._memo
        found = list(map(memo.get, stamps))
        if None in found:
            found = [self.time(stamp) if value is None else value for value, stamp in zip(found, stamps, strict=True)]
        return np.array(found, dtype=np.float64)

    def time(self, stamp: bytes) -> float:
        """As times, of one stamp."""
        known = self._memo.get(stamp)
        if known is None:
            known = self._quick(stamp)
            if known is None:
                known = self._parse(stamp)
            if len(self._memo) >= STAMPS_MAX:
                self._memo = {b"": math.nan}
            self._memo[stamp] = known
        return known

    def _quick(self, stamp: bytes) -> float | None:
        """The last second again with another fraction: most stamps of a busy log."""
        if self._last is None:
            return None
        head, tail, base = self._last
        fraction = stamp[len(head) : len(stamp) - len(tail)]
        if stamp.startswith(head) and stamp.endswith(tail) and fraction.isdigit():
            return base + int(fraction) / 10 ** len(fraction)
        return None

    def _parse(self, stamp: bytes) -> float:
        text = stamp.decode("latin-1").strip(" []")
        match = self._rule.fullmatch(text)
        if match is None:
            for rule in _RULES.values():
                match = rule.fullmatch(text)
                if match is not None:
                    self._rule = rule
                    break
        if match is None:
            return math.nan
        try:
            value = self._moment({key: part for key, part in match.groupdict().items() if part is not None})
        except (ValueError, OverflowError):
            return math.nan
        if "f" in match.groupdict() and match["f"]:
            start = stamp.index(text.encode("latin-1")) + match.start("f")
            end = start + len(match["f"])
            self._last = (stamp[:start], stamp[end:], value - int(match["f"]) / 10 ** len(match["f"]))
        return value

    def _moment(self, part: dict[str, str]) -> float:
        if "e" in part:
            return float(part["e"])
        if "E" in part:
            return int(part["E"]) / 1000
        fraction = part.get("f") or part.get("f2") or "0"
        hour = int(part.get("H") or part["H2"])
        if "p" in part:
            hour = hour % 12 + 12 * (part["p"] == "PM")
        seconds = hour * 3600 + int(part.get("M") or part["M2"]) * 60 + int(part.get("S") or part["S2"])
        seconds_exact = seconds + int(fraction) / 10 ** len(fraction) - _offset(part.get("z"), self.zone)
        if "d" not in part:  # a time of day alone: today or yesterday
            return self._day_alone(seconds_exact)
        month = _MONTHS[part["b"]] if "b" in part else int(part["m"])
        day = int(part["d"])
        if "Y" in part:
            return _days(int(part["Y"]), month, day) * DAY_S + seconds_exact
        if "y" in part:
            short = int(part["y"])
            return _days(short + (1900 if short >= 70 else 2000), month, day) * DAY_S + seconds_exact
        return self._year_less(month, day, seconds_exact)

    def _year_less(self, month: int, day: int, seconds: float) -> float:
        if not math.isfinite(self._reference):
            return _days(1972, month, day) * DAY_S + seconds
        newest = 1970 + int(self._reference / (365.2425 * DAY_S)) + 2
        for year in range(newest, newest - 11, -1):
            if month == 2 and day == 29 and not calendar.isleap(year):
                continue
            value = _days(year, month, day) * DAY_S + seconds
            if value <= self._reference + DAY_S:
                return value
        return math.nan

    def _day_alone(self, seconds: float) -> float:
        if not math.isfinite(self._reference):
            return seconds
        today = self._reference // DAY_S * DAY_S + seconds
        return today if today <= self._reference + DAY_S / 2 else today - DAY_S


def _offset(zone: str | None, default: int) -> int:
    if zone is None or (zone.isalpha() and zone not in {"Z", "UTC", "GMT"}):
        return default
    if zone in {"Z", "UTC", "GMT"}:
        return 0
    digits = zone[1:].replace(":", "")
    value = int(digits[:2]) * 3600 + int(digits[2:4]) * 60
    return -value if zone[0] == "-" else value


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01; ValueError for a date that is none."""
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        raise ValueError("no such day")
    return _ordinal(year, month, day) - 719_163


def _ordinal(year: int, month: int, day: int) -> int:
    import datetime

    return datetime.date(year, month, day).toordinal()


def known(samples: Iterable[bytes]) -> float:
    """Share of `samples` that some layout reads."""
    clock = Clock(reference=4e9)
    times = [clock.time(sample) for sample in samples]
    return sum(not math.isnan(value) for value in times) / max(len(times), 1)
