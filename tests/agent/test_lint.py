"""What a pattern may be, and what its digits say."""

from __future__ import annotations

import time

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from foretail.errors import ConfigError
from foretail.lint import check_pattern, digit_blind, required_words, widened
from foretail.syntax import parse, write

NATURAL = [
    r"(\S+) (\S+)",
    r".*? foo .*?",
    r"\S+:\S+",
    r"(?:\d{1,3}\.){3}\d{1,3}",
    r"(?:\S+ )*\S+",
    r"(?:\S+, )*\S+",
    r"a (?:foo|bar \d+) x",
    r"\S+?\[\d+\]: .+",
    r"blk_-?\d+",
    r"(?: user=\S+)?",
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    r"\S+/\S+/\S+/\S+",
    r"-?\d+(?:\.\d+)? ms",
    r'"(?:[^"\\]++|\\.)*+" \d{3}',
    r"(?>\d+)\w+",
    r"\d++\w+",
]


@pytest.mark.parametrize("pattern", NATURAL)
def test_natural_patterns_are_safe(pattern: str) -> None:
    """Variables with something fixed or something they cannot match between them are accepted."""
    assert check_pattern(pattern) <= 4


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(\w+)*", "without a delimiter"),
        (r"(x+x+)+y", "without a delimiter"),
        (r"(?:\d{1,3})+", "without a delimiter"),
        (r"(?:.*a){12}", "without a delimiter"),
        (r"(?:a|ab|b)*c", "without a delimiter"),
        (r"(?:\S+:)*x", "without a delimiter"),
        (r"(?:a?)*", "can be empty"),
        (r"(?:(?=x))+", "can be empty"),
        (r"\d+\w+", "touch"),
        (r".*.*", "touch"),
        (r"(?:\d+|x)\w+", "touch"),
        (r"(?:\S+ )*.*", "touch"),
        (r".* .* .* .*x", "trade bytes"),
        (r"\S+:\S+:\S+:\S+:\S+", "trade bytes"),
        (r"(\w)\1", "back-reference"),
        (r"(?P<a>\d)(?P=a)", "back-reference"),
        (r"a{5000}", "the limit is 2000"),
        (r"(?:foo){e<=1}", "brace"),
        (r"\p{L}+", "brace"),
        (r"[[:alpha:]]", "both engines"),
        (r"(?R)", "both engines"),
        (r"(?x)a b", "flags"),
        ("é", "ASCII"),
        ("(", "both engines"),
        ("x" * 20_000, "the limit is 16384"),
    ],
)
def test_unsafe_patterns_are_refused_with_a_reason(pattern: str, reason: str) -> None:
    """The error is one sentence that names the pattern and says why."""
    with pytest.raises(ConfigError) as caught:
        check_pattern(pattern, "7.3")
    assert "pattern 7.3" in str(caught.value)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "blind"),
    [
        (r"\d+ [0-9a-f]+ \S+ . \w \D", True),
        (r"(?>\d+)(?<=\d)", True),
        ("port 22", False),
        ("[1-9]", False),
        ("[^0]", False),
        (r"(?=.*3)\S+", False),
        (r"(a)?(?(1)1|x)", False),
        (r"\x31", False),
    ],
)
def test_digit_blindness(pattern: str, blind: bool) -> None:
    """A pattern is digit-blind when each set takes all digits or none."""
    assert blind == digit_blind(pattern)


@pytest.mark.parametrize("pattern", [r"(?=1)\S+", r"(?>1|12)3", r"[1-3]++x", r"(a)?(?(1)1|x)"])
def test_what_is_not_monotone_has_no_widened_form(pattern: str) -> None:
    """Atomic parts, look-around and conditionals over some digits could match more by matching less."""
    assert widened(pattern) is None


def test_the_widened_form_matches_the_skeleton() -> None:
    """Literal digits and partial classes take every digit; the rest is as before."""
    wide = widened(r"port 22[1-3]? (?P<host>h[0-9]+x)")
    assert wide is not None
    found = regex.fullmatch(wide.encode(), b"port 000 h00x")
    assert found is not None
    assert found["host"] == b"h00x"
    assert regex.fullmatch(wide.encode(), b"port 0 h0x") is None


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"Receiving block \S+ src: \S+", {b"Receiving", b"block", b"src"}),
        (r"port 22 \S+", {b"port", b"00"}),
        (r"\S+foo bar", {b"bar"}),
        (r"foo\S+", set()),
        (r"a(?:b|c) end", {b"end"}),
        (r"(?: x)?y z", {b"z"}),
        (r"id=\d{3};", {b"id", b"000"}),
        (r"(?i:abc) def", {b"def"}),
        (r"(?=foo)bar", {b"bar"}),
    ],
)
def test_required_words_stand_whole_in_every_match(pattern: str, words: set[bytes]) -> None:
    """Only words with a border on both sides count; digits are zeros."""
    assert words == required_words(parse(pattern))


@pytest.mark.parametrize(
    "pattern", [*NATURAL, r"(?i)ab[^c]", r"(?m)^a$", r"(?<!x)y\b", r"(?s:.)\A\Z", r"(a)?(?(1)b|c)"]
)
def test_a_tree_written_back_means_the_same(pattern: str) -> None:
    """What `parse` and `write` do is each other's inverse in meaning."""
    texts = [
        b"",
        b"a",
        b"foo bar",
        b"AB\n",
        b"1.2.3.4",
        b"x y, z",
        b"blk_-12",
        b'"a\\"b" 200',
        b"12ab",
        b"y",
        b"ab",
        b"c",
    ]
    once = regex.compile(write(parse(pattern)).encode())
    again = regex.compile(pattern.encode())
    for text in texts:
        assert (again.search(text) is None) == (once.search(text) is None)


alphabet = st.sampled_from(["a", "b", r"\d", r"\S", ".", " ", ":", r"\w"])
signs = st.sampled_from(["", "", "+", "*", "?", "{2,12}", "+?", "++"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(alphabet, signs, st.booleans()), min_size=1, max_size=7), signs)
def test_what_lint_accepts_does_not_stall(parts: list[tuple[str, str, bool]], outer: str) -> None:
    """Accepted patterns fail on hostile lines of 60 bytes in well under the time limit of a line."""
    pattern = "".join(f"(?:{atom}{sign})" if group else f"{atom}{sign}" for atom, sign, group in parts)
    pattern = f"(?:{pattern}){outer}X"
    try:
        check_pattern(pattern)
    except ConfigError:
        return
    compiled = regex.compile(pattern.encode())
    for text in (b"a" * 60, b"ab" * 30, b"a b " * 15, b"1:" * 30, b"a:1 " * 15):
        start = time.thread_time()
        compiled.fullmatch(text)
        assert time.thread_time() - start < 0.1


@pytest.mark.parametrize("literal", ["a" * 4000, "ab" * 400, r"\-" * 400])
def test_a_literal_that_repeats_itself_hundreds_of_times_is_refused(literal: str) -> None:
    """The engine looks for such a literal in quadratic time and heeds no time limit meanwhile."""
    with pytest.raises(ConfigError, match="it repeats"):
        check_pattern(literal)
