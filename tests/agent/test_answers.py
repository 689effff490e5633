import json

from hypothesis import given
from hypothesis import strategies as st

from foretail import verdicts
from foretail.answers import ANSWER_BYTES_MAX, OK, Answers, Confirmations, annotation, line_of, mark
from foretail.verdicts import Expected, Explanation, LineVerdict


def verdict(offset, **fields):
    plain = {
        "id": "a" * 24,
        "stream": "s",
        "bundle": "b 1",
        "source": "stdin",
        "offset": offset,
        "time": 5.0,
        "key": None,
        "type": "3.7",
        "type_id": "0" * 16,
        "template": "x <*>",
        "anomalous": False,
        "score": 0.25,
        "p": 0.5,
        "reasons": (),
    }
    return LineVerdict(**plain | fields)


def test_each_line_has_one_answer_in_order():
    """Verdicts that are missing leave the message unchanged; records that are no lines are no answers."""
    answers = Answers()
    answers.expect(1, [0, 10])
    answers.expect(2, [20])
    answers.add(verdicts.encode(verdict(10)))
    answers.add(b'{"kind":"notice","id":"x","stream":"s","bundle":"b","time":null,"notice":"n","summary":"t"}')
    answers.add(verdicts.encode(verdict(20)))
    assert answers.take(0) == []
    first, second = map(json.loads, answers.take(1))
    assert (first, list(second)) == ({}, ["$!"])
    assert answers.waiting
    (last,) = answers.take(2)
    assert json.loads(last)["$!"]["foretail"]["type"] == "3.7"
    assert not answers.waiting


def test_an_answer_tells_the_verdict():
    """Under $!foretail, with what was expected when the line is anomalous."""
    explanation = Explanation(line="x y", bits=12.5, rank=9, expected=(Expected("1.1", "a <*>", 0.9),))
    found = json.loads(annotation(verdict(0, anomalous=True, reasons=("sequence",), explanation=explanation)))
    assert found == {
        "$!": {
            "foretail": {
                "id": "a" * 24,
                "anomalous": True,
                "score": 0.25,
                "p": 0.5,
                "type": "3.7",
                "type_id": "0" * 16,
                "template": "x <*>",
                "key": None,
                "reasons": ["sequence"],
                "bundle": "b 1",
                "bits": 12.5,
                "expected": ["a <*>"],
            }
        }
    }


@given(st.text(max_size=100), st.integers(1, 200))
def test_an_answer_is_one_short_line(text, repeat):
    """Below the limit, valid UTF-8, no line feed, whatever the template and key."""
    answer = annotation(verdict(0, template=text * repeat, key=text * repeat))
    assert len(answer) <= ANSWER_BYTES_MAX
    assert b"\n" not in answer
    json.loads(answer.decode())


def test_every_line_is_confirmed_once():
    """OKs come with the ticket of their batch."""
    confirmations = Confirmations()
    confirmations.expect(1, 2)
    confirmations.expect(2, 1)
    assert confirmations.take(1) == [OK, OK]
    assert confirmations.take(1) == []
    assert confirmations.take(2) == [OK]
    assert not confirmations.waiting


def test_only_the_first_line_after_a_restart_can_be_a_repeat():
    """It is one when it equals the last confirmed line; equal lines later are lines."""
    known = ["some chunk", mark(b"a"), mark(b"b")]
    assert Confirmations(known).repeated([b"b"])
    assert not Confirmations(known).repeated([b"a"])
    assert not Confirmations([*known, "some chunk"]).repeated([b"b"])
    assert not Confirmations().repeated([b"b"])
    confirmations = Confirmations(known)
    assert confirmations.repeated([b"b", b"c"])
    assert not confirmations.repeated([b"b"])


def test_a_full_message_becomes_the_line_of_the_log_file():
    """As RSYSLOG_FileFormat writes it; anything else stays as it is."""
    message = {"msg": " a\nb", "syslogtag": "x[1]:", "timereported": "2026-11-21T09:00:00+00:00", "hostname": "h"}
    assert line_of(json.dumps(message | {"pri": "13"}).encode()) == b"2026-11-21T09:00:00+00:00 h x[1]: a b"
    assert line_of(json.dumps(message | {"msg": "a"}).encode()) == b"2026-11-21T09:00:00+00:00 h x[1]: a"
    for raw in (b'{"level":"info"}', b"{ no json", b"<13>Nov 21 09:00:00 h x: m", b"", b"{\xff}"):
        assert line_of(raw) == raw
