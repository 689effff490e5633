"""Pure: how `foretail pipe --reply` answers each line, in rsyslog's two contracts.

omprog with confirmMessages: `OK` once at start and once per line. mmexternal: one line in, one JSON object out, in
order: `{"$!": {"foretail": {...}}}`, or `{}` to leave the message as it is; with `interface.input="fulljson"` a line is
made of the message's fields as rsyslog's file format writes it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from foretail.fitted import fitted
from foretail.verdicts import LineVerdict, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

OK = b"OK"
UNCHANGED = b"{}"
ANSWER_BYTES_MAX = 4096
_CHUNK = "line:"
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


class Message(msgspec.Struct):
    """What is read of rsyslog's fulljson."""

    msg: str
    syslogtag: str
    timereported: str
    hostname: str


_messages = msgspec.json.Decoder(Message)


def line_of(text: bytes) -> bytes:
    """The log line in what mmexternal hands over: as it is, or, of fulljson, as rsyslog's file format writes it."""
    if text[:1] != b"{":
        return text
    try:
        message = _messages.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text
    gap = "" if message.msg[:1] == " " else " "
    line = f"{message.timereported} {message.hostname} {message.syslogtag}{gap}{message.msg}"
    return line.encode("utf-8", "replace").replace(b"\n", b" ")


def annotation(verdict: LineVerdict, bytes_max: int = ANSWER_BYTES_MAX) -> bytes:
    """The answer for a line's verdict: sets `$!foretail`; one line of at most bytes_max bytes."""
    fields: dict[str, Any] = {
        "id": verdict.id,
        "anomalous": verdict.anomalous,
        "score": verdict.score,
        "p": verdict.p,
        "type": verdict.type,
        "type_id": verdict.type_id,
        "template": verdict.template,
        "key": verdict.key,
        "reasons": verdict.reasons,
        "bundle": verdict.bundle,
    }
    explanation = verdict.explanation
    if explanation is not None:
        fields["bits"] = explanation.bits
        fields["expected"] = [expected.template for expected in explanation.expected]
    cut = {"cut": verdict.cut} if verdict.cut else {}
    room = bytes_max - len('{"$!":{"foretail":}}')
    return b'{"$!":{"foretail":' + fitted(msgspec.json.encode(fields | cut), room) + b"}}"


class Answers:
    """Pure: which lines wait for an answer, and in which order they get it.

    Each ticket stands for the lines of one batch; verdicts come in between, known by the line's offset.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Sequence[int]]] = deque()
        self._made: dict[int, bytes] = {}

    def expect(self, ticket: int, offsets: Sequence[int]) -> None:
        """A batch was handed to the loop."""
        self._waiting.append((ticket, offsets))

    def add(self, record: bytes) -> None:
        """A record of the loop: only those of lines are answers."""
        verdict = _decoder.decode(record)
        if isinstance(verdict, LineVerdict):
            self._made[verdict.offset] = annotation(verdict)

    def take(self, ticket: int) -> list[bytes]:
        """One answer for each line up to this ticket, in order; UNCHANGED where there was no verdict."""
        answers: list[bytes] = []
        while self._waiting and self._waiting[0][0] <= ticket:
            answers += [self._made.pop(offset, UNCHANGED) for offset in self._waiting.popleft()[1]]
        return answers

    @property
    def waiting(self) -> bool:
        """Whether lines wait."""
        return bool(self._waiting)


class Confirmations:
    """Pure: omprog's `OK`s, and the one line after a restart that was confirmed before.

    Args:
        known: forward chunk ids of the journal, oldest first; the last line's hash is the last of them.
    """

    def __init__(self, known: Sequence[str] = ()) -> None:
        self._last = known[-1] if known and known[-1].startswith(_CHUNK) else ""
        self._waiting: deque[tuple[int, int]] = deque()
        self._first = True

    def repeated(self, lines: Sequence[bytes]) -> bool:
        """Whether the very first line since the restart is the last one that was confirmed."""
        first, self._first = self._first, False
        return first and bool(lines) and mark(lines[0]) == self._last

    def expect(self, ticket: int, lines: int) -> None:
        """A batch was handed to the loop."""
        self._waiting.append((ticket, lines))

    def take(self, ticket: int) -> list[bytes]:
        """One OK for each line up to this ticket."""
        confirmed: list[bytes] = []
        while self._waiting and self._waiting[0][0] <= ticket:
            confirmed += [OK] * self._waiting.popleft()[1]
        return confirmed

    @property
    def waiting(self) -> bool:
        """Whether lines wait."""
        return bool(self._waiting)


def mark(line: bytes) -> str:
    """What the journal keeps of a confirmed line, in the place of a chunk id."""
    return _CHUNK + hashlib.blake2b(line, digest_size=16).hexdigest()
