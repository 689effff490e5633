"""The cursors of a stream as the journal keeps them: of files being read, and of files that are gone for now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from foretail.errors import ConfigError
from foretail.identity import Cursor

if TYPE_CHECKING:
    from collections.abc import Iterable


class Registry(msgspec.Struct):
    """What a stream knows of its files.

    Attributes:
        begun: files were listed before: those that are new now are read from their head whatever `start` says.
        cursors: by source id.
    """

    begun: bool = False
    cursors: dict[str, Cursor] = {}

    def encode(self) -> bytes:
        """Give it as bytes, for a snapshot."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def restore(cls, snapshot: bytes | None, cursors: Iterable[Cursor] = (), notes: Iterable[bytes] = ()) -> Registry:
        """Build it from a snapshot, the cursors of the acknowledged batches since, in order, and all notes since.

        A note holds where a source began: it never moves a cursor, but may know its file better. Raises ConfigError if
        bytes are not ours.
        """
        try:
            registry = msgspec.msgpack.decode(snapshot, type=cls) if snapshot else cls()
            noted = [msgspec.msgpack.decode(note, type=cls) for note in notes]
        except msgspec.MsgspecError as error:
            raise ConfigError(f"the cursors in the state directory cannot be read: {error}") from error
        for note in noted:
            registry.begun |= note.begun
            for cursor in note.cursors.values():
                if registry.cursors.get(cursor.id, cursor).offset == cursor.offset:
                    registry.cursors[cursor.id] = cursor
        for cursor in cursors:
            registry.cursors[cursor.id] = cursor
        return registry
