"""The sources of a stream: those being read, with their file, and those whose file is gone for now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from foretail.descriptors import Descriptors, Retry
from foretail.identity import Cursor, family
from foretail.lines import LineCounts
from foretail.losses import WatchCounts
from foretail.search import has_successor, name_of, real
from foretail.tail import Reading, Tail
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from foretail.handles import File, Place


class Past(msgspec.Struct):
    """A cursor without a file.

    Attributes:
        since: monotonic seconds.
        owed: it was not read to its end and given up: its file is looked for, its unread bytes may count as lost.
    """

    cursor: Cursor
    since: float
    owed: bool


class Followed:
    """Tails by id, file and family of names, and cursors of files that are gone.

    Args:
        reading: how lines are read.
        descriptors_max: open files.
        retry: of unreadable files.
        past_max: cursors kept of files that are gone; the oldest are forgotten.

    Attributes:
        tails: being read, by source id.
        places: the same by file.
        counts: what was lost.
        line_counts: what was left out of the lines of tails that are gone.
        settled: cursors whose unread bytes were counted as lost, for the journal: a loss is counted once.
    """

    def __init__(self, reading: Reading, *, descriptors_max: int, retry: Retry, past_max: int) -> None:
        self.tails: dict[str, Tail] = {}
        self.places: dict[Place, Tail] = {}
        self.counts = WatchCounts()
        self.line_counts = LineCounts()
        self.settled: list[Cursor] = []
        self.descriptors = Descriptors(descriptors_max, retry, self.counts, self._give_up)
        self._reading = reading
        self._past_max = past_max
        self._past: dict[str, Past] = {}
        self._kin: dict[str, set[str]] = {}
        self._dropped: dict[str, str] = {}  # id -> id of the source before it
        self._left: dict[str, str] = {}  # path -> id of the source that was there last

    def follow(self, cursor: Cursor, file: File, path: str, now: float, *, rotated: bool = False) -> Tail:
        """Read a file from where the cursor stands; OSError if that cannot be read.

        `rotated`: it is not in the globs, so it must have left its first name.
        """
        rotated = rotated or cursor.rotated or path != cursor.path or has_successor(real(path))
        here = msgspec.structs.replace(cursor, path=path, real_path=real(path), rotated=rotated)
        tail = Tail(self._reading, here, file)
        self._forget(cursor.id)
        if path != cursor.path:
            self.leave(cursor.path, cursor.id)
        tail.saw(file.look(), now)
        self.tails[tail.id] = self.places[file.place] = tail
        self._relate(tail.id, tail.path, tail.real_path)
        self.descriptors.use(tail)
        log.info("file.found", path=path, source=tail.id, offset=cursor.offset)
        return tail

    def move(self, tail: Tail, file: File, path: str, now: float) -> None:
        """Go on in a copy of the tail's file."""
        log.info("file.copied", path=tail.path, to=path, source=tail.id)
        self.descriptors.release(tail)
        self._unplace(tail)
        tail.move(file)
        tail.saw(file.look(), now)
        self.places[file.place] = tail
        self._renamed(tail, path)
        self.descriptors.use(tail)

    def rename(self, tail: Tail, path: str) -> None:
        """Take over the new name of the tail's file."""
        log.info("file.renamed", path=tail.path, to=path, source=tail.id)
        self._renamed(tail, path)

    def before(self, tail: Tail) -> Iterator[Tail]:
        """Give the followed sources whose place it took, the latest first, as far as one that was read from."""
        id_, asked = tail.after, {tail.id}
        while id_ and id_ not in asked:
            asked.add(id_)
            earlier = self.tails.get(id_)
            if earlier is not None:
                yield earlier
            past = self._past.get(id_)
            if (earlier is not None and earlier.position) or (past is not None and past.cursor.offset):
                return
            id_ = earlier.after if earlier is not None else past.cursor.after if past else self._dropped.get(id_, "")

    def drop(self, tail: Tail) -> None:
        """Stop reading a file."""
        self._dropped[tail.id] = "" if tail.position else tail.after
        if len(self._dropped) > self._past_max:
            del self._dropped[next(iter(self._dropped))]
        self.line_counts.add(tail.counts)
        self.descriptors.release(tail)
        self._unplace(tail)
        del self.tails[tail.id]
        self._unrelate(tail.id, tail.path, tail.real_path)

    def put_aside(self, tail: Tail, now: float, *, owed: bool, emptied: bool = False) -> None:
        """Stop reading a file, and remember how far it was read; `emptied`: what was read is no longer in it."""
        cursor = tail.cursor()
        if tail.nameless or emptied:  # the inode stands, or may stand, for other content from now on
            cursor = msgspec.structs.replace(cursor, inode=0, device=0)
        self.drop(tail)
        self.remember(cursor, now, owed=owed)

    def remember(self, cursor: Cursor, now: float, *, owed: bool) -> None:
        """Keep the cursor of a file that is gone; `owed` if its unread bytes are lost unless it is found."""
        self._past[cursor.id] = Past(cursor, now, owed)
        self._relate(cursor.id, cursor.path, cursor.real_path)
        self.leave(cursor.path, cursor.id)
        if len(self._past) > self._past_max:
            self._lose(next(iter(self._past)))

    def leave(self, path: str, id_: str) -> None:
        """Remember whose place the next new file at this path takes."""
        self._left.pop(path, None)
        self._left[path] = id_
        if len(self._left) > self._past_max:
            del self._left[next(iter(self._left))]

    def replaced(self, path: str) -> str:
        """A new file stands at this path: count what an unfound one there had not read; give the id it comes after."""
        for past in self._past.values() if self._past else ():
            if past.cursor.path == path:
                self._owe(past)
        return self._left.pop(path, "")

    def expire(self, now: float, forget_s: float) -> None:
        """Forget cursors whose file is gone for so long; a clock that steps back starts the wait anew."""
        for id_, past in list(self._past.items()):
            past.since = min(past.since, now)
            if now - past.since >= forget_s:
                self._lose(id_)

    def cursors(self) -> dict[str, Cursor]:
        """Give all cursors by source id."""
        past = {id_: past.cursor for id_, past in self._past.items()}
        return past | {id_: tail.cursor() for id_, tail in self.tails.items()}

    def tails_like(self, *paths: str) -> list[Tail]:
        """List the tails that share a family of names with one of the paths."""
        return [self.tails[id_] for id_ in self._like(paths) if id_ in self.tails]

    def past_like(self, *paths: str) -> list[Past]:
        """List the cursors without a file that share a family of names with one of the paths."""
        return [self._past[id_] for id_ in self._like(paths) if id_ in self._past]

    def _like(self, paths: tuple[str, ...]) -> list[str]:
        return sorted(set().union(*(self._kin.get(family(name_of(path)), ()) for path in paths)))

    def _renamed(self, tail: Tail, path: str) -> None:
        self.leave(tail.path, tail.id)
        self._unrelate(tail.id, tail.path, tail.real_path)
        tail.path, tail.real_path = path, real(path)
        tail.rotated, tail.nameless = True, False
        self._relate(tail.id, tail.path, tail.real_path)

    def _unplace(self, tail: Tail) -> None:
        if self.places.get(tail.place) is tail:
            del self.places[tail.place]

    def _relate(self, id_: str, *paths: str) -> None:
        for path in filter(None, paths):
            self._kin.setdefault(family(name_of(path)), set()).add(id_)

    def _unrelate(self, id_: str, *paths: str) -> None:
        for path in filter(None, paths):
            kin = family(name_of(path))
            ids = self._kin.get(kin, set())
            ids.discard(id_)
            if not ids:
                self._kin.pop(kin, None)

    def _forget(self, id_: str) -> None:
        past = self._past.pop(id_, None)
        if past is not None:
            self._unrelate(id_, past.cursor.path, past.cursor.real_path)

    def _lose(self, id_: str) -> None:
        self._owe(self._past[id_])
        self._forget(id_)

    def _owe(self, past: Past) -> None:
        if past.owed and past.cursor.unread:
            self.counts.vanished(past.cursor)
            past.cursor = msgspec.structs.replace(past.cursor, size=past.cursor.offset)
            self.settled.append(past.cursor)
        past.owed = False

    def _give_up(self, tail: Tail) -> None:
        """Make room at the limit of descriptors; what was read and not given out is read bytes lost as well."""
        self.counts.dropped(tail.path, tail.id, tail.held + tail.unread)
        self.drop(tail)
