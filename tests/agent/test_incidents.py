"""The fold of verdicts into incidents: one cause, one incident."""

from __future__ import annotations

import msgspec
import pytest

from foretail.incidents import DRIFT_BLOCKS, DRIFT_LINES, Cause, Incidents, Mute, Rules

HOUR = 3600.0


def cause(number, *, fingerprint="f", key="k", endless=False, time=0.0, line=None, type_id="t", **rest):
    return Cause(
        verdict=f"v{number}",
        fingerprint=fingerprint,
        key=key,
        endless=endless,
        time=time,
        line=number if line is None else line,
        type_id=type_id,
        **rest,
    )


def outcomes(fold, *causes):
    return [fold.fold(one)[0] for one in causes]


def test_verdicts_of_one_session_are_one_incident_until_it_ends():
    """Whatever their cause, and also after the incident closed; the key's next session is another."""
    fold = Incidents(Rules(cooldown_s=10))
    assert outcomes(fold, cause(1), cause(2, fingerprint="g", time=5)) == ["opened", "folded"]
    closed = fold.close(100.0)
    assert [(one.count, one.keys) for one in closed] == [(2, 1)]
    assert outcomes(fold, cause(3, fingerprint="h", time=101)) == ["folded"]
    fold.forget(["k"])
    assert outcomes(fold, cause(4, fingerprint="h", time=102)) == ["opened"]


def test_one_cause_in_many_sessions_is_one_incident_while_it_goes_on():
    """The same fingerprint within the cooldown joins; after it, it is news again."""
    fold = Incidents(Rules(cooldown_s=10))
    found = outcomes(fold, cause(1, key="a"), cause(2, key="b", time=9), cause(3, key="c", time=18))
    assert found == ["opened", "folded", "folded"]
    assert [(one.count, one.keys) for one in fold.close(29.0)] == [(3, 3)]
    assert outcomes(fold, cause(4, key="d", time=29.5)) == ["opened"]


def test_in_an_endless_session_only_the_next_lines_are_the_same_cause():
    """C events after an anomaly belong to it; later ones are judged by their own fingerprint."""
    fold = Incidents(Rules(window=10))
    near = cause(2, fingerprint="g", endless=True, line=11)
    far = cause(3, fingerprint="h", endless=True, line=30)
    assert outcomes(fold, cause(1, endless=True, line=1), near, far) == ["opened", "folded", "opened"]


def test_first_sights_of_one_program_within_seconds_are_one_incident():
    """Not those at error level, nor another program's, nor a known type that became strange, nor one after another."""
    fold = Incidents(Rules(window=10, unseen_rate=0.0))

    def sight(number, time, **more):
        fold.unseen(100 * number)
        asked = {"unseen": True, "endless": True, "type_id": None, **more}
        return fold.fold(cause(number, fingerprint=f"f{number}", time=time, line=100 * number, **asked))[0]

    assert [sight(1, 0.0), sight(2, 9.0)] == ["opened", "folded"]
    assert [sight(3, 9.0, error=True), sight(4, 9.0, key="other"), sight(5, 9.0, unseen=False)] == ["opened"] * 3
    assert [sight(6, 10.0), sight(7, 20.0), sight(8, 29.0)] == ["folded", "opened", "folded"]


def test_a_block_that_adds_nothing_to_its_lines_opens_no_incident():
    """It joins that of its line while that is open; later it is what was to be expected."""
    fold = Incidents(Rules(cooldown_s=10))
    late = cause(2, fingerprint="g", endless=True, line=90, time=5, told=True)
    assert outcomes(fold, cause(1, endless=True, line=1), late) == ["opened", "expected"]


def test_a_single_verdict_has_no_second_record():
    """An incident of one verdict was said in full when it opened."""
    fold = Incidents(Rules())
    fold.fold(cause(1))
    assert fold.close(10 * HOUR) == []


def test_a_mute_holds_until_it_expires():
    """Muted verdicts raise nothing; after the expiry in event time they do."""
    fold = Incidents(Rules(mutes=(Mute("t", "known noise", expires=100.0),)))
    assert outcomes(fold, cause(1, time=99), cause(2, time=101)) == ["muted", "opened"]


def test_beyond_the_cap_incidents_are_counted_and_the_next_one_says_so():
    """cap_per_hour in event time; `suppressed` rides on the next incident that opens."""
    fold = Incidents(Rules(cap_per_hour=2))
    causes = [cause(n, fingerprint=str(n), key=str(n), time=n) for n in range(5)]
    assert outcomes(fold, *causes) == ["opened", "opened", "suppressed", "suppressed", "suppressed"]
    assert fold.suppressed_total == 3
    assert fold.fold(cause(9, fingerprint="9", key="9", time=HOUR + 9)) == ("opened", 3)


def test_an_unseen_type_is_raised_when_the_training_log_had_fewer():
    """At the training rate of unseen types nothing is raised; above it, or at error level, it is."""
    quiet, noisy = Incidents(Rules(unseen_rate=1e-6)), Incidents(Rules(unseen_rate=0.05))
    for fold in (quiet, noisy):
        fold.unseen(1)
    assert outcomes(quiet, cause(1, type_id=None, unseen=True)) == ["opened"]
    assert outcomes(noisy, cause(1, type_id=None, unseen=True)) == ["expected"]
    assert outcomes(noisy, cause(1, type_id=None, unseen=True, error=True)) == ["opened"]
    for line in range(2, 90):
        noisy.unseen(line)
    assert outcomes(noisy, cause(90, key="other", fingerprint="g", type_id=None, unseen=True)) == ["opened"]


def test_drift_is_said_once_and_only_when_it_lasts():
    """A shifted mix over several blocks gives one notice."""
    fold = Incidents(Rules(mix=(0.0, 0.0, 0.0, 0.9, 0.1)))
    same = [fold.count({3: DRIFT_LINES * 9 // 10, 4: DRIFT_LINES // 10}, DRIFT_LINES) for _ in range(5)]
    shifted = [fold.count({4: DRIFT_LINES}, DRIFT_LINES) for _ in range(DRIFT_BLOCKS + 3)]
    assert same == [False] * 5
    assert shifted == [False] * (DRIFT_BLOCKS - 1) + [True] + [False] * 3


@pytest.mark.parametrize("cut", range(6))
def test_a_restart_changes_nothing(cut):
    """Outcomes after saving and restoring through msgpack are those of an unbroken run."""
    causes = [cause(n, fingerprint=str(n % 2), key=str(n % 3), time=n * 7.0) for n in range(6)]
    rules = Rules(cooldown_s=10, cap_per_hour=3)
    whole = outcomes(Incidents(rules), *causes)
    first, second = Incidents(rules), Incidents(rules)
    begun = outcomes(first, *causes[:cut])
    second.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(first.snapshot())))
    assert begun + outcomes(second, *causes[cut:]) == whole
