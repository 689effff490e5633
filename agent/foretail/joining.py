"""Pure: small journal records of one source as few large ones.

What a line-by-line feed writes is a record a line. Replayed one at a time they cost as much as when they came: minutes,
where who waits for the agent gives it seconds. The state does not depend on how the input was cut (DESIGN §2), so
neighbours are replayed as one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from foretail.columns import Columns
    from foretail.state import Entry

LINES_MAX = 4096


def joined(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The journal's records with neighbours of one stream, source and observation joined, in order.

    Records of files (they carry a cursor) and without lines stay as they are. Of the chunks of joined records the last
    is kept.
    """
    run: list[Entry] = []
    size = 0
    for entry in entries:
        if entry.cursor is not None or not entry.columns.ids:
            yield from _flushed(run)
            yield entry
            continue
        if run and (_kind(entry) != _kind(run[0]) or size >= LINES_MAX):
            yield from _flushed(run)
        size = len(entry.columns.ids) // 2 + (size if run else 0)
        run.append(entry)
    yield from _flushed(run)


def _kind(entry: Entry) -> tuple[object, ...]:
    columns = entry.columns
    return entry.stream, entry.observed, columns.source, columns.path, columns.whole


def _flushed(run: list[Entry]) -> Iterator[Entry]:
    """The run as one record; it is empty afterwards."""
    if run:
        columns = run[0].columns if len(run) == 1 else join([entry.columns for entry in run])
        yield msgspec.structs.replace(run[0], columns=columns, chunk=run[-1].chunk)
        run.clear()


def join(parts: Sequence[Columns]) -> Columns:
    """Columns of one source, in order, as one; each has lines."""
    keys: dict[bytes, int] = {}
    which, errors = [], []
    for part in parts:
        numbers = np.array([keys.setdefault(key, len(keys)) for key in part.keys] + [-1], np.int32)
        which.append(numbers[np.frombuffer(part.which, np.int32)])  # -1 takes the last: none
        errors.append(np.unpackbits(np.frombuffer(part.errors, np.uint8), count=len(part.ids) // 2))
    return msgspec.structs.replace(
        parts[0],
        ids=b"".join(part.ids for part in parts),
        keys=list(keys),
        which=np.concatenate(which).tobytes(),
        times=b"".join(part.times for part in parts),
        runs=b"".join(part.runs for part in parts),
        offsets=b"".join(part.offsets for part in parts),
        errors=np.packbits(np.concatenate(errors)).tobytes(),
        unseen=[words for part in parts for words in part.unseen],
        size=sum(part.size for part in parts),
    )
