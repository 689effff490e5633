"""Files at rest: `match`, `score`, `backtest`."""

from __future__ import annotations

import contextlib
import gc
import glob
import math
import socket
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from foretail import bundle as bundles
from foretail import logs, sequences, verdicts
from foretail.errors import ConfigError
from foretail.patterns import Matcher
from foretail.stream import Stream
from foretail.tables import printable, table
from foretail.telling import Options

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from foretail.bundle import Bundle
    from foretail.schema import Calibration

ANOMALOUS = b'"anomalous":true'
SHOWN = 50
"""Incidents that `backtest` lists; all are counted."""


def match(options: argparse.Namespace) -> int:
    """`foretail match`: `{"line": 1, "type": "3.7", "template": "..."}` for every line."""
    bundle = bundles.read(options.bundle)
    for path in options.files:
        logs.check(path)
    matcher = Matcher(bundle.patterns, bundle.manifest.format, bundle.manifest.key)
    untyped = b'"type":"0","template":null}'
    ends = [_type_end(pattern.type, pattern.template) for pattern in bundle.patterns]
    for path in options.files:
        name = b'"file":' + msgspec.json.encode(path) + b"," if len(options.files) > 1 else b""
        number = 0
        for batch in logs.batches([path], "default", progress=progress(path)):
            rows = []
            for index in matcher.match(batch.lines).index.tolist():
                number += 1
                rows.append(b'{%b"line":%d,%b' % (name, number, ends[index] if index >= 0 else untyped))
            write(rows)
    return 0


def score(options: argparse.Namespace) -> int:
    """`foretail score`: verdicts of files at rest, or of `--sequences`."""
    bundle = bundles.read(options.bundle)
    asked = [name for name in ("sequences", "timeseries", "lines") if getattr(options, name)]
    if len(asked) + bool(options.files) > 1:
        raise ConfigError("give either log files or one of --sequences, --timeseries and --lines, not both")
    if options.sequences:
        anomalous = sequences.score(bundle, options.sequences, write)
    elif options.timeseries or options.lines:
        anomalous = _table(bundle, options)
    elif not options.files:
        raise ConfigError("name at least one log file, or - for standard input")
    else:
        anomalous = False
        for path in options.files:
            logs.check(path)
        for host in logs.hosts(options.files):
            stream = Stream(bundle, Options("default", machine=machine(), emit=options.emit))
            for records in replay(stream, host.paths, ended=options.close_all):
                anomalous |= any(ANOMALOUS in record for record in records)
                write(records)
    return 1 if anomalous and options.fail_on_anomaly else 0


def _table(bundle: Bundle, options: argparse.Namespace) -> bool:
    """A verdict for each row of a CSV; True when any is anomalous."""
    from foretail import characters, delimited, rows  # noqa: PLC0415 - only these two options need them

    separator = options.separator.replace("\\t", "\t")
    dialect = delimited.Dialect(separator, options.quote, header=False if options.no_header else None)
    if options.lines and not options.text:
        raise ConfigError("--lines needs --text COLUMN: the column that holds the lines")
    found: Iterator[rows.RowVerdict | characters.LabelVerdict] = (
        rows.score_timeseries(bundle, options.timeseries, dialect)
        if options.timeseries
        else characters.score_lines(bundle, options.lines, options.text, dialect)
    )
    anomalous = False
    for verdict in found:
        anomalous |= verdict.anomalous
        write([msgspec.json.encode(verdict)])
    return anomalous


def backtest(options: argparse.Namespace) -> int:
    """`foretail backtest`: the incidents that would have been raised."""
    bundle = bundles.read(options.bundle)
    paths = sorted({path for pattern in options.globs for path in glob.glob(pattern, recursive=True)})  # noqa: PTH207
    if not paths:
        raise ConfigError(f"no file matches {' '.join(options.globs)}; quote the patterns and check the path")
    for path in paths:
        logs.check(path)
    found: list[tuple[str, verdicts.Incident]] = []
    lines, newest, began = 0, -math.inf, time.process_time()
    untyped = 0
    for host in logs.hosts(paths):
        stream = Stream(bundle, Options("default", machine=machine(), emit="incidents"))
        for records in replay(stream, host.paths, ended=False):
            found += [(host.name, incident) for record in records if (incident := _opened(record))]
        lines, untyped = lines + stream.teller.totals.lines, untyped + stream.teller.totals.untyped
        newest = max(newest, stream.now)
    used = time.process_time() - began
    since = newest - options.since if options.since else -math.inf
    found = [(host, incident) for host, incident in found if (incident.time or newest) >= since]
    print(_by_day(found))
    if found:
        print()
        print(_listed(found))
    print()
    print(
        f"{len(found)} incidents in {lines:,} lines of {len(logs.hosts(paths))} log(s); {untyped / max(lines, 1):.2%}"
        f" of lines untyped; bundle {bundle.label} promises {_promise(bundle)}; {used:.1f} s of one core"
    )
    return 0


def replay(stream: Stream, paths: Sequence[str], *, ended: bool) -> Iterator[list[bytes]]:
    """The records that rotations of one log give, a batch at a time."""
    gc.collect()
    gc.freeze()  # what was loaded stays: a collector that walks it costs a tenth of each line
    for batch in logs.batches(paths, stream.options.name, progress=progress(paths[-1])):
        yield stream.feed(batch)
    yield stream.finish(ended=ended)


def write(records: Sequence[bytes]) -> None:
    """Records as lines on stdout."""
    if records:
        sys.stdout.buffer.write(b"\n".join(records) + b"\n")
        sys.stdout.buffer.flush()


def machine() -> str:
    """The id of this host, part of every verdict id."""
    with contextlib.suppress(OSError):
        return Path("/etc/machine-id").read_text(encoding="ascii").strip() or socket.gethostname()
    return socket.gethostname()


def progress(path: str) -> Callable[[int], None] | None:
    """A line on stderr that counts what was read, on a terminal only."""
    if not sys.stderr.isatty():
        return None
    began, read, shown = time.monotonic(), 0, 0.0

    def show(count: int) -> None:
        nonlocal read, shown
        read += count
        now = time.monotonic()
        if now - shown > 0.2:
            shown = now
            sys.stderr.write(f"\r{printable(path)}: {read / 1e6:.1f} MB, {read / 1e6 / (now - began + 1e-9):.1f} MB/s ")
            sys.stderr.flush()

    return show


def _type_end(name: str, template: str) -> bytes:
    return b'"type":%b,"template":%b}' % (msgspec.json.encode(name), msgspec.json.encode(template))


def _opened(record: bytes) -> verdicts.Incident | None:
    value = msgspec.json.decode(record, type=verdicts.Record)
    return value if isinstance(value, verdicts.Incident) and value.state == "open" else None


def _promise(bundle: Bundle) -> str:
    said = [_promised(bundle.manifest.calibration)] if bundle.manifest.calibration else []
    if bundle.manifest.volume is not None:
        said.append(f"{_promised(bundle.manifest.volume.series.calibration)} for volume")
    return " and ".join(said) or "nothing"


def _promised(calibration: Calibration) -> str:
    how = ", extrapolated" if calibration.extrapolated else ""
    if not calibration.units_per_day:
        return f"{calibration.alpha:.3g} false alerts a {calibration.unit}{how}"
    return f"{calibration.alpha * calibration.units_per_day * 7:.2g} false alerts a week and host{how}"


def _by_day(found: Sequence[tuple[str, verdicts.Incident]]) -> str:
    days = Counter(_when(incident.time)[:10] for _, incident in found)
    return table(["day (UTC)", "incidents"], sorted(days.items()) or [("-", 0)], right=frozenset({1}))


def _listed(found: Sequence[tuple[str, verdicts.Incident]]) -> str:
    worst = sorted(found, key=lambda pair: -pair[1].score)[:SHOWN]
    rows = [
        (_when(incident.time), f"{incident.score:.3f}", ",".join(incident.reasons), incident.summary)
        for _, incident in sorted(worst, key=lambda pair: pair[1].time or 0)
    ]
    head = ["time (UTC)", "score", "detectors", f"incident (the {len(worst)} of highest score)"]
    return table(head, rows, right=frozenset({1}))


def _when(at: float | None) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S") if at is not None else "-"
