"""What leaves the real process, whatever bytes go in: one JSON object a line, valid UTF-8, below the limit."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from plugins import syslog_bundle

from foretail.config import Limits

FORETAIL = str(Path(sys.executable).with_name("foretail"))
ANSWER_BYTES_MAX = 4096
"""rsyslog reads an answer of mmexternal into a buffer of its own."""
HEAD = b"2026-11-21T09:00:00+00:00 web1 prog[12]: "

pytestmark = pytest.mark.slow

LINES = st.lists(
    st.builds(
        lambda head, part, times: (head + part * times)[:200_000],
        st.sampled_from([b"", HEAD, b'{"msg": "', HEAD + b"cache 7"]),
        st.binary(min_size=1, max_size=8).filter(lambda part: b"\n" not in part)
        | st.text(min_size=1, max_size=4).map(lambda text: text.replace("\n", " ").encode("utf-8", "surrogatepass")),
        st.sampled_from([1, 3, 500, 9_000]),
    ),
    min_size=1,
    max_size=5,
)
HARD = [b"\xff" * 200_000, b"\x00" * 200_000, b'"' * 200_000, HEAD + b"\xed\xa0\x80\xc3", b"\x1b[31m\x7f\x85\r"]


class Pipe:
    """`foretail pipe` for a whole module; the last line of each question tells where its answers end."""

    numbers = itertools.count(10**6)

    def __init__(self, bundle, *options):
        command = [FORETAIL, "pipe", "--bundle", bundle, *options]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def close(self):
        """End its input; the exit code."""
        try:
            self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        return self.process.wait()

    def told(self, lines):
        """Everything that is written for these lines and one more, line by line."""
        mark = b"%d" % next(self.numbers)
        self.process.stdin.write(b"".join(line + b"\n" for line in [*lines, HEAD + b"cache " + mark]))
        self.process.stdin.flush()
        found = []
        for line in self.process.stdout:
            found.append(line)
            if b'"key":"%s"' % mark in line and b'"kind":"line"' in line:
                return found
        raise AssertionError("the agent ended")

    def answered(self, lines):
        """As many answers as lines."""
        self.process.stdin.write(b"".join(line + b"\n" for line in lines))
        self.process.stdin.flush()
        return [self.process.stdout.readline() for _ in lines]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return syslog_bundle.write(tmp_path_factory.mktemp("bundle") / "syslog")


@pytest.fixture(scope="module", params=["lines", "mmexternal", "omprog"])
def pipe(request, bundle, tmp_path_factory):
    state = str(tmp_path_factory.mktemp("state"))
    options = ["--emit", "lines"] if request.param == "lines" else ["--reply", request.param, "--state", state]
    started = Pipe(bundle, *options)
    if request.param == "omprog":
        assert started.process.stdout.readline() == b"OK\n"
    yield request.param, started
    assert started.close() == 0


def strict(line):
    """The object in a line, as a strict reader reads it."""

    def refuse(name):
        raise ValueError(name)

    assert line.endswith(b"\n")
    found = json.loads(line.decode("utf-8"), parse_constant=refuse)
    assert isinstance(found, dict)
    return found


@settings(max_examples=25, deadline=None)
@given(LINES)
@example(HARD)
def test_every_emitted_line_is_one_json_object_below_the_limit(pipe, lines):
    """Records of every kind; an answer of mmexternal for each line, of omprog `OK`."""
    kind, process = pipe
    if kind == "omprog":
        assert process.answered(lines) == [b"OK\n"] * len(lines)
    elif kind == "mmexternal":
        for answer in process.answered(lines):
            strict(answer)
            assert len(answer) <= ANSWER_BYTES_MAX
    else:
        found = process.told(lines)
        assert max(map(len, found)) <= Limits().record_bytes_max
        records = [strict(line) for line in found]
        assert sum(record["kind"] == "line" for record in records) >= 1 + sum(map(bool, lines))


def test_what_was_cut_is_named(bundle):
    """A line that grows beyond the limit when it is escaped is cut, and its record says which field."""
    process = Pipe(bundle, "--emit", "lines")
    record = strict(process.told([b"\x01" * 200_000])[0])
    assert record["cut"]
    assert record["explanation"]["line"].startswith("\x01")
    assert process.close() == 0
