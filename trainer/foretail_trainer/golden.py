"""Golden lines from patterns alone: synthetic values, no text of the training log (DESIGN §7)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail.golden import GoldenLine, GoldenWindow
from foretail.syntax import Anchor, Atomic, Choice, Conditional, Group, Look, Repeat, Sequence, Set, parse

if TYPE_CHECKING:
    from foretail.model import SequenceModel
    from foretail.patterns import Matcher
    from foretail.syntax import Node
    from foretail_trainer.windows import Windows

LINES_MAX = 100
WINDOWS_MAX = 64
TRIES = 12
MARGIN_NATS = 0.2
"""A golden window this near the threshold could be decided otherwise by another kernel."""
_LIKED = b"0123456789", b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"/.-_: "


def golden(
    matcher: Matcher, model: SequenceModel | None, windows: Windows | None, threshold_bits: float, seed: int
) -> bytes:
    """`golden.jsonl`: synthetic lines with their types, and frequent windows with their surprise.

    Args:
        matcher: of the bundle.
        model: the exported one, as the agent runs it.
        windows: of the training data (model ids, no text).
        threshold_bits: windows within MARGIN_NATS of it are left out.
        seed: of the values.
    """
    rng = random.Random(seed)  # noqa: S311 - sample values, no secret
    header = parse(matcher.format.header) if matcher.format.kind == "text" and matcher.format.header else None
    rows: list[GoldenLine | GoldenWindow] = []
    for number, pattern in enumerate(matcher.patterns[:LINES_MAX]):
        found = _line(matcher, number, parse(pattern.regex), header, rng)
        rows += [found] if found else []
    if model is not None and windows is not None:
        rows += _windows(model, windows, threshold_bits)
    return b"\n".join(map(msgspec.json.encode, rows)) + b"\n"


def _line(matcher: Matcher, number: int, message: Node, header: Node | None, rng: random.Random) -> GoldenLine | None:
    """A line that the matcher gives to this pattern; None when an earlier pattern takes all that were tried."""
    for _ in range(TRIES):
        text = sample(message, rng)
        line = text if header is None else sample(header, rng, content=text)
        typed = matcher.match([line])
        if int(typed.index[0]) == number and b"\n" not in line:
            spans = tuple((int(start), int(end)) for start, end in typed.spans[0])
            return GoldenLine(line.decode("latin-1"), matcher.patterns[number].type_id, spans)
    return None


def sample(node: Node, rng: random.Random, *, content: bytes = b"") -> bytes:
    """Bytes that a pattern is likely to match, with made-up values.

    Args:
        node: of `foretail.syntax`.
        rng: of the values.
        content: what stands in a group of that name (the message in a header).
    """
    match node:
        case Set(mask):
            return _byte(mask, rng)
        case Sequence(items):
            return b"".join(sample(item, rng, content=content) for item in items)
        case Choice(branches):
            return sample(rng.choice(branches), rng, content=content)
        case Repeat(least, most, _, item):
            times = rng.randint(least, min(most if most is not None else least + 3, least + 3))
            return b"".join(sample(item, rng, content=content) for _ in range(times))
        case Group(_, name, item):
            return content if name == "content" else sample(item, rng, content=content)
        case Atomic(item):
            return sample(item, rng, content=content)
        case Conditional(_, yes, _):
            return sample(yes, rng, content=content)
        case Anchor() | Look():
            return b""


def _byte(mask: int, rng: random.Random) -> bytes:
    """One byte of a set: a digit where digits are taken, else a letter, else what there is."""
    for liked in _LIKED:
        if choices := [byte for byte in liked if mask >> byte & 1]:
            return bytes([rng.choice(choices)])
    rest = [byte for byte in range(256) if mask >> byte & 1]
    printable = [byte for byte in rest if 0x20 < byte < 0x7F]
    return bytes([rng.choice(printable or rest)]) if rest else b""


def _windows(model: SequenceModel, windows: Windows, threshold_bits: float) -> list[GoldenWindow]:
    """Frequent windows, spread over all of them, none near the threshold."""
    by_weight = np.argsort(-windows.weight, kind="stable")
    chosen = np.unique(by_weight[np.linspace(0, len(by_weight) - 1, min(WINDOWS_MAX, len(by_weight))).astype(int)])
    nats = model.surprise(windows.window[chosen], windows.target[chosen])
    clear = np.abs(nats - threshold_bits * np.log(2)) >= MARGIN_NATS
    return [
        GoldenWindow(tuple(windows.window[row].tolist()), int(windows.target[row]), float(value))
        for row, value in zip(chosen[clear].tolist(), nats[clear].tolist(), strict=True)
    ]
