"""Pure: how a bundle is named in a repository; what publisher and agent must agree on (DESIGN §7)."""

from __future__ import annotations

import re

import msgspec

from foretail.errors import ConfigError

RELEASE_BYTES_MAX = 4096
"""A release file is a few hundred bytes."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_NAME_MAX = 64


class Release(msgspec.Struct, frozen=True):
    """`NAME/CHANNEL/latest.json`: which bundle a channel offers.

    Attributes:
        name, channel: as in its path.
        version, digest: of the bundle's manifest.
        target: path of the bundle's tar in the repository.
        sha256: of the tar.
        bytes: of the tar.
    """

    name: str
    channel: str
    version: int
    digest: str
    target: str
    sha256: str
    bytes: int


def checked(name: str, what: str = "name") -> str:
    """A name that can be part of a path and of a URL as it is; ConfigError otherwise."""
    if len(name) > _NAME_MAX or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{what} {name[:80]!r} cannot be published: use at most {_NAME_MAX} letters, digits, dots, - and _"
        )
    return name


def latest(name: str, channel: str) -> str:
    """Target path of a channel's release file."""
    return f"{name}/{channel}/latest.json"


def tar(name: str, version: int, digest: str) -> str:
    """Target path of a bundle's tar."""
    return f"{name}/{folder(version, digest)}.tar"


def folder(version: int, digest: str) -> str:
    """What a bundle's own folder is called on a host."""
    return f"{version}-{digest[:12]}"


def decode(data: bytes, name: str, channel: str) -> Release:
    """The release in signed bytes; ConfigError if it is not one of this name and channel."""
    try:
        release = msgspec.json.decode(data, type=Release)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{latest(name, channel)} is damaged ({error}); the publisher must publish again") from error
    if (release.name, release.channel) != (name, channel):
        raise ConfigError(f"{latest(name, channel)} is a release of {release.name[:80]!r}, {release.channel[:80]!r}")
    if release.version < 1 or not re.fullmatch(r"[0-9a-f]{64}", release.digest):
        raise ConfigError(f"{latest(name, channel)} has no proper version and digest; the publisher must publish again")
    if release.target != tar(name, release.version, release.digest):
        raise ConfigError(f"{latest(name, channel)} points to {release.target[:80]!r}, which is no place of its bundle")
    return release
