"""Fetches signed bundles: the TUF client with limits on bytes and time. The only door to tuf (DESIGN §7).

What a repository says counts only if it is signed as the pinned root demands, is not expired, and is not older than
what this host has seen. Local metadata is a cache: unreadable, it is made anew from the pinned root, and the versions
in the state directory stay the floor.
"""

from __future__ import annotations

import hashlib
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from foretail import release
from foretail.durable import write_durably
from foretail.errors import ConfigError, StreamError
from foretail.wire import CutError, Wire

try:
    from tuf.api import exceptions as tuf
    from tuf.api.metadata import Metadata, Root
    from tuf.ngclient import Updater, UpdaterConfig
    from tuf.ngclient.fetcher import FetcherInterface
except ImportError as missing:
    raise ConfigError(
        f"updates need {(missing.name or 'tuf').partition('.')[0]}: pip install 'foretail[update]'"
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from foretail.release import Release

ROOT_BYTES_MAX = 512_000
ROLES = ("timestamp", "snapshot", "targets")
CAPS = UpdaterConfig(
    max_root_rotations=256,
    max_delegations=0,
    root_max_length=ROOT_BYTES_MAX,
    timestamp_max_length=16 << 10,
    snapshot_max_length=256 << 10,
    targets_max_length=4 << 20,
)


class Seen(msgspec.Struct, frozen=True):
    """The newest metadata of a role this host has accepted, and the keys that signed for the role then."""

    version: int
    keys: tuple[str, ...]


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one look at a repository.

    Attributes:
        timeout_s: for connecting and between two bytes.
        whole_s: for all of it.
        bytes_max: of a bundle's tar.
    """

    timeout_s: float = 30.0
    whole_s: float = 300.0
    bytes_max: int = 64 << 20


class _Fetcher(FetcherInterface):
    """The wire as tuf wants it."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            status, chunks = self._wire.get(url)
            if status >= 400:
                raise tuf.DownloadHTTPError(f"{url} answers {status}", status)
            yield from chunks
        except CutError as error:
            raise tuf.SlowRetrievalError(str(error)) from error
        except OSError as error:
            raise tuf.DownloadError(f"{url}: {error}") from error


class Repository:
    """A repository as it is now, verified.

    Args:
        url: http://, https:// or file:// of the folder that holds `metadata` and `targets`.
        trust: folder of the pinned `root.json` and of local metadata.
        floor: file that keeps the versions seen.
        wire: what is fetched through.
        limits: of bytes.

    Raises:
        ConfigError: it is refused, in one sentence.
        StreamError: it cannot be reached.
    """

    def __init__(self, url: str, trust: Path, floor: Path, wire: Wire, limits: Limits) -> None:
        self.url, self._limits = url.rstrip("/"), limits
        self._floor, self._pinned = floor, pinned(trust)
        identity = hashlib.sha256(self._pinned).hexdigest()[:12]
        self._identity, self._cache = identity, trust / f"metadata-{identity}"
        with self._sentences():
            self._updater = self._refreshed(_Fetcher(wire))
        self._hold()

    def release(self, name: str, channel: str, into: Path) -> Release:
        """What a channel offers."""
        path = release.latest(name, channel)
        data = self._target(path, release.RELEASE_BYTES_MAX, into / "latest.json").read_bytes()
        return release.decode(data, name, channel)

    def tar(self, offered: Release, into: Path) -> Path:
        """The bundle's tar in the folder `into`."""
        path = self._target(offered.target, self._limits.bytes_max, into / "bundle.tar")
        if hashlib.sha256(path.read_bytes()).hexdigest() != offered.sha256:
            raise ConfigError(f"{self.url} is refused: {offered.target} is not the bundle that its release names")
        return path

    def _target(self, path: str, bytes_max: int, into: Path) -> Path:
        with self._sentences():
            info = self._updater.get_targetinfo(path)
            if info is None:
                raise ConfigError(f"{self.url} has no {path}; publish it, or check the name and the channel")
            if info.length > bytes_max:
                raise ConfigError(f"{self.url}: {path} has {info.length} bytes, more than {bytes_max} are not fetched")
            self._updater.download_target(info, str(into))
        return into

    def _refreshed(self, fetcher: _Fetcher) -> Updater:
        try:
            return self._looked(fetcher)
        except OSError:
            shutil.rmtree(self._cache, ignore_errors=True)
            self._cache.unlink(missing_ok=True)
            return self._looked(fetcher)

    def _looked(self, fetcher: _Fetcher) -> Updater:
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        updater = Updater(
            str(self._cache),
            f"{self.url}/metadata",
            target_base_url=f"{self.url}/targets",
            fetcher=fetcher,
            config=CAPS,
            bootstrap=self._pinned,
        )
        updater.refresh()
        return updater

    def _hold(self) -> None:
        """Compare with the floor and raise it; a role whose keys were replaced begins a new floor (TUF 5.3.11)."""
        root = _metadata(self._cache / "root.json").signed
        seen = {"root": Seen(root.version, ())}
        for role in ROLES:
            keys = tuple(sorted(root.roles[role].keyids))
            seen[role] = Seen(_metadata(self._cache / f"{role}.json").signed.version, keys)
        floors = self._floors()
        for role, floor in floors.get(self._identity, {}).items():
            now = seen.get(role, floor)
            if now.keys == floor.keys and now.version < floor.version:
                raise ConfigError(
                    f"{self.url} is refused: its {role} metadata has version {now.version}, this host has seen "
                    f"{floor.version}; somebody may be holding newer ones back"
                )
        if floors.get(self._identity) != seen:
            floors[self._identity] = seen
            try:
                self._floor.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                write_durably(self._floor, [msgspec.json.encode(floors)])
            except OSError as error:
                raise ConfigError(f"cannot write {self._floor}: {error.strerror}; run as the agent's user") from error

    def _floors(self) -> dict[str, dict[str, Seen]]:
        try:
            return msgspec.json.decode(self._floor.read_bytes(), type=dict[str, dict[str, Seen]])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self._floor} cannot be read ({error}); remove it to forget versions seen") from error

    @contextmanager
    def _sentences(self) -> Iterator[None]:
        """Errors of tuf in the words of this program."""
        try:
            yield
        except tuf.SlowRetrievalError as error:
            raise StreamError(f"{self.url} is too slow: {error}; the bundle in use stays") from error
        except tuf.DownloadLengthMismatchError as error:
            raise ConfigError(f"{self.url} is refused: it sends more than was announced ({error})") from error
        except tuf.DownloadError as error:
            raise StreamError(f"{self.url} cannot be read: {error}; the bundle in use stays") from error
        except tuf.ExpiredMetadataError as error:
            raise ConfigError(
                f"{self.url} is refused: {error}; run `foretail-train publish --refresh` there, or find out who holds "
                "newer metadata back"
            ) from error
        except tuf.RepositoryError as error:
            raise ConfigError(f"{self.url} is refused: {str(error) or type(error).__name__}") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"metadata of {self.url} cannot be kept in {self._cache}: {error}") from error


def trust(path: Path, folder: Path) -> str:
    """Pin a root: the folder's `root.json`; gives a sentence that says what is trusted now.

    Raises:
        ConfigError: the file is no root metadata that signs itself.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(ROOT_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    root = _root(path, raw)
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_durably(folder / "root.json", [raw], mode=0o644)
    except OSError as error:
        raise ConfigError(f"cannot write {folder}: {error.strerror}; run as the agent's user") from error
    needs = ", ".join(
        f"{role} {root.roles[role].threshold}/{len(root.roles[role].keyids)}" for role in ("root", *ROLES)
    )
    return f"root {root.version} is trusted, sha256 {hashlib.sha256(raw).hexdigest()}, keys that must sign: {needs}"


def pinned(folder: Path) -> bytes:
    """The pinned root; ConfigError if there is none or it is damaged."""
    path = folder / "root.json"
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"no root is trusted yet ({path}: {error.strerror}); run `foretail bundle trust ROOT.json`"
        ) from (error)
    _root(path, raw)
    return raw


def _root(path: Path, raw: bytes) -> Root:
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(raw[:ROOT_BYTES_MAX])
        if not isinstance(metadata.signed, Root):
            raise ConfigError(f"{path} is {metadata.signed.type} metadata, no root; take N.root.json of the repository")
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (tuf.RepositoryError, ValueError) as error:
        raise ConfigError(f"{path} is no valid root metadata: {error}; take N.root.json of the repository") from error
    return metadata.signed


def _metadata(path: Path) -> Metadata[Any]:
    return Metadata.from_bytes(path.read_bytes())
