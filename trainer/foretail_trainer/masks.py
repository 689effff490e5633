"""What is variable everywhere: numbers, addresses, ids, times, paths become one mark; the rest becomes tokens.

Text is latin-1 decoded bytes, so that one character is one byte. Two marks stand outside latin-1: VALUE for a masked
part and EMPTY for a place where a value may stand and none does. Digits that belong to a word (`ssh2`, `node12`)
collapse to one `0`: mining never depends on which digit stands where, so patterns can be digit-blind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretail.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUE, EMPTY = "\ue000", "\ue001"
STATUS = "\ue011\ue012\ue013\ue014\ue015"
"""Marks of HTTP status codes 1xx to 5xx after a request: their class is part of the event (RFC 9110, 15)."""
BLANK = " "
PUNCTUATION = frozenset("=:,;()[]{}\"'<>|")
_OPEN = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}
_SEPARATORS = frozenset((BLANK, ",", ";", "|"))
_ITEM_TOKENS_MAX = 24
_PLANS_MAX = 50_000
_WORD_MAX = 200
"""A longer run without blanks is no word: it is a value."""
_TOKENS_MAX = 256
"""A message's event shows in this many tokens; what follows is one value."""

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
_TOKEN = re.compile(r"\s+|\.{2,}|(?:[^\s=:,;()\[\]{}\"'<>|.]|\.(?!\.))+|.", re.ASCII | re.DOTALL)
_TAIL = re.compile(r"(.*?[^.!?])([.!?]+)", re.DOTALL)
_MARKS = re.compile(f"[{VALUE}0{STATUS}]")
_STATUS = r"(?:(?<=HTTP/\d\.\d\" )|(?<=HTTP/\d\" ))[1-5]\d\d(?!\S)"
_STATUS_BYTES = re.compile(_STATUS.encode())


@dataclass(frozen=True, slots=True)
class Row:
    """A message as tokens.

    Attributes:
        key: words, punctuation, BLANK for any white space, VALUE, EMPTY, and words holding VALUE or `0` marks.
        texts: for each token of `key` what stands in the message; of a list: its first item.
        marks: for each token what stands at its VALUE and `0` marks, in order.
        tails: for each token the further items of a list that follow it, or "".
        once: the same with each list of equal items (`blk_1 blk_2 blk_3`) written once, if there is a list.
    """

    key: tuple[str, ...]
    texts: tuple[str, ...]
    marks: tuple[tuple[str, ...], ...]
    tails: tuple[str, ...]
    once: Row | None = None


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
        self._plans: dict[str, _Plan] = {}

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
        plan = self._plans.get(skeleton)
        if plan is None:
            plan = _plan(skeleton)
            if len(self._plans) < _PLANS_MAX:
                self._plans[skeleton] = plan
        texts: list[str] = []
        marks: list[tuple[str, ...]] = []
        taken = 0
        for shape, count in zip(plan.shapes, plan.counts, strict=True):
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
                texts.append(_MARKS.sub(lambda _, fill=filling: next(fill), shape))  # type: ignore[misc]
        if plan.cut:
            texts[plan.cut :] = ["".join(texts[plan.cut :])]
            marks[plan.cut :] = [(texts[-1],)]
        once = None
        if plan.spans is not None:
            once = Row(
                key=tuple(plan.key[start] for start, _ in plan.spans),
                texts=tuple(texts[start] for start, _ in plan.spans),
                marks=tuple(marks[start] for start, _ in plan.spans),
                tails=tuple("".join(texts[start + 1 : end]) for start, end in plan.spans),
            )
        return Row(plan.key, tuple(texts), tuple(marks), ("",) * len(plan.key), once)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a skeleton alone decides.

    Attributes:
        shapes, counts: tokens as they stand (EMPTY as no text), and how many marks each holds.
        key, spans: as in Row, lists written once; None without a list.
        cut: the tokens from here on are one value; 0: none are.
    """

    shapes: tuple[str, ...]
    counts: tuple[int, ...]
    key: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] | None
    cut: int = 0


def _kind(token: str) -> str:
    if is_blank(token):
        return BLANK
    return VALUE if len(token) > _WORD_MAX else token


def blinded(message: bytes) -> bytes:
    """The message with every digit as 0 but the class of an HTTP status: what decides a type."""
    zeros = message.translate(_DIGITS_TO_ZERO)
    if b"HTTP/" in message and (found := _STATUS_BYTES.search(message)):
        place = found.start()
        return zeros[:place] + message[place : place + 1] + zeros[place + 1 :]
    return zeros


def is_blank(token: str) -> bool:
    """Whether a token is ASCII white space, the only kind a regex over bytes knows."""
    return not token.strip(" \t\n\r\f\v")


def _plan(skeleton: str) -> _Plan:
    tokens = _tokens(skeleton)
    cut = _TOKENS_MAX if len(tokens) > _TOKENS_MAX else 0
    key = tuple(map(_kind, tokens[:cut] if cut else tokens))
    if cut:
        key = (*key, VALUE)
    spans = _lists_once(key)
    return _Plan(
        shapes=tuple("" if token == EMPTY else token for token in tokens),
        counts=tuple(len(_MARKS.findall(token)) for token in tokens),
        key=key,
        spans=tuple(spans) if len(spans) < len(key) else None,
        cut=cut,
    )


def _joined(skeleton: str, texts: list[str]) -> tuple[str, list[str]]:
    """Runs of VALUE joined by single separators as one VALUE: `10.0.0.1:80` and `a/10.0.0.1:80` are one part."""
    parts: list[str] = []
    out: list[str] = []
    position = taken = 0
    for found in _JOINED.finditer(skeleton):
        before = skeleton[position : found.start()]
        marks = len(_MARKS.findall(before))
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


def _tokens(skeleton: str) -> list[str]:
    """Tokens, sentence ends split off, EMPTY where a value may stand and none does."""
    out: list[str] = []
    for token in _TOKEN.findall(skeleton):
        tail = _TAIL.fullmatch(token)
        if tail is not None:
            out += tail.groups()
            continue
        last = out[-1] if out else BLANK
        ends = is_blank(token) or token in ",;)]}"  # noqa: S105 - a token of text
        bare = len(out) < 2 or is_blank(out[-2])  # `a = b`, not `a=`
        if (last == "=" and ends and not bare) or (
            last in _OPEN and token == _OPEN[last] and (len(out) < 2 or is_blank(out[-2]) or out[-2] in "=:,")
        ):
            out.append(EMPTY)
        out.append(token)
    if len(out) > 1 and out[-1] == "=" and not is_blank(out[-2]):
        out.append(EMPTY)
    return out


def _lists_once(tokens: tuple[str, ...]) -> list[tuple[int, int]]:
    """Half-open ranges of tokens, one for each token kept: lists of equal items keep their first, inner lists first."""
    spans = [(i, i + 1) for i in range(len(tokens))]
    if sum(VALUE in token for token in tokens) < 2:
        return spans
    for most in (1, _ITEM_TOKENS_MAX, _ITEM_TOKENS_MAX):
        left = [tokens[start] for start, _ in spans]
        out: list[tuple[int, int]] = []
        i = 0
        while i < len(left):
            size, end = _item(left, i, most)
            if size:
                out += spans[i : i + size]
                out[-1] = (out[-1][0], spans[end - 1][1])
                i = end
            else:
                out.append(spans[i])
                i += 1
        spans = out
    return spans


def _item(tokens: list[str], start: int, most: int) -> tuple[int, int]:
    """Size of the item that repeats from `start` and where its run ends; 0, 0 if none does."""
    n = len(tokens)
    if tokens[start] in _SEPARATORS:
        return 0, 0
    for size in range(1, min(most, (n - start) // 2) + 1):
        if tokens[start + size] not in _SEPARATORS or tokens[start + size - 1] in _SEPARATORS:
            continue
        item = tokens[start : start + size]
        if not any(VALUE in token for token in item):
            continue
        gap = 2 if tokens[start + size + 1 : start + size + 2] == [BLANK] else 1
        between = tokens[start + size : start + size + gap]
        end = start + size
        while tokens[end : end + gap] == between and tokens[end + gap : end + gap + size] == item:
            end += gap + size
        if end > start + size:
            return size, end
    return 0, 0
