"""Signed bundles in a TUF repository: a folder that any web server serves (https://theupdateframework.io, DESIGN §7).

`DIR/metadata` holds what is signed, `DIR/targets` the bundles. Root and targets keys can stay off-line; the keys of
snapshot and timestamp serve `publish --refresh`, which a timer runs. Snapshots are consistent: no file is ever
overwritten but `timestamp.json`, which is written last, so that readers see the old state or the new one.
"""

from __future__ import annotations

import copy
import hashlib
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from foretail import bundle as bundles
from foretail import release
from foretail.durable import write_durably
from foretail.errors import ConfigError
from foretail.examination import examine

try:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp
except ImportError as missing:
    raise ConfigError(
        f"publishing needs {(missing.name or 'tuf').partition('.')[0]}: pip install 'foretail[trainer]'"
    ) from missing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from foretail.bundle import Bundle

Signed = TypeVar("Signed", Root, Targets, Snapshot, Timestamp)

ROLES = ("root", "targets", "snapshot", "timestamp")
LIFE = {"root": timedelta(365), "targets": timedelta(365), "snapshot": timedelta(30), "timestamp": timedelta(7)}
WARN = timedelta(45)
"""So long before their end root and targets are asked to be signed anew."""
VERSIONS_KEPT = 20
"""Bundles of a name that stay in the repository, for `--revert`."""


class Repository:
    """A repository folder and the private keys at hand.

    Raises:
        ConfigError: the folder holds no repository, or a key cannot be read.
    """

    def __init__(self, folder: Path, key_folders: Sequence[Path]) -> None:
        self.folder = folder
        self._metadata, self._targets = folder / "metadata", folder / "targets"
        self._key_folders = key_folders
        self._signers = {signer.public_key.keyid: signer for _, signer in _keys(key_folders)}
        self.notes: list[str] = []
        self._waiting: list[tuple[str, bytes]] = []  # all is signed before anything is written

    def begin(self, quorums: dict[str, tuple[int, int]], key_folder: Path) -> None:
        """Make keys and the first metadata. `quorums`: of each role, how many keys must sign, and of how many."""
        if self._metadata.exists():
            raise ConfigError(f"{self.folder} already holds a repository; `keys rotate` replaces its keys")
        root = Root(expires=_expiry("root"), consistent_snapshot=True)
        for role, (threshold, count) in quorums.items():
            for _ in range(count):
                root.add_key(self._made(key_folder, role).public_key, role)
            root.roles[role].threshold = threshold
        self.root = Metadata(root)
        self.targets = Metadata(Targets(expires=_expiry("targets")))
        self.snapshot = Metadata(Snapshot(expires=_expiry("snapshot")))
        self.timestamp = Metadata(Timestamp(expires=_expiry("timestamp")))
        for folder in (self._targets, self._metadata):
            folder.mkdir(parents=True, exist_ok=True)
        for metadata in (self.targets, self.snapshot, self.timestamp):
            metadata.signed.version = 0
        self._write("1.root.json", self._signed(self.root, "root"))
        self.commit()

    def load(self) -> Repository:
        """Read the present state, from the newest root and the timestamp on; each file must be signed as root says."""
        roots = [int(path.name.split(".")[0]) for path in self._metadata.glob("*.root.json")]
        if not roots:
            raise ConfigError(f"{self.folder} holds no repository; begin one with `foretail-train keys new`")
        self.root = self._read(f"{max(roots)}.root.json", Root, "root")
        self.timestamp = self._read("timestamp.json", Timestamp, "timestamp")
        number = self.timestamp.signed.snapshot_meta.version
        self.snapshot = self._read(f"{number}.snapshot.json", Snapshot, "snapshot")
        number = self.snapshot.signed.meta["targets.json"].version
        self.targets = self._read(f"{number}.targets.json", Targets, "targets")
        return self

    def commit(self, *, targets: bool = True, snapshot: bool = True) -> None:
        """Sign what changed under the next versions and write it, timestamp last."""
        if targets:
            raw = self._next(self.targets, "targets")
            self.snapshot.signed.meta["targets.json"] = _meta(self.targets.signed.version, raw)
        if targets or snapshot:
            raw = self._next(self.snapshot, "snapshot")
            self.timestamp.signed.snapshot_meta = _meta(self.snapshot.signed.version, raw)
        self._next(self.timestamp, "timestamp")
        for name, raw in self._waiting:
            write_durably(self._metadata / name, [raw], mode=0o644)
        self._waiting.clear()
        for role, metadata in (("root", self.root), ("targets", self.targets)):
            left = metadata.signed.expires - datetime.now(UTC)
            if left < WARN:
                how = "keys rotate root" if role == "root" else "publish"
                self.notes.append(f"{role} metadata expires in {left.days} days: sign it anew with `{how}`")

    def add(self, bundle: Bundle, channel: str) -> release.Release:
        """Put a bundle into a channel; its version must be higher than any the channel's name has had."""
        name, version = release.checked(bundle.manifest.name), bundle.manifest.version
        release.checked(channel, "channel")
        newest = max(self.versions(name), default=0)
        offered = self.offered(name, channel)
        if offered and offered.digest == bundle.digest:
            raise ConfigError(f"{name} {version} is what channel {channel} offers already")
        same = version == newest and release.tar(name, version, bundle.digest) in self.targets.signed.targets
        if version < newest or (version == newest and not same):
            raise ConfigError(
                f"{name} has version {newest} here, this bundle has {version}; make it again with --version-number"
            )
        tar = bundles.pack(bundle)
        made = release.Release(
            name,
            channel,
            version,
            bundle.digest,
            release.tar(name, version, bundle.digest),
            hashlib.sha256(tar).hexdigest(),
            len(tar),
        )
        self._put(made.target, tar)
        self._put(release.latest(name, channel), msgspec.json.format(msgspec.json.encode(made), indent=1))
        self._forget(name)
        return made

    def offered(self, name: str, channel: str) -> release.Release | None:
        """What a channel offers now."""
        path = release.latest(name, channel)
        return release.decode(self.content(path), name, channel) if path in self.targets.signed.targets else None

    def versions(self, name: str) -> dict[int, str]:
        """Version to target path of the bundles of a name."""
        found = [path for path in self.targets.signed.targets if path.endswith(".tar") and path.startswith(f"{name}/")]
        return {int(path.rpartition("/")[2].split("-")[0]): path for path in sorted(found)}

    def names(self) -> list[str]:
        """Names of all bundles."""
        return sorted({path.split("/")[0] for path in self.targets.signed.targets})

    def content(self, path: str) -> bytes:
        """The bytes of a target; ConfigError if they are not what was signed."""
        target = self.targets.signed.targets[path]
        file = self._targets / _hashed(path, target.hashes["sha256"])
        try:
            data = file.read_bytes()
            target.verify_length_and_hashes(data)
        except (OSError, RepositoryError) as error:
            raise ConfigError(f"{file} cannot be used: {error}") from error
        return data

    def rotate(self, role: str, key_folder: Path) -> None:
        """Replace all keys of a role by new ones; root is signed by its old and its new keys."""
        old_root, before = self.root.signed, self.root.signed.roles[role]
        fresh = [self._made(key_folder, role) for _ in before.keyids]
        root = copy.deepcopy(old_root)
        for keyid in list(before.keyids):
            root.revoke_key(keyid, role)
        for signer in fresh:
            root.add_key(signer.public_key, role)
        root.version, root.expires = old_root.version + 1, _expiry("root")
        self.root = Metadata(root)
        raw = self._signed(
            self.root, "root", also=old_root.roles["root"].keyids, least=old_root.roles["root"].threshold
        )
        self._write(f"{root.version}.root.json", raw)
        # readers that already have the new root must find the role signed by its new keys
        self.commit(targets=role == "targets", snapshot=role in ("targets", "snapshot"))
        for path, signer in _keys(self._key_folders):
            if signer.public_key.keyid in before.keyids:
                path.rename(path.with_suffix(".retired"))

    def _forget(self, name: str) -> None:
        """Drop the oldest bundles of a name that no channel offers."""
        listed = self.targets.signed.targets
        latest = [path for path in listed if path.startswith(f"{name}/") and path.endswith("/latest.json")]
        offered = {msgspec.json.decode(self.content(path), type=release.Release).target for path in latest}
        for _, path in sorted(self.versions(name).items())[:-VERSIONS_KEPT]:
            if path not in offered:
                del listed[path]

    def _put(self, path: str, data: bytes) -> None:
        target = TargetFile.from_data(path, data, ["sha256"])
        file = self._targets / _hashed(path, target.hashes["sha256"])
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, [data], mode=0o644)
        self.targets.signed.targets[path] = target

    def _next(self, metadata: Metadata[Signed], role: str) -> bytes:
        metadata.signed.version += 1
        metadata.signed.expires = _expiry(role)
        raw = self._signed(metadata, role)
        self._write("timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json", raw)
        return raw

    def _signed(self, metadata: Metadata[Signed], role: str, *, also: Sequence[str] = (), least: int = 0) -> bytes:
        """Sign with every key of the role that is at hand; ConfigError when they are too few."""
        wanted: Role = self.root.signed.roles[role]
        for keyids, threshold in ((wanted.keyids, wanted.threshold), (also, least)):
            here = len(set(keyids) & self._signers.keys())
            if here < threshold:
                places = " ".join(map(str, self._key_folders))
                raise ConfigError(
                    f"{role} must be signed by {threshold} of its keys, {here} are in {places}; name the others' "
                    "folder with another --keys"
                )
        metadata.signatures.clear()
        for keyid in sorted({*wanted.keyids, *also} & self._signers.keys()):
            metadata.sign(self._signers[keyid], append=True)
        return metadata.to_bytes()

    def _read(self, name: str, kind: type[Signed], role: str) -> Metadata[Signed]:
        try:
            metadata: Metadata[Signed] = Metadata.from_bytes((self._metadata / name).read_bytes())
            if not isinstance(metadata.signed, kind):
                raise ConfigError(f"{self._metadata / name} is no {role} metadata; restore it from a backup")
            holder = metadata.signed if isinstance(metadata.signed, Root) else self.root.signed
            holder.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except (OSError, RepositoryError) as error:
            raise ConfigError(f"{self._metadata / name} cannot be used: {error}; restore it from a backup") from error
        return metadata

    def _write(self, name: str, raw: bytes) -> None:
        self._waiting.append((name, raw))

    def _made(self, folder: Path, role: str) -> CryptoSigner:
        """A new key in a file that only its owner can read."""
        signer = CryptoSigner.generate_ed25519()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(folder / f"{role}-{signer.public_key.keyid[:8]}.pem", [signer.private_bytes], mode=0o600)
        self._signers[signer.public_key.keyid] = signer
        return signer


def publish(options: argparse.Namespace) -> int:
    """`foretail-train publish`: a bundle, an older one again, or fresh signatures on what is there."""
    if sum([bool(options.bundle), options.refresh, options.revert is not None]) != 1:
        raise ConfigError("give one of BUNDLE, --refresh and --revert N")
    repository = Repository(Path(options.repo), _folders(options)).load()
    if options.refresh:
        half = repository.snapshot.signed.expires - LIFE["snapshot"] / 2 < datetime.now(UTC)
        repository.commit(targets=False, snapshot=half)
        words = f"timestamp {repository.timestamp.signed.version} is good until {repository.timestamp.signed.expires}"
    else:
        with tempfile.TemporaryDirectory() as folder:
            bundle = _reissued(repository, options, Path(folder)) if options.revert else _whole(options.bundle)
            made = repository.add(bundle, options.channel)
        repository.commit()
        words = f"{made.name} {made.version} is in channel {made.channel}: {made.target}, {made.bytes:,} bytes"
    _say(words, repository.notes)
    return 0


def keys_new(options: argparse.Namespace) -> int:
    """`foretail-train keys new`: keys, and an empty repository that trusts them."""
    folders = _folders(options)
    repository = Repository(Path(options.repo), folders)
    quorums = {"root": options.root_keys, "targets": options.targets_keys, "snapshot": (1, 1), "timestamp": (1, 1)}
    repository.begin(quorums, folders[0])
    first = Path(options.repo) / "metadata" / "1.root.json"
    words = f"keys are in {folders[0]}: move root-*.pem off this machine; hosts take `foretail bundle trust {first}`"
    _say(words, repository.notes)
    return 0


def keys_rotate(options: argparse.Namespace) -> int:
    """`foretail-train keys rotate`: new keys for a role; the old ones are worth nothing from then on."""
    folders = _folders(options)
    repository = Repository(Path(options.repo), folders).load()
    repository.rotate(options.role, folders[0])
    _say(f"{options.role} has new keys since root {repository.root.signed.version}", repository.notes)
    return 0


def _whole(path: str) -> Bundle:
    """A bundle directory that passes all that an agent would check, and holds no other file."""
    where = Path(path)
    if not where.is_dir():
        raise ConfigError(f"{where} is no directory; publish takes the one that `fit --out` wrote")
    return examine(where, bundles.read(where).manifest.name)


def _reissued(repository: Repository, options: argparse.Namespace, folder: Path) -> Bundle:
    """The content of an older version under the next version."""
    names = repository.names()
    name = options.name or (names[0] if len(names) == 1 else "")
    if name not in names:
        raise ConfigError(f"name the bundle with --name; the repository has {', '.join(names) or 'none'}")
    versions = repository.versions(name)
    if options.revert not in versions:
        raise ConfigError(f"{name} has no version {options.revert} here; there are {', '.join(map(str, versions))}")
    tar = folder / "old.tar"
    tar.write_bytes(repository.content(versions[options.revert]))
    old = bundles.read(tar)
    version = max(max(versions) + 1, int(time.time()) if max(versions) > 1_000_000_000 else 0)
    return bundles.write(folder / name, msgspec.structs.replace(old.manifest, version=version), old.files)


def _keys(folders: Sequence[Path]) -> list[tuple[Path, CryptoSigner]]:
    """All private keys in these folders."""
    found = []
    for path in sorted(path for folder in folders if folder.is_dir() for path in folder.glob("*.pem")):
        try:
            found.append((path, CryptoSigner(load_pem_private_key(path.read_bytes(), None))))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} is no readable private key: {error}") from error
    return found


def _folders(options: argparse.Namespace) -> list[Path]:
    """The key folders; private keys must never lie in what is served."""
    folders = [Path(folder) for folder in options.keys]
    for folder in folders:
        if folder.resolve().is_relative_to(Path(options.repo).resolve()):
            raise ConfigError(f"{folder} lies in the repository, which is public; keep keys elsewhere")
    return folders


def _hashed(path: str, sha256: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/{sha256}.{name}"


def _meta(version: int, raw: bytes) -> MetaFile:
    return MetaFile.from_data(version, raw, ["sha256"])


def _expiry(role: str) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + LIFE[role]


def _say(words: str, notes: list[str]) -> None:
    for line in (words, *(f"note: {note}" for note in notes)):
        print(line)
