"""Literal and variable parts of a pattern, and the safe regex they make (`foretail.lint`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from foretail.errors import ConfigError
from foretail.lint import check_pattern
from foretail_trainer.places import Seen, joined
from foretail_trainer.tokens import BLANK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ANY = "<*>"
_DIGITS = "0123456789"
_WIDE_WORDS = 6
_SHORT_BYTES = 4_000
_NUMERIC = sum(1 << ord(char) for char in "0123456789.,:+-/")
_HEX = _NUMERIC | sum(1 << ord(char) for char in "abcdefABCDEFxX")
_SPECIAL = frozenset("\\.^$*+?{}[]()|-#&~")


@dataclass(slots=True)
class Part:
    """Literal text, or a variable part: what it saw, and whether it may be empty."""

    literal: str = ""
    seen: Seen | None = None
    optional: bool = False
    shown: str = ""
    blank: bool = False
    rest: bool = False
    regex: str = ""


def safe(parts: list[Part], strict: bool) -> str:
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


def _wide_as_one(parts: list[Part]) -> list[Part]:
    """All from the first to the last variable that holds blanks as one."""
    return _between(parts, lambda part: part.rest or (part.seen is not None and part.seen.most > 1))


def _all_as_one(parts: list[Part]) -> list[Part]:
    """All from the first to the last variable as one."""
    return _between(parts, lambda part: part.seen is not None)


def _short(parts: list[Part]) -> list[Part]:
    """The first _SHORT_BYTES or so, and the rest as one variable."""
    out: list[Part] = []
    left = _SHORT_BYTES
    for part in parts:
        if left <= 0:
            break
        out.append(replace(part, literal=part.literal[:left], shown=part.shown[:left]) if part.seen is None else part)
        left -= len(part.literal) + 20
    return settled([*out, Part(seen=Seen(), rest=True)])


def _between(parts: list[Part], wanted: Callable[[Part], bool]) -> list[Part]:
    places = [place for place, part in enumerate(parts) if wanted(part)]
    if len(places) < 2:
        return parts
    first, last = places[0], places[-1]
    first -= first > 0 and parts[first - 1].blank
    last += last + 1 < len(parts) and parts[last + 1].blank
    return settled([*parts[:first], Part(seen=Seen(), rest=True), *parts[last + 1 :]])


def _tokens_as_one(parts: list[Part]) -> list[Part]:
    """Variables with no blank between them as one."""
    out: list[Part] = []
    for part in parts:
        joinable = len(out) > 1 and part.seen is not None and not part.rest and part.seen.most <= 1
        if joinable and out[-1].seen is None and not out[-1].blank and BLANK not in out[-1].literal:
            before = out[-2]
            if before.seen is not None and not before.rest and before.seen.most <= 1 and part.seen is not None:
                literal = Seen()
                literal.add(out.pop().literal)
                both = joined([before.seen, literal, part.seen])
                out[-1] = Part(seen=both, optional=before.optional and part.optional)
                continue
        out.append(part)
    return out


def settled(parts: list[Part]) -> list[Part]:
    """Neighbouring literals joined; neighbouring variables, and digits beside one, made one.

    Nothing would tell where one of them ends.
    """
    out: list[Part] = []
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
    return out if len(out) == len(parts) else settled(out)


def _digits(text: str) -> Part:
    seen = Seen()
    seen.add(text)
    return Part(seen=seen, shown=text)


def _one(a: Part, b: Part) -> Part:
    """Two neighbouring variables as one."""
    if a.seen is None or b.seen is None:
        raise TypeError
    both = joined([a.seen, b.seen])
    both.least = min(a.seen.least, b.seen.least)
    both.most = max(a.seen.most, b.seen.most, a.seen.most + b.seen.most - 1)
    shown = a.shown + b.shown if ANY in a.shown + b.shown else ANY
    return Part(seen=both, optional=a.optional and b.optional, shown=shown, rest=a.rest or b.rest)


def _regex(parts: Sequence[Part], i: int, strict: bool) -> str:
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
