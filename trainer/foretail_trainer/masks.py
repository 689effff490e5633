"""What is variable everywhere: numbers, addresses, ids, times, paths become one mark.

Text is latin-1 decoded bytes, so that one character is one byte. Mining never depends on which digit stands where, but
for the class of an HTTP status; so patterns can be digit-blind and a message with digits as 0 stands for all alike.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from foretail.errors import ConfigError
from foretail_trainer.tokens import MARKS, STATUS, VALUE, Plan, Row, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

_PLANS_MAX = 50_000
_L, _R = r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])"
_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)"
)
_DAY = r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL})+"
_END = r"[^\s\"'<>()\[\]{},;]*[^\s\"'<>()\[\]{},;.:]"
_UNIT = (
    r"(?:[kKMGTP]i?[Bb]|[Bb]ytes?|B|[um\u00b5n]?s|m?secs?|(?:milli|micro|nano)?seconds?|min(?:ute)?s?|h(?:our)?s?|days?|%"
    r"|[kMG]?Hz|[kKMG]?bps)"
)
MASKS: tuple[tuple[str, str], ...] = (
    (
        "date",
        (
            rf"{_L}(?:{_DAY},? )?(?:{_MONTH} +\d{{1,2}}|\d{{1,2}}[ -/]{_MONTH})(?:[,/-]? ?\d{{4}})?"
            rf"(?:[,:]? *{_CLOCK}(?: (?:[+-]\d{{4}}|[A-Z]{{3,4}}\b))?(?: \d{{4}})?)?{_R}"
        ),
    ),
    (
        "stamp",
        (
            rf"{_L}\d{{2,4}}[-/.]\d{{1,2}}[-/.]\d{{1,4}}(?:[T _-]\d{{1,2}}[:.]\d{{2}}(?:[:.]\d{{2}}(?:[.,]\d+)?)?)?"
            rf"(?: ?(?:Z|[+-]\d{{2}}:?\d{{2}}))?{_R}"
        ),
    ),
    ("request", r"(?<=[A-Z] )(?:/|[a-z]+://)\S*(?= HTTP/\d)"),
    ("uuid", rf"{_L}[0-9a-fA-F]{{8}}-(?:[0-9a-fA-F]{{4}}-){{3}}[0-9a-fA-F]{{12}}{_R}"),
    ("url", rf"\b[a-z][a-z0-9+.-]*://{_END}"),
    ("email", rf"{_L}[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*{_R}"),
    ("mac", rf"{_L}(?:[0-9a-fA-F]{{2}}[:-]){{5,}}[0-9a-fA-F]{{2}}{_R}"),
    ("ipv6", rf"{_L}(?:[0-9a-fA-F]{{0,4}}:){{2,7}}(?:[0-9a-fA-F]{{1,4}}|\d+\.\d+\.\d+\.\d+)(?:%\w+)?{_R}"),
    ("host", rf"{_L}(?:{_HOST}/)?(?:{_HOST}|localhost):\d{{1,5}}{_R}"),
    ("ipv4", rf"{_L}\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?::\d+|/\d+)?{_R}"),
    (
        "path",
        (
            r"(?<![^\s\"'=:(\[,<>])(?:[A-Za-z]:|~)?(?:[/\\][\w.$@%+~#*-]+)+(?:[/\\]+[\w.$@%+~#*-]*)*"
            r"(?:\?[^\s\"'<>()\[\]{}]*)?"
        ),
    ),
    ("path", r"(?<![^\s\"'=:(\[,<>])/(?:\?[^\s\"'<>()\[\]{}]*)?(?=[\s\"'])"),
    ("clock", rf"{_L}{_CLOCK}{_R}"),
    ("size", rf"(?:< ?)?{_L}[-+]?\d+(?:[.,]\d+)* ?{_UNIT}{_R}"),
    ("hex", rf"{_L}0[xX][0-9a-fA-F]+{_R}"),
    ("hex", rf"{_L}(?=[0-9a-fA-F]*\d)(?=[0-9]*[a-fA-F])[0-9a-fA-F]{{4,}}{_R}"),
    ("assigned", r"(?<=[\w)\]]=)[^\s=:,;()\[\]{}\"'<>|]*\d[^\s=:,;()\[\]{}\"'<>|]*"),
    ("token", rf"{_L}(?=[0-9A-Z]*[a-z])(?=[0-9a-z]*[A-Z])(?:[A-Za-z]*\d){{3,}}[A-Za-z0-9]*(?<=[A-Za-z0-9]{{20}}){_R}"),
    ("id", r"(?<=[A-Za-z][_-])-?\d[0-9A-Za-z]*(?:[_.-][0-9A-Za-z]+)*"),
    ("number", r"(?<![A-Za-z])[-+]?\d+(?:[.,xX:/-]\d+)*(?![A-Za-z0-9])"),
    ("number", rf"{_L}[-+]?\d+(?:[.,]\d+)*(?=[A-Za-z]{{1,3}}\b)"),
)
"""Name and regex of each mask, most specific first; custom ones come before them."""

_JOINED = re.compile(rf"{VALUE}(?:[.:,/_\-#@]{{1,2}}{VALUE})+")
_DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
_STATUS = r"(?:(?<=HTTP/\d\.\d\" )|(?<=HTTP/\d\" ))[1-5]\d\d(?!\S)"
_STATUS_BYTES = re.compile(_STATUS.encode())


class Masks:
    """The masks of one training run: the built-in ones after the custom ones."""

    def __init__(self, custom: Sequence[tuple[str, str]] = ()) -> None:
        """Compile `custom` (name, regex) before the built-in masks; ConfigError names a regex that does not compile."""
        for name, regex in custom:
            try:
                re.compile(regex, re.ASCII)
            except re.error as error:
                raise ConfigError(f"mask {name!r}: the regex does not compile ({error}); correct it.") from error
        ahead = "|".join(f"(?:{regex})" for _, regex in (*custom, *MASKS))
        self._mask = re.compile(rf"({_STATUS})|({ahead})|\d+", re.ASCII)
        self._plans: dict[str, Plan] = {}

    def masked(self, message: str) -> tuple[str, list[str]]:
        """The message with VALUE and `0` marks, and what stands in the message at each mark, in order."""
        texts: list[str] = []

        def mark(found: re.Match[str]) -> str:
            texts.append(found.group())
            if found.group(1):
                return STATUS[int(found.group()[0]) - 1]
            return VALUE if found.group(2) else "0"

        skeleton = self._mask.sub(mark, message)
        if VALUE not in skeleton:
            return skeleton, texts
        return _joined(skeleton, texts)

    def row(self, message: str) -> Row:
        """Tokens of a message (latin-1 text)."""
        skeleton, originals = self.masked(message)
        form = self._plans.get(skeleton)
        if form is None:
            form = plan(skeleton)
            if len(self._plans) < _PLANS_MAX:
                self._plans[skeleton] = form
        texts: list[str] = []
        marks: list[tuple[str, ...]] = []
        taken = 0
        for shape, count in zip(form.shapes, form.counts, strict=True):
            if not count:
                texts.append(shape)
                marks.append(())
                continue
            here = tuple(originals[taken : taken + count])
            taken += count
            marks.append(here)
            if count == len(shape) == 1:
                texts.append(here[0])
            else:
                filling = iter(here)
                texts.append(MARKS.sub(lambda _, fill=filling: next(fill), shape))  # type: ignore[misc]
        if form.cut:
            texts[form.cut :] = ["".join(texts[form.cut :])]
            marks[form.cut :] = [(texts[-1],)]
        once = None
        if form.spans is not None:
            once = Row(
                key=tuple(form.key[start] for start, _ in form.spans),
                texts=tuple(texts[start] for start, _ in form.spans),
                marks=tuple(marks[start] for start, _ in form.spans),
                tails=tuple("".join(texts[start + 1 : end]) for start, end in form.spans),
            )
        return Row(form.key, tuple(texts), tuple(marks), ("",) * len(form.key), once)


def blinded(message: bytes) -> bytes:
    """The message with every digit as 0 but the class of an HTTP status: what decides a type."""
    zeros = message.translate(_DIGITS_TO_ZERO)
    if b"HTTP/" in message and (found := _STATUS_BYTES.search(message)):
        place = found.start()
        return zeros[:place] + message[place : place + 1] + zeros[place + 1 :]
    return zeros


def _joined(skeleton: str, texts: list[str]) -> tuple[str, list[str]]:
    """Runs of VALUE joined by single separators as one VALUE: `10.0.0.1:80` and `a/10.0.0.1:80` are one part."""
    parts: list[str] = []
    out: list[str] = []
    position = taken = 0
    for found in _JOINED.finditer(skeleton):
        before = skeleton[position : found.start()]
        marks = len(MARKS.findall(before))
        out += texts[taken : taken + marks]
        taken += marks
        run = found.group()
        marks = run.count(VALUE)
        originals = iter(texts[taken : taken + marks])
        out.append("".join(next(originals) if char == VALUE else char for char in run))
        taken += marks
        parts += (before, VALUE)
        position = found.end()
    parts.append(skeleton[position:])
    return "".join(parts), out + texts[taken:]
