"""What a type is called for good: ids from templates, handed on from an older bundle where the lines are the same."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping, Sequence

    from foretail.schema import Pattern, Patterns

INHERIT = 0.9
"""Share of an old type's lines that must map to one new type for it to take over the id (DESIGN §3)."""
_ERROR = re.compile(
    r"\b(?:error|fail(?:ed|ure|s)?|exception|fatal|critical|panic|severe|emergency|abort(?:ed|ing)?|corrupt(?:ed)?"
    r"|denied|refused|unreachable|segfault)\b|\" 5<\*>",
    re.IGNORECASE,
)


def says_error(template: str) -> bool:
    """Whether the words of a template speak of a failure."""
    return _ERROR.search(template) is not None


def changed(pattern: Pattern, **fields: Any) -> Pattern:
    """The pattern with these fields replaced."""
    return msgspec.structs.replace(pattern, **fields)


def type_id(template: str) -> str:
    """16 hex digits of the template's hash."""
    return hashlib.sha256(template.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def hashed(patterns: Sequence[Pattern], taken: Mapping[int, str] | None = None) -> list[str]:
    """An id for each pattern: the given one, else of its template, else (two alike) of template and regex."""
    ids = dict(taken or {})
    used = set(ids.values())
    out = []
    for place, pattern in enumerate(patterns):
        one = ids.get(place)
        text = pattern.template
        while one is None:
            candidate = type_id(text)
            one = None if candidate in used else candidate
            text += "\0" + pattern.regex
        used.add(one)
        out.append(one)
    return out


def inherited(patterns: Sequence[Pattern], base: Patterns | None, flow: Mapping[int, Counter[int]]) -> list[str]:
    """The type_id of each pattern.

    `flow`: old pattern (place by rank in `base`, -1 = none) to new pattern (place, -1 = none) to lines. Where two old
    types map to one new one, the one with more lines hands on its id.
    """
    own = {place: pattern.type_id for place, pattern in enumerate(patterns)}
    if base is None:
        return [own[place] for place in range(len(patterns))]
    old_ids = [pattern.type_id for pattern in sorted(base.patterns, key=lambda pattern: pattern.rank)]
    claims: dict[int, tuple[int, int]] = {}
    for old, to in sorted(flow.items()):
        place, count = max(to.items(), key=lambda item: (item[1], -item[0]))
        if old >= 0 and place >= 0 and count >= INHERIT * to.total() and count:
            claims[place] = max(claims.get(place, (0, 0)), (count, -old))
    return hashed(patterns, {place: old_ids[-old] for place, (_, old) in claims.items()})
