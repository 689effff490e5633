"""Where a file went, and which file is a copy of which: questions to the disk, by content and inode."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from foretail.handles import look, names, open_file
from foretail.identity import BEFORE_BYTES, HEAD_BYTES, family, uncompressed
from foretail.lines import encoding_of

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from foretail.handles import File, Place
    from foretail.identity import Content


_LINE_BYTES_MAX = 16 << 20


def name_of(path: str) -> str:
    """Give the last part of a path."""
    return os.path.basename(path)  # noqa: PTH119 - strings throughout, Path objects cost more than the system calls


def folder_of(path: str) -> str:
    """Give a path without its last part."""
    return os.path.dirname(path)  # noqa: PTH120


def original(path: str) -> str:
    """Give the path that a rotated file had first: `/var/log/app.log` for `/var/log/app.log.2.gz`."""
    return os.path.join(folder_of(path), family(name_of(path)))  # noqa: PTH118


def real(path: str) -> str:
    """Give the path of the file itself, behind symbolic links."""
    return os.path.realpath(path)


class Folders:
    """What folders hold, each listed once: for the questions of one look."""

    def __init__(self) -> None:
        self._names: dict[str, dict[int, str]] = {}
        self._kin: dict[str, dict[str, list[str]]] = {}

    def by_inode(self, place: Place, real_path: str) -> str | None:
        """Find the present name of a file in the folder it was in."""
        folder = folder_of(real_path)
        name = self.names(folder).get(place.inode)
        path = os.path.join(folder, name) if name else ""  # noqa: PTH118
        found = look(path) if path else None
        return path if found and found.place == place else None

    def siblings(self, real_path: str) -> list[str]:
        """List the files beside this one that rotation may have made of it; compressed ones last."""
        folder, name = os.path.split(real_path)
        if folder not in self._kin:
            self._kin[folder] = {}
            for other in self.names(folder).values():
                self._kin[folder].setdefault(family(other), []).append(other)
        found = [other for other in self._kin[folder].get(family(name), ()) if other != name]
        return [os.path.join(folder, other) for other in sorted(found, key=_plain_first)]  # noqa: PTH118

    def names(self, folder: str) -> dict[int, str]:
        """Give the name of each inode in a folder; nothing if it cannot be read."""
        if folder not in self._names:
            self._names[folder] = {inode: name for name, inode in names(folder)}
        return self._names[folder]


def _plain_first(name: str) -> tuple[bool, str]:
    return uncompressed(name) != name, name


def has_successor(path: str) -> bool:
    """Say whether a log of the family's plain name stands beside a file: then this one is a rotated one."""
    original = os.path.join(folder_of(path), family(name_of(path)))  # noqa: PTH118
    return original != path and look(original) is not None


def open_first(paths: list[str], taken: Container[Place], wanted: Callable[[File], bool]) -> tuple[File, str] | None:
    """Open the first regular file that is not taken and is the wanted one; unreadable and torn ones are passed over."""
    for path in paths:
        found = look(path)
        if found is None or not found.regular or found.place in taken:
            continue
        try:
            file = open_file(path)
        except OSError:
            continue
        try:
            right = wanted(file) and file.look().regular
        except OSError:
            right = False
        if right:
            return file, path
        file.close()
    return None


def begins(part: Content, size: int, whole: Content) -> bool:
    """Say whether the first `size` bytes of two files are equal, judged by their head and their last bytes."""
    head, last = min(size, HEAD_BYTES), min(size, BEFORE_BYTES)
    return part.read_at(0, head) == whole.read_at(0, head) and (
        part.read_at(size - last, last) == whole.read_at(size - last, last)
    )


def line_start(file: Content, size: int) -> int:
    """Give the offset of the line that holds the byte before `size`; `size` if that byte ends it.

    Also `size` if the line began more than 16 MiB before, or the file is UTF-16 (then between two units).
    """
    if encoding_of(file.read_at(0, 2)) != "bytes":
        return size & -2
    place = size
    while place > 0:
        start = max(0, place - 65_536)
        if size - start > _LINE_BYTES_MAX:
            return size
        found = file.read_at(start, place - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        place = start
    return 0
