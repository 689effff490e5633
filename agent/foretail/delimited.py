"""Delimited text: dialect, header and columns of a CSV file, the same for training and scoring."""

from __future__ import annotations

import csv
import io
import lzma
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from foretail.errors import ConfigError
from foretail.logs import open_bytes
from foretail.numerals import number, numbers
from foretail.stamps import Clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

CSV_BYTES_MAX = 1 << 30
FIELD_CHARS_MAX = 1 << 22
SEPARATORS = ",;\t|"
SAMPLE_ROWS = 200
TIME_NAME = re.compile(r"(date|time|stamp|ts$|epoch|when|created|^at$)", re.IGNORECASE)
MISSING = {"", "nan", "na", "n/a", "null", "none", "-", "?"}
EPOCH_MIN, EPOCH_MAX = 1e8, 5e9
"""Numbers between are seconds since 1970 (1973 to 2128); a thousand times as much are milliseconds."""


class Dialect(msgspec.Struct, frozen=True):
    """How a file is written.

    Attributes:
        separator: one character; empty: found in the file.
        quote: the quote character; empty: none.
        header: the first row names the columns; None: found in the file.
    """

    separator: str = ""
    quote: str = '"'
    header: bool | None = None


COMMON = Dialect()


class Sheet(msgspec.Struct, frozen=True):
    """A file's cells: `names` of its columns, and `rows` of texts, all as long as `names`; `path` for messages."""

    path: str
    names: tuple[str, ...]
    rows: list[list[str]]

    def place(self, column: str) -> int:
        """Index of a column given by name or by number from 1.

        Raises:
            ConfigError: there is none; names those there are.
        """
        if column in self.names:
            return self.names.index(column)
        if column.isdigit() and 1 <= int(column) <= len(self.names):
            return int(column) - 1
        shown = ", ".join(self.names[:20])
        raise ConfigError(f"{self.path} has no column {column!r}; it has {shown} (or give a number from 1)")

    def column(self, place: int) -> list[str]:
        """The texts of one column."""
        return [row[place] for row in self.rows]


def read(path: str, dialect: Dialect = COMMON) -> Sheet:
    """The cells of a file (`.gz`, `.xz`, `.zst`, or `-`).

    Raises:
        ConfigError: it cannot be read, is empty, or a row has another number of cells, named by its line.
    """
    for name, mark in (("separator", dialect.separator), ("quote", dialect.quote)):
        if len(mark) > 1:
            raise ConfigError(f"the {name} is {mark!r}; give one character")
    text = _text(path)
    separator = dialect.separator or _separator(text, dialect.quote)
    if separator == dialect.quote:
        raise ConfigError(f"separator and quote are both {separator!r}; give --separator as well")
    csv.field_size_limit(FIELD_CHARS_MAX)
    reader = _reader(io.StringIO(text, newline=""), separator, dialect.quote)
    try:
        rows, lines = [], []
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}; check --quote and --separator") from error
    if not rows:
        raise ConfigError(f"{path} holds no row; give a CSV file with a row for each reading")
    width = len(rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise ConfigError(
                f"{path}, line {line}: {len(row)} cells, the first row has {width}; check --quote and --separator"
            )
    named = dialect.header if dialect.header is not None else _is_header(rows)
    names = tuple(cell.strip() or str(at) for at, cell in enumerate(rows[0], 1)) if named else ()
    if named and len(rows) == 1:
        raise ConfigError(f"{path} holds only a header; give a CSV file with a row for each reading")
    return Sheet(path, names or tuple(str(at) for at in range(1, width + 1)), rows[1:] if named else rows)


def _text(path: str) -> str:
    if path != "-" and Path(path).is_dir():
        raise ConfigError(f"{path} is a directory; name a CSV file in it")
    try:
        with open_bytes(path) as file:
            raw = file.read(CSV_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist; check the path") from error
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if len(raw) > CSV_BYTES_MAX:
        raise ConfigError(f"{path} is larger than {CSV_BYTES_MAX} bytes; split it or thin it out")
    if b"\0" in raw[:4096]:
        raise ConfigError(f"{path} is binary, not CSV; save it as UTF-8 text")
    # Bytes that are no UTF-8 survive as themselves: requests are attacked with them.
    return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")


def _reader(text: Iterable[str], separator: str, quote: str) -> Any:
    if not quote:
        return csv.reader(text, delimiter=separator, quotechar=None, quoting=csv.QUOTE_NONE)
    return csv.reader(text, delimiter=separator, quotechar=quote)


def _separator(text: str, quote: str) -> str:
    """The separator that cuts the first lines into the same number of cells, the more the better."""
    head = text[:65_536].splitlines()[:SAMPLE_ROWS]
    best, chosen = 1, ","
    for mark in SEPARATORS:
        if mark == quote:
            continue
        widths = [len(row) for row in _reader(head, mark, quote) if row]
        usual = max(set(widths), key=widths.count) if widths else 1
        if usual > best and widths.count(usual) >= 0.9 * len(widths) - 1:
            best, chosen = usual, mark
    return chosen


def _is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Names above numbers or stamps; a first row that says nothing further down says again."""
    if any(number(cell) is not None or _looks_dated(cell) for cell in rows[0]):
        return False
    below = rows[1 : SAMPLE_ROWS + 1]
    for at, name in enumerate(rows[0]):
        column = [row[at] for row in below]
        if any(number(cell) is not None or _looks_dated(cell) for cell in column):
            return True
        if name.strip() and re.fullmatch(r"[A-Za-z][\w .-]{0,40}", name) and name not in column:
            continue
        return False
    return bool(below)


def _looks_dated(cell: str) -> bool:
    return bool(re.search(r"\d{1,4}[-/.:]\d{1,2}[-/.:]\d{1,4}", cell))


def times(texts: Sequence[str], zone: int = 0) -> NDArray[np.float64]:
    """Epoch seconds of stamps in any known layout, or of numbers in the range of seconds or milliseconds."""
    values = numbers(texts)
    for scale in (1.0, 1e3, 1e6, 1e9):
        within = (values >= EPOCH_MIN * scale) & (values <= EPOCH_MAX * scale)
        if within.any() and within.sum() >= 0.95 * len(values):
            return values / scale
    return Clock(zone=zone).times([text.strip().encode("utf-8", "replace") for text in texts])


def timestamp(sheet: Sheet) -> int | None:
    """The column of the stamps: nearly every cell a moment, and named or written like one; None if there is none."""
    sample = range(0, len(sheet.rows), max(1, len(sheet.rows) // SAMPLE_ROWS))
    for wanted in (True, False):
        for at, name in enumerate(sheet.names):
            texts = [sheet.rows[row][at] for row in sample]
            if bool(TIME_NAME.search(name)) is not wanted or (not wanted and number(texts[0]) is not None):
                continue
            if np.isfinite(times(texts)).sum() >= 0.95 * len(texts):
                return at
    return None
