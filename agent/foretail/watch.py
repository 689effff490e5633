"""Which files a stream has, what became of them, and whose turn it is to be read.

Truth is stat and glob on a timer; file events (`foretail.wake`) only make the next look come sooner.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Literal

import msgspec

from foretail.descriptors import Retry
from foretail.followed import Followed
from foretail.handles import Plain, look
from foretail.lines import Batch, LineCounts, Source
from foretail.newcomers import Newcomers
from foretail.placing import place
from foretail.registry import Registry
from foretail.search import Folders, folder_of, open_first
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretail.globs import Globs
    from foretail.handles import Look, Place
    from foretail.identity import Cursor
    from foretail.losses import WatchCounts
    from foretail.tail import Reading, Tail


class WatchLimits(msgspec.Struct, frozen=True):
    """How often to look and how much to hold.

    Attributes:
        look_s: seconds between two looks at the known files.
        list_s: seconds between two listings of the globs (a change in a folder that holds files brings one at once).
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


class Watch:
    """Follows the files of one stream. Not thread-safe; times are monotonic seconds except `arrived` (epoch seconds).

    Args:
        reading: how their lines are read.
        globs: which files.
        registry: what the last run knew.
        start: where files are begun that are there at the very first look; later ones are read from their head.
        new_id: makes source ids.

    Attributes:
        counts: what was lost or refused.
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
        self.limits = limits = limits or WatchLimits()
        self.globs = globs
        self._reading = reading
        retry = Retry(limits.retry_s_min, limits.retry_s_max)
        self._followed = Followed(
            reading, descriptors_max=limits.descriptors_max, retry=retry, past_max=limits.past_max
        )
        self.counts: WatchCounts = self._followed.counts
        self._newcomers = Newcomers(
            self._followed,
            start=start,
            ignore_older_s=limits.ignore_older_s,
            new_id=new_id,
            truncated=self._truncated,
        )
        self._ready: deque[Tail] = deque()
        self._waiting: set[str] = set()  # ids of those in _ready
        self._finished: deque[tuple[Batch, Cursor]] = deque()  # last lines to give out, and the cursors before them
        self._listed: dict[str, Look] = {}
        self._places: set[Place] = set()  # of those in _listed
        self._disk = Folders()
        self._watched = globs.roots()
        self._folders: dict[str, int] = {}
        self._looked_at = self._listed_at = float("-inf")
        self._now = self._wall = 0.0
        registry = registry or Registry()
        self._newcomers.begun = registry.begun
        self._noted_begun = registry.begun
        self._unplaced = dict(registry.cursors)

    def read(self, now: float, arrived: float) -> Batch | None:
        """Give the next batch, file after file in turn, or None if there is nothing to read now.

        Looks at the files first when that is due. Batches of one source come in the order of its bytes; a rotated
        file is read to its end before the one that took its place.
        """
        self.look_if_due(now, arrived)
        while not self._finished and self._ready:
            tail = self._ready.popleft()
            self._waiting.discard(tail.id)
            earlier = self._followed.tails.get(tail.after)
            if earlier is not None and earlier.id in self._waiting and earlier.unread:
                self._mark(tail)
                continue
            batch = self._turn(tail, now, arrived)
            if batch is not None:
                return batch
        return self._finished.popleft()[0] if self._finished else None

    def look_if_due(self, now: float, arrived: float) -> None:
        """Look if the last look is long enough ago: also while nothing can be read, so that no rotation is missed."""
        if not 0 <= now - self._looked_at < self.limits.look_s:
            self.look(now, arrived)

    def look(self, now: float, arrived: float, *, listing: bool = False) -> None:
        """Stat all files, list the globs if due (or asked), and settle what was renamed, truncated, removed or new.

        Reads nothing but what identity needs. `arrived` is for lines that were waiting to be complete and never will.
        """
        self._looked_at = self._now = now
        self._wall = arrived
        self._disk = Folders()
        moved = self._look_at_known()
        for tail, before in moved:
            self._settle_renamed(tail, before)
        if listing or moved or self._folders_changed() or not 0 <= now - self._listed_at < self.limits.list_s:
            self._listed_at = now
            self._list()
        for tail, _ in moved:
            self._settle_vanished(tail)
        for tail in list(self._followed.tails.values()):
            if self._reading.multiline is not None:
                self._give_late_record(tail)
            if tail.rotated:
                self._finish_if_quiet(tail)
        self._followed.expire(now, self.limits.forget_s)
        self._give_settled()

    def take_notes(self) -> bytes | None:
        """Give what the journal must note before the next batch is scored (where new sources began), or None.

        If the journal refuses it, hand it back with `return_notes`.
        """
        if not self._newcomers.born and self._noted_begun == self._newcomers.begun:
            return None
        note = Registry(begun=self._newcomers.begun, cursors=self._newcomers.born).encode()
        self._newcomers.born, self._noted_begun = {}, self._newcomers.begun
        return note

    def return_notes(self, note: bytes) -> None:
        """Take back what `take_notes` gave, to give it again."""
        self._newcomers.born = Registry.restore(note).cursors | self._newcomers.born
        self._noted_begun = False

    def registry(self) -> Registry:
        """Give all cursors as of the batches given out so far, for a snapshot."""
        cursors = self._unplaced | self._followed.cursors()
        for _, before in reversed(self._finished):
            cursors[before.id] = before
        return Registry(begun=self._newcomers.begun, cursors=cursors)

    def tails(self) -> Iterator[Tail]:
        """Give all files being followed; `unread` of each is its lag in bytes."""
        return iter(self._followed.tails.values())

    def line_counts(self) -> LineCounts:
        """Sum what was left out of the lines."""
        total = LineCounts()
        total.add(self._followed.line_counts)
        for tail in self._followed.tails.values():
            total.add(tail.counts)
        return total

    def folders(self) -> list[str]:
        """List the folders that hold the files, also behind links, or will: for `foretail.wake`."""
        return self._watched

    def close(self) -> None:
        """Close all files. Unfinished lines stay unread."""
        for tail in self._followed.tails.values():
            self._followed.descriptors.release(tail)

    def _mark(self, tail: Tail) -> None:
        """Queue a tail for reading, once."""
        if tail.id not in self._waiting:
            self._waiting.add(tail.id)
            self._ready.append(tail)

    def _turn(self, tail: Tail, now: float, arrived: float) -> Batch | None:
        """Read one file once; it queues again behind the others if there is more."""
        self._now, self._wall = now, arrived
        if self._followed.tails.get(tail.id) is not tail or not self._followed.descriptors.have(tail, now):
            return None
        position = tail.position
        try:
            batch = tail.read(arrived, now)
        except OSError as error:
            self._unreadable(tail, error)
            return None
        if tail.truncated:
            self._disk = Folders()
            self._truncated(tail)
            return None
        if tail.position > position:
            tail.grown_at = now
            self._mark(tail)
        return batch

    def _unreadable(self, tail: Tail, error: OSError) -> None:
        """Close a file that fails, so that it is opened anew after a while (a stale handle never recovers)."""
        self._followed.descriptors.failed(tail.path, error, self._now)
        if tail.nameless:
            self._followed.put_aside(tail, self._now, owed=True)
        else:
            self._followed.descriptors.release(tail)
            tail.forget_look()

    def _look_at_nameless(self, tail: Tail) -> None:
        if tail.file is None:
            return
        try:
            found = tail.file.look()
        except OSError as error:
            self._unreadable(tail, error)
            return
        if not tail.packed and tail.saw(found, self._now):
            self._mark(tail)

    def _look_at_known(self) -> list[tuple[Tail, Cursor]]:
        """Stat the known files; give those that are no longer where they were, with the cursor of when they were."""
        moved = []
        for tail in list(self._followed.tails.values()):
            if tail.nameless:
                self._look_at_nameless(tail)
                continue
            found = look(tail.path)
            if found is None or found.place != tail.place:
                self._followed.leave(tail.path, tail.id)
                self._mark(tail)
                moved.append((tail, tail.cursor()))
            elif not tail.packed:
                self._look_at_unmoved(tail, found)
        return moved

    def _look_at_unmoved(self, tail: Tail, found: Look) -> None:
        """Mark a file that changed, unless what was read from it is no longer there."""
        if (found.size, found.changed_ns) == (tail.size, tail.changed_ns):
            return
        if self._replaced(tail):
            self._truncated(tail)
            return
        if found.size < tail.size:  # what was read is there, so what was not has been cut off
            self.counts.truncated(tail.path, tail.id, tail.size - found.size)
        tail.saw(found, self._now)
        self._mark(tail)

    def _replaced(self, tail: Tail) -> bool:
        """Say whether the file no longer holds what was read; when that cannot be told now, reading will."""
        if not self._followed.descriptors.have(tail, self._now):
            return False
        try:
            intact = tail.intact()
            if intact:
                tail.learn_head()
        except OSError:
            return False
        return not intact

    def _settle_renamed(self, tail: Tail, before: Cursor) -> None:
        """Find the new name of a file in its folder, and what rotated after it unseen."""
        path = self._disk.by_inode(tail.place, tail.real_path)
        if path is not None:
            self._followed.rename(tail, path)
        self._take_in_missed(before)

    def _settle_vanished(self, tail: Tail) -> None:
        """Drain a file without a name, or put its cursor aside."""
        if self._followed.tails.get(tail.id) is not tail:
            return
        found = look(tail.path)
        if found is not None and found.place == tail.place:
            if not tail.packed and tail.saw(found, self._now):
                self._mark(tail)
        elif tail.file is None:
            self._followed.put_aside(tail, self._now, owed=True)
        else:
            tail.rotated = tail.nameless = True
            self._look_at_nameless(tail)

    def _take_in_missed(self, left: Cursor) -> None:
        """Read rotated files that nobody saw under their first name."""
        for tail in self._newcomers.take_in_missed(left, self._disk, self._now):
            self._mark(tail)

    def _folders_changed(self) -> bool:
        """Say whether an entry was made, renamed or removed in the folders since they were last asked."""
        before = self._folders
        self._folders = {folder: found.changed_ns for folder in self._watched if (found := look(folder)) is not None}
        return self._folders != before

    def _list(self) -> None:
        """List the globs and take in what is new."""
        paths = self.globs.paths()
        self._listed = {path: seen for path in paths if (seen := look(path)) is not None and seen.regular}
        if self._unplaced:
            self._place_restored()
        for path, seen in self._listed.items():
            tail = self._followed.places.get(seen.place)
            if tail is None:
                tail = self._newcomers.take_in(path, seen, self._now, self._wall)
                if tail is not None:
                    self._mark(tail)
            elif tail.path != path:
                self._seen_at(tail, path)
        self._newcomers.begun = True
        tails = self._followed.tails.values()
        known = {path for tail in tails for path in (tail.path, tail.real_path)}
        self._watched = sorted({folder_of(path) for path in known} | set(self.globs.roots()))
        self._places = {seen.place for seen in self._listed.values()}
        self._newcomers.forget_but(self._places)
        self._followed.descriptors.forget_failures(frozenset(paths) | known)

    def _seen_at(self, tail: Tail, path: str) -> None:
        """Take over a new name of a known file, unless its old one still leads to it."""
        old = look(tail.path)
        if old is None or old.place != tail.place:
            self._followed.rename(tail, path)
            self._mark(tail)

    def _place_restored(self) -> None:
        """Find the files of the restored cursors; those that are not found are kept aside."""
        restored = list(self._unplaced.values())
        for cursor, file, path in place(restored, self._listed, self._disk):
            try:
                rotated = path not in self._listed
                self._mark(self._followed.follow(cursor, file, path, self._now, rotated=rotated))
                del self._unplaced[cursor.id]
            except OSError as error:
                file.close()
                self._followed.descriptors.failed(path, error, self._now)
        for cursor in self._unplaced.values():
            self._followed.remember(cursor, self._now, owed=True)
        self._unplaced = {}
        for cursor in restored:
            self._take_in_missed(cursor)

    def _truncated(self, tail: Tail) -> None:
        """Go on in a copy of what the file held, or count what was not read; read the file as a new source."""
        path, before = tail.path, tail.cursor()
        copy = open_first(self._disk.siblings(tail.real_path), self._followed.places, tail.continued_by)
        if copy is not None:
            self._followed.move(tail, *copy, self._now)
            self._mark(tail)
        else:
            self.counts.truncated(path, tail.id, tail.unread)
            self._finish(tail)
            if tail.unread:
                self._followed.settled.append(msgspec.structs.replace(tail.cursor(), size=tail.cursor().offset))
            self._followed.leave(path, tail.id)
            self._followed.drop(tail)
        self._take_in_missed(before)
        self._begin_again(path)

    def _begin_again(self, path: str) -> None:
        """Read a truncated file as a new source; if it cannot be opened now, the next listing finds it."""
        try:
            file = Plain(path)
        except OSError as error:
            self._followed.descriptors.failed(path, error, self._now)
            return
        try:
            if file.place not in self._followed.places:
                self._mark(self._newcomers.begin(path, file, self._now, 0))
                return
        except OSError as error:
            self._followed.descriptors.failed(path, error, self._now)
        file.close()

    def _give_late_record(self, tail: Tail) -> None:
        before = tail.cursor()
        record = tail.flush_record(self._wall, self._now)
        if record is not None:
            self._finished.append((record, before))

    def _finish_if_quiet(self, tail: Tail) -> None:
        """Give out the unfinished last line of a rotated file that stays at its end; if it is not listed, let it go."""
        tail.grown_at = min(tail.grown_at, self._now)
        quiet = self._now - tail.grown_at >= self.limits.quiet_s and tail.id not in self._waiting
        if tail.unread or not quiet:
            return
        self._finish(tail)
        if tail.nameless or tail.place not in self._places:
            log.info("file.finished", path=tail.path, source=tail.id, offset=tail.position)
            self._followed.put_aside(tail, self._now, owed=False)

    def _give_settled(self) -> None:
        """Have the journal learn, by batches without lines, which losses were counted."""
        for cursor in self._followed.settled:
            source = Source(cursor.id, cursor.path, cursor.whole, cursor.after)
            batch = Batch(self._reading.stream, source, [], [], cursor.offset, self._wall, cursor)
            self._finished.append((batch, cursor))
        self._followed.settled.clear()

    def _finish(self, tail: Tail) -> None:
        """Give out what waits for more of a file that has no more."""
        before = tail.cursor()
        batch = tail.flush(self._wall) if tail.pending else None
        if batch is not None:
            self._finished.append((batch, before))
