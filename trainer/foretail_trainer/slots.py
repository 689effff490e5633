"""Which part of a message is a value and which is a word that names the event.

A *slot* is a place of messages that agree in all else: one token, or what stands in quotes, in brackets or after
`key=`. Evidence from the form of what fills it, from what stands around it and from how many fill it is summed in bits;
above zero the slot is a variable. No weight was fitted to a log.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from foretail_trainer.tokens import BLANK, EMPTY, PUNCTUATION, VALUE
from foretail_trainer.words import HOLDERS, HUMPED, MARKED, form, is_word, without_common

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

Key = tuple[str, ...]

_PRIOR, _PER_DOUBLING = -2.25, 0.75
_VALUE_SEEN, _ASSIGNED, _HOLDER, _ENCLOSED, _KNOWN = 1.5, 1.0, 1.5, 0.75, 1.5
_FIRST, _NAMES = -2.0, -2.0
_CONTEXT = (-1.5, -0.5, 0.0, 0.15, 0.3)
CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">", '"': '"', "'": "'"}
_PART_TOKENS_MAX = 24


def is_place(token: str) -> bool:
    """Whether a token can be a slot: not white space, not punctuation."""
    return token == EMPTY or VALUE in token or (token not in PUNCTUATION and any(map(str.isalnum, token)))


def evidence(key: Key, start: int, end: int, fillers: Collection[Key], known: Collection[Key] = ()) -> float:
    """Bits for key[start:end] being a variable, given all that fills it; `known` are values of other slots."""
    plain = [filler for filler in fillers if filler not in ((VALUE,), (EMPTY,))]
    if not plain:
        return math.inf
    before = [token for token in key[:start] if token != BLANK]
    after = next((token for token in key[end:] if token != BLANK), "")
    forms = _forms(plain, known)
    bits = _PRIOR + _PER_DOUBLING * math.log2(len(fillers)) + forms
    if (VALUE,) in fillers:
        bits += _VALUE_SEEN
    last = before[-1] if before else ""
    if last == "=":
        bits += _ASSIGNED
    elif last.lower() in HOLDERS:
        bits += _HOLDER
    if key[end : end + 1] == ("=",):
        bits += _NAMES
    enclosed = CLOSING.get(last) == after != ""
    if enclosed:
        bits += _ENCLOSED
    elif all(token in PUNCTUATION for token in before):
        bits += _FIRST * (1 - max(0.0, min(forms, MARKED)) / MARKED)
    words = sum(is_word(token) for token in (*key[:start], *key[end:]))
    return bits + _CONTEXT[min(words, len(_CONTEXT) - 1)]


def _forms(fillers: Sequence[Key], known: Collection[Key]) -> float:
    """Mean form of the fillers; one of several tokens counts as its most value-like one, or else as its mean word."""
    single = [filler[0] for filler in fillers if len(filler) == 1]
    rest = without_common(single) if len(single) == len(fillers) else single
    bits = [form(token) for token in rest]
    if rest != single:  # the last names in one name space
        bits = [bit if bit < 0 else max(bit, HUMPED) for bit in bits]
    for filler in fillers:
        if len(filler) > 1:
            forms = [form(token) for token in filler if is_place(token)] or [0.0]
            bits.append(max(forms) if max(forms) > 0 else sum(forms) / len(forms))
    held = sum(filler in known for filler in fillers)
    return sum(bits) / len(bits) + _KNOWN * held / len(fillers)


def structured(fillers: Collection[Key]) -> bool:
    """Whether fillers of several tokens say more than one value does.

    They do when they share a word at the same place (each place is a slot of its own), and when they are numbers and
    punctuation alone (the punctuation is the event's).
    """
    sizes = {len(filler) for filler in fillers}
    if sizes == {1}:
        return False
    if not any(is_word(token) for filler in fillers for token in filler):
        return True
    columns = [set(column) for column in zip(*fillers, strict=True)] if len(sizes) == 1 else []
    return any(len(column) == 1 and any(map(str.isalpha, next(iter(column)))) for column in columns)


def parts(key: Key) -> Iterator[tuple[int, int]]:
    """Half-open ranges that can be one slot: tokens, what quotes and brackets hold, what follows `=`."""
    for place, token in enumerate(key):
        if is_place(token):
            yield place, place + 1
        if token in CLOSING:
            start, end = place + 1, _closing(key, place)
            start += key[start : start + 1] == (BLANK,)
            end -= key[end - 1 : end] == (BLANK,)
            if end > start + 1:
                yield start, end
        elif token == "=" and place + 2 < len(key) and key[place + 1] != BLANK:  # noqa: S105 - a token of text
            end = _value_end(key, place + 1)
            if end > place + 2:
                yield place + 1, end
            if key[end : end + 1] == (BLANK,) and "=" not in key[place + 1 :]:  # `command=a b c` at the end
                yield place + 1, len(key)


def _closing(key: Key, place: int) -> int:
    opening, closing = key[place], CLOSING[key[place]]
    depth = 0
    for i in range(place + 1, min(len(key), place + 2 + _PART_TOKENS_MAX)):
        if key[i] == closing:
            if depth == 0:
                return i
            depth -= 1
        elif key[i] == opening:
            depth += 1
    return 0


def _value_end(key: Key, start: int) -> int:
    """Where the value after `=` ends: before a blank or separator outside brackets."""
    depth = 0
    for i in range(start, min(len(key), start + _PART_TOKENS_MAX)):
        token = key[i]
        if token in "([{":  # noqa: S105 - a token of text
            depth += 1
        elif token in ")]}":  # noqa: S105 - a token of text
            depth -= 1
            if depth < 0:
                return i
        elif depth == 0 and token in (BLANK, ",", ";", "=", '"', "'"):
            return i
    return len(key) if len(key) - start <= _PART_TOKENS_MAX else 0
