"""What makes a file the same file: its content first, then its inode; its path and its device decide nothing alone."""

from __future__ import annotations

import hashlib
import re
from enum import IntEnum
from typing import Protocol

import msgspec

HEAD_BYTES, BEFORE_BYTES = 1024, 1024
"""How much of the file's head, and of what lies just before the offset, is compared."""

_COMPRESSED = (".gz", ".xz", ".zst", ".bz2", ".lz4")
_SUFFIX = re.compile(r"(?:[.\-_~]+(?:\d[\dTZtz.:_+\-]*|bak|old|orig|prev|save)|~+)$")
_NUMBER = re.compile(r"\.(\d{1,5})$")
_DATE_DIGITS = 6  # of a date such as 261121
_INFIX = re.compile(r"[.\-_]\d[\dTZtz:_+\-]*(?=\.[A-Za-z]\w*$)")


class Match(IntEnum):
    """How sure it is that a file continues a cursor."""

    NO = 0  # the content differs
    EMPTY = 1  # it was empty when last seen: only its inode can tell
    WEAK = 2  # equal, but so short that it may be a banner which other files have too
    STRONG = 3  # a full head and the bytes before the offset are equal


class Content(Protocol):
    """Bytes that can be read at an offset."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Give up to `size` bytes from `offset`; fewer only at the end."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where reading of one source goes on, and how its file is recognised.

    Attributes:
        id: of the source, 24 hex digits.
        path: where the file was last; real_path: the same behind symbolic links.
        offset: where the next read starts.
        whole: it is read from byte 0.
        head_bytes, head: length and digest of the file's first bytes: at most HEAD_BYTES, and of what was read, or of
            what was there when nothing is read yet.
        before_bytes, before: the same of the bytes that end at offset (at most BEFORE_BYTES).
        inode, device: where it was last; 0 = unknown (a compressed copy).
        changed_ns: its time of modification then.
        after: id of the source whose place it took in a rotation, or empty.
        rotated: it had left its first name.
        size: of the file when last seen: what lies between offset and size is lost if it is never found again.
    """

    id: str
    path: str
    offset: int
    whole: bool
    head_bytes: int = 0
    head: str = ""
    before_bytes: int = 0
    before: str = ""
    inode: int = 0
    device: int = 0
    size: int = 0
    after: str = ""
    real_path: str = ""
    rotated: bool = False
    changed_ns: int = 0

    @property
    def unread(self) -> int:
        """Bytes that were seen and not read."""
        return max(0, self.size - self.offset)


def digest(data: bytes) -> str:
    """Give 24 hex digits that stand for the bytes, so that the state directory holds no log text."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def compare(cursor: Cursor, content: Content) -> Match:
    """Say how sure it is that this content was read up to the cursor; OSError and EOFError as reading raises them."""
    if not cursor.head_bytes:
        return Match.EMPTY
    head = content.read_at(0, cursor.head_bytes)
    if len(head) < cursor.head_bytes or digest(head) != cursor.head:
        return Match.NO
    before = content.read_at(cursor.offset - cursor.before_bytes, cursor.before_bytes)
    if len(before) < cursor.before_bytes or digest(before) != cursor.before:
        return Match.NO
    return Match.STRONG if cursor.offset >= HEAD_BYTES else Match.WEAK


def family(name: str) -> str:
    """Give the name that a log and its rotated copies share: `app.log` for `app.log.2.gz` and `app-20260101.log`."""
    given, name = name, uncompressed(name)
    while (shorter := _SUFFIX.sub("", name)) not in ("", name):
        name = shorter
    return _INFIX.sub("", name) or name or given


def rotated(name: str, original: str) -> bool:
    """Say whether `name` is what rotation makes of `original` (file names without folder)."""
    plain = uncompressed(name)
    if plain == original:
        return name != original
    return len(plain) > len(original) and (_suffixed(plain, original) or _infixed(plain, original))


def surely_rotated(name: str, original: str) -> bool:
    """Say the same, but `app-2.log` may be a log of its own beside `app.log`: only a date makes it a rotation."""
    plain = uncompressed(name)
    dated = sum(map(str.isdigit, plain)) - sum(map(str.isdigit, original)) >= _DATE_DIGITS
    return rotated(name, original) and (not _infixed(plain, original) or dated)


def rotation_number(name: str) -> int:
    """Give the number of a rotated file, 3 for `app.log.3.gz`; 0 if it has none (a date is none)."""
    found = _NUMBER.search(uncompressed(name))
    return int(found[1]) if found else 0


def uncompressed(name: str) -> str:
    """Strip the extension of a compressor."""
    for extension in _COMPRESSED:
        if name.endswith(extension):
            return name[: -len(extension)]
    return name


def _suffixed(name: str, original: str) -> bool:
    return name.startswith(original) and name[len(original)] in ".-_~"


def _infixed(name: str, original: str) -> bool:
    """`app-20260101.log` is a rotation of `app.log`; `app-2.log` is none of `app-1.log`."""
    return original == _INFIX.sub("", name)
