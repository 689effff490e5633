"""Pure: text -> finite numbers, one rule for captures of lines and for cells of tables; `12 ms`, `1.5s` with units."""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


TEXT_MAX = 40
"""A longer text is no number."""
QUANTITY = re.compile(
    rb"\s*+([-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?)\s*+((?:[A-Za-z%/]|\xc2\xb5){1,8}+)\s*+"
)
"""A number and a unit (also with a micro sign in UTF-8); without a way back, so that no text takes long."""
TIME, SIZE = "time", "size"
UNITS: dict[bytes, tuple[str, float]] = {
    **dict.fromkeys((b"ns", b"nsec"), (TIME, 1e-9)),
    **dict.fromkeys((b"us", b"usec", b"\xc2\xb5s"), (TIME, 1e-6)),
    **dict.fromkeys((b"ms", b"msec", b"msecs", b"millis"), (TIME, 1e-3)),
    **dict.fromkeys((b"s", b"sec", b"secs", b"second", b"seconds"), (TIME, 1.0)),
    **dict.fromkeys((b"min", b"mins", b"minute", b"minutes"), (TIME, 60.0)),
    **dict.fromkeys((b"h", b"hour", b"hours"), (TIME, 3600.0)),
    **dict.fromkeys((b"B", b"byte", b"bytes"), (SIZE, 1.0)),
    **dict.fromkeys((b"kB", b"KB", b"K", b"KiB"), (SIZE, 2.0**10)),
    **dict.fromkeys((b"MB", b"M", b"MiB"), (SIZE, 2.0**20)),
    **dict.fromkeys((b"GB", b"G", b"GiB"), (SIZE, 2.0**30)),
    **dict.fromkeys((b"TB", b"T", b"TiB"), (SIZE, 2.0**40)),
}
"""What units measure, and in how many seconds or bytes; in logs a kilobyte is mostly 1,024."""


def number(text: bytes | str) -> float | None:
    """The finite number in a capture or a cell, else None."""
    if not _plain(text):
        return None
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numbers(texts: Sequence[bytes] | Sequence[str]) -> NDArray[np.float64]:
    """float64 `[n]`; NaN where a text is empty or no finite number."""
    if all(map(_plain, texts)):
        with contextlib.suppress(ValueError):
            values = np.array(texts, np.float64)
            values[~np.isfinite(values)] = math.nan
            return values
    return np.array([math.nan if (value := number(text)) is None else value for text in texts])


def _plain(text: bytes | str) -> bool:
    """Whether this may be a number: short, and without the underscores that Python would read over."""
    if isinstance(text, str):
        return len(text) <= TEXT_MAX and "_" not in text
    return len(text) <= TEXT_MAX and b"_" not in text


def unit(text: bytes) -> bytes:
    """The unit after a number; b"": none, or no number."""
    found = _quantity(text)
    return found[2] if found else b""


def _quantity(text: bytes) -> re.Match[bytes] | None:
    return QUANTITY.fullmatch(text) if len(text) <= TEXT_MAX else None


def quantities(texts: Sequence[bytes], wanted: bytes) -> NDArray[np.float64]:
    """float64 `[n]` in one unit; NaN where a text is no finite number, or one in a unit that cannot be converted."""
    if not wanted:
        return numbers(texts)
    values, ours = numbers([text.removesuffix(wanted) for text in texts]), UNITS.get(wanted)
    for row in np.flatnonzero(np.isnan(values)).tolist():
        found = _quantity(texts[row])
        own = UNITS.get(found[2]) if found else None
        if found and own and ours and own[0] == ours[0]:
            values[row] = float(found[1]) * own[1] / ours[1]
    values[~np.isfinite(values)] = math.nan
    return values
