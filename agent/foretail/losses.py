"""What a stream's files lost or were refused, counted and said once, with the amounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from foretail.telemetry import log

if TYPE_CHECKING:
    from foretail.identity import Cursor


class WatchCounts(msgspec.Struct):
    """Totals since the start. Lost bytes are those that were seen and not read, so a lower bound.

    Attributes:
        truncated_files, truncated_bytes: content replaced before it was read, and no copy of it was found.
        vanished_files, vanished_bytes: gone while not open, or while the agent was stopped.
        dropped_files, dropped_bytes: removed files given up at the limit of descriptors.
        copies: rotated copies that were not read again.
        compressed_files: listed, not read.
        read_errors: failed opens and reads; each is tried again.
        waiting_files: listed now and not read, for too many are followed.
    """

    truncated_files: int = 0
    truncated_bytes: int = 0
    vanished_files: int = 0
    vanished_bytes: int = 0
    dropped_files: int = 0
    dropped_bytes: int = 0
    copies: int = 0
    compressed_files: int = 0
    read_errors: int = 0
    waiting_files: int = 0

    def waiting(self, files: int, files_max: int) -> None:
        """Take note of how many files are left for later, and say so when it begins."""
        if files and not self.waiting_files:
            log.warning("files.waiting", files=files, files_max=files_max)
        self.waiting_files = files

    def truncated(self, path: str, source: str, lost_bytes: int) -> None:
        """Count a file whose content was replaced."""
        self.truncated_files += 1
        self.truncated_bytes += lost_bytes
        _say("file.truncated", path, source, lost_bytes)

    def vanished(self, cursor: Cursor) -> None:
        """Count a file that is not found again."""
        self.vanished_files += 1
        self.vanished_bytes += cursor.unread
        _say("file.vanished", cursor.path, cursor.id, cursor.unread)

    def dropped(self, path: str, source: str, lost_bytes: int) -> None:
        """Count a file given up for its descriptor."""
        self.dropped_files += 1
        self.dropped_bytes += lost_bytes
        _say("file.dropped", path, source, lost_bytes)


def _say(event: str, path: str, source: str, lost_bytes: int) -> None:
    level = log.error if lost_bytes else log.info
    level(event, path=path, source=source, lost_bytes=lost_bytes)
