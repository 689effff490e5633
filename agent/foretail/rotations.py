"""What became of the files that are followed: grown, renamed, truncated, copied, removed, or quiet for long."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from foretail.handles import Plain, look
from foretail.lines import Batch, Source
from foretail.search import Folders, open_first
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Container

    from foretail.followed import Followed
    from foretail.handles import Look, Place
    from foretail.identity import Cursor
    from foretail.newcomers import Newcomers
    from foretail.tail import Tail
    from foretail.turns import Turns


class Moment(NamedTuple):
    """When a look is: monotonic seconds, epoch seconds, and what the folders hold then."""

    now: float
    wall: float
    folders: Folders


class Rotations:
    """Settles what happened to followed files.

    Args:
        stream: name, for batches.
        followed: the files.
        turns: where files with news queue up.

    Attributes:
        at: the moment of the present look; set by the Watch.
        newcomers: begins the file anew that was truncated; set once by the Watch.
    """

    newcomers: Newcomers

    def __init__(self, stream: str, followed: Followed, turns: Turns) -> None:
        self.at = Moment(0.0, 0.0, Folders())
        self._stream = stream
        self._followed = followed
        self._turns = turns

    def _look_at_nameless(self, tail: Tail) -> None:
        if tail.file is None:
            return
        try:
            found = tail.file.look()
        except OSError as error:
            self.unreadable(tail, error)
            return
        if not tail.packed and tail.saw(found, self.at.now):
            self._turns.mark(tail)

    def look_at_known(self) -> list[tuple[Tail, Cursor]]:
        """Stat the known files; give those that are no longer where they were, with the cursor of when they were."""
        moved = []
        for tail in list(self._followed.tails.values()):
            if tail.nameless:
                self._look_at_nameless(tail)
                continue
            found = look(tail.path)
            if found is None or found.place != tail.place:
                self._followed.leave(tail.path, tail.id)
                self._turns.mark(tail)
                moved.append((tail, tail.cursor()))
            elif not tail.packed:
                self._look_at_unmoved(tail, found)
            elif tail.unread:  # it does not grow: what could not be read is tried again
                self._turns.mark(tail)
        return moved

    def _look_at_unmoved(self, tail: Tail, found: Look) -> None:
        """Mark a file that changed, unless what was read from it is no longer there."""
        if (found.size, found.changed_ns) == (tail.size, tail.changed_ns):
            return
        before, empty = tail.cursor(), tail.size == 0
        if self._replaced(tail):
            self.truncated(tail)
            return
        if found.size < tail.size:  # what was read is there, so what was not has been cut off
            self._followed.counts.truncated(tail.path, tail.id, tail.size - found.size)
        tail.saw(found, self.at.now)
        if empty:  # it may have been filled, copied and emptied since
            self.take_in_missed(before)
        self._turns.mark(tail)

    def _replaced(self, tail: Tail) -> bool:
        """Say whether the file no longer holds what was read; when that cannot be told now, reading will."""
        if not self._followed.descriptors.have(tail, self.at.now):
            return False
        try:
            intact = tail.intact()
            if intact and tail.learn_head():  # noted: after a kill it may have to be found by it
                self.newcomers.born[tail.id] = tail.cursor()
        except OSError:
            return False
        return not intact

    def settle_renamed(self, tail: Tail) -> None:
        """Find the new name of a file in its folder, or a copy if it is not open."""
        path = self.at.folders.by_inode(tail.place, tail.real_path)
        if path is not None:
            self._followed.rename(tail, path)
        elif tail.file is None:
            self._move_to_copy(tail)

    def settle_vanished(self, tail: Tail) -> None:
        """Drain a file without a name, or put its cursor aside."""
        if self._followed.tails.get(tail.id) is not tail:
            return
        found = look(tail.path)
        if found is not None and found.place == tail.place:
            if not tail.packed and tail.saw(found, self.at.now):
                self._turns.mark(tail)
        elif tail.file is None:
            self._followed.put_aside(tail, self.at.now, owed=True)
        else:
            tail.rotated = tail.nameless = True
            self._look_at_nameless(tail)

    def take_in_missed(self, left: Cursor) -> None:
        """Read rotated files that nobody saw under their first name."""
        for tail in self.newcomers.take_in_missed(left, self.at.folders, self.at.now):
            self._turns.mark(tail)

    def seen_at(self, tail: Tail, path: str) -> None:
        """Take over a new name of a known file, unless its old one still leads to it."""
        old = look(tail.path)
        if old is None or old.place != tail.place:
            self._followed.rename(tail, path)
            self._turns.mark(tail)

    def truncated(self, tail: Tail) -> None:
        """Go on in a copy of what the file held, or count what was not read; read the file as a new source."""
        path, before = tail.path, tail.cursor()
        if not self._move_to_copy(tail):
            self._followed.counts.truncated(path, tail.id, tail.unread)
            self._finish(tail)
            if tail.unread:
                self._followed.settled.append(msgspec.structs.replace(tail.cursor(), size=tail.cursor().offset))
            self._followed.put_aside(tail, self.at.now, owed=False, emptied=True)  # a copy may be renamed just now
        self.take_in_missed(before)
        self._begin_again(path)

    def _move_to_copy(self, tail: Tail) -> bool:
        """Go on in the rotated copy that holds what was read from the file, if there is one."""
        copy = open_first(self.at.folders.siblings(tail.real_path), self._followed.places, tail.continued_by)
        if copy is not None:
            self._followed.move(tail, *copy, self.at.now)
            self._turns.mark(tail)
        return copy is not None

    def _begin_again(self, path: str) -> None:
        """Read a truncated file as a new source; if it cannot be opened now, the next listing finds it."""
        try:
            file = Plain(path)
        except OSError as error:
            self._followed.descriptors.failed(path, error, self.at.now)
            return
        try:
            if file.place not in self._followed.places:
                self._turns.mark(self.newcomers.begin(path, file, self.at.now, 0))
                return
        except OSError as error:
            self._followed.descriptors.failed(path, error, self.at.now)
        file.close()

    def unreadable(self, tail: Tail, error: OSError) -> None:
        """Close a file that fails, so that it is opened anew after a while (a stale handle never recovers)."""
        self._followed.descriptors.failed(tail.path, error, self.at.now)
        if tail.nameless:
            self._followed.put_aside(tail, self.at.now, owed=True)
        else:
            self._followed.descriptors.release(tail)
            tail.forget_look()

    def give_late_record(self, tail: Tail) -> None:
        """Give out a record whose continuation did not come in time."""
        before = tail.cursor()
        record = tail.flush_record(self.at.wall, self.at.now)
        if record is not None:
            self._turns.give(record, before)

    def finish_if_quiet(self, tail: Tail, quiet_s: float, listed: Container[Place]) -> None:
        """Give out the unfinished last line of a rotated file that stays at its end; if it is not listed, let it go."""
        tail.grown_at = min(tail.grown_at, self.at.now)
        quiet = self.at.now - tail.grown_at >= quiet_s and tail not in self._turns
        if tail.unread or not quiet:
            return
        self._finish(tail)
        if tail.nameless or tail.place not in listed:
            log.info("file.finished", path=tail.path, source=tail.id, offset=tail.position)
            self._followed.put_aside(tail, self.at.now, owed=False)

    def give_settled(self) -> None:
        """Have the journal learn, by batches without lines, which losses were counted."""
        for cursor in self._followed.settled:
            source = Source(cursor.id, cursor.path, cursor.whole, cursor.after)
            batch = Batch(self._stream, source, [], [], cursor.offset, self.at.wall, cursor)
            self._turns.give(batch, cursor)
        self._followed.settled.clear()

    def _finish(self, tail: Tail) -> None:
        """Give out what waits for more of a file that has no more."""
        before = tail.cursor()
        batch = tail.flush(self.at.wall) if tail.pending else None
        if batch is not None:
            self._turns.give(batch, before)
