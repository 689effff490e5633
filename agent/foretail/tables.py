"""Tables for people: aligned columns of plain text."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[object]], *, right: frozenset[int] = frozenset()) -> str:
    """Rows under a head, columns two blanks apart.

    Args:
        head: names of the columns.
        rows: as many cells each; what is too wide for the terminal is cut in the last column.
        right: columns of numbers, aligned at their right.
    """
    cells = [[printable(str(cell)) for cell in row] for row in [head, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    room = shutil.get_terminal_size((120, 24)).columns
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "  ".join(padded).rstrip()
        lines.append(line if len(line) <= room else line[: room - 1] + "…")
    return "\n".join(lines)


def printable(text: str) -> str:
    """Text of a log as a terminal may have it: no control characters."""
    return "".join(character if character.isprintable() else "·" for character in text)
