"""Random file actions against the exact model: what is delivered is what was written, and every loss is counted."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from simulator import QUIET_S, Agent, Life, LogDirectory

from foretail.tail import Reading
from foretail.watch import WatchLimits

LOGS = st.sampled_from(["app.log", "web.log"])
SIZES = st.lists(st.sampled_from([20, 60, 300, 3000]), min_size=1, max_size=4)
NUMBERED = re.compile(rb"(\S+) line (\d+) ")
MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None  # fsync costs nothing there


class Tailing(RuleBasedStateMachine):
    """What a logger, logrotate, an operator and a killer may do in any order."""

    @initialize(
        include=st.sampled_from([("app.log", "web.log", "link.log"), ("*.log",), ("*.log*",)]),
        banner=st.sampled_from([b"", b"same banner\n", b"B" * 1500 + b"\n"]),
        read_bytes_max=st.sampled_from([100, 4096, 1 << 18]),
        descriptors_max=st.sampled_from([2, 512, 512]),
    )
    def begin(self, include, banner, read_bytes_max, descriptors_max):
        self.root = Path(tempfile.mkdtemp(dir=MEMORY))
        (self.root / "logs" / "data").mkdir(parents=True)
        self.events = []
        self.lost: dict[Life, int] = {}  # as the warnings say
        structlog.configure(processors=[self._collect])
        banner = b"" if descriptors_max < 512 else banner  # of a closed file no more than the banner may be known
        self.directory = LogDirectory(self.root / "logs", banner)
        self.scarce = descriptors_max < 512
        limits = WatchLimits(quiet_s=QUIET_S, forget_s=10 * QUIET_S, descriptors_max=descriptors_max)
        reading = Reading("sim", read_bytes_max=read_bytes_max)
        self.agent = Agent(self.directory, include, reading=reading, limits=limits)
        self.expected: dict[Life, int] = {}
        self.destroyed: set[Life] = set()  # while the agent was down
        self.late: dict[str, Life] = {}  # rotated files that a stale writer may still write to
        self.targets = 0
        self.retarget(False)

    def _collect(self, _logger, _method, event):
        self.events.append(event)
        if event.get("lost_bytes"):
            life = self.agent.lives[event["source"]]
            self.lost[life] = max(self.lost.get(life, 0), event["lost_bytes"])
        raise structlog.DropEvent

    @property
    def up(self):
        return self.agent.watch is not None

    def _look(self):
        if self.up:
            self.agent.look()

    def _past_banner(self, life):
        """Read on until more than a banner is known of a life; equal banners cannot be told apart."""
        while self.up and life.banner and (self.agent.position(life) or 0) <= life.banner and self.agent.read(1):
            pass

    def _destroy(self, life):
        """Say what of a life can be delivered once its bytes are gone, and what loss is to be counted."""
        if not self.up:
            life.readable = self.agent.acknowledged_end(life)
            self.destroyed.add(life)
            return
        position = self.agent.position(life)
        life.readable = position or 0
        if position is not None:
            self.expected[life] = len(life.content) - position

    def _only_banners(self):
        """Whether of some life nothing but the banner is known for sure: after a crash it could be another one."""
        return any(
            life.banner and life.content and self.agent.acknowledged_end(life) <= life.banner
            for life in self.agent.lives.values()
        )

    @rule(log=LOGS, sizes=SIZES, end=st.booleans())
    def write(self, log, sizes, end):
        self.directory.write(log, *sizes, end=end)

    @rule(sizes=SIZES, end=st.booleans())
    def write_behind_link(self, sizes, end):
        self.directory.write(f"data/target{self.targets}", *sizes, end=end)

    @rule(sizes=SIZES, log=LOGS)
    def write_late(self, sizes, log):
        """A writer that has not reopened its log after a rotation."""
        life = self.late.get(log)
        if life is not None and self.directory.files.get(log + ".1") is life:
            self.directory.write_bytes(log + ".1", b"".join(b"late %d\n" % size for size in sizes))

    @rule(log=LOGS)
    def create(self, log):
        if log not in self.directory.files:
            self.directory.create(log)

    @rule(log=LOGS, times=st.integers(1, 3), sizes=SIZES, create=st.booleans())
    def rename(self, log, times, sizes, create):
        """Rotation by rename, several times between two looks."""
        self._look()
        for time in range(times):
            if log not in self.directory.files or (not self.up and not self.agent.knows(log)):
                return
            if time:
                self.directory.write(log, *sizes)
            self._past_banner(self.directory.files[log])
            self.directory.rename(log)
            self.late[log] = self.directory.files[log + ".1"]
            if create or time + 1 < times:
                self.directory.create(log)

    @rule(log=LOGS, reads=st.integers(0, 2), pack=st.booleans(), sizes=SIZES, regrow=st.booleans())
    def copytruncate(self, log, reads, pack, sizes, regrow):
        life = self.directory.files.get(log)
        if life is None or not life.content or (not self.up and not self.agent.knows(log)):
            return
        self._look()
        self._past_banner(life)
        self.directory.copy(log)
        self.late.pop(log, None)
        if self.up:
            self.agent.read(reads)
        self.directory.truncate(log)
        if pack:
            self.directory.pack(log + ".1")
        if regrow:
            self.directory.write(log, *sizes)
        self._look()

    @rule(log=LOGS, sizes=SIZES, regrow=st.booleans())
    def truncate(self, log, sizes, regrow):
        life = self.directory.files.get(log)
        if life is None or not life.content:
            return
        self._look()
        self._past_banner(life)
        self._destroy(life)
        self.directory.truncate(log, life.readable)
        if regrow:
            self.directory.write(log, *sizes)
        self._look()

    @rule(log=LOGS)
    def remove(self, log):
        life = self.directory.files.get(log)
        if life is not None:
            self._remove(log, life)

    @rule(log=LOGS)
    def remove_oldest(self, log):
        names = self.directory.names(log)
        if names:
            self._remove(names[-1], self.directory.files[names[-1]])

    def _remove(self, name, life):
        self._look()
        self._past_banner(life)
        if not self.up:
            self._destroy(life)
        self.directory.remove(name)

    @rule(log=LOGS)
    def pack(self, log):
        name = log + ".1"
        if name in self.directory.files:
            self._look()
            self.directory.pack(name)
            self.late.pop(log, None)

    @rule(create=st.booleans())
    def retarget(self, create):
        """Point the symbolic link to another file."""
        self._look()
        old = self.directory.files.get(f"data/target{self.targets}")
        if old is not None:
            if not self.up and not self.agent.knows(old.name):
                return
            self._past_banner(old)
            old.ended = True
        self.targets += 1
        if create:
            self.directory.create(f"data/target{self.targets}")
        link = self.directory.path("link.new")
        link.symlink_to(self.directory.path(f"data/target{self.targets}"))
        link.rename(self.directory.path("link.log"))

    @precondition(lambda self: self.up)
    @rule(listing=st.booleans())
    def look(self, listing):
        self.agent.look(listing=listing)

    @precondition(lambda self: self.up)
    @rule(batches=st.integers(1, 5))
    def read(self, batches):
        self.agent.read(batches)

    @precondition(lambda self: self.up)
    @rule()
    def read_all(self):
        self.agent.look()
        self.agent.read()

    @precondition(lambda self: self.up)
    @rule(batches=st.integers(1, 3))
    def acknowledge(self, batches):
        self.agent.acknowledge(batches)

    @precondition(lambda self: self.up)
    @rule()
    def compact(self):
        self.agent.compact()

    @precondition(lambda self: self.up)
    @rule()
    def wait(self):
        self.late.clear()
        self.agent.wait(2 * QUIET_S)

    @precondition(lambda self: self.up)
    @rule()
    def crash(self):
        if self._only_banners():
            self.agent.look()
            self.agent.read()
            self.agent.acknowledge()
        if self._only_banners():
            return
        for life in set(self.directory.lives) - set(self.directory.files.values()):
            done = self.agent.acknowledged_end(life)
            if done < len(life.content):  # it lived on only while it was open
                life.readable = min(done, len(life.content) if life.readable is None else life.readable)
                self.destroyed.add(life)
        self.agent.crash()

    @precondition(lambda self: not self.up)
    @rule()
    def restart(self):
        registry = self.agent.start()
        for cursor in registry.cursors.values():
            life = self.agent.lives.get(cursor.id)
            if life in self.destroyed:
                self.expected[life] = max(cursor.unread, self.expected.get(life, 0))
        self.agent.look()

    def teardown(self):
        try:
            if not self.up:
                self.restart()
            self.agent.settle()
            self.check()
        finally:
            self.agent.close()
            structlog.reset_defaults()
            shutil.rmtree(self.root)

    def check(self):
        for life, delivered in self.agent.read_whole():
            missing = set(life.lines()) - set(delivered)
            if self.scarce:  # removed files may have been closed: then their bytes are counted
                assert sum(len(line) for _, line in missing) <= self.lost.get(life, 0), (
                    life.name,
                    missing,
                    self.events,
                )
                assert len(set(delivered)) == len(delivered), (life.name, delivered)
                assert all(life.content[at : at + len(line)] == line for at, line in delivered), life.name
            else:
                assert life.lines() == sorted(delivered), (life.name, life.lines(), sorted(delivered), self.events)
        self.check_order()
        if not self.scarce:
            assert {life: count for life, count in self.expected.items() if count} == self.lost

    def check_order(self):
        """The lines of a log came as they were written, over all its rotations; unfinished ones are waited for."""
        newest: dict[bytes, int] = {}
        for name, number in dict.fromkeys(found.groups() for found in map(NUMBERED.match, self.agent.lines) if found):
            if int(number) not in self.directory.unended:
                assert newest.get(name, 0) < int(number), (name, number, newest, self.events)
                newest[name] = int(number)


Tailing.TestCase.settings = settings(
    max_examples=300,
    derandomize=True,  # the same runs each time; bench-tail runs 5,000 others
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestTailing = Tailing.TestCase
