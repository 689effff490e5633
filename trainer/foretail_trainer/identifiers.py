"""Pure: which parts of messages look like identifiers, as search regexes for a session key.

An identifier holds a digit and comes back on several lines, of several types: `blk_-160`, `req-<uuid>`, `session=4f2a`,
`user_id: 7`, `10.0.0.9`. Its regex names what stays (letters, the word before it) and never what varies, and looks at
no single digit, so that the line memo still works (DESIGN §3).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHAPES_MAX = 4_000
"""Shapes told apart; a log of free text has no end of them."""

_IP = rb"\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"
_UUID = rb"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_TOKEN = re.compile(_IP + rb"|[A-Za-z0-9_\-]*[0-9][A-Za-z0-9_\-]*")
_PIECE = re.compile(
    rb"(?P<uuid>" + _UUID + rb")|(?P<signed>(?<![A-Za-z0-9])-[0-9]+(?![A-Za-z]))|(?P<word>[A-Za-z0-9]+)|(?P<mark>[_\-])"
)
_RUN = re.compile(rb"[0-9]+|[A-Za-z]+")
_NAME = re.compile(rb"([A-Za-z_][A-Za-z_.\-]{0,30})(\s?[=:#]\s?[\"']?|[\s\[(/])$")
_VARIES = {
    "digits": r"\d+",
    "signed": r"-?\d+",
    "hex": "[0-9a-fA-F]+",
    "mixed": "[0-9A-Za-z]+",
    "uuid": _UUID.decode(),
    "ip": r"\d{1,3}(?:\.\d{1,3}){3}",
}
"""What a varying part may be; each of the first four is wider than those before it."""
_WIDTH = {kind: width for width, kind in enumerate(_VARIES)}
_ALONE = {"hex", "uuid", "ip"}
_HEX_MIN = 8  # a hex number without a name must be longer than words such as "added" or "face"
_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_READINGS_MAX = 20_000


class Part(NamedTuple):
    """A piece of an identifier: literal text, or a text that begins with `*` for what varies, of some kind.

    `end` is its end in the token.
    """

    text: str
    kind: str
    end: int


class Seen(NamedTuple):
    """How often identifiers of one shape were met.

    Attributes:
        regex: finds it in a message; group 1, or else all of it, is the value.
        lines: that hold it.
        repeated: of them, those whose value is on another line too.
        values: distinct ones.
        types: mean number of message types that a repeated value is on.
        sample: one value.
    """

    regex: str
    lines: int
    repeated: int
    values: int
    types: float
    sample: bytes


class _Shape:
    """One shape and the values met: how often each, on which types (as bits)."""

    def __init__(self, kinds: list[str]) -> None:
        self.kinds = kinds
        self.values: dict[bytes, list[int]] = {}
        self.lines = 0

    def widen(self, kinds: list[str]) -> None:
        """Let what varies be as wide as it was met."""
        self.kinds = [max(pair, key=_WIDTH.__getitem__) for pair in zip(self.kinds, kinds, strict=True)]

    def add(self, value: bytes, kind: int) -> None:
        """A line of type `kind` holds `value`."""
        self.lines += 1
        known = self.values.get(value)
        if known is None:
            self.values[value] = [1, 1 << (kind + 1)]
        else:
            known[0] += 1
            known[1] |= 1 << (kind + 1)


def parts(token: bytes) -> list[Part]:
    """What stays and what varies in a token of letters, digits, `_` and `-`, or in an IPv4 address."""
    if b"." in token:
        return [Part("*ip", "ip", len(token))]
    found: list[Part] = []
    for match in _PIECE.finditer(token):
        if match.lastgroup == "uuid":
            found.append(Part("*uuid", "uuid", match.end()))
        elif match.lastgroup == "signed":
            found.append(Part("*", "signed", match.end()))
        elif match.lastgroup == "mark":
            found.append(Part(match.group().decode(), "", match.end()))
        else:
            found += _word(match.group(), match.start())
    return found


def _word(word: bytes, start: int) -> Iterator[Part]:
    runs = list(_RUN.finditer(word))
    if len(runs) > 1 and len(word) >= 6 and re.fullmatch(rb"[0-9a-f]+|[0-9A-F]+", word):
        yield Part("*", "hex", start + len(word))
    elif len(runs) > 3:
        yield Part("*", "mixed", start + len(word))
    else:
        for run in runs:
            text = run.group()
            yield Part(*(("*", "digits") if text.isdigit() else (text.decode(), "")), start + run.end())


class _Reading(NamedTuple):
    """One way to read an identifier in a message: the word before it and its parts, what varies, where its value is."""

    form: tuple[str, ...]
    kinds: list[str]
    start: int
    end: int


def _readings(message: bytes) -> Iterator[_Reading]:
    """All ways to read the tokens of a message; they are the same for every message of its skeleton."""
    for match in _TOKEN.finditer(message):
        found, start = parts(match.group()), match.start()
        kinds = [part.kind for part in found if part.kind]
        name = _NAME.search(message[max(0, start - 40) : start])
        if any(not part.kind and part.text.isalpha() for part in found):
            yield _Reading(("", *(part.text for part in found)), kinds, start, match.end())
            yield from _stems(found, kinds, start)
        elif name:
            yield _Reading((name.group().decode(), *(part.text for part in found)), kinds, start, match.end())
        if len(kinds) > 1 or kinds[0] in _ALONE:
            yield from _core(found, start)


def _stems(found: list[Part], kinds: list[str], start: int) -> Iterator[_Reading]:
    """`task_1_2` of `task_1_2_m_3_0`: an identifier may hold that of what it belongs to."""
    taken = 0
    for i, part in enumerate(found):
        taken += bool(part.kind)
        if part.kind and taken < len(kinds):
            yield _Reading(("", *(p.text for p in found[: i + 1])), kinds[:taken], start, start + part.end)


def _core(found: list[Part], start: int) -> Iterator[_Reading]:
    """`1_2` of `task_1_2_m_3_0`: what is left without its name; uuid, hex and addresses alone."""
    first = next(i for i, part in enumerate(found) if part.kind)
    at = start + (found[first - 1].end if first else 0)
    one, *more = found[first : first + 3]
    if one.kind in _ALONE and (one.kind != "hex" or start + one.end - at >= _HEX_MIN):
        yield _Reading(("", one.text), [one.kind], at, start + one.end)
    elif len(more) == 2 and more[1].kind and not more[0].text.isalpha():
        yield _Reading(("", one.text, more[0].text, more[1].text), [one.kind, more[1].kind], at, start + more[1].end)


def _regex(form: tuple[str, ...], kinds: list[str]) -> str:
    name, *texts = form
    if not name and texts == ["*"] and kinds == ["hex"]:
        return rf"\b[0-9a-fA-F]{{{_HEX_MIN},}}"
    varying = iter(kinds)
    body = "".join(_VARIES[next(varying)] if text[0] == "*" else _escaped(text) for text in texts)
    starts_word = (name or texts[0])[0].isalnum() or (not name and texts[0][0] == "*" and kinds[0] != "signed")
    edge = r"\b" if starts_word else ""
    return f"{edge}{_context(name)}({body})" if name else edge + body


def _context(name: str) -> str:
    return "".join(r"\s" if letter.isspace() else _escaped(letter) for letter in name)


def _escaped(text: str) -> str:
    return re.escape(text).replace(r"\-", "-")


def identifiers(messages: Sequence[bytes], types: Sequence[int], *, most: int = 24) -> list[Seen]:
    """Shapes whose values repeat over several lines and several types, those on most lines first.

    Args:
        messages: in the order in which they were logged.
        types: of each message; -1 = none.
        most: shapes returned.
    """
    shapes: dict[tuple[str, ...], _Shape] = {}
    memo: dict[bytes, list[tuple[_Shape, int, int]]] = {}
    for message, kind in zip(messages, types, strict=True):
        skeleton = message.translate(_ZEROS)
        places = memo.get(skeleton)
        if places is None:
            places = _places(message, shapes)
            if len(memo) < _READINGS_MAX:
                memo[skeleton] = places
        for one, start, end in places:
            one.add(message[start:end], kind)
    found = [seen for form, one in shapes.items() if (seen := _judged(form, one, len(messages)))]
    best: dict[str, Seen] = {}
    for seen in sorted(found, key=lambda s: (-s.repeated, s.regex)):
        best.setdefault(seen.regex, seen)
    return list(best.values())[:most]


def _places(message: bytes, shapes: dict[tuple[str, ...], _Shape]) -> list[tuple[_Shape, int, int]]:
    """The first identifier of each shape in a message; `shapes` learns new ones and what varies in them."""
    places: dict[tuple[str, ...], tuple[_Shape, int, int]] = {}
    for reading in _readings(message):
        if reading.form not in places and (reading.form in shapes or len(shapes) < SHAPES_MAX):
            one = shapes.setdefault(reading.form, _Shape(reading.kinds))
            one.widen(reading.kinds)
            places[reading.form] = one, reading.start, reading.end
    return list(places.values())


def _judged(form: tuple[str, ...], one: _Shape, lines: int) -> Seen | None:
    again = [(count, types.bit_count()) for count, types in one.values.values() if count > 1]
    repeated = sum(count for count, _ in again)
    if len(one.values) < 3 or repeated < max(10, lines // 50) or repeated < one.lines // 4:
        return None
    types = sum(number for _, number in again) / len(again)
    if types < 1.2:
        return None
    return Seen(_regex(form, one.kinds), one.lines, repeated, len(one.values), types, next(iter(one.values)))
