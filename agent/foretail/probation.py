"""A new bundle is on probation until the agent has lived with it; rolled back when it dies again and again.

Each start of the agent on such a bundle is counted in the shelf's `standing.json` before anything of the bundle is
loaded; a clean stop or some minutes of life end the count.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from foretail.activation import Shelf, followed
from foretail.errors import ConfigError
from foretail.telemetry import log, metrics

if TYPE_CHECKING:
    from foretail.config import Config

STARTS_MAX = 3
"""So many starts in a row may end in a crash; the next one is on the bundle before."""
LIFE_S = 600.0


class Probation:
    """The bundles that the streams of a configuration follow, from the start of a process to its end."""

    def __init__(self, config: Config) -> None:
        state = Path(config.agent.state_dir)
        names = {followed(stream.bundle, state) for stream in config.stream} if config.agent.state_dir else set()
        self._shelves = [Shelf(state / "bundles" / name) for name in sorted(names - {""})]
        self._timer = threading.Timer(LIFE_S, self.passed)
        self._timer.daemon = True

    def begin(self) -> None:
        """Count this start; go back to the bundle before where too many ended badly."""
        for shelf in self._shelves:
            try:
                self._counted(shelf)
            except ConfigError as error:
                log.warning("probation.failed", bundle=shelf.place.name, error=str(error))
        self._timer.start()

    def passed(self) -> None:
        """The agent lived, or ended as it was told to: the bundles stay."""
        for shelf in self._shelves:
            try:
                with shelf.locked():
                    if shelf.standing.starts:
                        shelf.stand(msgspec.structs.replace(shelf.standing, starts=0, trial=""))
            except (ConfigError, OSError) as error:
                log.warning("probation.failed", bundle=shelf.place.name, error=str(error))

    def end(self) -> None:
        """The process ends as it was told to."""
        self._timer.cancel()
        self.passed()

    @staticmethod
    def _counted(shelf: Shelf) -> None:
        if not shelf.standing.trial or shelf.standing.trial != shelf.current:
            return
        with shelf.locked():
            starts = shelf.standing.starts + 1
            if starts > STARTS_MAX and shelf.previous:
                old, new = shelf.rollback()
                metrics.add("bundle_rollbacks_total", bundle=shelf.place.name)
                log.error("bundle.rolled_back", bundle=shelf.place.name, barred=old, current=new, crashes=STARTS_MAX)
            else:
                shelf.stand(msgspec.structs.replace(shelf.standing, starts=starts))
