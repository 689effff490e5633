"""How much a token looks like a value rather than a word that names an event: bits, from its characters alone.

Nothing here knows a system. Closed-class words, participles and upper-case constants name events and states; marks,
digits, inner punctuation, booleans and nulls are values.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from foretail_trainer.tokens import EMPTY, VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


HOLDERS = _words(
    "user username login uid account host hostname node server client peer domain address addr ip device dev interface"
    " name id file filename directory dir path url program service container job queue topic key tag image volume"
    " package module plugin app application database table role group member leader owner"
)
"""Nouns after which logs name an individual."""

LITERALS = _words("true false null none nil nan undefined yes no on off n/a unknown")
"""Values that are words."""

_CLOSED = _words(
    "a active add again all already am an and any are as at back be because been began begin begun being both busy"
    " but by can cannot close could create critical debug delete did disable do does done down each east else enable"
    " end error every exit fail failure fatal for from get had has have having head here idle if in inactive info"
    " insert into is it its left less may might more most must new no none nor normal north not of off offline ok"
    " old on online only open or other out over post put read ready receive received remove right run same select"
    " send sent set shall should since so some south start still stop success than that the then there these this"
    " those to under until up update via warning was were west when while will with within without would write x y z"
)
"""Words that are never the name of an individual, and the states and actions logs speak of."""

_STRUCTURE = re.compile(r"[A-Za-z0-9][.@/\\$:][A-Za-z0-9]|[a-z]_[a-z]|[a-z]-[a-z]", re.ASCII)
_HUMP = re.compile(r"[a-z][A-Z]", re.ASCII)
_PARTICIPLE = re.compile(r"[a-z]{2,}(?:ed|ing|en)", re.ASCII)
_PIECE = re.compile(r"[^._/:@\\-]*[._/:@\\-]")

MARKED, STRUCTURED, HUMPED, PLAIN = 2.0, 1.25, 0.5, 0.0
CONSTANT, EVENT = -0.75, -1.5


@lru_cache(maxsize=100_000)
def form(token: str) -> float:
    """Bits for `token` being a value."""
    lower = token.lower()
    if VALUE in token or token == EMPTY or lower in LITERALS or any(char.isdigit() for char in token):
        return MARKED
    if token == token.upper() and len(token) > 1:
        return CONSTANT
    if lower in _CLOSED or _PARTICIPLE.fullmatch(lower):
        return EVENT
    if _STRUCTURE.search(token):
        return STRUCTURED
    return HUMPED if _HUMP.search(token) else PLAIN


def is_word(token: str) -> bool:
    """Whether a token is letters that name something, not a mark and not punctuation."""
    return VALUE not in token and token != EMPTY and any(map(str.isalpha, token))


def without_common(tokens: Sequence[str]) -> list[str]:
    """The tokens without the leading pieces (`a.b.`, `a/b/`) all of them share: what differs is what counts."""
    rest = list(tokens)
    while len(rest) > 1 and (found := _PIECE.match(rest[0])):
        head = found.group()
        if not all(token.startswith(head) and len(token) > len(head) for token in rest):
            break
        rest = [token[len(head) :] for token in rest]
    return rest
