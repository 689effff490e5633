"""The one durable write: a file is either as it was or as it shall be, whatever fails in between."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from foretail.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class System(Protocol):
    """The calls to the system that durability rests on; the module `os` is one, a test passes one that fails."""

    def open(self, path: str, flags: int, mode: int = ..., /) -> int:
        """As os.open."""

    def close(self, fd: int, /) -> None:
        """As os.close."""

    def write(self, fd: int, data: bytes, /) -> int:
        """As os.write: may write less than asked."""

    def fsync(self, fd: int, /) -> None:
        """As os.fsync."""

    def ftruncate(self, fd: int, length: int, /) -> None:
        """As os.ftruncate."""

    def rename(self, source: str, target: str, /) -> None:
        """As os.rename."""

    def unlink(self, path: str, /) -> None:
        """As os.unlink."""


def write_all(fd: int, data: bytes, system: System = os) -> None:
    """Write every byte or raise OSError; one system call unless the system writes less than asked."""
    view = memoryview(data)
    while view:
        view = view[system.write(fd, bytes(view) if len(view) < len(data) else data) :]


def sync_directory(path: Path, system: System = os) -> None:
    """Make renames and new names in a directory outlast a power failure; OSError if the system cannot."""
    fd = system.open(str(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        system.fsync(fd)
    finally:
        system.close(fd)


def write_durably(path: Path, parts: Sequence[bytes], system: System = os, mode: int = 0o600) -> None:
    """Replace the file by the joined parts: temporary file, fsync, rename, fsync of the directory.

    Raises OSError; then the old file is whole, except that after a failed fsync of the directory the new one is in
    place but a power failure may bring the old one back.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        _write_synced(temporary, parts, system, mode)
        system.rename(str(temporary), str(path))
    except OSError:
        with contextlib.suppress(OSError):
            system.unlink(str(temporary))
        raise
    sync_directory(path.parent, system)


def _write_synced(path: Path, parts: Sequence[bytes], system: System, mode: int) -> None:
    fd = system.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        for part in parts:
            write_all(fd, part, system)
        system.fsync(fd)
    finally:
        system.close(fd)


def locked(directory: Path) -> int:
    """Lock the directory for this process; the lock goes with the descriptor, so a killed agent leaves none."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot use the state directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        raise ConfigError(
            f"another agent uses the state directory {directory}: stop it or give this one another `state`"
        ) from error
    return fd
