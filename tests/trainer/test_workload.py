from __future__ import annotations

import itertools
import re
from collections import Counter

import pytest

from foretail_trainer import workload
from foretail_trainer.grammar import DELAY_S_MAX, MESSAGES
from foretail_trainer.workload import Plan, Workload, bend, plans

pytestmark = pytest.mark.trainer


def test_the_same_seed_gives_the_same_lines():
    """A demo that fails can be run again."""
    first, second = ([e.text for e in Workload(7, 1e9, 50).events(60)] for _ in range(2))
    assert first == second
    assert first != [e.text for e in Workload(8, 1e9, 50).events(60)]


def test_the_rate_is_kept():
    """Lines per second come out within 15 % of what was asked for."""
    events = list(Workload(1, 1e9, 100).events(200))
    assert abs(len(events) - 20_000) < 3_000


def test_time_never_runs_backwards():
    """Interleaved requests leave the log in time order, stamps included."""
    events = list(Workload(1, 1e9, 100).events(60, 5))
    assert [e.time for e in events] == sorted(e.time for e in events)
    stamps = [e.text.split()[0] for e in events]
    assert stamps == sorted(stamps)


def test_every_message_occurs_in_hours_of_history():
    """The trainer gets to see each message of the healthy service, and nothing else."""
    steps = Counter()
    patterns = {
        name: re.compile(f"{message.component}: " + re.sub(r"\\\{\w+\\\}", r"\\S+", re.escape(message.text)) + "$")
        for name, message in MESSAGES.items()
    }
    for event in Workload(3, 1e9, 10, fresh=True).events(4000):
        steps.update([name for name, pattern in patterns.items() if pattern.search(event.text)])
    assert set(MESSAGES) == set(steps)


def test_requests_are_interleaved():
    """At the demo's live rate dozens of requests share the log."""
    keys = [m[0] for e in Workload(1, 1e9, 250).events(20) if (m := re.search(r"req-[0-9a-f]{12}", e.text))]
    switches = sum(a != b for a, b in itertools.pairwise(keys))
    assert switches > 0.9 * len(keys)


def test_pauses_in_a_healthy_request_are_bounded():
    """What is silent for longer than DELAY_S_MAX was cut short."""
    last: dict[str, float] = {}
    for event in Workload(1, 1e9, 50).events(300):
        if m := re.search(r"req-[0-9a-f]{12}", event.text):
            assert event.time - last.get(m[0], event.time) <= DELAY_S_MAX + 1e-3
            last[m[0]] = event.time


def test_each_planned_fault_is_recorded_once():
    """The ground truth holds at least ten faults of all five kinds, no two alike."""
    service = Workload(5, 1e9, 100, plan=plans(5, 40))
    lines = list(service.events(45, 5))
    assert len(service.faults) == len(workload.FAULTS) >= 10
    assert {"skipped step", "wrong order", "cut short", "repeated retries", "never seen"} == {
        fault.kind for fault in service.faults
    }
    assert len({fault.detail for fault in service.faults}) == len(service.faults)
    for fault in service.faults:
        assert fault.text == lines[fault.line - 1].text
        assert fault.session in fault.text


def test_a_fault_free_stream_has_no_ground_truth():
    """Without a plan nothing is injected."""
    service = Workload(5, 1e9, 100)
    assert not [event for event in service.events(30) if event.fault]
    assert service.faults == []


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(0, "skipped step", "x", "b"), (["a", "c", "d"], 1)),
        (Plan(0, "wrong order", "x", "b"), (["a", "c", "b", "d"], 1)),
        (Plan(0, "cut short", "x", "b"), (["a", "b"], 1)),
        (Plan(0, "repeated retries", "x", "r", "b"), (["a", *["r"] * 8, "b", "c", "d"], 2)),
        (Plan(0, "never seen", "x", "n", "b"), (["a", "n", "b", "c", "d"], 1)),
    ],
)
def test_each_kind_bends_the_steps_in_its_way(plan: Plan, expected: tuple[list[str], int]):
    """The bent steps, and the first of them that shows it."""
    bent = bend(["a", "b", "c", "d"], plan)
    assert bent is not None
    assert bent[:2] == expected


def test_repeated_retries_count_from_the_first():
    """An attempt that the healthy request had anyway does not make nine of eight."""
    assert bend(["a", "r", "b", "c"], Plan(0, "repeated retries", "x", "r", "b")) == (
        ["a", *["r"] * 8, "b", "c"],
        2,
        "x with r 8 times in a row",
    )


def test_steps_without_the_place_for_a_fault_are_refused():
    """An optional branch that was not taken cannot be cut."""
    assert bend(["a", "b"], Plan(0, "skipped step", "x", "c")) is None
    assert bend(["a", "b"], Plan(0, "cut short", "x", "b")) is None
