"""What a memo by skeleton and an index by words may assume about a pattern (DESIGN §3)."""

from __future__ import annotations

from foretail.syntax import (
    ALL,
    DIGITS,
    WORD,
    Anchor,
    Atomic,
    Choice,
    Conditional,
    Group,
    Look,
    Node,
    Repeat,
    Sequence,
    Set,
    children,
    consumed,
    parse,
    write,
)


def digit_blind(regex: str | Node) -> bool:
    """Whether exchanging digits for other digits never changes a match or a capture (DESIGN §3).

    True when every set takes all ten digits or none; back-references are refused by the parser.
    """
    return _blind(parse(regex) if isinstance(regex, str) else regex)


def _blind(node: Node) -> bool:
    match node:
        case Set(mask):
            return mask & DIGITS in (0, DIGITS)
        case Anchor():
            return True
        case _:
            return all(_blind(part) for part in children(node))


def widened(regex: str | Node) -> str | None:
    """A regex that matches a line's skeleton (digits as 0) whenever `regex` matches the line; None if none is known.

    Every set with a digit takes all digits. Atomic and possessive parts, look-around and conditionals over some digits
    are not monotone, hence None: such a pattern is always in play.
    """
    node = _widen(parse(regex) if isinstance(regex, str) else regex)
    return None if node is None else write(node)


def _widen(node: Node) -> Node | None:  # noqa: PLR0911 - one branch per node
    if isinstance(node, Set):
        return Set(node.mask | DIGITS) if node.mask & DIGITS else node
    if _blind(node):
        return node
    if isinstance(node, Look | Atomic | Conditional) or (isinstance(node, Repeat) and node.mode == "possessive"):
        return None
    parts = [_widen(part) for part in children(node)]
    if any(part is None for part in parts):
        return None
    wide = tuple(part for part in parts if part is not None)
    match node:
        case Sequence():
            return Sequence(wide)
        case Choice():
            return Choice(wide)
        case Group(number, name, _):
            return Group(number, name, wide[0])
        case Repeat(least, most, mode, _):
            return Repeat(least, most, mode, wide[0])
        case _:
            return None


def required_words(node: Node) -> frozenset[bytes]:
    """Words (runs of ASCII letters, digits as 0, `_`) that stand whole in the skeleton of every line `node` matches.

    Sound, not complete: choices and optional parts give none. Bytes of words: syntax.WORD.
    """
    words: set[bytes] = set()
    run: bytearray | None = bytearray()  # None: the run began in the middle of a word
    for item in _words_of(node):
        if item is None:
            run = None
            continue
        single = item & (item - 1) == 0 and item != 0
        if item & WORD == 0:
            if run:
                words.add(bytes(run))
            run = bytearray()
        elif run is not None and (single or item == DIGITS or item & ~DIGITS == 0):
            run.append(0x30 if item & DIGITS else item.bit_length() - 1)
        else:
            run = None
    if run:
        words.add(bytes(run))
    return frozenset(words)


def _words_of(node: Node) -> list[int | None]:
    """Masks of the bytes in turn, None for a stretch that is not known."""
    match node:
        case Set(mask):
            return [mask]
        case Sequence(items):
            return [mask for item in items for mask in _words_of(item)]
        case Group(_, _, item) | Atomic(item):
            return _words_of(item)
        case Anchor() | Look():
            return []
        case Repeat(least, most, _, item):
            inner = _words_of(item)
            if least == most and least * len(inner) <= 64:
                return inner * least
            if least > 0 and consumed(item) & WORD == 0:
                return [ALL & ~WORD]
            return [None]
        case _:
            return [None]
