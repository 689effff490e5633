"""A storage service that never was: the seeded source of the demo's log, and of its faults.

Pure: time is an argument and lines are a return value; `writer` puts them into files. Requests (upload, download,
delete, replicate, scrub) each follow a grammar of steps with retries, branches and repeats, run interleaved, and share
the log with chatter that belongs to no request. A fault bends the steps of one request in one known way.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from foretail_trainer.grammar import CHATTER, CHATTER_SHARE, DELAY_S_MAX, GRAMMARS, MESSAGES, RETRIES_NORMAL_MAX, UNSEEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from foretail_trainer.grammar import Message

Kind = str
"""What is wrong with a request: `skipped step`, `wrong order`, `cut short`, `repeated retries`, `never seen`."""


class Plan(msgspec.Struct, frozen=True):
    """A fault to come.

    Attributes:
        at_s: seconds after the start at which its request arrives.
        kind: see Kind.
        request: kind of request it befalls; empty: none, a line of no request.
        step: the step that is skipped, swapped with its successor, the last one, repeated, or said before `before`.
        before: the step that an inserted message precedes.
    """

    at_s: float
    kind: Kind
    request: str
    step: str
    before: str = ""


class Fault(msgspec.Struct, frozen=True):
    """A fault that was injected: the ground truth of the demo.

    Attributes:
        id: from 1.
        kind: see Kind.
        request, session: kind of request and its id; both empty for a line of no request.
        time: event time in epoch seconds of the line that shows it (of the last line, for a request cut short).
        line: number of that line in the stream, from 1.
        text: that line.
        detail: what was done, for people.
    """

    id: int
    kind: Kind
    request: str
    session: str
    time: float
    line: int
    text: str
    detail: str


class Event(NamedTuple):
    """One line of the log: its event time (epoch seconds), its text without newline, the fault it shows if any."""

    time: float
    text: str
    fault: Fault | None


FAULTS: tuple[tuple[Kind, str, str, str], ...] = (
    ("skipped step", "upload", "checksum.verified", ""),
    ("wrong order", "replicate", "lease.released", ""),
    ("cut short", "upload", "chunk.stored", ""),
    ("never seen", "download", "disk.failing", "body.sent"),
    ("repeated retries", "upload", "write.timeout", "chunk.stored"),
    ("skipped step", "delete", "tombstone.written", ""),
    ("cut short", "download", "cache.miss", ""),
    ("never seen", "", "split.brain", ""),
    ("wrong order", "upload", "metadata.committed", ""),
    ("repeated retries", "replicate", "lease.busy", "lease.acquired"),
    ("skipped step", "download", "auth.granted", ""),
    ("cut short", "replicate", "chunk.copied", ""),
    ("never seen", "delete", "index.corrupt", "metadata.committed"),
    ("wrong order", "download", "body.sent", ""),
)
"""The demo's faults: no two alike, for alike ones are rightly folded into one incident."""


def plans(first_s: float, last_s: float) -> tuple[Plan, ...]:
    """FAULTS spread evenly over an interval, in seconds after the start of the stream."""
    pace = (last_s - first_s) / max(1, len(FAULTS) - 1)
    return tuple(Plan(first_s + i * pace, *fault) for i, fault in enumerate(FAULTS))


def bend(steps: Sequence[str], plan: Plan) -> tuple[list[str], int, str] | None:
    """Apply a fault to the steps of a request.

    Returns:
        The steps as they will be, the index of the step that shows the fault, and what was done in words; None if
        these steps lack the place for it (an optional branch not taken, nothing after it).
    """
    retried = plan.kind == "repeated retries"
    bent = [step for step in steps if not retried or step != plan.step]
    anchor = plan.before or plan.step
    if anchor not in bent[:-1]:
        return None
    i = bent.index(anchor)
    match plan.kind:
        case "skipped step":
            del bent[i]
            return bent, i, f"{plan.request} without {plan.step}"
        case "wrong order":
            bent[i], bent[i + 1] = bent[i + 1], bent[i]
            return bent, i, f"{plan.request} with {bent[i]} before {plan.step}"
        case "cut short":
            return bent[: i + 1], i, f"{plan.request} ends after {plan.step}"
        case "repeated retries":
            bent[i:i] = [plan.step] * 8
            return bent, i + RETRIES_NORMAL_MAX, f"{plan.request} with {plan.step} 8 times in a row"
        case "never seen":
            bent.insert(i, plan.step)
            return bent, i, f"{plan.step} in {plan.request}"
    raise AssertionError(plan.kind)


class _Request:
    """Steps on their way into the log."""

    __slots__ = ("at", "detail", "id", "plan", "shows", "steps", "values")

    def __init__(self, rng: random.Random, steps: list[str], *, key: bool = True) -> None:
        self.steps = steps
        self.at = 0
        self.plan: Plan | None = None
        self.shows = -1
        self.detail = ""
        self.id = (
            f"req-{rng.randint(1, 9)}{rng.getrandbits(44):011x}" if key else ""
        )  # the first digit names the gateway
        self.values = {
            "req": self.id,
            "bucket": rng.choice(("photos", "backups", "invoices", "models", "telemetry", "mail")),
            "object": f"{rng.getrandbits(40):010x}.{rng.choice(('bin', 'jpg', 'pdf', 'tar'))}",
            "ip": f"10.{rng.randint(0, 31)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}",
            "tenant": f"t{rng.randint(100, 999)}",
            "lease": f"{rng.randint(10_000, 99_999)}",
            "volume": f"vol{rng.randint(1, 48):03d}",
        }


class Workload:
    """The service's log as a stream of events in time order; the same arguments give the same lines.

    Attributes:
        faults: those injected so far.

    Args:
        seed: of everything random.
        start: event time of the first line, epoch seconds.
        rate: lines per second on average; load swings by half around it within an hour of event time.
        plan: faults to inject.
        fresh: the service starts up in this stream and says so.
    """

    def __init__(self, seed: int, start: float, rate: float, *, plan: Sequence[Plan] = (), fresh: bool = False) -> None:
        self.faults: list[Fault] = []
        self._rng = random.Random(seed)  # noqa: S311  a simulator needs repeatable numbers, not secret ones
        self._start = start
        self._plan = plan
        self._fresh = fresh
        self._queue: list[tuple[float, int, _Request | None, str]] = []
        self._order = itertools.count()
        self._lines = 0
        self._second = (-1, "")
        sample = random.Random(0)  # noqa: S311  as above
        lines_mean = sum(len(self._steps(sample)[1]) for _ in range(2000)) / 2000
        chatter_mean = sum(share * len(steps) for share, steps in CHATTER)
        self._requests_s = rate * (1 - CHATTER_SHARE) / lines_mean
        self._chatter_s = rate * CHATTER_SHARE / chatter_mean

    def events(self, duration_s: float, drain_s: float = 0.0) -> Iterator[Event]:
        """Run once: new requests arrive for `duration_s`; then all end, and chatter goes on for `drain_s`.

        Both in seconds of event time. The faults that lie within `duration_s` are injected.
        """
        admit_until = self._start + duration_s
        quiet_from = admit_until + drain_s
        self._push(self._start, None, "arrive")
        self._push(self._start, None, "chatter")
        if self._fresh:
            self._push(self._start, _Request(self._rng, ["service.started"], key=False), "step")
        for number, plan in enumerate(self._plan):
            if plan.at_s < duration_s:
                self._push(self._start + plan.at_s, None, f"fault {number}")
        while self._queue:
            time, _, request, what = heapq.heappop(self._queue)
            if request is not None:
                yield self._emit(time, request)
            elif what == "arrive" and time < admit_until:
                self._arrive(time)
            elif what == "chatter" and time < quiet_from:
                self._chat(time)
            elif what.startswith("fault"):
                self._inject(time, self._plan[int(what[6:])])

    def _push(self, time: float, request: _Request | None, what: str) -> None:
        heapq.heappush(self._queue, (time, next(self._order), request, what))

    @staticmethod
    def _steps(rng: random.Random, kind: str | None = None) -> tuple[str, list[str]]:
        if kind is None:
            kind = rng.choices(list(GRAMMARS), [share for share, _ in GRAMMARS.values()])[0]
        return kind, list(GRAMMARS[kind][1](rng, rng.random()))

    def _arrive(self, time: float) -> None:
        self._push(time, _Request(self._rng, self._steps(self._rng)[1]), "step")
        swing = 1 + 0.5 * math.sin((time - self._start) * 2 * math.pi / 3600)
        self._push(time + self._rng.expovariate(self._requests_s * swing), None, "arrive")

    def _chat(self, time: float) -> None:
        steps = self._rng.choices([steps for _, steps in CHATTER], [share for share, _ in CHATTER])[0]
        self._push(time, _Request(self._rng, list(steps), key=False), "step")
        self._push(time + self._rng.uniform(0.5, 1.5) / self._chatter_s, None, "chatter")

    def _inject(self, time: float, plan: Plan) -> None:
        if not plan.request:
            request = _Request(self._rng, [plan.step], key=False)
            request.shows, request.detail = 0, f"{plan.step} out of the blue"
        else:
            tries = (bend(self._steps(self._rng, plan.request)[1], plan) for _ in range(10_000))
            steps, shows, detail = next(bent for bent in tries if bent is not None)
            request = _Request(self._rng, steps)
            request.shows, request.detail = shows, detail
        request.plan = plan
        self._push(time, request, "step")

    def _emit(self, time: float, request: _Request) -> Event:
        step, shown = request.steps[request.at], request.at == request.shows
        message = MESSAGES.get(step) or UNSEEN[step]
        text = self._line(time, request, message)
        self._lines += 1
        request.at += 1
        if request.at < len(request.steps):
            after = MESSAGES.get(request.steps[request.at]) or UNSEEN[request.steps[request.at]]
            pause = min(DELAY_S_MAX, after.delay_s * self._rng.lognormvariate(0.0, 0.6))
            self._push(time + pause, request, "step")
        if request.plan is None or not shown:
            return Event(time, text, None)
        plan = request.plan
        fault = Fault(
            len(self.faults) + 1, plan.kind, plan.request, request.id, time, self._lines, text, request.detail
        )
        self.faults.append(fault)
        return Event(time, text, fault)

    def _line(self, time: float, request: _Request, message: Message) -> str:
        rng = self._rng
        nodes = rng.sample(range(1, 17), 3)
        values = request.values | {
            "node": f"node-{nodes[0]:02d}",
            "node2": f"node-{nodes[1]:02d}",
            "node3": f"node-{nodes[2]:02d}",
            "bytes": str(int(rng.lognormvariate(13, 2))),
            "chunk": str(request.steps[: request.at + 1].count(request.steps[request.at])),
            "count": str(rng.randint(1000, 900_000)),
            "hash": f"{rng.getrandbits(64):016x}",
            "load": f"{rng.random():.2f}",
            "ms": str(1 + int(rng.lognormvariate(4, 1))),
            "percent": str(rng.randint(80, 99)),
            "policy": str(rng.randint(1, 40)),
            "shard": str(rng.randint(0, 63)),
            "tier": str(rng.randint(1, 2)),
            "version": str(rng.randint(1, 9999)),
        }
        # each step runs on whatever thread of the pool is free, so that no thread tells a request's story
        thread = f"worker-{rng.randint(1, 24):02d}" if request.id else "background"
        return f"{self._stamp(time)} {message.level} [{thread}] {message.component}: {message.text.format_map(values)}"

    def _stamp(self, time: float) -> str:
        millis = round(time * 1000)
        second, rest = divmod(millis, 1000)
        if second != self._second[0]:
            self._second = (second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S"))
        return f"{self._second[1]}.{rest:03d}Z"
