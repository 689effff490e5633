"""Bundles that change under a running agent: under load, under SIGKILL, under sinks that do not answer."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading

import pytest
from swapping import GOLDEN, LINES, PATIENCE_S, Swapping

from foretail import bundle as bundles
from foretail.status import ask

STEPS = ("prepared", "copied", "turned", "kept", "settled")
KILLED_AT = """
import os, sys
from foretail import service
from foretail.config import load
stop = lambda step: step == sys.argv[2] and os.kill(os.getpid(), 9)
sys.exit(service.serve(load(sys.argv[1]), reload=lambda: load(sys.argv[1]), step=stop))
"""


@pytest.fixture
def agent(tmp_path):
    """Two bundles with other numbers and the same verdicts, and an agent that is started by the test."""
    made = Swapping(tmp_path)
    yield made
    made.__exit__()


def records(agent: Swapping) -> dict[str, dict]:
    """Verdicts by id, without what names the bundle; two of one id are alike."""
    found: dict[str, dict] = {}
    for line in agent.out.read_bytes().split(b"\n")[:-1]:
        row = json.loads(line)
        row.pop("bundle")
        assert found.setdefault(row["id"], row) == row
    return found


def undisturbed() -> list[tuple]:
    """What the lines give without any swap."""
    rows = map(json.loads, (GOLDEN.parent / "lines.jsonl").read_bytes().splitlines())
    return [(row["offset"], row["score"], row["anomalous"], row["type"]) for row in rows if row["kind"] == "line"]


def told(agent: Swapping) -> list[tuple]:
    rows = [row for row in records(agent).values() if row["kind"] == "line"]
    return sorted((row["offset"], row["score"], row["anomalous"], row["type"]) for row in rows)


def test_under_load_no_line_is_lost_or_scored_twice_and_the_loop_hardly_stops(agent):
    """Six bundles in turn, with other type numbers each time; the regular end leaves nothing."""
    stop = threading.Event()
    with agent:
        pouring = threading.Thread(target=agent.pour, args=(3000, stop))
        pouring.start()
        for number in range(6):
            agent.swap()
            agent.wait(lambda number=number: len(agent.taken()) > number)
        stop.set()
        pouring.join()
        agent.wait(lambda: ask(str(agent.socket))["streams"]["storage"]["lines_total"] == agent.written)
        agent.end()
    ids = agent.ids()
    assert len(ids) == len(set(ids)) == agent.written
    pauses = sorted(event["pause_ms"] for event in agent.taken())
    assert pauses[2] <= 50.0  # the machine may be busy; tests/bench/bench_updates.py looks at the 99th percentile
    assert {event["event"] for event in agent.events() if event["level"] != "info"} == set()


def test_sessions_that_span_swaps_keep_their_context(agent):
    """Every line scores as in a run without any."""
    with agent:
        for number, first in enumerate(range(0, len(LINES), 200), 1):
            agent.feed(LINES[first : first + 200])
            agent.wait(lambda: ask(str(agent.socket))["streams"]["storage"]["lines_total"] == agent.written)
            agent.swap()
            agent.wait(lambda number=number: len(agent.taken()) == number)
        agent.end()
    assert told(agent) == undisturbed()


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_a_swap_the_next_start_goes_on_whole(agent, step):
    """SIGKILL in the running agent: the bundle that is current, every line judged, each verdict as without the kill."""
    agent.feed(LINES[:400])
    agent.start(KILLED_AT, str(agent.config), step)
    agent.wait(lambda: agent.out.exists() and len(agent.ids()) >= 400)
    agent.swap()
    assert agent.process.wait(PATIENCE_S) == -signal.SIGKILL
    agent.socket.unlink()
    agent.feed(LINES[400:])
    with agent:
        agent.wait(lambda: len(set(agent.ids())) == len(LINES))
        assert ask(str(agent.socket))["streams"]["storage"]["bundle"] == agent.pair[1].label
        agent.end()
    assert told(agent) == undisturbed()
    assert bundles.read(agent.shelf.place / "current").digest == agent.pair[1].digest


def test_a_swap_does_not_wait_for_ever_for_a_sink_that_is_dead(agent):
    """The loop ends and begins again on the new bundle; what is unacknowledged is judged again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        text = agent.config.read_text()
        place = text.index("[[sink]]")
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        agent.config.write_text(text[:place] + f'[[sink]]\ntype = "http"\nurl = "{url}"\n')
        agent.feed(LINES)
        agent.start(IMPATIENT, "run", "-c", str(agent.config))
        agent.wait(lambda: agent.socket.exists() and ask(str(agent.socket))["unacknowledged_batches"] > 0)
        agent.swap()
        agent.wait(lambda: sum(event["event"] == "agent.started" for event in agent.events()) == 2)
        agent.wait(agent.socket.exists)
        assert ask(str(agent.socket))["streams"]["storage"]["bundle"] == agent.pair[1].label
        agent.end()


def test_a_renewed_certificate_is_taken_by_beginning_again(agent):
    """What the configuration names has changed, though the configuration has not."""
    authority = agent.folder / "ca.pem"
    authority.touch()
    peer = f'[[sink]]\ntype = "tcp"\naddress = "127.0.0.1:9"\npolicy = "drop"\nca = "{authority}"\n'
    agent.config.write_text(agent.config.read_text() + peer)

    def started() -> int:
        return sum(event["event"] == "agent.started" for event in agent.events())

    with agent:
        agent.swap()
        agent.wait(lambda: len(agent.taken()) == 1)
        assert started() == 1
        os.utime(authority, (1, 1))
        agent.process.send_signal(signal.SIGHUP)
        agent.wait(lambda: started() == 2)


IMPATIENT = """
import sys
from foretail import renewal
from foretail.cli import main
renewal.WAIT_S = 1.0
sys.exit(main(sys.argv[1:]))
"""
