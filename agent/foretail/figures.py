"""The figures of a running agent, for metrics and `status`."""

from __future__ import annotations

import math
import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from foretail.telemetry import lost, metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretail.journal import Journal
    from foretail.stream import Stream
    from foretail.telemetry import Registry
    from foretail.watch import Watch

COUNTERS = ("lines_total", "bytes_total", "lines_untyped_total", "match_timeouts_total", "incidents_total")
SUPPRESSED = {
    "cap": "incidents_suppressed_total",
    "muted": "incidents_muted_total",
    "observing": "incidents_observed_total",
}


class Gauges:
    """Keeps the metrics of streams, files and journal as they are now; what a file or a stream had goes with it.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._set: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._before = self._set
        self._told: dict[tuple[str, ...], float] = {}

    def publish(
        self, streams: Mapping[str, Stream], watches: Mapping[str, Watch], journal: Journal | None, wall: float
    ) -> dict[str, dict[str, Any]]:
        """Set them all, and give the figures of each stream. `wall` is epoch seconds."""
        before, self._set = self._set, {}
        self._before = before
        told = {}
        for name, stream in streams.items():
            watch = watches.get(name)
            told[name] = figures(stream, watch)
            self._stream(name, stream, told[name], wall)
            if watch is not None:
                self._files(name, watch)
        if journal is not None:
            self._gauge("journal_bytes", journal.size)
            self._gauge("journal_age_seconds", max(0.0, wall - _compacted_at(journal.directory, wall)))
        for name, labels in before.keys() - self._set.keys():
            self._registry.remove(name, **dict(labels))
        return told

    def _gauge(self, name: str, value: float, **labels: str) -> None:
        key = name, tuple(labels.items())
        self._set[key] = value
        if self._before.get(key) != value:
            self._registry.set(name, value, **labels)

    def _stream(self, name: str, stream: Stream, told: Mapping[str, Any], wall: float) -> None:
        manifest = stream.bundle.manifest
        for key in COUNTERS:
            self._gauge(key, told[key], stream=name)
        for cause, key in SUPPRESSED.items():
            self._gauge("incidents_suppressed_total", told[key], stream=name, cause=cause)
        for detector, count in told["verdicts_by_detector"].items():
            self._gauge("verdicts_total", count, stream=name, detector=detector)
        for memo in ("type", "window"):
            self._gauge("memo_hits_total", told[f"{memo}_memo_hits_total"], stream=name, memo=memo)
            self._gauge("memo_misses_total", told[f"{memo}_memo_misses_total"], stream=name, memo=memo)
        self._gauge("sessions_open", told["sessions_open"], stream=name)
        self._gauge("bundle_version", manifest.version, stream=name)
        self._gauge("bundle_age_seconds", wall - _made(manifest.created, wall), stream=name)
        self._gauge("model_slow", float(told["kernels"] != "xnnpack"), stream=name)
        self._loss(told["sessions_evicted_total"], cause="session_evicted", unit="sessions", stream=name)
        self._loss(told["sessions_dropped_total"], cause="bundle_changed", unit="sessions", stream=name)

    def _files(self, name: str, watch: Watch) -> None:
        counts, lines = watch.counts, watch.line_counts()
        self._loss(lines.cut_bytes + lines.skipped_bytes, cause="long_line", unit="bytes", stream=name)
        for cause in ("truncated", "vanished", "dropped"):
            self._loss(getattr(counts, f"{cause}_bytes"), cause=f"file_{cause}", unit="bytes", stream=name)
        self._gauge("file_errors_total", counts.read_errors, stream=name)
        self._gauge("unreadable_files", watch.unreadable, stream=name)
        self._gauge("waiting_files", counts.waiting_files, stream=name)
        files = 0
        for files, tail in enumerate(watch.tails(), 1):  # noqa: B007
            self._gauge("file_lag_bytes", tail.unread, stream=name, path=tail.path)
        self._gauge("files_open", files, stream=name)

    def _loss(self, total: float, **labels: str) -> None:
        """Sources count in the same series: what is new since the last time is added; a reload counts from 0 again."""
        kind = tuple(labels.values())
        before = self._told.get(kind, 0)
        more = total - before if total >= before else total
        self._told[kind] = total
        if more and labels["cause"].startswith("file_"):  # said where it happened
            self._registry.add("losses_total", more, **labels)
        elif more:
            lost(more, **labels)


gauges = Gauges(metrics)
"""Of the process: what one loop after the other has set."""


def _made(created: str, wall: float) -> float:
    """When a bundle was made, epoch seconds; now if it does not say so in ISO 8601."""
    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return wall


def _compacted_at(directory: Path, wall: float) -> float:
    """When the newest snapshot was written, or else the directory was made, epoch seconds; now if that is not told."""
    try:
        written = [path.stat().st_mtime for path in directory.glob("snapshot-*")]
        return max(written) if written else (directory / "lock").stat().st_mtime
    except OSError:
        return wall


def of_process(since: float, wall: float) -> dict[str, float]:
    """What the process itself costs; times are epoch seconds."""
    return {
        "since": since,
        "pid": os.getpid(),
        "resident_mb": resident_mb(),
        "cpu_share": time.process_time() / max(1e-9, wall - since),
    }


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
        "type_memo_misses_total": match.misses,
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
        "sessions_dropped_total": totals.sessions_dropped,
        "by_detector": totals.by_detector,
        "verdicts_by_detector": totals.verdicts,
        "event_time": stream.now if math.isfinite(stream.now) else None,
        "alpha": calibration.alpha if calibration else None,
        "observed": [msgspec.Raw(record) for record in list(stream.teller.observed)[-20:]],
        "files": [{"path": tail.path, "lag_bytes": tail.unread} for tail in (watch.tails() if watch else ())],
        "losses": msgspec.structs.asdict(watch.counts) if watch else {},
    }
