"""What docs/security.md and docs/updates.md say is what the tests and the code say."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from foretail import config, telemetry

ROOT = Path(__file__).resolve().parents[1]
SECURITY = (ROOT / "docs" / "security.md").read_text()
UPDATES = (ROOT / "docs" / "updates.md").read_text()
CODE = "".join(path.read_text() for path in (ROOT / "agent" / "foretail").glob("*.py"))


def names_in(file: str) -> list[str]:
    """Names of the tests in a file, without `test_`."""
    (path,) = [*ROOT.glob(f"tests/{file}.py"), *ROOT.glob(f"tests/*/{file}.py")]
    return re.findall(r"^def test_(\w+)", path.read_text(), flags=re.MULTILINE)


def claims() -> list[tuple[str, str]]:
    """File and name, or its beginning, of each test that security.md names; without a file: of the one before."""
    found, file = [], ""
    for quoted in re.findall(r"`((?:test_\w+: )?…?[a-z_0-9]+…?)`", " ".join(SECURITY.split())):
        named, _, name = quoted.rpartition(": ")
        file = named or file
        words = name.strip("…")
        if named or (file and words.count("_") > 3):
            found.append((file, words))
    return found


def test_security_names_many_tests():
    """The document is read as it is written."""
    assert len(claims()) > 25


@pytest.mark.parametrize(("file", "name"), claims())
def test_each_claim_of_security_names_a_test_that_exists(file, name):
    """A renamed test must not leave a claim without one."""
    assert [test for test in names_in(file) if name.removeprefix("test_") in test]


def test_each_file_that_security_names_exists():
    """`test_lint` and the like stand for all tests in them."""
    for file in re.findall(r"`(test_\w+)`", SECURITY):
        assert names_in(file), file


def test_each_attack_that_security_names_is_tried():
    """The words in italics are rows of ATTACKS, or the two ends of a row of them."""
    pytest.importorskip("tuf")
    pytest.importorskip("cryptography")
    from attacks import ATTACKS  # noqa: PLC0415 - tuf is optional

    known = [attack.name for attack in ATTACKS]
    table = SECURITY[SECURITY.index("| stolen |") : SECURITY.index("All from the tar on")]
    for name in re.findall(r"\*([a-z][^*]+)\*", " ".join(table.split())):
        assert [attack for attack in known if name in attack or attack.startswith(name.split()[0])], name


def test_every_option_of_updates_is_in_its_table_with_its_default():
    """As the code has it."""
    rows = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", UPDATES, flags=re.MULTILINE))
    defaults = msgspec.to_builtins(config.Update())
    assert rows.keys() == defaults.keys()
    for name, value in defaults.items():
        assert rows[name].strip('"') == str(value)


def test_every_event_and_metric_of_updates_is_in_the_code():
    """Events as they are logged or counted as steps; metrics as they are served."""
    for event in re.findall(r"`((?:bundle|probation|config)\.\w+)`", UPDATES):
        noun, _, verb = event.partition(".")
        assert f'"{event}"' in CODE or (noun == "bundle" and f'steps("{verb}"' in CODE), event
    for metric in re.findall(r"`foretail_(\w+)", UPDATES):
        assert metric in telemetry.METRICS
