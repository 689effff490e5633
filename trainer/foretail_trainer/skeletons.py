"""Distinct masked messages of a stream with what stood at their variable places: lines go, statistics stay."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretail_trainer.masks import Masks, blinded
from foretail_trainer.places import EXAMPLES_MAX, Key, Place, Skeleton

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIGITS_TO_ZERO = bytes.maketrans(b"123456789", b"000000000")
MEMO_BYTES_MAX = 256 << 20
SKELETONS_MAX = 100_000
_ENTRY_BYTES = 250
_KEPT = 4
"""Messages of each skeleton that stay when the memo is full."""
_LOOKS_MAX = 4
"""Messages of one digit-blind text that are looked at for digits that vary."""
_ALIKE_MIN = 32
"""Texts that differ in long ids only, such as a UUID a line, that are kept apart; later ones count with the first."""
_LONG_ID = re.compile(
    rb"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=[a-fA-F]*0)[0-9a-fA-F]{8,})(?![0-9A-Za-z])"
)
_HEX = sum(1 << code for code in b"0123456789abcdefABCDEF")


@dataclass(slots=True)
class Known:
    """A message with digits as 0: its skeleton, its old type, its lines and error-level lines."""

    item: int
    old: int
    looks: int = 0
    alike: int = 0
    count: int = 0
    errors: int = 0
    settled: int = 0
    settled_errors: int = 0


def _widen_ids(places: Sequence[Place]) -> None:
    """Lets places where a long id was seen take any hex digits."""
    for place in places:
        for seen in (place.text, *place.marks):
            if seen.first is not None and _LONG_ID.search(seen.first.encode("latin-1").translate(DIGITS_TO_ZERO)):
                seen.chars |= _HEX
                seen.same = False


class Skeletons:
    """The distinct skeletons of a stream of messages, in order of first sight.

    `memo` maps a message with every digit as 0 to what is known of it; its keys stand for all lines seen, because
    patterns are digit-blind. At MEMO_BYTES_MAX it keeps a few messages of each skeleton (`forgotten`). Skeletons are
    bounded by SKELETONS_MAX; lines beyond are counted in `dropped`.
    """

    def __init__(self, masks: Masks, old: Callable[[bytes], int] | None = None) -> None:
        self.masks = masks
        self.items: list[Skeleton] = []
        self.forgotten = False
        self.dropped = 0
        self.lines = 0
        self._old = old
        self._memo: dict[bytes, Known] = {}
        self._memo_bytes = 0
        self._alike: dict[bytes, Known] = {}
        self._coarse = b""
        self._index: dict[Key, int] = {}
        self._folded: dict[Key, tuple[Skeleton, set[int]]] = {}

    def add(self, messages: Sequence[bytes], lines: Sequence[bytes], errors: Sequence[bool] | None = None) -> None:
        """Counts a batch: `messages` without headers, `lines` as read, `errors` marks error-level lines."""
        self.lines += len(messages)
        blinds = list(map(blinded, messages))
        places = range(len(blinds))
        first = dict(zip(reversed(blinds), reversed(places), strict=True))
        last = dict(zip(blinds, places, strict=True))
        for blind, count in Counter(blinds).items():
            known = self._memo.get(blind) or self._like(blind)
            if known is None:
                place = first[blind]
                known = self._new(messages[place], blind, lines[place])
                if known is None:
                    self.dropped += count
                    continue
            if known.looks < _LOOKS_MAX and (known.count or first[blind] != last[blind]):
                known.looks += 1
                self._look(known.item, messages[last[blind]])
            known.count += count
        if errors is not None and any(errors):
            for blind, count in Counter(b for b, error in zip(blinds, errors, strict=True) if error).items():
                known = self._memo.get(blind) or self._like(blind)
                if known is not None:
                    known.errors += count

    def _like(self, blind: bytes) -> Known | None:
        """What is known of messages that differ from `blind` in long ids only, once enough of them were looked at."""
        self._coarse = _LONG_ID.sub(b"\0", blind)
        if len(self._coarse) == len(blind):
            return None
        known = self._alike.get(self._coarse)
        return known if known is not None and known.alike >= _ALIKE_MIN else None

    def _look(self, item: int, message: bytes) -> None:
        row = self.masks.row(message.decode("latin-1"))
        if row.key == self.items[item].key:
            self.items[item].add(row)
            if row.once is not None:
                self._folded[row.once.key][0].add(row.once)

    def _new(self, message: bytes, blind: bytes, line: bytes) -> Known | None:
        row = self.masks.row(message.decode("latin-1"))
        index = self._index.get(row.key)
        if index is None:
            if len(self.items) >= SKELETONS_MAX:
                return None
            index = self._index[row.key] = len(self.items)
            self.items.append(Skeleton(row.key))
        item = self.items[index]
        item.add(row)
        if len(item.examples) < EXAMPLES_MAX:
            item.examples.append((message, line))
        if row.once is not None:
            folded = self._folded.setdefault(row.once.key, (Skeleton(row.once.key), set()))
            folded[0].add(row.once)
            folded[1].add(index)
        old = -1 if self._old is None else self._old(message)
        known = Known(index, old)
        self._memo_bytes += len(blind) + _ENTRY_BYTES
        if self._memo_bytes > MEMO_BYTES_MAX:
            self._forget()
        self._memo[blind] = known
        if len(self._coarse) < len(blind):
            leader = self._alike.setdefault(self._coarse, known)
            leader.alike += 1
            if leader.alike == _ALIKE_MIN:
                _widen_ids(item.places)
                if row.once is not None:
                    _widen_ids(self._folded[row.once.key][0].places)
        return known

    def _forget(self) -> None:
        """Empties the memo but for a few messages of each skeleton; their counts stay in the skeletons."""
        self._settle()
        self.forgotten = True
        kept: Counter[int] = Counter()
        memo: dict[bytes, Known] = {}
        for blind, known in self._memo.items():
            kept[known.item] += 1
            if kept[known.item] <= _KEPT:
                memo[blind] = known
        self._memo = memo
        self._alike.clear()
        self._memo_bytes = sum(len(blind) + _ENTRY_BYTES for blind in memo)

    def messages(self) -> list[bytes]:
        """The messages (digits as 0) the memo holds."""
        return list(self._memo)

    def known(self) -> list[Known]:
        """What is known of each of the messages, in the same order."""
        return list(self._memo.values())

    def forgotten_counts(self) -> list[Skeleton]:
        """For each of `items`, what was counted of it that the memo no longer holds."""
        self._settle()
        rests = [Skeleton(item.key, item.count, item.errors, old=Counter(item.old)) for item in self.items]
        for known in self._memo.values():
            rest = rests[known.item]
            rest.count -= known.count
            rest.errors -= known.errors
            rest.old[known.old] -= known.count
        return rests

    def folded(self) -> tuple[list[Skeleton], list[int]]:
        """The skeletons with lists of varying length written once, and for each of `items` its place among them.

        A list whose length never varies stays as it is: the message has that many parts.
        """
        self._settle()
        fold: dict[int, Key] = {}
        for key, (_, indices) in self._folded.items():
            single = self._index.get(key)
            if len(indices) > 1 or single is not None:
                for index in indices | ({single} if single is not None else set()):
                    fold[index] = key
        out: list[Skeleton] = []
        place: list[int] = []
        places: dict[Key, int] = {}
        for index, item in enumerate(self.items):
            key = fold.get(index, item.key)
            if key not in places:
                places[key] = len(out)
                out.append(Skeleton(key, places=(self._folded[key][0] if index in fold else item).places))
            whole = out[places[key]]
            if index in fold and self._index.get(key) == index:
                whole.join(item)
            whole.tally(item)
            place.append(places[key])
        return out, place

    def _settle(self) -> None:
        """Moves the counts of the memo to the skeletons."""
        for known in self._memo.values():
            item = self.items[known.item]
            item.count += known.count - known.settled
            item.old[known.old] += known.count - known.settled
            item.errors += known.errors - known.settled_errors
            known.settled, known.settled_errors = known.count, known.errors
