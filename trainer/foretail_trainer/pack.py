"""What was learned as a bundle directory (DESIGN §7): manifest, patterns, models, counts, golden results."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail import __version__, golden, others
from foretail import bundle as bundles
from foretail.patterns import Matcher
from foretail.schema import FIRST, SCHEMA, Manifest, Patterns, SequenceInfo, Training
from foretail_trainer import beside, learn
from foretail_trainer.golden import golden as make_golden

if TYPE_CHECKING:
    from foretail.bundle import Bundle
    from foretail_trainer.learn import Learned

AGENT_MIN = "0.1.0"


def pack(learned: Learned) -> Bundle:
    """Write the bundle, read it back, and check its golden results with the agent's own code."""
    options, sessions, calibrated = learned.options, learned.sessions, learned.calibrated
    matcher = Matcher(learned.patterns, learned.format, learned.key)
    threshold = calibrated.calibration.threshold if calibrated else 0.0
    files = {
        bundles.PATTERNS: msgspec.json.format(msgspec.json.encode(Patterns(SCHEMA, learned.patterns)), indent=1),
        bundles.GOLDEN: make_golden(matcher, learn.model_of(learned), learned.judged, threshold, options.seed),
        **learned.models,
    }
    if calibrated:
        files |= calibrated.counts.files()
    more = beside.parts(learned)
    files |= more.files
    manifest = Manifest(
        schema=SCHEMA,
        name=options.name or Path(options.out).resolve().name,
        version=options.version or int(time.time()),
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        trainer=__version__,
        agent_min=AGENT_MIN,
        files={},
        format=learned.format,
        key=learned.key,
        idle_s=sessions.idle_s if sessions else 0.0,
        training=_training(learned),
        sequence=_sequence(learned),
        calibration=calibrated.calibration if calibrated else None,
        metrics=_metrics(learned) | more.metrics,
        mix=_mix(learned),
        volume=more.volume,
        lines=more.lines,
    )
    bundle = bundles.write(options.out, manifest, files)
    golden.verify(bundle)
    others.verify(bundle)
    return bundle


def type_id(template: str) -> str:
    """The permanent id of a type that was first seen with this template: 16 hex digits."""
    return hashlib.sha256(template.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def digest(data: bytes) -> str:
    """sha256 of training data, hex."""
    return hashlib.sha256(data).hexdigest()


def _training(learned: Learned) -> Training:
    sessions = learned.sessions
    timed = sessions is not None and len(sessions.times) > 0 and bool(np.isfinite(sessions.times).all())
    return Training(
        digest=learned.digest,
        lines=learned.lines,
        sessions=int(sessions.weight.sum()) if sessions else 0,
        first=float(sessions.times.min()) if sessions and timed else 0.0,
        last=float(sessions.times.max()) if sessions and timed else 0.0,
        hosts=learned.hosts,
        untyped_share=learned.untyped / max(1, learned.lines),
        unseen_rate=learned.calibrated.unseen_rate if learned.calibrated else 0.0,
    )


def _sequence(learned: Learned) -> SequenceInfo | None:
    if not learned.models:
        return None
    options = learned.options
    types = tuple(pattern.type_id for pattern in learned.patterns)
    return SequenceInfo(options.window, FIRST + len(types), options.cell, options.layers, options.units, types)


def _metrics(learned: Learned) -> dict[str, float]:
    found: dict[str, float] = {}
    if learned.fitted:
        found["held_nats_per_event"] = learned.fitted.held
    if learned.agreement:
        agreed = learned.agreement
        found |= {"gate_top1": agreed.top1, "gate_tied": agreed.tied, "gate_decision": agreed.decision}
    if learned.calibrated:
        found["certified_rate"] = learned.calibrated.certified
    return found


def _mix(learned: Learned) -> tuple[float, ...]:
    """Share of each model id among the training lines."""
    support = np.array([0.0, 0.0, float(learned.untyped)] + [float(p.support) for p in learned.patterns])
    return tuple((support / max(1.0, support.sum())).tolist())
