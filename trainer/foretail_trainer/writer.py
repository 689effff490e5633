"""Where the demo's service writes: a log file with its own rotation, as history at once or live at its own pace."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from foretail_trainer.workload import Event

TICK_S = 0.02
"""Live lines that are due within one tick share a write, as a logging library's buffer would have it."""


class RotatingLog:
    """A log that renames itself: `name` to `name.1`, that to `name.2`, and so on, keeping `keep` old files.

    Args:
        path: of the file written to; its folder exists.
        bytes_max: a file is rotated before a write would take it over this.
        keep: old files; older ones are removed.
    """

    def __init__(self, path: Path, bytes_max: int, keep: int) -> None:
        self.path = path
        self.rotations = 0
        self.lines = 0
        self._bytes_max, self._keep = bytes_max, keep
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, lines: list[str]) -> None:
        """Append whole lines, each without its newline, in one system call."""
        if not lines:
            return
        data = "".join(f"{line}\n" for line in lines).encode()
        if self._size and self._size + len(data) > self._bytes_max:
            self._rotate()
        os.write(self._file, data)  # a regular file takes all of a few kilobytes or fails
        self._size += len(data)
        self.lines += len(lines)

    def close(self) -> None:
        """Close the file; it stays where it is."""
        os.close(self._file)

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        self.close()
        for number in range(self._keep, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        self.rotations += 1
        self._open()


def write_history(path: Path, events: Iterable[Event]) -> int:
    """Write events to a fresh file as fast as they come; how many there were."""
    lines = 0
    with path.open("w", encoding="utf-8") as file:
        for event in events:
            file.write(f"{event.text}\n")
            lines += 1
    return lines


def write_live(
    log: RotatingLog,
    events: Iterable[Event],
    clock: Callable[[], float],
    sleep: Callable[[float], object],
    written: Callable[[Event, float], None],
) -> None:
    """Write each event when the clock reaches its time.

    Args:
        log: takes the lines.
        events: in time order.
        clock: epoch seconds.
        sleep: waits for so many seconds.
        written: called after the write of an event that shows a fault, with the time of that write.
    """
    due: list[Event] = []
    for event in events:
        if event.time > clock():
            _flush(log, due, clock, written)
            due = []
            while (wait := event.time - clock()) > 0:
                sleep(max(wait, TICK_S))
        due.append(event)
    _flush(log, due, clock, written)


def _flush(
    log: RotatingLog, due: list[Event], clock: Callable[[], float], written: Callable[[Event, float], None]
) -> None:
    log.write([event.text for event in due])
    now = clock()
    for event in due:
        if event.fault is not None:
            written(event, now)
