"""The snapshot of a generation whose journal is in use already: written beside the loop, which goes on appending."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from foretail.durable import System, write_durably
from foretail.errors import StreamError
from foretail.ledger import SNAPSHOT, Header, header

if TYPE_CHECKING:
    from pathlib import Path


class Turning:
    """What `Journal.turn_over` leaves to do. Until it is done a restart takes the snapshot and the journal before.

    Args:
        path: of the snapshot.
        head: its generation, and the number of the last record in it.
        before: descriptor of the journal before, closed here.

    Attributes:
        ordered: the journal before is on disk, so that this one may be fsynced: no later record outlives an earlier.
        size: bytes of the snapshot; -1 until it is written.
        cancelled: the directory is another agent's.
    """

    def __init__(self, path: Path, head: Header, before: int, system: System) -> None:
        self.ordered = self.cancelled = False
        self.size = -1
        self._path, self._head, self._before, self._system = path, head, before, system

    def order(self) -> None:
        """Bring the journal before to the disk; from any thread, and soon: until then nothing of this one is."""
        if not self.ordered:
            with contextlib.suppress(OSError):  # what it lost the snapshot holds
                self._system.fsync(self._before)
            with contextlib.suppress(OSError):
                os.close(self._before)
            self.ordered = True

    def settle(self, snapshot: bytes) -> None:
        """Write the snapshot, of the state before the generation's first record; from any thread.

        Raises StreamError when the system refuses: to be called again, or else the next start does it.
        """
        self.order()
        if self.cancelled:
            return
        try:
            head = header(SNAPSHOT, self._head, snapshot)
            write_durably(self._path, (head, snapshot), self._system)
        except OSError as error:
            raise StreamError(f"cannot write {self._path}: {error.strerror}; tried again") from error
        self.size = len(snapshot)
