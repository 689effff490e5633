"""The records of the state directory, and the way back from them (docs/schema/state.schema.json)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from foretail.columns import Columns
from foretail.errors import ConfigError
from foretail.identity import Cursor
from foretail.joining import joined
from foretail.telemetry import log

if TYPE_CHECKING:
    from collections.abc import Mapping

    from foretail.journal import Restored
    from foretail.stream import Stream

CHUNKS_MAX = 10_000


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One journal record.

    Attributes:
        stream: name.
        columns: of the batch.
        cursor: of its file, after it.
        chunk: its forward chunk id.
        observed: it was judged in observe mode.
        bundles: by stream name, what numbers the types of the records after this one, which is of no batch
            (`Stream.numbering`).
    """

    stream: str
    columns: Columns
    cursor: Cursor | None = None
    chunk: str = ""
    observed: bool = False
    bundles: dict[str, Any] | None = None


class Note(msgspec.Struct, frozen=True, array_like=True):
    """Where new files of a stream begin: a registry, as the watch encodes it."""

    stream: str
    registry: bytes


class Snapshot(msgspec.Struct, frozen=True):
    """The state of the agent, as compaction writes it (docs/schema/state.json).

    Attributes:
        schema: of this record.
        streams: name to state.
        registries: name to cursors.
        chunks: forward chunks that are known, oldest first.
    """

    schema: int
    streams: dict[str, Any]
    registries: dict[str, bytes]
    chunks: list[str] = []


SNAPSHOT_SCHEMA = 1


class Restoration(NamedTuple):
    """What the journal gave beside the streams' own state.

    Attributes:
        registries: the arguments of `Registry.restore` by stream name.
        chunks: known forward chunks.
        settled: the last records were of the bundle that every stream has now. Otherwise the state must be compacted
            before anything is appended: records name types by the numbers of the bundle that the snapshot or the last
            record with `bundles` before them names.
    """

    registries: dict[str, Any]
    chunks: list[str]
    settled: bool


def restore(restored: Restored, streams: Mapping[str, Stream]) -> Restoration:
    """Bring streams to the state of the last acknowledged batch, whichever bundle they had then.

    Args:
        restored: what the journal kept.
        streams: fresh.
    """
    if restored.cut_bytes:
        log.warning("journal.cut", torn_bytes=restored.cut_bytes)
    if restored.recovered:
        log.warning("journal.recovered", because=restored.recovered)
    if restored.discarded:
        log.info("journal.discarded", unacknowledged_batches=restored.discarded)
    try:
        snapshot = (
            msgspec.msgpack.decode(restored.snapshot, type=Snapshot)
            if restored.snapshot is not None
            else Snapshot(SNAPSHOT_SCHEMA, {}, {})
        )
        entries = [msgspec.msgpack.decode(record, type=Entry) for record in restored.records]
        notes = [msgspec.msgpack.decode(note, type=Note) for note in restored.notes]
    except msgspec.MsgspecError as error:
        raise ConfigError(f"the state directory cannot be read: {error}; move it away to start anew") from error
    if snapshot.schema > SNAPSHOT_SCHEMA:
        raise ConfigError(
            f"the state directory has schema {snapshot.schema}, this agent reads up to {SNAPSHOT_SCHEMA}; update it"
        )
    for name, state in snapshot.streams.items():
        if name in streams:
            streams[name].restore(state)
    chunks = [*snapshot.chunks, *(entry.chunk for entry in entries if entry.chunk)]
    digests = {name: state.get("digest") for name, state in snapshot.streams.items()}
    for entry in joined(entries):
        for name, numbering in (entry.bundles or {}).items():
            digests[name] = numbering["digest"]
            if name in streams:
                streams[name].follow(numbering)
        if entry.stream in streams:
            stream = streams[entry.stream]
            stream.judge(stream.carried(entry.columns), observed=entry.observed)
    names = snapshot.registries.keys() | {note.stream for note in notes} | streams.keys()
    registries = {
        name: {
            "snapshot": snapshot.registries.get(name),
            "cursors": [entry.cursor for entry in entries if entry.stream == name and entry.cursor is not None],
            "notes": [note.registry for note in notes if note.stream == name],
        }
        for name in names
    }
    settled = all(digests.get(name) == stream.bundle.digest for name, stream in streams.items())
    return Restoration(registries, chunks[-CHUNKS_MAX:], settled)
