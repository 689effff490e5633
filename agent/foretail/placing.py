"""After a restart: which file each cursor belongs to now."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

from foretail.identity import Match, compare
from foretail.search import Folders, folder_of, open_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from foretail.handles import File, Look, Place
    from foretail.identity import Cursor


def place(cursors: list[Cursor], listed: Mapping[str, Look], folders: Folders) -> Iterator[tuple[Cursor, File, str]]:
    """Give each cursor whose file is found, with the open file and its path; each file once.

    First all files that kept their inode and hold what was read; then those that hold at least 1 KiB of it at the
    same path (a restored backup, a new device); then rotated copies, also compressed ones, beside that path; last
    those that were empty, by inode alone. Device numbers decide nothing: they change over reboots.
    """
    taken: set[Place] = set()
    left = {cursor.id: cursor for cursor in cursors}
    by_inode = _paths_by_inode(listed)
    for step in (_same_inode, _same_path, _copies, _same_inode_alone):
        waiting = list(left.values())
        for cursor in latest_first(waiting) if step is _same_inode_alone else waiting:
            least, paths = step(cursor, by_inode, folders)
            found = open_first(paths, taken, partial(_holds, cursor, least))
            if found is not None:
                taken.add(found[0].place)
                del left[cursor.id]
                yield cursor, *found


def latest_first(cursors: list[Cursor]) -> list[Cursor]:
    """Order them so that what came after the others in a rotation is asked first what came after it."""
    passed = {cursor.after for cursor in cursors}
    return sorted(cursors, key=lambda cursor: (cursor.id in passed, -cursor.changed_ns))


def _holds(cursor: Cursor, least: Match, file: File) -> bool:
    return compare(cursor, file) >= least


def _paths_by_inode(listed: Mapping[str, Look]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path, seen in listed.items():
        found.setdefault(seen.place.inode, []).append(path)
    return found


def _same_inode(cursor: Cursor, listed: Mapping[int, list[str]], folders: Folders) -> tuple[Match, list[str]]:
    """Look in the globs and in the folders the file was in."""
    paths = set(listed.get(cursor.inode, ()))
    for folder in {folder_of(cursor.path), folder_of(cursor.real_path or cursor.path)}:
        name = folders.names(folder).get(cursor.inode)
        paths |= {os.path.join(folder, name)} if name else set()  # noqa: PTH118
    return Match.WEAK, sorted(paths, key=lambda path: (path != cursor.path, path)) if cursor.inode else []


def _same_inode_alone(cursor: Cursor, listed: Mapping[int, list[str]], folders: Folders) -> tuple[Match, list[str]]:
    return Match.EMPTY, _same_inode(cursor, listed, folders)[1]


def _same_path(cursor: Cursor, _: Mapping[int, list[str]], __: Folders) -> tuple[Match, list[str]]:
    return Match.STRONG, [cursor.path]


def _copies(cursor: Cursor, _: Mapping[int, list[str]], folders: Folders) -> tuple[Match, list[str]]:
    return Match.WEAK, folders.siblings(cursor.real_path or cursor.path)
