"""Bytes to whole lines: limits, line ends, holes, encodings, and that chunks never matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail.lines import LineLimits, Lines, Splitter, encoding_of

TEN = LineLimits(line_bytes_max=10)
SKIP = LineLimits(line_bytes_max=10, overlong="skip")


def split(data, limits=None, *, chunk=None, flush=True):
    """Lines, offsets and counts of data fed in chunks."""
    splitter = Splitter(limits or LineLimits())
    lines, offsets = [], []
    chunk = chunk or max(1, len(data))
    parts = [splitter.feed(data[at : at + chunk]) for at in range(0, len(data), chunk)]
    if flush:
        parts.append(splitter.flush())
    for part in parts:
        lines += part.lines
        offsets += part.offsets
    return lines, offsets, splitter.counts


def test_lines_have_the_offsets_of_their_first_bytes():
    """Three lines, three offsets, and nothing left over."""
    splitter = Splitter(LineLimits())
    assert splitter.feed(b"a\nbb\n\nccc\n") == Lines([b"a", b"bb", b"", b"ccc"], [0, 2, 5, 6])
    assert (splitter.start, splitter.position) == (10, 10)


def test_a_partial_last_line_waits():
    """Half a line is given out with its other half; the next read would start at its beginning."""
    splitter = Splitter(LineLimits())
    assert splitter.feed(b"one\ntw") == Lines([b"one"], [0])
    assert (splitter.start, splitter.position, splitter.partial) == (4, 6, True)
    assert splitter.feed(b"o") == Lines([], [])
    assert splitter.feed(b"\n") == Lines([b"two"], [4])


def test_reading_that_starts_anew_in_the_middle_keeps_the_offsets():
    """Offsets are the file's, wherever reading begins."""
    assert Splitter(LineLimits(), offset=100).feed(b"x\ny\n") == Lines([b"x", b"y"], [100, 102])


def test_crlf_is_stripped_also_when_a_buffer_ends_between_cr_and_lf():
    """One CR before LF belongs to the line end; other CRs stay."""
    assert split(b"a\r\nb\rb\r\r\n", chunk=2)[0] == [b"a", b"b\rb\r"]
    assert split(b"a\r\nb\rb\r\r\n")[0] == [b"a", b"b\rb\r"]


def test_empty_lines_and_an_empty_file():
    """Empty lines are lines; an empty file has none."""
    assert split(b"\n\r\n\n")[:2] == ([b"", b"", b""], [0, 1, 3])
    assert split(b"")[0] == []


def test_a_line_over_the_limit_is_cut_counted_and_the_file_is_read_on():
    """Ten of twelve bytes stay, two are counted."""
    lines, offsets, counts = split(b"123456789012\nnext\n", TEN)
    assert (lines, offsets) == ([b"1234567890", b"next"], [0, 13])
    assert (counts.cut_lines, counts.cut_bytes) == (1, 2)


def test_a_line_over_the_limit_is_skipped_by_choice_counted_and_the_file_is_read_on():
    """The next line has its own offset."""
    lines, offsets, counts = split(b"123456789012\r\nnext\n", SKIP, chunk=5)
    assert (lines, offsets) == ([b"next"], [14])
    assert (counts.skipped_lines, counts.skipped_bytes) == (1, 12)


def test_a_line_of_exactly_the_limit_is_whole_with_either_line_end():
    """The line end does not count."""
    lines, _, counts = split(b"1234567890\n1234567890\r\n", TEN, chunk=3)
    assert lines == [b"1234567890", b"1234567890"]
    assert counts.cut_lines == 0


def test_an_endless_line_is_held_in_bounded_memory():
    """A gigabyte without a line end keeps no more than the limit and a line end."""
    splitter = Splitter(TEN)
    for _ in range(1000):
        splitter.feed(b"x" * 1_000_000)
    assert len(splitter._part) == 11
    assert splitter.feed(b"\nnext\n") == Lines([b"x" * 10, b"next"], [0, 1_000_000_001])
    assert splitter.counts.cut_bytes == 1_000_000_000 - 10


def test_nul_hole_left_by_a_stale_writer_is_skipped_and_counted():
    """A writer that kept its offset over a truncation leaves NULs; the line after them is whole."""
    lines, offsets, counts = split(b"\0" * 5000 + b"line\nnext\n", TEN, chunk=700)
    assert (lines, offsets) == ([b"line", b"next"], [5000, 5005])
    assert counts.hole_bytes == 5000


def test_nul_bytes_inside_a_line_stay():
    """They are data."""
    assert split(b"a\0b\0\n\0c\n")[:2] == ([b"a\0b\0", b"c"], [0, 6])


def test_invalid_utf8_stays_as_it_is():
    """It is scored as bytes; only what is emitted is replaced."""
    assert split(b"\xff\xfe\xfd in the middle"[1:] + b"\n")[0] == [b"\xfe\xfd in the middle"]


def test_a_multibyte_character_split_at_a_buffer_edge_is_whole():
    """Bytes are joined before anything looks at characters."""
    data = "größe\n".encode()
    assert split(data, chunk=3)[0] == [data[:-1]]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 1000])
def test_utf16_with_a_byte_order_mark_becomes_utf8_with_the_offsets_of_the_file(encoding, chunk):
    """Line ends are units, not bytes: U+0A0A and U+0D0D hold byte 10 and 13 and end nothing."""
    text = ["größe \U0001f600", "ਊ\u0d0d", "", "last"]
    data = "\ufeff".encode(encoding) + "".join(f"{line}\r\n" for line in text).encode(encoding)
    lines, offsets, _ = split(data, chunk=chunk)
    assert lines == [line.encode() for line in text]
    assert offsets == [2, 2 + 2 * 10, 2 + 2 * 14, 2 + 2 * 16]


def test_utf16_is_cut_between_units():
    """Eleven bytes would end inside a character."""
    data = "\ufeffabcdefgh\nxy\n".encode("utf-16-le")
    lines, _, counts = split(data, LineLimits(line_bytes_max=11))
    assert (lines, counts.cut_bytes) == ([b"abcde", b"xy"], 6)


def test_a_utf8_byte_order_mark_is_stripped_at_the_head_only():
    """The first line begins behind it."""
    mark = b"\xef\xbb\xbf"
    for chunk in (1, 2, 3, 100):
        assert split(mark + b"a\n" + mark + b"b\n", chunk=chunk)[:2] == ([b"a", mark + b"b"], [3, 5])


def test_bytes_that_only_began_like_a_mark_are_a_line():
    """They are held for a moment, not lost."""
    assert split(b"\xef\xbb\n", chunk=1)[:2] == ([b"\xef\xbb"], [0])
    assert split(b"\xff", chunk=1)[:2] == ([b"\xff"], [0])


def test_a_flush_gives_the_last_line_once_and_nothing_for_a_mark_or_hole():
    """What is no line stays none."""
    splitter = Splitter(LineLimits())
    splitter.feed(b"a\nb")
    assert splitter.flush() == Lines([b"b"], [2])
    assert splitter.flush() == Lines([], [])
    assert split(b"\0\0\0")[0] == []
    assert split(b"\xef\xbb\xbf")[0] == []


def test_the_encoding_of_a_file_read_from_the_middle_is_given():
    """Its head tells."""
    assert encoding_of(b"\xff\xfea\0") == "utf-16-le"
    splitter = Splitter(LineLimits(), offset=4, encoding=encoding_of(b"\xff\xfea\0"))
    assert splitter.feed("ab\n".encode("utf-16-le")) == Lines([b"ab"], [4])


PIECES = st.sampled_from(
    [
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\0\0\0",
        b"a",
        b"12345678",
        b"1234567890",
        b"x" * 25,
        "ü".encode(),
        b"\xef\xbb\xbf",
    ]
)
MARKS = st.sampled_from([b"", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf"])


@given(
    mark=MARKS, pieces=st.lists(PIECES, max_size=12), limits=st.sampled_from([TEN, SKIP, LineLimits()]), data=st.data()
)
def test_how_bytes_are_fed_never_matters(mark, pieces, limits, data):
    """Whole, or byte by byte, or cut anywhere: the same lines, offsets and counts."""
    content = mark + b"".join(pieces)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(content)), max_size=6)))
    whole = split(content, limits)
    splitter = Splitter(limits)
    lines, offsets = [], []
    for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True):
        part = splitter.feed(content[start:end])
        lines += part.lines
        offsets += part.offsets
        assert splitter.start <= splitter.position == end
    last = splitter.flush()
    assert (lines + last.lines, offsets + last.offsets, splitter.counts) == whole


@given(pieces=st.lists(PIECES, max_size=12), limits=st.sampled_from([TEN, SKIP]))
def test_restarting_at_start_gives_the_rest(pieces, limits):
    """A reader that begins anew where the last line ended gives what an undisturbed one gives."""
    content = b"a" + b"".join(pieces)
    whole = split(content, limits, flush=False)[:2]
    for cut in range(len(content)):
        splitter = Splitter(limits)
        first = splitter.feed(content[:cut])
        again = Splitter(limits, offset=splitter.start)
        rest = again.feed(content[splitter.start :])
        assert (first.lines + rest.lines, first.offsets + rest.offsets) == whole


@given(pieces=st.lists(PIECES, max_size=20))
def test_no_byte_is_lost_or_invented(pieces):
    """Lines, their ends and the rest add up to what was fed."""
    content = b"a" + b"".join(pieces).replace(b"\0", b"")
    lines, offsets, _ = split(content)
    for line, offset in zip(lines, offsets, strict=True):
        assert content[offset : offset + len(line)] == line
    pieces = content.split(b"\n")
    assert [piece.removesuffix(b"\r") for piece in (pieces if pieces[-1] else pieces[:-1])] == lines
