"""The same file is told by content, its rotations by name."""

from __future__ import annotations

import pytest

from foretail.identity import BEFORE_BYTES, HEAD_BYTES, Cursor, Match, compare, digest, family, rotated, surely_rotated


class Bytes:
    """Content in memory."""

    def __init__(self, data):
        self.data = data

    def read_at(self, offset, size):
        return self.data[offset : offset + size]


def cursor_at(data, offset):
    """What is remembered of data read up to offset."""
    head, before = data[: min(offset, HEAD_BYTES)], data[max(0, offset - BEFORE_BYTES) : offset]
    return Cursor("id", "path", offset, True, len(head), digest(head), len(before), digest(before), size=len(data))


DATA = b"".join(b"line %d of many\n" % number for number in range(1000))


@pytest.mark.parametrize(
    ("offset", "match"), [(0, Match.EMPTY), (17, Match.WEAK), (1023, Match.WEAK), (5000, Match.STRONG)]
)
def test_how_sure_equal_content_is_grows_with_it(offset, match):
    """Nothing, less than 1 KiB, more."""
    assert compare(cursor_at(DATA, offset), Bytes(DATA)) == match


@pytest.mark.parametrize("changed", [0, 1023, 3976, 4999])
def test_a_changed_byte_in_the_head_or_before_the_offset_makes_another_file(changed):
    """At each end of both."""
    data = bytearray(DATA)
    data[changed] ^= 1
    assert compare(cursor_at(DATA, 5000), Bytes(bytes(data))) == Match.NO


def test_a_shorter_file_is_another_one():
    """What was read cannot be there."""
    assert compare(cursor_at(DATA, 5000), Bytes(DATA[:4999])) == Match.NO
    assert compare(cursor_at(DATA, 5000), Bytes(DATA[:5000])) == Match.STRONG


def test_a_cursor_knows_what_it_owes():
    """Bytes seen and not read."""
    assert cursor_at(DATA, 5000).unread == len(DATA) - 5000


@pytest.mark.parametrize(
    "name",
    [
        "app.log",
        "app.log.gz",
        "app.log.1",
        "app.log.2.gz",
        "app.log-20260101",
        "app.log-20260101-1767225600.gz",
        "app.log.2026-01-01_00:00",
        "app-20260101.log",
        "app-2026-01-01.log.gz",
        "app.1.log",
        "app.log.old",
        "app.log~",
        "app.log.1.bak",
    ],
)
def test_rotations_share_the_family_of_their_log(name):
    """What logrotate, log4j, logback and people make of app.log."""
    assert family(name) == "app.log"
    assert rotated(name, "app.log") == (name != "app.log")


@pytest.mark.parametrize(
    ("name", "original"),
    [("worker-2.log", "worker-1.log"), ("web.log", "app.log"), ("app.logger", "app.log"), ("app.log", "app.log.1")],
)
def test_neighbours_are_no_rotations(name, original):
    """Also where they share a family."""
    assert not rotated(name, original)


def test_a_number_within_a_name_is_no_sure_sign_of_rotation():
    """app-2.log may be the log of a second instance; a date or a number behind the name is none."""
    names = ["app-2.log", "app-20261121.log", "app.log.2", "app.log-20261121.gz"]
    assert [surely_rotated(name, "app.log") for name in names] == [False, True, True, True]


def test_a_name_of_digits_stays_a_name():
    """As /var/log/1 would be."""
    assert family("0001.log") == "0001.log"
    assert family("1") == "1"
    assert family(".gz") == ".gz"
