"""Which files a stream has, what became of them, and whose turn it is to be read.

Truth is stat and glob on a timer; file events (`foretail.wake`) only make the next look come sooner.
"""

from __future__ import annotations

import os
import secrets
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Literal

import msgspec

from foretail.handles import Look, Place, Plain, compressed, look, names, open_file
from foretail.identity import BEFORE_BYTES, HEAD_BYTES, Cursor, Match, compare, family, rotated
from foretail.lines import LineCounts
from foretail.registry import Registry
from foretail.tail import Reading, Tail
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretail.globs import Globs
    from foretail.handles import File
    from foretail.lines import Batch


class WatchLimits(msgspec.Struct, frozen=True):
    """How often to look and how much to hold.

    Attributes:
        look_s: seconds between two looks at the known files.
        list_s: seconds between two listings of the globs (a vanished or moved file brings one at once).
        quiet_s: a rotated file that was read to its end and did not grow for so long is done.
        forget_s: the cursor of a file that is gone is kept for so long.
        past_max: at most so many of them.
        descriptors_max: open files; the least recently used are closed and found again by identity.
        retry_s_min, retry_s_max: the delay before an unreadable file is tried again doubles from the first to the last.
        ignore_older_s: files not written for so long when first seen are not read until they are; 0 = all are.
    """

    look_s: float = 0.25
    list_s: float = 2.0
    quiet_s: float = 30.0
    forget_s: float = 86_400.0
    past_max: int = 10_000
    descriptors_max: int = 512
    retry_s_min: float = 1.0
    retry_s_max: float = 60.0
    ignore_older_s: float = 0.0


class WatchCounts(msgspec.Struct):
    """What went wrong, in numbers. Bytes are those that were seen and not read, so a lower bound.

    Attributes:
        truncated_files, truncated_bytes: content replaced before it was read, and no copy of it was found.
        vanished_files, vanished_bytes: gone while they were not open, or while the agent was stopped.
        dropped_files, dropped_bytes: given up at the limit of descriptors.
        copies: rotated copies that were not read again.
        compressed_files: listed, not read.
        read_errors: failed opens and reads; each is tried again.
    """

    truncated_files: int = 0
    truncated_bytes: int = 0
    vanished_files: int = 0
    vanished_bytes: int = 0
    dropped_files: int = 0
    dropped_bytes: int = 0
    copies: int = 0
    compressed_files: int = 0
    read_errors: int = 0


class _Past(msgspec.Struct):
    """A cursor without a file: `since` monotonic seconds; `owed` while its unread bytes are not counted as lost."""

    cursor: Cursor
    since: float
    owed: bool


class _Retry(msgspec.Struct):
    at: float
    delay: float


class _Known(msgspec.Struct, frozen=True):
    """A listed file that is not read, and what it looked like when that was decided."""

    size: int
    changed_ns: int
    skip: bool  # start behind this size, once it changes


class Watch:
    """Follows the files of one stream. Not thread-safe; times are monotonic seconds except `arrived` (epoch seconds).

    Args:
        reading: how their lines are read.
        globs: which files.
        registry: what the last run knew.
        start: where files are begun that are there at the very first look; later ones are read from their head.
        new_id: makes source ids.
    """

    def __init__(
        self,
        reading: Reading,
        globs: Globs,
        *,
        registry: Registry | None = None,
        start: Literal["head", "end"] = "head",
        limits: WatchLimits | None = None,
        new_id: Callable[[], str] = lambda: secrets.token_hex(12),
    ) -> None:
        self.limits = limits or WatchLimits()
        self.globs = globs
        self.counts = WatchCounts()
        self._line_counts = LineCounts()  # of tails that are gone
        self._reading = reading
        self._start = start
        self._new_id = new_id
        self._tails: dict[str, Tail] = {}
        self._by_place: dict[Place, Tail] = {}
        self._families: dict[str, set[str]] = {}
        self._past: dict[str, _Past] = {}
        self._known: dict[Place, _Known] = {}
        self._retries: dict[str, _Retry] = {}
        self._ready: deque[Tail] = deque()
        self._waiting: set[str] = set()  # ids in _ready
        self._flushed: deque[Batch] = deque()
        self._open: OrderedDict[str, None] = OrderedDict()
        self._listed: frozenset[str] = frozenset()
        self._noted: dict[str, Cursor] = {}
        self._looked_at = self._listed_at = float("-inf")
        self._wall = 0.0
        registry = registry or Registry()
        self._begun = registry.begun
        self._unplaced = dict(registry.cursors)
        self._left: dict[str, str] = {}  # path -> id of the source that was there last
        self._news = False

    # What the loop calls

    def read(self, now: float, arrived: float) -> Batch | None:
        """Give the next batch, file after file in turn, or None if there is nothing to read now.

        Looks at the files first when that is due. Batches of one source come in the order of its bytes.
        """
        if now - self._looked_at >= self.limits.look_s or now < self._looked_at:
            self.look(now, arrived)
        while not self._flushed and self._ready:
            tail = self._ready.popleft()
            self._waiting.discard(tail.id)
            if tail.after in self._waiting and self._tails[tail.after].unread:
                self._mark(tail)  # the rotated file first, so that its log stays in order
                continue
            batch = self._turn(tail, now, arrived)
            if batch is not None:
                return batch
        return self._flushed.popleft() if self._flushed else None

    def look(self, now: float, arrived: float, *, listing: bool = False) -> None:
        """Stat all files, list the globs if due (or asked), and settle what was renamed, truncated, removed or new.

        Reads nothing but what identity needs. `arrived` is for lines that were waiting to be complete and never will.
        """
        self._wall = arrived
        self._looked_at = now
        moved = self._look_at_known(now, arrived)
        for tail in moved:
            self._leave(tail.path, tail.id)
            self._mark(tail)
        if listing or moved or now - self._listed_at >= self.limits.list_s or now < self._listed_at:
            self._listed_at = now
            self._list(now, arrived)
        for tail in moved:
            self._settle_moved(tail, now)
        self._finish_quiet(now, arrived)
        self._expire(now)

    def take_notes(self) -> bytes | None:
        """Give what the journal must note before the next batch is scored (where new sources began), or None."""
        if not self._noted and not self._news:
            return None
        note = Registry(begun=self._begun, cursors=self._noted).encode()
        self._noted, self._news = {}, False
        return note

    def registry(self) -> Registry:
        """Give all cursors as of the batches given out so far, for a snapshot."""
        past = {id_: past.cursor for id_, past in self._past.items()}
        tails = {id_: tail.cursor() for id_, tail in self._tails.items()}
        return Registry(begun=self._begun, cursors=self._unplaced | past | tails)

    def cursor(self, source_id: str) -> Cursor | None:
        """Give the cursor of one source."""
        tail = self._tails.get(source_id)
        past = self._past.get(source_id)
        return tail.cursor() if tail else past.cursor if past else self._unplaced.get(source_id)

    def tails(self) -> Iterator[Tail]:
        """Give all files being followed; `unread` of each is its lag in bytes."""
        return iter(self._tails.values())

    def line_counts(self) -> LineCounts:
        """Sum what was left out of the lines."""
        total = LineCounts()
        total.add(self._line_counts)
        for tail in self._tails.values():
            total.add(tail.counts)
        return total

    def folders(self) -> list[str]:
        """List the folders that hold the files or will: for `foretail.wake`."""
        return sorted({os.path.dirname(path) for path in self._listed} | set(self.globs.roots()))  # noqa: PTH120

    def close(self) -> None:
        """Close all files. Unfinished lines stay unread."""
        for tail in self._tails.values():
            tail.close()
        self._open.clear()

    # Whose turn it is

    def _mark(self, tail: Tail) -> None:
        if tail.id not in self._waiting:
            self._waiting.add(tail.id)
            self._ready.append(tail)

    def _turn(self, tail: Tail, now: float, arrived: float) -> Batch | None:
        """Read one file once; it queues again behind the others if there is more."""
        if self._tails.get(tail.id) is not tail or not self._opened(tail, now):
            return None
        position = tail.position
        try:
            batch = tail.read(arrived, now)
        except OSError as error:
            self._failed(tail.path, error, now)
            tail.changed_ns = -1
            return None
        if tail.truncated:
            self._truncated(tail, now, arrived)
            return None
        if tail.position > position:
            tail.grown_at = now
            self._mark(tail)
        return batch

    def _opened(self, tail: Tail, now: float) -> bool:
        """Have the tail's file open; False if that is not possible now."""
        if tail.file is None:
            retry = self._retries.get(tail.path)
            if retry and now < retry.at:
                tail.changed_ns = -1  # so that a later look marks it again
                return False
            try:
                file = open_file(tail.path)
            except OSError as error:
                self._failed(tail.path, error, now)
                tail.changed_ns = -1
                return False
            if file.place != tail.place:
                file.close()
                tail.changed_ns = -1
                return False
            tail.file = file
        self._retries.pop(tail.path, None)
        self._used(tail)
        return True

    def _used(self, tail: Tail) -> None:
        self._open[tail.id] = None
        self._open.move_to_end(tail.id)
        if len(self._open) > self.limits.descriptors_max:
            self._close_one()

    def _close_one(self) -> None:
        """Close the least recently used file that can be opened again; else give up the oldest nameless one."""
        for id_ in self._open:
            tail = self._tails[id_]
            found = look(tail.path)
            if found and found.place == tail.place:
                tail.close()
                del self._open[id_]
                return
        tail = self._tails[next(iter(self._open))]
        self._retire(tail)
        self.counts.dropped_files += 1
        self.counts.dropped_bytes += tail.unread
        log.error("file.dropped", path=tail.path, lost_bytes=tail.unread, descriptors_max=self.limits.descriptors_max)

    def _failed(self, path: str, error: OSError, now: float) -> None:
        retry = self._retries.get(path)
        delay = min(retry.delay * 2, self.limits.retry_s_max) if retry else self.limits.retry_s_min
        self._retries[path] = _Retry(now + delay, delay)
        self.counts.read_errors += 1
        if retry is None:
            log.warning("file.unreadable", path=path, error=error.strerror or str(error))

    def _may_try(self, path: str, now: float) -> bool:
        retry = self._retries.get(path)
        return retry is None or now >= retry.at or now < retry.at - retry.delay

    # What became of known files

    def _look_at_known(self, now: float, arrived: float) -> list[Tail]:
        """Stat the known files; give those that are no longer where they were."""
        moved = []
        for tail in list(self._tails.values()):
            found = look(tail.path)
            if found is None or found.place != tail.place:
                moved.append(tail)
            elif tail.saw(found, now):
                if found.size < tail.position and self._opened(tail, now):
                    self._truncated(tail, now, arrived)
                else:
                    self._mark(tail)
        return moved

    def _settle_moved(self, tail: Tail, now: float) -> None:
        """Find the new name of a file, or drain it without one, or put its cursor aside."""
        if self._tails.get(tail.id) is not tail:
            return
        found = look(tail.path)
        if found and found.place == tail.place:
            return
        path = self._renamed(tail)
        tail.rotated = True
        if path is not None:
            self._repath(tail, path)
            found = look(path)
        elif tail.file is not None:
            found = tail.file.look()
        else:
            self._put_aside(tail, now)
            return
        if found and found.place == tail.place and tail.saw(found, now):
            self._mark(tail)

    def _renamed(self, tail: Tail) -> str | None:
        """Find the file by its inode in the folder it was in."""
        folder = os.path.dirname(tail.path)  # noqa: PTH120
        for name, inode in names(folder):
            if inode == tail.place.inode:
                path = os.path.join(folder, name)  # noqa: PTH118
                found = look(path)
                if found and found.place == tail.place:
                    return path
        return None

    def _repath(self, tail: Tail, path: str) -> None:
        self._families.get(_family(tail.path), set()).discard(tail.id)
        log.info("file.renamed", path=tail.path, to=path, source=tail.id)
        tail.path = path
        self._families.setdefault(_family(path), set()).add(tail.id)

    def _truncated(self, tail: Tail, now: float, arrived: float) -> None:
        """Go on in a copy of what the file held, or count what was not read; read the file as a new source."""
        place, path = tail.place, tail.path
        self._leave(path, tail.id)
        copy = self._copy_of(tail)
        del self._by_place[place]
        if copy is not None:
            file, where = copy
            tail.move(file, where)
            tail.rotated = True
            self._by_place[file.place] = tail
            self._known.pop(file.place, None)
            self._used(tail)
            self._families.setdefault(_family(where), set()).add(tail.id)
            self._mark(tail)
            log.info("file.copied", path=path, to=where, source=tail.id)
        else:
            self.counts.truncated_files += 1
            self.counts.truncated_bytes += tail.unread
            level = log.error if tail.unread else log.info
            level("file.truncated", path=path, lost_bytes=tail.unread, source=tail.id)
            self._flush(tail, arrived)
            self._retire(tail)
        self._begin(path, now, at_end=False)

    def _copy_of(self, tail: Tail) -> tuple[File, str] | None:
        """Open the rotated copy that holds what was read from the tail, if there is one."""
        for path in _siblings(tail.path):
            found = look(path)
            if found is None or not found.regular or found.place in self._by_place:
                continue
            try:
                file = open_file(path)
                try:
                    if tail.continued_by(file):
                        return file, path
                except OSError:
                    file.close()
                    raise
                file.close()
            except OSError:
                self.counts.read_errors += 1
        return None

    def _finish_quiet(self, now: float, arrived: float) -> None:
        """Give out late records and, for rotated files that stay at their end, the unfinished last line."""
        for tail in list(self._tails.values()):
            record = tail.flush_record(arrived, now)
            if record is not None:
                self._flushed.append(record)
            if not tail.rotated or tail.unread or tail.id in self._waiting:
                continue
            tail.grown_at = min(tail.grown_at, now)
            if now - tail.grown_at < self.limits.quiet_s:
                continue
            self._flush(tail, arrived)
            if tail.path not in self._listed:
                log.info("file.finished", path=tail.path, source=tail.id, offset=tail.position)
                self._put_past(tail.cursor(), now, owed=False)
                self._retire(tail)

    def _flush(self, tail: Tail, arrived: float) -> None:
        batch = tail.flush(arrived) if tail.pending else None
        if batch is not None:
            self._flushed.append(batch)

    def _leave(self, path: str, id_: str) -> None:
        """Remember whose place a new file at this path will take."""
        self._left.pop(path, None)
        self._left[path] = id_
        if len(self._left) > self.limits.past_max:
            del self._left[next(iter(self._left))]

    def _put_aside(self, tail: Tail, now: float) -> None:
        """Keep the cursor of a file that is not open and cannot be found."""
        self._put_past(tail.cursor(), now, owed=True)
        self._retire(tail)

    def _put_past(self, cursor: Cursor, now: float, *, owed: bool) -> None:
        self._past[cursor.id] = _Past(cursor, now, owed)
        self._leave(cursor.path, cursor.id)
        self._families.setdefault(_family(cursor.path), set()).add(cursor.id)
        if len(self._past) > self.limits.past_max:
            self._forget(next(iter(self._past)))

    def _retire(self, tail: Tail) -> None:
        self._line_counts.add(tail.counts)
        tail.close()
        self._open.pop(tail.id, None)
        del self._tails[tail.id]
        if self._by_place.get(tail.place) is tail:
            del self._by_place[tail.place]
        if tail.id not in self._past:
            self._families.get(_family(tail.path), set()).discard(tail.id)

    def _expire(self, now: float) -> None:
        for id_, past in list(self._past.items()):
            past.since = min(past.since, now)
            if now - past.since >= self.limits.forget_s:
                self._forget(id_)

    def _forget(self, id_: str) -> None:
        self._owe(self._past[id_])
        past = self._past.pop(id_)
        self._families.get(_family(past.cursor.path), set()).discard(id_)

    def _owe(self, past: _Past) -> None:
        """Count what a cursor had not read as lost, once."""
        if past.owed:
            past.owed = False
            self.counts.vanished_files += 1
            self.counts.vanished_bytes += past.cursor.unread
            if past.cursor.unread:
                log.error("file.vanished", path=past.cursor.path, lost_bytes=past.cursor.unread, source=past.cursor.id)

    # New files

    def _list(self, now: float, arrived: float) -> None:
        """List the globs and take in what is new."""
        paths = self.globs.paths()
        self._listed = frozenset(paths)
        found = {path: seen for path in paths if (seen := look(path)) is not None and seen.regular}
        if self._unplaced:
            self._place(found, now)
        for path, seen in found.items():
            tail = self._by_place.get(seen.place)
            if tail is not None:
                self._seen_at(tail, path)
            elif self._may_try(path, now) and self._known.get(seen.place) != _known(seen, self._known):
                self._admit(path, seen, now, arrived)
        if not self._begun:
            self._begun = self._news = True

    def _seen_at(self, tail: Tail, path: str) -> None:
        """Take over a new name of a known file, unless its old one still leads to it."""
        if tail.path != path:
            old = look(tail.path)
            if old is None or old.place != tail.place:
                tail.rotated = True
                self._repath(tail, path)
                self._mark(tail)

    def _admit(self, path: str, seen: Look, now: float, arrived: float) -> None:
        """Decide about a file that is not known by its inode."""
        try:
            file = Plain(path)
        except FileNotFoundError:
            return
        except OSError as error:
            self._failed(path, error, now)
            return
        self._retries.pop(path, None)
        try:
            taken = self._decide(path, seen, file, now, arrived)
        except OSError as error:
            self._failed(path, error, now)
            taken = False
        if not taken:
            file.close()

    def _decide(self, path: str, seen: Look, file: Plain, now: float, arrived: float) -> bool:
        """Say whether the open file was taken over by a tail."""
        earlier = self._known.get(seen.place)
        if compressed(file.read_at(0, 8)):
            self._know(seen, skip=False)
            self.counts.compressed_files += earlier is None
            return False
        for past in self._pasts(path):
            if compare(past.cursor, file) >= Match.WEAK:
                self._resume(past.cursor, file, path, now)
                return True
        if self._is_copy(path, file, seen, now, arrived):
            self._know(seen, skip=False)
            self.counts.copies += earlier is None
            return False
        if self._too_old(seen) and earlier is None:
            self._know(seen, skip=not self._begun and self._start == "end")
            return False
        skip = earlier.size if earlier and earlier.skip else 0
        at_end = not self._begun and self._start == "end"
        self._start_tail(path, file, now, offset=_line_start(file, seen.size if at_end else skip))
        self._known.pop(seen.place, None)
        return True

    def _too_old(self, seen: Look) -> bool:
        limit = self.limits.ignore_older_s
        return limit > 0 and self._wall - seen.changed_ns / 1e9 > limit

    def _know(self, seen: Look, *, skip: bool) -> None:
        self._known[seen.place] = _Known(seen.size, seen.changed_ns, skip)

    def _pasts(self, path: str) -> list[_Past]:
        """List the cursors without a file that a file of this name may continue."""
        ids = self._families.get(_family(path), ())
        return [self._past[id_] for id_ in sorted(ids) if id_ in self._past]

    def _is_copy(self, path: str, file: Plain, seen: Look, now: float, arrived: float) -> bool:
        """Say whether a file is a rotated copy of one being read, whole or still being made."""
        for id_ in sorted(self._families.get(_family(path), ())):
            tail = self._tails.get(id_)
            if tail is None or not rotated(_name(path), _name(tail.path)) or not self._opened(tail, now):
                continue
            assert tail.file is not None  # noqa: S101 - _opened
            if not tail.intact():
                self._truncated(tail, now, arrived)
                return seen.place in self._by_place
            if seen.size == 0 or _prefix(file, seen.size, tail.file):
                return True
        return False

    def _begin(self, path: str, now: float, *, at_end: bool) -> None:
        """Read a truncated file as a new source."""
        try:
            file = Plain(path)
        except OSError as error:
            self._failed(path, error, now)
            return
        if file.place in self._by_place:
            file.close()
            return
        self._start_tail(path, file, now, offset=_line_start(file, file.look().size) if at_end else 0)

    def _start_tail(self, path: str, file: File, now: float, *, offset: int) -> None:
        after = self._left.pop(path, "")
        cursor = Cursor(id=self._new_id(), path=path, offset=offset, whole=offset == 0, after=after)
        self._owe_replaced(path)
        tail = self._resume(cursor, file, path, now)
        self._noted[tail.id] = tail.cursor()

    def _owe_replaced(self, path: str) -> None:
        """A new file stands where an unfound one stood: what that one still held is lost."""
        for past in self._pasts(path):
            if past.cursor.path == path:
                self._owe(past)

    def _resume(self, cursor: Cursor, file: File, path: str, now: float) -> Tail:
        self._past.pop(cursor.id, None)
        self._unplaced.pop(cursor.id, None)
        self._families.get(_family(cursor.path), set()).discard(cursor.id)
        tail = Tail(self._reading, cursor, file)
        if path != cursor.path:
            self._leave(cursor.path, cursor.id)
            tail.path = path
        tail.rotated = path not in self._listed or path != cursor.path
        tail.saw(file.look(), now)
        self._tails[tail.id] = self._by_place[file.place] = tail
        self._families.setdefault(_family(path), set()).add(tail.id)
        self._used(tail)
        self._mark(tail)
        log.info("file.found", path=path, source=tail.id, offset=cursor.offset)
        return tail

    # After a restart

    def _place(self, found: dict[str, Look], now: float) -> None:
        """Find the files of the restored cursors: first by inode, then by path, then among rotated copies."""
        by_inode: dict[int, list[str]] = {}
        for path, seen in found.items():
            by_inode.setdefault(seen.place.inode, []).append(path)
        folders = {os.path.dirname(cursor.path) for cursor in self._unplaced.values()}  # noqa: PTH120
        for folder in folders:
            for name, inode in names(folder):
                by_inode.setdefault(inode, []).append(os.path.join(folder, name))  # noqa: PTH118
        steps = (
            (Match.EMPTY, lambda cursor: sorted(by_inode.get(cursor.inode, ()), key=lambda path: path != cursor.path)),
            (Match.STRONG, lambda cursor: [cursor.path]),
            (Match.WEAK, lambda cursor: _siblings(cursor.path)),
        )
        for least, candidates in steps:
            for cursor in list(self._unplaced.values()):
                self._place_one(cursor, candidates(cursor), least, now)
        for cursor in self._unplaced.values():
            self._put_past(cursor, now, owed=True)
        self._unplaced = {}

    def _place_one(self, cursor: Cursor, paths: list[str], least: Match, now: float) -> None:
        for path in paths:
            seen = look(path)
            if seen is None or not seen.regular or seen.place in self._by_place:
                continue
            try:
                file = open_file(path)
            except OSError as error:
                self._failed(path, error, now)
                continue
            try:
                match = compare(cursor, file)
            except OSError:
                match = Match.NO
            if match >= least:
                self._resume(cursor, file, path, now)
                return
            file.close()


def _name(path: str) -> str:
    return os.path.basename(path)  # noqa: PTH119


def _family(path: str) -> str:
    return family(_name(path))


def _siblings(path: str) -> list[str]:
    """List the files beside this one that rotation may have made of it; compressed ones last."""
    folder, name = os.path.split(path)
    kin = family(name)
    found = [other for other, _ in names(folder) if other != name and family(other) == kin]
    return [os.path.join(folder, other) for other in sorted(found, key=lambda other: (other.endswith(".gz"), other))]  # noqa: PTH118


def _prefix(file: Plain, size: int, whole: File) -> bool:
    """Say whether the file is a copy of the beginning of another, by its head and its last bytes."""
    head = min(size, HEAD_BYTES)
    last = min(size, BEFORE_BYTES)
    return file.read_at(0, head) == whole.read_at(0, head) and (
        file.read_at(size - last, last) == whole.read_at(size - last, last)
    )


def _line_start(file: File, size: int) -> int:
    """Give the offset of the line that holds the byte before `size`, unless that ends it: then `size`."""
    place = size
    while place > 0:
        start = max(0, place - 65_536)
        at = file.read_at(start, place - start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        place = start
    return 0


def _known(seen: Look, known: dict[Place, _Known]) -> _Known:
    """Give what would be remembered of the file if nothing changed."""
    earlier = known.get(seen.place)
    return _Known(seen.size, seen.changed_ns, earlier.skip if earlier else False)
