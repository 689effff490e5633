"""What a listed file is that no source reads yet: a new log, a known one moved here, a copy of one, or none to read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import msgspec

from foretail.handles import Plain, compressed, look, open_file
from foretail.identity import Cursor, Match, compare, family, rotated, rotation_number, surely_rotated
from foretail.search import begins, folder_of, line_start, name_of, real

if TYPE_CHECKING:
    from collections.abc import Callable

    from foretail.followed import Followed, Past
    from foretail.handles import File, Look, Place
    from foretail.search import Folders
    from foretail.tail import Tail


class _Refused(msgspec.Struct, frozen=True):
    """What a file looked like when it was decided not to read it, and whether its content then is to be skipped."""

    size: int
    changed_ns: int
    skip: bool


class Newcomers:
    """Decides about files that are listed and not followed.

    Args:
        followed: the sources there are.
        start: where files are begun that are there at the very first listing; later ones are read from their head.
        ignore_older_s: files not written for so long are not read until they are; 0 = all are.
        new_id: makes source ids.
        truncated: called with a tail whose file turns out to be truncated; it settles that.

    Attributes:
        begun: the first listing is over.
        born: cursors of sources made since the journal last noted them.
    """

    def __init__(
        self,
        followed: Followed,
        *,
        start: Literal["head", "end"],
        ignore_older_s: float,
        new_id: Callable[[], str],
        truncated: Callable[[Tail], None],
    ) -> None:
        self.begun = False
        self.born: dict[str, Cursor] = {}
        self._followed = followed
        self._start = start
        self._ignore_older_s = ignore_older_s
        self._new_id = new_id
        self._truncated = truncated
        self._refused: dict[Place, _Refused] = {}

    def take_in(self, path: str, seen: Look, now: float, wall: float) -> Tail | None:
        """Give the tail that reads this file from now on, if it shall be read. `wall` is epoch seconds."""
        descriptors = self._followed.descriptors
        if self._unchanged(seen) or not descriptors.may_try(path, now):
            return None
        try:
            file = Plain(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            descriptors.failed(path, error, now)
            return None
        tail = None
        try:
            if file.place == seen.place:
                tail = self._decide(path, seen, file, now, wall)
            descriptors.succeeded(path)
        except OSError as error:
            descriptors.failed(path, error, now)
        finally:
            if tail is None or tail.file is not file:
                file.close()
        return tail

    def take_in_missed(self, left: Cursor, folders: Folders, now: float) -> list[Tail]:
        """Follow rotated files that came and went between two looks, or while the agent was stopped.

        They are beside the file that `left` its path, are named as its rotations, and were written after it was last
        seen; they need not match the globs. Oldest first; each comes after the one before, the first after `left`:
        unless its file was empty then and is still in its place, for then they were there before what it holds now.
        """
        where = left.real_path or left.path
        name = family(name_of(where)) if left.rotated else name_of(where)
        found = []
        for path in folders.siblings(os.path.join(folder_of(where), name)):  # noqa: PTH118 - strings throughout
            seen = look(path) if surely_rotated(name_of(path), name) else None
            if seen is not None and seen.regular and seen.changed_ns >= left.changed_ns:
                found.append((seen.changed_ns, -rotation_number(name_of(path)), path, seen.place))
        here = self._followed.tails.get(left.id)
        if here is not None and (here.rotated or here.position or left.head_bytes):
            here = None
        after = left.id if here is None else left.after
        tails: list[Tail] = []
        for _, _, path, place in sorted(found):
            if place not in self._followed.places and place not in self._refused:
                tail = self._take_in_one_missed(path, tails[-1].id if tails else after, now)
                tails += [tail] if tail else []
        if tails and here is not None:
            here.come_after(tails[-1].id)
            self.born[here.id] = here.cursor()
        elif tails:
            self._followed.leave(left.path, tails[-1].id)
        return tails

    def _take_in_one_missed(self, path: str, after: str, now: float) -> Tail | None:
        try:
            file = open_file(path)
        except OSError:
            return None
        try:
            known = any(_continues(past, file, path) for past in self._followed.past_like(path))
            if not known and not self._is_copy(file, self._followed.tails_like(path), now):
                cursor = Cursor(id=self._new_id(), path=path, offset=0, whole=True, after=after, rotated=True)
                return self._born(self._followed.follow(cursor, file, path, now, rotated=True))
        except OSError as error:
            self._followed.descriptors.failed(path, error, now)
        file.close()
        return None

    def begin(self, path: str, file: Plain, now: float, offset: int) -> Tail:
        """Read a file as a new source."""
        cursor = Cursor(
            id=self._new_id(), path=path, offset=offset, whole=offset == 0, after=self._followed.replaced(path)
        )
        return self._born(self._followed.follow(cursor, file, path, now))

    def _born(self, tail: Tail) -> Tail:
        self.born[tail.id] = tail.cursor()
        return tail

    def forget_but(self, listed: set[Place]) -> None:
        """Forget refusals of files that are listed no more."""
        self._refused = {place: refused for place, refused in self._refused.items() if place in listed}

    def _unchanged(self, seen: Look) -> bool:
        refused = self._refused.get(seen.place)
        return refused is not None and (refused.size, refused.changed_ns) == (seen.size, seen.changed_ns)

    def _decide(self, path: str, seen: Look, file: Plain, now: float, wall: float) -> Tail | None:
        refused = self._refused.get(seen.place)
        if compressed(file.read_at(0, 8)):
            self._followed.counts.compressed_files += refused is None
            self._refuse(seen)
            return None
        for past in self._followed.past_like(path, real(path)):
            if _continues(past, file, path):
                return self._followed.follow(past.cursor, file, path, now)
        name = name_of(real(path))
        originals = [tail for tail in self._followed.tails_like(path) if rotated(name, name_of(tail.real_path))]
        if self._is_copy(file, originals, now):
            self._followed.counts.copies += refused is None
            self._refuse(seen)
            return None
        if seen.place in self._followed.places:  # a copy that a truncated file's tail went on in
            return None
        first = not self.begun and self._start == "end"
        if refused is None and self._too_old(seen, wall):
            self._refuse(seen, skip=first)
            return None
        skipped = seen.size if first else refused.size if refused and refused.skip else 0
        tail = self.begin(path, file, now, line_start(file, skipped))
        self._refused.pop(seen.place, None)
        return tail

    def _refuse(self, seen: Look, *, skip: bool = False) -> None:
        self._refused[seen.place] = _Refused(seen.size, seen.changed_ns, skip)

    def _too_old(self, seen: Look, wall: float) -> bool:
        return 0 < self._ignore_older_s < wall - seen.changed_ns / 1e9

    def _is_copy(self, file: File, originals: list[Tail], now: float) -> bool:
        """Say whether a file is a copy of one being read, whole or still being made."""
        for tail in originals:
            if not self._followed.descriptors.have(tail, now) or tail.file is None:
                continue
            size = file.look().size
            copied = size == 0 or begins(file, size, tail.file)
            if not tail.intact():  # asked last: it may be truncated at any time
                self._truncated(tail)
                return False
            if copied:
                return True
        return False


def _continues(past: Past, file: File, path: str) -> bool:
    """Say whether a file is one that was read before.

    Little content may be a banner that each new file begins with, and after a log was read to its end another one may
    begin at its path that says the same: then the inode, or a rotation's name, must agree.
    """
    match, cursor = compare(past.cursor, file), past.cursor
    sure = file.place.inode == cursor.inode or rotated(name_of(path), name_of(cursor.path))
    return match >= Match.WEAK and (sure or (match == Match.STRONG and past.owed and path == cursor.path))
