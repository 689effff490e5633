"""Training logs to columns: model id, key, event time and host of every line, and the numbers that are to be followed.

Some 24 bytes a line, and 10 a number.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from foretail import logs, tally
from foretail.errors import ConfigError
from foretail.schema import FIRST, UNKNOWN
from foretail.stamps import unwrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from foretail.patterns import Matcher
    from foretail.schema import Reading
    from foretail.tally import Readings

LINES_MIN = 20
"""Fewer lines teach nothing."""


@dataclass(frozen=True, slots=True)
class Lines:
    """All lines of the training logs, n rows, in the order of their files.

    Attributes:
        ids: int32 `[n]` model ids, UNKNOWN where no pattern matched.
        keys: `[n]` session keys, b"" = none in the line; None = the rule gives none.
        times: float64 `[n]` event times, epoch seconds, NaN = no stamp.
        host: int32 `[n]`: number of the host.
        hosts: how many.
        digest: sha256 of all lines.
        lengths: int32 `[n]`, bytes with the line end; `errors` bool `[n]`: error-level.
        readings: numbers in them, as asked for.
    """

    ids: NDArray[np.int32]
    keys: list[bytes] | None
    times: NDArray[np.float64]
    host: NDArray[np.int32]
    hosts: int
    digest: str
    lengths: NDArray[np.int32]
    errors: NDArray[np.bool_]
    readings: Readings


@contextmanager
def kept(paths: Sequence[str]) -> Iterator[list[str]]:
    """The paths, checked; standard input is kept in a temporary file, because training reads a log several times."""
    for path in paths:
        logs.check(path)
    if "-" not in paths:
        yield list(paths)
        return
    with tempfile.TemporaryDirectory(prefix="foretail-") as folder:
        spool = Path(folder) / "stdin"
        with spool.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not spool.stat().st_size:
            raise ConfigError("standard input is empty; pipe a log with lines into it")
        logs.check(str(spool))
        yield [str(spool) if path == "-" else path for path in paths]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The lines of all files, a batch a read, as often as it is iterated.

    Attributes:
        paths: of the logs.
        progress: called with the bytes of each read.
    """

    paths: tuple[str, ...]
    progress: Callable[[int], None] | None = None

    def __iter__(self) -> Iterator[list[bytes]]:
        for host in logs.hosts(self.paths):
            for batch in logs.batches(host.paths, "train", progress=self.progress):
                yield batch.lines


def sample(paths: Sequence[str], lines: int) -> list[bytes]:
    """Lines from the beginning of each host's log, `lines` in all at most."""
    share = max(1, lines // max(1, len(logs.hosts(paths))))
    taken: list[bytes] = []
    for host in logs.hosts(paths):
        every = (line for batch in logs.batches(host.paths, "train") for line in batch.lines)
        taken += islice(every, share)
    return taken


def read(
    paths: Sequence[str],
    matcher: Matcher,
    progress: Callable[[int], None] | None = None,
    wanted: Sequence[Reading] = (),
) -> Lines:
    """Type every line.

    Args:
        paths: of the logs; rotations of one log are one host.
        matcher: with the key rule.
        progress: called with the bytes of each read.
        wanted: numbers to take from the lines.

    Raises:
        ConfigError: fewer than LINES_MIN lines.
    """
    ids: list[NDArray[np.int32]] = []
    times: list[NDArray[np.float64]] = []
    keys: list[bytes] = []
    sizes: list[int] = []
    lengths: list[NDArray[np.int32]] = []
    errors: list[NDArray[np.bool_]] = []
    interned: dict[bytes, bytes] = {}
    places, taken, above = tally.places(wanted, matcher.patterns), [], 0
    digest, now = hashlib.sha256(), time.time()
    groups = logs.hosts(paths)
    for host in groups:
        lines, stamps = 0, []
        for batch in logs.batches(host.paths, "train", progress=progress):
            typed = matcher.match(batch.lines, now)
            digest.update(b"\n".join(batch.lines) + b"\n")
            ids.append(np.where(typed.index < 0, UNKNOWN, typed.index + FIRST).astype(np.int32))
            stamps.append(typed.times)
            lengths.append(np.fromiter(map(len, batch.lines), np.int32, len(batch.lines)) + 1)
            errors.append(typed.errors)
            taken.append((above, tally.readings_of(places, typed)))
            above += len(batch.lines)
            if typed.keys is not None:
                keys += [interned.setdefault(key, key) for key in typed.keys]
            lines += len(batch.lines)
        times.append(unwrapped(np.concatenate(stamps)))
        sizes.append(lines)
    if sum(sizes) < LINES_MIN:
        raise ConfigError(f"the log has {sum(sizes)} lines; training needs {LINES_MIN} at least, better some thousands")
    return Lines(
        ids=np.concatenate(ids),
        keys=keys or None,
        times=np.concatenate(times),
        host=np.repeat(np.arange(len(groups), dtype=np.int32), sizes),
        hosts=len(groups),
        digest=digest.hexdigest(),
        lengths=np.concatenate(lengths),
        errors=np.concatenate(errors),
        readings=tally.joined(taken),
    )
