"""What stands apart in the training log is listed once for each kind, and struck with its kind."""

import msgspec
import numpy as np
import pytest
from trainer.bigrams import V, fitter, service, timed, untimed

from foretail.errors import ConfigError
from foretail_trainer.calibrate import calibrate
from foretail_trainer.crossfit import cross_fit, deal
from foretail_trainer.sequences import sessions
from foretail_trainer.suspects import SUSPECTS_MAX, struck, suspects, without

pytestmark = pytest.mark.trainer
NAMES = ["(start)", "(end)", "(unknown)", "a", "b", "c", "d", "e", "f"]


def listed(found):
    held = cross_fit(found, deal(found), fitter, window=4, vocabulary=V)
    return suspects(found, calibrate(found, held, vocabulary=V), NAMES)


def test_a_fault_that_came_often_is_listed_once_and_early():
    """Twenty sessions cut short in the same way are one suspect, before all varieties of normal."""
    first = listed(timed(service(2000, odd=[[3]] * 20)))[0]
    assert (first.like, first.reason) == (20, "counts")
    assert {"b", "c", "d"} <= set(first.missing)
    assert first.events == ("a",)
    assert first.time == 250.0


def test_a_strange_order_of_normal_counts_is_listed():
    """Counts do not see it; the cross-fit does."""
    found = listed(timed(service(2000, odd=[[5, 4, 3, 6]])))
    assert "k25" in {row.session for row in found if row.reason in {"sequence", "end"}}


def test_the_list_is_short():
    """However strange a log is."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(3, V, rng.integers(1, 12)).tolist() for _ in range(500)]
    found = listed(untimed(rows))
    assert len(found) <= SUSPECTS_MAX
    assert [row.bits for row in found] == sorted((row.bits for row in found), reverse=True)


def test_striking_one_strikes_its_kind():
    """The group goes; everything else stays."""
    found = timed(service(2000, odd=[[3]] * 20))
    left, gone = without(found, {"k25"}, V)
    assert gone == 20
    assert len(left) == len(found) - 20
    assert (left.stops - left.starts).min() > 1 or left.keys[-1] == b"late"


def test_striking_a_session_like_most_strikes_it_alone():
    """A kind that is more than 2 % of the log is not a fault in it."""
    found = timed(service(2000))
    assert without(found, {"k7"}, V)[1] == 1


def test_blocks_have_names_of_their_own():
    """Of an endless session a block can be struck; the rest is joined."""
    ids = np.full(450, 3, np.int32)
    ids[130:140] = 4
    found = sessions(ids, None, np.arange(450.0), vocabulary=V)
    top = listed(found)[0]
    assert top.session == "0#1"
    left, gone = without(found, {"0#1"}, V)
    assert (gone, left.stops.tolist()) == (1, [350])


def test_what_is_written_can_be_struck(tmp_path):
    """Only `session` of a line is needed."""
    path = tmp_path / "suspects.jsonl"
    rows = listed(timed(service(500, odd=[[3]])))
    path.write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows[:2]) + b'\n{"session": "x"}\n')
    assert struck(str(path)) == {rows[0].session, rows[1].session, "x"}


@pytest.mark.parametrize("content", ["no json\n", "[1]\n", '{"key": 1}\n'])
def test_another_file_is_refused(tmp_path, content):
    """One sentence that names the file."""
    path = tmp_path / "suspects.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"suspects\.jsonl"):
        struck(str(path))


def test_a_missing_file_is_one_sentence(tmp_path):
    """Named, with the reason."""
    with pytest.raises(ConfigError, match="No such file"):
        struck(str(tmp_path / "none"))
