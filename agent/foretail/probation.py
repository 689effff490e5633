"""A new bundle is on probation until the agent has lived with it; rolled back when it does harm.

Harm is: the agent dies on it again and again; its patterns run out of time; it knows far fewer lines than the bundle
before did. Not: more alarms. Each start on such a bundle is counted in the shelf's `standing.json` before anything of
the bundle is loaded; a clean stop ends the count, and some minutes of life the probation.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from foretail import shadow
from foretail.activation import Shelf, followed
from foretail.errors import ConfigError
from foretail.examination import compared
from foretail.globs import Globs
from foretail.release import folder
from foretail.rise import Span, rose, share
from foretail.sinks import own_files
from foretail.telemetry import log, metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from foretail.config import Config
    from foretail.loop import Loop
    from foretail.stream import Stream

STARTS_MAX = 3
"""So many starts in a row may end in a crash; the next one is on the bundle before."""
LIFE_S = 600.0
LOOK_S = 1.0
SPANS = 600
"""So many looks are remembered of each bundle."""
UNTYPED_RISE = shadow.UNTYPED_RISE
CUT_BYTES = 128 << 10
CUT_RISE = 0.1
"""Matches that are cut off may take so much more of the time than before."""


_NONE_CUT = Span(0, 1000)
"""What is expected of a bundle nobody has seen at work."""


class Counts(NamedTuple):
    """What a stream has counted so far; `cut` by its present bundle alone."""

    at: float
    lines: int
    untyped: int
    cut: int


class Trial:
    """One stream: what was counted under its bundle, and under the one before."""

    def __init__(self, stream: Stream, now: float) -> None:
        totals = stream.teller.totals
        self.digest, self.began = stream.bundle.digest, now
        self.untyped: deque[Span] = deque(maxlen=SPANS)
        self.cut: deque[Span] = deque(maxlen=SPANS)
        self.untyped_before = [Span(totals.untyped, totals.lines)]  # what the state of an earlier run knows
        self.cut_before = [_NONE_CUT]
        self._last = _counts(stream, now)

    def look(self, stream: Stream, now: float) -> None:
        """Count the time since the last look; under another bundle begin anew."""
        if stream.bundle.digest != self.digest:
            self.accept()
            self.digest, self.began, self._last = stream.bundle.digest, now, self._last._replace(cut=0)
        counts, last = _counts(stream, now), self._last
        self._last = counts
        self.untyped.append(Span(counts.untyped - last.untyped, counts.lines - last.lines))
        room = (counts.at - last.at) / stream.options.match.timeout_s
        fresh = counts.cut < last.cut  # loaded again: it counts from 0
        self.cut.append(Span(counts.cut - (0 if fresh else last.cut), room))

    def harm(self) -> str:
        """`timeouts`, `untyped`, or "" for none."""
        if rose(self.cut_before, self.cut, CUT_RISE):
            return "timeouts"
        return "untyped" if rose(self.untyped_before, self.untyped, UNTYPED_RISE) else ""

    def accept(self) -> None:
        """What later counts are compared with is what was counted so far."""
        self.untyped_before = list(self.untyped) or self.untyped_before
        self.cut_before = list(self.cut) or self.cut_before
        self.untyped.clear()
        self.cut.clear()


class Probation:
    """The bundles that the streams of a configuration follow, from the start of a process to its end."""

    def __init__(self, config: Config) -> None:
        self._take(config)
        self._loop: Loop | None = None
        self._reload: Callable[[], None] = lambda: None
        self._trials: dict[str, Trial] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probation", daemon=True)

    def _take(self, config: Config) -> None:
        state = Path(config.agent.state_dir)
        self._config = config
        names = {stream.name: followed(stream.bundle, state) for stream in config.stream if config.agent.state_dir}
        self._shelves = {name: Shelf(state / "bundles" / name) for name in sorted(set(names.values()) - {""})}
        self._followed = {stream: self._shelves[name] for stream, name in names.items() if name}

    def begin(self) -> None:
        """Count this start; go back to the bundle before where too many ended badly."""
        for shelf in self._shelves.values():
            try:
                self._counted(shelf)
            except ConfigError as error:
                log.warning("probation.failed", bundle=shelf.place.name, error=str(error))

    def attach(self, loop: Loop, config: Config, reload: Callable[[], None]) -> None:
        """Watch this loop from now on; `reload` makes it take the current bundles."""
        self._take(config)
        self._loop, self._reload = loop, reload
        for name in self._followed.keys() & loop.streams.keys() - self._trials.keys():
            self._trials[name] = Trial(loop.streams[name], time.monotonic())
        if not self._thread.is_alive():
            self._thread.start()

    def end(self) -> None:
        """The process ends as it was told to."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_S)
        for shelf in self._shelves.values():
            self._lived(shelf, passed=False)

    # -- crashes -------------------------------------------------------------------------------------------------

    @staticmethod
    def _counted(shelf: Shelf) -> None:
        if not shelf.standing.trial or shelf.standing.trial != shelf.current:
            return
        with shelf.locked():
            starts = shelf.standing.starts + 1
            if starts > STARTS_MAX and shelf.previous:
                _go_back(shelf, "crashes", {"starts": STARTS_MAX})
            else:
                shelf.stand(msgspec.structs.replace(shelf.standing, starts=starts))

    @staticmethod
    def _lived(shelf: Shelf, *, passed: bool) -> None:
        """The agent ended as it was told to, or lived with the bundle for long enough: then it stays."""
        try:
            with shelf.locked():
                standing = shelf.standing
                if standing.trial and (passed or standing.starts):
                    trial = "" if passed else standing.trial
                    shelf.stand(msgspec.structs.replace(standing, starts=0, trial=trial))
                    if passed:
                        log.info("bundle.passed", bundle=shelf.place.name, current=shelf.current)
        except (ConfigError, OSError) as error:
            log.warning("probation.failed", bundle=shelf.place.name, error=str(error))

    # -- harm ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._end.wait(LOOK_S):
            try:
                self._look(time.monotonic())
            except (ConfigError, OSError) as error:  # another process changes the shelf, say: looked at again
                log.warning("probation.failed", error=str(error))
            except Exception as error:  # noqa: BLE001 - a bug must be seen, and must not end the probation
                log.error("probation.failed", error=repr(error))

    def _look(self, now: float) -> None:
        streams = self._loop.streams if self._loop is not None else {}
        for name, shelf in self._followed.items():
            if name not in streams or name not in self._trials:
                continue
            trial = self._trials[name]
            trial.look(streams[name], now)
            if not _on_trial(shelf, streams[name]):
                continue
            if now - trial.began > LIFE_S:
                self._lived(shelf, passed=True)
            elif harm := trial.harm():
                self._convict(name, shelf, trial, harm)

    def _convict(self, name: str, shelf: Shelf, trial: Trial, harm: str) -> None:
        """Go back, unless the bundle before would do no better on the last lines."""
        before, after = (trial.cut_before, trial.cut) if harm == "timeouts" else (trial.untyped_before, trial.untyped)
        told = {"stream": name, "before": f"{share(before).value:.2%}", "after": f"{share(after).value:.2%}"}
        if not shelf.previous:
            log.warning("probation.failed", bundle=shelf.place.name, cause=harm, error="no bundle before it", **told)
            trial.accept()
        elif not self._worse(name, shelf, harm):
            log.warning(
                "probation.cleared", bundle=shelf.place.name, cause=harm, why="the one before does no better", **told
            )
            trial.accept()
        else:
            with shelf.locked():
                _go_back(shelf, harm, told)
            self._reload()

    def _worse(self, name: str, shelf: Shelf, harm: str) -> bool:
        """Whether the bundle before does better on the last lines; True where there are none to ask about."""
        stream = next(stream for stream in self._config.stream if stream.name == name)
        lines = shadow.sample([Globs(stream.include, stream.exclude, own_files(self._config))])
        if not lines and self._loop is not None and self._loop.recent is not None:
            lines = self._loop.recent.told().get(name, b"")
        if harm == "timeouts":  # each takes long, and some are enough
            lines = lines[-CUT_BYTES:].partition(b"\n")[2]
        if not lines:
            return True
        with tempfile.NamedTemporaryFile() as file:
            file.write(lines)
            file.flush()
            try:
                old, new = compared(shelf.place / shelf.previous, shelf.place / shelf.current, Path(file.name))
            except ConfigError as error:
                log.warning("probation.failed", bundle=shelf.place.name, error=str(error))
                return True
        return new.cut > old.cut if harm == "timeouts" else new.untyped - old.untyped > UNTYPED_RISE * new.lines


def _go_back(shelf: Shelf, cause: str, told: Mapping[str, object]) -> None:
    old, new = shelf.rollback()
    metrics.add("bundle_rollbacks_total", bundle=shelf.place.name, cause=cause)
    log.error("bundle.rolled_back", bundle=shelf.place.name, cause=cause, barred=old, current=new, **told)


def _on_trial(shelf: Shelf, stream: Stream) -> bool:
    entry = folder(stream.bundle.manifest.version, stream.bundle.digest)
    return shelf.current.split(".")[0] == entry and shelf.standing.trial == shelf.current


def _counts(stream: Stream, now: float) -> Counts:
    totals = stream.teller.totals
    return Counts(now, totals.lines, totals.untyped, stream.matcher.stats.timeouts)
