"""Labels of many hosts become one file: each cause once, corrections applied, conflicts shown."""

from __future__ import annotations

import msgspec
import pytest

from foretail.schema import Label, TypeName
from foretail_trainer import feedback
from foretail_trainer.cli import main

pytestmark = pytest.mark.trainer

OPEN, READ = TypeName("a" * 16, "opened"), TypeName("b" * 16, "reads <*> rows")


def said(name: str, word: str = "normal", *, cause: str = "c1", when: str = "2026-01-01T00:00:00Z", **more) -> Label:
    fields = {
        "schema": 1, "id": name, "label": word, "reason": "why", "labelled": when, "stream": "s", "bundle": "b:1:x",
        "kind": "line", "fingerprint": cause, "reasons": ("sequence",), "score": 0.6, "types": (OPEN, READ),
        "events": (0, 1), "at": 1,
    }  # fmt: skip
    return Label(**{**fields, **more})


def files(tmp_path, *hosts: list[Label]) -> list[str]:
    paths = []
    for number, labels in enumerate(hosts):
        path = tmp_path / f"host{number}.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in labels))
        paths.append(str(path))
    return paths


def test_the_same_label_of_two_hosts_counts_once(tmp_path):
    """One cause, the same events, the same word; other ids."""
    found = feedback.gather(files(tmp_path, [said("x")], [said("y"), said("x")]))
    assert ([one.id for one in found.labels], found.read, found.repeated) == (["x"], 3, 2)


def test_another_case_of_a_cause_is_kept(tmp_path):
    """It has another past, and teaches it."""
    other = said("y", types=(OPEN, READ, OPEN), events=(0, 0, 1), at=2)
    assert len(feedback.gather(files(tmp_path, [said("x")], [other])).labels) == 2


def test_a_later_label_of_an_id_corrects_the_earlier(tmp_path):
    """In one file: a person may change his mind."""
    found = feedback.gather(files(tmp_path, [said("x"), said("x", "anomaly", when="2026-01-02T00:00:00Z")]))
    assert ([one.label for one in found.labels], found.corrected, found.conflicts) == (["anomaly"], 1, ())


@pytest.mark.parametrize("other", ["x", "y"])
def test_contradicting_hosts_are_a_conflict_and_nothing_is_learned(tmp_path, other):
    """About one id, or about one cause; what is agreed on stays."""
    found = feedback.gather(files(tmp_path, [said("x"), said("z", cause="c2")], [said(other, "anomaly")]))
    assert [one.id for one in found.labels] == ["z"]
    assert [[one.label.label for one in group] for group in found.conflicts] == [["normal", "anomaly"]]


def test_sessions_that_end_alike_are_not_one_cause(tmp_path):
    """Their fingerprint holds the last types only; counts tell them apart."""
    one = said("x", kind="session", at=None, missing={"opened": 1})
    two = said("y", "anomaly", kind="session", at=None, extra={"opened": 2})
    assert not feedback.gather(files(tmp_path, [one], [two])).conflicts


def test_the_command_writes_one_file_and_shows_the_conflicts(tmp_path, capsys):
    """Table on stderr, labels in the file, in order of time; the file can be read again."""
    late, early = said("l", cause="c3", when="2026-03-01T00:00:00Z"), said("e", cause="c4")
    paths = files(tmp_path, [late, said("x")], [early, said("y", "anomaly")])
    assert main(["feedback", *paths, "--out", str(tmp_path / "all.jsonl")]) == 0
    err = capsys.readouterr().err
    assert "reads <*> rows" in err
    assert "1 causes in conflict" in err
    assert [one.id for one in feedback.gather([str(tmp_path / "all.jsonl")]).labels] == ["e", "l"]


def test_another_file_is_refused_by_line(tmp_path, capsys):
    """One sentence."""
    path = tmp_path / "other.jsonl"
    path.write_bytes(msgspec.json.encode(said("x")) + b'\n{"kind":"incident"}\n')
    assert main(["feedback", str(path), "--out", str(tmp_path / "o")]) == 2
    assert "other.jsonl:2 is no label" in capsys.readouterr().err
