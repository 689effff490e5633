"""The tree of a pattern: bytes sets, sequences, choices, repeats; the only door to CPython's regex parser.

Sets are 256-bit integers, bit b set = byte b matches; flags (`i`, `s`) are folded into them, so that every analysis
(digits, safety, required words) is arithmetic on masks and a tree can be written back as a regex without flags.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any, Literal

from foretail.errors import ConfigError

try:
    from re import _constants as _ops  # type: ignore[attr-defined]
    from re import _parser  # type: ignore[attr-defined]
except ImportError as error:  # a Python that hides its parser cannot lint, and unlinted patterns are not run
    raise ConfigError("this Python has no re._parser; run foretail on CPython 3.11 or newer") from error

ALL = (1 << 256) - 1
DIGITS = sum(1 << b for b in b"0123456789")
_CLASSES = {
    "DIGIT": DIGITS,
    "SPACE": sum(1 << b for b in b" \t\n\r\f\v"),
    "WORD": DIGITS | sum(1 << b for b in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"),
}
WORD = _CLASSES["WORD"]
REPEAT_MAX = 2000
"""Largest count in `{m,n}`: the engine unrolls nothing, but a bigger one says the author wanted `+`."""


@dataclass(frozen=True, slots=True)
class Set:
    """One byte out of `mask`."""

    mask: int


@dataclass(frozen=True, slots=True)
class Sequence:
    """Items one after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The first branch that leads to a match."""

    branches: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`item` least..most times; most None = without end."""

    least: int
    most: int | None
    mode: Literal["greedy", "lazy", "possessive"]
    item: Node


@dataclass(frozen=True, slots=True)
class Group:
    """A capture."""

    number: int
    name: str | None
    item: Node


@dataclass(frozen=True, slots=True)
class Anchor:
    """A zero-width test, as regex text."""

    text: str


@dataclass(frozen=True, slots=True)
class Look:
    """Look-ahead or look-behind."""

    opening: str
    item: Node


@dataclass(frozen=True, slots=True)
class Atomic:
    """No way back into `item`."""

    item: Node


@dataclass(frozen=True, slots=True)
class Conditional:
    """`yes` if group `number` took part, else `no`."""

    number: int
    yes: Node
    no: Node


Node = Set | Sequence | Choice | Repeat | Group | Anchor | Look | Atomic | Conditional

_ANCHORS = {
    "AT_BEGINNING": "^",
    "AT_BEGINNING_LINE": "(?m:^)",
    "AT_BEGINNING_STRING": r"\A",
    "AT_BOUNDARY": r"\b",
    "AT_NON_BOUNDARY": r"\B",
    "AT_END": "$",
    "AT_END_LINE": "(?m:$)",
    "AT_END_STRING": r"\Z",
}
_MODES: dict[str, Literal["greedy", "lazy", "possessive"]] = {
    "MAX_REPEAT": "greedy",
    "MIN_REPEAT": "lazy",
    "POSSESSIVE_REPEAT": "possessive",
}
_BRACES = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?!\d*,?\d*\}|,)|\{(?=,?\})|\(\?[a-zA-Z-]*[axuLU]", re.DOTALL)


PATTERN_BYTES_MAX = 16_384


def parse(regex: str) -> Node:
    """The tree of `regex` over bytes; ConfigError (without the pattern's name) for what `re` cannot parse.

    `regex` understands more than `re` (fuzzy matching, recursion, set arithmetic, properties): all of it is refused,
    so that both engines read a pattern alike.
    """
    if len(regex) > PATTERN_BYTES_MAX:
        raise ConfigError(f"it is {len(regex)} bytes long, the limit is {PATTERN_BYTES_MAX}; split it")
    if not regex.isascii():
        raise ConfigError(r"it holds non-ASCII text; write other bytes as \xNN")
    for found in _BRACES.finditer(regex):
        if found[0].startswith("{"):
            raise ConfigError(f"a literal brace at {found.start()} is not escaped; write \\{{")
        if found[0].startswith("(?"):
            raise ConfigError(f"the flags at {found.start()} are not among i, s and m; leave them out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            tree = _parser.parse(regex.encode("ascii"), 0)
    except (re.error, Warning, RecursionError, OverflowError, ValueError) as error:
        raise ConfigError(f"it is not a regex both engines read alike ({error}); simplify it") from error
    names = {number: name for name, number in tree.state.groupdict.items()}
    try:
        return _sequence(tree, tree.state.flags, names)
    except RecursionError as error:
        raise ConfigError("it is nested too deeply; simplify it") from error


def _sequence(tree: Any, flags: int, names: dict[int, str]) -> Node:
    items = [_node(str(op), value, flags, names) for op, value in tree]
    return items[0] if len(items) == 1 else Sequence(tuple(items))


def _node(op: str, value: Any, flags: int, names: dict[int, str]) -> Node:  # noqa: PLR0911, PLR0912 - by operator
    match op, value:
        case "LITERAL", int(byte):
            return Set(_fold(1 << byte, flags))
        case "NOT_LITERAL", int(byte):
            return Set(ALL & ~_fold(1 << byte, flags))
        case "ANY", _:
            return Set(ALL if flags & re.DOTALL else ALL & ~(1 << 10))
        case "IN", list(parts):
            return Set(_class(parts, flags))
        case "BRANCH", (_, list(branches)):
            return Choice(tuple(_sequence(branch, flags, names) for branch in branches))
        case "SUBPATTERN", (number, add, remove, inner):
            item = _sequence(inner, (flags | add) & ~remove, names)
            return item if number is None else Group(number, names.get(number), item)
        case (("MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT"), (int(least), most, inner)):
            end = None if most is _ops.MAXREPEAT else int(most)
            if max(least, end or 0) > REPEAT_MAX:
                raise ConfigError(f"a part is counted {max(least, end or 0)} times, the limit is {REPEAT_MAX}; use +")
            return Repeat(least, end, _MODES[op], _sequence(inner, flags, names))
        case "AT", where:
            name = str(where)
            line = flags & re.MULTILINE and name in {"AT_BEGINNING", "AT_END"}
            return Anchor(_ANCHORS[name + "_LINE" if line else name])
        case (("ASSERT" | "ASSERT_NOT"), (int(direction), inner)):
            opening = ("(?<" if direction < 0 else "(?") + ("=" if op == "ASSERT" else "!")
            return Look(opening, _sequence(inner, flags, names))
        case "ATOMIC_GROUP", inner:
            return Atomic(_sequence(inner, flags, names))
        case "GROUPREF_EXISTS", (int(number), yes, no):
            empty = Sequence(())
            return Conditional(
                number, _sequence(yes, flags, names), _sequence(no, flags, names) if no is not None else empty
            )
        case "FAILURE", _:
            return Set(0)
        case (("GROUPREF" | "GROUPREF_IGNORE"), _):
            raise ConfigError("it has a back-reference, which no limit makes fast; leave it out")
        case _:
            raise ConfigError(f"it uses {op}, which is not supported; leave it out")


def _class(parts: list[tuple[object, object]], flags: int) -> int:
    mask, negate = 0, False
    for op, value in parts:
        match str(op), value:
            case "NEGATE", _:
                negate = True
            case "LITERAL", int(byte):
                mask |= 1 << byte
            case "RANGE", (int(low), int(high)):
                mask |= (1 << (high + 1)) - (1 << low)
            case "CATEGORY", category:
                name = str(category).removeprefix("CATEGORY_")
                mask |= ALL & ~_CLASSES[name[4:]] if name.startswith("NOT_") else _CLASSES[name]
    mask = _fold(mask, flags)
    return ALL & ~mask if negate else mask


def _fold(mask: int, flags: int) -> int:
    if not flags & re.IGNORECASE:
        return mask
    upper = mask >> 65 & 0x3FFFFFF
    lower = mask >> 97 & 0x3FFFFFF
    return mask | (upper | lower) << 65 | (upper | lower) << 97


def write(node: Node) -> str:  # noqa: PLR0911 - one branch per node
    """`node` as the text of a regex without flags that means the same."""
    match node:
        case Set(mask):
            return _write_set(mask)
        case Sequence(items):
            return "".join(write(item) for item in items)
        case Choice(branches):
            return "(?:" + "|".join(write(branch) for branch in branches) + ")"
        case Repeat(least, most, mode, item):
            sign = {"greedy": "", "lazy": "?", "possessive": "+"}[mode]
            return f"(?:{write(item)}){{{least},{'' if most is None else most}}}{sign}"
        case Group(_, name, item):
            return f"(?P<{name}>{write(item)})" if name else f"({write(item)})"
        case Anchor(text):
            return text
        case Look(opening, item):
            return f"{opening}{write(item)})"
        case Atomic(item):
            return f"(?>{write(item)})"
        case Conditional(number, yes, no):
            return f"(?({number}){write(yes)}|{write(no)})"


def _write_set(mask: int) -> str:
    if mask == 0:
        return "(?!)"
    if mask & (mask - 1) == 0:
        return rf"\x{mask.bit_length() - 1:02x}"
    ranges, byte = [], 0
    while mask >> byte:
        if mask >> byte & 1:
            start = byte
            while mask >> (byte + 1) & 1:
                byte += 1
            ranges.append(rf"\x{start:02x}-\x{byte:02x}")
        byte += 1
    return "[" + "".join(ranges) + "]"


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly below."""
    match node:
        case Sequence(items):
            return items
        case Choice(branches):
            return branches
        case Conditional(_, yes, no):
            return (yes, no)
        case Group(_, _, item) | Atomic(item) | Repeat(_, _, _, item) | Look(_, item):
            return (item,)
        case _:
            return ()


def consumed(node: Node) -> int:
    """The set of all bytes `node` can consume."""
    if isinstance(node, Set):
        return node.mask
    mask = 0
    for part in () if isinstance(node, Look) else children(node):
        mask |= consumed(part)
    return mask
