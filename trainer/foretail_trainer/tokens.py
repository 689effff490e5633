"""Tokens of a masked message, and lists written once.

Marks stand outside latin-1: VALUE for a masked part, EMPTY for a place where a value may stand and none does, STATUS
for the class of an HTTP status. `0` stands for digits that belong to a word (`ssh2`, `node12`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VALUE, EMPTY = "\ue000", "\ue001"
STATUS = "\ue011\ue012\ue013\ue014\ue015"
"""Marks of HTTP status codes 1xx to 5xx after a request: their class is part of the event (RFC 9110, 15)."""
BLANK = " "
PUNCTUATION = frozenset("=:,;()[]{}\"'<>|")
_OPEN = {"(": ")", "[": "]", "{": "}", '"': '"', "'": "'"}
_SEPARATORS = frozenset((BLANK, ",", ";", "|"))
_ITEM_TOKENS_MAX = 24
_WORD_MAX = 200
"""A longer run without blanks is no word: it is a value."""
_TOKENS_MAX = 256
"""A message's event shows in this many tokens; what follows is one value."""

_TOKEN = re.compile(r"\s+|\.{2,}|(?:[^\s=:,;()\[\]{}\"'<>|.]|\.(?!\.))+|.", re.ASCII | re.DOTALL)
_TAIL = re.compile(r"(.*?[^.!?])([.!?]+)", re.DOTALL)
MARKS = re.compile(f"[{VALUE}0{STATUS}]")


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


@dataclass(frozen=True, slots=True)
class Plan:
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


def is_blank(token: str) -> bool:
    """Whether a token is ASCII white space, the only kind a regex over bytes knows."""
    return not token.strip(" \t\n\r\f\v")


def plan(skeleton: str) -> Plan:
    """The plan of a masked message."""
    tokens = _tokens(skeleton)
    cut = _TOKENS_MAX if len(tokens) > _TOKENS_MAX else 0
    key = tuple(map(_kind, tokens[:cut] if cut else tokens))
    if cut:
        key = (*key, VALUE)
    spans = _lists_once(key)
    return Plan(
        shapes=tuple("" if token == EMPTY else token for token in tokens),
        counts=tuple(len(MARKS.findall(token)) for token in tokens),
        key=key,
        spans=tuple(spans) if len(spans) < len(key) else None,
        cut=cut,
    )


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
