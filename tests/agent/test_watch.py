"""What a tailer must survive, one fact a test; where file events could matter, with watchdog and without."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import tempfile
import threading
from pathlib import Path

import msgspec
import pytest
from simulator import QUIET_S, simulated

from foretail.globs import Globs
from foretail.lines import LineLimits
from foretail.multiline import Multiline
from foretail.tail import Reading
from foretail.wake import Waker
from foretail.watch import Watch, WatchLimits


class Seer:
    """An agent that looks when it is told to, or when watchdog says so."""

    def __init__(self, agent, *, watchdog):
        self.agent = agent
        self.directory = agent.directory
        self.event = threading.Event()
        self.waker = Waker(self.event, enabled=watchdog)
        self.watchdog = watchdog
        self.see(changed=False)

    def see(self, *, changed=True):
        """Notice what changed, read all there is, and have it acknowledged; gives the lines."""
        if changed and self.watchdog:
            assert self.event.wait(10), "watchdog said nothing"
        self.event.clear()
        self.agent.now += 5.0
        before = len(self.agent.lines)
        self.agent.look(listing=False)
        self.agent.read()
        self.agent.acknowledge()
        self.waker.arm(self.agent.watch.folders(), self.agent.now)
        return self.agent.lines[before:]

    def quiet(self):
        """Let rotated files have their quiet time."""
        self.agent.wait(2 * QUIET_S)
        return self.see(changed=False)

    def restart(self):
        """Crash, start, see."""
        self.agent.crash()
        self.agent.start()
        return self.see(changed=False)

    def lost(self):
        return self.agent.watch_lost()


@pytest.fixture(params=["polling", "watchdog"])
def tailing(request, tmp_path):
    """Make a Seer over an empty log directory, woken by watchdog or not."""
    with contextlib.ExitStack() as stack:

        def make(*include, **options):
            agent = stack.enter_context(simulated(tmp_path, include or ("*.log",), **options))
            seer = Seer(agent, watchdog=request.param == "watchdog")
            stack.callback(seer.waker.disarm)
            return seer

        yield make


def put(seer, name, *lines):
    """Append lines."""
    seer.directory.write_bytes(name, b"".join(line + b"\n" for line in lines))


# Identity


def test_a_file_shorter_than_the_head_window_is_read_at_once(tailing):
    """Two bytes are enough."""
    seer = tailing()
    put(seer, "app.log", b"x")
    assert seer.see() == [b"x"]


def test_two_files_with_the_same_head_are_both_read(tailing):
    """They are as equal as two files can be for two kilobytes."""
    seer = tailing()
    banner = b"b" * 2000
    put(seer, "app.log", banner, b"one")
    put(seer, "web.log", banner, b"two")
    assert sorted(seer.see()) == sorted([banner, b"one", banner, b"two"])


def test_two_files_with_the_same_content_are_both_read(tailing):
    """Workers that say the same are two."""
    seer = tailing()
    put(seer, "worker-1.log", b"started")
    assert seer.see() == [b"started"]
    put(seer, "worker-2.log", b"started")
    assert seer.see() == [b"started"]


def test_an_inode_reused_by_another_file_starts_at_0(tailing):
    """Same inode, larger than the offset, other content: another file."""
    seer = tailing()
    put(seer, "app.log", b"old one", b"old two")
    seer.see()
    seer.agent.crash()
    inode = seer.directory.path("app.log").stat().st_ino
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"new one", b"new two", b"new three")
    assert seer.directory.path("app.log").stat().st_ino == inode
    seer.agent.start()
    assert seer.see(changed=False) == [b"new one", b"new two", b"new three"]


def test_an_inode_reused_while_its_file_was_closed_starts_at_0(tailing):
    """The limit of descriptors closed it; what is there now is judged by content."""
    seer = tailing(limits=WatchLimits(quiet_s=QUIET_S, descriptors_max=1))
    put(seer, "app.log", b"old one", b"old two")
    put(seer, "web.log", b"other")
    seer.see()
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"new one", b"new two", b"new three")
    assert seer.see() == [b"new one", b"new two", b"new three"]
    assert seer.lost() == 0


def test_the_offset_is_compared_with_the_size_at_restart(tailing):
    """A file that is shorter than what was read is read from its head."""
    seer = tailing()
    put(seer, "app.log", b"same", b"gone")
    seer.see()
    seer.agent.crash()
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"same")
    seer.agent.start()
    assert seer.see(changed=False) == [b"same"]


def test_a_cursor_whose_file_vanished_while_stopped_expires_and_a_new_file_is_read_from_its_head(tailing):
    """Even one that begins alike."""
    seer = tailing()
    put(seer, "app.log", b"banner", b"old")
    seer.see()
    seer.agent.crash()
    seer.directory.remove("app.log")
    seer.agent.start()
    assert seer.see(changed=False) == []
    assert len(seer.agent.watch.registry().cursors) == 1
    put(seer, "app.log", b"banner", b"new")
    assert seer.see() == [b"banner", b"new"]
    seer.agent.wait(20 * QUIET_S)
    assert len(seer.agent.watch.registry().cursors) == 1


def test_a_new_file_that_says_the_same_as_a_finished_one_is_read(tailing):
    """Lines without a time may repeat for kilobytes."""
    seer = tailing()
    lines = [b"heartbeat"] * 500
    for _ in range(2):
        put(seer, "app.log", *lines)
        assert seer.see() == lines
        seer.directory.remove("app.log")
        seer.see()
        seer.quiet()


def test_device_and_inode_may_change_over_a_reboot(tailing):
    """A file restored from a backup is known by its content."""
    seer = tailing()
    put(seer, "app.log", *(b"line %d" % number for number in range(200)))
    seer.see()
    seer.agent.crash()
    path = seer.directory.path("app.log")
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)
    put(seer, "app.log", b"next")
    seer.agent.start()
    assert seer.see(changed=False) == [b"next"]
    assert len(seer.agent.delivered) == 1


def test_a_short_file_with_another_inode_is_rather_read_twice_than_not_at_all(tailing):
    """What little is known of it may be a banner that the new file begins with too."""
    seer = tailing()
    put(seer, "app.log", b"banner")
    seer.see()
    seer.agent.crash()
    seer.directory.path("app.log").rename(seer.directory.path("moved away"))
    seer.directory.path("app.log").write_bytes(b"banner\nnew\n")
    seer.agent.start()
    assert seer.see(changed=False) == [b"banner", b"new"]


# Rotation


def test_rename_and_create(tailing):
    """The old file is read to its end, then the new one; the source id goes with the old one."""
    seer = tailing()
    put(seer, "app.log", b"one")
    seer.see()
    put(seer, "app.log", b"two")
    seer.directory.rename("app.log")
    put(seer, "app.log", b"three")
    put(seer, "app.log.1", b"late")
    assert seer.see() == [b"two", b"late", b"three"]
    sources = {batch.path: batch for batch in (tail.source() for tail in seer.agent.watch.tails())}
    old, new = sources[str(seer.directory.path("app.log.1"))], sources[str(seer.directory.path("app.log"))]
    assert new.after == old.id


@pytest.mark.parametrize("include", ["app.log", "app.log*"])
def test_several_renames_between_two_looks(tailing, include):
    """A file that came and went unseen is read too, in order."""
    seer = tailing(include)
    put(seer, "app.log", b"one")
    seer.see()
    for line in (b"two", b"three", b"four"):
        seer.directory.rename("app.log")
        put(seer, "app.log", line)
    assert seer.see() == [b"two", b"three", b"four"]
    assert seer.quiet() == []


def test_several_renames_while_stopped(tailing):
    """The same over a restart, one of them compressed already."""
    seer = tailing("app.log")
    put(seer, "app.log", b"one")
    seer.see()
    put(seer, "app.log", b"one more")
    seer.agent.crash()
    for line in (b"two", b"three", b"four"):
        seer.directory.rename("app.log")
        put(seer, "app.log", line)
    seer.directory.pack("app.log.2")
    seer.directory.pack("app.log.3")
    seer.agent.start()
    assert sorted(seer.see(changed=False)) == [b"four", b"one more", b"three", b"two"]
    assert seer.restart() == []


@pytest.mark.parametrize("empty_at_the_kill", [False, True])
@pytest.mark.parametrize("how", ["rename", "copytruncate"])
def test_rotations_over_several_restarts_are_read_in_their_order(tailing, how, empty_at_the_kill):
    """Far behind, killed and started again while the log is rotated: the oldest line comes first, across all copies."""
    seer = tailing("app.log", reading=Reading("sim", read_bytes_max=64))
    number = 0

    def write(lines=3):
        nonlocal number
        put(seer, "app.log", *(b"line %04d and so on" % (number + i) for i in range(lines)))
        number += lines

    def rotate():
        if how == "rename":
            seer.directory.rename("app.log")
            seer.directory.create("app.log")
        else:
            seer.directory.copy("app.log")
            seer.directory.truncate("app.log")

    write()
    for turn in range(6):
        seer.agent.look()
        seer.agent.read(2)
        seer.agent.acknowledge()
        if empty_at_the_kill:
            rotate()
            seer.agent.look()
        seer.agent.crash()
        for _ in range(turn % 3):
            write()
            rotate()
        write()
        seer.agent.start()
    seer.see(changed=False)
    lines = list(dict.fromkeys(seer.agent.lines))
    assert lines == [b"line %04d and so on" % i for i in range(number)]


def test_a_log_that_begins_after_a_restart_comes_after_all_rotated_files(tailing):
    """Also after one that nobody saw under its first name."""
    seer = tailing("app.log", reading=Reading("sim", read_bytes_max=16))
    put(seer, "app.log", b"one " * 30)
    seer.agent.look()
    seer.directory.rename("app.log")
    put(seer, "app.log", b"two " * 30)
    seer.directory.rename("app.log")
    seer.agent.look()
    seer.agent.crash()
    seer.agent.start()
    seer.directory.create("app.log")
    seer.agent.look()
    seer.directory.rename("app.log")
    put(seer, "app.log", b"three")
    assert seer.see(changed=False) == [b"one " * 30, b"two " * 30, b"three"]


def test_a_file_filled_copied_and_emptied_between_two_looks_is_read(tailing):
    """It was empty before and holds less now: only its copy tells."""
    seer = tailing("app.log")
    seer.directory.create("app.log")
    seer.see()
    put(seer, "app.log", b"one", b"two")
    seer.directory.copy("app.log")
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"three")
    assert seer.see() == [b"one", b"two", b"three"]
    assert seer.restart() == []


def test_a_log_of_which_nothing_was_read_is_found_by_its_head(tailing):
    """It was empty when it was first seen, filled, and copied and truncated while the agent was down."""
    seer = tailing("app.log")
    seer.directory.create("app.log")
    seer.agent.look()
    put(seer, "app.log", b"one", b"two")
    seer.agent.look()
    (before,) = [tail.id for tail in seer.agent.watch.tails()]
    seer.agent.crash()
    seer.directory.copy("app.log")
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"three")
    seer.agent.start()
    assert seer.see(changed=False) == [b"one", b"two", b"three"]
    assert [line for _, line in seer.agent.delivered[before]] == [b"one", b"two"]
    assert seer.quiet() == []
    assert seer.lost() == 0


def test_a_log_that_moved_between_look_and_read_is_waited_for(tailing):
    """What came after it stays behind it."""
    seer = tailing("app.log", limits=WatchLimits(descriptors_max=1, quiet_s=QUIET_S))
    put(seer, "app.log", b"one")
    seer.agent.look()
    seer.directory.rename("app.log")
    put(seer, "app.log", b"two")
    seer.agent.look()
    seer.directory.rename("app.log")
    seer.agent.read()
    assert seer.see(changed=False) + seer.quiet() == seer.agent.lines
    assert seer.agent.lines == [b"one", b"two"]


def test_a_packed_log_that_moved_between_look_and_read_is_waited_for(tailing):
    """No name leads to it for that moment: that is no trouble to tell of."""
    seer = tailing("app.log", limits=WatchLimits(descriptors_max=1, quiet_s=QUIET_S))
    put(seer, "app.log", b"one")
    seer.agent.look()
    seer.directory.copy("app.log")
    seer.directory.truncate("app.log")
    seer.directory.pack("app.log.1")
    put(seer, "app.log", b"two")
    seer.agent.look()
    seer.directory.rename("app.log")
    seer.agent.read()
    seer.see(changed=False)
    seer.quiet()
    assert seer.agent.lines == [b"one", b"two"]
    assert seer.agent.watch.counts.read_errors == 0


def test_what_was_read_and_packed_is_not_read_again_at_the_next_rotation(tailing):
    """Its last write is older than the file that was rotated since."""
    seer = tailing("app.log")
    seer.directory.write("app.log", 20, end=False)
    seer.directory.rename("app.log")
    seer.see(changed=False)
    seer.quiet()
    assert seer.quiet() == []
    seer.directory.create("app.log")
    seer.see(changed=False)
    seer.directory.pack("app.log.1")
    seer.directory.rename("app.log")
    assert seer.see(changed=False) + seer.quiet() + seer.quiet() == []


def test_a_packed_copy_that_could_not_be_opened_at_once_is_read_later(tailing):
    """It does not grow, so nothing but the next look brings it back."""
    seer = tailing("app.log", reading=Reading("sim", read_bytes_max=16), limits=WatchLimits(descriptors_max=1))
    put(seer, "app.log", b"one " * 4, b"two " * 4)
    seer.agent.look()
    seer.agent.read(1)
    seer.directory.copy("app.log")
    seer.directory.truncate("app.log")
    seer.directory.pack("app.log.1")
    put(seer, "app.log", b"new")
    seer.agent.look()
    (packed,) = [tail for tail in seer.agent.watch.tails() if tail.packed]
    packed.close()  # as for want of descriptors
    hidden = seer.directory.path("app.log.1.gz").rename(seer.directory.root.parent / "hidden")
    seer.directory.path("app.log.1.gz").write_bytes(b"\x1f\x8b\x08 not yet whole")
    seer.agent.read()
    hidden.replace(seer.directory.path("app.log.1.gz"))
    for _ in range(3):
        seer.see(changed=False)
    assert sorted(seer.agent.lines) == [b"new", b"one " * 4, b"two " * 4]


def test_a_log_of_another_instance_is_no_missed_rotation(tailing):
    """It is beside, it is newer, it is not included."""
    seer = tailing("app.log")
    put(seer, "app.log", b"one")
    seer.see()
    put(seer, "app-2.log", b"other")
    seer.directory.rename("app.log")
    put(seer, "app.log", b"two")
    assert seer.see() == [b"two"]
    assert seer.restart() == []


def test_renamed_while_the_reader_is_behind_is_drained_to_its_end_however_long_the_sink_is_blocked(tailing):
    """Rotated three times and removed in a blocked day: nothing is lost, nothing is read before it can be sent."""
    seer = tailing("app.log")
    lines = [b"line %d" % number for number in range(20)]
    put(seer, "app.log", *lines[:10])
    seer.agent.look()
    for line in lines[10:]:
        seer.directory.rename("app.log")
        put(seer, "app.log", line)
        seer.agent.wait(QUIET_S * 10)
    for name in seer.directory.names("app.log"):
        seer.directory.remove(name)
    seer.agent.wait(QUIET_S * 100)
    assert seer.see(changed=False) == lines
    assert seer.lost() == 0


def test_a_hit_limit_of_descriptors_is_a_counter_in_bytes(tailing):
    """Removed files live only while they are open; the oldest of too many is given up."""
    seer = tailing("app.log", limits=WatchLimits(quiet_s=QUIET_S, descriptors_max=3))
    for number in range(6):
        put(seer, "app.log", b"line %d" % number)
        seer.agent.look()
        seer.directory.remove("app.log")
        seer.agent.look()
    assert seer.see(changed=False) == [b"line 2", b"line 3", b"line 4", b"line 5"]
    counts = seer.agent.watch.counts
    assert (counts.dropped_files, counts.dropped_bytes) == (2, 14)


def test_copytruncate_live(tailing):
    """What the reader had not read is drained from the copy; the copy is not read otherwise."""
    seer = tailing("app.log*")
    put(seer, "app.log", b"one")
    seer.see()
    put(seer, "app.log", b"two")
    seer.agent.look()
    seer.directory.copy("app.log")
    seer.agent.look()
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"three")
    assert seer.see() == [b"two", b"three"]
    assert seer.quiet() == []
    assert (seer.lost(), seer.agent.watch.counts.copies) == (0, 1)


@pytest.mark.parametrize("include", ["app.log", "app.log*"])
@pytest.mark.parametrize("packed", [False, True])
def test_copytruncate_across_a_restart_is_drained_from_the_copy_first_then_never_again(tailing, include, packed):
    """Also when the copy is compressed already."""
    seer = tailing(include)
    put(seer, "app.log", b"one")
    seer.see()
    put(seer, "app.log", b"two")
    seer.agent.crash()
    seer.directory.copy("app.log")
    seer.directory.truncate("app.log")
    if packed:
        seer.directory.pack("app.log.1")
    put(seer, "app.log", b"three")
    seer.agent.start()
    assert seer.see(changed=False) == [b"two", b"three"]
    assert seer.restart() == []
    seer.directory.shift("app.log")
    assert seer.restart() == []
    assert seer.lost() == 0


def test_copytruncate_whose_copy_is_not_found_is_a_loss_counted_in_bytes(tailing):
    """Four of the eight bytes were read."""
    seer = tailing()
    put(seer, "app.log", b"one")
    seer.see()
    put(seer, "app.log", b"two")
    seer.agent.look()
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"three")
    assert seer.see() == [b"three"]
    counts = seer.agent.watch.counts
    assert (counts.truncated_files, counts.truncated_bytes) == (1, 4)


def test_a_copy_that_was_being_renamed_as_its_file_was_truncated_is_not_read_again(tailing):
    """What was read is known, also when the copy that holds it is found only at the next look."""
    seer = tailing("app.log*")
    put(seer, "app.log", b"one")
    seer.see()
    seer.directory.copy("app.log")
    hidden = seer.directory.path("app.log.1").rename(seer.directory.root.parent / "hidden")
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"two")
    assert seer.see() == [b"two"]
    hidden.rename(seer.directory.path("app.log.2"))
    assert seer.see() == []
    assert seer.restart() == []
    assert seer.lost() == 0


def test_a_loss_while_stopped_is_counted_in_the_bytes_that_were_seen(tailing):
    """Once, not at every restart."""
    seer = tailing()
    put(seer, "app.log", b"one")
    seer.see()
    put(seer, "app.log", b"two", b"three")
    seer.agent.look()
    seer.agent.compact()
    seer.agent.crash()
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"four")
    seer.agent.start()
    assert seer.see(changed=False) == [b"four"]
    assert seer.agent.watch.counts.vanished_bytes == len(b"two\nthree\n")
    seer.restart()
    seer.quiet()
    assert seer.lost() == 0


def test_truncated_and_regrown_past_the_old_offset_before_the_next_look(tailing):
    """Size says nothing; the bytes before the offset do."""
    seer = tailing()
    put(seer, "app.log", b"one")
    seer.see()
    seer.directory.truncate("app.log")
    put(seer, "app.log", b"two", b"three", b"four")
    assert seer.see() == [b"two", b"three", b"four"]
    assert seer.lost() == 0


def test_a_nul_hole_left_by_a_stale_writer_is_skipped(tailing):
    """A writer that does not append goes on at its old offset after the truncation."""
    seer = tailing()
    path = seer.directory.path("app.log")
    with path.open("wb", buffering=0) as writer:
        writer.write(b"one\n")
        assert seer.see() == [b"one"]
        os.truncate(path, 0)
        writer.write(b"two\n")
        assert seer.see() == [b"two"]
    assert seer.agent.watch.line_counts().hole_bytes == 4
    assert list(seer.agent.delivered.values())[-1] == [(4, b"two")]


def test_delete_and_recreate(tailing):
    """The removed file is drained through its descriptor, then forgotten."""
    seer = tailing()
    put(seer, "app.log", b"one")
    seer.see()
    put(seer, "app.log", b"two")
    seer.directory.remove("app.log")
    put(seer, "app.log", b"three")
    assert seer.see() == [b"two", b"three"]
    seer.quiet()
    assert len(list(seer.agent.watch.tails())) == 1


def test_a_symlink_retargeted(tailing):
    """The old target is read to its end, the new one from its head."""
    seer = tailing("link.log")
    link = seer.directory.path("link.log")
    (seer.directory.root / "data").mkdir()
    put(seer, "data/a", b"one")
    link.symlink_to(seer.directory.path("data/a"))
    assert seer.see() == [b"one"]
    put(seer, "data/a", b"two")
    put(seer, "data/b", b"three")
    link.with_name("new").symlink_to(seer.directory.path("data/b"))
    link.with_name("new").rename(link)
    assert seer.see() == [b"two", b"three"]


def test_a_symlink_whose_target_is_rotated_beside_it(tailing):
    """As containers' logs are: the link stays, its target is renamed and made anew."""
    seer = tailing("link.log")
    (seer.directory.root / "data").mkdir()
    put(seer, "data/0.log", b"one")
    seer.directory.path("link.log").symlink_to(seer.directory.path("data/0.log"))
    seer.see()
    put(seer, "data/0.log", b"two")
    seer.agent.crash()
    seer.directory.rename("data/0.log")
    put(seer, "data/0.log", b"three")
    seer.agent.start()
    assert seer.see(changed=False) == [b"two", b"three"]


def test_a_rotated_copy_that_matches_the_glob_is_not_read_again_nor_its_gz(tailing):
    """Renamed, copied, compressed: each line comes once."""
    seer = tailing("app.log*")
    put(seer, "app.log", b"one", b"two")
    assert seer.see() == [b"one", b"two"]
    seer.directory.copy("app.log")
    assert seer.see() == []
    seer.directory.shift("app.log")
    assert seer.see() == []
    seer.directory.pack("app.log.2")
    assert seer.see() == []
    seer.directory.rename("app.log")
    put(seer, "app.log", b"three")
    assert seer.see() == [b"three"]
    seer.directory.pack("app.log.1")
    assert seer.see() == []
    assert seer.agent.watch.counts.compressed_files == 2
    assert seer.restart() == []


def test_a_copy_that_is_being_made_is_not_read(tailing):
    """Empty, then a part, then the whole: it never was a log of its own."""
    seer = tailing("app.log*")
    put(seer, "app.log", b"one", b"two", b"three")
    seer.see()
    copy = seer.directory.path("app.log.1")
    for content in (b"", b"one\ntw", b"one\ntwo\nthree\n"):
        copy.write_bytes(content)
        assert seer.see() == []


# Lines


def test_a_partial_last_line_waits_across_a_restart_too(tailing):
    """Its first half was read before the crash, its second half after."""
    seer = tailing()
    seer.directory.write_bytes("app.log", b"one\ntw")
    assert seer.see() == [b"one"]
    assert seer.restart() == []
    seer.directory.write_bytes("app.log", b"o\n")
    assert seer.see() == [b"two"]
    assert list(seer.agent.delivered.values()) == [[(0, b"one"), (4, b"two")]]


def test_no_final_newline_at_shutdown_stays_unread_until_it_is_complete(tailing):
    """Stopping is no reason to give out half a line; rotation is, in the end."""
    seer = tailing()
    seer.directory.write_bytes("app.log", b"one\ntwo")
    assert seer.see() == [b"one"]
    assert seer.restart() == []
    assert seer.quiet() == []
    seer.directory.rename("app.log")
    assert seer.see() == []
    assert seer.quiet() == [b"two"]


def test_a_line_over_the_limit_is_cut_and_the_file_is_read_on(tailing):
    """Counted once the line is over."""
    seer = tailing(reading=Reading("sim", LineLimits(line_bytes_max=100), read_bytes_max=64))
    put(seer, "app.log", b"x" * 1000, b"next")
    assert seer.see() == [b"x" * 100, b"next"]
    assert seer.agent.watch.line_counts().cut_bytes == 900


def test_a_skipped_line_moves_the_cursor(tailing):
    """A batch without lines says where to go on."""
    seer = tailing(reading=Reading("sim", LineLimits(line_bytes_max=100, overlong="skip")))
    put(seer, "app.log", b"x" * 1000)
    assert seer.see() == []
    assert next(seer.agent.watch.tails()).cursor().offset == 1001
    assert seer.agent.watch.line_counts().skipped_bytes == 1000


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_with_a_byte_order_mark_across_a_restart(tailing, encoding):
    """The mark is at the head, the cursor is not."""
    seer = tailing()
    seer.directory.write_bytes("app.log", "\ufeffeins\nzw".encode(encoding))
    assert seer.see() == [b"eins"]
    assert seer.restart() == []
    seer.directory.write_bytes("app.log", "ölf\n".encode(encoding))
    assert seer.see() == ["zwölf".encode()]


def test_an_empty_file_has_no_lines(tailing):
    """It is known, so what comes is read."""
    seer = tailing()
    seer.directory.create("app.log")
    assert seer.see() == []
    put(seer, "app.log", b"", b"x")
    assert seer.see() == [b"", b"x"]


def test_multiline_traces_are_whole_across_a_restart_and_end_in_time(tailing):
    """The cursor stays before a trace until it is given out."""
    seer = tailing(reading=Reading("sim", multiline=Multiline("java", wait_s=1.0)))
    put(seer, "app.log", b"INFO x", b"a.b.CException: y", b"\tat a.b.C.d(C.java:1)")
    seer.agent.look()
    seer.agent.read()
    seer.agent.acknowledge()
    assert seer.agent.lines == [b"INFO x"]
    assert next(seer.agent.watch.tails()).cursor().offset == 7
    seer.agent.crash()
    seer.agent.start()
    put(seer, "app.log", b"\tat a.b.C.e(C.java:2)")
    seer.agent.look()
    seer.agent.read()
    assert seer.see(changed=False) == [b"a.b.CException: y\n\tat a.b.C.d(C.java:1)\n\tat a.b.C.e(C.java:2)"]
    assert not next(seer.agent.watch.tails()).pending


# Durability


def test_cursors_move_on_acknowledgement_in_order(tailing):
    """What was read and not acknowledged is read again, with the same ids and offsets."""
    seer = tailing(reading=Reading("sim", read_bytes_max=8))
    put(seer, "app.log", b"line 1", b"line 2", b"line 3")
    seer.agent.look()
    seer.agent.read()
    seer.agent.acknowledge(1)
    assert seer.restart() == [b"line 2", b"line 3"]
    assert list(seer.agent.delivered.values()) == [[(0, b"line 1"), (7, b"line 2"), (14, b"line 3")]]


def test_a_snapshot_taken_while_last_lines_wait_does_not_lose_them(tailing):
    """The cursors of a snapshot are those of the batches that were given out."""
    seer = tailing()
    seer.directory.write_bytes("app.log", b"one\ntwo")
    seer.see()
    seer.directory.rename("app.log")
    seer.agent.look()
    seer.agent.read()
    seer.agent.wait(2 * QUIET_S)  # "two" waits to be read
    seer.agent.compact()
    seer.agent.crash()
    seer.agent.start()
    assert seer.see(changed=False) + seer.quiet() == [b"two"]


def test_the_id_of_a_source_is_noted_before_its_first_line_is_acknowledged(tailing):
    """So that repeats after a crash have the same ids."""
    seer = tailing()
    put(seer, "app.log", b"one")
    seer.agent.look()
    seer.agent.read()
    ids = {batch.source.id for _, batch in seer.agent.pending}
    assert seer.restart() == [b"one"]
    assert set(seer.agent.delivered) == ids


def test_notes_that_the_journal_refused_are_given_again(tailing):
    """Nothing of them is lost on a full disk."""
    seer = tailing()
    watch = Watch(Reading("sim"), seer.agent.globs)
    put(seer, "app.log", b"one")
    watch.look(0.0, 0.0)
    note = watch.take_notes()
    assert watch.take_notes() is None
    watch.return_notes(note)
    assert watch.take_notes() == note
    watch.close()


# Host


def test_eacces_then_fixed_backs_off_and_never_spins():
    """A thousand looks are ten attempts; then the file is read from its head."""
    with unprivileged() as root:
        path = root / "app.log"
        path.write_bytes(b"one\n")
        path.chmod(0)
        watch = Watch(Reading("sim"), Globs([f"{root}/*.log"]))
        with as_nobody():
            for number in range(1000):
                assert watch.read(number * 0.3, 0.0) is None
            assert 5 < watch.counts.read_errors < 15
        path.chmod(0o644)
        with as_nobody():
            assert watch.read(400.0, 0.0).lines == [b"one"]
        watch.close()


def test_eio_then_fixed_backs_off_and_the_others_are_read(tailing):
    """The memory of a process cannot be read at 0: the kernel's own EIO."""
    seer = tailing("*.log")
    seer.directory.path("bad.log").symlink_to("/proc/self/mem")
    put(seer, "app.log", b"one")
    assert seer.see() == [b"one"]
    for _ in range(100):
        seer.agent.wait(1.0)
    assert 3 < seer.agent.watch.counts.read_errors < 12
    seer.directory.path("bad.log").unlink()
    put(seer, "bad.log", b"two")
    seer.agent.wait(100.0)
    assert seer.see(changed=False) == [b"two"]


@contextlib.contextmanager
def unprivileged():
    """A folder that everybody may enter."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    try:
        yield root
    finally:
        shutil.rmtree(root)


@contextlib.contextmanager
def as_nobody():
    """Let permissions matter, also to root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_directory_missing_then_created(tailing):
    """And removed and created again."""
    seer = tailing("sub/*.log")
    folder = seer.directory.root / "sub"
    for line in (b"one", b"two"):
        assert seer.see(changed=False) == []
        folder.mkdir()
        (folder / "app.log").write_bytes(line + b"\n")
        assert seer.see(changed=False) == [line]
        (folder / "app.log").unlink()
        folder.rmdir()


def test_1500_files_have_bounded_descriptors_and_a_chatty_one_cannot_starve_the_others(tmp_path):
    """Each of the 1,499 others has its turn before the chatty one has its third."""
    with simulated(tmp_path, limits=WatchLimits(quiet_s=QUIET_S, descriptors_max=64)) as agent:
        for number in range(1500):
            agent.directory.path(f"{number:04}.log").write_bytes(b"file %d\n" % number)
        agent.directory.path("0000.log").write_bytes(b"chatty line\n" * 500_000)
        before = descriptors()
        agent.look()
        assert descriptors() - before <= 64
        paths = []
        while len(set(paths)) < 1500:
            batch = agent.watch.read(agent.now, 0.0)
            paths.append(batch.source.path)
        assert paths.count(str(agent.directory.path("0000.log"))) <= 3
        assert descriptors() - before <= 64
        for number in range(0, 1500, 100):
            with agent.directory.path(f"{number:04}.log").open("ab") as file:
                file.write(b"more\n")
        agent.look()
        more = 0
        while (batch := agent.watch.read(agent.now, 0.0)) is not None:
            more += batch.lines.count(b"more")
        assert more == 15


def descriptors():
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_files_over_the_limit_wait_until_others_are_done_and_are_counted(tailing):
    """Memory is bounded whatever a glob matches; nothing is skipped for good."""
    seer = tailing(limits=WatchLimits(quiet_s=QUIET_S, forget_s=10 * QUIET_S, files_max=2))
    for name in ("a.log", "b.log", "c.log"):
        put(seer, name, name.encode())
    assert sorted(seer.see(changed=False)) == [b"a.log", b"b.log"]
    assert seer.agent.watch.counts.waiting_files == 1
    seer.directory.remove("a.log")
    for _ in range(3):  # it is gone, it is quiet, there is room
        seer.quiet()
    assert seer.agent.lines == [b"a.log", b"b.log", b"c.log"]
    assert seer.agent.watch.counts.waiting_files == 0


def test_a_clock_that_steps_back_delays_and_loses_nothing(tailing):
    """Neither the monotonic one (a suspended container) nor that of the wall."""
    seer = tailing()
    put(seer, "app.log", b"one")
    assert seer.see() == [b"one"]
    seer.agent.now -= 1_000_000
    put(seer, "app.log", b"two")
    assert seer.see() == [b"two"]
    seer.directory.rename("app.log")
    seer.directory.write_bytes("app.log.1", b"three")
    assert seer.see() == []
    seer.agent.now -= 1_000_000
    assert seer.see(changed=False) == []
    assert seer.quiet() == [b"three"]


def test_a_blocked_sink_stops_reading_and_holds_nothing(tailing):
    """Looking does not read lines; only their number of bytes is known."""
    seer = tailing()
    for number in range(100):
        put(seer, "app.log", b"line %d" % number)
        seer.agent.look()
    tail = next(seer.agent.watch.tails())
    assert (tail.position, tail.unread) == (0, seer.directory.path("app.log").stat().st_size)
    assert len(seer.see()) == 100


# Policy


def test_include_and_exclude_globs_with_two_stars(tailing):
    """Folders at any depth; an exclude pattern without a slash means names."""
    seer = tailing("**/*.log", exclude=["*debug*", "**/old/**"])
    for name in ("a.log", "x/b.log", "x/y/c.log", "x/debug.log", "old/d.log", "x/old/z/e.log", "f.txt"):
        path = seer.directory.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() + b"\n")
    assert sorted(seer.see()) == [b"a.log", b"x/b.log", b"x/y/c.log"]


def test_start_at_end_and_files_that_appear_later_are_read_from_their_head(tmp_path):
    """Over a restart too: what was not there before is later. An unfinished line is given whole."""
    with simulated(tmp_path, start="end") as agent:
        agent.directory.write_bytes("app.log", b"old\nunfin")
        agent.look()
        agent.directory.write_bytes("app.log", b"ished\n")
        agent.directory.write_bytes("web.log", b"web\n")
        agent.look()
        agent.crash()
        agent.directory.write_bytes("new.log", b"new\n")
        agent.start()
        agent.look()
        agent.read()
        agent.acknowledge()
        assert sorted(agent.lines) == [b"new", b"unfinished", b"web"]
        assert {tail.path.rpartition("/")[2]: tail.whole for tail in agent.watch.tails()} == {
            "app.log": False,
            "web.log": True,
            "new.log": True,
        }


def test_start_at_end_of_utf16_is_between_two_units(tmp_path):
    """Or all that follows would be rubbish."""
    with simulated(tmp_path, start="end") as agent:
        agent.directory.write_bytes("app.log", "\ufeffold\n".encode("utf-16-le"))
        agent.look()
        agent.directory.write_bytes("app.log", "new\n".encode("utf-16-le"))
        agent.look()
        agent.read()
        agent.acknowledge()
        assert agent.lines == [b"new"]


def test_start_at_head(tailing):
    """The default."""
    seer = tailing()
    put(seer, "app.log", b"one")
    assert seer.see() == [b"one"]


def test_ignore_older_than(tmp_path):
    """An old file is not read until it is written to; then whole, or from then on, as `start` says."""
    for start, expected in (("head", [b"old", b"young"]), ("end", [b"young"])):
        with simulated(tmp_path / start, start=start, limits=WatchLimits(ignore_older_s=3600)) as agent:
            agent.directory.write_bytes("app.log", b"old\n")
            os.utime(agent.directory.path("app.log"), (1e9 - 7200, 1e9 - 7200))
            agent.look()
            assert agent.read() == 0
            agent.directory.write_bytes("app.log", b"young\n")
            agent.look()
            agent.read()
            agent.acknowledge()
            assert agent.lines == expected


def test_the_agent_never_tails_its_own_output(tailing):
    """Nor its rotations."""
    seer = tailing("*", own=["out.jsonl"])
    for name in ("out.jsonl", "out.jsonl.1", "out-20261121.jsonl", "app.log"):
        seer.directory.path(name).write_bytes(name.encode() + b"\n")
    assert seer.see() == [b"app.log"]


def test_what_is_no_regular_file_is_left_alone(tailing):
    """A FIFO must not hold the loop; a directory has no lines."""
    seer = tailing("*.log")
    os.mkfifo(seer.directory.path("fifo.log"))
    seer.directory.path("folder.log").mkdir()
    put(seer, "app.log", b"one")
    assert seer.see() == [b"one"]


def test_a_compressed_file_is_not_tailed(tailing):
    """Whatever its name; it is counted."""
    seer = tailing("*")
    seer.directory.path("app.log").write_bytes(gzip.compress(b"one\n"))
    assert seer.see() == []
    assert seer.agent.watch.counts.compressed_files == 1


def test_the_registry_reads_what_it_wrote(tailing):
    """Cursors are small and hold no text of the log."""
    seer = tailing()
    put(seer, "app.log", b"secret")
    seer.see()
    data = seer.agent.watch.registry().encode()
    assert b"secret" not in data
    cursor = next(seer.agent.watch.tails()).cursor()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(cursor), type=type(cursor)) == cursor
    assert len(msgspec.msgpack.encode(cursor)) < 300
