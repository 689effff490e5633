r"""From skeletons that are one type: the template people read and the regex the agent matches.

The regex is digit-blind (a literal digit is `\d`), polynomial of small degree (`foretail.lint`), and takes more values
than were seen: a variable is a run without blanks that ends at the literal after it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from foretail.errors import ConfigError
from foretail.lint import check_pattern
from foretail_trainer.places import Key, Place, Seen, Skeleton
from foretail_trainer.tokens import BLANK, EMPTY, STATUS, VALUE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foretail_trainer.grouping import Template

ANY = "<*>"
_DIGITS = "0123456789"
_WIDE_WORDS = 6
_SHORT_BYTES = 4_000
_UNIT = re.compile(r"[-+<]?\s?[-+]?[\d.,]+(\s*)([A-Za-z%\u00b5]+)")
_HEAD = re.compile(r"[a-z][a-z0-9.+-]*://|/(?=\d+(?:\.\d+){3})", re.ASCII)
_NUMERIC = sum(1 << ord(char) for char in "0123456789.,:+-/")
_HEX = _NUMERIC | sum(1 << ord(char) for char in "abcdefABCDEFxX")
_SPECIAL = frozenset("\\.^$*+?{}[]()|-#&~")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A template and its regex; `literals` counts the literal letters (its specificity)."""

    template: str
    regex: str
    literals: int
    captures: int


@dataclass(slots=True)
class _Part:
    """Literal text, or a variable part: what it saw, and whether it may be empty."""

    literal: str = ""
    seen: Seen | None = None
    optional: bool = False
    shown: str = ""
    blank: bool = False
    rest: bool = False
    regex: str = ""


def draw(template: Template, members: Sequence[Skeleton], *, narrow: bool = False) -> Drawn:
    """The template and regex of `template`, drawn from its member skeletons.

    `narrow` restricts variable parts to the bytes seen in training, for patterns that would take others' lines.
    """
    parts: list[_Part] = []
    spans = [template.members[member.key] for member in members]
    for i, token in enumerate(template.key):
        places = [_place(member, *ranges[i]) for member, ranges in zip(members, spans, strict=True)]
        fillers = {member.key[slice(*ranges[i])] for member, ranges in zip(members, spans, strict=True)}
        parts += _parts(token, fillers, places)
    parts = _settled(parts)
    literals = sum(sum(map(str.isalpha, part.literal)) for part in parts if part.seen is None)
    strict = narrow or literals < 3
    regex = _safe(parts, strict)
    shown = "".join(part.shown for part in parts).strip()
    return Drawn(shown, regex, literals, sum(part.seen is not None for part in parts))


def _safe(parts: list[_Part], strict: bool) -> str:
    """The regex of `parts`; where it could take long, variables that could trade bytes become one."""
    attempts = (
        lambda p: p,
        _wide_as_one,
        _tokens_as_one,
        lambda p: _wide_as_one(_tokens_as_one(p)),
        _all_as_one,
        _short,
        lambda p: _all_as_one(_short(p)),
    )
    for attempt in attempts:
        fewer = attempt(parts)
        regex = "".join(_regex(fewer, i, strict) for i in range(len(fewer)))
        try:
            check_pattern(regex)
        except ConfigError:
            continue
        return regex
    raise ConfigError(
        f"No safe pattern for {''.join(part.shown for part in parts)[:200]!r}; mask it with --types FILE."
    )


def _wide_as_one(parts: list[_Part]) -> list[_Part]:
    """All from the first to the last variable that holds blanks as one."""
    return _between(parts, lambda part: part.rest or (part.seen is not None and part.seen.most > 1))


def _all_as_one(parts: list[_Part]) -> list[_Part]:
    """All from the first to the last variable as one."""
    return _between(parts, lambda part: part.seen is not None)


def _short(parts: list[_Part]) -> list[_Part]:
    """The first _SHORT_BYTES or so, and the rest as one variable."""
    out: list[_Part] = []
    left = _SHORT_BYTES
    for part in parts:
        if left <= 0:
            break
        out.append(replace(part, literal=part.literal[:left], shown=part.shown[:left]) if part.seen is None else part)
        left -= len(part.literal) + 20
    return _settled([*out, _Part(seen=Seen(), rest=True)])


def _between(parts: list[_Part], wanted: Callable[[_Part], bool]) -> list[_Part]:
    places = [place for place, part in enumerate(parts) if wanted(part)]
    if len(places) < 2:
        return parts
    first, last = places[0], places[-1]
    first -= first > 0 and parts[first - 1].blank
    last += last + 1 < len(parts) and parts[last + 1].blank
    return _settled([*parts[:first], _Part(seen=Seen(), rest=True), *parts[last + 1 :]])


def _tokens_as_one(parts: list[_Part]) -> list[_Part]:
    """Variables with no blank between them as one."""
    out: list[_Part] = []
    for part in parts:
        joinable = len(out) > 1 and part.seen is not None and not part.rest and part.seen.most <= 1
        if joinable and out[-1].seen is None and not out[-1].blank and BLANK not in out[-1].literal:
            before = out[-2]
            if before.seen is not None and not before.rest and before.seen.most <= 1 and part.seen is not None:
                literal = Seen()
                literal.add(out.pop().literal)
                joined = _joined([before.seen, literal, part.seen])
                out[-1] = _Part(seen=joined, optional=before.optional and part.optional)
                continue
        out.append(part)
    return out


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


def _joined(seens: Sequence[Seen]) -> Seen:
    whole = Seen()
    for seen in seens:
        whole.join(seen)
    return whole


def _parts(token: str, fillers: set[Key], places: Sequence[Place]) -> list[_Part]:
    tail = _joined([place.tail for place in places])
    if token == BLANK:
        seen = _joined([place.text for place in places])
        return [_Part(literal=BLANK, shown=BLANK, blank=not (seen.same and seen.first == BLANK))]
    if len(fillers) > 1 or token in (EMPTY, VALUE):
        seen = _joined([place.text for place in places])
        seen = _with_tail(seen, tail)
        shown = _shown(places) if fillers == {(VALUE,)} and tail.chars == 0 else ANY
        if fillers == {(EMPTY,)}:
            shown = ""
        return [_Part(seen=seen, optional=(EMPTY,) in fillers or seen.least == 0, shown=shown)]
    parts: list[_Part] = []
    marks = iter([_joined(column) for column in zip(*(place.marks for place in places), strict=True)])
    for piece in re.findall(f"[{VALUE}0{STATUS}]|[^{VALUE}0{STATUS}]+", token):
        if piece == VALUE:
            parts.append(_Part(seen=next(marks), shown=ANY))
        elif piece in STATUS:
            number = STATUS.index(piece) + 1
            parts.append(_Part(seen=next(marks), shown=f"{number}{ANY}", regex=rf"({number}\d\d)"))
        elif piece == "0":
            seen = next(marks)
            text = seen.first or "0"
            parts.append(_Part(literal=text, shown=text) if seen.same else _Part(seen=seen, shown=ANY))
        else:
            parts.append(_Part(literal=piece, shown=piece))
    if tail.chars:
        last = parts[-1]
        if last.seen is not None:
            last.seen = _with_tail(last.seen, tail)
        else:
            parts.append(_Part(seen=tail, rest=True))
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


def _settled(parts: list[_Part]) -> list[_Part]:
    """Neighbouring literals joined; neighbouring variables, and digits beside one, made one.

    Nothing would tell where one of them ends.
    """
    out: list[_Part] = []
    for part in parts:
        last = out[-1] if out else None
        if last is None:
            out.append(part)
        elif last.seen is None and part.seen is None and not last.blank and not part.blank:
            last.literal += part.literal
            last.shown += part.shown
        elif last.seen is not None and part.seen is not None:
            out[-1] = _one(last, part)
        elif last.seen is None and part.seen is not None and last.literal[-1:].isdigit():
            stem = last.literal.rstrip(_DIGITS)
            out[-1] = replace(last, literal=stem, shown=stem)
            out.append(_one(_digits(last.literal[len(stem) :]), part))
            if not stem:
                del out[-2]
        elif last.seen is not None and part.literal[:1].isdigit():
            stem = part.literal.lstrip(_DIGITS)
            out[-1] = _one(last, _digits(part.literal[: len(part.literal) - len(stem)]))
            if stem:
                out.append(replace(part, literal=stem, shown=stem))
        else:
            out.append(part)
    return out if len(out) == len(parts) else _settled(out)


def _digits(text: str) -> _Part:
    seen = Seen()
    seen.add(text)
    return _Part(seen=seen, shown=text)


def _one(a: _Part, b: _Part) -> _Part:
    """Two neighbouring variables as one."""
    if a.seen is None or b.seen is None:
        raise TypeError
    joined = _joined([a.seen, b.seen])
    joined.least = min(a.seen.least, b.seen.least)
    joined.most = max(a.seen.most, b.seen.most, a.seen.most + b.seen.most - 1)
    shown = a.shown + b.shown if ANY in a.shown + b.shown else ANY
    return _Part(seen=joined, optional=a.optional and b.optional, shown=shown, rest=a.rest or b.rest)


def _regex(parts: Sequence[_Part], i: int, strict: bool) -> str:
    part = parts[i]
    if part.seen is None:
        return r"\s+" if part.blank else _literal(part.literal)
    if part.regex or part.rest:
        return part.regex or r"([\s\S]*?)"
    after = parts[i + 1].literal[:1] if i + 1 < len(parts) else ""
    one = _class(part.seen, after, strict)
    least, most = part.seen.least, part.seen.most
    repeat = "*" if part.optional else "+"
    if most <= 1:
        return f"({one}{repeat})"
    least = max(least, 1)
    if least == most <= _WIDE_WORDS:
        return "(" + r"\s+".join([one + "+"] * least) + ")" + ("?" if part.optional else "")
    return f"({one}{_wide(one)}*)" + ("?" if part.optional else "")


def _wide(one: str) -> str:
    """The class `one` with blanks."""
    if one == r"\S":
        return r"[\s\S]"
    return one.replace(r"[^\s", "[^") if one.startswith("[^") else one.replace("[", r"[\s")


def _class(seen: Seen, after: str, strict: bool) -> str:
    if strict or (after.isalpha()):
        for allowed in (_NUMERIC, _HEX):
            if seen.chars & ~(allowed | 1 << 32) == 0 and not (after and allowed >> ord(after[0]) & 1):
                return r"[\d.,:+/-]" if allowed == _NUMERIC else r"[\da-fA-FxX.,:+/-]"
    if after and not after.isalnum() and after != BLANK and not seen.chars >> ord(after) & 1:
        return rf"[^\s{_escaped(after)}]"
    return r"\S"


def _escaped(char: str) -> str:
    if ord(char) >= 0x7F or ord(char) < 0x20:
        return f"\\x{ord(char):02x}"
    return "\\" + char if char in _SPECIAL else char


def _literal(text: str) -> str:
    return re.sub(r"\d+", lambda _: "\ue002", text).translate(_ESCAPES)


_ESCAPES = {code: _escaped(chr(code)) for code in range(256)} | {0xE002: r"\d+"}
