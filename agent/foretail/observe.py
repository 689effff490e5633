"""Whether incidents are kept back: in the first hours, while paused, and while a fleet-wide file exists (DESIGN §6)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from foretail.errors import ConfigError

LOOK_S = 2.0
"""How often the files are looked for."""
SINCE, PAUSED = "since", "paused"


class Observing:
    """Asked with the time once a batch; `pause` and `resume` may be called from another thread.

    Args:
        state_dir: holds when the agent first started, and the mark of `pause`; None = nothing is kept.
        hours: after the first start in which incidents are kept back.
        file: while it exists incidents are kept back; "" = none.
    """

    def __init__(self, state_dir: Path | None, hours: float, file: str) -> None:
        self._dir, self._file = state_dir, file
        self._paused = state_dir is not None and (state_dir / PAUSED).exists()
        self._until = _first_start(state_dir) + hours * 3600 if hours else 0.0
        self._looked = float("-inf")
        self._told = False
        self._lock = threading.Lock()

    def __call__(self, now: float) -> bool:
        """Whether an incident found at `now` (epoch seconds) is kept back."""
        if abs(now - self._looked) > LOOK_S:
            self._looked = now
            self._told = bool(self._file) and Path(self._file).exists()
        return self._paused or self._told or now < self._until

    def why(self, now: float) -> str:
        """For `status`."""
        if self._paused:
            return "paused; `foretail resume` ends it"
        if self(now) and self._told:
            return f"{self._file} exists"
        if now < self._until:
            return f"the first hours; until {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime(self._until))}"
        return ""

    def pause(self) -> None:
        """Keep incidents back until `resume`, also over restarts."""
        with self._lock:
            self._paused = True
            if self._dir is not None:
                with contextlib.suppress(OSError):
                    (self._dir / PAUSED).touch()

    def resume(self) -> None:
        """Raise incidents again."""
        with self._lock:
            self._paused, self._until = False, 0.0
            if self._dir is not None:
                (self._dir / PAUSED).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    _write_since(self._dir / SINCE, 0.0)


def _first_start(state_dir: Path | None) -> float:
    """When the agent first started here, epoch seconds; 0 when an operator ended the observation."""
    if state_dir is None:
        return time.time()
    path = state_dir / SINCE
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _write_since(path, time.time())
        return float(path.read_text(encoding="ascii"))
    except OSError as error:
        raise ConfigError(f"cannot use the state directory {state_dir}: {error.strerror}") from error
    except ValueError:
        return time.time()


def _write_since(path: Path, value: float) -> None:
    draft = path.with_suffix(".new")
    draft.write_text(f"{value:.3f}\n", encoding="ascii")
    os.replace(draft, path)  # noqa: PTH105 - the atomic one, said plainly
