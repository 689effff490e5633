"""Progress of long work on a terminal; silent elsewhere. The only door to rich's progress bars."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Stages:
    """Tells what is being done: a bar on a terminal, a line a step where stderr is a file or a pipe."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.seconds: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=False,
            disable=not self.console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    @contextmanager
    def stage(self, name: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """One step.

        Args:
            name: of it.
            total: what the amounts given to the yielded function add up to; None = unknown.
        """
        began = time.monotonic()
        task = self._progress.add_task(name, total=total)
        yield lambda amount: self._progress.advance(task, amount)
        self._progress.update(task, total=1, completed=1)
        self.seconds[name] = time.monotonic() - began
        if not self.console.is_terminal:
            print(f"{name}: {self.seconds[name]:.1f} s", file=sys.stderr)  # noqa: T201 - progress for a log file
