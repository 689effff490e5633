"""From normal logs to a bundle: the order of the trainer's steps."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from foretail import bundle as bundles
from foretail.errors import ConfigError
from foretail.formats import detect, parse_format
from foretail.model import SequenceModel
from foretail.patterns import Matcher
from foretail.schema import FIRST, Format, KeyRule, Pattern, Patterns
from foretail_trainer import (
    beside,
    calibrate,
    crossfit,
    export,
    keys,
    mine,
    pack,
    parameters,
    reading,
    sequences,
    suspects,
    training,
    types,
)
from foretail_trainer.characters import FittedLines
from foretail_trainer.fit import Plan
from foretail_trainer.network import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.bundle import Bundle
    from foretail.schema import Reading
    from foretail_trainer.calibrate import Calibrated
    from foretail_trainer.changes import Changes
    from foretail_trainer.crossfit import Scorer
    from foretail_trainer.export import Agreement
    from foretail_trainer.fit import Epoch, Fitted
    from foretail_trainer.keys import Discovery
    from foretail_trainer.mine import Mined
    from foretail_trainer.network import Weights
    from foretail_trainer.sequences import Sessions
    from foretail_trainer.stages import Stages
    from foretail_trainer.suspects import Suspect
    from foretail_trainer.volume import FittedVolume
    from foretail_trainer.windows import Windows

DETECT_LINES = 5_000
"""Lines that tell the header format."""
KEY_LINES = 60_000
"""Lines that candidates for the session key are compared on."""


class Options(msgspec.Struct, frozen=True):
    """What `fit` is told.

    Attributes:
        out: directory of the bundle.
        files: of logs; or `sequences`: sessions as ids.
        name, version: of the bundle; 0 = seconds since 1970.
        format, key: as on the command line.
        idle_s: 0 = from the data.
        types_file, exclude, base: paths, "" = none.
        feedback: paths of labels; with `base` they make a refit of it (`refit`).
        shape: of the network; its vocabulary is set here.
        plan: of the training.
        budget: of false alerts.
        hosts: the log came from; 0 = as many as files.
        seed: of everything random.
        types_only: no model.
        detectors: that are learned; `volume_model`: of the volume detector, "" = the default.
        labelled: a classifier of lines that joins them.
    """

    out: str
    files: tuple[str, ...] = ()
    sequences: str = ""
    name: str = ""
    version: int = 0
    format: str = "auto"
    key: str = "auto"
    idle_s: float = 0.0
    types_file: str = ""
    exclude: str = ""
    base: str = ""
    feedback: tuple[str, ...] = ()
    cell: str = "lstm"
    layers: int = 1
    window: int = 10
    units: int = 64
    plan: Plan = Plan()
    rate: float | None = None
    per_week: float = calibrate.ALERTS_PER_WEEK
    hosts: int = 0
    seed: int = 0
    types_only: bool = False
    detectors: tuple[str, ...] = beside.DETECTORS
    volume_model: str = ""
    labelled: FittedLines | None = None


@dataclass(slots=True)
class Learned:
    """Everything a fit found; what is absent was not asked for. The report, and `history`, are made of it."""

    options: Options
    format: Format
    key: KeyRule
    patterns: tuple[Pattern, ...]
    lines: int
    digest: str
    hosts: int
    untyped: int
    mined: Mined | None = None
    discovery: Discovery | None = None
    sessions: Sessions | None = None
    calibrated: Calibrated | None = None
    fitted: Fitted | None = None
    agreement: Agreement | None = None
    judged: Windows | None = None
    curve: list[Epoch] = field(default_factory=list)
    models: dict[str, bytes] = field(default_factory=dict)
    share: NDArray[np.int64] | None = None
    folds: dict[int, Weights] = field(default_factory=dict)
    changes: Changes | None = None
    volume: FittedVolume | None = None
    labelled: FittedLines | None = None
    bundle: Bundle | None = None
    seconds: float = 0.0
    suspects: list[Suspect] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def fit(options: Options, stages: Stages) -> Learned:
    """Make a bundle from logs, or from sequences.

    Args:
        options: what to do.
        stages: is told of each step and its progress.

    Raises:
        ConfigError: the input, an option, or the export gate.
    """
    began = time.monotonic()
    if options.sequences:
        learned = _from_sequences(options, stages)
    else:
        with reading.kept(options.files) as paths:
            learned = _from_logs(options, paths, stages)
    if not options.types_only and "sequence" in options.detectors:
        _model(learned, stages)
    with stages.stage("bundle"):
        learned.bundle = pack.pack(learned)
    learned.seconds = time.monotonic() - began
    return learned


def _from_logs(options: Options, paths: Sequence[str], stages: Stages) -> Learned:
    found_by_itself = "auto" in {options.format, options.key}
    sample = reading.sample(paths, KEY_LINES) if found_by_itself else []
    form = detect(sample[:DETECT_LINES]) if options.format == "auto" else parse_format(options.format)
    size = sum(Path(path).stat().st_size for path in paths)
    base = Patterns(1, bundles.read(options.base).patterns) if options.base else None
    edits = types.read(options.types_file) if options.types_file else None
    with stages.stage("message types", size) as progress:
        source = reading.Corpus(tuple(paths), progress)
        mined = mine.mine(source, form, seed=options.seed, edits=edits, base=base)
    discovery = None
    if options.key == "auto":
        with stages.stage("session key"):
            discovery = keys.discover(sample, Matcher(mined.patterns, form, KeyRule()), form)
            key = discovery.rule
    elif options.key == "none":
        key = KeyRule()
    elif options.key in form.fields:
        key = KeyRule(kind="field", field=options.key, endless=True)
    else:
        key = KeyRule(kind="search", regex=options.key)
    volumes = not options.types_only and "volume" in options.detectors
    numbers: tuple[Reading, ...] = ()
    if volumes:
        some = reading.sample(paths, parameters.SAMPLE_LINES)
        numbers = parameters.candidates(some, Matcher(mined.patterns, form, KeyRule()))
    with stages.stage("typing", size) as progress:
        lines = reading.read(paths, Matcher(mined.patterns, form, key), progress, numbers)
    vocabulary = FIRST + len(mined.patterns)
    sessions = sequences.of_lines(lines, vocabulary, key, idle_s=options.idle_s)
    if not len(sessions):
        raise ConfigError(f"no line holds the session key {options.key!r}; try --key auto or --key none")
    patterns = tuple(
        msgspec.structs.replace(pattern, end=bool(sessions.ends is not None and sessions.ends[number]))
        for number, pattern in enumerate(mined.patterns, FIRST)
    )
    learned = Learned(
        options,
        form,
        key,
        patterns,
        lines=len(lines.ids),
        digest=lines.digest,
        hosts=options.hosts or lines.hosts,
        untyped=int((lines.ids < FIRST).sum()),
        mined=mined,
        discovery=discovery,
        sessions=sessions,
        notes=list(mined.notes),
        labelled=options.labelled,
    )
    if volumes:
        beside.add_volume(learned, lines, stages, numbers)
    return learned


def _from_sequences(options: Options, stages: Stages) -> Learned:
    with stages.stage("sequences"):
        sessions, names = sequences.read_sequences(options.sequences)
    support = np.bincount(sessions.ids, np.repeat(sessions.weight, sessions.stops - sessions.starts))
    patterns = tuple(
        Pattern(1, number + 1, pack.type_id(name), name, name, number, int(support[number + FIRST]))
        for number, name in enumerate(names)
    )
    patterns = tuple(msgspec.structs.replace(p, rare=p.support < mine.RARE) for p in patterns)
    lines = int(support.sum())
    digest = pack.digest(Path(options.sequences).read_bytes())
    return Learned(
        options,
        Format(),
        KeyRule(kind="search", regex=r"\S+"),
        patterns,
        lines=lines,
        digest=digest,
        hosts=options.hosts or 1,
        untyped=0,
        sessions=sessions,
        notes=["calibrated on a seeded, stratified deal of the sessions: they carry no time"],
    )


def _model(learned: Learned, stages: Stages) -> None:
    """Cross-fit, calibrate, fit on all, export, and pass the gate."""
    options, sessions = learned.options, learned.sessions
    assert sessions is not None  # noqa: S101 - our own bug
    vocabulary = FIRST + len(learned.patterns)
    if options.cell not in {"lstm", "gru", "rnn"}:
        raise ConfigError(f"--cell {options.cell!r} is unknown; use lstm, gru or rnn")
    shape = Shape(options.cell, options.layers, options.units, options.window, vocabulary)  # type: ignore[arg-type]
    if options.exclude:
        sessions, gone = suspects.without(sessions, suspects.struck(options.exclude), vocabulary)
        learned.sessions = sessions
        learned.notes.append(f"{gone} sessions were struck by --exclude")
    units = int(sessions.weight[sessions.owner][sessions.full].sum())
    if units < crossfit.FOLDS:
        what = "full blocks of 100 lines" if sessions.endless else "sessions"
        raise ConfigError(
            f"a sequence model needs at least {crossfit.FOLDS} {what}, better some hundred, and the log holds {units}: "
            "give a longer log"
        )
    with stages.stage("calibration", crossfit.FOLDS) as progress:
        done = 0

        def fold(now: int, _all: int) -> None:
            nonlocal done
            progress(now - done)
            done = now

        learned.share = crossfit.deal(sessions, options.seed)

        def fitter(part: Sessions, partial: NDArray[np.bool_], seed: int) -> Scorer:
            found, _ = training.fit_network(part, shape, options.plan, seed=seed, partial=partial)
            learned.folds[seed - options.seed] = found.weights
            return training.scorer(found.weights)

        held = crossfit.cross_fit(
            sessions,
            learned.share,
            fitter,
            window=options.window,
            vocabulary=vocabulary,
            seed=options.seed,
            progress=fold,
        )
        share = beside.left(learned)
        rate = options.rate * share if options.rate is not None else None
        budget = calibrate.Budget(rate, options.per_week * share, learned.hosts)
        learned.calibrated = calibrate.calibrate(sessions, held, vocabulary=vocabulary, budget=budget)
        _say_what_is_promised(learned, budget)
        names = ["(start)", "(end)", "(unknown)", *(pattern.template for pattern in learned.patterns)]
        learned.suspects = suspects.suspects(sessions, learned.calibrated, names)
    with stages.stage("model", 1.0) as progress:
        at = 0

        def step(epoch: Epoch) -> None:
            nonlocal at
            progress((epoch.step - at) / epoch.steps)
            at = epoch.step
            learned.curve.append(epoch)

        fitted, judge = training.fit_network(sessions, shape, options.plan, seed=options.seed, progress=step)
    learned.fitted, learned.judged = fitted, judge
    with stages.stage("export"):
        threshold = learned.calibrated.calibration.threshold
        weights = fitted.weights
        b1, b64 = export.export(weights, 1), export.export(weights, 64)
        learned.agreement = export.gate(b1, b64, weights, judge, (threshold,))
        learned.models = {"sequence.b1.tflite": b1, "sequence.b64.tflite": b64}


def _say_what_is_promised(learned: Learned, budget: calibrate.Budget) -> None:
    """A note when the log is too short for the rate that was asked for."""
    assert learned.calibrated is not None  # noqa: S101 - our own bug
    found = learned.calibrated.calibration
    asked = budget.alpha(found.units_per_day)
    if found.alpha > asked * 1.01:
        week = f" ({found.alpha * found.units_per_day * 7:.2g} a week and host)" if found.units_per_day else ""
        learned.notes.append(
            f"{asked:.2g} false alerts a {found.unit} were asked for; {found.units:,} {found.unit}s of training data "
            f"support no less than {found.alpha:.2g}{week}: train on a longer log for fewer"
        )


def model_of(learned: Learned) -> SequenceModel | None:
    """The exported model as the agent runs it."""
    if not learned.models:
        return None
    return SequenceModel(
        learned.models["sequence.b1.tflite"],
        learned.models["sequence.b64.tflite"],
        window=learned.options.window,
        vocabulary=FIRST + len(learned.patterns),
    )
