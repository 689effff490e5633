"""Pure: a record below the limit of who reads it; what was cut is named in its `cut`."""

from __future__ import annotations

from typing import Any

import msgspec

_TEXT_STEPS = (1024, 256, 64, 16)
_ITEM_STEPS = (20, 5, 1, 0)
_KEPT = ("kind", "id", "stream", "bundle", "source", "offset", "time", "type", "type_id", "anomalous", "score", "p")
"""What is left of a record that is still too long: enough to find the line."""


def fitted(record: bytes, bytes_max: int) -> bytes:
    """The record in at most `bytes_max` bytes (not below 2,048): texts and lists grow shorter, longest first.

    Args:
        record: one JSON object. It is returned as it is if it fits.
        bytes_max: without the line end.
    """
    if len(record) <= bytes_max:
        return record
    fields: dict[str, Any] = msgspec.json.decode(record)
    cut: dict[str, None] = dict.fromkeys(fields.pop("cut", ()))
    for characters, items in zip(_TEXT_STEPS, _ITEM_STEPS, strict=True):
        fields = {
            name: value if name in _KEPT else _shorter(value, name, characters, items, cut)
            for name, value in fields.items()
        }
        shorter = msgspec.json.encode(fields | {"cut": list(cut)})
        if len(shorter) <= bytes_max:
            return shorter
    kept = {name: _shorter(fields[name], name, 64, 8, cut) for name in _KEPT if name in fields}
    return msgspec.json.encode(kept | {"cut": [name[:16] for name in fields if name not in kept][:8]})


def _shorter(value: Any, name: str, characters: int, items: int, cut: dict[str, None]) -> Any:
    """The value with texts of at most `characters` and containers of at most `items` (at the top all keys stay)."""
    match value:
        case str() if len(value) > characters:
            cut[name] = None
            return value[:characters]
        case list():
            if len(value) > items:
                cut[name] = None
            return [_shorter(item, name, characters, items, cut) for item in value[:items]]
        case dict():
            if len(value) > max(items, 8):
                cut[name] = None
            kept = list(value.items())[: max(items, 8)]
            return {key[:characters]: _shorter(item, key[:characters], characters, items, cut) for key, item in kept}
    return value
