"""What an order to reload asks for, prepared beside the running loop by a thread of its own.

Bundles alone: new streams, made while scoring goes on, then taken in a barrier (`foretail.swap`). Another
configuration: the loop ends, and the next one begins on streams that are ready. Neither: what runs goes on.
"""

from __future__ import annotations

import contextlib
import gc
import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from foretail import telemetry
from foretail.config import ForwardSink, HttpSink, TcpSink, Update
from foretail.errors import ConfigError
from foretail.swap import Swap
from foretail.telemetry import log, metrics
from foretail.warming import warm

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretail.config import Config
    from foretail.loop import Loop
    from foretail.stream import Stream

WAIT_S = 20.0
"""A loop whose sinks acknowledge nothing for so long is ended and begun again instead."""
SWITCH_S = 0.0005
"""The loop waits no longer for the interpreter while a bundle is loaded (5 ms are usual)."""
LOOK_S = 0.1


class Fresh(NamedTuple):
    """What the next loop begins with; without streams it makes its own."""

    config: Config
    streams: dict[str, Stream] | None


class Renewal:
    """Answers orders, one after the other.

    Args:
        config: that the first loop runs on.
        load: the configuration as it is now; ConfigError if it cannot be obeyed.
        make: verified streams as configured, fresh; ConfigError likewise.
        step: told after each step; a test stops there.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        make: Callable[[Config], dict[str, Stream]],
        *,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config, self._load, self._make, self._step = config, load, make, step
        self._worn: list[int] = []
        self._orders: queue.SimpleQueue[bool] = queue.SimpleQueue()  # a signal handler may put into it
        self._stop = threading.Event()
        self._loops: queue.SimpleQueue[Loop] = queue.SimpleQueue()
        self._fresh: Fresh | None = None
        self._thread = threading.Thread(target=self._run, name="renewal", daemon=True)
        self._thread.start()

    def order(self) -> None:
        """Reload; callable from a signal handler."""
        self._orders.put(True)

    def attach(self, loop: Loop, config: Config) -> None:
        """This loop runs now."""
        self._config, self._worn = config, _certificates(config)
        self._loops.put(loop)

    def fresh(self) -> Fresh | None:
        """Why the loop was ended for a reload; to be asked once."""
        fresh, self._fresh = self._fresh, None
        return fresh

    def close(self, timeout_s: float = 1.0) -> None:
        """No more orders; what is under way is left to the next start."""
        self._stop.set()
        self._orders.put(False)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        loop = self._next_loop()
        while loop is not None and self._orders.get() and not self._stop.is_set():
            while not self._orders.empty():  # one answer to all that asked meanwhile
                self._orders.get()
            try:
                loop = self._renewed(loop)
            except Exception as error:  # noqa: BLE001 - a bug must be seen, and must not end reloads for good
                log.error("reload.failed", error=repr(error))
                telemetry.notify_ready()

    def _renewed(self, loop: Loop) -> Loop | None:
        """Obey; the loop that runs after it, None if none does."""
        telemetry.notify_reloading()
        try:
            config = self._load()
            with _polite():
                streams = self._make(config)
        except ConfigError as error:
            log.error("config.refused", error=str(error), kept="the configuration and bundles that were running")
            metrics.add("reloads_total", result="refused")
            telemetry.notify_ready()
            return loop
        self._step("prepared")
        apart, self._worn = self._worn, _certificates(config)
        alike = _apart_from_bundles(config) == _apart_from_bundles(self._config) and apart == self._worn
        if alike and self._swapped(loop, config, streams):
            metrics.add("reloads_total", result="taken")
            telemetry.notify_ready()
            return loop
        if self._stop.is_set():
            return None
        metrics.add("reloads_total", result="restarted")
        self._fresh = Fresh(config, None if alike else streams)  # it may have taken them in its last round
        loop.stop("reload")
        return self._next_loop()

    def _swapped(self, loop: Loop, config: Config, streams: dict[str, Stream]) -> bool:
        """Whether the loop took the streams; then their state is on disk, too."""
        before = {name: stream.bundle.label for name, stream in loop.streams.items()}
        with _polite():
            for name, stream in streams.items():
                warm(stream, loop.streams[name])
                stream.sessions.reserve(loop.streams[name].sessions)
        swap = Swap(streams, self._step)
        loop.swap(swap)
        for _ in range(int(WAIT_S / LOOK_S)):
            if swap.taken.wait(LOOK_S) or self._stop.is_set():
                break
        if not swap.taken.is_set():
            return False
        self._config = config
        metrics.set("swap_pause_seconds", swap.pause_s)
        told = {"pause_ms": round(swap.pause_s * 1000, 2), "cpu_ms": round(swap.cpu_s * 1000, 2)}
        changed = [name for name, stream in streams.items() if stream.bundle.label != before[name]]
        for name in changed:
            log.info("bundle.taken", stream=name, bundle=streams[name].bundle.label, before=before[name], **told)
        if not changed:
            log.info("config.taken", **told)
        if not swap.settle(lambda: self._stop.is_set() or not self._orders.empty()):
            return False  # a loop that begins again needs no snapshot of what was before
        gc.freeze()  # as at the start: what was loaded stays
        return True

    def _next_loop(self) -> Loop | None:
        while not self._stop.is_set():
            with contextlib.suppress(queue.Empty):
                return self._loops.get(timeout=LOOK_S)
        return None


@contextlib.contextmanager
def _polite() -> Iterator[None]:
    """The interpreter goes back to the loop soon after it asks."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _apart_from_bundles(config: Config) -> Config:
    """The configuration without what a running loop can change."""
    streams = tuple(msgspec.structs.replace(stream, bundle="") for stream in config.stream)
    return msgspec.structs.replace(config, stream=streams, update=Update())


def _certificates(config: Config) -> list[int]:
    """When the certificates that sinks hold were written: they are renewed under the same name, and then a reload."""
    paths = [Path(sink.ca) for sink in config.sink if isinstance(sink, HttpSink | ForwardSink | TcpSink) and sink.ca]
    return [path.stat().st_mtime_ns if path.exists() else 0 for path in paths]
