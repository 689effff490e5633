"""Where received bundles lie, and how one becomes the current one: old or new at every instant, whole (DESIGN §7).

`STATE/bundles/NAME` holds a folder `VERSION-DIGEST` for each bundle, the links `current` and `previous`, and
`standing.json`. A stream says `bundle = "STATE/bundles/NAME/current"`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from foretail import bundle as bundles
from foretail.durable import sync_directory, write_durably
from foretail.errors import ConfigError
from foretail.release import folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from foretail.bundle import Bundle

CURRENT, PREVIOUS, STANDING = "current", "previous", "standing.json"
_DRAFT = ".draft-"
_ENTRY = re.compile(r"(\d+)-([0-9a-f]{12})(\.\d+)?")


class Standing(msgspec.Struct, frozen=True):
    """What outlives the bundles of a name.

    Attributes:
        floor: highest version that was ever active: an older one needs --force.
        barred: digests that were rolled back, first 12 digits: each needs --force.
        trial: folder of the bundle that is on probation, "" = none; `starts`: of the agent on it that were no success.
    """

    floor: int = 0
    barred: tuple[str, ...] = ()
    trial: str = ""
    starts: int = 0


class Shelf:
    """The bundles of one name.

    Args:
        place: `STATE/bundles/NAME`.
        step: told after each step of an activation; a test stops there.
    """

    def __init__(self, place: Path, step: Callable[[str], None] = lambda _: None) -> None:
        self.place, self._step = place, step

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process changes a shelf; ConfigError if another one does, or it cannot be written."""
        try:
            self.place.mkdir(mode=0o755, parents=True, exist_ok=True)
            fd = os.open(self.place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"cannot write {self.place}: {error.strerror}; run as the agent's user") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise ConfigError(f"another process is changing {self.place}; try again when it is done") from error
        finally:
            os.close(fd)

    @property
    def current(self) -> str:
        """Folder name of the current bundle, "" if there is none."""
        return self._target(CURRENT)

    @property
    def previous(self) -> str:
        """Folder name of the bundle before, "" if there is none."""
        found = self._target(PREVIOUS)
        return "" if found == self.current else found

    @property
    def standing(self) -> Standing:
        """The recorded one, or what the current bundle implies, whichever is higher."""
        path = self.place / STANDING
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Standing)
        except FileNotFoundError:
            found = Standing()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read ({error}); remove it to forget versions seen so far") from error
        return msgspec.structs.replace(found, floor=max(found.floor, version(self.current)))

    def holds(self, digest: str) -> bool:
        """Whether the current bundle is this one, and whole."""
        if not self.current or not digest.startswith(_digest(self.current)):
            return False
        try:
            return bundles.read(self.place / self.current).digest == digest
        except ConfigError:
            return False

    def activate(self, bundle: Bundle) -> str:
        """Make a bundle that passed its examination the current one, and give its folder's name.

        Raises:
            ConfigError: the system refuses; what was current still is.
        """
        try:
            entry = self._put(bundle)
            if self.current and self.current != entry:
                self._link(PREVIOUS, self.current)
            self._step("previous")
            self._link(CURRENT, entry)
            self._step("current")
            standing = self.standing
            barred = tuple(digest for digest in standing.barred if digest != _digest(entry))
            self.stand(Standing(max(standing.floor, bundle.manifest.version), barred, entry))
            self._step("standing")
            self._forget()
            self._step("forgotten")
        except OSError as error:
            raise ConfigError(
                f"cannot activate the bundle in {self.place}: {error.strerror}; free it and try again"
            ) from (error)
        return entry

    def rollback(self) -> tuple[str, str]:
        """Make the previous bundle the current one and bar what was; the names of both folders.

        Raises:
            ConfigError: there is no previous bundle, it is damaged, or the system refuses.
        """
        old, new = self.current, self.previous
        if not new:
            raise ConfigError(f"{self.place} has no bundle before the current one; there is nothing to roll back to")
        bundles.read(self.place / new)
        try:
            standing = self.standing
            barred = (*standing.barred, _digest(old))
            self.stand(msgspec.structs.replace(standing, barred=barred, trial="", starts=0))
            self._step("standing")
            self._link(CURRENT, new)
            self._step("current")
        except OSError as error:
            raise ConfigError(f"cannot roll back in {self.place}: {error.strerror}; free it and try again") from error
        return old, new

    def _put(self, bundle: Bundle) -> str:
        """The bundle in a folder of its own, on disk when this returns."""
        wanted = folder(bundle.manifest.version, bundle.digest)
        for number in range(1000):
            entry = f"{wanted}.{number}" if number else wanted
            if not (self.place / entry).exists():
                break
            with contextlib.suppress(ConfigError):  # a damaged one is left to `_forget`
                if bundles.read(self.place / entry).digest == bundle.digest:
                    return entry
        draft = self.place / os.path.basename(tempfile.mkdtemp(prefix=_DRAFT, dir=self.place))  # noqa: PTH119
        files = {**bundle.files, bundles.MANIFEST: bundle.raw}
        for name, data in files.items():
            write_durably(draft / name, [data], mode=0o644)
        draft.chmod(0o755)
        self._step("written")
        (draft).rename(self.place / entry)
        sync_directory(self.place)
        self._step("placed")
        return entry

    def _link(self, name: str, entry: str) -> None:
        """Point a link to another folder in one step."""
        fresh = self.place / f".{name}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(entry)
        fresh.rename(self.place / name)
        sync_directory(self.place)

    def _target(self, name: str) -> str:
        try:
            found = str((self.place / name).readlink())
        except OSError:
            return ""
        return found if _ENTRY.fullmatch(found) else ""

    def stand(self, standing: Standing) -> None:
        """Record it; OSError if the system refuses."""
        write_durably(self.place / STANDING, [msgspec.json.encode(standing)], mode=0o644)

    def _forget(self) -> None:
        """Remove bundles that are neither current nor previous, and drafts of activations that were killed."""
        kept = {self.current, self._target(PREVIOUS)}
        for path in self.place.iterdir():
            if path.name.startswith(_DRAFT) or (_ENTRY.fullmatch(path.name) and path.name not in kept):
                shutil.rmtree(path, ignore_errors=True)


def followed(path: str, state: Path) -> str:
    """The NAME of a stream's `STATE/bundles/NAME/current`; "" for a bundle that lies elsewhere."""
    place = Path(os.path.abspath(path))  # noqa: PTH100 - the link is not followed
    if place.name != CURRENT or place.parent.parent != Path(os.path.abspath(state / "bundles")):  # noqa: PTH100
        return ""
    return place.parent.name


def version(entry: str) -> int:
    """The version in a folder's name; 0 if there is none."""
    found = _ENTRY.fullmatch(entry)
    return int(found[1]) if found else 0


def _digest(entry: str) -> str:
    found = _ENTRY.fullmatch(entry)
    return found[2] if found else "none"
