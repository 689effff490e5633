"""Which paths a stream means: include and exclude patterns, and never the agent's own output."""

from __future__ import annotations

import glob
import os.path
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from foretail.identity import family

if TYPE_CHECKING:
    from collections.abc import Sequence


class Globs:
    """The paths that include patterns name and exclude patterns do not; `**` stands for any folders.

    Args:
        include: glob patterns; relative ones are made absolute now.
        exclude: the same; one without a slash is matched against the file name alone, one that begins with `**`
            anywhere.
        own: files the agent writes: they, and rotations of them, are never listed.
    """

    def __init__(self, include: Sequence[str], exclude: Sequence[str] = (), own: Sequence[str] = ()) -> None:
        self._include = [os.path.abspath(pattern) for pattern in include]  # noqa: PTH100 - a pattern, not a path
        self._exclude = [pattern if _floating(pattern) else os.path.abspath(pattern) for pattern in exclude]  # noqa: PTH100
        self._own = {_kin(os.path.realpath(path)) for path in own}

    def paths(self) -> list[str]:
        """List them, sorted, each once."""
        found = {path for pattern in self._include for path in glob.iglob(pattern, recursive=True)}  # noqa: PTH207
        folders: dict[str, str] = {}
        return sorted(path for path in found if not self._left_out(path, folders))

    def roots(self) -> list[str]:
        """List the folders before the patterns' first wildcard; they may not exist yet."""
        return sorted({_fixed_part(pattern) for pattern in self._include})

    def _left_out(self, path: str, folders: dict[str, str]) -> bool:
        for pattern in self._exclude:
            if _expression(pattern).fullmatch(path if "/" in pattern else os.path.basename(path)):  # noqa: PTH119
                return True
        return bool(self._own) and _kin(_real(path, folders)) in self._own


def _floating(pattern: str) -> bool:
    return "/" not in pattern or pattern.startswith("**")


def _real(path: str, folders: dict[str, str]) -> str:
    """The path behind links; each folder is asked for once: it is done for every file at every listing."""
    if os.path.islink(path):  # noqa: PTH114
        return os.path.realpath(path)
    folder, name = os.path.split(path)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)  # noqa: PTH118


def _kin(path: str) -> tuple[str, str]:
    folder, name = os.path.split(path)
    return folder, family(name)


def _fixed_part(pattern: str) -> str:
    folder = os.path.dirname(pattern)  # noqa: PTH120
    while glob.has_magic(folder):
        folder = os.path.dirname(folder)  # noqa: PTH120
    return folder


@lru_cache(maxsize=256)
def _expression(pattern: str) -> re.Pattern[str]:
    """Translate a glob pattern: `*` and `?` stop at a slash, which fnmatch's do not."""
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", pattern)
    return re.compile("".join(_PIECES.get(part) or _literal(part) for part in parts), re.DOTALL)


_PIECES = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _literal(part: str) -> str:
    if len(part) > 2 and part[0] == "[" and part[-1] == "]":
        negated = part[1] == "!"
        inside = "".join(one if one == "-" else re.escape(one) for one in part[1 + negated : -1])
        return f"[{'^' * negated}{inside}]"
    return re.escape(part)
