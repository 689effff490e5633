"""`foretail-train evaluate`: a bundle against labelled sessions, from logs or from sequences."""

from __future__ import annotations

import csv
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail import bundle as bundles
from foretail import logs, verdicts
from foretail import sequences as files
from foretail.counts import Counts
from foretail.errors import ConfigError
from foretail.model import SequenceModel
from foretail.patterns import Matcher
from foretail.schema import FIRST
from foretail.stream import Stream
from foretail.surprise import Surprise
from foretail.telling import Options
from foretail_trainer import evaluate, reading, sequences
from foretail_trainer.findings import EvaluateData

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail_trainer.sequences import Sessions

WEEK_S = 7 * 86_400.0


def run(options: argparse.Namespace) -> EvaluateData:
    """Judge what the options name.

    Raises:
        ConfigError: the options do not go together, a file cannot be read, or no session has a label.
    """
    bundle = bundles.read(options.bundle)
    if options.normal and options.abnormal and not options.files:
        return _sequences(bundle, options)
    if options.labels and options.files:
        return _logs(bundle, options.labels, options.files)
    raise ConfigError("give --labels CSV and log files, or --normal TSV and --abnormal TSV")


def labels(path: str) -> dict[str, bool]:
    """Session key to whether it is anomalous, from a CSV of two columns.

    Raises:
        ConfigError: no such file, or no column of labels.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if len(row) >= 2]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    words = {
        "anomaly": True,
        "anomalous": True,
        "abnormal": True,
        "1": True,
        "normal": False,
        "norm": False,
        "0": False,
    }
    found = {row[0]: words[row[1].strip().lower()] for row in rows if row[1].strip().lower() in words}
    if not found:
        raise ConfigError(f"{path} has no labels: give rows of a session and Normal or Anomaly")
    return found


def _sequences(bundle: Bundle, options: argparse.Namespace) -> EvaluateData:
    names = [pattern.template for pattern in bundle.patterns]
    rows, weights, marks = [], [], []
    for path, anomalous in ((options.normal, False), (options.abnormal, True)):
        found, counts = files.read(path)
        rows += sequences.renamed(found, names)
        weights += counts
        marks += [anomalous] * len(found)
    train = None
    if options.train:
        found, counts = files.read(options.train)
        train = sequences.plain(sequences.renamed(found, names), counts)
    tested = sequences.plain(rows, weights)
    data = f"{options.normal}, {options.abnormal}"
    return _judged(bundle, tested, np.array(marks, np.bool_), train, data, ())


def _logs(bundle: Bundle, labels_path: str, paths: Sequence[str]) -> EvaluateData:
    known = labels(labels_path)
    manifest = bundle.manifest
    with reading.kept(paths) as kept:
        lines = reading.read(kept, Matcher(bundle.patterns, manifest.format, manifest.key))
        found = sequences.of_lines(lines, FIRST + len(bundle.patterns), manifest.key, idle_s=manifest.idle_s)
        keys = [key.decode("utf-8", "replace") for key in found.keys]
        labelled = np.array([key in known for key in keys], np.bool_)
        if not labelled.any():
            raise ConfigError(f"no session of these logs has a label in {labels_path}: is its key that of the bundle?")
        found = found.rows(labelled)
        marks = np.array([known[key] for key in keys if key in known], np.bool_)
        notes = _incidents(bundle, kept, known, found)
    return _judged(bundle, found, marks[found.owner], None, ", ".join(paths), notes)


def _judged(
    bundle: Bundle,
    tested: Sessions,
    anomalous: NDArray[np.bool_],
    train: Sessions | None,
    data: str,
    notes: tuple[str, ...],
) -> EvaluateData:
    manifest, sequence, calibration = bundle.manifest, bundle.manifest.sequence, bundle.manifest.calibration
    if sequence is None or calibration is None:
        raise ConfigError(f"bundle {bundle.path} has no sequence model; fit it without --types-only")
    model = SequenceModel(
        bundle.files["sequence.b1.tflite"],
        bundle.files["sequence.b64.tflite"],
        window=sequence.window,
        vocabulary=sequence.vocabulary,
    )
    rare = np.array([False] * FIRST + [pattern.rare for pattern in bundle.patterns])
    surprise = Surprise(calibration, Counts.read(bundle))
    judged = evaluate.judge(tested, model.surprise, surprise, rare, window=sequence.window)
    weight = tested.weight[tested.owner]
    return EvaluateData(
        name=manifest.name,
        version=manifest.version,
        digest=bundle.digest,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        data=data,
        unit=calibration.unit,
        normal=int(weight[~anomalous].sum()),
        anomalous=int(weight[anomalous].sum()),
        rows=tuple(evaluate.rows(judged, anomalous, calibration, train)),
        notes=notes,
    )


def _incidents(bundle: Bundle, paths: Sequence[str], known: dict[str, bool], tested: Sessions) -> tuple[str, ...]:
    """False incidents a week and time to detection, as the agent raises them."""
    first = dict(zip((key.decode("utf-8", "replace") for key in tested.keys), tested.times[tested.starts], strict=True))
    false, delays, span, intervals = 0, [], 0.0, 0
    for host in logs.hosts(paths):
        stream = Stream(bundle, Options("evaluate", emit="incidents", cap_per_hour=1_000_000))
        records: list[bytes] = []
        began = math.inf
        for batch in logs.batches(host.paths, "evaluate"):
            records += stream.feed(batch)
            began = min(began, stream.now)
        records += stream.finish(ended=True)
        span += max(0.0, stream.now - began)
        for record in records:
            incident = msgspec.json.decode(record, type=verdicts.Record)
            if not isinstance(incident, verdicts.Incident) or incident.state != "open":
                continue
            if incident.reasons[:1] == ("volume",):  # of an interval: no session's label says whether it is right
                intervals += 1
                continue
            key = incident.key or ""
            if known.get(key, False) and key in first and incident.time is not None:
                delays.append(incident.time - first[key])
            elif not known.get(key, False):
                false += 1
    notes = [f"{false} false incidents, {false / max(span, 1.0) * WEEK_S:.1f} a week of this log"]
    if intervals:
        notes.append(
            f"{intervals} incidents are about how much was written in an interval: the labels do not judge them"
        )
    if delays:
        middle, late = np.quantile(delays, [0.5, 0.95])
        notes.append(f"from a session's first line to its incident: median {middle:.1f} s, 95 % within {late:.1f} s")
    return tuple(notes)
