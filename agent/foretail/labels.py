"""`foretail label`: what a person says of an incident, kept for the next training (docs/feedback.md).

A label names types, not lines: what came before, what came, what followed. It can be carried to a trainer that has
never seen the host's log.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from foretail import bundle as bundles
from foretail import lookup, surroundings
from foretail.config import load
from foretail.durable import sync_directory, write_all
from foretail.errors import ConfigError
from foretail.patterns import Matcher
from foretail.schema import FIRST, PAD, SCHEMA, UNKNOWN, KeyRule, Label, TypeName
from foretail.tables import printable
from foretail.trial import SKELETON
from foretail.verdicts import Explanation, SessionVerdict, fingerprint, text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from foretail.bundle import Bundle
    from foretail.config import Config
    from foretail.lookup import Judged
    from foretail.surroundings import Around

NAME = "labels.jsonl"
REASON_CHARS_MAX = 1000
_WHOLE = {"end", "counts", "length"}
"""Detectors that speak of sessions only that were seen from their beginning."""


def label(options: argparse.Namespace) -> int:
    """`foretail label`: append one label to `labels.jsonl` of the state directory, and print it."""
    reason = " ".join(options.reason.split())
    if not reason or len(reason) > REASON_CHARS_MAX:
        raise ConfigError(f"--reason has {len(reason)} characters; say in 1 to {REASON_CHARS_MAX} why")
    config = load(options.config) if not options.state or Path(options.config).exists() else None
    if options.origin:
        record = lookup.given(options.id, options.origin)
    elif config is not None:
        record = lookup.found(options.id, config)
    else:
        raise ConfigError(f"there is no {options.config} that says where records go; give the record with --from FILE")
    bundle, readable = _bundle(record, options.bundle, config)
    folder = Path(options.state or (config.agent.state_dir if config else ""))
    made = of(record, bundle, options.label, reason, log=readable)
    append(folder / NAME, made)
    sys.stdout.buffer.write(msgspec.json.encode(made) + b"\n")
    print(f"foretail: {made.id} is kept as {made.label} in {folder / NAME}: {_what(made)}", file=sys.stderr)
    if made.bundle != bundle.label:
        print(
            f"foretail: it was judged by {printable(made.bundle)}, its types are named by {bundle.label}",
            file=sys.stderr,
        )
    return 0


def of(record: Judged, bundle: Bundle, verdict: str, reason: str, *, log: bool = True) -> Label:
    """The label of a record.

    Args:
        record: what was judged.
        bundle: to name its types.
        verdict: `normal` or `anomaly`.
        reason: the person's words.
        log: the lines around it may be read where it names them, to learn what came before and after.

    Raises:
        ConfigError: nothing is known of the line's past: an unexplained verdict whose log is gone.
    """
    if record.reasons[:1] == ("volume",):
        raise ConfigError(f"{record.id} is about how much was written, not about what; there is no label for that yet")
    why = record.explanation or Explanation()
    session = isinstance(record, SessionVerdict) or why.events is not None
    history = _Of(record, bundle, why).session(log=log) if session else _Of(record, bundle, why).line(log=log)
    return Label(
        schema=SCHEMA,
        id=record.id,
        label="normal" if verdict == "normal" else "anomaly",
        reason=reason,
        labelled=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        stream=record.stream,
        bundle=record.bundle,
        kind="line" if not session else "block" if _endless(bundle) else "session",
        reasons=record.reasons,
        score=record.score,
        total=_total(record) if session else 0,
        missing=why.missing,
        extra=why.extra,
        **history._asdict(),
    )


def _total(record: Judged) -> int:
    """Events of a judged session."""
    if isinstance(record, SessionVerdict):
        return record.events
    return (record.explanation.events if record.explanation else None) or 0


def append(path: Path, made: Label) -> None:
    """Add one line to the file, durably; a line that a crash left half is ended first.

    Raises:
        ConfigError: it cannot be written.
    """
    data = msgspec.json.encode(made) + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = not path.exists()
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            size = os.fstat(fd).st_size
            half = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
            write_all(fd, b"\n" + data if half else data)
            os.fsync(fd)
        finally:
            os.close(fd)
        if fresh:
            sync_directory(path.parent)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; run as the agent's user, or give --state") from None


class History(NamedTuple):
    """Of a label, what depends on the log: see `schema.Label`."""

    fingerprint: str
    types: tuple[TypeName, ...]
    events: tuple[int, ...]
    at: int | None
    begins: bool
    ends: bool


class _Of:
    """A record on its way to a label."""

    def __init__(self, record: Judged, bundle: Bundle, why: Explanation) -> None:
        self._record, self._bundle, self._why = record, bundle, why
        sequence = bundle.manifest.sequence
        self._window = sequence.window if sequence else 10
        self._by_template = {pattern.template: number for number, pattern in enumerate(bundle.patterns, FIRST)}
        self._key = record.session if isinstance(record, SessionVerdict) else record.key

    def line(self, *, log: bool) -> History:
        """A line: itself in its session as far as the log tells, else after its window."""
        record, why = self._record, self._why
        assert not isinstance(record, SessionVerdict)  # noqa: S101 - our own bug
        around = self._around(record.offset) if log else None
        if around is not None:
            ids, at, begins, ends = around.ids, around.at, around.begins, around.ends
        elif record.explanation is None:
            raise ConfigError(
                f"the verdict {record.id} was not anomalous and carries no context, and {printable(record.source)} "
                f"does not hold the line at byte {record.offset} any more; label it while the log is there"
            )
        else:
            before = [self._model_id(name) for name in why.context]
            ids, at = [*before, self._id_of(record.type_id)], len(before)
            begins, ends = 0 < at < self._window, False
        mark = getattr(record, "fingerprint", "") or self._mark(ids[:at], around.unseen if around else "")
        return History(mark, *self._names(ids, at, why.line), at, begins, ends)

    def session(self, *, log: bool) -> History:
        """A session or block: all its events while the log has them, else its last C."""
        record, why = self._record, self._why
        whole = bool(_WHOLE & {*record.reasons, *why.detectors}) or bool(why.missing or why.extra)
        around = surroundings.block(self._bundle, record.source, record.offset, key=self._key) if log else None
        ids = around.ids if around else [self._model_id(name) for name in why.context]
        begins = (bool(around) and whole) or (not around and len(ids) < self._window)
        ends = "end" in why.detectors or bool(around and around.ends)
        mark = getattr(record, "fingerprint", "") or fingerprint(
            (*record.reasons, "")[0], self._type_id(ids[-1]) if ids else None, self._last(ids[:-1])
        )
        return History(mark, *self._names(ids, -1, None), None, begins and not _endless(self._bundle), ends)

    def _around(self, offset: int) -> Around | None:
        """The judged line in its session: all of it, of an endless one as much as a window can see."""
        wanted = self._window if _endless(self._bundle) else surroundings.EVENTS_MAX
        path, line = self._record.source, self._why.line
        return surroundings.around(self._bundle, path, offset, key=self._key, line=line, before=wanted, after=wanted)

    def _mark(self, before: Sequence[int], unseen: str) -> str:
        """The fingerprint that an incident of this line would have (`telling.Teller`)."""
        record, reason = self._record, (*self._record.reasons, "sequence")[0]
        type_id = getattr(record, "type_id", None)
        if type_id is None:
            return fingerprint(reason, unseen or None, ())
        return fingerprint(reason, type_id, self._last(before))

    def _last(self, before: Sequence[int]) -> tuple[str, ...]:
        padded = [PAD] * 3 + list(before)
        return tuple(self._type_id(one) or str(one) for one in padded[-3:])

    def _type_id(self, model_id: int) -> str | None:
        return self._bundle.patterns[model_id - FIRST].type_id if model_id >= FIRST else None

    def _model_id(self, template: str) -> int:
        return self._by_template.get(template, UNKNOWN)

    def _id_of(self, type_id: str | None) -> int:
        known = (number for number, pattern in enumerate(self._bundle.patterns, FIRST) if pattern.type_id == type_id)
        return next(known, UNKNOWN)

    def _names(self, ids: Sequence[int], at: int, line: str | None) -> tuple[tuple[TypeName, ...], tuple[int, ...]]:
        """The types of events and the events as places in them; only the judged line keeps its words."""
        table: dict[TypeName, int] = {}
        events = []
        for place, model_id in enumerate(ids):
            name = TypeName()
            if model_id >= FIRST:
                pattern = self._bundle.patterns[model_id - FIRST]
                name = TypeName(pattern.type_id, pattern.template)
            elif place == at:
                name = self._judged(line)
            events.append(table.setdefault(name, len(table)))
        return tuple(table), tuple(events)

    def _judged(self, line: str | None) -> TypeName:
        """The judged line, which this bundle does not know: as the record names it, or by its words without digits."""
        record = self._record
        assert not isinstance(record, SessionVerdict)  # noqa: S101 - our own bug
        if record.type_id is not None:
            return TypeName(record.type_id, record.template)
        if line is None:
            return TypeName()
        manifest = self._bundle.manifest
        message = Matcher((), manifest.format, KeyRule()).message(line.encode("utf-8", "replace"))
        return TypeName(message=text(message.translate(SKELETON))[0])


def _bundle(record: Judged, named: str | None, config: Config | None) -> tuple[Bundle, bool]:
    """The bundle that names a record's types, and whether lines of its log stand one by one in the file."""
    streams = config.stream if config else ()
    stream = next((one for one in streams if one.name == record.stream), None)
    if not named and stream is None:
        raise ConfigError(f"no stream {printable(record.stream)!r} is configured; name its bundle with --bundle")
    bundle = bundles.read(named or (stream.bundle if stream else ""))
    if stream is None:
        return bundle, True
    from foretail.service import with_key  # noqa: PLC0415 - it brings the whole service

    return with_key(bundle, stream.key), stream.multiline == "none"


def _endless(bundle: Bundle) -> bool:
    key = bundle.manifest.key
    return key.endless or key.kind == "none"


def _what(made: Label) -> str:
    """What a label will teach, for the person who gave it."""
    if made.at is None:
        return f"{made.kind} of {made.total or len(made.events)} events, {len(made.events)} of them known"
    return f"{made.at} events before it, {len(made.events) - made.at - 1} after it"


def read(path: str) -> list[Label]:
    """All labels of a file; blank lines are passed over.

    Raises:
        ConfigError: it cannot be read, or a line is no label, named by its number.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = msgspec.json.decode(line, type=Label)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}:{number} is no label ({error}); give files that `foretail label` wrote"
            ) from None
        if one.schema > SCHEMA:
            raise ConfigError(f"{path}:{number} has schema {one.schema}, this program reads up to {SCHEMA}; update it")
        if any(not 0 <= event < len(one.types) for event in one.events) or not (
            one.at is None or 0 <= one.at < len(one.events)
        ):
            raise ConfigError(f"{path}:{number}: events and types do not go together; remove the line")
        found.append(one)
    return found
