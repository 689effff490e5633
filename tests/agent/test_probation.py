"""A new bundle under which the agent dies again and again gives way to the one before."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from foretail import bundle as bundles
from foretail.activation import Shelf
from foretail.config import build
from foretail.probation import STARTS_MAX, Probation

BUNDLE = Path(__file__).resolve().parents[1] / "golden" / "bundle"


@pytest.fixture
def place(tmp_path):
    """Version 1, then version 2, which is on probation."""
    old = bundles.read(BUNDLE)
    shelf = Shelf(tmp_path / "bundles" / "golden")
    with shelf.locked():
        shelf.activate(old)
        manifest = msgspec.structs.replace(old.manifest, version=2)
        shelf.activate(bundles.write(tmp_path / "two", manifest, old.files))
    stream = {"name": "s", "include": ["/none"], "bundle": str(shelf.place / "current")}
    config = build({"agent": {"state_dir": str(tmp_path)}, "stream": [stream]}, "test")
    return shelf, config


def starts(config, number: int) -> None:
    """So many starts that end in a crash: nobody says that the bundle has passed."""
    for _ in range(number):
        probation = Probation(config)
        probation.begin()
        probation._timer.cancel()


def test_after_as_many_crashes_the_next_start_is_on_the_bundle_before(place):
    """It is barred, so that the next pull does not bring it back."""
    shelf, config = place
    starts(config, STARTS_MAX)
    assert shelf.current.startswith("2-")
    starts(config, 1)
    assert shelf.current.startswith("1-")
    assert len(shelf.standing.barred) == 1
    assert shelf.standing.floor == 2


def test_a_clean_stop_ends_the_count(place):
    """Restarts by hand are no crashes."""
    shelf, config = place
    for _ in range(3 * STARTS_MAX):
        probation = Probation(config)
        probation.begin()
        probation.end()
    assert shelf.current.startswith("2-")
    assert shelf.standing.starts == 0


def test_a_bundle_that_has_passed_is_not_rolled_back(place):
    """Crashes later on have other causes."""
    shelf, config = place
    starts(config, 1)
    Probation(config).passed()
    starts(config, 3 * STARTS_MAX)
    assert shelf.current.startswith("2-")


def test_streams_on_other_bundles_are_left_alone(tmp_path):
    """A bundle outside the state directory has no standing."""
    config = build(
        {"agent": {"state_dir": str(tmp_path)}, "stream": [{"name": "s", "include": ["/x"], "bundle": "b"}]}, ""
    )
    starts(config, 5)
    assert list(tmp_path.iterdir()) == []
