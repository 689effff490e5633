"""A log directory and the agent's way through it, with the exact bytes in memory.

`LogDirectory` does to real files what loggers and logrotate do, and knows of every byte which *life* of which log it
belongs to: a life begins with an empty file and ends when the file is rotated, truncated or removed. `Agent` runs the
real Watch over the real Journal the way the loop does: note, append, deliver, acknowledge, crash, restart.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from foretail.globs import Globs
from foretail.identity import Cursor
from foretail.journal import Journal
from foretail.registry import Registry
from foretail.tail import Reading
from foretail.watch import Watch, WatchLimits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foretail.lines import Batch

QUIET_S = 1000.0


class Life:
    """The bytes of one log from an empty file to its rotation, truncation or removal.

    Attributes:
        content: all that was ever written.
        ended: no more is written: its last line counts even without a line end.
        readable: how many of the bytes can be read; the rest is lost.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.content = bytearray()
        self.banner = 0
        self.ended = False
        self.readable: int | None = None

    def lines(self) -> list[tuple[int, bytes]]:
        """Give offset and text of each line that must be delivered."""
        content = bytes(self.content if self.readable is None else self.content[: self.readable])
        *whole, last = content.split(b"\n")
        found, offset = [], 0
        for line in whole:
            found.append((offset, line))
            offset += len(line) + 1
        if last and self.ended:
            found.append((offset, last))
        return found


class LogDirectory:
    """Real files under `root`, and which life each of them holds."""

    def __init__(self, root: Path, banner: bytes = b"") -> None:
        self.root = root
        self.banner = banner
        self.lives: list[Life] = []
        self.files: dict[str, Life] = {}  # by name relative to root
        self.inodes: dict[int, Life] = {}
        self.unended: set[int] = set()  # numbers of lines that were written without an end
        self._written = 0

    def path(self, name: str) -> Path:
        return self.root / name

    def names(self, log: str) -> list[str]:
        """The rotated files of a log, youngest first."""
        found = [name for name in self.files if name.startswith(log + ".")]
        return sorted(found, key=lambda name: int(name.removeprefix(log + ".").removesuffix(".gz")))

    def tick(self) -> None:
        """Wait for the few milliseconds after which the kernel gives files another time."""
        probe = self.root.parent / "tick"
        probe.touch()
        before = probe.stat().st_mtime_ns
        while probe.stat().st_mtime_ns == before:
            probe.touch()

    def write(self, name: str, *sizes: int, end: bool = True) -> None:
        """Append lines of about these sizes, each unlike any other; the last one unfinished if not `end`."""
        data = b""
        for size in sizes:
            self._written += 1
            data += (f"{name} line {self._written} " * 400)[: max(size, 20)].encode() + b"\n"
        if not end:
            self.unended.add(self._written)
        self.write_bytes(name, data if end else data[:-1])

    def write_bytes(self, name: str, data: bytes) -> None:
        """Append bytes; a new life begins with the banner."""
        life = self.files.get(name)
        if life is None:
            life = self._begin(name)
        if not life.content and life.banner:
            data = self.banner + data
        life.content += data
        with self.path(name).open("ab") as file:
            file.write(data)
        self._know(name)

    def create(self, name: str) -> None:
        """Make an empty file."""
        self._begin(name)
        self.path(name).touch()
        self._know(name)

    def shift(self, log: str) -> None:
        """Make room for `log.1`, as logrotate does."""
        for name in reversed(self.names(log)):
            stem, number, packed = self._parts(log, name)
            self._move(name, f"{stem}.{number + 1}{packed}")

    def rename(self, log: str) -> None:
        """Rotate by renaming."""
        self.shift(log)
        self.files[log].ended = True
        self._move(log, log + ".1")

    def copy(self, log: str) -> None:
        """First half of copytruncate."""
        self.shift(log)
        shutil.copyfile(self.path(log), self.path(log + ".1"))
        self.files[log + ".1"] = self.files[log]
        self._know(log + ".1")

    def truncate(self, log: str, readable: int | None = None) -> Life:
        """Empty the file in place: a new life; of the old one only `readable` bytes can be read (None: all)."""
        life = self.files[log]
        life.ended = True
        life.readable = readable
        os.truncate(self.path(log), 0)
        fresh = self._begin(log)
        self._know(log)
        return fresh

    def pack(self, name: str) -> None:
        """Compress a rotated file and remove the plain one."""
        plain = self.path(name)
        with gzip.open(self.path(name + ".gz"), "wb") as file:
            file.write(plain.read_bytes())
        shutil.copystat(plain, self.path(name + ".gz"))
        plain.unlink()
        self.files[name + ".gz"] = self.files.pop(name)
        self._know(name + ".gz")

    def remove(self, name: str) -> Life:
        """Remove a file."""
        life = self.files.pop(name)
        life.ended = True
        self.path(name).unlink()
        return life

    def _parts(self, log: str, name: str) -> tuple[str, int, str]:
        packed = ".gz" if name.endswith(".gz") else ""
        return log, int(name.removeprefix(log + ".").removesuffix(".gz")), packed

    def _begin(self, name: str) -> Life:
        life = Life(name)
        life.banner = len(self.banner)
        self.lives.append(life)
        self.files[name] = life
        return life

    def _move(self, name: str, to: str) -> None:
        self.path(name).rename(self.path(to))
        self.files[to] = self.files.pop(name)

    def _know(self, name: str) -> None:
        self.inodes[self.path(name).stat().st_ino] = self.files[name]


class Agent:
    """The tailing half of the loop over a real journal; what is acknowledged counts as delivered.

    Attributes:
        delivered: per source id, offset and line of all that was acknowledged.
        lines: the same lines in the order they came.
        lives: source id to the life it reads.
        lost: bytes that the counters of all runs together admit.
    """

    def __init__(
        self,
        directory: LogDirectory,
        include: Sequence[str],
        *,
        reading: Reading | None = None,
        limits: WatchLimits | None = None,
        exclude: Sequence[str] = (),
        own: Sequence[str] = (),
        start: Literal["head", "end"] = "head",
    ) -> None:
        self.directory = directory
        self.globs = Globs(
            [str(directory.path(pattern)) for pattern in include], exclude, [str(directory.path(name)) for name in own]
        )
        self.start_at = start
        self.reading = reading or Reading("sim")
        self.limits = limits or WatchLimits(quiet_s=QUIET_S, forget_s=10 * QUIET_S)
        self.state = directory.root.parent / "state"
        self.delivered: dict[str, list[tuple[int, bytes]]] = {}
        self.lines: list[bytes] = []
        self.lives: dict[str, Life] = {}
        self.lost = 0
        self.now = 0.0
        self.pending: list[tuple[int, Batch]] = []
        self.watch: Watch | None = None
        self._ends: dict[str, int] = {}
        self._sent: dict[tuple[str, int], bytes] = {}
        self.start()

    def start(self) -> Registry:
        """Start from the journal; gives the registry it started with."""
        self.journal = Journal.open(self.state)
        restored = self.journal.restore()
        cursors = [msgspec.msgpack.decode(record, type=Cursor) for record in restored.records]
        registry = Registry.restore(restored.snapshot, cursors, restored.notes)
        self.watch = Watch(
            self.reading,
            self.globs,
            start=self.start_at,
            registry=msgspec.convert(msgspec.to_builtins(registry), Registry),
            limits=self.limits,
        )
        return registry

    def crash(self) -> None:
        """Lose everything that is only in memory."""
        assert self.watch is not None
        self.lost += self.watch_lost()
        self.watch.close()
        self.watch = None
        self.journal.close()
        self.pending.clear()

    def watch_lost(self) -> int:
        """Lost bytes of this run."""
        assert self.watch is not None
        counts = self.watch.counts
        return counts.truncated_bytes + counts.vanished_bytes + counts.dropped_bytes

    def look(self, *, listing: bool = True) -> None:
        """Look at the files without reading; list the globs, or leave it to the watch to decide."""
        assert self.watch is not None
        self.now += 0.3
        self.watch.look(self.now, 1e9 + self.now, listing=listing)
        self._learn()

    def read(self, batches: int | None = None) -> int:
        """Read so many batches, or all there is; gives how many there were."""
        assert self.watch is not None
        done = 0
        while batches is None or done < batches:
            self.now += 0.001
            batch = self.watch.read(self.now, 1e9 + self.now)
            self._learn()
            if batch is None:
                break
            done += 1
            self._take(batch)
        return done

    def acknowledge(self, batches: int | None = None) -> None:
        """Have the oldest pending batches acknowledged."""
        done, self.pending = self.pending[:batches], [] if batches is None else self.pending[batches:]
        for sequence, batch in done:
            self.journal.acknowledge(sequence)
            self.lines += batch.lines
            lines = zip(batch.offsets, batch.lines, strict=True)
            self._ends[batch.source.id] = batch.end
            self.delivered.setdefault(batch.source.id, []).extend(lines)

    def compact(self) -> None:
        """Write a snapshot, all being acknowledged."""
        assert self.watch is not None
        self.acknowledge()
        self.journal.compact(self.watch.registry().encode())

    def wait(self, seconds: float) -> None:
        """Let time pass, and look; what is written next is younger than what was written before."""
        if seconds >= QUIET_S:
            self.directory.tick()
        self.now += seconds
        self.look()

    def settle(self) -> None:
        """Read everything, give rotated files the time to be done, and forget what is not found."""
        self.look()
        for seconds in (2 * QUIET_S, 2 * QUIET_S, 20 * QUIET_S):
            self.read()
            self.wait(seconds)
        self.read()
        self.acknowledge()

    def close(self) -> None:
        """Stop for good."""
        if self.watch is not None:
            self.crash()

    def position(self, life: Life) -> int | None:
        """How far a life was read in this run; None if it is not known."""
        assert self.watch is not None
        places = [tail.position for tail in self.watch.tails() if self.lives.get(tail.id) is life]
        return max(places, default=None)

    def acknowledged_end(self, life: Life) -> int:
        """How far a life was read and acknowledged."""
        return max((self._ends.get(id_, 0) for id_, other in self.lives.items() if other is life), default=0)

    def knows(self, name: str) -> bool:
        """Whether any life of this log was ever followed."""
        return any(life.name == name for life in self.lives.values())

    def read_whole(self) -> Iterator[tuple[Life, list[tuple[int, bytes]]]]:
        """Give each life with what was delivered of it."""
        for life in self.directory.lives:
            ids = [id_ for id_, other in self.lives.items() if other is life]
            yield life, [line for id_ in ids for line in self.delivered.get(id_, [])]

    def _take(self, batch: Batch) -> None:
        for offset, line in zip(batch.offsets, batch.lines, strict=True):
            assert self._sent.setdefault((batch.source.id, offset), line) == line
        assert batch.cursor is not None
        sequence = self.journal.append(msgspec.msgpack.encode(batch.cursor))
        self.pending.append((sequence, batch))

    def _learn(self) -> None:
        """Note new sources, and learn which life each one reads, by the inode of its file when it is new."""
        assert self.watch is not None
        note = self.watch.take_notes()
        if note is not None:
            self.journal.note(note)
        for tail in self.watch.tails():
            life = self.directory.inodes.get(tail.place.inode)
            fresh = tail.position == 0 and tail.id not in self.delivered
            if life is not None and (tail.id not in self.lives or fresh):
                self.lives[tail.id] = life


@contextlib.contextmanager
def simulated(
    root: Path, include: Sequence[str] = ("*.log",), *, banner: bytes = b"", **options: Any
) -> Iterator[Agent]:
    """Give an agent over an empty log directory; options as of Agent."""
    (root / "logs").mkdir(parents=True)
    agent = Agent(LogDirectory(root / "logs", banner), include, **options)
    try:
        yield agent
    finally:
        agent.close()
