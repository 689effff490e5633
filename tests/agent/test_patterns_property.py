"""The memo and the index against trying every pattern in order (issue 3: 200 examples here, 2,000 in the bench)."""

from __future__ import annotations

import os

import regex
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretail.errors import ConfigError
from foretail.lint import check_pattern
from foretail.patterns import Matcher, MatchLimits
from foretail.schema import Format, KeyRule, Pattern

EXAMPLES = int(os.environ.get("FORETAIL_EXAMPLES", "200"))
NO_KEY = KeyRule()

literals = st.sampled_from(
    [
        "open",
        "port",
        "a1",
        "22",
        "port 22",
        "x0y",
        "id=",
        ": ",
        "error",
        "09",
        r"\xc3\xa9",
        r"\.",
        r"\[",
        r"\]",
        "_7",
        "v2 ",
    ]
)
classes = st.sampled_from(
    [
        r"\d", r"\d+", "[0-9]+", "[1-9]", "[0-5]+", "[^0]", "[a-f0-9]+", "[a-f2-4]{2}", r"\S+", r"\S+?", r"\w+",
        "[^ ]+", ".*", ".+?", r"[^1-8 ]+", r"-?\d+", r"\d{2}", "(?i:AbC1)", r"\D+", "(?:3|4)?", "(?s:.)",
    ]
)  # fmt: skip
odd = st.sampled_from(
    [
        r"(?=1)", r"(?!0)", r"(?<=2)", r"(?<!5)", r"(?=\d)", r"(?>\d+)", r"(?>[1-3]+)", r"(?>ab|a)", r"\d++",
        r"[2-9]*+", r"(?>1|12)", r"(?=.*7)", r"\b", r"(?<!\d)", "(?>.*?3)",
    ]
)  # fmt: skip
atoms = st.one_of(literals, literals, classes, odd)


def _join(parts: list[str]) -> str:
    return "".join(parts)


pieces = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(_join).map(lambda body: f"({body})"),
        st.lists(inner, min_size=1, max_size=3).map(_join).map(lambda body: f"(?:{body})?"),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
    ),
    max_leaves=6,
)


def _safe(pattern: str) -> bool:
    try:
        check_pattern(pattern)
    except ConfigError:
        return False
    return True


patterns = st.lists(pieces, min_size=1, max_size=5).map(" ".join).filter(_safe)
conditionals = st.sampled_from([r"(5)?(?(1)6|7)\d", r"(a)?(?(1)\d+|x)", r"(\d)?(?(1)1|2) port"])
words = st.sampled_from(
    ["open", "port", "22", "a1", "x0y", "id=", "7", "12", "123", "3", "error", "ab", "a", "é", "é1", ".", "[", "]",
     "_7", "", "v2 ", "abc1", "00", "56", "57", "\n", "5", ": ", "x"]
)  # fmt: skip
lines = st.one_of(
    st.lists(words, max_size=8).map(" ".join),
    st.lists(words, max_size=8).map("".join),
    st.text(max_size=20),
    st.integers(1, 300).map(lambda n: "open 1" * n),
).map(lambda text: text.encode("utf-8", "surrogatepass"))
digit_changes = st.lists(st.integers(0, 9), min_size=1, max_size=12)


def _with_digits(line: bytes, digits: list[int]) -> bytes:
    out, number = bytearray(line), 0
    for place, byte in enumerate(out):
        if 0x30 <= byte <= 0x39:
            out[place] = 0x30 + digits[number % len(digits)]
            number += 1
    return bytes(out)


def brute(regexes: list[str], line: bytes) -> tuple[int, tuple[tuple[int, int], ...]]:
    """Every pattern in order, nothing else."""
    for place, text in enumerate(regexes):
        found = regex.fullmatch(text.encode(), line)
        if found is not None:
            return place, found.regs[1:]
    return -1, ()


def types(regexes: list[str], limits: MatchLimits | None = None) -> Matcher:
    rows = [Pattern(1, place, f"{place:016x}", "", text, place) for place, text in enumerate(regexes)]
    return Matcher(rows, Format(), NO_KEY, limits)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.one_of(patterns, patterns, patterns, conditionals), min_size=1, max_size=8),
    st.lists(lines, min_size=1, max_size=12),
    st.lists(digit_changes, min_size=1, max_size=4),
)
def test_memo_and_index_agree_with_trying_in_order(
    regexes: list[str], texts: list[bytes], changes: list[list[int]]
) -> None:
    """Type and captures of every line, seen first or again with other digits, are those of plain trial in order."""
    matcher = types(regexes)
    batch = [variant for text in texts for variant in (text, *(_with_digits(text, digits) for digits in changes))]
    for _ in range(2):
        typed = matcher.match(batch)
        expected = [brute(regexes, line.rstrip()) for line in batch]
        assert [(int(place), spans) for place, spans in zip(typed.index, typed.spans, strict=True)] == expected


@settings(max_examples=EXAMPLES // 4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(patterns, min_size=1, max_size=5), st.lists(lines, min_size=1, max_size=30), st.integers(1, 4))
def test_a_tiny_memo_changes_nothing(regexes: list[str], texts: list[bytes], entries: int) -> None:
    """Types do not depend on what the memo had to drop."""
    matcher = types(regexes, MatchLimits(entries=entries))
    for _ in range(2):
        assert matcher.match(texts).index.tolist() == [brute(regexes, line.rstrip())[0] for line in texts]
        assert matcher.stats.memo_entries <= max(entries, 2)
