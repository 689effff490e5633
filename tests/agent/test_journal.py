"""What was acknowledged is restored, whatever fails and whenever the agent is killed."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from foretail.errors import ConfigError, StreamError
from foretail.journal import Journal, JournalLimits
from foretail.ledger import DATA, HEADER_BYTES, record

SOON = JournalLimits(fsync_s=0.0)


class Killed(BaseException):
    """The process is no more."""


class Faults:
    """The system, until its n-th call: then it is killed, or the call fails.

    Args:
        at: which call, from 0; none if negative.
        error: errno to fail with; None: kill.
        written: share of a write that is done before.
        lasting: all calls of the same name fail from then on.
    """

    def __init__(self, at=-1, error=None, written=0.0, lasting=False):
        self.at, self.error, self.written, self.lasting = at, error, written, lasting
        self.calls = []
        self.failing = ""

    def __getattr__(self, name):
        call = getattr(os, name)

        def faulty(*args):
            self.calls.append(name)
            now = len(self.calls) - 1 == self.at
            if now and self.lasting:
                self.failing = name
            if not now and self.failing != name:
                return call(*args)
            if name == "write":
                os.write(args[0], args[1][: int(len(args[1]) * self.written)])
            elif self.error is None and self.written:
                call(*args)
            raise OSError(self.error, os.strerror(self.error)) if self.error else Killed

        return faulty


class Run:
    """A life of an agent whose state is the list of all acknowledged payloads.

    Attributes:
        acknowledged, hoped: payloads whose acknowledgement returned, or was under way.
        noted: notes that returned.
    """

    def __init__(self, directory):
        self.directory = directory
        self.acknowledged, self.hoped, self.noted = [], [], []
        self.payloads = {}
        self.journal = None

    def live(self, system):
        """Append, note, acknowledge, compact, sync; go on after each StreamError."""
        self.journal = journal = Journal.open(self.directory, SOON, system)
        payloads = self.payloads
        for number in range(8):
            self.do(lambda number=number: payloads.update({journal.append(b"p%d" % number): b"p%d" % number}))
            if number % 3 == 0:
                self.do(lambda number=number: journal.note(b"n%d" % number) or self.noted.append(b"n%d" % number))
            if number % 2:
                self.acknowledge(payloads)
            if number in (3, 5) and journal.acknowledged == journal.sequence:
                self.do(self.compact)
            self.do(lambda number=number: journal.sync(float(number)))
        journal.append(b"unacknowledged")

    def compact(self):
        self.journal.compact(b",".join(self.acknowledged) + b"|" + b",".join(self.noted))

    def acknowledge(self, payloads):
        if not payloads:
            return
        self.hoped = [payloads[number] for number in sorted(payloads)]
        self.do(lambda: self.journal.acknowledge(max(payloads)))
        if self.journal.acknowledged == max(payloads):
            self.acknowledged = self.hoped

    def do(self, step):
        try:
            step()
        except StreamError:
            self.failures = getattr(self, "failures", 0) + 1

    def bury(self):
        """Free what the kernel frees when a process ends."""
        if self.journal is not None:
            os.close(self.journal._lock)
            with contextlib.suppress(OSError):  # killed just after closing it
                os.close(self.journal._fd)

    def check(self):
        """A new agent finds all that was acknowledged, nothing that was not, and all notes."""
        journal = Journal.open(self.directory)
        restored = journal.restore()
        journal.close()
        before, _, notes = (restored.snapshot or b"|").partition(b"|")
        state = before.split(b",") if before else []
        state += restored.records
        assert state in (self.acknowledged, self.hoped)
        assert set(self.noted) <= {*notes.split(b","), *restored.notes}
        return restored


class Turned(Run):
    """The same, but each new generation begins with its journal, and its snapshot comes after."""

    def compact(self):
        if self.journal.turning:
            return
        if self.journal.needs_compaction:
            super().compact()
            return
        before = b",".join(self.acknowledged) + b"|" + b",".join(self.noted)
        self.hoped = [*self.acknowledged, b"turned"]
        turning = self.journal.turn_over(b"turned")
        self.acknowledged, self.payloads[self.journal.sequence] = self.hoped, b"turned"
        turning.settle(before)
        assert not self.journal.turning


def calls_of_a_run(tmp_path, kind=Run):
    """How many system calls an undisturbed run makes."""
    faults = Faults()
    run = kind(tmp_path / "undisturbed")
    run.live(faults)
    run.bury()
    assert run.check().discarded == 1
    return faults.calls


@pytest.mark.parametrize("kind", [Run, Turned])
@pytest.mark.parametrize("written", [0.0, 0.5, 1.0])
def test_the_journal_survives_sigkill_between_any_two_system_calls(tmp_path, written, kind):
    """Killed before, within or after each of its calls, it is restored as of the last acknowledgement."""
    calls = calls_of_a_run(tmp_path, kind)
    assert len(calls) > 50
    for at in range(len(calls)):
        run = kind(tmp_path / f"{written}-{at}")
        faults = Faults(at, written=written)
        with pytest.raises(Killed):
            run.live(faults)
        if run.journal is None:  # killed while opening: __init__ has closed what it had
            run = kind(run.directory)
        else:
            run.bury()
        run.check()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("lasting", [False, True])
def test_enospc_and_eio_leave_the_old_state_whole_and_the_agent_goes_on(tmp_path, error, lasting):
    """Each failing call costs a StreamError, counted; what was acknowledged in spite of it is restored."""
    calls = calls_of_a_run(tmp_path)
    for at, name in enumerate(calls):
        run = Run(tmp_path / f"{at}")
        try:
            run.live(Faults(at, error, written=0.5, lasting=lasting))
        except ConfigError:  # at the first opening
            assert run.journal is None
            continue
        except StreamError:
            pass  # of the last append
        if name not in ("close", "unlink"):
            assert run.journal.errors > 0
        run.bury()
        run.check()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_generation_that_cannot_begin_or_get_its_snapshot_loses_nothing(tmp_path, error):
    """Whichever call fails, what was acknowledged is restored, from one generation or from two."""
    for at in range(len(calls_of_a_run(tmp_path, Turned))):
        run = Turned(tmp_path / f"{at}")
        try:
            run.live(Faults(at, error, written=0.5))
        except ConfigError:  # at the first opening
            continue
        except StreamError:
            pass  # of the last append
        run.bury()
        run.check()


def test_a_start_without_the_newest_snapshot_writes_one_soon(tmp_path):
    """A generation must not lean on one that leans on another."""
    journal = Journal.open(tmp_path)
    journal.acknowledge(journal.append(b"one"))
    journal.turn_over(b"turned")
    assert journal.turning
    assert not journal.needs_compaction
    journal.close()
    again = Journal.open(tmp_path)
    restored = again.restore()
    assert restored.records == [b"one", b"turned"]
    assert "snapshot-1 is damaged" in restored.recovered
    assert again.needs_compaction
    again.compact(b"both")
    again.close()
    assert Journal.open(tmp_path).restore().snapshot == b"both"


@pytest.mark.parametrize("left", ["torn", "short"])
def test_a_journal_whose_beginning_outlasts_the_end_of_the_one_before_is_left_out(tmp_path, left):
    """After a power failure in the moment of a turn: the state is that of what was on the disk, without a hole."""
    journal = Journal.open(tmp_path)
    journal.acknowledge(journal.append(b"one"))
    size = journal.size
    journal.acknowledge(journal.append(b"two"))
    journal.turn_over(b"turned")
    journal.acknowledge(journal.append(b"three"))
    journal.close()
    os.truncate(tmp_path / "journal-0", size + (5 if left == "torn" else 0))
    again = Journal.open(tmp_path)
    assert again.restore().records == [b"one"]
    assert again.append(b"again") == 2
    again.close()


def test_a_full_disk_that_is_freed_again_loses_nothing(tmp_path):
    """The half-written record is cut off before the next one is written."""
    faults = Faults()
    journal = Journal.open(tmp_path, system=faults)
    journal.acknowledge(journal.append(b"one"))
    faults.at, faults.error, faults.written = len(faults.calls), errno.ENOSPC, 0.5
    with pytest.raises(StreamError, match=r"cannot write 20 bytes to the journal in .*: No space left"):
        journal.append(b"two")
    assert journal.append(b"two") == 2
    journal.acknowledge(2)
    journal.close()
    assert Journal.open(tmp_path).restore().records == [b"one", b"two"]


def test_a_real_size_limit_is_a_stream_error_and_the_old_state_stays(tmp_path):
    """RLIMIT_FSIZE makes the kernel refuse to append and to compact."""
    program = """
import resource, sys
from pathlib import Path
from foretail.errors import StreamError
from foretail.journal import Journal
journal = Journal.open(Path(sys.argv[1]))
journal.acknowledge(journal.append(b"one"))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for attempt in (lambda: journal.append(b"x" * 5000), lambda: journal.compact(b"y" * 5000)):
    try:
        attempt()
    except StreamError as error:
        print(error)
journal.acknowledge(journal.append(b"two"))
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert [line.partition(" in ")[0] for line in done.stdout.splitlines()] == [
        "cannot write 5017 bytes to the journal",
        "cannot compact the journal",
    ]
    assert done.stdout.count("File too large") == 2
    restored = Journal.open(tmp_path).restore()
    assert (restored.snapshot, restored.records) == (None, [b"one", b"two"])


def test_a_real_sigkill_keeps_every_record_whose_append_returned(tmp_path):
    """The parent kills a child that appends and acknowledges as fast as it can."""
    program = """
import sys
import zlib
from pathlib import Path
from foretail.journal import Journal
journal = Journal.open(Path(sys.argv[1]))
while True:
    number = journal.append(b"x" * 100)
    journal.acknowledge(number)
    print(number, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if int(line) == 500:
                break
        child.send_signal(signal.SIGKILL)
        last = [500, *map(int, child.stdout.read().split())][-1]
    assert len(Journal.open(tmp_path).restore().records) in (last, last + 1)


def test_a_torn_last_record_is_cut_off(tmp_path):
    """At every length of the torn record, what came before is restored and the next append fits on."""
    for length in range(1, len(record(DATA, 2, b"two"))):
        directory = tmp_path / str(length)
        journal = Journal.open(directory)
        journal.acknowledge(journal.append(b"one"))
        journal.close()
        with (directory / "journal-0").open("ab") as file:
            file.write(record(DATA, 2, b"two")[:length])
        journal = Journal.open(directory)
        restored = journal.restore()
        assert (restored.records, restored.cut_bytes) == ([b"one"], length)
        journal.acknowledge(journal.append(b"two"))
        journal.close()
        assert Journal.open(directory).restore().records == [b"one", b"two"]


def test_unacknowledged_records_are_discarded_for_good(tmp_path):
    """An acknowledgement of the next run does not bring them back; notes stay."""
    journal = Journal.open(tmp_path)
    journal.acknowledge(journal.append(b"one"))
    journal.append(b"lost")
    journal.note(b"fact")
    journal.close()
    journal = Journal.open(tmp_path)
    restored = journal.restore()
    assert (restored.records, restored.discarded, restored.notes) == ([b"one"], 1, [b"fact"])
    assert journal.append(b"two") == 3
    journal.acknowledge(3)
    journal.close()
    restored = Journal.open(tmp_path).restore()
    assert (restored.records, restored.discarded, restored.notes) == ([b"one", b"two"], 0, [b"fact"])


def test_acknowledgements_are_cumulative_and_never_step_back(tmp_path):
    """Out of order, twice or beyond the end, they change nothing."""
    journal = Journal.open(tmp_path)
    for number in (1, 2, 3):
        assert journal.append(b"%d" % number) == number
    journal.acknowledge(2)
    size = journal.size
    journal.acknowledge(1)
    journal.acknowledge(2)
    assert (journal.size, journal.acknowledged) == (size, 2)
    journal.acknowledge(99)
    assert journal.acknowledged == 3
    journal.close()


def test_compaction_is_temp_fsync_rename_and_directory_fsync_in_this_order(tmp_path):
    """The new journal is durable before the snapshot that needs it takes its place."""
    faults = Faults()
    journal = Journal.open(tmp_path, system=faults)
    faults.calls.clear()
    journal.compact(b"state")
    written = ["open", "write", "fsync", "open", "write", "write", "fsync", "close", "rename", "open", "fsync", "close"]
    assert faults.calls[: len(written)] == written
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal-0", "journal-1", "lock", "snapshot-1"]
    assert Journal.open(tmp_path).restore().snapshot == b"state"


def compacted_twice(directory):
    """State "ab" in snapshot 2, "a" in snapshot 1, then one record."""
    journal = Journal.open(directory)
    journal.acknowledge(journal.append(b"a"))
    journal.compact(b"a")
    journal.note(b"fact")
    journal.acknowledge(journal.append(b"b"))
    journal.compact(b"ab")
    journal.acknowledge(journal.append(b"c"))
    journal.close()


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_corrupt_or_truncated_snapshot_is_made_up_for_by_the_generation_before(tmp_path, damage):
    """Old snapshot, all its records, and the new ones: nothing is skipped, and it is said."""
    compacted_twice(tmp_path)
    path = tmp_path / "snapshot-2"
    data = path.read_bytes()
    changed = {"flip": data[:-1] + b"X", "truncate": data[:-1], "empty": b""}
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(changed[damage])
    journal = Journal.open(tmp_path)
    restored = journal.restore()
    assert (restored.snapshot, restored.records, restored.notes) == (b"a", [b"b", b"c"], [b"fact"])
    assert restored.recovered.startswith("snapshot-2 is damaged")
    assert journal.append(b"d") == 4
    journal.acknowledge(4)
    journal.compact(b"abcd")
    journal.close()
    assert Journal.open(tmp_path).restore().snapshot == b"abcd"


def test_state_damaged_beyond_the_generation_before_is_refused_with_what_to_do(tmp_path):
    """Starting anew silently would skip or repeat everything."""
    compacted_twice(tmp_path)
    for name in ("snapshot-2", "snapshot-1"):
        (tmp_path / name).write_bytes(b"rubbish")
    with pytest.raises(ConfigError, match=r"state in .* is damaged .*move it away to start anew"):
        Journal.open(tmp_path)


def test_a_snapshot_of_a_newer_schema_is_refused(tmp_path):
    """The sentence names the file, both schemas and the way out."""
    journal = Journal.open(tmp_path)
    journal.compact(b"state")
    journal.close()
    path = tmp_path / "snapshot-1"
    data = bytearray(path.read_bytes())
    data[8:12] = (2).to_bytes(4, "little")
    data[HEADER_BYTES - 4 : HEADER_BYTES] = zlib.crc32(bytes(data[: HEADER_BYTES - 4])).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(
        ConfigError, match=r"newer foretail \(state schema 2, this one reads up to 1\): upgrade, or move"
    ):
        Journal.open(tmp_path)


def test_damage_in_the_middle_of_the_journal_cuts_it_there_and_says_so(tmp_path):
    """The lines of the records behind it are read again, not skipped."""
    journal = Journal.open(tmp_path)
    for number in range(3):
        journal.acknowledge(journal.append(b"record %d" % number))
    journal.close()
    path = tmp_path / "journal-0"
    data = path.read_bytes()
    path.write_bytes(data.replace(b"record 1", b"RECORD 1"))
    restored = Journal.open(tmp_path).restore()
    assert restored.records == [b"record 0"]
    assert restored.cut_bytes == len(data) - data.index(b"record 1") + len(record(DATA, 2, b""))


def test_two_agents_never_share_a_state_directory(tmp_path):
    """The second one is told what to do; the lock of a dead one is none."""
    journal = Journal.open(tmp_path)
    with pytest.raises(
        ConfigError, match=r"another agent uses the state directory .*: stop it or give this one another"
    ):
        Journal.open(tmp_path)
    journal.close()
    Journal.open(tmp_path).close()


def test_a_state_directory_that_cannot_be_made_is_one_sentence(tmp_path):
    """A file stands in its way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot use the state directory .*file/state: Not a directory"):
        Journal.open(tmp_path / "file" / "state")


def test_the_state_directory_is_private(tmp_path):
    """Only the agent's user reads it."""
    journal = Journal.open(tmp_path / "state")
    journal.compact(b"x")
    journal.close()
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "state", *(tmp_path / "state").iterdir()]}
    assert modes.pop("state") == 0o700
    assert set(modes.values()) == {0o600}


def test_compaction_is_due_at_four_snapshots_or_64_mib(tmp_path):
    """But not below 1 MiB, so that a small state is not written again and again."""
    limits = JournalLimits(compact_bytes_min=1000, compact_bytes_max=100_000)
    journal = Journal.open(tmp_path, limits)
    assert not journal.needs_compaction
    journal.acknowledge(journal.append(b"x" * 1000))
    assert journal.needs_compaction
    journal.compact(b"y" * 10_000)
    journal.acknowledge(journal.append(b"x" * 39_000))
    assert not journal.needs_compaction
    journal.acknowledge(journal.append(b"x" * 2_000))
    assert journal.needs_compaction
    journal.compact(b"y" * 100_000)
    journal.acknowledge(journal.append(b"x" * 101_000))
    assert journal.needs_compaction
    journal.close()


def test_fsync_is_done_when_due_and_a_failed_one_asks_for_compaction(tmp_path):
    """A failed fsync may have dropped pages: only a new snapshot is sure."""
    faults = Faults()
    journal = Journal.open(tmp_path, JournalLimits(fsync_s=5.0), faults)
    journal.append(b"x")
    faults.calls.clear()
    for now in (100.0, 104.9):
        journal.sync(now)
    assert faults.calls == []
    journal.sync(105.0)
    journal.sync(111.0)  # nothing was written since
    assert faults.calls == ["fsync"]
    journal.append(b"y")
    faults.at, faults.error = 2, errno.EIO
    with pytest.raises(StreamError, match="cannot fsync the journal"):
        journal.sync(120.0)
    assert (journal.needs_compaction, journal.errors) == (True, 1)
    journal.acknowledge(2)
    journal.compact(b"xy")
    assert not journal.needs_compaction
    journal.close()


def test_an_append_is_one_write_of_header_and_payload(tmp_path):
    """17 bytes more than the payload."""
    faults = Faults()
    journal = Journal.open(tmp_path, system=faults)
    faults.calls.clear()
    size = journal.size
    journal.append(b"payload")
    assert (faults.calls, journal.size - size) == (["write"], 17 + 7)
    journal.close()


def test_a_record_over_the_limit_is_refused_with_the_numbers(tmp_path):
    """It could not be read back within bounded memory."""
    journal = Journal.open(tmp_path, JournalLimits(record_bytes_max=10))
    with pytest.raises(StreamError, match="a journal record of 11 bytes exceeds 10"):
        journal.append(b"x" * 11)
    journal.close()


def test_nothing_but_the_journal_is_kept_open(tmp_path):
    """Compacting over and over leaks no descriptor and no file."""
    journal = Journal.open(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(10):
        journal.acknowledge(journal.append(b"x"))
        journal.compact(b"%d" % number)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    journal.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "journal-10",
        "journal-9",
        "lock",
        "snapshot-10",
        "snapshot-9",
    ]
