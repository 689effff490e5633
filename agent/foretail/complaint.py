"""What msgspec says about a configuration, as one sentence for the person who wrote it."""

from __future__ import annotations

import difflib
import re
from typing import Any

from msgspec import inspect

_STEP = re.compile(r"\.(\w+)|\[(\d+)\]|\[\.\.\.\]")


def sentence(message: str, table: object, kind: type, name: str) -> str:
    """One sentence that names file and key, and what is allowed there.

    Args:
        message: of msgspec.ValidationError.
        table: what was validated.
        kind: as which struct.
        name: of the file.
    """
    reason, _, where = message.partition(" - at `$")
    path = where.rstrip("`")
    place = _place(path)
    found = _type_at(inspect.type_info(kind), table, path)
    quoted = re.search(r"`(\w+)`$", reason)
    if reason.startswith("Object contains unknown field") and quoted and isinstance(found, inspect.StructType):
        return f"{name}: unknown key `{quoted[1]}`{f' in {place}' if place else ''}; {_known(quoted[1], found)}."
    if reason.startswith("Object missing required field") and quoted:
        return f"{name}: `{quoted[1]}` is missing{f' in {place}' if place else ''}; add it."
    if isinstance(found, inspect.LiteralType):
        return f"{name}: {place}: {reason[0].lower()}{reason[1:]}; use one of {_options(found.values)}."
    if isinstance(found, inspect.UnionType) or path.endswith(".type"):
        tags = [str(each.tag) for each in getattr(found, "types", ()) if isinstance(each, inspect.StructType)]
        return f"{name}: {place}: {reason[0].lower()}{reason[1:]}; use one of {_options(tags)}."
    return f"{name}: {place}: {reason[0].lower()}{reason[1:]}."


def _place(path: str) -> str:
    """`.sink[0].url` as "`sink.url` (number 1)"; the number only where there are tables to count."""
    number = re.search(r"^\.\w+\[(\d+)\]", path)
    plain = _STEP.sub(lambda step: f".{step[1]}" if step[1] else "", path).lstrip(".")
    return f"`{plain}`" + (f" (number {int(number[1]) + 1})" if number else "") if plain else ""


def _known(key: str, found: inspect.StructType) -> str:
    names = [field.encode_name for field in found.fields]
    close = difflib.get_close_matches(key, names, n=1)
    return f"did you mean `{close[0]}`" if close else f"known are {', '.join(names)}"


def _options(values: Any) -> str:
    return ", ".join(f'"{value}"' for value in values)


def _type_at(found: Any, value: Any, path: str) -> Any:
    """The type information at a path such as `.sink[0].url`; a union is resolved by the tag in the value."""
    for step in _STEP.finditer(path):
        found = _resolved(found, value)
        if step[1] is None:
            found, value = getattr(found, "item_type", None), _item(value, int(step[2] or 0))
        elif isinstance(found, inspect.StructType):
            found = next((field.type for field in found.fields if field.encode_name == step[1]), found)
            value = value.get(step[1]) if isinstance(value, dict) else None
        # the tag of a union is no field: `found` stays the union
    return _resolved(found, value)


def _item(value: Any, index: int) -> Any:
    return value[index] if isinstance(value, list) and index < len(value) else None


def _resolved(found: Any, value: Any) -> Any:
    if isinstance(found, inspect.UnionType) and isinstance(value, dict):
        for each in found.types:
            if isinstance(each, inspect.StructType) and each.tag == value.get(each.tag_field):
                return each
    return found
