"""The publisher: what a repository holds, who can sign it, and what is refused."""

from __future__ import annotations

import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tuf.api.metadata import Metadata

from foretail import bundle as bundles
from foretail_trainer.cli import main

pytestmark = pytest.mark.trainer

BUNDLE = Path(__file__).resolve().parents[1] / "golden" / "bundle"


class Shop:
    """A repository and its keys in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repo, self.keys = folder, folder / "repo", folder / "keys"

    def run(self, *arguments: object) -> int:
        return main([*map(str, arguments), "--repo", str(self.repo), "--keys", str(self.keys)])

    def metadata(self, name: str) -> Metadata:
        return Metadata.from_bytes((self.repo / "metadata" / name).read_bytes())

    def newest(self, role: str) -> Metadata:
        return self.metadata(max(p.name for p in (self.repo / "metadata").glob(f"*.{role}.json")))

    def bundle(self, version: int, name: str = "golden") -> Path:
        old = bundles.read(BUNDLE)
        manifest = msgspec.structs.replace(old.manifest, version=version, name=name)
        return bundles.write(self.folder / f"{name}-{version}", manifest, old.files).path


@pytest.fixture
def shop(tmp_path):
    made = Shop(tmp_path)
    assert made.run("keys", "new") == 0
    return made


def days(metadata: Metadata) -> float:
    return (metadata.signed.expires - datetime.now(UTC)) / timedelta(1)


def test_keys_are_readable_by_their_owner_alone_and_never_lie_in_what_is_served(shop, capsys):
    """One file a key; a key folder inside the repository is refused."""
    assert sorted(path.name.split("-")[0] for path in shop.keys.iterdir()) == [
        "root",
        "snapshot",
        "targets",
        "timestamp",
    ]
    assert {stat.S_IMODE(path.stat().st_mode) for path in shop.keys.iterdir()} == {0o600}
    assert main(["keys", "new", "--repo", str(shop.folder / "b"), "--keys", str(shop.folder / "b" / "keys")]) == 2
    assert "keep keys elsewhere" in capsys.readouterr().err
    assert not list(shop.repo.rglob("*.pem"))


def test_each_role_expires_as_promised(shop):
    """Timestamp 7 days, snapshot 30, targets and root a year; snapshots are consistent."""
    assert round(days(shop.metadata("timestamp.json"))) == 7
    assert round(days(shop.metadata("1.snapshot.json"))) == 30
    assert round(days(shop.metadata("1.targets.json"))) == 365
    assert round(days(shop.metadata("1.root.json"))) == 365
    assert shop.metadata("1.root.json").signed.consistent_snapshot


def test_a_published_bundle_is_a_target_and_its_channel_points_to_it(shop):
    """NAME/CHANNEL/latest.json and the tar, both signed."""
    assert shop.run("publish", BUNDLE) == 0
    targets = shop.metadata("2.targets.json").signed.targets
    assert sorted(targets) == ["golden/1-047e4cadab1b.tar", "golden/stable/latest.json"]
    tar = next(shop.repo.glob("targets/golden/*.tar"))
    assert tar.name.split(".")[0] == targets["golden/1-047e4cadab1b.tar"].hashes["sha256"]
    assert bundles.read(tar).digest == bundles.read(BUNDLE).digest


def test_a_bundle_with_any_other_file_is_refused(shop, capsys):
    """A training log that slipped in never leaves."""
    copy = shop.folder / "copy"
    shutil.copytree(BUNDLE, copy)
    (copy / "suspects.jsonl").write_text("{}")
    assert shop.run("publish", copy) == 2
    assert "suspects.jsonl is not named in its manifest" in capsys.readouterr().err
    assert shop.metadata("timestamp.json").signed.version == 1


def test_a_bundle_that_does_not_give_its_golden_results_is_refused(shop, capsys):
    """The publisher checks all that an agent checks."""
    old = bundles.read(BUNDLE)
    golden = old.files["golden.jsonl"].replace(b'"nats":', b'"nats":9')
    bundles.write(shop.folder / "wrong", old.manifest, {**old.files, "golden.jsonl": golden})
    assert shop.run("publish", shop.folder / "wrong") == 2
    assert "golden window" in capsys.readouterr().err


def test_a_version_never_goes_back(shop, capsys):
    """Lower or equal with other content: refused; equal content may enter another channel."""
    assert shop.run("publish", shop.bundle(5), "--channel", "canary") == 0
    assert shop.run("publish", shop.bundle(4)) == 2
    assert "has version 5 here, this bundle has 4" in capsys.readouterr().err
    assert shop.run("publish", shop.bundle(5)) == 0


def test_revert_offers_older_content_under_a_higher_version(shop):
    """Hosts that never go back take it as the next version."""
    for version in (1, 2):
        assert shop.run("publish", shop.bundle(version)) == 0
    assert shop.run("publish", "--revert", "1") == 0
    tars = {int(path.name.split(".")[1].split("-")[0]): bundles.read(path) for path in shop.repo.rglob("*.tar")}
    assert sorted(tars) == [1, 2, 3]
    assert tars[3].files == tars[1].files


def test_a_refresh_needs_the_online_keys_alone(shop):
    """The timer's host holds neither root nor targets keys; only the timestamp is written anew."""
    online = shop.folder / "online"
    online.mkdir()
    for role in ("snapshot", "timestamp"):
        for path in shop.keys.glob(f"{role}-*"):
            path.rename(online / path.name)
    before = sorted(path.name for path in shop.repo.rglob("*.json"))
    assert main(["publish", "--refresh", "--repo", str(shop.repo), "--keys", str(online)]) == 0
    assert shop.metadata("timestamp.json").signed.version == 2
    assert sorted(path.name for path in shop.repo.rglob("*.json")) == before


def test_too_few_keys_write_nothing(tmp_path, capsys):
    """A threshold of two is two: with one key at hand nothing changes."""
    shop = Shop(tmp_path)
    assert shop.run("keys", "new", "--targets-keys", "2/2") == 0
    next(shop.keys.glob("targets-*")).unlink()
    before = {path: path.read_bytes() for path in (shop.repo / "metadata").iterdir()}
    assert shop.run("publish", BUNDLE) == 2
    assert "targets must be signed by 2 of its keys, 1 are in" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (shop.repo / "metadata").iterdir()} == before


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_rotation_leaves_the_old_keys_worthless(shop, role):
    """The next root names other keys for the role, and is signed by the old and the new root keys."""
    before = shop.metadata("1.root.json").signed
    assert shop.run("keys", "rotate", role) == 0
    after = shop.metadata("2.root.json")
    assert not set(before.roles[role].keyids) & set(after.signed.roles[role].keyids)
    before.verify_delegate("root", after.signed_bytes, after.signatures)
    after.signed.verify_delegate("root", after.signed_bytes, after.signatures)
    assert shop.run("publish", BUNDLE) == 0
    newest = {"root": "2.root.json", "timestamp": "timestamp.json"}
    file = newest.get(role) or max(p.name for p in (shop.repo / "metadata").glob(f"*.{role}.json"))
    metadata = shop.metadata(file)
    after.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    assert len(list(shop.keys.glob("*.retired"))) == 1
