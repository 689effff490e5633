"""Sessions as integer ids, one a line: research data without text and time (`score --sequences`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from foretail.errors import ConfigError
from foretail.schema import FIRST, UNKNOWN
from foretail.stream import Stream
from foretail.telling import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from foretail.bundle import Bundle

CHUNK = 2000
"""Sessions scored at once."""
PLACELESS = {"id", "source", "offset", "time"}
"""What such a session does not have."""


def read(path: str) -> tuple[list[list[str]], list[int]]:
    """Sessions as lists of id texts, and how often each came.

    Args:
        path: `ids` separated by blanks, or `count<TAB>ids`, one session a line.

    Raises:
        ConfigError: no file, nothing in it, or a line of another form, named by its number.
    """
    try:
        text = Path(path).read_text(encoding="ascii")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} holds no integer ids; give one session a line, ids separated by blanks") from error
    rows, weights = [], []
    for number, line in enumerate(text.splitlines(), 1):
        count, tab, ids = line.rpartition("\t")
        names = ids.split()
        if not all(name.isdigit() for name in names) or (tab and not count.isdigit()):
            raise ConfigError(f"{path}, line {number}: not ids separated by blanks, or a count, a tab and ids")
        if names:
            rows.append([str(int(name)) for name in names])
            weights.append(int(count) if tab else 1)
    if not rows:
        raise ConfigError(f"{path} holds no session; give one session a line, ids separated by blanks")
    return rows, weights


def score(bundle: Bundle, path: str, write: Callable[[Sequence[bytes]], None]) -> bool:
    """Write one verdict for each session of a file, in order; True when any is anomalous.

    The end of a line is the end of its session. A session's ids are those of `fit --sequences`: the templates.
    """
    rows, weights = read(path)
    names = {pattern.template: number for number, pattern in enumerate(bundle.patterns, FIRST)}
    stream, found = Stream(bundle, Options("default", emit="sessions")), False
    for start in range(0, len(rows), CHUNK):
        part = [[names.get(name, UNKNOWN) for name in row] for row in rows[start : start + CHUNK]]
        records = []
        for line, verdict in enumerate(stream.sequences(part), start + 1):
            record = msgspec.structs.asdict(verdict)
            record |= {"kind": "session", "session": str(line), "count": weights[line - 1]}
            found |= verdict.anomalous
            records.append(msgspec.json.encode({name: record[name] for name in record if name not in PLACELESS}))
        write(records)
    return found
