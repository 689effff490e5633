"""Records that wrap a message, and what a severity says."""

from __future__ import annotations

import pytest

from foretail.patterns import Matcher
from foretail.records import is_error, logfmt_pairs
from foretail.schema import Format, KeyRule


@pytest.mark.parametrize(
    "level", [b"ERROR", b"error", b"[err]", b"FATAL", b"E", b"crit", b"0", b"3", b"11", b"60", b"50"]
)
def test_error_or_worse(level: bytes) -> None:
    """By name, syslog number or priority, or pino's number."""
    assert is_error(level)


@pytest.mark.parametrize("level", [b"", b"INFO", b"warning", b"W", b"4", b"7", b"14", b"30", b"40", b"none", b"12345"])
def test_below_error(level: bytes) -> None:
    """Warnings are not errors."""
    assert not is_error(level)


def test_json_fields_are_keys_and_a_line_that_is_none_stays_whole() -> None:
    """Scalars of any type as text; a stack trace between JSON lines is a message."""
    form = Format(kind="json", message="a.msg", time="t", level="l", fields=("id", "ok", "f"))
    lines = [
        b'{"a":{"msg":"x 1"},"t":1700000000.5,"l":"error","id":17,"ok":true,"f":null}',
        b'{"a":{"msg":"x \xc3\xa9"},"id":"u","ok":1.5}',
        b"  at java.lang",
        b'{"a":{"msg":{"no":"scalar"}}}',
        b'{"a":{"msg":"cut',
        b'{"a":"\\ud800"}',
        b"[1]",
    ]
    for field, keys in (("id", [b"17", b"u"]), ("ok", [b"true", b"1.5"]), ("f", [b"", b""])):
        typed = Matcher([], form, KeyRule("field", field=field)).match(lines)
        assert typed.keys is not None
        assert keys == typed.keys[:2]
    assert [b"x 1", "x é".encode(), b"  at java.lang", *lines[3:]] == typed.messages
    assert typed.times[0] == 1700000000.5
    assert [True, *[False] * 6] == typed.errors.tolist()


def test_nested_brackets_do_not_crash() -> None:
    """A hostile depth is no record."""
    line = b'{"a":' * 100_000
    assert [line[: 1 << 16]] == Matcher([], Format(kind="json", message="a"), KeyRule()).match([line]).messages


def test_logfmt_quotes_and_escapes() -> None:
    """Values may be quoted and hold escaped quotes, blanks and equal signs."""
    assert logfmt_pairs(rb'a=1 msg="say \"hi\" = now" empty="" x.y=z loose') == {
        b"a": b"1",
        b"msg": b'say "hi" = now',
        b"empty": b"",
        b"x.y": b"z",
    }


def test_a_cri_line_holds_json_inside() -> None:
    """Wrappers nest: CRI outside, JSON inside; the outer stamp counts."""
    form = Format(kind="cri", fields=("stream", "id"), inner=Format(kind="json", message="m", time="t", fields=("id",)))
    line = b'2024-01-01T00:00:01Z stderr F {"m":"hello","t":5,"id":"k"}'
    typed = Matcher([], form, KeyRule("field", field="id")).match([line, b"no wrapper"])
    assert (typed.messages, typed.keys) == ([b"hello", b"no wrapper"], [b"k", b""])
    assert typed.times[0] == 1704067201.0
