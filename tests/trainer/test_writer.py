from __future__ import annotations

from pathlib import Path

import pytest

from foretail_trainer.workload import Event, Plan, Workload
from foretail_trainer.writer import RotatingLog, write_history, write_live

pytestmark = pytest.mark.trainer


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.slept = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1


def test_a_full_log_is_renamed_and_the_oldest_goes(tmp_path: Path):
    """Each file holds whole lines, in order, and no more than `bytes_max`."""
    with RotatingLog(tmp_path / "a.log", 30, keep=2) as log:
        for number in range(10):
            log.write([f"line number {number}"])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.log", "a.log.1", "a.log.2"]
    assert [(tmp_path / name).read_text() for name in reversed(names)] == [
        "line number 4\nline number 5\n",
        "line number 6\nline number 7\n",
        "line number 8\nline number 9\n",
    ]
    assert (log.rotations, log.lines) == (4, 10)


def test_an_existing_log_is_continued(tmp_path: Path):
    """Its size counts towards rotation."""
    (tmp_path / "a.log").write_text("x" * 25 + "\n")
    with RotatingLog(tmp_path / "a.log", 30, keep=1) as log:
        log.write(["new line"])
    assert (tmp_path / "a.log.1").read_text() == "x" * 25 + "\n"


def test_a_line_larger_than_the_limit_is_written_whole(tmp_path: Path):
    """Rotation never loses or splits a line."""
    with RotatingLog(tmp_path / "a.log", 5, keep=1) as log:
        log.write(["longer than five"])
        log.write(["next"])
    assert (tmp_path / "a.log.1").read_text() == "longer than five\n"


def test_history_takes_no_time(tmp_path: Path):
    """Events go into the file as they come, one line each."""
    lines = write_history(tmp_path / "h.log", Workload(1, 1e9, 50).events(20))
    assert lines == len((tmp_path / "h.log").read_text().splitlines()) > 500


def test_live_lines_wait_for_their_time(tmp_path: Path):
    """No line is written before its stamp, nor much after it, and all are written."""
    clock, late = Clock(1e9), []
    service = Workload(1, 1e9, 100, plan=[Plan(1.0, "never seen", "", "split.brain")])
    events = list(service.events(5))

    def written(event: Event, at: float) -> None:
        late.append(at - event.time)

    with RotatingLog(tmp_path / "live.log", 1 << 20, keep=1) as log:
        write_live(log, iter(events), clock, clock.sleep, written)
    assert (tmp_path / "live.log").read_text() == "".join(f"{event.text}\n" for event in events)
    assert len(late) == 1
    assert 0 <= late[0] <= 0.05
    assert clock.now >= events[-1].time
