"""`foretail-train fit` on input and options that cannot be: one sentence, exit code 2, and soon."""

import random

import pytest

from foretail_trainer.cli import main

pytestmark = pytest.mark.trainer


def log(path, lines):
    """A log of a few messages."""
    chance = random.Random(0)
    rows = [f"worker {chance.randrange(9)} took job {number}" for number in range(lines)]
    stamps = [f"2026-01-05T08:{number // 60 % 60:02}:{number % 60:02}Z" for number in range(lines)]
    path.write_text("".join(f"{stamp} INFO {row}\n" for stamp, row in zip(stamps, rows, strict=True)))
    return str(path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hosts", "-1"], "--hosts takes 0 to"),
        (["--dropout", "3"], "--dropout takes 0 to 0.9"),
        (["--false-alert-rate", "2"], "--false-alert-rate takes"),
        (["--version-number", "-3"], "--version-number takes"),
        (["--window", "0"], "--window takes 1 to 128"),
        (["--name", "../evil"], "--name '../evil'"),
        (["--idle", "0s"], "--idle takes more than 0 s"),
        (["--label", "x"], "--label belongs to --lines CSV"),
        (["--interval", "5m"], "--interval belongs to --timeseries CSV"),
        (["--cell", "conv"], "--cell conv is for --lines alone"),
        (["--exclude", "nosuch"], "--exclude nosuch: there is no such file"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_the_log_is_read(tmp_path, capsys, options, said):
    """Also with `--types-only`, which uses few of them."""
    for more in ([], ["--types-only"]):
        assert main(["fit", log(tmp_path / "a.log", 40), "--out", str(tmp_path / "b"), *options, *more]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("lines", [25, 60, 300])
def test_a_log_that_is_too_short_for_a_model_is_told_so(tmp_path, capsys, lines):
    """Nothing is fitted first; the sentence says how much is needed."""
    out = ["--out", str(tmp_path / "b"), "--key", "none"]
    assert main(["fit", log(tmp_path / "a.log", lines), *out, "--detectors", "sequence"]) == 2
    error = capsys.readouterr().err
    assert "at least 5 full blocks of 100 lines" in error
    assert "Traceback" not in error


def test_one_huge_line_does_not_take_long(tmp_path):
    """A key is looked for in the first kilobytes of a message; pytest's own limit of time is the bound."""
    path = tmp_path / "a.log"
    log(path, 300)
    with path.open("a") as file:
        file.write("2026-01-05T09:00:00Z INFO " + "x9 " * 200_000 + "\n")
    assert main(["fit", str(path), "--out", str(tmp_path / "b"), "--types-only"]) == 0
