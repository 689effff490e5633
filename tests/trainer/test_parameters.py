"""Which numbers of a log are worth following, and that `fit` follows them."""

from pathlib import Path

import numpy as np
import pytest
from trainer.jobs import records

from foretail.patterns import Matcher
from foretail.schema import Format, KeyRule, Pattern
from foretail_trainer import learn, parameters, volume
from foretail_trainer.stages import Stages

pytestmark = pytest.mark.trainer


def matcher(*templates):
    patterns = [
        Pattern(0, rank, f"{rank:016x}", template, template.replace("<*>", r"(\S+(?: ms)?)"), rank)
        for rank, template in enumerate(templates)
    ]
    return Matcher(patterns, Format(), KeyRule())


def stamped(second, message):
    """A line of that second of the day's log."""
    return f"2026-01-05T{8 + second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z INFO {message}"


def fitted(folder, lines, cut):
    """What volume learned of the first `cut` lines, and the log of the others."""
    normal, new = folder / "normal.log", folder / "new.log"
    normal.write_text("\n".join(lines[:cut]) + "\n")
    new.write_text("\n".join(lines[cut:]) + "\n")
    asked = learn.Options(files=(str(normal),), out=str(folder / "b"), key="none", detectors=("volume",))
    with Stages() as stages:
        return learn.fit(asked, stages), new


def test_measurements_are_followed_identifiers_are_not():
    """A latency and a ratio; no port, no part of a name, no constant, no word, no number that may be below zero."""
    rng = np.random.default_rng(0)
    wanted = matcher("sent <*> from port <*> to node-<*> level <*> in <*>", "load <*> by <*> off <*>", "rare <*>")
    lines = [
        f"sent ok from port {rng.integers(1024, 65536)} to node-{rng.integers(9)} level 3 in {rng.integers(90)} ms"
        for _ in range(400)
    ]
    lines += [f"load {rng.random():.3f} by x{n} off {rng.integers(-5, 5)}" for n in range(300)]
    lines += [f"rare {n % 7}" for n in range(50)]
    found = parameters.candidates([line.encode() for line in lines], wanted)
    assert [(one.name, one.unit) for one in found] == [
        ("load <number> by <*> off <*>", ""),
        ("sent <*> from port <*> to node-<*> level <*> in <number>", "ms"),
    ]


def test_steady_readings_are_kept():
    """Not one that jumps, that is mostly missing, that counts up, or that never changes."""
    rng = np.random.default_rng(1)
    n = 300

    def pair(values):
        return np.stack([values, values * 2], axis=1)

    steady, wild = 50 * np.exp(0.1 * rng.normal(size=n)), 50 * np.exp(1.5 * rng.normal(size=n))
    gone = np.where(rng.random(n) < 0.7, np.nan, steady)
    rows = np.hstack([np.ones((n, 2)), *map(pair, (wild, steady, gone, 1000.0 + np.arange(n), np.full(n, 9.0)))])
    assert parameters.steady(rows, 2) == [1]


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_a_number_that_rarely_differs_does_not_count_up(share):
    """Equal values have one rank: a reading that is 3 nearly always is the steadiest there is."""
    values = np.where(np.random.default_rng(3).random(400) < share, 4.0, 3.0)
    assert parameters.steady(np.stack([values, values], axis=1), 0) == [0]


def test_counters_do_not_crowd_out_a_latency():
    """Eight uptimes count up; the latency is followed."""
    rng = np.random.default_rng(4)
    ticks = " ".join(f"tick{number}=<*>" for number in range(20))
    wanted = matcher(f"{ticks} took <*>")
    lines = [
        " ".join(f"tick{number}={second + number / 7:.3f}" for number in range(20)) + f" took {rng.integers(50)} ms"
        for second in range(300)
    ]
    found = parameters.candidates([line.encode() for line in lines], wanted)
    assert [one.unit for one in found] == ["ms"]


def test_small_whole_numbers_raise_nothing_while_all_is_well(tmp_path):
    """The 95th percentile of queue depths of 5 to 9 lies on 9 until it does not: that is no news."""
    rng = np.random.default_rng(6)
    lines = [stamped(second, f"queue depth {rng.integers(5, 10)}") for second in range(8 * 3600)]
    learned, new = fitted(tmp_path, lines, 5 * 3600)
    assert [reading.name for reading in learned.bundle.manifest.volume.readings] == ["queue depth <number>"]
    assert not [note for note in learned.notes if "taken for a fault" in note]
    found = records(Path(learned.options.out), new, "anomalies")
    assert len(found) <= volume.promised(learned.bundle.manifest.volume.series.calibration.alpha, 180)[1]
    assert all("p95" not in row["explanation"]["summary"] and row["score"] < 0.6 for row in found)


def test_whole_numbers_with_a_unit_are_no_identifiers():
    """Sizes and nanoseconds hardly come twice; ports hardly come twice either, and have no unit."""
    rng = np.random.default_rng(7)
    lines = [f"wrote {rng.integers(1, 10**9)} bytes to port {rng.integers(1024, 65536)}" for _ in range(300)]
    patterns = [Pattern(0, 0, "0" * 16, "wrote <*> bytes to port <*>", r"wrote (\S+ bytes) to port (\S+)", 0)]
    found = parameters.candidates([line.encode() for line in lines], Matcher(patterns, Format(), KeyRule()))
    assert [(one.capture, one.unit) for one in found] == [(0, "bytes")]


def test_answers_that_become_slow_are_raised(tmp_path):
    """End to end: the numbers alone change, and the interval says which."""
    rng = np.random.default_rng(2)
    lines = []
    for second in range(4 * 3600):
        slow = 8 if 3.5 * 3600 <= second < 3.5 * 3600 + 300 else 1
        took = f"request {rng.integers(1 << 40):x} answered in {int(slow * rng.lognormal(3, 0.4))} ms"
        lines.append(stamped(second, took))
    learned, new = fitted(tmp_path, lines, 3 * 3600)
    assert [reading.unit for reading in learned.bundle.manifest.volume.readings] == ["ms"]
    found = [row for row in records(Path(learned.options.out), new, "incidents") if row["state"] == "open"]
    assert len(found) == 1
    assert "answered in <number> ms" in found[0]["summary"]
    assert found[0]["type_id"] == learned.patterns[0].type_id
