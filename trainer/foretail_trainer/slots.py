"""Which part of a message is a value and which is a word that names the event.

A *slot* is a place of messages that agree in all else: one token, or what stands in quotes, in brackets or after
`key=`. Evidence from the form of what fills it, from what stands around it and from how many fill it is summed in bits;
above zero the slot is a variable and its messages are one type. Messages that vary in several value-like places at once
are compared by shape. No weight was fitted to a log.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from foretail_trainer.masks import BLANK, EMPTY, PUNCTUATION, VALUE
from foretail_trainer.words import HOLDERS, HUMPED, MARKED, STRUCTURED, form, is_word, without_common

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

Key = tuple[str, ...]
Spans = tuple[tuple[int, int], ...]

_PRIOR, _PER_DOUBLING = -2.25, 0.75
_VALUE_SEEN, _ASSIGNED, _HOLDER, _ENCLOSED, _KNOWN = 1.5, 1.0, 1.5, 0.75, 1.5
_FIRST, _NAMES = -2.0, -2.0
_CONTEXT = (-1.5, -0.5, 0.0, 0.15, 0.3)
_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">", '"': '"', "'": "'"}
_PART_TOKENS_MAX = 24
_FRAME_MIN, _GAP = 16, 8


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
    enclosed = _CLOSING.get(last) == after != ""
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


def _structured(fillers: Collection[Key]) -> bool:
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
        if token in _CLOSING:
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
    opening, closing = key[place], _CLOSING[key[place]]
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


@dataclass(slots=True)
class Template:
    """A key with VALUE at its variable places, and for each member key the token ranges its places stand for."""

    key: Key
    members: dict[Key, Spans] = field(default_factory=dict)


class Grouping:
    """Merges keys that differ only in variable places, until none is left to merge."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self.templates = {
            key: Template(key, {key: tuple((i, i + 1) for i in range(len(key)))}) for key in sorted(set(keys))
        }
        self.known: set[Key] = set()

    def run(self) -> list[Template]:
        """All templates. Deterministic: the order of the keys does not matter."""
        while self._slots() or self._shapes() or self._covered() or self._frames():
            pass
        return [self.templates[key] for key in sorted(self.templates)]

    def _replace(self, moves: dict[Key, tuple[Key, list[tuple[int, int]]]]) -> None:
        """Each template becomes another one in which each of the given ranges is one place."""
        for old, (new, ranges) in moves.items():
            template = self.templates.pop(old)
            target = self.templates.setdefault(new, Template(new))
            for member, spans in template.members.items():
                target.members[member] = narrowed(spans, ranges)

    def _slots(self) -> bool:
        """One round of single slots; whether anything merged."""
        slots: defaultdict[tuple[int, int], list[tuple[Key, int, int]]] = defaultdict(list)
        for key in self.templates:
            ahead, behind = _prefixes(key)
            for start, end in parts(key):
                slots[ahead[start], behind[end]].append((key, start, end))
        best: dict[Key, tuple[float, Key, list[tuple[int, int]]]] = {}
        for same in slots.values():
            if len(same) < 2:
                continue
            fillers = {key[start:end] for key, start, end in same}
            key, start, end = same[0]
            if (
                len(fillers) < 2
                or _structured(fillers)
                or (bits := evidence(key, start, end, fillers, self.known)) <= 0
            ):
                continue
            self.known |= fillers - {(VALUE,), (EMPTY,)}
            template = (*key[:start], VALUE, *key[end:])
            for key, start, end in same:
                if key not in best or best[key][0] < bits:
                    best[key] = (bits, template, [(start, end)])
        moves = {key: (template, ranges) for key, (_, template, ranges) in best.items() if key != template}
        self._replace(moves)
        return bool(moves)

    def _shapes(self) -> bool:
        """One round of messages that agree but for value-like tokens; whether anything merged."""
        groups: defaultdict[Key, list[Key]] = defaultdict(list)
        for key in self.templates:
            groups[tuple(_shape(key))].append(key)
        moves: dict[Key, tuple[Key, list[tuple[int, int]]]] = {}
        for shape, same in groups.items():
            places = [place for place, token in enumerate(shape) if token == VALUE]
            for group in self._alike(same, places):
                varying = [place for place in places if len({key[place] for key in group}) > 1]
                template = tuple(VALUE if place in varying else token for place, token in enumerate(group[0]))
                for key in group:
                    if key != template:
                        moves[key] = (template, [(place, place + 1) for place in varying])
        self._replace(moves)
        return bool(moves)

    def _alike(self, keys: list[Key], places: list[int]) -> Iterator[list[Key]]:
        """Groups of keys in which every place that varies is a variable."""
        if len(keys) < 2:
            return
        for place in places:
            fillers = {(key[place],) for key in keys}
            if len(fillers) > 1 and evidence(keys[0], place, place + 1, fillers, self.known) <= 0:
                by_token: defaultdict[str, list[Key]] = defaultdict(list)
                for key in keys:
                    by_token[key[place]].append(key)
                for group in by_token.values():
                    yield from self._alike(group, places)
                return
        yield keys

    def _covered(self) -> bool:
        """Templates that another one covers, with tokens it may take for values; whether anything merged."""
        wider: defaultdict[tuple[int, tuple[int, ...]], dict[Key, Key]] = defaultdict(dict)
        for key, template in self.templates.items():
            places = tuple(place for place, token in enumerate(key) if token == VALUE)
            if places and len(template.members) > 1:
                wider[len(key), places][tuple(t for t in key if t != VALUE)] = key
        moves: dict[Key, tuple[Key, list[tuple[int, int]]]] = {}
        for key in self.templates:
            for (length, places), rests in wider.items():
                if length != len(key) or key in moves:
                    continue
                taken = frozenset(places)
                target = rests.get(tuple(token for place, token in enumerate(key) if place not in taken))
                if target is None or target == key or target in moves:
                    continue
                if all(key[place] == VALUE or self._takes(target, place, key[place]) for place in places):
                    moves[key] = (target, [(place, place + 1) for place in places])
        self._replace(moves)
        return bool(moves)

    def _frames(self) -> bool:
        """One round of messages whose frequent words agree, however rare their other words are; whether any merged.

        A message's words are frequent down to the last gap of _GAP between their counts at their places.
        """
        groups: defaultdict[Key, list[Key]] = defaultdict(list)
        for key in self.templates:
            groups[tuple("" if is_place(token) else token for token in key)].append(key)
        moves: dict[Key, tuple[Key, list[tuple[int, int]]]] = {}
        for rest, same in groups.items():
            places = [place for place, token in enumerate(rest) if not token]
            if len(same) < _FRAME_MIN or len(places) < 3:
                continue
            held = Counter((place, key[place]) for key in same for place in places)
            frames: defaultdict[Key, list[Key]] = defaultdict(list)
            for key in same:
                frames[_frame(key, places, held)].append(key)
            for frame, members in frames.items():
                varying = [
                    place for place in places if frame[place] == VALUE and any(k[place] != VALUE for k in members)
                ]
                words = sum(is_word(frame[place]) for place in places)
                if len(members) < _FRAME_MIN or words < max(2, len(varying)):
                    continue
                if all(self._varies(members, place) for place in varying):
                    for key in members:
                        moves[key] = (frame, [(place, place + 1) for place in varying])
        moves = {key: move for key, move in moves.items() if key != move[0]}
        self._replace(moves)
        return bool(moves)

    def _varies(self, keys: Sequence[Key], place: int) -> bool:
        fillers = {(key[place],) for key in keys}
        return len(fillers) == 1 or evidence(keys[0], place, place + 1, fillers, self.known) > 0

    def _takes(self, target: Key, place: int, token: str) -> bool:
        if not is_place(token):
            return False
        if form(token) > 0 or (token,) in self.known:
            return True
        return any(
            spans[place][1] - spans[place][0] == 1
            and is_word(member[spans[place][0]])
            and form(member[spans[place][0]]) <= 0
            for member, spans in self.templates[target].members.items()
        )


def narrowed(spans: Spans, ranges: list[tuple[int, int]]) -> Spans:
    """`spans` with each range of places made one place."""
    out: list[tuple[int, int]] = []
    place = 0
    for start, end in ranges:
        out += spans[place:start]
        out.append((spans[start][0], spans[end - 1][1]))
        place = end
    return (*out, *spans[place:])


def _frame(key: Key, places: Sequence[int], held: Mapping[tuple[int, str], int]) -> Key:
    """The key with VALUE for its words that are rare beside the others."""
    counts = sorted((held[place, key[place]] for place in places), reverse=True)
    least = next((a for a, b in reversed(list(pairwise(counts))) if a >= _GAP * b), 0)
    rare = {place for place in places if held[place, key[place]] < least}
    return tuple(VALUE if place in rare else token for place, token in enumerate(key))


def _prefixes(key: Key) -> tuple[list[int], list[int]]:
    """Hashes of key[:i] and of key[i:], for each i."""
    ahead, behind = [0], [0]
    for token in key:
        ahead.append(hash((ahead[-1], token)))
    for token in reversed(key):
        behind.append(hash((behind[-1], token)))
    return ahead, behind[::-1]


def _shape(key: Key) -> Iterator[str]:
    """The key with VALUE for each token that looks like one."""
    for place, token in enumerate(key):
        before = key[place - 1] if place else ""
        held = before == "=" or (place + 1 < len(key) and _CLOSING.get(before) == key[place + 1])
        yield VALUE if is_place(token) and (form(token) >= STRUCTURED or held) else token


def neighbours(keys: Iterable[Key]) -> list[tuple[Key, Key]]:
    """Pairs of keys that differ in one word only: near-duplicates a person may want to merge."""
    slots: defaultdict[tuple[Key, Key], list[Key]] = defaultdict(list)
    for key in keys:
        for place, token in enumerate(key):
            if is_place(token) and len(key) > 1:
                slots[key[:place], key[place + 1 :]].append(key)
    return [(a, b) for same in slots.values() for a, b in pairwise(same)]
