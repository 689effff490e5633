from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from foretail import config
from foretail.errors import ConfigError
from foretail_trainer import demo, tables
from foretail_trainer.companion import Companion, Load, configuration
from foretail_trainer.tally import Arrival, Incident, tally
from foretail_trainer.workload import Fault, Plan, Workload
from foretail_trainer.writer import RotatingLog

pytestmark = pytest.mark.trainer

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bundle"


def test_the_agent_of_the_demo_observes_nothing_and_holds_nothing_back(tmp_path: Path):
    """Its configuration is one that `foretail run` takes, even in a folder with an odd name."""
    folder = tmp_path / 'odd "name" ü'
    parsed = config.parse(configuration(folder, folder / "a.log", folder / "b", "/tmp/s").encode(), "agent.toml")
    assert parsed.agent.observe_h == 0
    assert parsed.stream[0].include == (str(folder.resolve() / "a.log"),)
    assert parsed.stream[0].start == "head"
    assert parsed.incidents.cap_per_hour > 10_000


def test_an_agent_that_cannot_start_says_why(tmp_path: Path):
    """Its own sentence, and no process is left."""
    with pytest.raises(ConfigError, match=r"did not start: .*bundle"):
        Companion(tmp_path, tmp_path / "a.log", tmp_path / "no-bundle", lambda _: None)


@pytest.mark.slow
def test_the_agent_reads_a_rotating_log_and_ends(tmp_path: Path):
    """Every line of every rotation arrives, its figures are those of a small process, and none is left."""
    service = Workload(3, time.time() - 60, 20, plan=[Plan(20.0, "never seen", "", "split.brain")])
    live = tmp_path / "storage.log"
    with Companion(tmp_path, live, GOLDEN, lambda _: None) as agent, RotatingLog(live, 40_000, keep=3) as log:
        for event in service.events(40):
            log.write([event.text])
            if log.lines == 1:  # a file that is made and rotated between two looks is seen by nobody
                agent.await_lines(1, 20)
            if event.fault is not None:  # the agent catches up here, so that no rotation outruns it
                agent.await_lines(log.lines, 20)
        load = agent.await_lines(log.lines, 20)
    assert load.lines == log.lines
    assert load.resident_mb < 200
    assert log.rotations >= 1
    assert agent.stop() == 0


def test_a_folder_of_somebody_else_is_not_emptied(tmp_path: Path):
    """Only what a demo made is removed."""
    (tmp_path / "thesis.txt").write_text("years")
    assert demo.command(["--out", str(tmp_path)]) == 2
    assert (tmp_path / "thesis.txt").exists()


@pytest.mark.parametrize("log", ["absent.log", ".", "empty.log", "-"])
def test_a_bad_log_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], log: str):
    """Absent, a folder, empty, standard input: exit 2 before anything is emptied."""
    (tmp_path / "empty.log").touch()
    name = log if log == "-" else str(tmp_path / log)
    assert demo.command(["--out", str(tmp_path / "out"), "--log", name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_log_in_the_demo_folder_is_refused(tmp_path: Path):
    """It would be gone before it is read."""
    (tmp_path / ".foretail-demo").touch()
    (tmp_path / "history.log").write_text("line\n")
    assert demo.command(["--out", str(tmp_path), "--log", str(tmp_path / "history.log")]) == 2
    assert (tmp_path / "history.log").exists()


def test_the_first_seventy_percent_train(tmp_path: Path):
    """No line is lost, and the last one is whole."""
    (tmp_path / "a.log").write_bytes(b"".join(b"%d\n" % number for number in range(9)) + b"9")
    counts = demo._split(tmp_path / "a.log", tmp_path / "train", tmp_path / "rest")
    assert counts == (7, 3)
    assert (tmp_path / "train").read_bytes() == b"0\n1\n2\n3\n4\n5\n6\n"
    assert (tmp_path / "rest").read_bytes() == b"7\n8\n9\n"


def test_the_table_shows_hostile_lines_as_text():
    """Neither rich markup nor escape sequences of a log line take effect."""
    fault = Fault(1, "cut short", "upload", "req-00112233aabb", 1.0, 1, "t", "detail")
    incident = Incident("1", "[red]boo[/] \x1b[31m", key=fault.session)
    result = tally([fault], {1: 1.0}, [Arrival(2.0, incident), Arrival(3.0, Incident("2", "[bold]false[/]"))], 10)
    out = io.StringIO()
    console = Console(file=out, width=160, force_terminal=True, color_system=None)
    console.print(tables.faults(result))
    console.print(tables.figures(result, Load(1.0, 70.0, 10), 2.0, 9.0, Path("/x/bundle"), 3.0))
    console.print(tables.incidents([Arrival(2.0, incident)]))
    text = out.getvalue()
    assert r"[red]boo[/] \x1b[31m" in text
    assert "[bold]false[/]" in text
    assert "1 of 1" in text
    assert "/x/bundle-report/report.html" in text
    assert "\x1b[31m" not in text
