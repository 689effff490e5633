"""Traces become one record each; limits and times end them."""

from __future__ import annotations

import pytest

from foretail.errors import ConfigError
from foretail.lines import Lines
from foretail.multiline import Joiner, Multiline

JAVA = b"""2026-11-21 10:00:00 INFO one
java.lang.IllegalStateException: closed
\tat com.example.Pool.get(Pool.java:42)
\tat com.example.Main.main(Main.java:7)
Caused by: java.io.IOException: reset
\tat com.example.Net.read(Net.java:9)
\t... 3 more
2026-11-21 10:00:01 INFO two
2026-11-21 10:00:02 ERROR request failed: java.lang.NullPointerException: x
\tat com.example.Main.main(Main.java:8)
2026-11-21 10:00:03 INFO three"""

PYTHON = b"""INFO one
Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
  File "a.py", line 2, in f
    1 / 0
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in <module>
    g()
KeyError: 'x'
INFO two
INFO three"""

GO = b"""2026/11/21 10:00:00 one
panic: runtime error: index out of range [5] with length 3

goroutine 1 [running]:
main.f(0x5, 0x1)
\t/src/main.go:12 +0x1d
main.main()
\t/src/main.go:7 +0x20
exit status 2
2026/11/21 10:00:01 two
fatal error: all goroutines are asleep - deadlock!

goroutine 1 [chan receive]:
main.main()
\t/src/main.go:7 +0x20
created by main.start in goroutine 1
\t/src/main.go:3 +0x20
2026/11/21 10:00:02 three"""

START = b"""[1] first
  more of first
even more
[2] second
[3] third
  more of third"""


def lines_of(data, offset=0):
    """Lines with offsets."""
    lines = data.split(b"\n")
    offsets = [offset + sum(len(line) + 1 for line in lines[:at]) for at in range(len(lines))]
    return Lines(lines, offsets)


def join(multiline, data, chunk=None):
    """Records of data fed some lines at a time."""
    joiner = Joiner(multiline)
    lines = lines_of(data)
    chunk = chunk or len(lines.lines)
    records, offsets = [], []
    for at in range(0, len(lines.lines), chunk):
        done = joiner.feed(Lines(lines.lines[at : at + chunk], lines.offsets[at : at + chunk]), 0.0)
        records += done.lines
        offsets += done.offsets
    last = joiner.flush()
    return Lines(records + last.lines, offsets + last.offsets)


@pytest.mark.parametrize("chunk", [1, 2, 100])
@pytest.mark.parametrize(
    ("preset", "data", "sizes"),
    [("java", JAVA, [1, 6, 1, 2, 1]), ("python", PYTHON, [1, 13, 1, 1]), ("go", GO, [1, 8, 1, 7, 1])],
)
def test_multiline_java_python_and_go_traces_are_one_record_each(preset, data, sizes, chunk):
    """Every other line stays a record of its own, and nothing is lost."""
    records = join(Multiline(preset), data, chunk)
    assert [record.count(b"\n") + 1 for record in records.lines] == sizes
    assert b"\n".join(records.lines) == data


def test_multiline_start_pattern_begins_records():
    """Lines that do not match belong to the record before."""
    records = join(Multiline("start", start=r"^\[\d+\]"), START, 1)
    assert records.lines == [b"[1] first\n  more of first\neven more", b"[2] second", b"[3] third\n  more of third"]
    assert records.offsets == [0, 36, 47]


def test_multiline_size_limits_end_a_record_and_the_rest_begins_another():
    """Two lines at most; the number of cut records is counted."""
    joiner = Joiner(Multiline("start", start="^#", lines_max=2))
    done = joiner.feed(lines_of(b"#1\na\nb\n#2\nc"), 0.0)
    assert done.lines == [b"#1\na", b"b", b"#2\nc"]
    assert joiner.cut_records == 2
    joiner = Joiner(Multiline("start", start="^#", bytes_max=5))
    assert joiner.feed(lines_of(b"#1\nabc\nd"), 0.0).lines == [b"#1\nabc"]


def test_multiline_time_limit_ends_a_record_whose_continuation_does_not_come():
    """One second after the last line, whatever a clock that steps back says in between."""
    joiner = Joiner(Multiline("java", wait_s=1.0))
    assert joiner.feed(lines_of(b"a.B.CException: x\n\tat a.b(C.java:1)"), 100.0).lines == []
    assert (joiner.pending, joiner.start) == (True, 0)
    assert not joiner.late(100.9)
    assert not joiner.late(50.0)
    assert joiner.late(51.0)
    assert joiner.flush() == Lines([b"a.B.CException: x\n\tat a.b(C.java:1)"], [0])
    assert not joiner.late(200.0)


def test_multiline_waits_only_where_a_trace_may_go_on():
    """Ordinary lines are given out at once."""
    assert Joiner(Multiline("python")).feed(lines_of(b"one\ntwo"), 0.0).lines == [b"one", b"two"]


def test_multiline_start_that_is_no_pattern_is_refused_with_a_sentence():
    """It names the pattern and the reason."""
    with pytest.raises(ConfigError, match=r"multiline start pattern '\(' is no regular expression"):
        Joiner(Multiline("start", start="("))
