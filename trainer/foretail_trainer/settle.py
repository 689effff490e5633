"""From templates to an order of patterns in which the agent's matcher gives every message its own type."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from foretail.errors import ConfigError
from foretail.patterns import Matcher, MatchLimits
from foretail.schema import Format, KeyRule, Pattern
from foretail_trainer.templates import Drawn, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretail_trainer.grouping import Template
    from foretail_trainer.places import Key, Skeleton

PATIENT = MatchLimits(timeout_s=10.0)
"""Mining must know what a pattern says; how long the agent waits for it is the agent's limit."""
_ROUNDS_MAX = 12
_STEP = 1e-3


@dataclass(slots=True)
class Type:
    """A type in the making: template, skeletons, drawn pattern, place in the order of trial (higher first).

    `absorbed`: skeletons of other templates whose messages this type's pattern describes as well.
    """

    template: Template
    members: list[Skeleton]
    drawn: Drawn
    order: float
    narrow: bool = False
    absorbed: list[Skeleton] = field(default_factory=list)

    @classmethod
    def of(cls, template: Template, members: list[Skeleton]) -> Type:
        """The type of these skeletons, tried after those with more literal letters."""
        drawn = draw(template, members)
        return cls(template, members, drawn, float(drawn.literals))

    @property
    def key(self) -> Key:
        """The key of its template."""
        return self.template.key

    @property
    def count(self) -> int:
        """Training lines of its skeletons."""
        return sum(member.count for member in self.members + self.absorbed)


def trial(types: Sequence[Type]) -> list[Pattern]:
    """Patterns of types in order of trial, not yet numbered."""
    return [
        Pattern(cluster=0, number=rank, type_id="", template=one.drawn.template, regex=one.drawn.regex, rank=rank)
        for rank, one in enumerate(types)
    ]


class Settling:
    """Makes the agent's matcher give every message the type it was mined into.

    A message that an earlier pattern takes moves its type before that one; if each would take messages of the other,
    both are narrowed to the bytes seen; if that does not part them, the messages belong to the type that takes them.

    `homes` holds for each of `messages` the key of its type, None if it has none; it is updated.
    """

    def __init__(self, types: dict[Key, Type], messages: Sequence[bytes], homes: list[Key | None]) -> None:
        self.types = types
        self.homes = homes
        self._messages = messages
        self._tried: set[tuple[Key, Key]] = set()

    def run(self) -> tuple[list[Type], Matcher]:
        """The types in order of trial and the matcher that agreed.

        ConfigError if a type's own pattern misses a line or no order is found.
        """
        for _ in range(_ROUNDS_MAX):
            order = self._ordered()
            matcher = Matcher(trial(order), Format(), KeyRule(), PATIENT)
            index = matcher.match(self._messages).index.tolist()
            taken: defaultdict[tuple[Key, Key], list[int]] = defaultdict(list)
            for place, (want, got) in enumerate(zip(self.homes, index, strict=True)):
                if want is None:
                    continue
                if got < 0:
                    shown = self.types[want].drawn.template[:200]
                    raise ConfigError(
                        f"The pattern of {shown!r} misses one of its own lines; mask it with --types FILE."
                    )
                if order[got].key != want:
                    taken[want, order[got].key].append(place)
            if not taken:
                return order, matcher
            for (want, got), places in sorted(taken.items()):
                if want in self.types and got in self.types:
                    self._part(want, got, places)
        raise ConfigError(
            "Some messages fit several types and no order of trial parts them; edit them with --types FILE."
        )

    def _ordered(self) -> list[Type]:
        return sorted(
            self.types.values(), key=lambda one: (-one.order, one.drawn.captures, one.drawn.template, one.key)
        )

    def _part(self, want: Key, got: Key, places: list[int]) -> None:
        """One step against `got` taking messages of `want`."""
        wanting, taking = self.types[want], self.types[got]
        if wanting.drawn.regex == taking.drawn.regex:
            self._move(want, got, places)
        elif (want, got) not in self._tried and (got, want) not in self._tried:
            self._tried.add((want, got))
            wanting.order = max(wanting.order, taking.order + _STEP)
        elif not (wanting.narrow and taking.narrow):
            for one in (wanting, taking):
                one.narrow = True
                one.drawn = draw(one.template, one.members, narrow=True)
        else:
            self._move(want, got, places)

    def _move(self, want: Key, got: Key, places: list[int]) -> None:
        """These messages of `want` are `got`'s; a type left without messages is gone."""
        if len(places) == self.homes.count(want):
            gone = self.types.pop(want)
            self.types[got].absorbed += gone.members + gone.absorbed
        for place in places:
            self.homes[place] = got
