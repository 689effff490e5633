"""Patterns tried in order, under one time budget a line; an index over literal words; the only door to `regex`."""

from __future__ import annotations

from collections import Counter
from time import thread_time
from typing import TYPE_CHECKING, TypeAlias

import regex

from foretail.errors import ConfigError
from foretail.lint import checked, digit_blind, required_words, widened
from foretail.syntax import WORD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Match: TypeAlias = "regex.Match[bytes]"
Spans = tuple[tuple[int, int], ...]
"""Start and end of each capture, (-1, -1) for one that took no part."""

SKELETON = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))
"""For bytes.translate: digits to 0 (DESIGN §3)."""
_TO_WORDS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte if WORD >> byte & 1 else 0x20 for byte in range(256))
_QUICK_STEPS = 200_000
_QUICK_BYTES = 1024


class Budget:
    """CPU seconds for all patterns on one line, as `regex` counts them; the clock starts with the first long call."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = 0.0

    def restart(self) -> Budget:
        """For the next line."""
        self._end = 0.0
        return self

    def left(self) -> float:
        """Seconds for the next call; TimeoutError if there are none."""
        now = thread_time()
        if self._end == 0.0:
            self._end = now + self.seconds
        if now >= self._end:
            raise TimeoutError
        return self._end - now


class Rule:
    """A linted, compiled regex; calls that could take long carry the time limit (it costs 2 us a call).

    Short texts cannot: lint bounds the steps by length ** degree.
    """

    __slots__ = ("_search", "blind", "full", "groups", "quick_bytes", "regex", "words")

    def __init__(self, text: str, name: str = "") -> None:
        node, degree = checked(text, name)
        try:
            compiled = regex.compile(text.encode("ascii"))
        except (regex.error, RecursionError) as error:
            raise ConfigError(f"pattern {name or text} does not compile ({error}); simplify it") from error
        self.regex = text
        self.blind = digit_blind(node)
        self.words = required_words(node)
        self.quick_bytes = min(_QUICK_BYTES, int(_QUICK_STEPS ** (1 / degree)))
        self.groups: dict[str, int] = dict(compiled.groupindex)
        self.full = compiled.fullmatch
        self._search = compiled.search

    def fullmatch(self, text: bytes, budget: Budget) -> Spans | None:
        """Spans of the whole match and of each group; TimeoutError when `budget` is spent."""
        quick = len(text) <= self.quick_bytes
        found = self.full(text) if quick else self.full(text, timeout=budget.left())
        return None if found is None else found.regs

    def search(self, text: bytes, budget: Budget) -> Spans | None:
        """As fullmatch, for the first match anywhere."""
        quick = len(text) * 4 <= self.quick_bytes  # a search begins anew at every byte
        found = self._search(text) if quick else self._search(text, timeout=budget.left())
        return None if found is None else found.regs


Found = tuple[int, Spans, tuple[int, ...], bool]
"""The type of a message, or of all lines of a skeleton: place of the pattern by rank (-1 = none); spans of its
captures; again: for a skeleton, the digit-aware patterns each line must try before that; open: the last of them matched
the line at hand, and nobody has looked further. A plain tuple: naming the parts costs 5 % of a miss."""

NOTHING: Found = (-1, (), (), False)


class Trial:
    """Patterns in order of rank; position in `regexes` = place."""

    def __init__(self, regexes: Sequence[str], names: Sequence[str] = ()) -> None:
        self.rules = [Rule(text, names[place] if names else "") for place, text in enumerate(regexes)]
        self._wide = [None if rule.blind else _wide(rule.regex) for rule in self.rules]
        self._by_word, self._loose, self._second = _index([rule.words for rule in self.rules])
        self._known = frozenset(self._by_word)

    def first(self, message: bytes, budget: Budget) -> Found:
        """The first pattern that matches `message`; TimeoutError when `budget` is spent."""
        for place in self._candidates(message):
            spans = self.rules[place].fullmatch(message, budget)
            if spans is not None:
                return (place, spans[1:], (), False)
        return NOTHING

    def survey(self, message: bytes, budget: Budget) -> tuple[Found, Found]:
        """The type of `message`, and what holds for all lines with its skeleton.

        A digit-blind pattern says the same for all of them; a digit-aware one whose widened form does not match the
        skeleton matches none.
        """
        again: list[int] = []
        rules, size = self.rules, len(message)
        for place in self._candidates(message):
            rule = rules[place]
            quick = size <= rule.quick_bytes  # Rule.fullmatch, without the call
            match = rule.full(message) if quick else rule.full(message, timeout=budget.left())
            if match is not None:
                found = (place, match.regs[1:], (), False)
                if not rule.blind:
                    return found, (-1, (), (*again, place), True)
                return found, (place, found[1], tuple(again), False) if again else found
            if not rule.blind:
                wide = self._wide[place]
                if wide is None or wide.fullmatch(message.translate(SKELETON), budget) is not None:
                    again.append(place)
        return NOTHING, (-1, (), tuple(again), False) if again else NOTHING

    def settle(self, found: Found, message: bytes, budget: Budget) -> Found | None:
        """The type of one line whose skeleton was surveyed; None if it must be surveyed further."""
        for place in found[2]:
            spans = self.rules[place].fullmatch(message, budget)
            if spans is not None:
                return (place, spans[1:], (), False)
        return None if found[3] else found

    def _candidates(self, message: bytes) -> list[int]:
        """Patterns that may match, by rank: their two rarest required words are in the skeleton, or they have none."""
        words = message.translate(_TO_WORDS).split()
        places: list[int] = []
        by_word = self._by_word
        for hit in self._known.intersection(words):
            places += by_word[hit]
        if len(places) > 1:
            have, second = set(words), self._second
            places = [place for place in places if second[place] in have]
            places.sort()
        if self._loose:
            return sorted(places + self._loose) if places else self._loose
        return places


def _wide(text: str) -> Rule | None:
    wide = widened(text)
    if wide is None:
        return None
    try:
        return Rule(wide)
    except ConfigError:  # wider sets can overlap where the pattern's own do not: then it is simply always in play
        return None


def _index(words: Sequence[frozenset[bytes]]) -> tuple[dict[bytes, list[int]], list[int], list[bytes]]:
    """Each pattern under its rarest required word; those without one apart; and of each the second rarest (or only)."""
    counts = Counter(word for required in words for word in required)
    by_word: dict[bytes, list[int]] = {}
    loose: list[int] = []
    second: list[bytes] = []
    for place, required in enumerate(words):
        rare = sorted(required, key=lambda word: (counts[word], -len(word), word))[:2]
        second.append(rare[-1] if rare else b"")
        if rare:
            by_word.setdefault(rare[0], []).append(place)
        else:
            loose.append(place)
    return by_word, loose, second


def header(text: str, seconds: float) -> Callable[[bytes], dict[str, bytes | None] | None]:
    """A linted header as a function from line to groups; None = no match, or `seconds` were not enough."""
    rule, budget = Rule(text, "header"), Budget(seconds)

    def groups(line: bytes) -> dict[str, bytes | None] | None:
        try:
            spans = rule.fullmatch(line, budget.restart())
        except TimeoutError:
            return None
        if spans is None:
            return None
        return {
            name: line[spans[number][0] : spans[number][1]] if spans[number][0] >= 0 else None
            for name, number in rule.groups.items()
        }

    return groups
