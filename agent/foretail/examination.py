"""What a bundle from outside must pass before it is activated, in a process of its own with limits (DESIGN §7).

A model can crash the runtime and a regex can hang: the process that scores never meets them first. The order: hashes,
schema and name, operators and shapes, patterns, golden results, a dry run, and the last real lines of the host beside
the bundle that is in use. The parent learns one sentence.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from foretail import bundle as bundles
from foretail import golden, others, shadow
from foretail.errors import ConfigError
from foretail.lines import Batch, Source
from foretail.ops import check_operators
from foretail.stream import Stream
from foretail.telling import Options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from foretail.bundle import Bundle


class Bounds(msgspec.Struct, frozen=True):
    """Limits of the examining process.

    Attributes:
        memory_bytes: address space.
        cpu_s: of processor time.
        wall_s: of time.
        file_bytes: it writes no larger file.
    """

    memory_bytes: int = 2 << 30
    cpu_s: int = 60
    wall_s: float = 120.0
    file_bytes: int = 1 << 20


class Finding(msgspec.Struct, frozen=True):
    """What the process says: the bundle's version and digest, or `error`, one sentence.

    `counts` are those of the bundle in use and of the new one, where these were asked for.
    """

    version: int = 0
    digest: str = ""
    error: str = ""
    counts: tuple[shadow.Count, ...] = ()


def examined(path: Path, name: str, bounds: Bounds | None = None, beside: tuple[Path, Path] | None = None) -> Finding:
    """Examine the bundle (a directory or its tar) in a process of its own.

    Args:
        path: of the bundle.
        name: that it must have.
        bounds: of the process.
        beside: the bundle in use, and a file of the last real lines (`foretail.shadow`).

    Raises:
        ConfigError: the bundle is refused, or its examination crashed or took more than `bounds` allow.
    """
    return _asked([str(path), name], bounds or Bounds(), beside or ())


def compared(old: Path, new: Path, lines: Path) -> tuple[shadow.Count, shadow.Count]:
    """What two bundles that passed their examination say of the last real lines, in a process of its own.

    Raises:
        ConfigError: it crashed or took more than its bounds allow.
    """
    counts = _asked([str(new), ""], Bounds(), (old, lines)).counts
    return counts[0], counts[1]


def _asked(what: list[str], bounds: Bounds, beside: Sequence[Path]) -> Finding:
    """The finding of the process; ConfigError for any that is none."""
    limits = msgspec.json.encode(bounds).decode()
    command = [sys.executable, "-I", "-m", "foretail.examination", *what, limits, *map(str, beside)]
    name = what[1] or what[0]
    environment = {key: value for key, value in os.environ.items() if not key.endswith(("_proxy", "_PROXY"))}
    environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, capture_output=True, timeout=bounds.wall_s, check=False, env=environment, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"bundle {name} is refused: its examination took over {bounds.wall_s:.0f} s") from None
    try:
        finding = msgspec.json.decode(done.stdout, type=Finding)
    except (msgspec.DecodeError, UnicodeDecodeError):
        why = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise ConfigError(f"bundle {name} is refused: its examination ended with {why}") from None
    if finding.error:
        raise ConfigError(finding.error)
    return finding


def examine(path: Path, name: str) -> Bundle:
    """All that is checked, in this process.

    Raises:
        ConfigError: what is wrong, in one sentence.
    """
    bundle = bundles.read(path)
    if bundle.manifest.name != name:
        raise ConfigError(f"bundle {path} is for {bundle.manifest.name!r}, not for {name!r}; publish it under its name")
    for file, data in bundle.files.items():
        if file.endswith(".tflite"):
            check_operators(data)
        elif file.endswith(".npy"):
            bundle.array(file)
    golden.verify(bundle)
    others.verify(bundle)
    if bundle.manifest.sequence is not None:
        _dry_run(bundle)
    return bundle


def _dry_run(bundle: Bundle) -> None:
    """Score the golden lines as a stream does: the detectors must fit each other."""
    lines = golden.lines(bundle)
    stream = Stream(bundle, Options("examination", emit="lines"))
    if lines:
        offsets = [sum(map(len, lines[:row])) for row in range(len(lines))]
        source = Source("0" * 24, "golden", whole=True)
        stream.feed(Batch("examination", source, lines, offsets, offsets[-1] + len(lines[-1]), time.time()))
    stream.finish(ended=True)


def _limit(bounds: Bounds) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (bounds.memory_bytes, bounds.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (bounds.cpu_s, bounds.cpu_s))
    resource.setrlimit(resource.RLIMIT_FSIZE, (bounds.file_bytes, bounds.file_bytes))


def main(path: str, name: str, bounds: str, *beside: str) -> int:
    """The process: limits first, then the bundle; the finding on standard output."""
    from pathlib import Path  # noqa: PLC0415 - types only otherwise

    _limit(msgspec.json.decode(bounds, type=Bounds))
    try:
        if not name:
            lines = Path(beside[1]).read_bytes().splitlines()
            counts = tuple(shadow.count(bundles.read(place), lines) for place in (beside[0], path))
            sys.stdout.buffer.write(msgspec.json.encode(Finding(counts=counts)))
            return 0
        bundle = examine(Path(path), name)
        if beside:
            shadow.compare(bundles.read(beside[0]), bundle, Path(beside[1]).read_bytes().splitlines())
        finding = Finding(bundle.manifest.version, bundle.digest)
    except ConfigError as error:
        finding = Finding(error=str(error))
    except Exception as error:  # noqa: BLE001 - whatever a hostile file provokes is a refusal, not a traceback
        finding = Finding(
            error=f"bundle {path} is refused: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        )
    sys.stdout.buffer.write(msgspec.json.encode(finding))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
