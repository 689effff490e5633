r"""A header for a log whose layout nobody listed: columns that all lines share are peeled off from the left.

A stamp, a level, a number, a bracket, a `name[pid]:` or a separator is peeled when nearly all lines have it there. A
column of plain words is peeled only when such an anchor stands behind it in nearly all lines: message words never line
up like that.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from foretail.errors import ConfigError
from foretail.headers import CONTENT, LEVELS, text_format
from foretail.layouts import LAYOUTS
from foretail.lint import check_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretail.schema import Format

SHARE = 0.97
"""Of the lines peeled so far, how many must have the next column."""
RECORDS_MIN = 0.25
"""Of all lines that do not begin with white space, how many must start a record; the rest continue one."""
PROBE = 50
DIVERSE_MIN = 3
"""First words of the messages behind a column that is not certain to be a header's."""
ELEMENTS_MAX = 14
LINE_BYTES = 1024

_WORD = r"(?:[^\s\[\]|]+|\||\[[^\[\]\n]*\])"
_LEVEL = rf"(?i:{LEVELS}|NOTE|SYSTEM|LOG|DETAIL|HINT|STATEMENT|WARNUNG)"
_ONLY_LEVEL = re.compile(rf"[\[(<]?{_LEVEL}[\])>]?:?")
_APART = r",?(?:\s++|$|(?=[\[|:(-])|(?<=\|))"
_NESTED = r"\[[^\[\]\n]*(?:\[[^\[\]\n]*\][^\[\]\n]*)*\]"


class _Column(NamedTuple):
    """One kind of column: `regex` has {name} for its group; `anchor`: words before it may be peeled with it."""

    kind: str
    regex: str
    words_max: int = 0
    share: float = SHARE


_STAMPS = tuple(
    _Column("time", prefix + rf"(?P<{{name}}>{layout.shape})" + suffix, words_max=6)
    for layout in LAYOUTS
    if layout.name not in {"clock", "monthday"}
    for prefix, suffix in ((r"\[", r"(?: [^\]\n]*)?\]"), ("", r"(?![\w.:-]*\w)"))
)
_LATE_STAMPS = tuple(
    _Column("time", prefix + rf"(?P<{{name}}>{layout.shape})" + suffix)
    for layout in LAYOUTS
    if layout.name in {"clock", "monthday"}
    for prefix, suffix in ((r"\[", r"\]"), ("", r"(?![\w.:-]*\w)"))
)
_DATE = _Column("date", r"(?P<{name}>\d{4}[-/.]\d\d?[-/.]\d\d?)(?=[\s|,])")
_COLUMNS = (
    _Column("level", rf"(?P<{{name}}>{_LEVEL}):?(?=[\s,|/>-])", words_max=5),
    _Column("level", rf"[\[(<](?P<{{name}}>{_LEVEL})\s*+[\])>]:?", words_max=2),
    _Column("level", r"(?P<{name}>[VDIWEFNCT])(?=[\s/|,\]])"),
    _Column("number", r"#?(?P<{name}>\dx[0-9a-fA-F]+|-?\d+|[0-9a-f]{8,16})(?=[\s|,\]-])"),
    _Column("bracket", rf"(?P<{{name}}>{_NESTED}):?", words_max=1),
    _Column("bracket", r"(?P<{name}>\([^()\n]*\))(?=[\s:|-])"),
    _Column("bracket", r"(?P<{name}><[^<>\s]*>)(?=[\s:|-])"),
    _Column("separator", r"(?:[-|:>~*=/]|--|---|::|\|\||->|=>|\xe2\x80\x93|\xe2\x80\x94)(?=\s)", words_max=2),
    _Column("program", r"(?P<{name}>[^\s\[\]|]+(?: [^\s\[\]|-]+){0,2}) -(?=\s)"),
    _Column(
        "tag",
        r"(?P<{name}>[A-Za-z_/@(<](?:[^\s:\[\]|=\"']|::)*)(?:\[[^\]\s]*\]|\([^)\s]*\))?:(?:\d+:)?(?=\s)",
        words_max=2,
        share=0.9,
    ),
    _Column("logger", r"(?P<{name}>[A-Za-z_$][\w$-]*[.:/][\w$.:/-]+)(?=[\s|])"),
    _Column("padded", r"(?P<{name}>\S+)(?=\s{2,}\S)"),
)
_CERTAIN = {"time", "date", "level"}
_PLAIN = {"level", "number", "separator"}
_PIPED = (
    _Column("level", rf"\|\s*+(?P<{{name}}>{_LEVEL})(?=\s*\|)"),
    _Column("field", r"\|\s*+(?P<{name}>[^|\s]*)(?=\s*\|)"),
    _Column("separator", r"\|"),
)
_TAIL = r"(?:\s++\((?P<logger>[A-Za-z_][\w$]*(?:\.[\w$]+)+)\))?\s*+"


_TAILED = r"(?P<content>(?s:.*?\S))" + _TAIL


def induce(lines: Sequence[bytes]) -> Format | None:
    """The text Format that the columns of `lines` show, None if they show none; deterministic."""
    heads = [line for line in lines if line[:1] not in {b" ", b"\t"}]
    if len(heads) < RECORDS_MIN * len(lines):  # all lines are indented
        heads = list(lines)
    texts = [line[:LINE_BYTES].decode("latin-1").lstrip() for line in heads]
    if not texts:
        return None
    peel = _Peel(texts)
    peel.run()
    return peel.result()


class _Peel:
    """The lines with the columns found so far taken off."""

    def __init__(self, texts: list[str]) -> None:
        self.rests = texts
        self.all = len(texts)
        self.pieces: list[str] = []
        self.taken: list[tuple[str, list[str], int]] = []
        self.kinds: list[str] = []

    def run(self) -> None:
        if not self._begin():
            return
        while len(self.pieces) < ELEMENTS_MAX and self._next():
            pass
        while len(self.taken) > 1 and self.taken[-1][0] not in _CERTAIN and not self._diverse():
            _, self.rests, before = self.taken.pop()
            del self.pieces[before:]

    def _begin(self) -> bool:
        """The stamp tells records from the lines that continue them; without one, all lines must be alike."""
        for words in range(_STAMPS[0].words_max + 1):
            for column in (*_STAMPS, *(_LATE_STAMPS if words == 0 else ())):
                if self._try(column, words, RECORDS_MIN * self.all):
                    return True
        return any(self._peel(column, SHARE * self.all) for column in _COLUMNS if column.kind in {"level", "bracket"})

    def _next(self) -> bool:
        need = SHARE * len(self.rests)
        if sum(rest.startswith("|") for rest in self.rests) >= need:
            return any(self._peel(column, need) for column in _PIPED)
        columns = [_DATE, *(column._replace(words_max=0) for column in _COLUMNS if column.kind in _PLAIN)]
        if self.kinds.count("time") < 3:
            columns += _STAMPS
        columns += [column for column in _COLUMNS if not self._spent(column)]
        return any(self._peel(column, column.share * len(self.rests)) for column in columns)

    def _spent(self, column: _Column) -> bool:
        """A header has one level, one tag and one padded component; a second one is the message's."""
        if column.kind == "tag":
            return "tag" in self.kinds
        if column.kind in {"padded", "logger", "program"}:
            return bool({"padded", "logger", "program", "tag"} & set(self.kinds))
        return column.kind == "level" and "level" in self.kinds

    def _peel(self, column: _Column, need: float) -> bool:
        for words in range(column.words_max + 1):
            found = self._try(column, words, need)
            if found:
                return True
        return False

    def _try(self, column: _Column, words: int, need: float) -> bool:
        name, fields = self._name(column.kind), self._fields(column, words)
        before = [rf"(?P<{field}>{_WORD})\s++" for field in fields]
        own = column.regex.replace("{name}", name)
        regex = f"(?>{''.join(before)}{own}){_APART}"
        rule = re.compile(regex)
        probe = self.rests[:: len(self.rests) // PROBE + 1]  # most columns are not there: see it from a few lines
        if sum(rule.match(rest) is not None for rest in probe) * len(self.rests) < 0.4 * need * len(probe):
            return False
        matches = [match for rest in self.rests if (match := rule.match(rest)) is not None]
        if len(matches) < need or not matches:
            return False
        if sum(match.end() < len(match.string) for match in matches) < 0.9 * len(matches):
            return False  # nothing would be left as a message
        if column.kind not in {"time", "level"} and not all(self._headerlike(matches, field) for field in fields):
            return False
        if column.kind == "program" and not self._headerlike(matches, name):
            return False
        if column.kind == "tag" and not self._tags(matches, name):
            return False
        apart = all(match[0][-1:].isspace() for match in matches)
        gap = r",?\s++" if apart else r",?\s*+"
        try:
            check_pattern(regex.removesuffix(_APART) + gap + CONTENT)
        except ConfigError:  # parts that touch could trade bytes on a hostile line
            return False
        self.taken.append((column.kind, self.rests, len(self.pieces)))
        self.rests = [match.string[match.end() :] for match in matches]
        if self.pieces:  # a line may have the words and lack the anchor
            self.pieces += [*(f"(?>{word})" for word in before), f"(?>{own}){gap}"]
        else:
            self.pieces.append(regex.removesuffix(_APART) + gap)
        self.kinds += ["field"] * words + [column.kind]
        return True

    def _fields(self, column: _Column, words: int) -> list[str]:
        """Names for words before an anchor; one that only ever is a level is the level."""
        fields = [self._name("field", offset) for offset in range(words)]
        if words and column.kind != "level" and "level" not in "".join(self.pieces):
            columns = zip(*(rest.split()[:words] for rest in self.rests if len(rest.split()) >= words), strict=True)
            for place, values in enumerate(columns):
                if sum(_ONLY_LEVEL.fullmatch(value) is not None for value in values) >= SHARE * len(values):
                    fields[place] = "level"
                    break
        return fields

    @staticmethod
    def _headerlike(matches: Sequence[re.Match[str]], field: str) -> bool:
        """Whether a column of words before an anchor is few words, or names of things rather than of a message."""
        values = [match[field] for match in matches]
        named = sum(re.search(r"[\d._/@:-]", value) is not None for value in values)
        return len(set(values)) <= max(0.02 * len(values), 3) or named >= 0.95 * len(values)

    def _diverse(self) -> bool:
        """Whether different messages follow; where all lines say the same, a column may well be a part of it."""
        return len({re.sub(r"\d", "0", rest[:40].split(" ", 1)[0]) for rest in self.rests}) >= DIVERSE_MIN

    def _tags(self, matches: Sequence[re.Match[str]], name: str) -> bool:
        """A tag names a program: there are few of them, and without a stamp it must carry its pid."""
        values = [match[name] for match in matches]
        if "time" not in self.kinds and sum("]:" in match[0] for match in matches) < SHARE * len(matches):
            return False
        return len(set(values)) <= max(0.3 * len(values), 3)

    def _name(self, kind: str, offset: int = 0) -> str:
        base = {
            "number": "pid", "bracket": "thread", "tag": "component", "padded": "component", "date": "date",
        }.get(kind, kind)  # fmt: skip
        taken = set(re.findall(r"\(\?P<(\w+)>", "".join(self.pieces)))
        free = (f"{base}{number}" if number > 1 else base for number in range(1, 100))
        return next(islice((name for name in free if name not in taken), offset, None))

    def result(self) -> Format | None:
        """The first column must be there; a line that lacks a later one has its message begin there."""
        if not self.pieces:
            return None
        whole = [re.search(_TAIL + r"\Z", rest) for rest in self.rests if len(rest) < LINE_BYTES // 2]
        tailed = sum(match is not None and match["logger"] is not None for match in whole)
        tail = whole and tailed >= 0.9 * len(whole) and "(?P<logger>" not in "".join(self.pieces)
        columns = ""
        for piece in reversed(self.pieces[1:]):
            columns = f"(?:{piece}{columns})?"
        header = r"\s*+" + self.pieces[0] + columns + (_TAILED if tail else CONTENT)
        shown = " ".join(f"<{name}>" for name in re.findall(r"\(\?P<(\w+)>", header))
        return text_format(shown, header)
