"""Files at rest, as batches of lines: plain, .gz, .xz, .zst, or `-` for standard input."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import sys
import time
import zlib
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from foretail.errors import ConfigError
from foretail.lines import Batch, LineLimits, Source, Splitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

READ_BYTES = 512 << 10
HEAD_BYTES = 64 << 10
"""What is looked at to tell a log from something else."""
NUL_SHARE_MAX = 0.05
COMPRESSED = {".gz", ".xz", ".zst"}
_ROTATION = re.compile(r"(?P<stem>.*?)(?P<mark>[.-](\d{1,4}|\d{4}-?\d\d-?\d\d([-T.]?\d\d(:?\d\d)*)?))?(\.(gz|xz|zst))?")


class Host(NamedTuple):
    """Files of one stream of one host: its rotations, oldest first."""

    name: str
    paths: tuple[str, ...]


def hosts(paths: Sequence[str]) -> list[Host]:
    """Files as they belong together: `x.log.2.gz`, `x.log.1`, `x.log` are rotations; other files are other hosts."""
    groups: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        groups.setdefault(_parts(path)[0], []).append(path)
    return [Host(stem, tuple(sorted(group, key=_age))) for stem, group in groups.items()]


def check(path: str) -> None:
    """ConfigError with one sentence when `path` is no readable log."""
    if path == "-":
        return
    where = Path(path)
    if where.is_dir():
        raise ConfigError(f"{path} is a directory; name the log files in it, such as {where / '*.log'}")
    try:
        with open_bytes(path) as file:
            head = file.read(HEAD_BYTES)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; check the path") from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ConfigError(f"cannot read {path}: {_reason(error)}") from error
    if not head.strip():
        raise ConfigError(f"{path} is empty; name a log with lines in it")
    utf16 = head[:2] in {b"\xff\xfe", b"\xfe\xff"}
    if not utf16 and head.count(0) > NUL_SHARE_MAX * len(head):
        raise ConfigError(f"{path} is binary, not a text log; name a log file (.gz, .xz and .zst are unpacked)")


def open_bytes(path: str) -> IO[bytes]:
    """The bytes of a file, unpacked."""
    if path == "-":
        return sys.stdin.buffer
    suffix = Path(path).suffix
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.open(path))
    if suffix == ".xz":
        return lzma.open(path)
    if suffix == ".zst":
        try:
            import zstandard  # noqa: PLC0415 - only for the rare .zst, and not a dependency of the agent
        except ImportError as error:
            raise ConfigError(f"reading {path} needs `pip install zstandard`, or unpack it first") from error
        opened: IO[bytes] = zstandard.open(path)
        return opened
    return Path(path).open("rb")


def batches(
    paths: Iterable[str],
    stream: str,
    *,
    limits: LineLimits | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Batch]:
    """The lines of rotations of one log, in order, one batch a read; each file begins at its first byte.

    Args:
        paths: oldest first.
        stream: name in each batch.
        limits: of a line.
        progress: called with the bytes of each read.

    Raises:
        ConfigError: a file cannot be read (to its end).
    """
    for path in paths:
        try:
            with open_bytes(path) as file:
                yield from _file_batches(file, path, stream, limits or LineLimits(), progress)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            raise ConfigError(f"cannot read {path} to its end: {_reason(error)}") from error


def _file_batches(
    file: IO[bytes], path: str, stream: str, limits: LineLimits, progress: Callable[[int], None] | None
) -> Iterator[Batch]:
    first = _read(file)
    name = "stdin" if path == "-" else path
    source = Source(hashlib.blake2b(first[:4096], digest_size=12).hexdigest(), name, whole=True)
    splitter = Splitter(limits)
    for chunk in chain([first], iter(lambda: _read(file), b"")):
        found = splitter.feed(chunk)
        if progress:
            progress(len(chunk))
        if found.lines:
            yield Batch(stream, source, found.lines, found.offsets, splitter.start, time.time())
    found = splitter.flush()
    if found.lines:
        yield Batch(stream, source, found.lines, found.offsets, splitter.start, time.time())


def _read(file: IO[bytes]) -> bytes:
    """What is there, up to READ_BYTES: a pipe gives its lines as they come."""
    read1 = getattr(file, "read1", None)
    return read1(READ_BYTES) if read1 and file is sys.stdin.buffer else file.read(READ_BYTES)


def _parts(path: str) -> tuple[str, str]:
    match = _ROTATION.fullmatch(path)
    return (match["stem"], match["mark"] or "") if match else (path, "")


def _age(path: str) -> tuple[int, int, str]:
    """Dated rotations by date, then numbered ones from the highest, then the live file."""
    mark = _parts(path)[1][1:]
    if not mark:
        return 2, 0, path
    return (1, -int(mark), path) if mark.isdigit() and len(mark) <= 4 else (0, 0, mark)


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).rstrip(".")
