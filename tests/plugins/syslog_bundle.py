"""A small bundle for syslog lines, made without the trainer, and lines for it."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec

from foretail import bundle, headers
from foretail.schema import Calibration, Format, KeyRule, Manifest, Pattern, Patterns, SequenceInfo, Tail, Training

MODELS = Path(__file__).parents[1] / "agent" / "models"
TEMPLATES = (
    ("Accepted publickey for <*> from <*>", r"Accepted publickey for (\S+) from (\S+)"),
    ("Connection from <*> port <*>", r"Connection from (\S+) port (\d+)"),
    ("Received disconnect from <*>", r"Received disconnect from (\S+)"),
    ("session opened for user <*>", r"session opened for user (\S+)"),
    ("session closed for user <*>", r"session closed for user (\S+)"),
    ("Failed password for <*>", r"Failed password for (\S+)"),
    ("request <*> took <*> ms", r"request (\d+) took (\d+) ms"),
    ("cache <*>", r"cache (\S+)"),
    ("job <*> done", r"job (\S+) done"),
)


def write(folder: Path, form: Format | None = None) -> str:
    """Write the bundle, for lines of a format (default: syslog's); its path."""
    names = [f"{number:016x}" for number in range(1, 10)]
    patterns = tuple(
        Pattern(1, number, name, template, regex, number, support=100)
        for number, (name, (template, regex)) in enumerate(zip(names, TEMPLATES, strict=True))
    )
    tail = Tail((1.0, 5.0, 9.0), (0.5, 0.1, 0.01), 2.0)
    manifest = Manifest(
        schema=1,
        name="syslog",
        version=1,
        created="2026-01-01T00:00:00Z",
        trainer="0.1.0",
        agent_min="0.1.0",
        files={},
        format=form or headers.named("rfc3164"),
        key=KeyRule("search", r"(\d+)", endless=True),
        idle_s=60.0,
        training=Training(digest="0" * 64, lines=1000, sessions=10),
        sequence=SequenceInfo(4, 12, "lstm", 1, 8, tuple(names)),
        calibration=Calibration(0.01, "block", 5.5, False, 1000, 1.0, tail),
    )
    files = {
        "patterns.json": msgspec.json.encode(Patterns(1, patterns)),
        "sequence.b1.tflite": (MODELS / "b1.tflite").read_bytes(),
        "sequence.b64.tflite": (MODELS / "b64.tflite").read_bytes(),
        "golden.jsonl": b"",
    }
    bundle.write(folder, manifest, files)
    return str(folder)


def messages(count: int, seed: int = 1) -> list[str]:
    """What programs say: the first number of each is its own, and its key, so that its verdict can be told."""
    chance = random.Random(seed)
    return [chance.choice(TEMPLATES)[0].replace("<*>", str(number), 1).replace("<*>", "9") for number in range(count)]
