"""What the agent says about itself: JSON log lines on stderr, counters and gauges, Prometheus, systemd.

Log levels say what the operator must do: ERROR act now (something was lost), WARNING act soon, INFO state changes,
DEBUG never per line. Events are `noun.verbed` with fields: `log.warning("sink.failed", sink="http", error="...")`.
This module is the only door to structlog and prometheus-client. No call here ever waits for the reader of stderr.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import select
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, TextIO

import structlog

from foretail.config import host_port
from foretail.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_FIELD_CHARACTERS_MAX = 500
_SAY_EVERY_S = 60.0
_LINE_BYTES_MAX = select.PIPE_BUF  # a pipe that polls writable takes so much without blocking

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Registry:
    """Counters and gauges by name and labels; each call holds a lock for a dict operation, so call per batch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Raise the counter `name` (it ends in `_total`) by `amount`."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            series = self._values.setdefault(name, {})
            series[key] = series.get(key, 0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Give the gauge `name` (it ends in its unit) a value."""
        with self._lock:
            self._values.setdefault(name, {})[tuple(sorted(labels.items()))] = value

    def remove(self, name: str, **labels: str) -> None:
        """Forget one series, such as the lag of a file that is gone."""
        with self._lock:
            self._values.get(name, {}).pop(tuple(sorted(labels.items())), None)

    def value(self, name: str, **labels: str) -> float:
        """The value of one series; 0 if it was never touched."""
        with self._lock:
            return self._values.get(name, {}).get(tuple(sorted(labels.items())), 0)

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """All series as JSON for `foretail status`: name -> [{"labels": {...}, "value": x}, ...]."""
        return {
            name: [{"labels": dict(labels), "value": value} for labels, value in series]
            for name, series in self.items()
        }

    def items(self) -> list[tuple[str, list[tuple[tuple[tuple[str, str], ...], float]]]]:
        """A copy of all series, by name."""
        with self._lock:
            return [(name, list(series.items())) for name, series in sorted(self._values.items())]

    def clear(self) -> None:
        """Forget everything (tests)."""
        with self._lock:
            self._values.clear()


metrics = Registry()
"""The process has one."""

_said: dict[tuple[str, ...], tuple[float, float]] = {}  # kind of loss -> when it was last said, amount since then


def lost(amount: float, **labels: str) -> None:
    """Count what is lost on purpose, and say so with the amount, once a minute for each kind.

    Args:
        amount: lost now.
        labels: of `losses_total`: cause, unit, and stream.
    """
    metrics.add("losses_total", amount, **labels)
    kind, now = tuple(labels.values()), time.monotonic()
    at, before = _said.get(kind, (-math.inf, 0))
    if now - at >= _SAY_EVERY_S:
        log.warning("loss.counted", amount=before + amount, **labels)
        _said[kind] = (now, 0)
    else:
        _said[kind] = (at, before + amount)


METRICS = {
    "lines_total": "Lines read, by stream.",
    "bytes_total": "Bytes read, by stream.",
    "lines_untyped_total": "Lines that no pattern matched, by stream.",
    "match_timeouts_total": "Lines whose match was cut off, by stream.",
    "verdicts_total": "Anomalous verdicts, by stream and the detector that weighed most.",
    "incidents_total": "Incidents raised, by stream.",
    "incidents_suppressed_total": "Incidents over the cap, muted or kept back while observing, by stream and cause.",
    "losses_total": "What was lost on purpose, by cause and unit.",
    "memo_hits_total": "Look-ups answered by a memo, by memo and stream.",
    "memo_misses_total": "Look-ups a memo could not answer, by memo and stream.",
    "sessions_open": "Open sessions, by stream.",
    "file_lag_bytes": "Bytes written but not yet read, by stream and path.",
    "files_open": "Files that are followed, by stream.",
    "unreadable_files": "Files that cannot be opened or read now, by stream; each is tried again.",
    "waiting_files": "Files that are listed and not read, for `limits.files_max` are followed; by stream.",
    "file_errors_total": "Opens and reads that failed, by stream.",
    "queue_bytes": "Bytes that wait for a sink.",
    "queue_batches": "Batches that wait for a sink.",
    "unacknowledged_batches": "Batches that some sink has not acknowledged.",
    "spool_bytes": "Bytes on disk that wait for a sink.",
    "sink_records_total": "Records delivered, by sink.",
    "sink_failures_total": "Deliveries that failed and were tried again, by sink.",
    "source_batches_total": "Batches received, by source.",
    "source_repeats_total": "Forward chunks that came again and were not scored again, by source.",
    "source_refused_total": "Connections closed because of what they sent, by source and cause.",
    "source_undecoded_total": "Lines that should have been JSON objects and were scored as they came, by source.",
    "journal_bytes": "Size of the journal.",
    "journal_failures_total": "Records, acknowledgements and fsyncs that the journal refused.",
    "journal_age_seconds": "Seconds since the journal was last compacted.",
    "bundle_version": "Version of the active bundle, by stream.",
    "reloads_total": "Orders to reload, by result: taken (between two batches), restarted (the loop), refused.",
    "swap_pause_seconds": "How long the loop stood still when it last took other bundles.",
    "update_steps_total": "Steps of updates: looked, offered, fetched, examined, activated, failed, refused, undone...",
    "bundle_rollbacks_total": "Bundles that the agent took back by itself, by bundle and cause.",
    "bundle_age_seconds": "Seconds since the active bundle was made, by stream.",
    "model_slow": "1 where the model runs without XNNPACK, by stream.",
    "log_lines_dropped_total": "Diagnostics that nobody read from stderr.",
}
"""Names (the endpoint puts `foretail_` before each) and help; units last, counters end in `_total`."""


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """Write diagnostics of `level` and above to `stream` (default stderr) as JSON lines.

    A line that the reader of a pipe or socket leaves no room for is dropped and counted, never waited for.
    """
    if level not in LEVELS:
        raise ConfigError(f"log_level {level!r} is unknown; use one of {', '.join(LEVELS)}.")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _short,
            structlog.processors.JSONRenderer(default=str),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Factory(_Outlet(stream if stream is not None else sys.stderr)),
        cache_logger_on_first_use=False,
    )


def _short(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Cut long fields, so that a line stays below what a pipe takes at once."""
    for name, value in event.items():
        if isinstance(value, str) and len(value) > _FIELD_CHARACTERS_MAX:
            event[name] = value[:_FIELD_CHARACTERS_MAX] + "..."
        elif isinstance(value, bytes):
            event[name] = value[:_FIELD_CHARACTERS_MAX].decode("utf-8", "backslashreplace")
    return event


class _Outlet:
    """One line at a time, or none if the reader is behind."""

    def __init__(self, stream: TextIO) -> None:
        self._lock = threading.Lock()
        self._stream = stream
        self._poll: select.poll | None = None
        with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
            self._fd = stream.fileno()
            self._poll = select.poll()
            self._poll.register(self._fd, select.POLLOUT)

    def msg(self, message: str) -> None:
        line = (message + "\n").encode("utf-8", "backslashreplace")
        with self._lock:
            if self._poll is None:
                self._stream.write(message + "\n")
            elif len(line) <= _LINE_BYTES_MAX and self._writable(self._poll):
                with contextlib.suppress(OSError):
                    os.write(self._fd, line)
                return
            else:
                metrics.add("log_lines_dropped_total")

    debug = info = warning = error = critical = exception = log = msg

    def _writable(self, poll: select.poll) -> bool:
        return any(event & select.POLLOUT and not event & select.POLLERR for _, event in poll.poll(0))


class _Factory:
    def __init__(self, outlet: _Outlet) -> None:
        self._outlet = outlet

    def __call__(self, *_: object) -> _Outlet:
        return self._outlet


class _Collector:
    """Shows the registry to prometheus-client."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415  an extra

        for name, series in self._registry.items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            labels = sorted({label for key, _ in series for label, _ in key})
            metric = family(f"foretail_{name}", METRICS.get(name, name), labels=labels)
            for key, value in series:
                values: Mapping[str, str] = dict(key)
                metric.add_metric([values.get(label, "") for label in labels], value)
            yield metric


def serve_metrics(address: str, registry: Registry = metrics) -> Callable[[], None]:
    """Answer Prometheus on "host:port" from a thread of its own; the call returned stops it.

    ConfigError if the `metrics` extra is not installed or the address cannot be bound.
    """
    host, port = host_port(address, "agent.metrics")
    try:
        from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415  an extra
    except ImportError:
        raise ConfigError(
            'agent.metrics needs prometheus-client; install "foretail[metrics]" or set metrics = "".'
        ) from None
    collectors = CollectorRegistry()
    collectors.register(_Collector(registry))
    try:
        server, thread = start_http_server(port, host, collectors)
    except OSError as error:
        raise ConfigError(f"agent.metrics: cannot listen on {address}: {error.strerror}.") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(1)

    return stop


def notify(state: str) -> bool:
    """Send one sd_notify(3) message; False without a service manager or when it does not take it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as plug:
        plug.setblocking(False)
        try:
            plug.sendto(state.encode(), "\0" + path[1:] if path[0] == "@" else path)
        except OSError:
            return False
    return True


def notify_ready(status: str = "") -> bool:
    """READY=1: start-up or a reload is over."""
    return notify("READY=1" + (f"\nSTATUS={status}" if status else ""))


def notify_watchdog() -> bool:
    """WATCHDOG=1: the loop went round."""
    return notify("WATCHDOG=1")


def notify_reloading() -> bool:
    """RELOADING=1 with the monotonic time that Type=notify-reload asks for; notify_ready() ends it."""
    return notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def notify_stopping() -> bool:
    """STOPPING=1: the loop drains."""
    return notify("STOPPING=1")


def watchdog_s() -> float:
    """How often to call notify_watchdog(): half of what the service manager waits; 0 = never."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    try:
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 2e6
    except ValueError:
        return 0.0
