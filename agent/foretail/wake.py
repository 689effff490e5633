"""A hint that files changed, so that an idle loop looks sooner. The only door to watchdog.

Nothing depends on it: it may be switched off, missing, out of inotify watches, or lose events. While lines flow it is
switched off, because each write would cost an event: then the files are looked at often (`Flow`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretail.telemetry import log

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

FOLDERS_MAX = 16
"""Watched folders; each costs an inotify instance and two threads. More are left to the timer."""
FLOW_BATCHES, FLOW_S, EBB_S = 16, 1.0, 2.0
"""So many batches in this time are a flow; it ends when none came for EBB_S. To start and end watchdog costs 3 ms."""
SETTLE_S, LOOK_S, LOOK_SHARE = 0.02, 0.05, 10
"""Least time between an event and the look it asks for; between two looks while lines flow; and either is at least so
many times what a look takes."""


class Flow:
    """Whether lines come so often that looking costs less than being woken. Pure; times are monotonic seconds."""

    def __init__(self) -> None:
        self._batches: deque[float] = deque([float("-inf")] * FLOW_BATCHES, maxlen=FLOW_BATCHES)
        self._flows = False
        self._cost_s = 0.0

    @property
    def settle_s(self) -> float:
        """How long to wait after an event: what is being written then comes in one look."""
        return max(SETTLE_S, LOOK_SHARE * self._cost_s)

    @property
    def look_s(self) -> float:
        """How long to wait for an event between two looks while lines flow."""
        return max(LOOK_S, LOOK_SHARE * self._cost_s) - self.settle_s

    def looked(self, cost_s: float) -> None:
        """Take note of what a look took."""
        self._cost_s = min(cost_s, self._cost_s * 2 + 0.001)  # a host that stood still is no dear look

    def batch(self, now: float) -> None:
        """Take note of a batch."""
        self._batches.append(now)
        self._flows = self._flows or now - self._batches[0] <= FLOW_S

    def flows(self, now: float) -> bool:
        """Whether they flow."""
        self._flows = self._flows and 0 <= now - self._batches[-1] < EBB_S
        return self._flows


class Waker:
    """Sets an event when something changes in the watched folders (not below them).

    Attributes:
        noticed: something changed since this was last set to False (the event may be set for other reasons).
        failures: times that watchdog or the kernel refused; logged once a minute at most by being retried that rarely.
    """

    def __init__(self, event: threading.Event, *, enabled: bool = True, retry_s: float = 60.0) -> None:
        self.event = event
        self.noticed = False
        self.failures = 0
        self._enabled = enabled
        self._retry_s = retry_s
        self._retry_at = float("-inf")
        self._observer: Any = None
        self._stale = False
        self._folders: tuple[str, ...] = ()

    @property
    def armed(self) -> bool:
        """Whether events come, of all folders."""
        return self._observer is not None and not self._stale

    def arm(self, folders: Iterable[str], now: float) -> None:
        """Watch these folders (the existing ones, at most FOLDERS_MAX); call when there is nothing to read.

        Look once more after arming and before waiting: what changed in between woke nobody.
        """
        wanted = tuple(folder for folder in folders if Path(folder).is_dir())[:FOLDERS_MAX]
        if not self._enabled or (self.armed and wanted == self._folders) or self._retry_at > now:
            return
        self.disarm()
        if not wanted:
            return
        try:
            self._stale = False
            self._observer = _observer(self._notice, wanted)
        except Exception as error:  # noqa: BLE001 - it is a hint: whatever fails there must not stop the loop
            self.failures += 1
            self._retry_at = now + self._retry_s
            log.warning("watchdog.failed", error=str(error), folders=len(wanted), retry_s=self._retry_s)
            return
        self._folders = wanted

    def _notice(self, *, gone: bool) -> None:
        """From watchdog's thread: something changed; `gone`: a watched folder is no more, and must be watched anew."""
        self._stale |= gone
        self.noticed = True
        self.event.set()

    def disarm(self) -> None:
        """Stop watching; call when lines flow."""
        observer, self._observer = self._observer, None
        if observer is not None:
            with contextlib.suppress(Exception):
                observer.stop()
                observer.join(1.0)


class _Diagnostics(logging.Handler):
    """What watchdog tells through the standard library's logging goes where all diagnostics go."""

    def emit(self, record: logging.LogRecord) -> None:
        log.info("watchdog.said", text=record.getMessage())


def _observer(notice: Callable[..., None], folders: tuple[str, ...]) -> Any:
    """Start an observer of changes; reads and opens are not asked for, or the tailer would wake itself."""
    from watchdog import events, observers  # noqa: PLC0415 - it may be missing

    class Handler(events.FileSystemEventHandler):
        def on_any_event(self, event: events.FileSystemEvent) -> None:
            notice(gone=event.event_type in ("deleted", "moved") and event.src_path in folders)

    kinds = [
        events.FileModifiedEvent,
        events.FileCreatedEvent,
        events.FileDeletedEvent,
        events.FileMovedEvent,
        events.DirCreatedEvent,
        events.DirDeletedEvent,
        events.DirMovedEvent,
    ]
    told = logging.getLogger("watchdog")
    if not told.handlers:
        told.addHandler(_Diagnostics())
        told.propagate = False
    observer = observers.Observer()
    try:
        for folder in folders:
            observer.schedule(Handler(), folder, recursive=False, event_filter=kinds)
        observer.start()
    except BaseException:
        with contextlib.suppress(Exception):
            observer.stop()
        raise
    return observer
