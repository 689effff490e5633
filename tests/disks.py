"""A real disk that is as small as one wants, where the system lets us mount one."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BALLAST = "ballast"


class NoDisk(Exception):  # noqa: N818  no error: a container may not mount
    """Why there is none."""


@contextlib.contextmanager
def small(folder: Path, size: int) -> Iterator[Path]:
    """A tmpfs of so many bytes, mounted on a new folder; NoDisk says why it cannot be."""
    folder.mkdir()
    options = ["-o", f"size={size},mode=0755"]
    done = subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise NoDisk(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path, leave: int = 0) -> None:
    """Take all the room there is but `leave` bytes."""
    ballast = folder / BALLAST
    with ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 65536):
            pass
    if leave:
        with ballast.open("r+b") as file:
            file.truncate(max(0, ballast.stat().st_size - leave))


def free(folder: Path) -> None:
    """Give it back."""
    (folder / BALLAST).unlink()
