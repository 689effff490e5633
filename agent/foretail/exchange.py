"""Bundles from elsewhere: `bundle trust`, `bundle pull`, `bundle import`, `bundle rollback`."""

from __future__ import annotations

import sys
import tempfile
import time
import tomllib
from base64 import b64decode
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from foretail import bundle as bundles
from foretail import looks, release, shadow
from foretail.activation import CURRENT, Shelf, followed
from foretail.config import Update, load
from foretail.errors import ConfigError, StreamError
from foretail.examination import examined
from foretail.globs import Globs
from foretail.looks import Steps
from foretail.sinks import own_files
from foretail.status import ask
from foretail.telemetry import configure
from foretail.wire import Wire

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from foretail.update import Repository

WHOLE = 10
"""All of a pull may take so many times `update.timeout_s`."""
RELOAD_S = 60.0


class Place(NamedTuple):
    """Where things are, by the configuration and the options.

    Attributes:
        state: the state directory.
        trust: of the pinned root.
        update: the section, with --url, --name and --channel taken in.
        names: of the bundles that streams follow, or the one asked for.
        socket: of the running agent; "" = none.
        globs: files of the streams on each name.
        streams: on each name.
    """

    state: Path
    trust: Path
    update: Update
    names: tuple[str, ...]
    socket: str
    globs: dict[str, list[Globs]]
    streams: dict[str, list[str]]

    def shelf(self, name: str) -> Shelf:
        """The bundles of a name."""
        return Shelf(self.state / "bundles" / release.checked(name))


def trust(options: argparse.Namespace) -> int:
    """`foretail bundle trust`: pin the root of a repository."""
    from foretail import update  # noqa: PLC0415 - tuf is optional

    print(update.trust(Path(options.root), _place(options).trust))
    return 0


def pull(options: argparse.Namespace) -> int:
    """`foretail bundle pull`: fetch, examine and activate what the channel offers."""
    if not options.url and not options.state and not _wanted(options.config):
        if not options.scheduled:
            print(f"{options.config} sets no update.url: there is nothing to pull from")
        return 0
    place = _place(options)
    if not place.update.url:
        raise ConfigError("there is no repository; set update.url, or name one with --url")
    if options.scheduled:
        return _scheduled(place, force=options.force)
    return _counted(place, place.update.url, Steps(place.state, print), force=options.force)


def import_(options: argparse.Namespace) -> int:
    """`foretail bundle import`: the same from a folder that holds a copy of the repository."""
    folder = Path(options.folder).resolve()
    if not (folder / "metadata").is_dir():
        raise ConfigError(f"{folder} is no repository: it has no folder `metadata`; copy all that is served")
    place = _place(options)
    return _counted(place, folder.as_uri(), Steps(place.state, print), force=options.force)


def rollback(options: argparse.Namespace) -> int:
    """`foretail bundle rollback`: back to the bundle before; what was current returns only with --force."""
    place = _place(options)
    if len(place.names) != 1:
        raise ConfigError(f"say which bundle with --name; there are {', '.join(place.names) or 'none'}")
    name, steps = place.names[0], Steps(place.state, print)
    shelf = place.shelf(name)
    with shelf.locked():
        old, new = shelf.rollback()
    steps("rolled_back", f"{name}: {new} is current again, {old} is barred until a newer one appears")
    if not _told(place, set(place.names), steps):
        raise StreamError(f"the agent did not take it within {RELOAD_S:.0f} s; its log says why (config.refused)")
    return 0


def _scheduled(place: Place, *, force: bool) -> int:
    """A look if one is due, told as events; what fails is told, too, and tried again sooner."""
    configure()
    steps, interval_s = Steps(place.state, None), place.update.interval_h * 3600
    if not looks.is_due(looks.read(place.state), time.time(), interval_s):
        return 0
    code = 1
    try:
        code = _counted(place, place.update.url, steps, force=force)
    except ConfigError:
        code = 2
    except StreamError:
        code = 1
    finally:
        steps.done(failed=code != 0, interval_s=interval_s)
    return code


def _counted(place: Place, url: str, steps: Steps, *, force: bool) -> int:
    """A look, and how it ended."""
    steps("looked", url=url, names=place.names)
    try:
        return _received(place, url, steps, force=force)
    except ConfigError as error:
        steps("refused", error=str(error))
        raise
    except StreamError as error:
        steps("failed", error=str(error))
        raise


def _received(place: Place, url: str, steps: Steps, *, force: bool) -> int:
    """Fetch from one repository for each name; a refusal of one does not hold the others back."""
    from foretail import update  # noqa: PLC0415 - tuf is optional

    if not place.names:
        raise ConfigError(
            f"no stream's bundle is {place.state}/bundles/NAME/{CURRENT}; set one so, or say which bundle with --name"
        )
    limits = update.Limits(place.update.timeout_s, WHOLE * place.update.timeout_s, place.update.bytes_max)
    done: set[str] = set()
    refused: list[ConfigError | StreamError] = []
    with Wire(limits.timeout_s, limits.whole_s, place.update.proxy) as wire:
        repository = update.Repository(url, place.trust, place.state / "update-floor.json", wire, limits)
        for name in place.names:
            try:
                if _one(place, repository, name, steps, force=force):
                    done.add(name)
            except (ConfigError, StreamError) as error:
                refused.append(error)
    if done and not _told(place, done, steps):
        refused.append(_undone(place, done, steps))
    for refusal in refused[:-1]:
        steps("refused" if isinstance(refusal, ConfigError) else "failed", error=str(refusal))
        if steps.words:
            print(f"foretail: {str(refusal).rstrip('.')}.", file=sys.stderr)
    if refused:
        raise refused[-1]
    return 0


def _undone(place: Place, names: set[str], steps: Steps) -> StreamError:
    """Take back what the running agent does not take."""
    for name in sorted(names):
        shelf = place.shelf(name)
        with shelf.locked():
            if shelf.previous:
                old, new = shelf.rollback()
                steps("undone", bundle=name, barred=old, current=new)
    _told(place, names, steps)
    return StreamError(
        f"the agent did not take {', '.join(sorted(names))} within {RELOAD_S:.0f} s, so the bundle before is current "
        "again; the agent's log says why (config.refused)"
    )


def _one(place: Place, repository: Repository, name: str, steps: Steps, *, force: bool) -> bool:
    """Activate what the channel offers of a name, if it is new and does well on the last lines of its files."""
    shelf, channel = place.shelf(name), place.update.channel
    with shelf.locked(), tempfile.TemporaryDirectory(prefix=".draft-", dir=shelf.place) as folder:
        offered = repository.release(name, channel, Path(folder))
        standing = shelf.standing
        if shelf.holds(offered.digest):
            steps.say(f"{name}: {offered.version} is current, and what {channel} offers")
            return False
        if offered.digest[:12] in standing.barred and not force:
            steps.say(
                f"{name}: {offered.version} was rolled back here; it returns with --force, or when a newer one appears"
            )
            return False
        if offered.version < standing.floor and not force:
            raise ConfigError(
                f"{name}: {channel} offers version {offered.version}, this host has had {standing.floor}; "
                "an older one is taken with --force only"
            )
        steps("offered", bundle=name, channel=channel, version=offered.version)
        tar = repository.tar(offered, Path(folder))
        steps("fetched", bundle=name, version=offered.version, bytes=offered.bytes)
        old, beside = shelf.current, None
        if old and not force and (sample := _sample(place, name)):
            lines = Path(folder) / "lines"
            lines.write_bytes(sample)
            beside = shelf.place / old, lines
        found = examined(tar, name, beside=beside)
        if (found.version, found.digest) != (offered.version, offered.digest):
            raise ConfigError(
                f"{name}: the bundle is {release.folder(found.version, found.digest)}, its release says "
                f"{release.folder(offered.version, offered.digest)}"
            )
        steps("examined", bundle=name, version=offered.version, beside=old if beside else "")
        entry = shelf.activate(bundles.read(tar))
    kept = f", {old} is kept for `foretail bundle rollback`" if old else ""
    steps("activated", f"{name}: {entry} is current{kept}", bundle=name, current=entry, previous=old)
    return True


def _sample(place: Place, name: str) -> bytes:
    """The last real lines of the streams on a name: of their files, or what the running agent holds in memory."""
    if sample := shadow.sample(place.globs.get(name, [])):
        return sample
    try:
        held = ask(place.socket, "lines") if place.socket and Path(place.socket).exists() else {}
    except ConfigError:
        return b""
    return b"".join(b64decode(held[stream]) for stream in place.streams.get(name, []) if stream in held)


def _told(place: Place, names: set[str], steps: Steps) -> bool:
    """Let the running agent take the bundles; False if it did not in time. No agent is none to tell."""
    if not place.socket or not Path(place.socket).exists():
        steps.say("no agent runs; the next start takes it")
        return True
    try:
        ask(place.socket, "reload")
    except ConfigError as error:
        steps.say(f"the agent was not told ({str(error).rstrip('.')}); its next start takes it")
        return True
    wanted = {name: place.shelf(name).current for name in names}
    if not _until(lambda: _runs(place.socket, wanted)):
        return False
    steps.say("the agent runs it")
    return True


def _runs(socket: str, wanted: dict[str, str]) -> bool:
    """Whether every stream on a bundle of these names has the wanted version."""
    try:
        streams = ask(socket)["streams"].values()
    except ConfigError:  # between two loops nobody answers
        return False
    labels = [figures["bundle"].split(":") for figures in streams]
    return all(
        release.folder(int(number), digest) == wanted[name].split(".")[0]
        for name, number, digest in labels
        if name in wanted
    )


def _until(fact: Callable[[], bool]) -> bool:
    end = time.monotonic() + RELOAD_S
    while not fact():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _wanted(config: str) -> bool:
    """Whether a configuration file asks for updates, be it complete or not."""
    try:
        return bool(tomllib.loads(Path(config).read_text(encoding="utf-8")).get("update", {}).get("url"))
    except (OSError, ValueError, AttributeError):
        return True  # `load` says what is wrong


def _place(options: argparse.Namespace) -> Place:
    update, socket = Update(), ""
    globs: dict[str, list[Globs]] = {}
    streams: dict[str, list[str]] = {}
    if options.state:
        state = Path(options.state)
        folder = state / "trust"
    elif Path(options.config).exists():
        config = load(options.config)
        if not config.agent.state_dir:
            raise ConfigError(f"{options.config} sets agent.state_dir to nothing; bundles need one")
        state, update, socket = Path(config.agent.state_dir), config.update, config.agent.status_socket
        folder = Path(update.trust_dir)
        for stream in config.stream:
            name, found = followed(stream.bundle, state), Globs(stream.include, stream.exclude, own_files(config))
            globs.setdefault(name, []).append(found)
            streams.setdefault(name, []).append(stream.name)
    else:
        raise ConfigError(f"there is no {options.config}; name it with -c, or the state directory with --state")
    url = getattr(options, "url", None) or update.url
    channel = release.checked(getattr(options, "channel", None) or update.channel, "channel")
    update = msgspec.structs.replace(update, url=url, channel=channel)
    asked = getattr(options, "name", None) or update.name
    names = (asked,) if asked else tuple(filter(None, streams))
    return Place(state, folder, update, names, socket, globs, streams)
