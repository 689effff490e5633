"""Labels of many hosts as one file: each cause once, corrections applied, conflicts for people to settle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from foretail import labels
from foretail.errors import ConfigError
from foretail_trainer.findings import visible

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from foretail.schema import Label


@dataclass(frozen=True, slots=True)
class Said:
    """A label and the file it came from."""

    label: Label
    file: str


@dataclass(frozen=True, slots=True)
class Gathered:
    """What many files say together.

    Attributes:
        labels: to learn from, oldest first.
        conflicts: labels of one cause that contradict each other, side by side; none of them is in `labels`.
        read: lines read; `corrected`: that a later line of their file took back; `repeated`: that said nothing new.
    """

    labels: tuple[Label, ...]
    conflicts: tuple[tuple[Said, ...], ...]
    read: int
    corrected: int
    repeated: int


def command(options: argparse.Namespace) -> int:
    """`foretail-train feedback`: one file of what many hosts' labels say, and a table of what they disagree on."""
    gathered = gather(options.files)
    try:
        Path(options.out).write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in gathered.labels))
    except OSError as error:
        raise ConfigError(f"cannot write {options.out}: {error.strerror}") from error
    console = Console(stderr=True)
    if gathered.conflicts:
        console.print(conflicts(gathered))
    console.print(f"{summary(gathered)}; {options.out}", highlight=False, markup=False)
    return 0


def gather(paths: Sequence[str]) -> Gathered:
    """Collect the labels of files.

    In one file the last label of an id counts: a person may correct himself. A cause that is normal in one place and
    an anomaly in another is a conflict, and nothing is learned of it until somebody labels it again.

    Raises:
        ConfigError: a file cannot be read or holds something else.
    """
    read = 0
    last: dict[tuple[str, str], Said] = {}
    for path in dict.fromkeys(paths):
        for one in labels.read(path):
            read += 1
            last[path, one.id] = Said(one, path)
    corrected = read - len(last)
    causes: dict[tuple[object, ...], list[Said]] = {}
    by_id: dict[str, tuple[object, ...]] = {}
    for said in sorted(last.values(), key=lambda said: said.label.labelled):
        cause = by_id.setdefault(said.label.id, of_cause(said.label))
        causes.setdefault(cause, []).append(said)
    disputed = {cause for cause, group in causes.items() if len({said.label.label for said in group}) > 1}
    kept: dict[tuple[object, ...], Label] = {}
    agreed = [said.label for cause, group in causes.items() if cause not in disputed for said in group]
    for one in agreed:
        content = one.label, of_cause(one), one.kind, _events(one)
        kept.setdefault(content, one)
    return Gathered(
        labels=tuple(sorted(kept.values(), key=lambda one: (one.labelled, one.id))),
        conflicts=tuple(tuple(causes[cause]) for cause in causes if cause in disputed),
        read=read,
        corrected=corrected,
        repeated=len(agreed) - len(kept),
    )


def of_cause(one: Label) -> tuple[object, ...]:
    """What a label is about. A session's fingerprint holds its last types alone; its counts tell it from others."""
    if one.kind == "line":
        return one.kind, one.fingerprint
    return one.kind, one.fingerprint, tuple(sorted(one.missing.items())), tuple(sorted(one.extra.items()))


def conflicts(gathered: Gathered) -> Table:
    """The labels that contradict each other, a group a cause."""
    table = Table(
        "what came", "label", "id", "labelled", "file", "reason", box=None, title="conflicts: none is learned"
    )
    for group in gathered.conflicts:
        for number, said in enumerate(group):
            one = said.label
            table.add_row(
                escape(visible(what(one))) if not number else "",
                one.label,
                one.id,
                one.labelled,
                escape(visible(said.file)),
                escape(visible(one.reason)),
            )
    return table


def summary(gathered: Gathered) -> str:
    """One line for people."""
    normal = sum(one.label == "normal" for one in gathered.labels)
    return (
        f"{gathered.read} labels read, {gathered.corrected} corrected later, {gathered.repeated} say what others do, "
        f"{len(gathered.conflicts)} causes in conflict; "
        f"kept: {normal} normal, {len(gathered.labels) - normal} anomalies"
    )


def what(one: Label) -> str:
    """What was labelled, in words."""
    if one.at is not None:
        name = one.types[one.events[one.at]]
        before = one.types[one.events[one.at - 1]].template if one.at else None
        return f'"{name.template or name.message or "(unknown)"}"' + (f' after "{before}"' if before else "")
    odd = [f"{n} fewer {name}" for name, n in one.missing.items()] + [
        f"{n} more {name}" for name, n in one.extra.items()
    ]
    last = one.types[one.events[-1]].template if one.events else None
    return f"{one.kind} of {one.total} events" + (f": {', '.join(odd[:3])}" if odd else f' that ends with "{last}"')


def _events(one: Label) -> tuple[object, ...]:
    """What came, as far as it teaches something."""
    return (one.at, one.begins, one.ends, tuple(one.types[event] for event in one.events))


def by_label(found: Iterable[Label], label: str) -> list[Label]:
    """Those that say `normal`, or `anomaly`."""
    return [one for one in found if one.label == label]
