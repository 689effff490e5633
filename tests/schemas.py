"""The formats that cross a border, as JSON Schemas (`python tests/schemas.py` writes docs/schema again)."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec

from foretail.schema import Manifest, Patterns
from foretail.state import Entry, Note, Snapshot
from foretail.verdicts import Incident, LineVerdict, Notice, SessionVerdict

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schema"
FORMATS: dict[str, Any] = {
    "manifest": Manifest,
    "patterns": Patterns,
    "verdict": LineVerdict | SessionVerdict,
    "incident": Incident | Notice,
    "state": Snapshot,
}
STATE_RECORDS = {"entry": Entry, "note": Note}


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of a format; that of the state also describes the journal's records."""
    found = msgspec.json.schema(FORMATS[name])
    if name == "state":
        for record in STATE_RECORDS.values():
            found["$defs"] |= msgspec.json.schema(record)["$defs"]
    _clean(found)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"foretail {name}",
        **found,
    }


def _clean(node: Any) -> None:
    """Docstrings without their indentation."""
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            node["description"] = inspect.cleandoc(node["description"])
        for value in node.values():
            _clean(value)
    elif isinstance(node, list):
        for value in node:
            _clean(value)


def written(name: str) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(schema(name), order="sorted"), indent=2) + b"\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in FORMATS:
        (FOLDER / f"{each}.schema.json").write_bytes(written(each))
