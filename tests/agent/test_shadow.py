"""A new bundle beside the one in use, on the last real lines."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from foretail import bundle as bundles
from foretail import shadow
from foretail.errors import ConfigError
from foretail.examination import examined
from foretail.globs import Globs

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
LOG = GOLDEN / "storage.log"
LINES = LOG.read_bytes().splitlines()


def changed(folder: Path, **fields: object) -> bundles.Bundle:
    """The golden bundle with other fields of its calibration."""
    old = bundles.read(GOLDEN / "bundle")
    calibration = msgspec.structs.replace(old.manifest.calibration, **fields)
    manifest = msgspec.structs.replace(old.manifest, version=2, calibration=calibration)
    return bundles.write(folder / "changed", manifest, old.files)


def test_an_equal_bundle_passes():
    """The rule compares; it has no absolute bound."""
    bundle = bundles.read(GOLDEN / "bundle")
    shadow.compare(bundle, bundle, LINES)
    assert shadow.count(bundle, LINES).lines == len(LINES)


def test_many_more_lines_over_the_threshold_are_refused(tmp_path):
    """Five times as many and at least ten."""
    low = changed(tmp_path, threshold=0.01)
    with pytest.raises(ConfigError, match="are over its threshold"):
        shadow.compare(bundles.read(GOLDEN / "bundle"), low, LINES)
    shadow.compare(low, bundles.read(GOLDEN / "bundle"), LINES)


def test_lines_that_only_the_old_one_knew_are_refused(tmp_path):
    """A point more without a type; the examining process says it too."""
    old = bundles.read(GOLDEN / "bundle")
    header = msgspec.structs.replace(old.manifest.format, header=r"(?P<time>\S+) (?P<content>nothing .*)")
    new = bundles.write(tmp_path / "new", msgspec.structs.replace(old.manifest, version=2, format=header), old.files)
    with pytest.raises(ConfigError, match="it knows no type for"):
        shadow.compare(old, new, LINES)


def test_the_examining_process_compares(tmp_path):
    """The bundle in use and the lines are handed to it."""
    low = changed(tmp_path, threshold=0.01)
    assert examined(low.path, "golden").version == 2
    with pytest.raises(ConfigError, match="are over its threshold"):
        examined(low.path, "golden", beside=(GOLDEN / "bundle", LOG))


def test_the_sample_is_the_end_of_the_newest_files_in_whole_lines(tmp_path, monkeypatch):
    """Oldest first, bounded in bytes; a line cut by the bound or not ended yet is left out."""
    monkeypatch.setattr(shadow, "SAMPLE_BYTES", 20)
    for number, (name, text) in enumerate([("a.log", b"1111\n2222\n"), ("b.log", b"aaaa\nbbbb\ncccc\nunended")]):
        (tmp_path / name).write_bytes(text)
        os.utime(tmp_path / name, (1000 + number, 1000 + number))
    assert shadow.sample([Globs([str(tmp_path / "*.log")])]) == b"1111\n2222\nbbbb\ncccc\n"
    assert shadow.sample([Globs([str(tmp_path / "none*")])]) == b""


def test_the_last_lines_of_a_stream_are_held_whole_and_within_a_bound(monkeypatch):
    """Batches leave oldest first; of one that is too large its end stays."""
    monkeypatch.setattr(shadow, "SAMPLE_BYTES", 30)
    recent = shadow.Recent()
    recent.keep("a", [b"first", b"second"])
    recent.keep("b", [b"other"])
    assert recent.told() == {"a": b"first\nsecond\n", "b": b"other\n"}
    recent.keep("a", [b"third" * 4])
    assert recent.told()["a"] == b"third" * 4 + b"\n"
    recent.keep("a", [b"x" * 100, b"the end"])
    assert recent.told()["a"] == b"the end\n"
