"""A hint that files changed, so that an idle loop looks sooner. The only door to watchdog.

Nothing depends on it: it may be switched off, missing, out of inotify watches, or lose events. While lines flow it is
switched off, because each write would cost an event and the files are looked at anyway.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foretail.telemetry import log

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable

FOLDERS_MAX = 16
"""Watched folders; each costs an inotify instance and two threads. More are left to the timer."""


class Waker:
    """Sets an event when something changes in the watched folders (not below them).

    Attributes:
        failures: times that watchdog or the kernel refused; logged once a minute at most by being retried that rarely.
    """

    def __init__(self, event: threading.Event, *, enabled: bool = True, retry_s: float = 60.0) -> None:
        self.event = event
        self.failures = 0
        self._enabled = enabled
        self._retry_s = retry_s
        self._retry_at = float("-inf")
        self._observer: Any = None
        self._folders: tuple[str, ...] = ()

    @property
    def armed(self) -> bool:
        """Whether events come."""
        return self._observer is not None

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
            self._observer = _observer(self.event, wanted)
        except Exception as error:  # noqa: BLE001 - it is a hint: whatever fails there must not stop the loop
            self.failures += 1
            self._retry_at = now + self._retry_s
            log.warning("watchdog.failed", error=str(error), folders=len(wanted), retry_s=self._retry_s)
            return
        self._folders = wanted

    def disarm(self) -> None:
        """Stop watching; call when lines flow."""
        observer, self._observer = self._observer, None
        if observer is not None:
            with contextlib.suppress(Exception):
                observer.stop()
                observer.join(1.0)


def _observer(event: threading.Event, folders: tuple[str, ...]) -> Any:
    """Start an observer of changes; reads and opens are not asked for, or the tailer would wake itself."""
    from watchdog import events, observers  # noqa: PLC0415 - it may be missing

    class Handler(events.FileSystemEventHandler):
        def on_any_event(self, _event: events.FileSystemEvent) -> None:
            event.set()

    kinds = [
        events.FileModifiedEvent,
        events.FileCreatedEvent,
        events.FileDeletedEvent,
        events.FileMovedEvent,
        events.DirCreatedEvent,
        events.DirDeletedEvent,
        events.DirMovedEvent,
    ]
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
