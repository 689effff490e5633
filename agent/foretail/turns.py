"""Whose turn it is to be read: every file in turn, a rotated one before the one that took its place."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foretail.followed import Followed
    from foretail.identity import Cursor
    from foretail.lines import Batch
    from foretail.tail import Tail


class Turns:
    """A queue of tails to read, each in it once, and batches that need no reading."""

    def __init__(self) -> None:
        self._ready: deque[Tail] = deque()
        self._waiting: set[str] = set()
        self._missed: set[str] = set()
        self._given: deque[tuple[Batch, Cursor]] = deque()

    def __contains__(self, tail: Tail) -> bool:
        return tail.id in self._waiting

    def miss(self, tail: Tail) -> None:
        """Have those after a tail wait that was not found where it was, until `look_again`."""
        self._missed.add(tail.id)

    def look_again(self) -> None:
        """Forget what was missed: a look follows, which finds it or gives it up."""
        self._missed.clear()

    def mark(self, tail: Tail) -> None:
        """Queue a tail, behind the others."""
        if tail.id not in self._waiting:
            self._waiting.add(tail.id)
            self._ready.append(tail)

    def next(self, followed: Followed) -> Tail | None:
        """Take the next tail that is followed; those after one that waits with unread bytes stay behind it."""
        for _ in range(len(self._ready)):
            tail = self._ready.popleft()
            self._waiting.discard(tail.id)
            if followed.tails.get(tail.id) is not tail:
                continue
            busy = self._waiting | self._missed if self._missed else self._waiting
            if not any(earlier.unread and earlier.id in busy for earlier in followed.before(tail)):
                return tail
            self.mark(tail)
        return None

    def give(self, batch: Batch, before: Cursor) -> None:
        """Queue a batch; before it is taken, its source's cursor counts as `before`."""
        self._given.append((batch, before))

    def take(self) -> Batch | None:
        """Take the next batch that was queued."""
        return self._given.popleft()[0] if self._given else None

    def untaken(self) -> dict[str, Cursor]:
        """Give the cursors before the queued batches, by source id."""
        return {before.id: before for _, before in reversed(self._given)}
