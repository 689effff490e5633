"""Merging messages that differ in variable places only: slot by slot, then by shape, by cover and by frequent words."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from foretail_trainer.slots import CLOSING, Key, evidence, is_place, parts, structured
from foretail_trainer.tokens import EMPTY, VALUE
from foretail_trainer.words import STRUCTURED, form, is_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Spans = tuple[tuple[int, int], ...]

_FRAME_MIN, _GAP = 16, 8


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
            if len(fillers) < 2 or structured(fillers) or (bits := evidence(key, start, end, fillers, self.known)) <= 0:
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
        held = before == "=" or (place + 1 < len(key) and CLOSING.get(before) == key[place + 1])
        yield VALUE if is_place(token) and (form(token) >= STRUCTURED or held) else token


def neighbours(keys: Iterable[Key]) -> list[tuple[Key, Key]]:
    """Pairs of keys that differ in one word only: near-duplicates a person may want to merge."""
    slots: defaultdict[tuple[Key, Key], list[Key]] = defaultdict(list)
    for key in keys:
        for place, token in enumerate(key):
            if is_place(token) and len(key) > 1:
                slots[key[:place], key[place + 1 :]].append(key)
    return [(a, b) for same in slots.values() for a, b in pairwise(same)]
