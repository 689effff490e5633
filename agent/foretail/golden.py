"""Golden results: what a bundle must give on this host before it is believed (DESIGN §7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail.bundle import GOLDEN
from foretail.errors import ConfigError
from foretail.model import SequenceModel
from foretail.patterns import Matcher

if TYPE_CHECKING:
    from foretail.bundle import Bundle

NATS = 0.1
"""Kernels of different hosts differ by a few hundredths of a nat at most."""


class GoldenLine(msgspec.Struct, frozen=True, tag_field="golden", tag="line"):
    """A line of synthetic values, its type and the spans of its captures.

    Attributes:
        line: its bytes as Latin-1.
        type_id: of the pattern that matches.
        spans: start and end of each capture.
    """

    line: str
    type_id: str
    spans: tuple[tuple[int, int], ...]


class GoldenWindow(msgspec.Struct, frozen=True, tag_field="golden", tag="window"):
    """A window of model ids, what came, and its surprise in nats."""

    window: tuple[int, ...]
    target: int
    nats: float


def check(bundle: Bundle, matcher: Matcher, model: SequenceModel | None) -> None:
    """ConfigError when types, spans or surprises differ from the bundle's golden results."""
    rows, raw = _rows(bundle)
    golden_lines = [row for row in rows if isinstance(row, GoldenLine)]
    if raw:
        typed = matcher.match(raw)
        for row, index, spans in zip(golden_lines, typed.index.tolist(), typed.spans, strict=True):
            got = bundle.patterns[index].type_id if index >= 0 else None
            if got != row.type_id or tuple(map(tuple, spans)) != row.spans:
                raise ConfigError(f"bundle {bundle.path} types golden line {row.line[:80]!r} otherwise on this host")
    windows = [row for row in rows if isinstance(row, GoldenWindow)]
    if model is not None and windows:
        _check_windows(bundle, model, windows)


def verify(bundle: Bundle) -> None:
    """`check` with a matcher and a model made for it, as a bundle is before it is activated."""
    manifest, sequence = bundle.manifest, bundle.manifest.sequence
    model = None
    if sequence is not None:
        model = SequenceModel(
            bundle.files["sequence.b1.tflite"],
            bundle.files["sequence.b64.tflite"],
            window=sequence.window,
            vocabulary=sequence.vocabulary,
        )
    check(bundle, Matcher(bundle.patterns, manifest.format, manifest.key), model)


def lines(bundle: Bundle) -> list[bytes]:
    """The golden lines; ConfigError as `check`."""
    return _rows(bundle)[1]


def _rows(bundle: Bundle) -> tuple[list[GoldenLine | GoldenWindow], list[bytes]]:
    """All golden results, and the bytes of the lines among them."""
    if GOLDEN not in bundle.files:
        raise ConfigError(f"bundle {bundle.path} has no {GOLDEN}; make the bundle again")
    try:
        decoder = msgspec.json.Decoder(GoldenLine | GoldenWindow)
        rows = [decoder.decode(line) for line in bundle.files[GOLDEN].splitlines()]
        return rows, [row.line.encode("latin-1") for row in rows if isinstance(row, GoldenLine)]
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ConfigError(f"bundle {bundle.path}: {GOLDEN} is damaged ({error}); fetch the bundle again") from error


def _check_windows(bundle: Bundle, model: SequenceModel, rows: list[GoldenWindow]) -> None:
    for row in rows:
        if len(row.window) != model.window or not all(0 <= i < model.vocabulary for i in (*row.window, row.target)):
            raise ConfigError(f"bundle {bundle.path}: a golden window does not fit its model; make the bundle again")
    windows = np.array([row.window for row in rows], np.int32)
    nats = model.surprise(windows, np.array([row.target for row in rows], np.int32))
    worst = int(np.abs(nats - [row.nats for row in rows]).argmax())
    if abs(float(nats[worst]) - rows[worst].nats) > NATS:
        raise ConfigError(
            f"bundle {bundle.path} scores golden window {worst + 1} as {nats[worst]:.3f} nats on this host, "
            f"{rows[worst].nats:.3f} where it was made; fetch the bundle again"
        )
