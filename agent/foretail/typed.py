"""What a Matcher takes and gives: limits, statistics, and the columns of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from foretail.trial import Found, Spans


@dataclass(frozen=True, slots=True)
class MatchLimits:
    """Limits of a Matcher.

    Attributes:
        entries, bytes: of the memo; bytes are estimated.
        timeout_s: CPU seconds for all patterns on one line; then it is type 0 and counted.
        line_bytes_max: longer lines are cut for matching.
    """

    entries: int = 100_000
    bytes: int = 16 << 20
    timeout_s: float = 0.025
    line_bytes_max: int = 1 << 16


@dataclass(slots=True)
class MatchStats:
    """What a Matcher has seen so far, in lines; and its memo now."""

    lines: int = 0
    hits: int = 0
    misses: int = 0
    untyped: int = 0
    timeouts: int = 0
    cut: int = 0
    memo_entries: int = 0
    memo_size: int = 0


Entry: TypeAlias = "tuple[int, slice, slice, bool, Spans, tuple[Found | None, bool] | None, slice, slice]"
"""What a skeleton settles: index, key, time, error, captures, what the digits of each line decide (patterns to try, is
the level a number; or None), message, level; places are in the text (raw line, or decoded message). Plain tuples: the
hot loop reads them."""
INDEX, KEY, TIME, ERROR, _, LATER = (itemgetter(place) for place in range(6))


@dataclass(frozen=True, slots=True, eq=False)
class Typed:
    """Columns of a batch, n lines.

    Attributes:
        index: int32[n], position of the pattern by rank; -1 = no pattern.
        keys: session key of each line, b"" = none in that line; None without a key rule.
        times: float64[n], epoch seconds, NaN = no stamp.
        errors: bool[n], the header's level is error or worse.
        texts: what the spans refer to: the raw lines, or the decoded messages of records.
    """

    index: npt.NDArray[np.int32]
    keys: list[bytes] | None
    times: npt.NDArray[np.float64]
    errors: npt.NDArray[np.bool_]
    texts: Sequence[bytes]
    _entries: list[Entry]

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def spans(self) -> list[Spans]:
        """Of each line, start and end in `texts` of each capture of its pattern, (-1, -1) = took no part."""
        return [entry[4] for entry in self._entries]

    @property
    def messages(self) -> list[bytes]:
        """Of each line, the message the patterns saw."""
        return [text[entry[6]] for text, entry in zip(self.texts, self._entries, strict=True)]

    def parameters(self, lines: Sequence[int], capture: int) -> list[bytes]:
        """One parameter of each of these lines; b"" where it took no part."""
        found = [(self.texts[line], self._entries[line][4]) for line in lines]
        return [text[slice(*spans[capture])] if capture < len(spans) else b"" for text, spans in found]

    def captures(self, line: int) -> tuple[bytes | None, ...]:
        """The parameters of one line."""
        text = self.texts[line]
        return tuple(text[start:end] if start >= 0 else None for start, end in self._entries[line][4])
