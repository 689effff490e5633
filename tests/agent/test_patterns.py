"""Lines to types, keys, times and captures; and what a hostile line may cost."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest

from foretail.errors import ConfigError
from foretail.formats import parse_format
from foretail.memo import PAUSE_LINES, PAUSED_WINDOWS, Memo
from foretail.patterns import Matcher, MatchLimits
from foretail.schema import Format, KeyRule, Pattern

BLOCK = KeyRule("search", r"blk_-?\d+")
HDFS = parse_format("<Date> <Time> <Pid> <Level> <Component>: <Content>")
LINES = [
    b"081109 203530 147 INFO dfs.DataNode: Receiving block blk_43 src: /10.2.1.1:43 dest: /10.2.1.1:50",
    b"081109 203531 147 INFO dfs.DataNode: Receiving block blk_44 src: /10.2.1.2:43 dest: /10.2.1.1:50",
    b"081109 203532 9 WARN dfs.DataNode: Deleting block blk_-7 file /x",
    b"081109 203533 9 ERROR dfs.DataNode: what is this",
    b"no header, blk_5",
]
REGEXES = [r"Receiving block (\S+) src: (\S+) dest: \S+", r"Deleting block (?P<block>\S+) file (\S+)"]


def matcher(regexes: list[str], form: Format | None = None, key: KeyRule | None = None, **limits: float) -> Matcher:
    """A matcher of patterns in the given order."""
    rows = [Pattern(1, place, f"{place:016x}", f"t{place}", text, place) for place, text in enumerate(regexes)]
    return Matcher(rows, form or Format(), key or KeyRule(), MatchLimits(**limits))  # type: ignore[arg-type]


def test_a_batch_gives_columns() -> None:
    """Type, key, time, level and captures of each line; a line without the header is a message as a whole."""
    typed = matcher(REGEXES, HDFS, BLOCK).match(LINES)
    assert ([0, 0, 1, -1, -1], np.int32) == (typed.index.tolist(), typed.index.dtype)
    assert typed.keys == [b"blk_43", b"blk_44", b"blk_-7", b"", b"blk_5"]
    assert (typed.times[:4] - 1226262930.0).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert np.isnan(typed.times[4])
    assert typed.errors.tolist() == [False, False, False, True, False]
    assert [typed.captures(line) for line in range(3)] == [
        (b"blk_43", b"/10.2.1.1:43"),
        (b"blk_44", b"/10.2.1.2:43"),
        (b"blk_-7", b"/x"),
    ]
    assert LINES[1][slice(*typed.spans[1][0])] == b"blk_44"
    assert typed.messages[3:] == [b"what is this", b"no header, blk_5"]


def test_the_order_of_rank_decides_not_the_order_given() -> None:
    """Patterns are tried by rank, and index means the place by rank."""
    rows = [Pattern(1, 0, "a" * 16, "any", r".*", 5), Pattern(2, 0, "b" * 16, "x", r"x \d+", 1)]
    typed = Matcher(rows, Format(), KeyRule()).match([b"x 1", b"y"])
    assert typed.index.tolist() == [0, 1]


def test_the_memo_answers_the_second_time() -> None:
    """Lines that differ in digits alone share an entry."""
    one = matcher(REGEXES, HDFS, BLOCK)
    one.match(LINES)
    one.match(LINES)
    assert (one.stats.lines, one.stats.hits, one.stats.misses) == (10, 6, 4)
    assert one.stats.memo_entries == 4


def test_an_empty_batch_is_fine() -> None:
    """No lines: columns of length 0."""
    typed = matcher(REGEXES, HDFS, BLOCK).match([])
    assert (len(typed.index), typed.keys) == (0, [])


def test_digits_that_a_pattern_names_are_looked_at_in_every_line() -> None:
    """Two types that differ in a digit alone are told apart, again and again."""
    one = matcher([r"status 5\d\d (\S+)", r"status (\d+) (\S+)"])
    for _ in range(3):
        typed = one.match([b"status 200 a", b"status 500 a", b"status 204 a", b"status 503 b"])
        assert typed.index.tolist() == [1, 0, 1, 0]
        assert [typed.captures(line) for line in range(2)] == [(b"200", b"a"), (b"a",)]


def test_a_key_rule_that_names_digits_is_searched_in_every_line() -> None:
    """The memo must not hand one line's key to another."""
    one = matcher([r"id \S+ \S+"], key=KeyRule("search", r"7\d+"))
    for _ in range(2):
        assert one.match([b"id 71 12", b"id 12 72", b"id 12 12"]).keys == [b"71", b"72", b""]


def test_the_first_group_of_a_key_rule_is_the_key() -> None:
    """Else the whole match."""
    one = matcher([r".*"], key=KeyRule("search", r"session=(\w+)"))
    assert one.match([b"x session=ab y", b"session="]).keys == [b"ab", b""]


def test_numeric_levels_are_looked_at_in_every_line() -> None:
    """The severity of a syslog priority is its last three bits."""
    one = matcher([r".*"], parse_format("rfc3164"))
    lines = [b"<%d>Jun  9 06:06:20 host app[1]: x" % priority for priority in (11, 14, 11, 30, 27)]
    for _ in range(2):
        assert one.match(lines, now=1.8e9).errors.tolist() == [True, False, True, False, True]


def test_a_header_that_names_digits_still_works() -> None:
    """Such a header cannot be memoised; it is applied line by line."""
    form = Format(header=r"2(?P<host>\S+) (?P<content>.*)", fields=("host",))
    one = matcher([r"\S+"], form, KeyRule("field", field="host"))
    for _ in range(2):
        typed = one.match([b"2a x", b"3a x", b"22 y"])
        assert (typed.index.tolist(), typed.keys) == ([0, -1, 0], [b"a", b"", b"2"])


def test_messages_of_several_lines() -> None:
    """A joined record holds line breaks; `(?s:.*)` takes them."""
    typed = matcher([r"x (?s:.*)"]).match([b"x 1\n  at y", b"x 2\n  at y", b"z"])
    assert typed.index.tolist() == [0, 0, -1]


def test_trailing_white_space_is_no_part_of_a_message() -> None:
    """An invisible blank or a carriage return does not make a type."""
    one = matcher([r"restart\.", r".* \S+"])
    assert one.match([b"restart.", b"restart. ", b"restart.\r", b"a b \t"]).index.tolist() == [0, 0, 0, 1]
    assert one.message(b"restart. \r") == b"restart."


def test_a_field_that_is_not_there_is_refused() -> None:
    """The message lists the fields there are."""
    with pytest.raises(ConfigError, match="Pid, Component"):
        matcher([], HDFS, KeyRule("field", field="nope"))


@pytest.mark.parametrize(
    ("regexes", "form", "key"),
    [
        ([r"(\w+)*x"], Format(), KeyRule()),
        ([], Format(header=r"(?P<content>(\w+)*x)"), KeyRule()),
        ([], Format(header=r"(?P<text>.*)"), KeyRule()),
        ([], Format(), KeyRule("search", r"(a|ab)*(\w+)*x")),
        ([r"("], Format(), KeyRule()),
    ],
)
def test_a_hand_made_bundle_that_hides_a_catastrophe_is_refused(regexes: list[str], form: Format, key: KeyRule) -> None:
    """Patterns, header and key rule are linted on load."""
    with pytest.raises(ConfigError):
        matcher(regexes, form, key)


def test_a_time_out_is_type_0_counted_and_not_remembered() -> None:
    """A line that runs out of time is tried again when it comes again."""
    one = matcher([r".* a .* b .*c", r"(?s:.*)"], timeout_s=0.01)
    line = b" a b " * 4000
    for times in (1, 2):
        assert one.match([line]).index.tolist() == [-1]
        assert (times, times, 0) == (one.stats.timeouts, one.stats.untyped, one.stats.memo_entries)


def test_hostile_lines_neither_stall_nor_crash() -> None:
    """Lines of 10 MB and 100,000 lines of random bytes: none takes 100 ms of CPU."""
    one = matcher([r".* a .* b .*c", *REGEXES, r"\S+:\S+:\S+ \d+"], parse_format("rfc3164"), BLOCK)
    draw = random.Random(5)
    huge = [b"a b " * 2_500_000, b"Jun  9 06:06:20 h a: " + b" a " * 3_300_000, b"\n" * 10_000_000, b"7" * 10_000_000]
    for line in huge:
        start = time.thread_time()
        one.match([line])
        assert time.thread_time() - start < 0.1
    for _ in range(100):
        batch = [draw.randbytes(draw.randrange(200)) for _ in range(1000)]
        start = time.thread_time()
        assert len(one.match(batch).index) == 1000
        assert time.thread_time() - start < 0.5
    assert len(huge) == one.stats.cut


def test_a_cut_line_is_matched_by_what_is_left() -> None:
    """`line_bytes_max` bytes are looked at."""
    one = matcher([r"x{8}", r"x+"], line_bytes_max=8)
    assert one.match([b"x" * 9, b"x" * 5000, b"xxx"]).index.tolist() == [0, 0, 1]
    assert one.stats.cut == 2


def test_the_memo_is_bounded_in_entries_and_bytes() -> None:
    """Half goes with the older generation; what is in use stays."""
    memo: Memo[int] = Memo(10, 1000, lambda key, _: len(key))
    for number in range(100):
        memo.put(b"%d" % number, number, 2)
        memo.put(b"hot", 1, 3) if memo.get(b"hot") is None and memo.recall(b"hot") is None else None
        assert memo.entries <= 10
    assert memo.get(b"hot") == 1 or memo.recall(b"hot") == 1
    memo.put(b"x" * 400, 1, 400)
    memo.put(b"y" * 400, 2, 400)
    assert memo.size <= 1000
    memo.put(b"z" * 600, 3, 600)
    assert memo.get(b"z" * 600) is None


def test_insertion_pauses_where_the_memo_is_useless_and_comes_back() -> None:
    """Two poor windows stop it, a rich one or some patience starts it again."""
    memo: Memo[int] = Memo(10**6, 10**9, lambda key, _: len(key))
    memo.count(PAUSE_LINES, 0)
    assert not memo.paused
    memo.count(PAUSE_LINES, 0)
    assert memo.paused
    memo.put(b"a", 1, 1)
    assert memo.get(b"a") is None
    for _ in range(PAUSED_WINDOWS):
        assert memo.paused
        memo.count(PAUSE_LINES, 0)
    assert not memo.paused
    memo.put(b"a", 1, 1)
    assert memo.get(b"a") == 1


def test_a_paused_memo_changes_no_answer() -> None:
    """Lines that never repeat, with digits that matter."""
    one = matcher([r"k (\S+) 1", r"k (\S+) \d"])
    letters = str.maketrans("0123456789", "ghijklmnop")
    names = [f"{number:x}".translate(letters) for number in range(3 * PAUSE_LINES)]
    lines = [f"k {name} {1 + number % 2}".encode() for number, name in enumerate(names)]
    index = [place for start in range(0, len(lines), 5000) for place in one.match(lines[start : start + 5000]).index]
    assert [number % 2 for number in range(len(lines))] == index
