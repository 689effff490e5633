"""Texts of time stamps to event times: known layouts, year-less dates, zones; memoised.

Stamps without a zone are taken as UTC plus `zone`; a year-less one gets the latest year that does not put it more than
a day after the reference time (issue 3, build 2).
"""

from __future__ import annotations

import calendar
import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from foretail.layouts import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY_S = 86_400.0
WRAP_S = 200 * DAY_S
"""A fall back by more than this is a year's end, not disorder."""
STAMPS_MAX = 16_384
"""Entries of a Clock's memo before it is dropped."""
TABLE_MIN = 128
"""From here on a batch of stamps is cheaper to read as a table than one by one (measured)."""

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_RULES = {layout.name: re.compile(layout.regex) for layout in LAYOUTS}


@dataclass(frozen=True, slots=True)
class _Day:
    """Where the parts of a stamp stand, and its midnight; `until`: of later ones the year must be found anew."""

    head: bytes
    tail: bytes
    hour: int
    minute: int
    second: int
    end: int
    fraction: int
    start: float
    until: float


class Clock:
    """Stamps to epoch seconds (UTC), memoised and bounded.

    `zone`: offset of zone-less stamps from UTC in seconds. `reference`: the newest time that is surely not in the
    future's past, epoch seconds: now for a live stream, the file's modification time for a file at rest.
    """

    def __init__(self, *, zone: int = 0, reference: float = math.inf) -> None:
        self.zone = zone
        self._reference = reference
        self._memo: dict[bytes, float] = {b"": math.nan}
        self._day: _Day | None = None
        self._rule = next(iter(_RULES.values()))

    @property
    def reference(self) -> float:
        """No stamp lies more than a day after it; infinity = unknown (year-less stamps are then in 1970..)."""
        return self._reference

    @reference.setter
    def reference(self, now: float) -> None:
        if not abs(now - self._reference) < 3600:  # a year-less stamp of last year must not come from the memo
            self._memo = {b"": math.nan}
            self._day = None
            self._reference = now

    def times(self, stamps: Sequence[bytes]) -> npt.NDArray[np.float64]:
        """float64[n], NaN where a stamp has no known layout or is empty."""
        if len(stamps) >= TABLE_MIN and self._day is not None:
            values = self._table(stamps, self._day)
            if values is not None:
                for place in np.flatnonzero(np.isnan(values)).tolist():
                    values[place] = self.time(stamps[place])
                return values
        return np.array([self.time(stamp) for stamp in stamps], dtype=np.float64)

    @staticmethod
    def _table(stamps: Sequence[bytes], day: _Day) -> npt.NDArray[np.float64] | None:
        """_quick for a whole batch of stamps of one length; NaN where it does not apply, None if it never does."""
        width = len(stamps[0])
        places = (
            *range(day.hour, day.hour + 2),
            *range(day.minute, day.minute + 2),
            *range(day.second, day.second + 2),
        )
        end = width - len(day.tail)
        if set(map(len, stamps)) != {width} or end != (day.end if day.fraction == 0 else max(end, day.fraction + 1)):
            return None
        table = np.frombuffer(b"".join(stamps), np.uint8).reshape(len(stamps), width)
        fixed = [*range(len(day.head)), *range(end, width)]
        same = (table[:, fixed] == np.frombuffer(day.head + day.tail, np.uint8)).all(axis=1)
        fraction = range(day.fraction, end) if day.fraction else range(0)
        digits = table[:, [*places, *fraction]] - np.uint8(48)
        same &= (digits < 10).all(axis=1)
        clock = digits[:, :6].astype(np.float64)
        hour, minute = clock[:, 0] * 10 + clock[:, 1], clock[:, 2] * 10 + clock[:, 3]
        second = clock[:, 4] * 10 + clock[:, 5]
        values = day.start + hour * 3600 + minute * 60 + second
        if day.fraction:
            values += digits[:, 6:] @ (10.0 ** np.arange(len(fraction) - 1, -1, -1)) / 10.0 ** len(fraction)
        same &= (hour < 24) & (minute < 60) & (second < 61) & (values <= day.until)
        return np.where(same, values, np.nan)

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
        """Another moment of the same day, written like the last one parsed: most stamps of a log."""
        day = self._day
        if day is None or not stamp.startswith(day.head) or not stamp.endswith(day.tail):
            return None
        end = len(stamp) - len(day.tail)
        if day.fraction:
            part = stamp[day.fraction : end]
            if not part.isdigit():
                return None
            exact = int(part) / 10 ** len(part)
        elif end == day.end:
            exact = 0.0
        else:
            return None
        digits = (
            stamp[day.hour : day.hour + 2] + stamp[day.minute : day.minute + 2] + stamp[day.second : day.second + 2]
        )
        if not digits.isdigit() or len(digits) != 6:
            return None
        hour, rest = divmod(int(digits), 10_000)
        minute, second = divmod(rest, 100)
        if hour > 23 or minute > 59 or second > 60:
            return None
        value = day.start + hour * 3600 + minute * 60 + second + exact
        return value if value <= day.until else None

    def _parse(self, stamp: bytes) -> float:
        text = stamp.decode("latin-1")
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
        self._day = _day(match, stamp, value, self._reference)
        return value

    def _moment(self, part: dict[str, str]) -> float:
        if "e" in part:
            return float(part["e"])
        if "U" in part:
            return int(part["U"]) / 1e6
        if "E" in part:
            return int(part["E"]) / 1000
        fraction = part.get("f") or part.get("f2") or "0"
        hour = int(part.get("H") or part["H2"])
        if "p" in part:
            hour = hour % 12 + 12 * (part["p"] == "PM")
        seconds = hour * 3600 + int(part.get("M") or part["M2"]) * 60 + int(part.get("S") or part["S2"])
        exact = int(fraction) / float(10 ** len(fraction))
        seconds_exact = seconds + exact - _offset(part.get("z"), self.zone)
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


def _day(match: re.Match[str], stamp: bytes, value: float, reference: float) -> _Day | None:
    """What _quick may reuse of a parsed stamp; None if its parts are not where it looks."""
    groups = match.groupdict()
    if groups.get("p") or not groups.get("d") or not all(len(groups.get(part) or "") == 2 for part in "HMS"):
        return None
    fraction = match["f"] if groups.get("f") else ""
    exact = int(fraction) / 10 ** len(fraction) if fraction else 0.0
    day_s = int(match["H"]) * 3600 + int(match["M"]) * 60 + int(match["S"])
    year_less = not (groups.get("Y") or groups.get("y"))
    return _Day(
        head=stamp[: match.start("H")],
        tail=stamp[match.end("f" if fraction else "S") :],
        hour=match.start("H"),
        minute=match.start("M"),
        second=match.start("S"),
        end=match.end("S"),
        fraction=match.start("f") if fraction else 0,
        start=value - day_s - exact,
        until=reference + DAY_S if year_less else math.inf,
    )


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
    return dt.date(year, month, day).toordinal() - 719_163


def unwrapped(times: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Times of a whole log in order, float64[n], with year-less stamps that fell into two years put one after another.

    Each stamp alone got the latest year that fits (Clock); where a log at rest runs past today's date, time would fall
    back by most of a year there: all lines before are moved back by a year. NaN stays.
    """
    out = times.copy()
    places = np.flatnonzero(np.isfinite(out))
    back = np.flatnonzero(np.diff(out[places]) < -WRAP_S)
    for place in places[back]:
        moments = (np.nan_to_num(out[: place + 1]) * 1000).astype("datetime64[ms]")
        months = moments.astype("datetime64[M]")
        moved = (months - 12).astype("datetime64[ms]") + (moments - months.astype("datetime64[ms]"))
        out[: place + 1] = np.where(np.isfinite(out[: place + 1]), moved.astype(np.int64) / 1000, np.nan)
    return out
