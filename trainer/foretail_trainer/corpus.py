"""Training files to batches of lines: plain, .gz, .xz and .zst, and `-` for standard input.

Several files are several hosts or rotations; each batch says which file it came from. Lines keep no line end.
"""

from __future__ import annotations

import gzip
import io
import lzma
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import zstandard

from foretail.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BATCH_BYTES = 1 << 22
LINE_BYTES_MAX = 1 << 20
STDIN = "-"
_PROBE_BYTES = 1 << 16
_NUL_SHARE_MAX = 0.01


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole lines of one file: `source` is the index of its path, `first` the number of the first line from 0."""

    source: int
    path: str
    first: int
    lines: list[bytes]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Paths that can be read as often as wanted, unless one is standard input."""

    paths: tuple[str, ...]

    @property
    def again(self) -> bool:
        """Whether iterating a second time gives the lines again."""
        return STDIN not in self.paths

    def __iter__(self) -> Iterator[Batch]:
        return read(self.paths)


def read(paths: Sequence[str | Path], *, lines_max: int | None = None) -> Iterator[Batch]:
    """Batches of about BATCH_BYTES in the order of `paths`.

    Raises ConfigError with one sentence for a path that is missing, a directory, unreadable, broken, empty, binary or a
    single line, and for no path at all. Lines beyond LINE_BYTES_MAX are cut there. `lines_max` stops early.
    """
    if not paths:
        raise ConfigError("No log file given; name at least one file, or - for standard input.")
    left = lines_max
    total = 0
    for source, path in enumerate(map(str, paths)):
        for batch in _read_one(source, path):
            total += len(batch.lines)
            if left is None:
                yield batch
                continue
            yield Batch(source, path, batch.first, batch.lines[:left])
            left -= len(batch.lines)
            if left <= 0:
                return
    if total == 1:
        raise ConfigError(
            f"{_name(str(paths[0]))} holds one line; a normal log of at least some hundred lines is needed."
        )


def _read_one(source: int, path: str) -> Iterator[Batch]:
    try:
        with _open(path) as stream:
            yield from _batches(source, path, stream)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, zstandard.ZstdError) as error:
        if isinstance(error, FileNotFoundError):
            raise ConfigError(f"{path} does not exist; check the path.") from error
        if isinstance(error, IsADirectoryError):
            raise ConfigError(f"{path} is a directory; name the log files in it, for example {path}/*.log.") from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{_name(path)} cannot be read ({reason}); check that it is whole and readable.") from error


def _open(path: str) -> IO[bytes] | gzip.GzipFile:
    if path == STDIN:
        return sys.stdin.buffer
    if path.endswith(".gz"):
        return gzip.open(path)
    if path.endswith(".xz"):
        return lzma.open(path)
    if path.endswith((".zst", ".zstd")):
        raw = Path(path).open("rb")  # noqa: SIM115 - closed with the reader
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True))
    return Path(path).open("rb")


def _batches(source: int, path: str, stream: IO[bytes] | gzip.GzipFile) -> Iterator[Batch]:
    rest = b""
    first = 0
    while block := stream.read(BATCH_BYTES):
        if first == 0 and not rest:
            _check_text(path, block[:_PROBE_BYTES])
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if len(rest) > LINE_BYTES_MAX:  # the rest of such a line is dropped with its end
            rest = rest[: LINE_BYTES_MAX + 1]
        if lines:
            yield Batch(source, path, first, [_whole(line) for line in lines])
            first += len(lines)
    if rest:
        yield Batch(source, path, first, [_whole(rest)])
        first += 1
    if not first:
        raise ConfigError(f"{_name(path)} is empty; name a log with normal lines.")


def _whole(line: bytes) -> bytes:
    return line[:LINE_BYTES_MAX].removesuffix(b"\r")


def _check_text(path: str, probe: bytes) -> None:
    if probe.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{_name(path)} is UTF-16; convert it to UTF-8 first, for example with iconv.")
    if probe.count(0) > _NUL_SHARE_MAX * len(probe):
        raise ConfigError(
            f"{_name(path)} is binary, not a text log; name a text file (.gz, .xz and .zst are unpacked)."
        )


def _name(path: str) -> str:
    return "Standard input" if path == STDIN else path
