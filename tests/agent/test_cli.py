"""Commands as a person types them: bad input gets one sentence, exit code 2 and no traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from foretail.cli import main

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
BUNDLE = str(GOLDEN / "bundle")
LOG = GOLDEN / "storage.log"


def refused(capsys, *argv: str) -> str:
    """The sentence with which a command ends; it is one, with exit code 2."""
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("foretail: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def inputs(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / name for name in ("missing.log", "folder", "empty.log", "binary.log", "short.gz")}
    made["folder"].mkdir()
    made["empty.log"].touch()
    made["binary.log"].write_bytes(bytes(range(256)) * 40 + b"\0" * 9000)
    made["short.gz"].write_bytes(b"\x1f\x8b\x08\x00torn")
    return made


@pytest.mark.parametrize("command", ["match", "score", "backtest"])
@pytest.mark.parametrize("name", ["missing.log", "folder", "empty.log", "binary.log", "short.gz"])
def test_an_input_that_is_no_log_is_refused_by_name(capsys, tmp_path, command, name):
    """Missing, a directory, empty, binary, damaged."""
    path = inputs(tmp_path)[name]
    assert str(path) in refused(capsys, command, "--bundle", BUNDLE, str(path))


def test_a_log_of_one_line_is_scored(capsys, tmp_path):
    """It is little, but it is a log."""
    one = tmp_path / "one.log"
    one.write_bytes(LOG.read_bytes().split(b"\n")[0])
    assert main(["score", "--bundle", BUNDLE, "--emit", "lines", str(one)]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["offset"] == 0


@pytest.mark.parametrize("name", sorted(path.name for path in Path(BUNDLE).iterdir()))
def test_a_bundle_with_one_flipped_byte_is_refused(capsys, tmp_path, name):
    """In any of its files."""
    shutil.copytree(BUNDLE, tmp_path / "bundle")
    path = tmp_path / "bundle" / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 1
    path.write_bytes(raw)
    for command in (["score", "--bundle", str(tmp_path / "bundle"), str(LOG)], ["bundle", "verify", str(path.parent)]):
        assert name in refused(capsys, *command)


def test_a_bundle_that_is_none_is_refused(capsys, tmp_path):
    """A missing path, and a folder of something else."""
    assert "there is no bundle" in refused(capsys, "score", "--bundle", str(tmp_path / "x"), str(LOG))
    assert "is no bundle" in refused(capsys, "score", "--bundle", str(tmp_path), str(LOG))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[agent]\nspeed = 3\n", "speed"),
        ('[[stream]]\nname = "a"\nbundle = "b"\ninclude = ["c"]\nemit = "everything"\n', "incidents"),
        ("[[stream]\n", "TOML"),
        ("", "stream"),
    ],
    ids=["unknown key", "unknown value", "no toml", "nothing"],
)
def test_a_configuration_error_names_the_key_and_what_is_allowed(capsys, tmp_path, text, words):
    """Before anything is opened."""
    path = tmp_path / "agent.toml"
    path.write_text(text)
    for command in ("run", "check"):
        sentence = refused(capsys, command, "-c", str(path))
        assert words in sentence
        assert str(path) in sentence


def test_check_refuses_what_run_would_refuse(capsys, tmp_path):
    """A session key that is no regex is found when the stream is made, not when the agent starts."""
    path = tmp_path / "agent.toml"
    stream = f'[[stream]]\nname = "a"\ninclude = ["{LOG}"]\nbundle = "{BUNDLE}"\nkey = "("\n'
    path.write_text(f'[agent]\nstate_dir = "{tmp_path}"\n{stream}[[sink]]\nname = "o"\ntype = "stdout"\n')
    assert "pattern of the session key" in refused(capsys, "check", "-c", str(path))


@pytest.mark.parametrize(
    "argv",
    [
        ["score", "--bundle", BUNDLE, "--emit", "everything", str(LOG)],
        ["score"],
        ["fly"],
        ["backtest", "--bundle", BUNDLE, "--since", "yesterday", str(LOG)],
        [],
    ],
)
def test_a_wrong_option_shows_the_usage_and_exits_with_2(capsys, argv):
    """Argparse's own sentence, on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: foretail" in capsys.readouterr().err


def test_score_needs_a_file_or_sequences(capsys):
    """Either, not both and not neither."""
    assert "name at least one log file" in refused(capsys, "score", "--bundle", BUNDLE)
    both = ["score", "--bundle", BUNDLE, "--sequences", "x", str(LOG)]
    assert "not both" in refused(capsys, *both)


def test_fail_on_anomaly_exits_with_1_only_when_there_is_one(capsys, tmp_path):
    """Documented: 1 = found."""
    assert main(["score", "--bundle", BUNDLE, "--fail-on-anomaly", str(LOG)]) == 1
    calm = tmp_path / "calm.log"
    calm.write_bytes(b"\n".join(LOG.read_bytes().split(b"\n")[:20]))
    assert main(["score", "--bundle", BUNDLE, "--fail-on-anomaly", str(calm)]) == 0
    capsys.readouterr()


def test_match_gives_a_type_for_every_line(capsys):
    """`{"line": n, "type": "c.p", "template": "..."}`, in order."""
    assert main(["match", "--bundle", BUNDLE, str(LOG)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["line"] for row in rows] == list(range(1, len(LOG.read_bytes().splitlines()) + 1))
    assert {tuple(sorted(row)) for row in rows} == {("line", "template", "type")}
    assert sum(row["type"] == "0" for row in rows) < 10


def test_a_reader_that_goes_away_ends_score_quietly():
    """EPIPE is no error of ours."""
    command = f"{sys.executable} -m foretail score --bundle {BUNDLE} --emit lines {LOG} | head -1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


def test_backtest_shows_days_incidents_and_what_the_bundle_promises(capsys):
    """A table for people: on stdout, aligned."""
    assert main(["backtest", "--bundle", BUNDLE, str(LOG)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("day (UTC)")
    assert "promises" in out
    assert "2026-01-01" in out


def test_bundle_show_and_verify(capsys):
    """What it holds; and that it is whole."""
    assert main(["bundle", "show", BUNDLE]) == 0
    assert main(["bundle", "verify", BUNDLE]) == 0
    assert "golden results agree" in capsys.readouterr().out


def test_rotations_are_read_as_one_log_oldest_first(capsys, tmp_path):
    """x.log.2.gz, x.log.1, x.log: sessions go on over their borders."""
    raw = LOG.read_bytes().splitlines(keepends=True)
    import gzip  # noqa: PLC0415 - only here

    (tmp_path / "x.log.2.gz").write_bytes(gzip.compress(b"".join(raw[:300])))
    (tmp_path / "x.log.1").write_bytes(b"".join(raw[300:700]))
    (tmp_path / "x.log").write_bytes(b"".join(raw[700:]))
    paths = [str(tmp_path / name) for name in ("x.log", "x.log.1", "x.log.2.gz")]
    assert main(["score", "--bundle", BUNDLE, "--emit", "sessions", "--close-all", *paths]) == 0
    parts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main(["score", "--bundle", BUNDLE, "--emit", "sessions", "--close-all", str(LOG)]) == 0
    whole = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["session"], r["score"], r["events"]) for r in parts] == [
        (r["session"], r["score"], r["events"]) for r in whole
    ]


def test_score_starts_quickly_and_stays_small():
    """Importing the command brings no trainer library (the figures themselves are benchmarks)."""
    code = (
        "import sys; from foretail.cli import main; "
        f"main(['score', '--bundle', {BUNDLE!r}, {str(LOG)!r}]); "
        "heavy = {'tensorflow', 'sklearn', 'matplotlib', 'rich', 'scipy', 'watchdog'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ), check=False
    )
    assert done.returncode == 0, done.stderr
