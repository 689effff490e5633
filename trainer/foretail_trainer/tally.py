"""Pure: which injected faults became incidents, how soon, and which incidents nobody asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from foretail_trainer.workload import Fault

CAUGHT_MIN, FALSE_MAX = 0.9, 1.0
"""What the demo must reach: share of the faults caught; false incidents per 10,000 lines."""
KEY_CHARACTERS_MIN = 8
"""A key that is the end of a request's id, such as its digits, names that request if it is at least so long."""


class Explanation(msgspec.Struct):
    """As much of an incident's explanation as is needed here."""

    line: str | None = None


class Incident(msgspec.Struct):
    """As much of an incident record as the demo shows; other fields are ignored."""

    id: str
    summary: str
    time: float | None = None
    key: str | None = None
    template: str | None = None
    score: float = 0.0
    reasons: tuple[str, ...] = ()
    explanation: Explanation | None = None


class Arrival(NamedTuple):
    """An incident and when it came out of the agent, epoch seconds."""

    at: float
    incident: Incident


class Outcome(NamedTuple):
    """A fault, the first incident about it or None, and the ms between writing the line that shows it and that."""

    fault: Fault
    incident: Incident | None
    ms: float | None


class Tally(NamedTuple):
    """Outcome of each fault, incidents that belong to no fault, and the figures that count.

    Attributes:
        outcomes: in the order of the faults.
        false: incidents that belong to none.
        again: further incidents about a fault that was caught already.
        lines: written while the agent watched.
    """

    outcomes: tuple[Outcome, ...]
    false: tuple[Arrival, ...]
    again: int
    lines: int

    @property
    def caught(self) -> int:
        """Faults with an incident."""
        return sum(outcome.incident is not None for outcome in self.outcomes)

    @property
    def false_rate(self) -> float:
        """False incidents per 10,000 lines."""
        return len(self.false) * 10_000 / max(1, self.lines)

    @property
    def holds(self) -> bool:
        """The demo's must-hold, which an empty run does not reach."""
        return 0 < len(self.outcomes) * CAUGHT_MIN <= self.caught and self.false_rate <= FALSE_MAX


def tally(faults: Sequence[Fault], written: Mapping[int, float], arrivals: Sequence[Arrival], lines: int) -> Tally:
    """Give each incident to the fault it is about.

    Args:
        faults: injected, in order.
        written: fault id to the time its line was written, epoch seconds.
        arrivals: in order of arrival; a second record of one incident (its closing) is dropped.
        lines: written while the agent watched.
    """
    first: dict[int, Arrival] = {}
    false: list[Arrival] = []
    again = 0
    seen: set[str] = set()
    for arrival in arrivals:
        if arrival.incident.id in seen:
            continue
        seen.add(arrival.incident.id)
        fault = next((fault for fault in faults if concerns(arrival.incident, fault)), None)
        if fault is None:
            false.append(arrival)
        elif fault.id in first:
            again += 1
        else:
            first[fault.id] = arrival
    outcomes = tuple(_outcome(fault, first.get(fault.id), written) for fault in faults)
    return Tally(outcomes, tuple(false), again, lines)


def concerns(incident: Incident, fault: Fault) -> bool:
    """The incident is about the fault's request, or about its very line."""
    line = incident.explanation.line if incident.explanation else None
    if not fault.session:
        return line == fault.text
    key = incident.key or ""
    named = len(key) >= KEY_CHARACTERS_MIN and fault.session.endswith(key)
    return named or (line is not None and fault.session in line)


def _outcome(fault: Fault, arrival: Arrival | None, written: Mapping[int, float]) -> Outcome:
    if arrival is None:
        return Outcome(fault, None, None)
    # earlier than the line that proves it: the agent may find the first retries strange already
    return Outcome(fault, arrival.incident, max(0.0, arrival.at - written.get(fault.id, fault.time)) * 1000)
