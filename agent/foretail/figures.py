"""The figures of a running agent, for metrics and `status`."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from foretail.stream import Stream
    from foretail.watch import Watch


def resident_mb() -> float:
    """Resident memory of this process, MB; 0 where /proc is not to be had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def figures(stream: Stream, watch: Watch | None) -> dict[str, Any]:
    """The figures of one stream."""
    totals, match, calibration = stream.teller.totals, stream.matcher.stats, stream.bundle.manifest.calibration
    memo = stream.model.memo
    return {
        "bundle": stream.bundle.label,
        "kernels": stream.model.kernels,
        "lines_total": totals.lines,
        "bytes_total": totals.bytes,
        "lines_untyped_total": totals.untyped,
        "match_timeouts_total": match.timeouts,
        "type_memo_hits_total": match.hits,
        "window_memo_hits_total": memo.hits,
        "window_memo_misses_total": memo.misses,
        "sessions_open": len(stream.sessions),
        "sessions_evicted_total": stream.sessions.slots.evicted_total,
        "anomalous_lines_total": totals.anomalous_lines,
        "anomalous_sessions_total": totals.anomalous_units,
        "incidents_total": totals.incidents,
        "incidents_observed_total": totals.observed,
        "incidents_muted_total": totals.muted,
        "incidents_suppressed_total": stream.teller.incidents.suppressed_total,
        "by_detector": totals.by_detector,
        "event_time": stream.now if math.isfinite(stream.now) else None,
        "alpha": calibration.alpha if calibration else None,
        "observed": [msgspec.Raw(record) for record in list(stream.teller.observed)[-20:]],
        "files": [{"path": tail.path, "lag_bytes": tail.unread} for tail in (watch.tails() if watch else ())],
        "losses": msgspec.structs.asdict(watch.counts) if watch else {},
    }
