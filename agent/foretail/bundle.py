"""A bundle on disk: read, verify, write (DESIGN §7). The trainer writes what the agent reads.

Everything in a bundle is data: JSON and `.npy` arrays without pickle, and `.tflite` models that the agent checks
before it runs them. A bundle is known by the sha256 of its manifest, which holds the sha256 of all else.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from foretail import __version__
from foretail.errors import ConfigError
from foretail.schema import SCHEMA, FileEntry, Manifest, Pattern, Patterns

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from numpy.typing import NDArray

MANIFEST, PATTERNS, GOLDEN = "manifest.json", "patterns.json", "golden.jsonl"
BUNDLE_BYTES_MAX = 64 << 20
"""A bundle is a few hundred kilobytes; more is a mistake or an attack."""
FILES_MAX = 64
NAME = re.compile(r"[a-z][a-z0-9_]{0,31}(\.[a-z0-9_]{1,31}){1,3}")
SUFFIXES = (".json", ".jsonl", ".tflite", ".npy")

_SEAL_END = b'"\n}'

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose hashes and schema are right.

    Attributes:
        path: where it was read from, for messages.
        manifest: what it says of itself.
        patterns: all types, by rank.
        files: name to content of every other file.
        digest: sha256 of the manifest, hex.
        raw: the manifest's bytes.
    """

    path: Path
    manifest: Manifest
    patterns: tuple[Pattern, ...]
    files: Mapping[str, bytes] = field(repr=False)
    digest: str
    raw: bytes = field(default=b"", repr=False)

    @property
    def label(self) -> str:
        """`name:version:digest`, as verdicts carry it."""
        return f"{self.manifest.name}:{self.manifest.version}:{self.digest[:12]}"

    def array(self, name: str) -> NDArray[np.generic]:
        """The array in `name`; ConfigError when it is absent or no plain array."""
        try:
            return np.asarray(np.load(io.BytesIO(self.files[name]), allow_pickle=False))
        except (KeyError, ValueError, EOFError, OSError) as error:
            raise ConfigError(f"bundle {self.path}: {name} is no readable array; fetch the bundle again") from error


def read(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle directory or its `.tar`.

    Raises:
        ConfigError: missing, of a newer schema, too large, a file with another hash, one too many or too few.
    """
    where = Path(path)
    content = _tar(where) if where.is_file() else _directory(where)
    if MANIFEST not in content:
        raise ConfigError(f"{where} is no bundle: it has no {MANIFEST}; make one with `foretail-train fit`")
    raw = content.pop(MANIFEST)
    manifest = _manifest(where, raw)
    _check_files(where, manifest, content)
    patterns = _decode(where, PATTERNS, content[PATTERNS], Patterns)
    ranks = [pattern.rank for pattern in patterns.patterns]
    if ranks != list(range(len(ranks))):
        raise ConfigError(f"bundle {where}: {PATTERNS} is not in order of rank; make the bundle again")
    sequence = manifest.sequence
    if sequence and sequence.types != tuple(pattern.type_id for pattern in patterns.patterns):
        raise ConfigError(f"bundle {where}: model and patterns name different types; make the bundle again")
    return Bundle(where, manifest, patterns.patterns, content, hashlib.sha256(raw).hexdigest(), raw)


def write(directory: str | os.PathLike[str], manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle whole: beside its place first, then renamed into it; an older bundle there is replaced.

    Args:
        directory: where the bundle shall be.
        manifest: its `files` are filled in here.
        files: name to content of every other file.
    """
    place = Path(directory)
    entries = {name: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())}
    raw = _sealed(msgspec.structs.replace(manifest, files=entries))
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
    except OSError as error:
        raise ConfigError(f"cannot write a bundle to {place}: {error.strerror}") from error
    try:
        for name, data in {**files, MANIFEST: raw}.items():
            (draft / name).write_bytes(data)
        draft.chmod(0o755)
        if place.exists():
            _check_names(place, [entry.name for entry in place.iterdir()], 0)
            old = draft.with_name(draft.name + ".old")
            place.rename(old)
            draft.rename(place)
            shutil.rmtree(old)
        else:
            draft.rename(place)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return read(place)


def pack(bundle: Bundle) -> bytes:
    """The bundle as a `.tar`, the same bytes for the same bundle."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in sorted({**bundle.files, MANIFEST: bundle.raw}.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _sealed(manifest: Manifest) -> bytes:
    """The manifest as it is written: its last field is the sha256 of all bytes before that field's value."""
    plain = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(manifest, sha256="")), indent=1)
    body = plain.removesuffix(_SEAL_END)
    return body + hashlib.sha256(body).hexdigest().encode() + _SEAL_END


def _manifest(where: Path, raw: bytes) -> Manifest:
    """The manifest; a newer schema or agent is refused before anything else is read of it."""
    try:
        schema = msgspec.json.decode(raw, type=dict).get("schema")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"bundle {where}: {MANIFEST} is damaged ({error}); fetch the bundle again") from error
    body, seal = raw[: -64 - len(_SEAL_END)], raw[-64 - len(_SEAL_END) :]
    if seal != hashlib.sha256(body).hexdigest().encode() + _SEAL_END:
        raise ConfigError(f"bundle {where}: {MANIFEST} was changed after it was written; fetch the bundle again")
    if not isinstance(schema, int):
        raise ConfigError(f"bundle {where}: {MANIFEST} has no schema number; make the bundle again")
    if schema > SCHEMA:
        raise ConfigError(f"bundle {where} has schema {schema}, this agent reads up to {SCHEMA}; update the agent")
    manifest = _decode(where, MANIFEST, raw, Manifest)
    if _version(manifest.agent_min) > _version(__version__):
        raise ConfigError(f"bundle {where} needs agent {manifest.agent_min}, this is {__version__}; update the agent")
    return manifest


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def _check_files(where: Path, manifest: Manifest, content: Mapping[str, bytes]) -> None:
    for name in sorted(content.keys() | manifest.files.keys() | {PATTERNS}):
        entry, data = manifest.files.get(name), content.get(name)
        if data is None:
            raise ConfigError(f"bundle {where}: {name} is missing; fetch the bundle again")
        if entry is None:
            raise ConfigError(
                f"bundle {where}: {name} is not named in its manifest; remove it or fetch the bundle again"
            )
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise ConfigError(f"bundle {where}: {name} does not have the hash of its manifest; fetch the bundle again")


def _decode(where: Path, name: str, raw: bytes, kind: type[Record]) -> Record:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"bundle {where}: {name} is damaged ({error}); fetch the bundle again") from error


def _directory(where: Path) -> dict[str, bytes]:
    try:
        entries = sorted(where.resolve().iterdir())  # a link may be moved to another bundle meanwhile
        sizes = sum(entry.stat().st_size for entry in entries)
        _check_names(where, [entry.name for entry in entries], sizes)
        if odd := [entry.name for entry in entries if entry.is_symlink() or not entry.is_file()]:
            raise ConfigError(f"bundle {where}: {odd[0]} is no plain file; fetch the bundle again")
        return {entry.name: entry.read_bytes() for entry in entries}
    except FileNotFoundError as error:
        raise ConfigError(f"there is no bundle at {where}; make one with `foretail-train fit`") from error
    except OSError as error:
        raise ConfigError(f"cannot read bundle {where}: {error.strerror}") from error


def _tar(where: Path) -> dict[str, bytes]:
    """The members of a tar, in memory: no path of it ever touches the disk."""
    content: dict[str, bytes] = {}
    try:
        if where.stat().st_size > BUNDLE_BYTES_MAX:
            raise ConfigError(f"{where} is larger than {BUNDLE_BYTES_MAX} bytes, too large for a bundle")
        with tarfile.open(where, "r:") as tar:
            for info in tar:
                if not info.isreg() or info.name in content:
                    raise ConfigError(
                        f"{where}: member {info.name!r} is no plain file or comes twice; a bundle is the files alone: "
                        "cd BUNDLE && tar cf ../bundle.tar *"
                    )
                _check_names(where, [*content, info.name], sum(map(len, content.values())) + info.size)
                data = tar.extractfile(info)
                content[info.name] = data.read(info.size) if data else b""
    except tarfile.TarError as error:
        raise ConfigError(f"{where} is neither a bundle directory nor its tar: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read bundle {where}: {error.strerror}") from error
    return content


def _check_names(where: Path, names: list[str], size: int) -> None:
    for name in names:
        if not NAME.fullmatch(name) or not name.endswith(SUFFIXES):
            raise ConfigError(
                f"bundle {where} holds {name!r}, which no bundle has; remove it or fetch the bundle again"
            )
    if size > BUNDLE_BYTES_MAX or len(names) > FILES_MAX:
        raise ConfigError(
            f"bundle {where} has {len(names)} files of {size} bytes, more than {FILES_MAX} or {BUNDLE_BYTES_MAX}"
        )
