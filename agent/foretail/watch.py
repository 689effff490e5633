"""Which files a stream has, what became of them, and whose turn it is to be read.

Truth is stat and glob on a timer; file events (`foretail.wake`) only make the next look come sooner.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal

import msgspec

from foretail.descriptors import Retry
from foretail.followed import Followed
from foretail.handles import look
from foretail.lines import Batch, LineCounts
from foretail.newcomers import Newcomers
from foretail.placing import latest_first, place
from foretail.registry import Registry
from foretail.rotations import Moment, Rotations
from foretail.search import Folders, folder_of, original
from foretail.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretail.globs import Globs
    from foretail.handles import Look, Place
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
        files_max: files followed; what is listed beyond waits, counted, until others are done.
        descriptors_max: open files; the least recently used are closed and found again by identity.
        retry_s_min, retry_s_max: the delay before an unreadable file is tried again doubles from the first to the last.
        ignore_older_s: files not written for so long when first seen are not read until they are; 0 = all are.
    """

    look_s: float = 0.25
    list_s: float = 2.0
    quiet_s: float = 30.0
    forget_s: float = 86_400.0
    past_max: int = 10_000
    files_max: int = 10_000
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
        self._turns = Turns()
        self._rotations = Rotations(reading.stream, self._followed, self._turns)
        self._newcomers = Newcomers(
            self._followed,
            start=start,
            ignore_older_s=limits.ignore_older_s,
            new_id=new_id,
            truncated=self._rotations.truncated,
        )
        self._rotations.newcomers = self._newcomers
        self._listed: dict[str, Look] = {}
        self._places: set[Place] = set()  # of those in _listed
        self._watched = globs.roots()
        self._folders: dict[str, int] = {}
        self._looked_at = self._listed_at = float("-inf")
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
        while (batch := self._turns.take()) is None:
            tail = self._turns.next(self._followed)
            if tail is None:
                return None
            batch = self._turn(tail, now, arrived)
            if batch is not None:
                return batch
        return batch

    def look_if_due(self, now: float, arrived: float) -> None:
        """Look if the last look is long enough ago: also while nothing can be read, so that no rotation is missed."""
        if not 0 <= now - self._looked_at < self.limits.look_s:
            self.look(now, arrived)

    def look(self, now: float, arrived: float, *, listing: bool = False) -> None:
        """Stat all files, list the globs if due (or asked), and settle what was renamed, truncated, removed or new.

        Reads nothing but what identity needs. `arrived` is for lines that were waiting to be complete and never will.
        """
        self._looked_at = now
        self._turns.look_again()
        self._rotations.at = Moment(now, arrived, Folders())
        moved = self._rotations.look_at_known()
        for tail, _ in moved:
            self._rotations.settle_renamed(tail)
        for before in latest_first([before for _, before in moved]):
            self._rotations.take_in_missed(before)
        if listing or moved or self._folders_changed() or not 0 <= now - self._listed_at < self.limits.list_s:
            self._listed_at = now
            self._list()
        for tail, _ in moved:
            self._rotations.settle_vanished(tail)
        for tail in list(self._followed.tails.values()):
            if self._reading.multiline is not None:
                self._rotations.give_late_record(tail)
            if tail.rotated:
                self._rotations.finish_if_quiet(tail, self.limits.quiet_s, self._places)
        self._followed.expire(now, self.limits.forget_s)
        self._rotations.give_settled()

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
        cursors = self._unplaced | self._followed.cursors() | self._turns.untaken()
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

    @property
    def unreadable(self) -> int:
        """How many files cannot be opened or read now."""
        return self._followed.descriptors.unreadable

    def folders(self) -> list[str]:
        """List the folders that hold the files, also behind links, or will: for `foretail.wake`."""
        return self._watched

    def close(self) -> None:
        """Close all files. Unfinished lines stay unread."""
        for tail in self._followed.tails.values():
            self._followed.descriptors.release(tail)

    def _turn(self, tail: Tail, now: float, arrived: float) -> Batch | None:
        """Read one file once; it queues again behind the others if there is more."""
        self._rotations.at = self._rotations.at._replace(now=now, wall=arrived)
        if not self._followed.descriptors.have(tail, now):
            if self._followed.descriptors.may_try(tail.path, now):  # moved since the last look
                self._turns.miss(tail)
            return None
        position = tail.position
        try:
            batch = tail.read(arrived, now)
        except OSError as error:
            self._rotations.unreadable(tail, error)
            return None
        if tail.truncated:
            self._rotations.at = Moment(now, arrived, Folders())
            self._rotations.truncated(tail)
            return None
        if tail.position > position == 0:  # noted before its first line gets an id that depends on it
            self._newcomers.born[tail.id] = tail.beginning()
        if tail.position > position:
            tail.grown_at = now
            self._turns.mark(tail)
        return batch

    def _folders_changed(self) -> bool:
        """Say whether an entry was made, renamed or removed in the folders since they were last asked."""
        before = self._folders
        self._folders = {folder: found.changed_ns for folder in self._watched if (found := look(folder)) is not None}
        return self._folders != before

    def _list(self) -> None:
        """List the globs and take in what is new."""
        at, paths = self._rotations.at, self.globs.paths()
        self._listed = {path: seen for path in paths if (seen := look(path)) is not None and seen.regular}
        if self._unplaced:
            self._place_restored()
        over = 0
        for path, seen in self._listed.items():
            tail = self._followed.places.get(seen.place)
            if tail is None and len(self._followed.tails) >= self.limits.files_max:
                over += 1
            elif tail is None:
                tail = self._newcomers.take_in(path, seen, at.now, at.wall)
                if tail is not None:
                    self._turns.mark(tail)
            elif tail.path != path:
                self._rotations.seen_at(tail, path)
        self.counts.waiting(over, self.limits.files_max)
        self._newcomers.begun = True
        tails = self._followed.tails.values()
        known = {path for tail in tails for path in (tail.path, tail.real_path)}
        self._watched = sorted({folder_of(path) for path in known} | set(self.globs.roots()))
        self._places = {seen.place for seen in self._listed.values()}
        self._newcomers.forget_but(self._places)
        self._followed.descriptors.forget_failures(frozenset(paths) | known)

    def _place_restored(self) -> None:
        """Find the files of the restored cursors; those that are not found are kept aside."""
        at, restored = self._rotations.at, list(self._unplaced.values())
        for cursor, file, path in place(restored, self._listed, at.folders):
            try:
                rotated = path not in self._listed
                self._turns.mark(self._followed.follow(cursor, file, path, at.now, rotated=rotated))
                del self._unplaced[cursor.id]
            except OSError as error:
                file.close()
                self._followed.descriptors.failed(path, error, at.now)
        for cursor in self._unplaced.values():
            self._followed.remember(cursor, at.now, owed=True)
        self._unplaced = {}
        latest = latest_first(restored)
        for cursor in reversed(latest):  # what comes at a path now comes after the last source there
            tail = self._followed.tails.get(cursor.id)
            if tail is None or tail.path != cursor.path:
                self._followed.leave(cursor.path, cursor.id)
            if cursor.rotated:
                self._followed.leave(original(cursor.path), cursor.id)
        for cursor in latest:
            self._rotations.take_in_missed(cursor)
