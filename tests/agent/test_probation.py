"""A new bundle under which the agent dies again and again gives way to the one before."""

from __future__ import annotations

import itertools
import random
import signal
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from swapping import LINES, PATIENCE_S, Swapping

from foretail import bundle as bundles
from foretail.activation import Shelf
from foretail.config import build, load
from foretail.probation import STARTS_MAX, Probation
from foretail.rise import Span, rose
from foretail.schema import Pattern, Patterns
from foretail.status import ask

BUNDLE = Path(__file__).resolve().parents[1] / "golden" / "bundle"


@pytest.fixture
def place(tmp_path):
    """Version 1, then version 2, which is on probation."""
    old = bundles.read(BUNDLE)
    shelf = Shelf(tmp_path / "bundles" / "golden")
    with shelf.locked():
        shelf.activate(old)
        manifest = msgspec.structs.replace(old.manifest, version=2)
        shelf.activate(bundles.write(tmp_path / "two", manifest, old.files))
    stream = {"name": "s", "include": ["/none"], "bundle": str(shelf.place / "current")}
    config = build({"agent": {"state_dir": str(tmp_path)}, "stream": [stream]}, "test")
    return shelf, config


def starts(config, number: int) -> None:
    """So many starts that end in a crash: nobody says that the bundle has passed."""
    for _ in range(number):
        probation = Probation(config)
        probation.begin()


def test_after_as_many_crashes_the_next_start_is_on_the_bundle_before(place):
    """It is barred, so that the next pull does not bring it back."""
    shelf, config = place
    starts(config, STARTS_MAX)
    assert shelf.current.startswith("2-")
    starts(config, 1)
    assert shelf.current.startswith("1-")
    assert len(shelf.standing.barred) == 1
    assert shelf.standing.floor == 2


def test_a_clean_stop_ends_the_count(place):
    """Restarts by hand are no crashes."""
    shelf, config = place
    for _ in range(3 * STARTS_MAX):
        probation = Probation(config)
        probation.begin()
        probation.end()
    assert shelf.current.startswith("2-")
    assert shelf.standing.starts == 0


def test_a_bundle_that_has_passed_is_not_rolled_back(agent):
    """Crashes later on have other causes."""
    with agent:
        agent.shelf.activate(changed(agent.folder, lambda pattern: pattern))
        agent.go(HASTY, LIFE_S=0.2)
        agent.wait(lambda: agent.said("bundle.passed"))
        agent.end()
    starts(load(agent.config), 3 * STARTS_MAX)
    assert agent.shelf.current.startswith("2-")


def test_streams_on_other_bundles_are_left_alone(tmp_path):
    """A bundle outside the state directory has no standing."""
    config = build(
        {"agent": {"state_dir": str(tmp_path)}, "stream": [{"name": "s", "include": ["/x"], "bundle": "b"}]}, ""
    )
    starts(config, 5)
    assert list(tmp_path.iterdir()) == []


HASTY = """
import sys
from foretail import probation
from foretail.cli import main
probation.LOOK_S = 0.05
for change in sys.argv[1].split():
    setattr(probation, change.partition("=")[0], float(change.partition("=")[2]))
sys.exit(main(sys.argv[2:]))
"""
"""The agent, with a second of probation in a twentieth of it."""


class Tried(Swapping):
    """An agent on the golden bundle, version 1; another one is made current while it runs, or before."""

    def __exit__(self, *_: object) -> None:
        super().__exit__()

    def __enter__(self):
        return self

    def go(self, program: str, **changes: float) -> None:
        """Start, with other constants of `foretail.probation`."""
        told = " ".join(f"{name}={value}" for name, value in changes.items())
        self.start(program, told, "run", "-c", str(self.config))
        self.wait(self.socket.exists)

    def said(self, event: str) -> list[dict]:
        """Events of this name."""
        return [row for row in self.events() if row["event"] == event]

    def take(self, bundle: bundles.Bundle) -> None:
        """Make a bundle current and let the agent take it."""
        self.shelf.activate(bundle)
        self.process.send_signal(signal.SIGHUP)
        self.wait(lambda: any(row["bundle"] == bundle.label for row in self.said("bundle.taken")))

    def runs(self) -> str:
        """Label of the bundle at work."""
        return ask(str(self.socket))["streams"]["storage"]["bundle"]

    def flow(self, make, true) -> None:
        """Append what `make` gives, a little all the time, until a fact holds."""
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end, self.err.read_text()[-2000:]
            self.feed(make())
            time.sleep(0.05)


def lines(count: int = 100):
    """Makes the next lines of the log, again and again."""
    turn = itertools.cycle(LINES)
    return lambda: list(itertools.islice(turn, count))


def changed(folder: Path, change) -> bundles.Bundle:
    """The golden bundle as version 2 with other patterns, those of which that changed are in no golden line."""
    old = bundles.read(BUNDLE)
    patterns = tuple(change(pattern) for pattern in old.patterns)
    gone = {new.type_id for new, was in zip(patterns, old.patterns, strict=True) if new != was}
    rows = [row for row in old.files[bundles.GOLDEN].splitlines() if not any(name.encode() in row for name in gone)]
    files = {
        **old.files,
        bundles.PATTERNS: msgspec.json.encode(Patterns(1, patterns)),
        bundles.GOLDEN: b"\n".join(rows) + b"\n",
    }
    return bundles.write(folder / "changed", msgspec.structs.replace(old.manifest, version=2), files)


def unknowing(pattern: Pattern) -> Pattern:
    """Every third pattern matches nothing any more."""
    return msgspec.structs.replace(pattern, regex="never seen") if pattern.rank % 3 == 0 else pattern


def slow(pattern: Pattern) -> Pattern:
    """The first pattern looks for three letters in every order before it gives up."""
    return msgspec.structs.replace(pattern, regex="x.*?y.*?z.*?Q") if pattern.rank == 0 else pattern


@pytest.fixture
def agent(tmp_path):
    """Not yet started."""
    made = Tried(tmp_path)
    yield made
    made.__exit__()


def test_a_bundle_that_knows_far_fewer_lines_is_taken_back(agent):
    """The share of unknown lines jumps for good: the one before is back, without a restart; a pull does not return."""
    bad, more = changed(agent.folder, unknowing), lines()
    with agent:
        agent.go(HASTY)
        agent.flow(more, lambda: len(agent.ids()) > 2000)
        agent.take(bad)
        agent.flow(more, lambda: agent.said("bundle.rolled_back"))
        agent.wait(lambda: agent.runs() == agent.pair[0].label)
        (told,) = agent.said("bundle.rolled_back")
        assert (told["cause"], told["level"]) == ("untyped", "error")
        series = ask(str(agent.socket))["metrics"]["bundle_rollbacks_total"]
        assert series == [{"labels": {"bundle": "golden", "cause": "untyped"}, "value": 1}]
        agent.end()
    assert agent.shelf.standing.barred == (bad.digest[:12],)
    assert agent.shelf.standing.floor == 2


def test_a_log_that_changes_with_the_bundle_is_not_its_fault(agent):
    """Lines that the bundle before does not know either: it stays."""
    same = bundles.write(
        agent.folder / "same", msgspec.structs.replace(agent.pair[0].manifest, version=2), agent.pair[0].files
    )
    more = lines()
    with agent:
        agent.go(HASTY)
        agent.flow(more, lambda: len(agent.ids()) > 2000)
        agent.take(same)
        odd = [b"2026-01-01T02:46:40.000Z INFO [w] svc: what nobody has ever seen in any log of this kind\n"] * 20
        agent.flow(lambda: more() + odd, lambda: agent.said("probation.cleared"))
        assert agent.runs() == same.label
        assert not agent.said("bundle.rolled_back")
        agent.end()
    assert agent.shelf.standing.barred == ()


def test_patterns_that_run_out_of_time_are_taken_back(agent):
    """Long lines on which the new bundle's patterns are cut off again and again."""
    bad, more = changed(agent.folder, slow), lines(5)
    long = [
        b"2026-01-01T02:46:40.000Z INFO [worker-1] gateway: xQ" + b"yz " * 2000 + b"%d\n" % number
        for number in range(5)
    ]
    agent.config.write_text(agent.config.read_text() + "[limits]\nmatch_timeout_s = 0.01\n")
    with agent:
        agent.go(HASTY)
        agent.flow(lambda: more() + long, lambda: len(agent.ids()) > 500)
        agent.take(bad)
        agent.flow(lambda: more() + long[:1], lambda: agent.said("bundle.rolled_back"))
        agent.wait(lambda: agent.runs() == agent.pair[0].label)
        assert agent.said("bundle.rolled_back")[0]["cause"] == "timeouts"


def test_a_rise_is_no_burst_and_no_chance():
    """Spans are the witnesses: one that is full of hits is a burst; all that have some more are a rise."""
    before = [Span(1, 100)] * 50
    assert rose(before, [Span(20, 100)] * 25, 0.01)
    assert not rose(before, [Span(20, 100)] * 5, 0.01)  # too short
    assert not rose(before, [Span(0, 100)] * 20 + [Span(100, 100)] * 5, 0.01)  # a burst
    assert not rose(before, [Span(2, 100)] * 500, 0.01)  # within the tolerance
    assert not rose([], [Span(100, 100)] * 50, 0.01)  # nothing to compare with
    assert not rose([Span(0, 3)], [Span(1, 10)] * 20, 0.01)  # three lines say little


@given(st.integers(0, 2**32), st.floats(0.0, 0.3), st.integers(1, 500))
def test_equal_shares_do_not_rise(seed, share, lines):
    """Whatever the share and the traffic, and also when most of it comes in bursts."""
    rng = random.Random(seed)

    def spans(count: int) -> list[Span]:
        made = []
        for _ in range(count):
            n = rng.randint(0, lines)
            burst = rng.random() < 0.2
            made.append(
                Span(n if burst and rng.random() < share else sum(rng.random() < share / 2 for _ in range(n)), n)
            )
        return made

    assert not rose(spans(300), spans(60), 0.01)
