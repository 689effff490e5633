"""The reference loop: what people call normal is no longer raised, what they call an anomaly is, the rest stays."""

from __future__ import annotations

import json
import shutil

import msgspec
import pytest
from trainer.jobs import fitted, flagged, jobs, label, normal, options, records

from foretail import bundle as bundles
from foretail.errors import ConfigError
from foretail_trainer import changes, history, refit, report
from foretail_trainer.cli import main

pytestmark = pytest.mark.trainer

READ_ONLY = ["open", "read", "read", "close"]
COMPACTING = ["open", "read", "compact", "write", "close"]
WRONG = ["open", "write", "read", "close"]
DOUBLE = ["open", "read", "write", "write", "close"]
LATER = 500 * 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A bundle of five hundred jobs; two of them wrote twice. And a later log with what was held out."""
    folder = tmp_path_factory.mktemp("loop")
    train = normal(500, 1)
    train[100] = train[300] = DOUBLE
    odd = normal(90, 2)
    odd[0::15] = [READ_ONLY] * 6
    odd[5::15] = [COMPACTING] * 6
    odd[77] = WRONG
    jobs(folder / "train.log", train)
    jobs(folder / "later.log", odd, first=1000, start=LATER)
    fitted(options(folder / "base", files=(str(folder / "train.log"),)))
    return folder


@pytest.fixture(scope="module")
def said(place, tmp_path_factory):
    """One read-only and one compacting job labelled normal, one that wrote twice an anomaly."""
    folder = tmp_path_factory.mktemp("labels")
    rows = {row["key"]: row for row in records(place / "base", place / "later.log", "incidents")}
    first = next(row for key, row in rows.items() if key in {f"job-{1000 + i}" for i in range(0, 90, 15)})
    second = next(row for row in rows.values() if row["type"] == "0")
    label(folder, place / "base", [first, second], "normal")
    twice = [row for row in records(place / "base", place / "train.log", "lines") if row.get("key") == "job-100"]
    return label(folder, place / "base", [twice[3]], "anomaly")


@pytest.fixture(scope="module")
def refitted(place, said):
    """The base and the labels alone."""
    return fitted(options(place / "again", base=str(place / "base"), feedback=(said,)))


def keys(first: int) -> set[str]:
    return {f"job-{1000 + number}" for number in range(first, 90, 15)}


def test_what_was_held_out_is_flagged_before(place):
    """A job that does not write, and one with a message never seen."""
    found = flagged(place / "base", place / "later.log")
    assert keys(0) | keys(5) | {"job-1077"} == found


@pytest.mark.usefixtures("refitted")
def test_one_label_of_a_cause_settles_all_its_cases(place):
    """Of six read-only jobs one was labelled, of six compacting ones one; none of the twelve is flagged now."""
    assert flagged(place / "again", place / "later.log") == {"job-1077"}


@pytest.mark.usefixtures("refitted")
def test_the_old_normal_log_raises_no_more_than_before(place):
    """But for what was called an anomaly."""
    before = flagged(place / "base", place / "train.log")
    assert flagged(place / "again", place / "train.log") <= before | {"job-100", "job-300"}


def test_what_was_called_an_anomaly_is_flagged(place, refitted):
    """Its session, and the one like it, are struck; the base had taken them for normal."""
    assert "job-100" in flagged(place / "again", place / "train.log")
    assert refitted.sessions.weight.sum() == 498


def test_every_label_is_checked(refitted):
    """With its score before and now, in the order of their ids."""
    assert sorted((held.label, held.holds) for held in refitted.changes.labels) == [
        ("anomaly", True),
        ("normal", True),
        ("normal", True),
    ]
    assert all(held.before >= 0.5 > held.score for held in refitted.changes.labels if held.label == "normal")


def test_types_keep_their_ids_and_numbers(place, refitted):
    """The new one comes last."""
    old, new = bundles.read(place / "base"), bundles.read(place / "again")
    assert [one.type_id for one in new.patterns][:-1] == [one.type_id for one in old.patterns]
    assert [one.template for one in refitted.changes.added] == ["job-<*> compacted <*> files into one"]
    assert not new.patterns[-1].rare


@pytest.mark.usefixtures("refitted")
def test_the_refit_keeps_what_the_base_was(place):
    """Name, key, header, network and budget; its version is higher."""
    old, new = bundles.read(place / "base").manifest, bundles.read(place / "again").manifest
    assert (new.name, new.key, new.format, new.idle_s) == (old.name, old.key, old.format, old.idle_s)
    assert (new.sequence.units, new.sequence.window) == (old.sequence.units, old.sequence.window)
    assert new.calibration.alpha == pytest.approx(old.calibration.alpha)
    assert new.version >= old.version


@pytest.mark.usefixtures("refitted")
def test_new_logs_are_learned_with_the_old_ones(place, said):
    """Sessions add up, and a refit of the refit finds the history of both."""
    asked = options(place / "more", base=str(place / "again"), feedback=(said,), files=(str(place / "later.log"),))
    lines = [
        bundles.read(place / "again").manifest.training.lines,
        len((place / "later.log").read_bytes().splitlines()),
    ]
    learned = fitted(asked)
    assert int(learned.sessions.weight.sum()) == 498 + 90
    assert learned.bundle.manifest.training.lines == sum(lines)
    assert not flagged(place / "more", place / "later.log") & (keys(0) | keys(5))
    assert learned.changes.judged.startswith("the last week of the new logs")
    kept = history.read(history.beside(str(place / "more")), bundles.read(place / "more"))
    assert len(kept.sessions.units) == len(kept.share) == 588


def test_changes_are_told(refitted):
    """As a table for people and as JSON."""
    words = [part for part in changes.tables(refitted.changes) if isinstance(part, str)]
    assert any(word.startswith("threshold") for word in words)
    assert json.loads(msgspec.json.encode(refitted.changes))["added"][0]["template"].startswith("job-")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--feedback", "{said}"], "--base"),
        (["--base", "{place}/base", "--feedback", "{said}", "--types", "t"], "--types"),
        (["--base", "{place}/base", "--feedback", "{place}/none.jsonl"], "none.jsonl"),
        (["--base", "{place}/base", "--feedback", "{said}", "--sequences", "s.tsv"], "log files only"),
        (["--base", "{place}/alone", "--feedback", "{said}"], "history.npz is missing"),
    ],
)
def test_what_cannot_be_refitted_is_one_sentence(place, said, capsys, tmp_path, arguments, word):
    """No base, no history, another kind of input."""
    shutil.copytree(place / "base", place / "alone", dirs_exist_ok=True)
    given = [part.format(said=said, place=place) for part in arguments]
    assert main(["fit", *given, "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert word in err
    assert "Traceback" not in err


def test_a_history_of_another_bundle_is_refused(place, refitted):
    """What lies beside a bundle must be its own."""
    with pytest.raises(ConfigError, match="is not of"):
        history.read(history.beside(str(place / "base")), refitted.bundle)


def test_the_command_does_it_all(place, said, capsys, monkeypatch):
    """Bundle, report, history and changes.json; what changed is printed."""
    monkeypatch.setattr(refit, "STEPS_SHARE", 0.1)  # the command trains as long as a bundle deserves
    out = place / "command"
    assert main(["fit", "--base", str(place / "base"), "--feedback", said, "--out", str(out)]) == 0
    printed = capsys.readouterr().err
    assert "threshold" in printed
    assert "score before" in printed
    beside = history.beside(str(out))
    assert len(json.loads((beside / "changes.json").read_bytes())["labels"]) == 3
    assert history.read(beside, bundles.read(out)).lines == bundles.read(out).manifest.training.lines
    assert len(report.read(beside).types) == len(bundles.read(out).patterns)
