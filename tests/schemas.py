"""The formats that cross a border, as JSON Schemas (`python tests/schemas.py` writes docs/schema again)."""

from __future__ import annotations

import base64
import inspect
import math
from pathlib import Path
from typing import Any

import msgspec

from foretail import bundle as bundles
from foretail import labels
from foretail.lines import Batch, Source
from foretail.rows import RowVerdict
from foretail.schema import Label, Manifest, Patterns
from foretail.state import Entry, Note, Snapshot
from foretail.stream import Stream
from foretail.telling import Options
from foretail.verdicts import Incident, IntervalVerdict, LineVerdict, Notice, SessionVerdict

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schema"
GOLDEN = Path(__file__).resolve().parent / "golden"
FORMATS: dict[str, Any] = {
    "manifest": Manifest,
    "patterns": Patterns,
    "verdict": LineVerdict | SessionVerdict | RowVerdict | IntervalVerdict,
    "incident": Incident | Notice,
    "state": Snapshot,
    "label": Label,
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


def example(name: str) -> bytes:
    """An example of a format: of the golden bundle, or of what the agent says of the golden log."""
    if name in {"manifest", "patterns"}:
        return (GOLDEN / "bundle" / f"{name}.json").read_bytes()
    if name == "incident":
        return _pretty(_rows("incidents")[0])
    if name == "label":
        return _pretty(_label())
    if name == "verdict":
        return _pretty(next(row for row in _rows("lines") if row["anomalous"]))
    return _pretty(_state())


def _rows(emit: str) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in (GOLDEN / f"{emit}.jsonl").read_bytes().splitlines()]


def _label() -> Any:
    """The first golden incident, labelled where the golden log lies."""
    record = msgspec.convert({**_rows("incidents")[0], "source": str(GOLDEN / "storage.log")}, Incident)
    made = labels.of(record, bundles.read(GOLDEN / "bundle"), "normal", "disks are being replaced this week")
    return msgspec.structs.replace(made, labelled="2026-01-02T09:30:00Z")


def _state() -> Any:
    """The state after ten golden lines, bytes as base64."""
    lines = (GOLDEN / "storage.log").read_bytes().splitlines()[:10]
    offsets = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines) + 1)]
    stream = Stream(bundles.read(GOLDEN / "bundle"), Options("storage", machine="example"))
    stream.feed(
        Batch("storage", Source("0" * 24, "/var/log/storage.log", True), lines, offsets[:-1], offsets[-1], 1.8e9)
    )
    return _plain(msgspec.to_builtins(Snapshot(1, {"storage": stream.snapshot()}, {"storage": b""})))


def _plain(node: Any) -> Any:
    """What msgpack holds, as JSON can: keys as text, bytes as base64."""
    if isinstance(node, dict):
        return {_plain(key) if isinstance(key, bytes) else str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, bytes):
        return base64.b64encode(node).decode()
    if isinstance(node, list | tuple):
        return [_plain(value) for value in node]
    return None if isinstance(node, float) and not math.isfinite(node) else node


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


if __name__ == "__main__":
    (FOLDER / "examples").mkdir(parents=True, exist_ok=True)
    for each in FORMATS:
        (FOLDER / f"{each}.schema.json").write_bytes(written(each))
        (FOLDER / "examples" / f"{each}.json").write_bytes(example(each))
