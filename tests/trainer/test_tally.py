from __future__ import annotations

import pytest

from foretail_trainer.tally import Arrival, Explanation, Incident, Tally, concerns, tally
from foretail_trainer.workload import Fault

pytestmark = pytest.mark.trainer

CUT = Fault(1, "cut short", "upload", "req-00112233aabb", 100.0, 7, "a req-00112233aabb line", "")
LOOSE = Fault(2, "never seen", "", "", 200.0, 9, "two leaders", "")


def incident(number: int, key: str | None = None, line: str | None = None) -> Incident:
    return Incident(str(number), "summary", key=key, explanation=Explanation(line))


def test_an_incident_of_the_faulty_request_catches_it():
    """The first one counts, with the time from the write to its arrival."""
    result = tally(
        [CUT], {1: 100.01}, [Arrival(102.01, incident(1, CUT.session)), Arrival(103.0, incident(2, CUT.session))], 10
    )
    assert result.outcomes[0].incident == incident(1, CUT.session)
    assert result.outcomes[0].ms == pytest.approx(2000)
    assert (result.caught, result.again, result.false) == (1, 1, ())


def test_a_fault_of_no_request_is_known_by_its_line():
    """Nothing else names it."""
    result = tally([CUT, LOOSE], {}, [Arrival(200.5, incident(1, None, LOOSE.text))], 10)
    assert [outcome.incident is not None for outcome in result.outcomes] == [False, True]


def test_what_concerns_no_fault_is_false():
    """And is counted per 10,000 lines."""
    result = tally([CUT], {}, [Arrival(1.0, incident(1, "req-ffffffffffff", "other"))], 5000)
    assert len(result.false) == 1
    assert result.false_rate == 2.0


def test_the_closing_record_of_an_incident_counts_once():
    """An incident is sent when it opens and again when it closes."""
    result = tally([CUT], {}, [Arrival(1.0, incident(1, "other-key")), Arrival(2.0, incident(1, "other-key"))], 10)
    assert len(result.false) == 1


@pytest.mark.parametrize(
    ("key", "expected"), [(CUT.session, True), ("00112233aabb", True), ("aabb", False), ("", False), ("req-1", False)]
)
def test_a_key_may_be_the_id_without_its_prefix(key: str, expected: bool):
    """Whatever part of the id key discovery took, if it is long enough to name one request."""
    assert concerns(incident(1, key), CUT) is expected


def test_a_late_line_of_the_request_names_it_too():
    """An incident under another key, such as a thread, shows the line."""
    assert concerns(incident(1, "worker-3", f"x {CUT.session} y"), CUT)


def test_nine_of_ten_with_one_false_in_ten_thousand_lines_holds():
    """And neither less nor nothing at all does."""
    outcomes = tally([CUT], {}, [Arrival(1.0, incident(1, CUT.session))], 1).outcomes
    missed = tally([CUT], {}, [], 1).outcomes
    false = (Arrival(1.0, incident(3)),)
    assert Tally(outcomes * 9 + missed, false, 0, 10_000).holds
    assert not Tally(outcomes * 8 + missed * 2, false, 0, 10_000).holds
    assert not Tally(outcomes * 10, false * 2, 0, 10_000).holds
    assert not Tally((), (), 0, 10_000).holds
