"""One file, from where its cursor stands to its end, wherever it is renamed to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from foretail.handles import File, Gzip, Look, Place
from foretail.identity import BEFORE_BYTES, HEAD_BYTES, Cursor, Match, compare, digest
from foretail.lines import Batch, LineLimits, Lines, Source, Splitter, encoding_of
from foretail.multiline import Joiner, Multiline

if TYPE_CHECKING:
    from foretail.lines import LineCounts


class Reading(msgspec.Struct, frozen=True):
    """How the files of a stream are read; the same for all of them."""

    stream: str
    lines: LineLimits = LineLimits()
    multiline: Multiline | None = None
    read_bytes_max: int = 256 * 1024


class Tail:
    """Reads one source. No clock: times come in. The Watch decides which file it reads and for how long.

    Attributes:
        id, path, after: of the source; path is where the file was last seen, real_path the same behind links.
        place: its file; size, changed_ns: as last seen.
        position: offset of the next byte to read from the file (the cursor's offset is where its last batch ended).
        file: open, or None while its descriptor was needed for others.
        truncated: the file no longer holds what was read from it; nothing more can be read.
        rotated: it has left its first name, so nobody should write to it: in the end its last line is given out
            unfinished.
        nameless: no path leads to it; it lives as long as it is open.
        packed: it is a compressed copy, which does not grow.
        grown_at: when news of it were last seen, monotonic seconds.
    """

    def __init__(self, reading: Reading, cursor: Cursor, file: File) -> None:
        self._reading = reading
        self.id, self.path, self.whole, self.after = cursor.id, cursor.path, cursor.whole, cursor.after
        self.place: Place = file.place
        self.file: File | None = file
        self.size = self.changed_ns = -1
        self.real_path = cursor.real_path
        self.rotated = cursor.rotated
        self.truncated = self.nameless = False
        self.packed = isinstance(file, Gzip)
        self.grown_at = 0.0
        self._head = file.read_at(0, min(HEAD_BYTES, cursor.offset))
        self._before = file.read_at(max(0, cursor.offset - BEFORE_BYTES), min(BEFORE_BYTES, cursor.offset))
        encoding = encoding_of(self._head)
        self._splitter = Splitter(reading.lines, offset=cursor.offset, encoding=encoding)
        self._joiner = Joiner(reading.multiline) if reading.multiline else None
        self._head_digest = (-1, "")
        self._cursor = cursor
        self._seal(cursor.offset, self._before, cursor.offset - len(self._before))
        self.learn_head()

    @property
    def position(self) -> int:
        """Offset of the next byte to read."""
        return self._splitter.position

    @property
    def unread(self) -> int:
        """Bytes of the file that were seen and not read."""
        return max(0, self.size - self.position)

    @property
    def held(self) -> int:
        """Bytes that were read and are in no batch yet."""
        return self.position - self._cursor.offset

    @property
    def pending(self) -> bool:
        """Whether an unfinished line, or lines of an unfinished record, wait for more."""
        return self._splitter.partial or (self._joiner is not None and self._joiner.pending)

    @property
    def counts(self) -> LineCounts:
        """What was left out of its lines."""
        return self._splitter.counts

    def cursor(self) -> Cursor:
        """Give where reading must go on if all batches so far are delivered."""
        size = max(self.size, self._cursor.offset)
        known = self._cursor
        changed_ns = max(self.changed_ns, 0) or known.changed_ns
        now = (self.path, size, self.place.inode, self.rotated, changed_ns)
        if (known.path, known.size, known.inode, known.rotated, known.changed_ns) != now:
            self._cursor = msgspec.structs.replace(
                known,
                path=self.path,
                real_path=self.real_path,
                size=size,
                inode=self.place.inode,
                device=self.place.device,
                rotated=self.rotated,
                changed_ns=changed_ns,
            )
        return self._cursor

    def source(self) -> Source:
        """Give what batches say about it."""
        return Source(self.id, self.path, self.whole, self.after)

    def saw(self, look: Look, now: float) -> bool:
        """Take what stat told; say whether there may be something to read, or a truncation to notice."""
        news = (look.size, look.changed_ns) != (self.size, self.changed_ns)
        if news:
            self.size, self.changed_ns, self.grown_at = look.size, look.changed_ns, now
        return news

    def forget_look(self) -> None:
        """Have the next look be news, so that what failed now is tried again."""
        self.changed_ns = -1

    def learn_head(self) -> bool:
        """While nothing is read, know the file by what it begins with; whether that is more than before."""
        if self.position or self.file is None or self._cursor.head_bytes == HEAD_BYTES:
            return False
        head, before = self.file.read_at(0, HEAD_BYTES), self._cursor.head_bytes
        self._cursor = msgspec.structs.replace(self._cursor, head_bytes=len(head), head=digest(head))
        return len(head) > before

    def come_after(self, id_: str) -> None:
        """Take place behind a source that was found late."""
        self.after = id_
        self._cursor = msgspec.structs.replace(self._cursor, after=id_)

    def beginning(self) -> Cursor:
        """Give the cursor of when nothing was read, with the head as it is known now."""
        return msgspec.structs.replace(
            self.cursor(),
            offset=0,
            head_bytes=len(self._head),
            head=digest(self._head),
            before_bytes=0,
            before=digest(b""),
        )

    def intact(self) -> bool:
        """Whether the open file still holds what was read from it; OSError as reading raises it."""
        assert self.file is not None  # noqa: S101 - our own bug
        if self.position == 0:
            return compare(self._cursor, self.file) != Match.NO
        return self._same(self.file)

    def continued_by(self, file: File) -> bool:
        """Whether another file holds what was read from this one, so that reading can go on there."""
        if self.position == 0:
            return compare(self._cursor, file) >= Match.WEAK
        return self._same(file)

    def move(self, file: File) -> None:
        """Go on in another file with the same content; the old one must be closed."""
        self.file, self.place = file, file.place
        self.packed = isinstance(file, Gzip)
        self.truncated = False
        self.size = self.changed_ns = -1

    def read(self, arrived: float, now: float) -> Batch | None:
        """Read once from the file and give the lines that this completes, or None.

        Sets `truncated` instead if the bytes before the position are no longer those that were read. OSError as the
        system raises it; nothing is lost by it.
        """
        assert self.file is not None  # noqa: S101 - our own bug
        before, position = self._before, self.position
        data = self.file.read_at(position - len(before), len(before) + self._reading.read_bytes_max)
        if not data.startswith(before):
            self.truncated = True
            return None
        if len(data) == len(before):
            return None
        self._before = data[-BEFORE_BYTES:]
        fresh = data[len(before) :]
        if len(self._head) < HEAD_BYTES and len(self._head) == position:
            self._head += fresh[: HEAD_BYTES - position]
        self.size = max(self.size, position + len(fresh))
        lines = self._splitter.feed(fresh)
        end = self._splitter.start
        if self._joiner is not None:
            lines = self._joiner.feed(lines, now)
            end = self._joiner.start if self._joiner.pending else end
        return self._batch(lines, end, data, position - len(before), arrived)

    def flush_record(self, arrived: float, now: float) -> Batch | None:
        """Give the record whose continuation did not come in time, if there is one."""
        if self._joiner is None or not self._joiner.late(now):
            return None
        return self._batch(self._joiner.flush(), self._splitter.start, b"", 0, arrived)

    def flush(self, arrived: float) -> Batch | None:
        """Give the last line and record as they are: nothing more comes."""
        lines = self._splitter.flush()
        if self._joiner is not None:
            joined = self._joiner.feed(lines, 0.0)
            rest = self._joiner.flush()
            lines = Lines(joined.lines + rest.lines, joined.offsets + rest.offsets)
        return self._batch(lines, self._splitter.start, b"", 0, arrived)

    def close(self) -> None:
        """Give the descriptor back; `reopened` takes a new one."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def _batch(self, lines: Lines, end: int, window: bytes, window_start: int, arrived: float) -> Batch | None:
        if end == self._cursor.offset and not lines.lines:
            return None
        self._seal(end, window, window_start)
        return Batch(self._reading.stream, self.source(), lines.lines, lines.offsets, end, arrived, self.cursor())

    def _seal(self, end: int, window: bytes, window_start: int) -> None:
        """Make the cursor at `end`; the bytes before it are in the window, or else are read again."""
        size = min(BEFORE_BYTES, end)
        start = end - size
        if start >= window_start and end <= window_start + len(window):
            before = window[start - window_start : end - window_start]
        else:
            before = self._again(start, size)
        head = min(len(self._head), end)
        if self._head_digest[0] != head:
            self._head_digest = (head, digest(self._head[:head]))
        self._cursor = Cursor(
            id=self.id,
            path=self.path,
            offset=end,
            whole=self.whole,
            head_bytes=head,
            head=self._head_digest[1],
            before_bytes=len(before),
            before=digest(before),
            inode=self.place.inode,
            device=self.place.device,
            size=max(self.size, end),
            after=self.after,
            real_path=self.real_path,
            rotated=self.rotated,
            changed_ns=max(self.changed_ns, 0) or self._cursor.changed_ns,
        )

    def _again(self, start: int, size: int) -> bytes:
        """Read bytes before the cursor again; nothing if they are gone (then the head and inode must do)."""
        held = self.position - len(self._before)
        if start >= held:
            return self._before[start - held : start - held + size]
        if self.file is None or isinstance(self.file, Gzip) or self.truncated:
            return b""
        try:
            return self.file.read_at(start, size)
        except OSError:
            return b""

    def _same(self, file: File) -> bool:
        start = self.position - len(self._before)
        return file.read_at(start, len(self._before)) == self._before and (
            file.read_at(0, len(self._head)) == self._head
        )
