"""The commands that stay: `run`, `exec`, `pipe`. Builds a Loop from a configuration and runs it."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from foretail import bundle as bundles
from foretail import golden, telemetry
from foretail.config import Config, build, load
from foretail.errors import ConfigError
from foretail.globs import Globs
from foretail.journal import Journal, JournalLimits
from foretail.lines import LineLimits
from foretail.listeners import build as build_inlets
from foretail.loop import Loop
from foretail.multiline import Multiline
from foretail.mutes import read as read_mutes
from foretail.observe import Observing
from foretail.patterns import MatchLimits
from foretail.probation import Probation
from foretail.registry import Registry
from foretail.renewal import Renewal
from foretail.rest import machine
from foretail.schema import KeyRule
from foretail.shadow import Recent
from foretail.sinks import build as build_sinks
from foretail.sinks import own_files
from foretail.sources import PipeInlet
from foretail.state import restore
from foretail.status import StatusServer
from foretail.stream import Stream
from foretail.tail import Reading
from foretail.telemetry import log, metrics
from foretail.telling import Options
from foretail.updating import Updating
from foretail.wake import Waker
from foretail.watch import Watch, WatchLimits

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from foretail.bundle import Bundle
    from foretail.config import Stream as StreamConfig
    from foretail.renewal import Fresh
    from foretail.reply import Dialogue
    from foretail.sources import Inlet


def run(options: argparse.Namespace) -> int:
    """`foretail run`: the service; SIGHUP loads configuration and bundles again."""
    config = load(options.config)
    telemetry.configure(config.agent.log_level)
    probation = Probation(config)
    probation.begin()
    updating = Updating(options.config, config)
    try:
        return serve(config, reload=lambda: load(options.config), probation=probation)
    finally:
        updating.close()


def execute(options: argparse.Namespace) -> int:
    """`foretail exec`: tail files, JSON lines on stdout, diagnostics on stderr."""
    state = options.state or _default_state("exec", options.stream, *options.globs)
    config = _table(options, state, {"include": options.globs, "start": options.start})
    telemetry.configure(config.agent.log_level)
    return serve(config, reload=lambda: config)


def pipe(options: argparse.Namespace) -> int:
    """`foretail pipe`: lines on stdin."""
    telemetry.configure("info")
    if options.reply != "none":
        from foretail import reply  # noqa: PLC0415 - only rsyslog needs it

        return reply.run(options)
    config = _table(options, options.state or "", {"include": ["stdin"]})
    return serve(config, stdin=True)


class _Orders:
    """What signals have asked for; an order that comes between two loops is kept for the next one."""

    def __init__(self, renewal: Renewal | None) -> None:
        self._loop: Loop | None = None
        self._stopping = False
        signal.signal(signal.SIGTERM, lambda *_: self.stop())
        signal.signal(signal.SIGINT, lambda *_: self.stop())
        signal.signal(signal.SIGHUP, (lambda *_: renewal.order()) if renewal else signal.SIG_IGN)

    def attach(self, loop: Loop) -> None:
        """Orders go to this loop from now on."""
        self._loop = loop
        if self._stopping:
            loop.stop()

    def stop(self) -> None:
        """End; from a signal handler or another thread."""
        self._stopping = True
        if self._loop is not None:
            self._loop.stop()


def serve(
    config: Config,
    *,
    reload: Callable[[], Config] | None = None,
    stdin: bool = False,
    probation: Probation | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> int:
    """Run the loop until it is told to stop; with `reload`, SIGHUP takes bundles and configuration as they are then.

    Args:
        config: to begin with.
        reload: gives the configuration as it is now.
        stdin: lines come from standard input.
        probation: watches what the loop makes of a new bundle.
        step: told after each step of going over to other bundles; a test stops there.
    """
    wake = threading.Event()
    loop = assemble(config, wake, stdin=stdin)
    renewal = Renewal(config, reload, make_streams, step=step) if reload is not None else None
    orders, recent = _Orders(renewal), Recent()
    while True:
        with _edges(config, loop, renewal, recent):
            telemetry.notify_ready(f"{len(loop.streams)} streams")
            log.info("agent.started", streams=list(loop.streams), observing=loop.observing(time.time()))
            gc.collect()
            gc.freeze()  # what was loaded stays: a collector that walks it costs a tenth of each line
            orders.attach(loop)
            if renewal is not None:
                loop.recent = recent
                renewal.attach(loop, config)
                if probation is not None:
                    probation.attach(loop, config, renewal.order)
            reason = loop.run()
        log.info("agent.stopped", reason=reason)
        fresh = renewal.fresh() if renewal is not None else None
        if reason != "reload" or fresh is None:
            if renewal is not None:
                renewal.close()
            if probation is not None:
                probation.end()
            telemetry.notify_stopping()
            return 0
        config, loop = _reloaded(config, fresh, wake, {name: stream.bundle for name, stream in loop.streams.items()})


def _reloaded(
    config: Config, fresh: Fresh, wake: threading.Event, running: Mapping[str, Bundle]
) -> tuple[Config, Loop]:
    """The new configuration at work, or the old one on the bundles that ran when the new one cannot be."""
    try:
        return fresh.config, assemble(fresh.config, wake, streams=fresh.streams)
    except ConfigError as error:
        log.error("config.refused", error=str(error), kept="the configuration and bundles that were running")
        metrics.add("reloads_total", result="refused")
        streams = {stream.name: make_stream(stream, config, running[stream.name]) for stream in config.stream}
        return config, assemble(config, wake, streams=streams)


def assemble(
    config: Config,
    wake: threading.Event,
    *,
    stdin: bool = False,
    streams: dict[str, Stream] | None = None,
    talk: Callable[[list[str]], Dialogue] | None = None,
) -> Loop:
    """A Loop as configured, in the state of the last acknowledged batch.

    Args:
        config: to be obeyed.
        wake: set when there is something to do.
        stdin: lines come from standard input.
        streams: fresh ones by name, instead of those made here.
        talk: makes what is both the only source and a sink, of the chunks that the journal knows.

    Raises:
        ConfigError: a bundle, the state directory or a sink cannot be used; nothing is left open.
    """
    with contextlib.ExitStack() as undo:
        loop = _assembled(config, wake, undo, stdin=stdin, streams=streams or make_streams(config), talk=talk)
        undo.pop_all()
    return loop


def _assembled(
    config: Config,
    wake: threading.Event,
    undo: contextlib.ExitStack,
    *,
    stdin: bool,
    streams: dict[str, Stream],
    talk: Callable[[list[str]], Dialogue] | None,
) -> Loop:
    state = Path(config.agent.state_dir) if config.agent.state_dir else None
    journal = None
    arguments: dict[str, Any] = {}
    chunks: list[str] = []
    settled = True
    if state is not None:
        limits = JournalLimits(fsync_s=config.agent.fsync_s, compact_bytes_max=config.limits.journal_bytes_max)
        journal = Journal.open(state / "journal", limits)
        undo.callback(journal.close)
        arguments, chunks, settled = restore(journal.restore(), streams)
    observing = Observing(state, config.agent.observe_h, config.agent.observe_file)
    outlets = build_sinks(config, wake.set)
    undo.callback(lambda: [outlet.close(0.1) for outlet in outlets])
    inlets: list[Inlet] = list(build_inlets(config, wake.set, chunks)) if config.source else []
    if stdin:
        inlets.append(PipeInlet(config.stream[0].name, _line_limits(config.stream[0]), wake.set))
    if talk is not None:
        dialogue = talk(chunks)
        outlets, inlets = [*outlets, dialogue], [dialogue]
    watches = {}
    for stream in config.stream:
        if stream.include and not stdin and talk is None:
            registry = Registry.restore(**arguments[stream.name]) if stream.name in arguments else None
            watches[stream.name] = _watch(stream, config, registry)
    loop = Loop(
        streams,
        watches,
        inlets,
        outlets,
        journal,
        wake=wake,
        waker=Waker(wake, enabled=config.agent.watchdog) if watches else None,
        observing=observing,
        drain_s=config.limits.drain_s,
        poll_s=min(config.agent.poll_s, WatchLimits().look_s),
        ends=stdin,
    )
    loop.know(chunks)
    if not settled and not loop.compact():
        raise ConfigError(f"cannot write the state under another bundle to {state}; free some space and start again")
    return loop


def make_streams(config: Config) -> dict[str, Stream]:
    """All streams of a configuration, fresh, on verified bundles; ConfigError if one cannot be used."""
    return {stream.name: make_stream(stream, config) for stream in config.stream}


def make_stream(stream: StreamConfig, config: Config, running: Bundle | None = None) -> Stream:
    """A stream on its verified bundle, or on one that ran."""
    bundle = running or opened(stream.bundle)
    limits = config.limits
    return Stream(
        with_key(bundle, stream.key),
        Options(
            stream.name,
            machine=machine(),
            emit=stream.emit,
            sessions_max=limits.sessions_max,
            windows_max=limits.windows_max,
            idle_s=stream.idle_s,
            match=MatchLimits(
                entries=limits.memo_entries_max,
                bytes=limits.memo_bytes_max,
                timeout_s=limits.match_timeout_s,
                line_bytes_max=stream.line_bytes_max,
            ),
            cooldown_s=config.incidents.cooldown_s,
            cap_per_hour=config.incidents.cap_per_hour,
            mutes=read_mutes(config.incidents.mute_file),
        ),
    )


def opened(path: str) -> Bundle:
    """A bundle that gave its golden results on this host."""
    bundle = bundles.read(path)
    golden.verify(bundle)
    return bundle


def with_key(bundle: Bundle, key: str) -> Bundle:
    """The bundle under another key rule, as a stream's configuration may say."""
    if not key:
        return bundle
    rule = KeyRule() if key == "none" else KeyRule(kind="search", regex=key)
    return dataclasses.replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, key=rule))


def _watch(stream: StreamConfig, config: Config, registry: Registry | None) -> Watch:
    multiline = None
    if stream.multiline != "none":
        multiline = Multiline(
            stream.multiline,
            stream.multiline_start,
            stream.multiline_timeout_s,
            stream.multiline_lines_max,
            stream.multiline_bytes_max,
        )
    limits = WatchLimits(
        look_s=min(WatchLimits().look_s, config.agent.poll_s),
        files_max=config.limits.files_max,
        descriptors_max=config.limits.open_files_max,
        ignore_older_s=stream.ignore_older_h * 3600,
    )
    globs = Globs(stream.include, stream.exclude, own_files(config))
    reading = Reading(stream.name, _line_limits(stream), multiline, config.agent.batch_bytes)
    return Watch(reading, globs, registry=registry, start=stream.start, limits=limits)


def _line_limits(stream: StreamConfig) -> LineLimits:
    return LineLimits(stream.line_bytes_max, stream.long_lines)


@contextlib.contextmanager
def _edges(config: Config, loop: Loop, renewal: Renewal | None, recent: Recent) -> Iterator[None]:
    """The status socket and the metrics endpoint, while the loop runs; with `renewal` the socket can reload."""
    with contextlib.ExitStack() as stack:
        if config.agent.status_socket:
            observing = loop.observing
            commands = {
                "status": lambda: {**loop.published, "metrics": telemetry.metrics.snapshot()},
                "pause": lambda: _told(observing.pause, "paused"),
                "resume": lambda: _told(observing.resume, "resumed"),
            }
            if renewal is not None:
                commands["reload"] = lambda: _told(renewal.order, "reloading")
                commands["lines"] = recent.told
            server = StatusServer(config.agent.status_socket, commands)
            stack.callback(server.close)
        if config.agent.metrics:
            stack.callback(telemetry.serve_metrics(config.agent.metrics))
        yield


def _told(action: Callable[[], None], word: str) -> dict[str, str]:
    action()
    return {"state": word}


def _table(options: argparse.Namespace, state: str, stream: dict[str, Any]) -> Config:
    """The configuration that the options of `exec` and `pipe` mean."""
    return build(
        {
            "agent": {
                "state_dir": state,
                "status_socket": "",
                "observe_h": options.observe / 3600,
                "observe_file": "/etc/foretail/observe",
            },
            "stream": [{"name": options.stream, "bundle": options.bundle, "emit": options.emit, **stream}],
        },
        "options",
    )


def _default_state(*parts: str) -> str:
    """A state directory for these files: the service manager's, or the user's."""
    base = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    if not base:
        home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        base = "/var/lib/foretail" if os.geteuid() == 0 else str(home / "foretail")
    name = hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return str(Path(base) / f"{parts[0]}-{name}")
