"""The record of an incident or verdict by its id: where an agent's records can still be found on its host."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from foretail.config import FileSink
from foretail.errors import ConfigError
from foretail.ledger import SNAPSHOT, read_snapshot
from foretail.state import Snapshot
from foretail.status import ask
from foretail.verdicts import Incident, LineVerdict, SessionVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from foretail.config import Config

Judged = Incident | LineVerdict | SessionVerdict
STDIN_BYTES_MAX = 64 << 20


def given(name: str, origin: str) -> Judged:
    """The record of an id in a JSONL file, or on standard input (`-`).

    Raises:
        ConfigError: the file cannot be read, or does not hold the id.
    """
    if origin == "-":
        lines: Iterable[bytes] = sys.stdin.buffer.read(STDIN_BYTES_MAX).splitlines()
        found = _among(name, lines)
    else:
        try:
            with Path(origin).open("rb") as file:
                found = _among(name, file)
        except OSError as error:
            raise ConfigError(f"cannot read {origin}: {error.strerror}") from None
    if found is None:
        where = "standard input" if origin == "-" else origin
        raise ConfigError(f"{where} holds no incident or verdict {name!r}; give the JSON line that names it as id")
    return found


def found(name: str, config: Config) -> Judged:
    """The record of an id on an agent's host: in files of its sinks, else what the agent itself remembers.

    Raises:
        ConfigError: nowhere; with the way that is left.
    """
    tried = []
    for sink in config.sink:
        if isinstance(sink, FileSink):
            tried.append(sink.path)
            for path in [sink.path, *(f"{sink.path}.{number}" for number in range(1, sink.keep + 1))]:
                with contextlib.suppress(OSError), Path(path).open("rb") as file:
                    record = _among(name, file)
                    if record is not None:
                        return record
    record = _among(name, _kept_back(config)) or _among(name, _open(Path(config.agent.state_dir) / "journal"))
    if record is not None:
        return record
    places = " and ".join([*tried, "the agent's state"])
    raise ConfigError(
        f"{name!r} is not in {places}; give its JSON line with --from FILE, or --from - on standard input "
        "(journalctl -u foretail -o cat | foretail label ...)"
    )


def _among(name: str, lines: Iterable[bytes]) -> Judged | None:
    """The last record with this id, or of the verdict with this id."""
    needle, last = name.encode(), None
    for line in lines:
        if needle not in line:
            continue
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            record = msgspec.json.decode(line, type=Judged)
            if name in {record.id, getattr(record, "verdict", record.id)}:
                last = record
    return last


def _kept_back(config: Config) -> Iterator[bytes]:
    """Incidents that the running agent observed and told nobody of."""
    if not config.agent.status_socket:
        return
    with contextlib.suppress(ConfigError):
        streams: dict[str, dict[str, Any]] = ask(config.agent.status_socket).get("streams", {})
        for figures in streams.values():
            yield from map(msgspec.json.encode, figures.get("observed", []))


def _open(folder: Path) -> Iterator[bytes]:
    """Incidents that were open when the agent last compacted its state; read without its lock, whole or not at all."""
    with contextlib.suppress(OSError, ValueError, ConfigError, msgspec.MsgspecError, KeyError, TypeError):
        newest = max(folder.glob(f"{SNAPSHOT}-*"), key=lambda path: path.stat().st_mtime)
        snapshot = msgspec.msgpack.decode(read_snapshot(newest)[1], type=Snapshot)
        for state in snapshot.streams.values():
            for incident in state["incidents"]["open"].values():
                yield bytes(incident["record"])
