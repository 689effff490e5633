"""A bundle whose types have other numbers and whose verdicts are the same: for swaps under which nothing may change."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from foretail import bundle as bundles
from foretail.model import runtime
from foretail.schema import FIRST, Patterns

if TYPE_CHECKING:
    from pathlib import Path


def renumbered(old: bundles.Bundle, place: Path, version: int) -> bundles.Bundle:
    """The bundle with its types in the opposite order: patterns, model, counts and golden windows alike.

    Only for bundles each line of which one pattern alone can match: the order decides between two.
    """
    types = len(old.patterns)
    order = [*range(FIRST), *range(types + FIRST - 1, FIRST - 1, -1)]  # its own inverse: new id to old, old id to new
    patterns = tuple(msgspec.structs.replace(p, rank=types - 1 - p.rank) for p in reversed(old.patterns))
    files = dict(old.files)
    files[bundles.PATTERNS] = msgspec.json.encode(Patterns(1, patterns))
    for name, content in old.files.items():
        if name.endswith(".tflite"):
            files[name] = _model(content, order)
    counts = old.array("counts.npy")
    file = io.BytesIO()
    np.save(file, counts[:, [*order, counts.shape[1] - 1]], allow_pickle=False)
    files["counts.npy"] = file.getvalue()
    rows = [msgspec.json.decode(line) for line in files[bundles.GOLDEN].splitlines()]
    files[bundles.GOLDEN] = b"\n".join(msgspec.json.encode(_golden(row, order)) for row in rows) + b"\n"
    sequence = msgspec.structs.replace(old.manifest.sequence, types=tuple(p.type_id for p in patterns))
    return bundles.write(place, msgspec.structs.replace(old.manifest, version=version, sequence=sequence), files)


def _golden(row: dict[str, Any], order: list[int]) -> dict[str, Any]:
    if row["golden"] == "window":
        row |= {"window": [order[i] for i in row["window"]], "target": order[row["target"]]}
    return row


def _model(content: bytes, order: list[int]) -> bytes:
    """Rows of the constants that have one for each model id (embedding, output, its bias), in the new order."""
    interpreter = runtime().Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail in interpreter.get_tensor_details():
        if len(detail["shape"]) and detail["shape"][0] == len(order):
            try:
                table = interpreter.get_tensor(detail["index"])
            except ValueError:  # no constant
                continue
            raw = table.tobytes()
            if content.count(raw) == 1:
                content = content.replace(raw, table[order].tobytes())
    return content
