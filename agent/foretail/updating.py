"""Looks for newer bundles while the agent runs: `foretail bundle pull --scheduled` in a process of its own.

Fetching and examining must not cost the loop a batch, nor a hole in them the agent its memory.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from foretail import looks
from foretail.config import load
from foretail.errors import ConfigError
from foretail.telemetry import log, metrics

if TYPE_CHECKING:
    from foretail.config import Config

LOOK_S = 10.0
"""How often the file of the looks is read."""
FIRST_S = 60.0
"""The first look of an agent comes within this time: a fleet that is started at once does not come at once."""
NICE = 10


class Updating:
    """A thread that looks when a look is due, and shows in the metrics what came of all looks, whoever made them.

    Args:
        path: of the configuration; `[update]` is read again before each look.
        config: as it is now.
    """

    def __init__(self, path: str, config: Config) -> None:
        self._path, self._config = path, config
        self._state = Path(config.agent.state_dir)
        self._end = threading.Event()
        self._from = time.time() + FIRST_S * random.random()  # noqa: S311 - no secret
        self._thread = threading.Thread(target=self._run, name="updating", daemon=True)
        if config.agent.state_dir:
            self._thread.start()

    def close(self) -> None:
        """No more looks; one that is under way ends."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._end.wait(LOOK_S):
            known = looks.read(self._state)
            for step, count in known.steps.items():
                metrics.set("update_steps_total", count, step=step)
            now, update = time.time(), self._config.update
            wanted = update.url and update.by == "agent" and now >= self._from
            if wanted and looks.is_due(known, now, update.interval_h * 3600):
                self._look()

    def _look(self) -> None:
        with contextlib.suppress(ConfigError):  # the reload has said it
            self._config = load(self._path)
        update = self._config.update
        command = [sys.executable, "-m", "foretail", "bundle", "pull", "--scheduled", "-c", self._path]
        try:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:  # noqa: S603
                os.setpriority(os.PRIO_PROCESS, process.pid, min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE))
                self._await(process, 600 + 10 * update.timeout_s)
        except OSError as error:
            log.warning("bundle.failed", error=f"cannot look for bundles: {error.strerror}")

    def _await(self, process: subprocess.Popen[bytes], patience_s: float) -> None:
        """Until it ends by itself, or must."""
        end = time.monotonic() + patience_s
        while process.poll() is None:
            if self._end.wait(0.2) or time.monotonic() > end:
                process.terminate()
                return
