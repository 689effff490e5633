"""The open files of a stream: bounded in number, opened again by identity, and not tried in vain too often."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from foretail.handles import look, open_file
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretail.losses import WatchCounts
    from foretail.tail import Tail


class Retry(msgspec.Struct, frozen=True):
    """How often an unreadable path is tried: the delay doubles from s_min to s_max seconds."""

    s_min: float = 1.0
    s_max: float = 60.0


class _Failure(msgspec.Struct):
    again_at: float
    delay: float


class Descriptors:
    """Opens and closes the files of tails, the least recently used first.

    Args:
        count_max: files open at a time, beside the one in use.
        retry: of unreadable paths.
        counts: read_errors are counted there.
        give_up: called with a tail that has no name left and must make room.
    """

    def __init__(self, count_max: int, retry: Retry, counts: WatchCounts, give_up: Callable[[Tail], None]) -> None:
        self._count_max = count_max
        self._retry = retry
        self._counts = counts
        self._give_up = give_up
        self._open: OrderedDict[str, Tail] = OrderedDict()
        self._failures: dict[str, _Failure] = {}

    def __len__(self) -> int:
        return len(self._open)

    @property
    def unreadable(self) -> int:
        """Paths whose last try failed."""
        return len(self._failures)

    def have(self, tail: Tail, now: float) -> bool:
        """Have the tail's file open; False if that cannot be done now, and then a later look shall try again."""
        if tail.file is None and not (self.may_try(tail.path, now) and self._opened(tail, now)):
            tail.forget_look()
            return False
        self.use(tail)
        return True

    def use(self, tail: Tail) -> None:
        """Take note that the open file was used."""
        self._open[tail.id] = tail
        self._open.move_to_end(tail.id)
        while len(self._open) > self._count_max and self._make_room(tail):
            pass

    def release(self, tail: Tail) -> None:
        """Close the tail's file."""
        self._open.pop(tail.id, None)
        tail.close()

    def failed(self, path: str, error: OSError, now: float) -> None:
        """Take note that a path could not be opened or read."""
        before = self._failures.get(path)
        delay = min(before.delay * 2, self._retry.s_max) if before else self._retry.s_min
        self._failures[path] = _Failure(now + delay, delay)
        self._counts.read_errors += 1
        if before is None:
            log.warning("file.unreadable", path=path, error=error.strerror or str(error))

    def succeeded(self, path: str) -> None:
        """Take note that a path can be read."""
        if self._failures.pop(path, None):
            log.info("file.readable", path=path)

    def may_try(self, path: str, now: float) -> bool:
        """Whether the delay after the last failure is over; a clock that steps back ends it."""
        failure = self._failures.get(path)
        return failure is None or not failure.again_at - failure.delay <= now < failure.again_at

    def forget_failures(self, paths: frozenset[str]) -> None:
        """Forget the failures of all other paths."""
        self._failures = {path: failure for path, failure in self._failures.items() if path in paths}

    def _opened(self, tail: Tail, now: float) -> bool:
        try:
            file = open_file(tail.path)
        except FileNotFoundError:  # moved since the last look; the next one tells where to
            return False
        except OSError as error:
            self.failed(tail.path, error, now)
            return False
        if file.place != tail.place:  # moved between look and open
            file.close()
            return False
        tail.file = file
        self.succeeded(tail.path)
        return True

    def _make_room(self, current: Tail) -> bool:
        """Close the least recently used file that can be found again; else give up the oldest without a name.

        The file in use stays; while the others are all nameless it is one over the limit.
        """
        others = [tail for tail in self._open.values() if tail is not current]
        for tail in others:
            found = look(tail.path)
            if found and found.place == tail.place:
                self.release(tail)
                return True
        if len(others) > self._count_max:
            self._give_up(others[0])
            return True
        return False
