"""When a host looks for bundles: an interval after a look, sooner after a failure, never all hosts at once."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail import looks
from foretail.errors import ConfigError
from foretail.looks import JITTER, RETRY_S, Looks, Steps, is_due, planned

HOURS_6 = 6 * 3600.0


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 50), st.floats(60, 1e6))
def test_the_next_look_is_within_its_bounds(chance, failures, interval_s):
    """After success the interval and up to a tenth more; after failures never later than one and a half of it."""
    good = planned(Looks(failures=failures), failed=False, now=0.0, interval_s=interval_s, chance=chance)
    assert good.failures == 0
    assert interval_s <= good.due <= interval_s * (1 + JITTER) + 1e-3
    bad = planned(Looks(failures=failures), failed=True, now=0.0, interval_s=interval_s, chance=chance)
    assert bad.failures == failures + 1
    assert min(interval_s, RETRY_S) <= bad.due <= 1.5 * interval_s


def test_failures_are_tried_again_after_twice_the_time_each():
    """One minute, two, four, ... and the interval at most."""
    known, waits = Looks(), []
    for _ in range(12):
        known = planned(known, failed=True, now=0.0, interval_s=HOURS_6, chance=0.0)
        waits.append(known.due / 60)
    assert waits[:5] == [1, 2, 4, 8, 16]
    assert waits[-1] == 360


def test_a_clock_that_was_far_ahead_holds_nothing_back():
    """A look that is due years from now is due now."""
    assert is_due(Looks(), 1e9, HOURS_6)
    assert not is_due(Looks(due=1e9 + HOURS_6), 1e9, HOURS_6)
    assert is_due(Looks(due=2e9), 1e9, HOURS_6)


def test_steps_are_counted_over_processes_and_a_damaged_file_is_no_obstacle(tmp_path):
    """Each is a sentence for people; the plan stays while steps are counted."""
    said: list[str] = []
    Steps(tmp_path, said.append)("fetched", "it came")
    Steps(tmp_path, said.append).done(failed=True, interval_s=HOURS_6)
    Steps(tmp_path, said.append)("fetched")
    assert said == ["it came"]
    known = looks.read(tmp_path)
    assert (known.steps, known.failures) == ({"fetched": 2}, 1)
    assert known.due > 1e9
    (tmp_path / looks.FILE).write_bytes(b"nonsense")
    assert looks.read(tmp_path) == Looks()
    Steps(tmp_path, None)("looked", url="x")
    assert looks.read(tmp_path).steps == {"looked": 1}
    assert msgspec.json.decode((tmp_path / looks.FILE).read_bytes())["failures"] == 0


def test_a_state_that_cannot_be_written_is_one_sentence(tmp_path):
    """It says who should run this."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="run as the agent's user"):
        Steps(tmp_path / "file", None)("looked")
