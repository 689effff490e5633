"""What was learned, as the report and the closing table show it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec.structs import replace

from foretail_trainer import curves
from foretail_trainer.findings import (
    BlockRow,
    ClusterMap,
    Elbow,
    GateRow,
    KeyRow,
    Losses,
    ReportData,
    SuspectRow,
    TypeRow,
    visible,
)

if TYPE_CHECKING:
    from foretail_trainer.learn import Learned
    from foretail_trainer.suspects import Suspect

SCORES_MAX = 5_000
"""Calibration scores that the report plots."""
POINTS_MAX = 2_000


def report_data(learned: Learned) -> ReportData:
    """Everything `report.html` shows."""
    bundle, options = learned.bundle, learned.options
    assert bundle is not None  # noqa: S101 - our own bug
    manifest, training = bundle.manifest, bundle.manifest.training
    return replace(
        ReportData.of(bundle, manifest.calibration),
        sources=options.files or (options.sequences,),
        header=manifest.format.name,
        key=key_words(learned),
        sessions=training.sessions,
        hosts=training.hosts,
        idle_s=manifest.idle_s,
        untyped_share=training.untyped_share,
        model=f"{options.cell.upper()}, {options.layers} layer(s) of {options.units}, window {options.window}",
        seconds=learned.seconds,
        types=_types(learned),
        elbow=_elbow(learned),
        map=_map(learned),
        losses=_losses(learned),
        scores=_scores(learned),
        blocks=_blocks(learned),
        keys=_keys(learned),
        suspects=tuple(_suspect(suspect) for suspect in learned.suspects),
        gate=_gate(learned),
        sections=curves.sections(learned),
        notes=tuple(learned.notes),
    )


def key_words(learned: Learned) -> str:
    """The key rule in words."""
    key = learned.key
    words = {"none": "none: one endless session a file", "search": f"first match of {key.regex}"}
    return words.get(key.kind, f"the field {key.field}") + (" (endless)" if key.endless and key.kind != "none" else "")


def _types(learned: Learned) -> tuple[TypeRow, ...]:
    examples = learned.mined.examples if learned.mined else {}
    rows = [
        TypeRow(
            type=pattern.type,
            type_id=pattern.type_id,
            template=visible(pattern.template),
            count=pattern.support,
            example=visible(next(iter(examples.get(pattern.type_id, ())), b"")),
            rare=pattern.rare,
            error=pattern.error,
            end=pattern.end,
        )
        for pattern in learned.patterns
    ]
    return tuple(sorted(rows, key=lambda row: -row.count))


def _elbow(learned: Learned) -> Elbow | None:
    if learned.mined is None or not learned.mined.clusters.curve:
        return None
    clusters = learned.mined.clusters
    k, _, silhouette = zip(*clusters.curve, strict=True)
    return Elbow(k, silhouette, clusters.k, "silhouette")


def _map(learned: Learned) -> ClusterMap | None:
    if learned.mined is None:
        return None
    clusters = learned.mined.clusters
    points = clusters.points[:POINTS_MAX]
    return ClusterMap(
        x=tuple(points[:, 0].tolist()),
        y=tuple(points[:, 1].tolist()),
        cluster=tuple(clusters.labels[:POINTS_MAX].tolist()),
        axes=2,
        variance=clusters.explained,
    )


def _losses(learned: Learned) -> Losses | None:
    if not learned.curve:
        return None
    held = [epoch.held for epoch in learned.curve]
    return Losses(tuple(epoch.train for epoch in learned.curve), tuple(held), int(np.argmin(held)))


def _scores(learned: Learned) -> tuple[float, ...]:
    if learned.calibrated is None:
        return ()
    ordered = np.sort(np.repeat(learned.calibrated.x, np.minimum(learned.calibrated.held.weight, 50)))
    chosen = ordered[np.linspace(0, len(ordered) - 1, min(len(ordered), SCORES_MAX)).astype(int)]
    return tuple(chosen.tolist())


def _blocks(learned: Learned) -> tuple[BlockRow, ...]:
    if learned.calibrated is None:
        return ()
    return tuple(
        BlockRow(
            block.first if math.isfinite(block.first) else 0.0,
            block.last if math.isfinite(block.last) else 0.0,
            block.units,
            block.expected,
            block.observed,
        )
        for block in learned.calibrated.blocks
    )


def _keys(learned: Learned) -> tuple[KeyRow, ...]:
    if learned.discovery is None:
        return ()
    return tuple(learned.discovery.rows())


def _suspect(suspect: Suspect) -> SuspectRow:
    differences = [f"{n} fewer {name}" for name, n in suspect.missing.items()]
    differences += [f"{n} more {name}" for name, n in suspect.extra.items()]
    alike = f", {suspect.like} alike" if suspect.like > 1 else ""
    return SuspectRow(
        what=visible(f"{suspect.session}{alike}"),
        bits=suspect.bits,
        reason=visible("; ".join(differences[:4]) or suspect.reason),
        example=visible(" → ".join(suspect.events[:12])),
        time=suspect.time,
    )


def suspects_file(learned: Learned) -> bytes:
    """`suspects.jsonl`: what `fit --exclude` takes once a person has removed the lines that were normal after all."""
    return b"".join(msgspec.json.encode(suspect) + b"\n" for suspect in learned.suspects)


def _gate(learned: Learned) -> tuple[GateRow, ...]:
    found = learned.agreement
    if found is None:
        return ()
    return (
        GateRow("same most likely next event", f"{found.top1:.3%}", "for information", passed=True),
        GateRow("the same, ties within 0.05 nat aside", f"{found.tied:.3%}", "at least 99 %", passed=True),
        GateRow("same decision on what came", f"{found.decision:.3%}", "at least 99.9 %", passed=True),
        GateRow("greatest difference", f"{found.worst:.3f} nat", "for information", passed=True),
        GateRow("larger file", f"{found.bytes:,} bytes", "at most 8,000,000", passed=True),
    )
