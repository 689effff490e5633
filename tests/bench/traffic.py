"""Numbered lines of the golden bundle's service, as many as one likes: line i is a function of i alone.

The number of a line is its event time, so that a verdict says which line it is of. Session keys are fresh in each round
of the golden log.
"""

from __future__ import annotations

import hashlib
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BUNDLE = GOLDEN / "bundle"
START = 1_767_225_600
PER_SECOND = 10
"""Lines a second of event time: what the golden log has, nearly."""

_KEY = re.compile(rb"\b[0-9a-fA-F]{8,}")


def _parts(line: bytes) -> tuple[bytes, bytes, bytes]:
    """What stands between time and key, the key, and what follows; no key: all stands before it."""
    body = line[line.index(b" ") :] + b"\n"
    found = _KEY.search(body)
    return (body[: found.start()], found[0], body[found.end() :]) if found else (body, b"", b"")


_PARTS = [_parts(line) for line in (GOLDEN / "storage.log").read_bytes().splitlines()]


def lines(first: int, end: int, *, shift: int = 0, keys: int = 0) -> Iterator[bytes]:
    """Lines `first` to `end` (not with it).

    Args:
        first: number.
        end: number.
        shift: seconds that all event times are moved by.
        keys: so many distinct keys in turn; 0 = as in the golden log, with fresh ones each round.
    """
    second, stamp, number_of_round, fresh = -1, b"", -1, dict[bytes, bytes]()
    for number in range(first, end):
        whole, tenth = divmod(number, PER_SECOND)
        if whole != second:
            second = whole
            stamp = datetime.fromtimestamp(START + shift + whole, UTC).strftime("%Y-%m-%dT%H:%M:%S.").encode()
        turn, place = divmod(number, len(_PARTS))
        if turn != number_of_round:
            number_of_round, fresh = turn, {}
        before, key, after = _PARTS[place]
        if not key:
            yield b"%b%d00Z%b" % (stamp, tenth, before)
            continue
        name = fresh.get(key)
        if name is None:
            text = b"%d" % (number % keys) if keys else b"%d %b" % (turn, key)
            name = hashlib.blake2b(text, digest_size=6).hexdigest().encode()
            if not keys:
                fresh[key] = name
        yield b"%b%d00Z%b%b%b" % (stamp, tenth, before, name, after)


def number_of(event_time: float) -> int:
    """The number of the line with this event time."""
    return round((event_time - START) * PER_SECOND)


class Pace:
    """How many lines are due at a steady rate."""

    def __init__(self, rate: float) -> None:
        self._rate, self._began = rate, time.monotonic()

    def due(self) -> int:
        """Lines that should be written by now."""
        return int((time.monotonic() - self._began) * self._rate)
