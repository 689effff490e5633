"""What a line-by-line feed left in the journal is replayed as a few large records."""

import msgspec
import pytest
from plugins import syslog_bundle

from foretail import config, service
from foretail.joining import joined
from foretail.journal import Restored
from foretail.lines import Batch, Source
from foretail.state import Entry, restore


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    bundle = syslog_bundle.write(tmp_path_factory.mktemp("bundle") / "syslog")
    stream = {"name": "s", "bundle": bundle, "include": ["x"], "emit": "lines"}
    made = config.build({"agent": {"state_dir": ""}, "stream": [stream]}, "options")
    return lambda: service.make_stream(made.stream[0], made)


def records(stream, messages, source):
    """Journal entries of one line each, judged as they are made."""
    written, offset = [], 0
    for number, message in enumerate(messages):
        line = f"2026-11-21T09:{number // 60 % 60:02d}:{number % 60:02d}+00:00 web1 prog[12]: {message}".encode()
        columns = stream.type(Batch("s", source, [line], [offset], offset + len(line) + 1, 1795253599.0))
        offset += len(line) + 1
        stream.judge(columns)
        written.append(Entry("s", columns, None, f"line:{number}"))
        if number % 97 == 0:
            advance = stream.advance(stream.now + 0.25)
            stream.judge(advance)
            written.append(Entry("s", advance))
    return written


def test_the_state_is_the_same(fresh):
    """Keys, unknown lines, lines without a key, advances of time, two sources: the same snapshot and last chunk."""
    live, written = fresh(), []
    for name in ("0" * 24, "1" * 24):
        messages = syslog_bundle.messages(300, seed=int(name[0]))
        messages[10:10] = ["never seen before", "cache x", "job 10 done", "job 10 done"]
        written += records(live, messages, Source(name, "stdin", whole=True))
    again = list(joined(written))
    assert len(again) < len(written) / 10
    stream = fresh()
    restoration = restore(Restored(None, [msgspec.msgpack.encode(entry) for entry in written], []), {"s": stream})
    assert restoration.chunks == [entry.chunk for entry in written if entry.chunk]
    assert stream.snapshot() == live.snapshot()


def test_a_replay_of_single_lines_is_many_times_shorter_also_of_other_feeds(fresh):
    """Lines over TCP are records of their own too; between two advances they become one."""
    written = records(fresh(), syslog_bundle.messages(95), Source("2" * 24, "tcp://10.0.0.1", whole=False))
    assert [len(entry.columns.ids) // 2 for entry in joined(written)] == [1, 0, 94]


def test_nothing_is_joined_to_nothing():
    """A journal may be empty."""
    assert list(joined([])) == []
