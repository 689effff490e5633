r"""What a pattern may be, so that no line can stall the host; what its digits and words say stands in `digits`.

Safe vocabulary (always accepted): literals; `\S+`, `[^ ]+`, `\d+`, `[0-9a-f]{8}` and the like, each followed by a byte
it cannot match, or by a literal and another part (up to TOKEN_DEGREE_MAX parts that could trade bytes inside one token,
as in `\S+:\S+`); up to TEXT_DEGREE_MAX parts that can run over blanks (`.*?`, `.+`), with a literal between two of
them; optional groups and alternatives of all these; repeats of groups whose body holds a delimiter that nothing else in
the body matches, as `(?:\S+ )*` or `(?:\d{1,3}\.){3}`. Lazy or greedy makes no difference to safety.

Refused: back-references; a repeat in a repeat without such a delimiter, `(\w+)*`; neighbours that share bytes with
nothing fixed between them, `\d+\w+`; more than the stated number of parts that could trade bytes; anything the two
engines would read differently (syntax.parse). What is left is polynomial of a small degree, and the line-length limit
and the time limit of the matcher bound the rest.
"""

from __future__ import annotations

import re

from foretail.digits import digit_blind, required_words, widened
from foretail.errors import ConfigError
from foretail.syntax import (
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
    consumed,
    parse,
)

__all__ = ["check_pattern", "checked", "degree", "digit_blind", "required_words", "widened"]

TEXT_DEGREE_MAX = 3
"""Parts that may run over blanks and whose borders depend on each other."""
TOKEN_DEGREE_MAX = 4
"""Parts inside one token whose borders depend on each other."""
LARGE = 8
"""A repeat whose count varies by this much or more is counted as if it had no end."""

MONOTONE = re.compile(r"(.{1,8}?)\1{299,}", re.DOTALL)
"""A literal that repeats itself this often: `regex` looks for it in quadratic time and heeds no time limit."""

_BLANK = 1 << 0x20


def check_pattern(regex: str, name: str = "") -> int:
    """The polynomial degree of the time `regex` can take in the line's length; ConfigError if it is not safe.

    The error names the pattern (`name`, else its text) and the reason, and says what to do (issue 3, safety).
    """
    return checked(regex, name)[1]


def checked(regex: str, name: str = "") -> tuple[Node, int]:
    """The tree of `regex` and its degree; otherwise as check_pattern."""
    try:
        node = parse(regex)
        _refuse_monotone(regex)
        return node, degree(node)
    except ConfigError as error:
        shown = regex if len(regex) <= 120 else regex[:117] + "..."
        label = f"pattern {name} ({shown})" if name else f"pattern {shown}"
        raise ConfigError(f"{label} is refused: {error}") from error


def _refuse_monotone(regex: str) -> None:
    if found := MONOTONE.search(regex):
        raise ConfigError(f"it repeats {found[1]!r} {len(found[0]) // len(found[1])} times; use fewer or a class")


def degree(node: Node) -> int:
    """As check_pattern, of a tree."""
    walk = _Walk()
    walk.run(node, {})
    return max(walk.degree, 1)


_Open = dict[int, tuple[int, bool]]
"""Repeats whose end is not settled: set -> (length of the chain of repeats that trade bytes, touching: nothing fixed
came since)."""


class _Walk:
    """Follows the repeats that are still open through a tree; degree is the longest chain seen."""

    def __init__(self) -> None:
        self.degree = 1

    def run(self, node: Node, state: _Open) -> _Open:  # noqa: PLR0911 - one branch per node
        match node:
            case Set(mask):
                return self._fixed(mask, state)
            case Sequence(items):
                for item in items:
                    state = self.run(item, state)
                return state
            case Choice(branches):
                return _join([self.run(branch, state) for branch in branches])
            case Conditional(_, yes, no):
                return _join([self.run(yes, state), self.run(no, state)])
            case Group(_, _, item):
                return self.run(item, state)
            case Atomic(item):
                inside = self.run(item, state)
                return {mask: inside[mask] for mask in state if mask in inside}
            case Look(_, item):
                self.run(item, {})
                return state
            case Repeat():
                return self._repeat(node, state)
            case Anchor():
                return state

    @staticmethod
    def _fixed(mask: int, state: _Open) -> _Open:
        return {other: (chain, False) for other, (chain, _) in state.items() if other & mask}

    def _repeat(self, node: Repeat, state: _Open) -> _Open:
        if node.mode == "possessive":  # gives nothing back, hence trades nothing with what follows
            return self.run(Atomic(Repeat(node.least, node.most, "greedy", node.item)), state)
        large = node.most is None or node.most - node.least >= LARGE
        if isinstance(node.item, Set):
            if large:
                return self._large(node.item.mask, node.least > 0, state)
            after = state
            for _ in range(min(node.least, 1)):
                after = self._fixed(node.item.mask, after)
            return after if node.least else _join([state, self._fixed(node.item.mask, state)])
        many = node.most is None or node.most >= LARGE
        delimiter = _delimiter(node.item) if many else 0
        # a second round shows how the end of the body meets its beginning
        once = self.run(node.item, state)
        result = [once] if node.least else [state, once]
        rounds = 2 if many else min(node.most or 0, LARGE)
        for number in range(1, rounds):
            once = self.run(node.item, once)
            result = [once] if number < node.least else [*result, once]
        if large:  # what follows can trade whole turns with it, hence only if it matches the delimiter
            return _join([self._large(delimiter, node.least > 0, state), *result])
        return _join(result)

    def _large(self, mask: int, some: bool, state: _Open) -> _Open:
        meeting = [(chain, touching, other) for other, (chain, touching) in state.items() if other & mask]
        if any(touching for _, touching, _ in meeting):
            raise ConfigError("two repeats that match the same bytes touch; put fixed text between them or join them")
        chain = 1 + max((chain for chain, _, _ in meeting), default=0)
        over_text = mask & _BLANK and all(other & _BLANK for _, _, other in meeting)
        most = TEXT_DEGREE_MAX if over_text else TOKEN_DEGREE_MAX
        if chain > most:
            raise ConfigError(
                f"{chain} repeats in a row can trade bytes, the limit is {most}; use fewer or narrower ones"
            )
        self.degree = max(self.degree, chain)
        kept = {other: value for other, value in state.items() if other & mask or not some}
        kept[mask] = (max(chain, kept.get(mask, (0, False))[0]), True)
        return kept


def _join(states: list[_Open]) -> _Open:
    joined: _Open = {}
    for state in states:
        for mask, (chain, touching) in state.items():
            before = joined.get(mask, (0, False))
            joined[mask] = (max(chain, before[0]), touching or before[1])
    return joined


def _delimiter(body: Node) -> int:
    """The set that ends or begins each turn of a large repeat; ConfigError if turns could be cut in different ways."""
    if _nullable(body):
        raise ConfigError("a repeated group can be empty; let it hold at least one byte")
    if not _varies(body) or _prefix_free(body):
        return consumed(body)
    items = _flat(body)
    for place, item in enumerate(items):
        if isinstance(item, Set) and item.mask:
            rest = 0
            for other in items[:place] + items[place + 1 :]:
                rest |= consumed(other)
            if not item.mask & rest:
                return item.mask
    raise ConfigError(
        "a repeat holds a repeat or choice without a delimiter of its own;"
        " end each turn with a byte the rest cannot match"
    )


def _prefix_free(body: Node) -> bool:
    """Whether `body` is a choice of fixed texts or possessive runs whose first bytes differ: read in one way only."""
    if not isinstance(body, Choice):
        return False
    seen = 0
    for branch in body.branches:
        run = isinstance(branch, Repeat) and branch.mode == "possessive" and branch.least > 0
        first = branch.item if isinstance(branch, Repeat) and run else next(iter(_flat(branch)), None)
        if not isinstance(first, Set) or first.mask & seen or (not run and _varies(branch)):
            return False
        seen |= first.mask
    return True


def _flat(node: Node) -> list[Node]:
    match node:
        case Sequence(items):
            return [part for item in items for part in _flat(item)]
        case Group(_, _, item) | Atomic(item):
            return _flat(item)
        case _:
            return [node]


def _nullable(node: Node) -> bool:
    match node:
        case Set():
            return False
        case Sequence(items):
            return all(_nullable(item) for item in items)
        case Choice(branches):
            return any(_nullable(branch) for branch in branches)
        case Conditional(_, yes, no):
            return _nullable(yes) or _nullable(no)
        case Group(_, _, item) | Atomic(item):
            return _nullable(item)
        case Repeat(least, _, _, item):
            return least == 0 or _nullable(item)
        case _:
            return True


def _varies(node: Node) -> bool:
    """Whether it can match in more than one way from one place; a choice of single bytes is a Set by then."""
    match node:
        case Sequence(items):
            return any(_varies(item) for item in items)
        case Choice() | Conditional():
            return True
        case Group(_, _, item) | Atomic(item):
            return _varies(item)
        case Repeat(least, most, _, item):
            return least != most or _varies(item)
        case _:
            return False
