"""The agent as a process: started, killed, stopped and asked, on real files and sockets."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import BUNDLE, GOLDEN, LINES, PATIENCE_S, Agent, rows, stream, until

from foretail.status import ask


@pytest.fixture
def agent(tmp_path):
    made = Agent(tmp_path)
    yield made
    if made.process and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_killed_again_and_again_every_line_has_its_verdict_and_repeats_are_equal(agent):
    """SIGKILL at any instant, with rotation: at least once, the same record each time, as in an undisturbed run."""
    step = len(LINES) // 4
    for part in range(4):
        with agent.log.open("ab") as file:
            file.writelines(LINES[part * step : (part + 1) * step if part < 3 else None])
        before = len(rows(agent.out))
        agent.start()
        until(lambda seen=before: len(rows(agent.out)) > seen)
        agent.signal(signal.SIGKILL)
        if part == 1:
            agent.log.rename(agent.folder / "storage.log.1")
    agent.start()
    until(lambda: agent.errors().count("agent.started") == 5)
    until(lambda: len({row["id"] for row in rows(agent.out) if row["kind"] == "line"}) >= len(LINES))
    assert agent.signal(signal.SIGTERM) == 0
    found: dict[str, dict] = {}
    for row in rows(agent.out):
        row.pop("source")  # a rotated file goes by its new name
        assert found.setdefault(row["id"], row) == row
    lines = [row for row in found.values() if row["kind"] == "line"]
    assert len(lines) == len(LINES)
    expected = [json.loads(line) for line in (GOLDEN / "lines.jsonl").read_text().splitlines()]
    truth = [(row["key"], row["type"]) for row in expected if row["kind"] == "line"]
    assert sorted(((r.get("key"), r["type"]) for r in lines), key=str) == sorted(truth, key=str)
    assert "Traceback" not in agent.errors()


def test_a_restart_reads_on_without_repeating(agent):
    """After a clean stop nothing is sent twice, and sessions go on."""
    agent.log.write_bytes(b"".join(LINES[:500]))
    agent.start()
    until(lambda: sum(row["kind"] == "line" for row in rows(agent.out)) == 500)
    assert agent.signal(signal.SIGTERM) == 0
    with agent.log.open("ab") as file:
        file.writelines(LINES[500:])
    agent.start()
    until(lambda: sum(row["kind"] == "line" for row in rows(agent.out)) == len(LINES))
    assert agent.signal(signal.SIGTERM) == 0
    lines = [row for row in rows(agent.out) if row["kind"] == "line"]
    whole = [json.loads(line) for line in (GOLDEN / "lines.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in lines}) == len(LINES)
    assert [row["anomalous"] for row in lines] == [row["anomalous"] for row in whole if row["kind"] == "line"]


def test_two_streams_with_bundles_of_their_own_share_one_journal(tmp_path):
    """Each verdict names its stream; both go on after a kill."""
    two = Agent(tmp_path)
    text = two.config.read_text()
    second = stream("second", tmp_path / "b.log", "lines")
    two.config.write_text(text.replace("[[sink]]", second + "[[sink]]"))
    two.log.write_bytes(b"".join(LINES[:300]))
    (tmp_path / "b.log").write_bytes(b"".join(LINES[300:500]))
    two.start()
    until(lambda: len(rows(two.out)) >= 500)
    two.signal(signal.SIGKILL)
    with two.log.open("ab") as file:
        file.writelines(LINES[500:600])
    two.start()
    until(lambda: len({row["id"] for row in rows(two.out) if row["kind"] == "line"}) >= 600)
    assert two.signal(signal.SIGTERM) == 0
    streams = {row["id"]: row["stream"] for row in rows(two.out) if row["kind"] == "line"}
    assert sorted(streams.values()) == ["second"] * 200 + ["storage"] * 400
    assert len(list((tmp_path / "state" / "journal").glob("journal-*"))) <= 2


def test_status_pause_and_resume_over_the_socket(tmp_path):
    """`status` tells what it does; paused, incidents are kept back and shown there."""
    quiet = Agent(tmp_path, emit="incidents")
    quiet.log.touch()
    quiet.start()
    until(lambda: Path(quiet.socket).exists())
    assert ask(quiet.socket, "pause") == {"state": "paused"}
    quiet.log.write_bytes(b"".join(LINES))
    until(lambda: ask(quiet.socket)["streams"]["storage"]["lines_total"] == len(LINES))
    until(lambda: ask(quiet.socket)["streams"]["storage"]["incidents_observed_total"] > 0)
    told = ask(quiet.socket)
    assert "paused" in told["observing"]
    assert told["streams"]["storage"]["observed"][0]["kind"] == "incident"
    assert rows(quiet.out) == []
    assert ask(quiet.socket, "resume") == {"state": "resumed"}
    assert quiet.signal(signal.SIGTERM) == 0


def test_sigterm_ends_in_time_with_a_dead_sink_and_nothing_is_lost(tmp_path):
    """A peer that takes connections and never reads: exit 0 within 5 s; the lines are delivered after a restart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        sink = f'[[sink]]\ntype = "http"\nurl = "http://127.0.0.1:{port}/"\n'
        stuck = Agent(tmp_path, sink=sink)
        stuck.log.write_bytes(b"".join(LINES))
        stuck.start()
        until(lambda: Path(stuck.socket).exists() and ask(stuck.socket).get("unacknowledged_batches", 0) > 0)
        began = time.monotonic()
        assert stuck.signal(signal.SIGTERM) == 0
        assert time.monotonic() - began < 5 + 5  # five are promised; a loaded machine gets as much again
    alive = Agent(tmp_path)
    alive.start()
    until(lambda: sum(row["kind"] == "line" for row in rows(alive.out)) == len(LINES))
    assert alive.signal(signal.SIGTERM) == 0


def test_sighup_takes_a_new_configuration_and_refuses_a_broken_one(agent):
    """The broken one is said and the running one goes on; the new one applies without losing a line."""
    agent.log.write_bytes(b"".join(LINES[:100]))
    agent.start()
    until(lambda: len(rows(agent.out)) >= 100)
    good = agent.config.read_text()
    agent.config.write_text(good + "\n[nonsense]\n")
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: "config.refused" in agent.errors())
    second = agent.folder / "second.jsonl"
    agent.config.write_text(good.replace(str(agent.out), str(second)))
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: agent.errors().count("agent.started") == 2)
    with agent.log.open("ab") as file:
        file.writelines(LINES[100:200])
    until(lambda: sum(row["kind"] == "line" for row in rows(second)) == 100)
    assert agent.signal(signal.SIGTERM) == 0
    assert sum(row["kind"] == "line" for row in rows(agent.out)) == 100


def test_two_agents_never_share_a_state_directory(agent):
    """The second one is refused with one sentence."""
    agent.log.touch()
    agent.start()
    until(lambda: Path(agent.socket).exists())
    command = [sys.executable, "-m", "foretail", "run", "-c", str(agent.config)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert second.returncode == 2
    assert "Traceback" not in second.stderr
    assert second.stderr.splitlines()[-1].startswith("foretail: ")
    assert agent.signal(signal.SIGTERM) == 0


def test_pipe_scores_standard_input_and_ends_with_it():
    """A verdict for every line; diagnostics on stderr alone."""
    command = [sys.executable, "-m", "foretail", "pipe", "--bundle", str(BUNDLE), "--emit", "lines"]
    done = subprocess.run(command, input=b"".join(LINES), capture_output=True, check=True)
    out = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(row["kind"] == "line" for row in out) == len(LINES)
    assert all(json.loads(line)["event"] for line in done.stderr.splitlines())


def test_exec_prints_json_lines_and_ends_when_its_reader_does(tmp_path):
    """The contract of a shipper's exec plugin: it closes our stdout, we end."""
    log = tmp_path / "storage.log"
    log.write_bytes(b"".join(LINES[:200]))
    command = [sys.executable, "-m", "foretail", "exec", "--bundle", str(BUNDLE), "--emit", "lines", "--start", "head"]
    environment = {**os.environ, "STATE_DIRECTORY": str(tmp_path)}
    process = subprocess.Popen([*command, str(log)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    first = [json.loads(process.stdout.readline()) for _ in range(100)]
    assert {row["kind"] for row in first} <= {"line", "session"}
    process.stdout.close()
    with log.open("ab") as file:
        file.writelines(LINES[200:])
    assert process.wait(PATIENCE_S) == 0
