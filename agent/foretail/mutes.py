"""The mute file: types that people do not want to hear of, why, and until when."""

from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path

from foretail.errors import ConfigError
from foretail.incidents import Mute

KEYS = {"type_id", "reason", "expires"}


def read(path: str) -> tuple[Mute, ...]:
    """The `[[mute]]` tables of a TOML file: `type_id`, `reason`, and optionally `expires` (a date or date-time).

    No file is no mute.

    Raises:
        ConfigError: the file is no such TOML; named with what is allowed.
    """
    if not path or not Path(path).exists():
        return ()
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"mute file {path} cannot be read: {error}") from error
    if table.keys() - {"mute"} or not isinstance(table.get("mute", []), list):
        raise ConfigError(f"mute file {path} holds other things than [[mute]] tables")
    return tuple(_mute(path, entry) for entry in table.get("mute", []))


def _mute(path: str, entry: object) -> Mute:
    if not isinstance(entry, dict) or entry.keys() - KEYS or not {"type_id", "reason"} <= entry.keys():
        raise ConfigError(f"mute file {path}: each [[mute]] has type_id, reason and optionally expires, no other key")
    expires = entry.get("expires")
    if isinstance(expires, dt.datetime):
        moment = expires if expires.tzinfo else expires.replace(tzinfo=dt.UTC)
    elif isinstance(expires, dt.date):
        moment = dt.datetime(expires.year, expires.month, expires.day, tzinfo=dt.UTC)
    elif expires is None:
        return Mute(str(entry["type_id"]), str(entry["reason"]))
    else:
        raise ConfigError(f"mute file {path}: expires {expires!r} is no date such as 2027-01-31")
    return Mute(str(entry["type_id"]), str(entry["reason"]), moment.timestamp())
