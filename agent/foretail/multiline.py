"""Lines that belong together become one record: traces of Java, Python and Go, or what a start pattern divides.

A preset is a small state machine over the beginnings of lines; a line that no rule of the state accepts ends the
record. The lines of a record stay joined by LF.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import msgspec

from foretail.errors import ConfigError
from foretail.lines import Lines
from foretail.lint import check_pattern

Preset = Literal["java", "python", "go", "start"]
_LOOKED_AT = 512  # bytes of a line that decide, so that a long line costs no more than a short one


class Multiline(msgspec.Struct, frozen=True):
    """How lines are joined.

    Attributes:
        preset: whose traces, or `start`: each line that `start` matches begins a record.
        start: regex over bytes, searched in the first 512 bytes of a line; for `start` alone.
        wait_s: a record whose continuation does not come in this time is given out.
        lines_max, bytes_max: a record is given out when it reaches one of them; the rest begins another.
    """

    preset: Preset
    start: str = ""
    wait_s: float = 1.0
    lines_max: int = 500
    bytes_max: int = 256 * 1024


class _Rule(NamedTuple):
    """In one of `states`, a line that `pattern` matches at its beginning leads to `state`."""

    states: tuple[str, ...]
    pattern: re.Pattern[bytes]
    state: str


def _rule(states: str, pattern: bytes, state: str) -> _Rule:
    return _Rule(tuple(states.split()), re.compile(pattern), state)


# The state before a record is "out". States named in no rule end the record after that line.
_PRESETS: dict[str, tuple[_Rule, ...]] = {
    "java": (
        _rule("out", rb"[^\n]*?(?:Exception|Error|Throwable)(?:[:\s]|$)", "trace"),
        _rule("trace", rb"\s+(?:at |eval at |\.\.\. \d+ |- locked |Caused by: |Suppressed: )", "trace"),
        _rule("trace", rb"Caused by: |[\w$.]+\.[\w$]*(?:Exception|Error|Throwable)\b|[\t ]", "trace"),
    ),
    "python": (
        _rule("out", rb"[^\n]*?Traceback \(most recent call last\):", "trace"),
        _rule("trace frame", rb"[\t ]", "frame"),
        _rule("frame", rb"[A-Za-z_][\w.]*(?::|$)", "error"),
        _rule("error chain", rb"$", "chain"),
        _rule("error chain", rb"(?:During handling of|The above exception was)", "chain"),
        _rule("chain", rb"Traceback \(most recent call last\):", "trace"),
    ),
    "go": (
        _rule("out", rb"[^\n]*?\b(?:panic|fatal error): |http: panic serving", "panic"),
        _rule("panic", rb"(?:\[signal |\tpanic: |panic: )", "panic"),
        _rule("panic frame", rb"goroutine \d+ \[", "frame"),
        _rule("panic frame", rb"$", "panic"),
        _rule("frame", rb"(?:\t|[\w./*()\[\]{}%$-]+\(|created by |\.\.\.additional frames)", "frame"),
        _rule("frame panic", rb"exit status \d+$", "done"),
    ),
}


class Joiner:
    """Joins the lines of one file; pure: times come in.

    Attributes:
        cut_records: records that were given out at a limit.
    """

    def __init__(self, multiline: Multiline) -> None:
        self._multiline = multiline
        self._lines: list[bytes] = []
        self._offset = 0
        self._size = 0
        self._touched = 0.0
        self._state = "out"
        self.cut_records = 0
        self._start = _start_pattern(multiline) if multiline.preset == "start" else None
        self._rules = _by_state(_PRESETS.get(multiline.preset, ()))

    @property
    def pending(self) -> bool:
        """Whether a record waits for more lines."""
        return bool(self._lines)

    @property
    def start(self) -> int:
        """Offset of the waiting record."""
        return self._offset

    def feed(self, lines: Lines, now: float) -> Lines:
        """Take the next lines and give the records that are complete; the last one may wait for more."""
        done = Lines([], [])
        for line, offset in zip(*lines, strict=True):
            if self._lines and not self._continues(line):
                self._give(done)
            if not self._lines:
                self._offset, self._state = offset, self._begins(line)
            self._lines.append(line)
            self._size += len(line) + 1
            if self._full():
                self.cut_records += 1
                self._give(done)
            elif self._start is None and self._state not in self._rules:
                self._give(done)
        if lines.lines:
            self._touched = now
        return done

    def late(self, now: float) -> bool:
        """Whether the waiting record has waited long enough; a clock that steps back starts the wait anew."""
        self._touched = min(self._touched, now)
        return self.pending and now - self._touched >= self._multiline.wait_s

    def flush(self) -> Lines:
        """Give the waiting record as it is."""
        done = Lines([], [])
        if self._lines:
            self._give(done)
        return done

    def _give(self, done: Lines) -> None:
        done.lines.append(self._lines[0] if len(self._lines) == 1 else b"\n".join(self._lines))
        done.offsets.append(self._offset)
        self._lines = []
        self._size = 0

    def _full(self) -> bool:
        return len(self._lines) >= self._multiline.lines_max or self._size > self._multiline.bytes_max

    def _continues(self, line: bytes) -> bool:
        if self._start is not None:
            return self._start.search(line[:_LOOKED_AT]) is None
        state = self._next(self._state, line)
        if state is not None:
            self._state = state
        return state is not None

    def _begins(self, line: bytes) -> str:
        return "out" if self._start is not None else self._next("out", line) or "alone"

    def _next(self, state: str, line: bytes) -> str | None:
        part = line[:_LOOKED_AT]
        for rule in self._rules.get(state, ()):
            if rule.pattern.match(part):
                return rule.state
        return None


def check_start(preset: str, start: str, where: str) -> None:
    """Refuse a start pattern that is none, could stall the host, or is given without its preset.

    ConfigError in one sentence that begins with `where`.
    """
    if (preset == "start") != bool(start):
        raise ConfigError(f'{where} needs multiline = "start" and multiline_start together.')
    if start:
        try:
            check_pattern(start, "multiline_start")
            re.compile(start.encode())
        except (ConfigError, re.error) as error:
            raise ConfigError(f"{where}: {error}") from error


def _by_state(rules: tuple[_Rule, ...]) -> dict[str, list[_Rule]]:
    states = {state for rule in rules for state in rule.states}
    return {state: [rule for rule in rules if state in rule.states] for state in states}


def _start_pattern(multiline: Multiline) -> re.Pattern[bytes]:
    try:
        return re.compile(multiline.start.encode())
    except re.error as error:
        raise ConfigError(
            f"the multiline start pattern {multiline.start!r} is no regular expression: {error}"
        ) from error
