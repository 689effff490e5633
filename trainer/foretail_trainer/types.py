r"""The types file, by which people own the message types; and the table `foretail-train types` prints.

One edit a line, `#` begins a comment. TYPE is a type_id (16 hex digits) or a template in double quotes; edits survive
retraining, because both do. A TYPE that no line has any more is reported, not refused.

    mask NAME REGEX          what REGEX matches is variable everywhere (before the built-in masks)
    pattern NAME REGEX       messages that REGEX matches in full are one type, tried before all others
    merge TYPE TYPE...       one type with the id of the first
    split TYPE LITERAL       messages of TYPE that hold LITERAL are a type of their own
    rename TYPE NAME         a name for people

    mask order ORD-[A-Z]+
    pattern login-root session opened for user root by .*
    merge "service <*> started" "service <*> stopped"
    split "GET <*> <*>" " 404"
    rename 0f3a6c1d2b4e5f60 heartbeat

REGEX is over bytes written as ASCII and must be safe (foretail.lint); it ends at the end of the line.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foretail.errors import ConfigError
from foretail.lint import check_pattern, digit_blind
from foretail.schema import Pattern
from foretail.syntax import Group, Set
from foretail.syntax import Sequence as Items
from foretail.syntax import parse as parse_regex
from foretail_trainer.identity import changed, type_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Edits:
    """What a types file asks for; a type is named by its type_id or its template.

    Attributes:
        masks, patterns: (name, regex).
        merges: types to join, the first keeps its id. splits: (type, literal). renames: (type, name).
    """

    masks: tuple[tuple[str, str], ...] = ()
    patterns: tuple[tuple[str, str], ...] = ()
    merges: tuple[tuple[str, ...], ...] = ()
    splits: tuple[tuple[str, str], ...] = ()
    renames: tuple[tuple[str, str], ...] = ()


def read(path: str | Path) -> Edits:
    """The edits of a types file; ConfigError names the file, the line and what is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"The types file {path} cannot be read ({reason}); check the path.") from error
    return parse(text, str(path))


def parse(text: str, name: str = "types file") -> Edits:
    """The edits in `text`; as read."""
    edits: dict[str, list[tuple[str, ...]]] = {verb: [] for verb in ("mask", "pattern", "merge", "split", "rename")}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        verb, _, rest = stripped.partition(" ")
        if verb not in edits:
            raise ConfigError(f"{name}:{number}: {verb!r} is no edit; use {', '.join(edits)}.")
        try:
            edits[verb].append(_regex_edit(verb, rest) if verb in {"mask", "pattern"} else _type_edit(verb, rest))
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"{name}:{number}: {error}") from error
    return Edits(
        masks=tuple((a, b) for a, b in edits["mask"]),
        patterns=tuple((a, b) for a, b in edits["pattern"]),
        merges=tuple(edits["merge"]),
        splits=tuple((a, b) for a, b in edits["split"]),
        renames=tuple((a, b) for a, b in edits["rename"]),
    )


def _regex_edit(verb: str, rest: str) -> tuple[str, str]:
    name, _, regex = rest.strip().partition(" ")
    regex = regex.strip()
    if not _NAME.fullmatch(name) or not regex:
        raise ConfigError(f"write `{verb} NAME REGEX`, the name of letters, digits, _ . and -.")
    check_pattern(regex, name)
    if verb == "mask" and not digit_blind(regex):
        raise ConfigError(f"mask {name} looks at single digits; write \\d, because mining does not tell digits apart.")
    return name, regex


def _type_edit(verb: str, rest: str) -> tuple[str, ...]:
    words = shlex.split(rest, posix=True)
    if len(words) < 2 or (verb != "merge" and len(words) != 2):
        raise ConfigError(f"write `{verb} {'TYPE TYPE' if verb == 'merge' else 'TYPE TEXT'}`, templates in quotes.")
    if verb == "split" and not words[1]:
        raise ConfigError("the literal to split by is empty; write the text that tells the lines apart.")
    return tuple(words)


def found(types: Sequence[Pattern], reference: str) -> Pattern | None:
    """The type a reference names: by id, else by template, else by name."""
    if _ID.fullmatch(reference):
        return next((one for one in types if one.type_id == reference), None)
    return next((one for one in types if reference in (one.template, one.name)), None)


def template_of(regex: str) -> str:
    """A template for a pattern a person wrote: its literal bytes, and `<*>` for all else."""
    out: list[str] = []
    for item in _items(parse_regex(regex)):
        single = isinstance(item, Set) and item.mask & (item.mask - 1) == 0
        text = chr(item.mask.bit_length() - 1) if single and isinstance(item, Set) else "<*>"
        if text != "<*>" or out[-1:] != ["<*>"]:
            out.append(text)
    return "".join(out)


def _items(node: object) -> list[object]:
    if isinstance(node, Items):
        return [part for item in node.items for part in _items(item)]
    if isinstance(node, Group):
        inner = _items(node.item)
        plain = all(isinstance(item, Set) and item.mask & (item.mask - 1) == 0 for item in inner)
        return inner if plain else [node]
    return [node]


def applied(patterns: Sequence[Pattern], edits: Edits, notes: list[str]) -> list[Pattern]:
    """The patterns by rank after all edits but masks; a reference to no type becomes a note.

    Merged types become one regex with branches at the place of the last; a split type comes just before the one it is
    split from; custom patterns come first. Ranks are renumbered.
    """
    out = list(patterns)
    for merge in edits.merges:
        _merge(out, merge, notes)
    for reference, literal in edits.splits:
        one = _named(out, reference, notes)
        if one is not None:
            out.insert(out.index(one), _split(one, literal, out))
    for number, (name, regex) in enumerate(edits.patterns, 1):
        template = template_of(regex)
        one = Pattern(0, number, type_id(f"{name}\0{template}"), template, regex, 0, name=name)
        out.insert(number - 1, one)
    for reference, name in edits.renames:
        one = _named(out, reference, notes)
        if one is not None:
            out[out.index(one)] = changed(one, name=name)
    return [changed(one, rank=rank) for rank, one in enumerate(out)]


def _named(types: Sequence[Pattern], reference: str, notes: list[str]) -> Pattern | None:
    one = found(types, reference)
    if one is None:
        notes.append(f"The types file names {reference!r}, which no line has; the edit did nothing.")
    return one


def _merge(types: list[Pattern], references: Sequence[str], notes: list[str]) -> None:
    group = [one for reference in references if (one := _named(types, reference, notes)) is not None]
    parts = sorted(set(map(types.index, group)))
    if len(parts) < 2:
        return
    regex = "(?:" + "|".join(types[place].regex for place in parts) + ")"
    check_pattern(regex, f"merge of {group[0].template!r}")
    types[parts[-1]] = changed(group[0], regex=regex)
    for place in reversed(parts[:-1]):
        del types[place]


def _split(one: Pattern, literal: str, types: Sequence[Pattern]) -> Pattern:
    escaped = "".join(
        f"\\x{byte:02x}" if byte < 0x20 or byte > 0x7E else re.escape(chr(byte)) for byte in literal.encode("utf-8")
    )
    template = f"{one.template} [{literal.strip()}]"
    number = 1 + max(other.number for other in types if other.cluster == one.cluster)
    regex = f"(?=.*{escaped}){one.regex}"
    check_pattern(regex, template)
    return changed(one, number=number, type_id=type_id(template), template=template, regex=regex)


@dataclass(frozen=True, slots=True)
class TableRow:
    """One line of the table of types."""

    type: str
    type_id: str
    count: int
    share: float
    template: str
    examples: tuple[str, ...]
    near: tuple[str, ...]
    rare: bool
    error: bool
    name: str | None


def table(
    patterns: Sequence[Pattern],
    examples: dict[str, tuple[bytes, ...]] | None = None,
    near: Sequence[tuple[str, str]] = (),
    shown: Callable[[bytes], str] = lambda line: line.decode("utf-8", "replace"),
) -> list[TableRow]:
    """Rows of all types, most lines first. `near`: pairs of type_ids; `examples`: raw lines per type_id."""
    total = sum(pattern.support for pattern in patterns) or 1
    beside: dict[str, list[str]] = {}
    for a, b in near:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    return [
        TableRow(
            type=pattern.type,
            type_id=pattern.type_id,
            count=pattern.support,
            share=pattern.support / total,
            template=pattern.template,
            examples=tuple(shown(line) for line in (examples or {}).get(pattern.type_id, ())),
            near=tuple(sorted(set(beside.get(pattern.type_id, ())))),
            rare=pattern.rare,
            error=pattern.error,
            name=pattern.name,
        )
        for pattern in sorted(patterns, key=lambda pattern: (-pattern.support, pattern.rank))
    ]
