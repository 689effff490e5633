"""Distinct masked messages with what stood at their places, in statistics of bounded size."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foretail_trainer.tokens import VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretail_trainer.tokens import Row

EXAMPLES_MAX = 3
Key = tuple[str, ...]


class Seen:
    """What stood at one place: bytes, blank-separated parts, the first text and whether all were the same."""

    __slots__ = ("chars", "first", "least", "most", "same")

    def __init__(self) -> None:
        self.chars = 0
        self.least = 1 << 30
        self.most = 0
        self.first: str | None = None
        self.same = True

    def add(self, text: str) -> None:
        """Counts one text; a text seen first is remembered."""
        if text == self.first:
            return
        if self.first is None:
            self.first = text
        else:
            self.same = False
        for char in set(text):
            self.chars |= 1 << ord(char)
        words = len(text.encode("latin-1").split())
        self.least = min(self.least, words)
        self.most = max(self.most, words)

    def join(self, other: Seen) -> None:
        """Adds all that `other` saw."""
        if other.first is None:
            return
        self.same = self.same and other.same and self.first in (None, other.first)
        self.first = other.first if self.first is None else self.first
        self.chars |= other.chars
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)


def joined(seens: Sequence[Seen]) -> Seen:
    """All that these saw."""
    whole = Seen()
    for seen in seens:
        whole.join(seen)
    return whole


@dataclass(slots=True)
class Place:
    """One token place: its whole text, its marks in order (unless it is one mark), the rest of a list after it."""

    text: Seen = field(default_factory=Seen)
    marks: list[Seen] = field(default_factory=list)
    tail: Seen = field(default_factory=Seen)


@dataclass(slots=True)
class Skeleton:
    """A masked message: `key` as masks.Row has it, lines and error-level lines counted, (message, line) as examples.

    `old` counts lines by what an older set of patterns made of them.
    """

    key: Key
    count: int = 0
    errors: int = 0
    places: list[Place] = field(default_factory=list)
    examples: list[tuple[bytes, bytes]] = field(default_factory=list)
    old: Counter[int] = field(default_factory=Counter)

    def add(self, row: Row) -> None:
        """Takes in what stands at the places of a message with this key."""
        if not self.places:
            self.places = [Place(marks=[Seen() for _ in marks]) for marks in row.marks]
        for token, place, text, marks, tail in zip(self.key, self.places, row.texts, row.marks, row.tails, strict=True):
            if text != place.text.first:
                place.text.add(text)
                if token != VALUE:
                    for seen, mark in zip(place.marks, marks, strict=True):
                        seen.add(mark)
            if tail:
                place.tail.add(tail)

    def join(self, other: Skeleton) -> None:
        """Takes in what `other`, of the same key, saw at its places."""
        for place, more in zip(self.places, other.places, strict=True):
            place.text.join(more.text)
            place.tail.join(more.tail)
            for seen, seen_more in zip(place.marks, more.marks, strict=True):
                seen.join(seen_more)

    def tally(self, other: Skeleton) -> None:
        """Adds the counts and examples of `other`."""
        self.count += other.count
        self.errors += other.errors
        self.old += other.old
        self.examples = [*self.examples, *other.examples][:EXAMPLES_MAX]
