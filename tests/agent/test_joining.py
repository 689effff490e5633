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
    """Journal records of one line each, judged as they are made."""
    written, offset = [], 0
    for number, message in enumerate(messages):
        line = f"2026-11-21T09:{number // 60 % 60:02d}:{number % 60:02d}+00:00 web1 prog[12]: {message}".encode()
        columns = stream.type(Batch("s", source, [line], [offset], offset + len(line) + 1, 1795253599.0))
        offset += len(line) + 1
        stream.judge(columns)
        written.append(msgspec.msgpack.encode(Entry("s", columns, None, f"line:{number}")))
        if number % 97 == 0:
            advance = stream.advance(stream.now + 0.25)
            stream.judge(advance)
            written.append(msgspec.msgpack.encode(Entry("s", advance)))
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
    snapshots = []
    for kept in (written, again):
        stream = fresh()
        restoration = restore(Restored(None, kept, []), {"s": stream})
        assert restoration.chunks[-1] == "line:303"
        snapshots.append(msgspec.msgpack.decode(msgspec.msgpack.encode(stream.snapshot())))
    assert snapshots[0] == snapshots[1]
    assert snapshots[0] == msgspec.msgpack.decode(msgspec.msgpack.encode(live.snapshot()))


def test_what_cannot_be_joined_stays_as_it_is():
    """A record that is no entry is handed on for restore() to name."""
    assert list(joined([b"junk", b"\xc1"])) == [b"junk", b"\xc1"]
    assert list(joined([])) == []
