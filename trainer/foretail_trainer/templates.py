r"""From skeletons that are one type: the template people read and the regex the agent matches.

The regex is digit-blind (a literal digit is `\d`), polynomial of small degree (`foretail.lint`), and takes more values
than were seen: a variable is a run without blanks that ends at the literal after it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from foretail_trainer.parts import ANY, Part, safe, settled
from foretail_trainer.places import Key, Place, Seen, Skeleton, joined
from foretail_trainer.tokens import BLANK, EMPTY, STATUS, VALUE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretail_trainer.grouping import Template

_UNIT = re.compile(r"[-+<]?\s?[-+]?[\d.,]+(\s*)([A-Za-z%\u00b5]+)")
_HEAD = re.compile(r"[a-z][a-z0-9.+-]*://|/(?=\d+(?:\.\d+){3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A template and its regex; `literals` counts the literal letters (its specificity)."""

    template: str
    regex: str
    literals: int
    captures: int


def draw(template: Template, members: Sequence[Skeleton], *, narrow: bool = False) -> Drawn:
    """The template and regex of `template`, drawn from its member skeletons.

    `narrow` restricts variable parts to the bytes seen in training, for patterns that would take others' lines.
    """
    parts: list[Part] = []
    spans = [template.members[member.key] for member in members]
    for i, token in enumerate(template.key):
        places = [_place(member, *ranges[i]) for member, ranges in zip(members, spans, strict=True)]
        fillers = {member.key[slice(*ranges[i])] for member, ranges in zip(members, spans, strict=True)}
        parts += _parts(token, fillers, places)
    parts = settled(parts)
    literals = sum(sum(map(str.isalpha, part.literal)) for part in parts if part.seen is None)
    strict = narrow or literals < 3
    regex = safe(parts, strict)
    shown = "".join(part.shown for part in parts).strip()
    return Drawn(shown, regex, literals, sum(part.seen is not None for part in parts))


def _place(member: Skeleton, start: int, end: int) -> Place:
    """What stood at a range of tokens, as one place."""
    if end - start == 1:
        return member.places[start]
    whole = Place()
    tokens = [_with_tail(place.text, place.tail) for place in member.places[start:end]]
    for seen in tokens:
        whole.text.join(seen)
    blanks = sum(token == BLANK for token in member.key[start:end])
    whole.text.least = whole.text.most = 1 + blanks
    whole.text.most += sum(max(0, seen.most - 1) for seen in tokens)
    whole.text.first = "".join(seen.first or "" for seen in tokens)
    whole.text.same = all(seen.same for seen in tokens)
    return whole


def _parts(token: str, fillers: set[Key], places: Sequence[Place]) -> list[Part]:
    tail = joined([place.tail for place in places])
    if token == BLANK:
        seen = joined([place.text for place in places])
        return [Part(literal=BLANK, shown=BLANK, blank=not (seen.same and seen.first == BLANK))]
    if len(fillers) > 1 or token in (EMPTY, VALUE):
        seen = joined([place.text for place in places])
        seen = _with_tail(seen, tail)
        shown = _shown(places) if fillers == {(VALUE,)} and tail.chars == 0 else ANY
        if fillers == {(EMPTY,)}:
            shown = ""
        return [Part(seen=seen, optional=(EMPTY,) in fillers or seen.least == 0, shown=shown)]
    parts: list[Part] = []
    marks = iter([joined(column) for column in zip(*(place.marks for place in places), strict=True)])
    for piece in re.findall(f"[{VALUE}0{STATUS}]|[^{VALUE}0{STATUS}]+", token):
        if piece == VALUE:
            parts.append(Part(seen=next(marks), shown=ANY))
        elif piece in STATUS:
            number = STATUS.index(piece) + 1
            parts.append(Part(seen=next(marks), shown=f"{number}{ANY}", regex=rf"({number}\d\d)"))
        elif piece == "0":
            seen = next(marks)
            text = seen.first or "0"
            parts.append(Part(literal=text, shown=text) if seen.same else Part(seen=seen, shown=ANY))
        else:
            parts.append(Part(literal=piece, shown=piece))
    if tail.chars:
        last = parts[-1]
        if last.seen is not None:
            last.seen = _with_tail(last.seen, tail)
        else:
            parts.append(Part(seen=tail, rest=True))
    return parts


def _with_tail(seen: Seen, tail: Seen) -> Seen:
    if not tail.chars:
        return seen
    whole = Seen()
    whole.join(seen)
    whole.chars |= tail.chars
    whole.same = False
    whole.most = 1 << 20
    return whole


def _shown(places: Sequence[Place]) -> str:
    """`<*>` with the unit (`<*> KB`) or scheme (`hdfs://<*>`) that all values share; for people, not for the regex."""
    texts = [place.text.first or "" for place in places]
    units = {found.groups() if (found := _UNIT.fullmatch(text)) else None for text in texts}
    heads = {found.group() if (found := _HEAD.match(text)) else "" for text in texts}
    unit = units.pop() if len(units) == 1 else None
    head = heads.pop() if len(heads) == 1 else ""
    return head + ANY + ("".join(unit) if unit else "")
