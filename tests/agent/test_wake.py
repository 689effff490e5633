"""File events are a hint: they come soon, and nothing is lost where they do not come."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading

import pytest
from structlog.testing import capture_logs

from foretail.globs import Globs
from foretail.tail import Reading
from foretail.wake import FLOW_BATCHES, FOLDERS_MAX, SETTLE_S, Flow, Waker
from foretail.watch import Watch


@pytest.fixture
def waker():
    waker = Waker(threading.Event())
    yield waker
    waker.disarm()


def test_a_write_wakes(tmp_path, waker):
    """As do a new file, a rename and a removal."""
    waker.arm([str(tmp_path)], 0.0)
    path = tmp_path / "app.log"
    for action in (
        path.touch,
        lambda: path.write_text("x"),
        lambda: path.rename(tmp_path / "b"),
        (tmp_path / "b").unlink,
    ):
        action()
        assert waker.event.wait(10)
        waker.event.clear()


def test_reading_does_not_wake(tmp_path, waker):
    """Or the tailer would wake itself for ever."""
    path = tmp_path / "app.log"
    path.write_text("x")
    waker.arm([str(tmp_path)], 0.0)
    path.read_text()
    assert not waker.event.wait(0.2)


def test_missing_folders_are_left_to_the_timer_until_they_exist(tmp_path, waker):
    """Arming again finds them."""
    folder = tmp_path / "later"
    waker.arm([str(folder)], 0.0)
    assert not waker.armed
    folder.mkdir()
    waker.arm([str(folder)], 1.0)
    assert waker.armed


def test_a_removed_folder_does_no_harm(tmp_path, waker):
    """It wakes, and is watched again when it is back."""
    folder = tmp_path / "folder"
    folder.mkdir()
    waker.arm([str(folder), str(tmp_path)], 0.0)
    folder.rmdir()
    assert waker.event.wait(10)
    waker.arm([str(folder), str(tmp_path)], 1.0)
    assert waker.armed


def test_a_folder_that_was_removed_is_watched_anew_when_it_is_back(tmp_path, waker):
    """The kernel's watch went with the old one, whatever the name."""
    folder = tmp_path / "folder"
    folder.mkdir()
    waker.arm([str(folder)], 0.0)
    folder.rmdir()
    assert waker.event.wait(10)
    waker.event.clear()
    folder.mkdir()
    assert not waker.armed
    waker.arm([str(folder)], 1.0)
    (folder / "app.log").touch()
    assert waker.event.wait(10)
    assert waker.armed
    assert waker.noticed


def test_sixteen_batches_in_a_second_are_a_flow_until_none_came_for_two():
    """Then the files are looked at often and nobody is woken; a clock that steps back ends it."""
    flow = Flow()
    for number in range(FLOW_BATCHES):
        assert not flow.flows(number / 20)
        flow.batch(number / 20)
    assert flow.flows(1.0)
    assert flow.flows(15 / 20 + 1.9)
    assert not flow.flows(15 / 20 + 2.0)
    assert not flow.flows(1.0)
    slow = Flow()
    for second in range(100):
        slow.batch(float(second))
    assert not slow.flows(99.0)
    for number in range(FLOW_BATCHES):
        slow.batch(100 + number / 100)
    assert slow.flows(100.2)
    assert not slow.flows(50.0)


def test_looks_that_take_long_are_rare():
    """A tenth of the time at most; one that a stopped host made long counts little."""
    flow = Flow()
    assert flow.settle_s == SETTLE_S
    for _ in range(10):
        flow.looked(0.03)
    assert flow.settle_s == pytest.approx(0.3)
    flow.looked(0.0)
    flow.looked(5.0)
    assert flow.settle_s < 0.03


def test_what_watchdog_says_is_a_line_of_our_diagnostics(tmp_path, waker, capsys):
    """Its library logs through the standard one, which would write bare text to stderr."""
    waker.arm([str(tmp_path)], 0.0)
    with capture_logs() as said:
        logging.getLogger("watchdog.observers.inotify").error("InotifyEmitter.queue_events() called when inactive")
    assert [row["event"] for row in said] == ["watchdog.said"]
    assert capsys.readouterr().err == ""


def test_the_number_of_watched_folders_is_bounded(tmp_path, waker):
    """Each costs an inotify instance and two threads."""
    folders = [tmp_path / str(number) for number in range(3 * FOLDERS_MAX)]
    for folder in folders:
        folder.mkdir()
    before = threading.active_count()
    waker.arm(map(str, folders), 0.0)
    assert threading.active_count() - before <= 2 * FOLDERS_MAX + 1


def test_disarming_ends_all_threads(tmp_path, waker):
    """Lines flow with no event a write."""
    before = threading.active_count()
    for number in range(3):
        waker.arm([str(tmp_path)], float(number))
        waker.disarm()
    assert (waker.armed, threading.active_count()) == (False, before)


def test_switched_off_it_stays_off(tmp_path):
    """`watchdog = false`."""
    waker = Waker(threading.Event(), enabled=False)
    waker.arm([str(tmp_path)], 0.0)
    assert not waker.armed


def test_inotify_absent_is_counted_and_files_are_found_by_the_timer(tmp_path, monkeypatch):
    """Without the package the agent tails all the same; it is tried again after a minute."""
    monkeypatch.setitem(sys.modules, "watchdog", None)
    waker = Waker(threading.Event())
    for now in (0.0, 1.0, 59.0, 60.0):
        waker.arm([str(tmp_path)], now)
    assert (waker.armed, waker.failures) == (False, 2)
    (tmp_path / "app.log").write_bytes(b"one\n")
    watch = Watch(Reading("test"), Globs([f"{tmp_path}/*.log"]))
    assert watch.read(0.0, 0.0).lines == [b"one"]
    watch.close()


def test_the_inotify_limit_reached_is_counted_and_leaves_nothing_open(tmp_path):
    """No descriptor is left for inotify: the kernel's own error, in a process of its own."""
    program = """
import os, resource, sys, threading
from foretail.wake import Waker
import watchdog.observers
waker = Waker(threading.Event())
used = len(os.listdir("/proc/self/fd")) - 1
resource.setrlimit(resource.RLIMIT_NOFILE, (used, used))
waker.arm([sys.argv[1]], 0.0)
print(waker.armed, waker.failures, threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False 1 1"
    assert "watchdog.failed" in done.stdout


def test_a_lost_event_as_after_a_queue_overflow_costs_only_time(tmp_path, waker):
    """The next look by the timer finds what no event told."""
    watch = Watch(Reading("test"), Globs([f"{tmp_path}/*.log"]))
    assert watch.read(0.0, 0.0) is None
    waker.arm(watch.folders(), 0.0)
    (tmp_path / "app.log").write_bytes(b"one\n")
    waker.disarm()
    waker.event.clear()
    assert watch.read(watch.limits.look_s, 0.0).lines == [b"one"]
    watch.close()
