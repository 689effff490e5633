"""Which token of a message is a value and which is a word that names the event.

A *slot* is one token position of messages that agree in all other tokens. Evidence from the form of the tokens that fill
it, from what stands before it and from how many fill it is summed as log-odds (bits); above zero the slot is a variable and
its messages are one type. Nothing here knows a system, and no weight was fitted to a log.
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from foretail_trainer.masks import BLANK, EMPTY, PUNCTUATION, VALUE

Key = tuple[str, ...]

HOLDERS = frozenset(
    "user username login uid account host hostname node server client peer domain address addr ip device dev interface"
    " name id file directory dir path url process program service container session thread".split()
)
"""Nouns after which logs name an individual."""

_PRIOR = -1.9
_BITS_PER_DOUBLING = 0.5
_VALUE_SEEN, _ASSIGNED, _HOLDER, _KNOWN = 1.5, 1.0, 1.5, 1.5
_FIRST, _ALONE = -1.5, -1.0
_MARKED, _STRUCTURED, _CAMEL = 2.0, 1.5, 0.7

_STRUCTURE = re.compile(r"[a-z0-9][.@/\\$][A-Za-z0-9]|[a-z]_[a-z]", re.ASCII)
_HUMP = re.compile(r"[a-z][A-Z]", re.ASCII)
_WORDS_MAX = 1_000_000


def form(token: str) -> float:
    """Bits for `token` being a value, from its characters: marks and digits, inner punctuation, camel case."""
    if VALUE in token or any(char.isdigit() for char in token):
        return _MARKED
    if _STRUCTURE.search(token) and token != token.upper():
        return _STRUCTURED
    return _CAMEL if _HUMP.search(token) else 0.0


def is_place(token: str) -> bool:
    """Whether a token can be a slot: not white space, not punctuation."""
    return token in (VALUE, EMPTY) or (token not in PUNCTUATION and any(map(str.isalnum, token)) or VALUE in token)


def evidence(key: Key, place: int, fillers: Collection[str], known: Collection[str]) -> float:
    """Bits for the slot `place` of `key` being a variable, given all its fillers; `known` are values of other slots."""
    words = [filler for filler in fillers if filler not in (VALUE, EMPTY)]
    if not words:
        return math.inf
    before = [token for token in key[:place] if token != BLANK]
    bits = _PRIOR + _BITS_PER_DOUBLING * math.log2(len(fillers))
    bits += sum(max(form(word), _KNOWN if word in known else 0.0) for word in words) / len(words)
    if VALUE in fillers:
        bits += _VALUE_SEEN
    if before and before[-1] == "=":
        bits += _ASSIGNED
    if before and before[-1].lower() in HOLDERS:
        bits += _HOLDER
    if all(token in PUNCTUATION for token in before):
        bits += _FIRST
    if not any(is_place(token) for i, token in enumerate(key) if i != place):
        bits += _ALONE
    return bits


class Grouping:
    """Merges keys that differ only in variable slots, until none is left to merge."""

    def __init__(self, keys: Iterable[Key], seed: int = 0) -> None:
        self._seed = random.Random(seed)  # noqa: S311 - hashing, not cryptography
        self._hashes: dict[tuple[int, str], int] = {}
        self.template: dict[Key, Key] = {key: key for key in keys}
        self.known: set[str] = set()

    def run(self) -> dict[Key, Key]:
        """Template of each key; templates hold VALUE at variable slots."""
        while True:
            merged = self._round(set(self.template.values()))
            if not merged:
                return self.template
            self.template = {key: merged.get(template, template) for key, template in self.template.items()}

    def _hash(self, place: int, token: str) -> int:
        code = self._hashes.get((place, token))
        if code is None:
            code = self._hashes[place, token] = self._seed.getrandbits(61)
        return code

    def _round(self, live: set[Key]) -> dict[Key, Key]:
        slots: defaultdict[tuple[int, int, int], list[Key]] = defaultdict(list)
        for key in sorted(live):
            codes = [self._hash(place, token) for place, token in enumerate(key)]
            whole = sum(codes)
            for place, token in enumerate(key):
                if is_place(token):
                    slots[len(key), place, whole - codes[place]].append(key)
        best: dict[Key, tuple[float, Key]] = {}
        accepted: set[str] = set()
        for (_, place, _), keys in slots.items():
            if len(keys) < 2:
                continue
            fillers = {key[place] for key in keys}
            bits = evidence(keys[0], place, fillers, self.known)
            if bits <= 0:
                continue
            accepted |= fillers
            template = (*keys[0][:place], VALUE, *keys[0][place + 1 :])
            for key in keys:
                if key != template and (key not in best or best[key][0] < bits):
                    best[key] = (bits, template)
        grown = {word for word in accepted - {VALUE, EMPTY} if word not in self.known}
        if not best:
            return {}
        self.known |= grown
        return {key: template for key, (_, template) in best.items()}


def grouped(keys: Mapping[Key, int], seed: int = 0) -> dict[Key, Key]:
    """Template of each distinct key. Deterministic: the order of `keys` does not matter."""
    return Grouping(keys, seed).run()


def neighbours(keys: Iterable[Key]) -> list[tuple[Key, Key]]:
    """Pairs of keys that differ in one word only: near-duplicates a person may want to merge."""
    slots: defaultdict[tuple[Key, Key], list[Key]] = defaultdict(list)
    for key in keys:
        for place, token in enumerate(key):
            if is_place(token):
                slots[key[:place], key[place + 1 :]].append(key)
    pairs = [
        (a, b)
        for (before, after), same in slots.items()
        if before or after
        for a, b in zip(same, same[1:], strict=False)
    ]
    return [(a, b) for a, b in pairs if a != b]
