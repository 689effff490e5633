"""Bundles on disk: what is refused, and that the sentence says why."""

from __future__ import annotations

import io
import tarfile

import msgspec
import pytest

from foretail import bundle as bundles
from foretail.errors import ConfigError
from foretail.schema import Format, KeyRule, Manifest, Pattern, Patterns, Training


def manifest(**changes) -> Manifest:
    plain = Manifest(
        schema=1,
        name="web",
        version=1,
        created="2026-01-01T00:00:00Z",
        trainer="0.1.0",
        agent_min="0.1.0",
        files={},
        format=Format(),
        key=KeyRule(),
        idle_s=60.0,
        training=Training(digest="0" * 64, lines=10, sessions=1),
    )
    return msgspec.structs.replace(plain, **changes)


def files() -> dict[str, bytes]:
    pattern = Pattern(0, 0, "0" * 16, "up <*>", r"up (\S+)", 0)
    return {"patterns.json": msgspec.json.encode(Patterns(1, (pattern,))), "golden.jsonl": b"{}\n"}


@pytest.fixture
def written(tmp_path):
    return bundles.write(tmp_path / "web", manifest(), files())


def test_a_bundle_reads_as_it_was_written_and_its_tar_alike(written, tmp_path):
    """Same digest, patterns and files from the directory and from the tar."""
    tar = tmp_path / "web.tar"
    tar.write_bytes(bundles.pack(written))
    assert bundles.read(tar).digest == written.digest == bundles.read(tmp_path / "web").digest
    assert bundles.read(tar).patterns == written.patterns
    assert bundles.pack(written) == bundles.pack(written)


@pytest.mark.parametrize("name", ["manifest.json", "patterns.json", "golden.jsonl"])
@pytest.mark.parametrize("bit", [0x01, 0x80])
def test_a_flipped_bit_anywhere_in_any_file_is_refused(written, name, bit):
    """The error names the file, also when what is left would still parse."""
    path = written.path / name
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        raw = bytearray(whole)
        raw[place] ^= bit
        path.write_bytes(raw)
        with pytest.raises(ConfigError, match=rf"{name}|schema"):
            bundles.read(written.path)


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path):
    """Before anything else of it is read."""
    with pytest.raises(ConfigError, match=r"schema 2.*update the agent"):
        bundles.write(tmp_path / "web", manifest(schema=2), files())


def test_a_bundle_for_a_newer_agent_is_refused(tmp_path):
    """agent_min is compared by numbers, not by text."""
    with pytest.raises(ConfigError, match=r"needs agent 0\.10\.0"):
        bundles.write(tmp_path / "web", manifest(agent_min="0.10.0"), files())


def test_a_file_too_many_or_too_few_is_refused(written):
    """Only what the manifest names may be there, and all of it."""
    (written.path / "extra.json").write_bytes(b"{}")
    with pytest.raises(ConfigError, match=r"extra\.json is not named"):
        bundles.read(written.path)
    (written.path / "extra.json").unlink()
    (written.path / "golden.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"golden\.jsonl is missing"):
        bundles.read(written.path)


def test_missing_and_foreign_places_give_one_sentence(tmp_path):
    """No bundle, an empty directory, a file that is no tar, a directory of something else."""
    with pytest.raises(ConfigError, match="there is no bundle at"):
        bundles.read(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"is no bundle: it has no manifest\.json"):
        bundles.read(tmp_path / "empty")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ConfigError, match="neither a bundle directory nor its tar"):
        bundles.read(tmp_path / "text")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"diary\.txt"):
        bundles.write(tmp_path / "home", manifest(), files())
    assert (tmp_path / "home" / "diary.txt").exists()


def _tar(path, members):
    with tarfile.open(path, "w") as tar:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return path


def member(name, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "members",
    [
        [(member("../manifest.json"), b"{}")],
        [(member("/etc/passwd"), b"x")],
        [(member("manifest.json", tarfile.SYMTYPE, "/etc/passwd"), b"")],
        [(member("manifest.json", tarfile.LNKTYPE, "patterns.json"), b"")],
        [(member("manifest.json"), b"{}"), (member("manifest.json"), b"{}")],
        [(member("run.py"), b"print()")],
        [(member("state.pickle"), b"x")],
    ],
    ids=["traversal", "absolute", "symlink", "hardlink", "twice", "code", "pickle"],
)
def test_a_hostile_tar_is_refused_in_memory(tmp_path, members):
    """Nothing of it is ever written to a path of its choosing."""
    with pytest.raises(ConfigError):
        bundles.read(_tar(tmp_path / "hostile.tar", members))


def test_a_tar_that_claims_a_huge_member_is_refused(tmp_path):
    """By its declared size, before it is read."""
    info = member("manifest.json")
    info.size = 1 << 40
    (tmp_path / "huge.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT if info.size < 1 << 33 else tarfile.GNU_FORMAT))
    with pytest.raises(ConfigError, match=r"more than 64 or|neither"):
        bundles.read(tmp_path / "huge.tar")


def test_writing_replaces_a_bundle_whole(written):
    """An older bundle in the same place is gone, nothing is left beside it."""
    again = bundles.write(written.path, manifest(version=2), files())
    assert again.manifest.version == 2
    assert [entry.name for entry in written.path.parent.iterdir()] == ["web"]
