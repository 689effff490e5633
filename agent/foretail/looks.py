"""When a host looks for newer bundles, and what came of it so far: one small file for whoever looks.

The running agent and a timer may both look; who finds that a look is due does it, and the file says when the next is.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from typing import TYPE_CHECKING

import msgspec

from foretail.durable import write_durably
from foretail.errors import ConfigError
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILE = "update.json"
JITTER = 0.1
"""A look is put off by up to this share of the interval, so that a fleet does not come all at once."""
RETRY_S = 60.0
"""After the first failure; doubled with each further one, at most the interval."""
LEVELS = {"failed": "warning", "refused": "warning", "undone": "error"}
"""Log levels of steps that the operator must look at."""


class Looks(msgspec.Struct, frozen=True):
    """What is kept.

    Attributes:
        due: epoch seconds of the next look; 0 = none was made yet.
        failures: looks in a row that failed.
        steps: how often each step was made.
    """

    due: float = 0.0
    failures: int = 0
    steps: dict[str, int] = {}


def planned(looks: Looks, *, failed: bool, now: float, interval_s: float, chance: float) -> Looks:
    """After a look at `now`: the next one an interval later, or sooner after a failure; each put off by chance.

    Args:
        looks: so far.
        failed: whether it failed.
        now: epoch seconds.
        interval_s: between looks.
        chance: in [0, 1).
    """
    failures = looks.failures + 1 if failed else 0
    wait = min(interval_s, RETRY_S * 2.0 ** min(failures - 1, 30)) if failed else interval_s
    spread = 0.5 if failed else JITTER
    return msgspec.structs.replace(looks, due=now + wait * (1 + spread * chance), failures=failures)


def is_due(looks: Looks, now: float, interval_s: float) -> bool:
    """Whether to look at `now`, epoch seconds; a clock that was far ahead once holds nothing back."""
    return not now < looks.due < now + 2 * max(interval_s, RETRY_S)


def read(state: Path) -> Looks:
    """What the state directory says; as if there had been no look where it cannot be read."""
    try:
        return msgspec.json.decode((state / FILE).read_bytes(), type=Looks)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Looks()


class Steps:
    """Tells and counts the steps of a look, of an import, of a rollback.

    Args:
        state: the state directory.
        say: told the sentences for people; None = each step is a log event instead.
    """

    def __init__(self, state: Path, say: Callable[[str], None] | None) -> None:
        self._state, self._say = state, say

    @property
    def words(self) -> bool:
        """Whether people read along."""
        return self._say is not None

    def __call__(self, step: str, sentence: str = "", **fields: object) -> None:
        """One step: `bundle.STEP` in the log, `update_steps_total{step}` in the metrics of the agent."""
        self._change(
            lambda looks: msgspec.structs.replace(looks, steps=looks.steps | {step: looks.steps.get(step, 0) + 1})
        )
        if self._say is None:
            getattr(log, LEVELS.get(step, "info"))(f"bundle.{step}", **fields)
        elif sentence:
            self._say(sentence)

    def say(self, sentence: str) -> None:
        """What is no step, for people."""
        if self._say is not None:
            self._say(sentence)

    def done(self, *, failed: bool, interval_s: float) -> None:
        """Plan the next look."""
        now, chance = time.time(), random.random()  # noqa: S311 - no secret
        self._change(lambda looks: planned(looks, failed=failed, now=now, interval_s=interval_s, chance=chance))

    def _change(self, change: Callable[[Looks], Looks]) -> None:
        """Only one process at a time."""
        try:
            self._state.mkdir(mode=0o750, parents=True, exist_ok=True)
            lock = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                write_durably(self._state / FILE, [msgspec.json.encode(change(read(self._state)))], mode=0o644)
            finally:
                os.close(lock)
        except OSError as error:
            raise ConfigError(
                f"cannot write {self._state / FILE}: {error.strerror}; run as the agent's user"
            ) from error
