"""What an operator sees: every figure is set by the running agent, and each trouble is one clear line and a metric."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import urllib.request
from pathlib import Path

import disks
import pytest
from running import BUNDLE, LINES, PATIENCE_S, Agent, rows, until

from foretail import forward
from foretail.status import ask

AS_OTHERS = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Root whom permissions bind."""
SAMPLE = re.compile(r"foretail_(\w+)(?:\{(.*)\})? (\S+)")


@pytest.fixture
def run(tmp_path):
    """Makes an agent; whatever still runs in the end is killed."""
    made: list[Agent] = []

    def make(**options) -> Agent:
        made.append(Agent(tmp_path, **options))
        return made[-1]

    yield make
    for agent in made:
        if agent.process and agent.process.poll() is None:
            agent.process.kill()
            agent.process.wait()


def said(agent: Agent, event: str) -> list[dict]:
    """The diagnostics of this name; all of them are JSON."""
    return [row for row in map(json.loads, agent.errors().splitlines()) if row["event"] == event]


def figure(agent: Agent, name: str, **labels: str) -> float:
    """A metric as `status` tells it, summed over the series that have these labels; 0 if there is none."""
    told = ask(agent.socket)["metrics"].get(name, [])
    return sum(each["value"] for each in told if labels.items() <= each["labels"].items())


def lines_delivered(agent: Agent) -> int:
    return sum(row["kind"] == "line" for row in rows(agent.out))


def test_the_endpoint_and_status_give_the_same_figures_and_all_that_were_promised(run):
    """Lines, bytes, untyped, verdicts by detector, memos, lag, queue, journal, losses, bundle, of the agent at work."""
    pytest.importorskip("prometheus_client")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    agent = run(extra=f'metrics = "127.0.0.1:{port}"\n')
    config = agent.config.read_text().replace("[[sink]]", '[[sink]]\nfsync = "never"')
    agent.config.write_text(config.replace('start = "head"', 'start = "head"\nline_bytes_max = 256'))
    agent.log.write_bytes(b"".join(LINES) + b"x" * 1000 + b"\nhalf a line")
    agent.start()
    until(lambda: lines_delivered(agent) == len(LINES) + 1)
    until(lambda: figure(agent, "lines_total") == len(LINES) + 1 and figure(agent, "unacknowledged_batches") == 0)

    def scraped() -> dict[tuple[str, str], float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            found = map(SAMPLE.fullmatch, answer.read().decode().splitlines())
            return {(m[1], ",".join(sorted((m[2] or "").split(",")))): float(m[3]) for m in found if m}

    def told() -> dict[tuple[str, str], float]:
        return {
            (name, ",".join(sorted(f'{label}="{value}"' for label, value in each["labels"].items()))): each["value"]
            for name, series in ask(agent.socket)["metrics"].items()
            for each in series
        }

    until(lambda: scraped() == told())  # both are as of the last second
    here, stream = told(), 'stream="storage"'
    assert here["lines_total", stream] == len(LINES) + 1
    assert here["bytes_total", stream] > 100_000
    assert here["lines_untyped_total", stream] >= 1
    assert here["losses_total", f'cause="long_line",{stream},unit="bytes"'] == 1000 - 256
    (line,) = said(agent, "loss.counted")
    assert (line["level"], line["cause"], line["amount"]) == ("warning", "long_line", 1000 - 256)
    assert here["file_lag_bytes", f'path="{agent.log}",{stream}'] == 0
    assert here["files_open", stream] == 1
    assert here["unreadable_files", stream] == here["file_errors_total", stream] == 0
    assert sum(value for (name, _), value in here.items() if name == "verdicts_total") > 0
    assert here["memo_hits_total", f'memo="type",{stream}'] > 0 < here["memo_hits_total", f'memo="window",{stream}']
    assert here["memo_misses_total", f'memo="type",{stream}'] > 0 < here["memo_misses_total", f'memo="window",{stream}']
    assert here["sessions_open", stream] >= 0  # a silent stream ages
    assert here["queue_bytes", 'sink="file"'] == here["queue_batches", 'sink="file"'] == 0
    assert here["sink_records_total", 'sink="file"'] == len(rows(agent.out))
    assert here["journal_bytes", ""] > 10_000
    assert 0 <= here["journal_age_seconds", ""] < PATIENCE_S
    assert here["bundle_version", stream] == json.loads((BUNDLE / "manifest.json").read_text())["version"]
    assert here["bundle_age_seconds", stream] > 0
    assert here["model_slow", stream] in (0, 1)
    assert agent.signal(signal.SIGTERM) == 0


def test_a_refused_configuration_is_one_line_and_a_metric(run):
    """At start: one sentence and exit code 2. At a reload: one ERROR line; the old one is kept."""
    agent = run()
    good = agent.config.read_text()
    agent.config.write_text(good.replace("[[sink]]", "[[sinc]]"))
    agent.start()
    assert agent.process.wait(PATIENCE_S) == 2
    assert len(agent.errors().splitlines()) == 1
    assert "sinc" in agent.errors()
    (agent.folder / "err.log").unlink()
    agent.config.write_text(good)
    agent.start()
    until(lambda: Path(agent.socket).exists())
    agent.config.write_text(good.replace("[[sink]]", "[[sinc]]"))
    agent.process.send_signal(signal.SIGHUP)
    until(lambda: figure(agent, "reloads_total", result="refused") == 1)
    (line,) = said(agent, "config.refused")
    assert line["level"] == "error"
    assert "sinc" in line["error"]


def test_a_dead_sink_is_one_line_and_a_metric_and_nothing_is_lost(run):
    """Nobody listens: one WARNING however often it is tried; what waits is delivered when somebody does."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    sink = f'[[sink]]\ntype = "tcp"\naddress = "127.0.0.1:{port}"\nretry_first_s = 0.01\nretry_max_s = 0.05\n'
    agent = run(sink=sink)
    agent.log.write_bytes(b"".join(LINES[:100]))
    agent.start()
    until(lambda: Path(agent.socket).exists() and figure(agent, "sink_failures_total", sink="tcp") > 5)
    (line,) = said(agent, "sink.failed")
    assert line["level"] == "warning"
    assert "refused" in line["error"].lower()
    until(lambda: ask(agent.socket)["sinks"][0]["error"] == line["error"])
    with socket.create_server(("127.0.0.1", port)) as server:
        plug, _ = server.accept()
        with plug, plug.makefile("rb") as stream:
            got = [json.loads(stream.readline()) for _ in range(100)]
    assert {row["kind"] for row in got} <= {"line", "session"}
    until(lambda: said(agent, "sink.recovered"))


def test_an_unreadable_file_is_one_line_and_a_metric_and_is_read_when_it_can_be(run):
    """A log of another user: one WARNING, a gauge; read from its head after chmod."""
    agent = run()
    text = agent.config.read_text().replace("storage.log", "*.log")
    agent.config.write_text(text.replace("[agent]\n", "[agent]\npoll_s = 0.05\n"))
    closed = agent.folder / "closed.log"
    closed.write_bytes(b"".join(LINES[:50]))
    closed.chmod(0)
    agent.log.write_bytes(b"".join(LINES[50:100]))
    agent.start(*(AS_OTHERS if os.geteuid() == 0 else ()))
    until(lambda: lines_delivered(agent) == 50)
    until(lambda: figure(agent, "file_errors_total") > 1)
    assert figure(agent, "unreadable_files") == 1
    (line,) = said(agent, "file.unreadable")
    assert line["level"] == "warning"
    assert line["path"] == str(closed)
    closed.chmod(0o644)
    until(lambda: lines_delivered(agent) == 100)
    until(lambda: figure(agent, "unreadable_files") == 0)
    assert len(said(agent, "file.readable")) == 1


def test_a_full_disk_is_one_line_and_a_metric_and_nothing_is_lost(run, tmp_path):
    """The journal cannot be written: reading stops, the old state stays whole, and all goes on when there is room."""
    try:
        with disks.small(tmp_path / "state", 2 << 20) as disk:
            agent = run()
            agent.log.write_bytes(b"".join(LINES[:100]))
            agent.start()
            until(lambda: lines_delivered(agent) == 100)
            until(lambda: figure(agent, "unacknowledged_batches") == 0)
            disks.fill(disk)
            with agent.log.open("ab") as file:
                file.writelines(LINES[100:])
            until(lambda: figure(agent, "journal_failures_total") > 1)
            (line,) = said(agent, "journal.failed")
            assert line["level"] == "error"
            assert "No space left" in line["error"]
            assert lines_delivered(agent) < len(LINES)
            disks.free(disk)
            until(lambda: lines_delivered(agent) == len(LINES))
            assert len(said(agent, "journal.recovered")) == 1
            assert agent.signal(signal.SIGTERM) == 0
    except disks.NoDisk as why:
        pytest.skip(str(why))
    assert len({row["id"] for row in rows(agent.out) if row["kind"] == "line"}) == len(LINES)


def chunk(name: str, lines: list[bytes]) -> bytes:
    """A forward message of lines."""
    return forward.encode("app", [json.dumps({"log": line.decode().rstrip("\n")}).encode() for line in lines], name, 0)


def answered(plug: socket.socket) -> str:
    """The id of the chunk that is acknowledged next."""
    framer = forward.Framer()
    while not (frames := framer.feed(plug.recv(4096))):
        pass
    return forward.acknowledged(frames[0])


def test_a_forward_chunk_that_comes_again_after_a_kill_is_acknowledged_and_not_scored_twice(run, tmp_path):
    """Acknowledged before the kill: answered at once. Not yet: scored once, with the ids of its first time."""
    path = tmp_path / "in.sock"
    agent = run()
    source = f'[[source]]\ntype = "forward"\naddress = "unix:{path}"\nstream = "storage"\n'
    whole = agent.config.read_text() + source
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes the connection and never answers
        second = f'[[sink]]\ntype = "http"\nurl = "http://127.0.0.1:{deaf.getsockname()[1]}/"\ntimeout_s = 60\n'
        for config, name, lines, waits in (
            (whole, "done", LINES[:100], True),
            (whole + second, "open", LINES[100:200], False),
        ):
            agent.config.write_text(config)
            agent.start()
            until(path.exists)
            with socket.socket(socket.AF_UNIX) as plug:
                until(lambda plug=plug: plug.connect_ex(str(path)) == 0)
                plug.sendall(chunk(name, lines))
                if waits:
                    assert answered(plug) == name
                until(lambda done=waits: lines_delivered(agent) >= (100 if done else 200))
            agent.signal(signal.SIGKILL)
    agent.config.write_text(whole)
    agent.start()
    with socket.socket(socket.AF_UNIX) as plug:
        until(lambda: plug.connect_ex(str(path)) == 0)
        for name, lines in (("done", LINES[:100]), ("open", LINES[100:200]), ("new", LINES[200:300])):
            plug.sendall(chunk(name, lines))
            assert answered(plug) == name
    assert figure(agent, "source_repeats_total") <= 1
    assert agent.signal(signal.SIGTERM) == 0
    told = [{**row, "source": ""} for row in rows(agent.out) if row["kind"] == "line"]
    assert len(told) == 100 + 2 * 100 + 100
    assert len({row["id"] for row in told}) == 300
    assert len({json.dumps(row) for row in told}) == 300
