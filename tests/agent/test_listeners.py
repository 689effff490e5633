import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest
from loopback import PATIENCE_S, Bell
from msgspec import msgpack

from foretail import config
from foretail.errors import ConfigError
from foretail.lines import LineLimits
from foretail.listeners import EVENTS_MAX, build
from foretail.sources import PipeInlet
from foretail.telemetry import metrics


def table(source, **limits):
    stream = {"name": "s", "bundle": "/b", "line_bytes_max": 256}
    return config.build({"stream": [stream], "source": [source], "limits": limits}, "agent.toml")


class Listening:
    """An inlet built from a [[source]] table."""

    def __init__(self, source, known=(), **limits):
        self.bell = Bell()
        (self.inlet,) = build(table({"stream": "s"} | source, **limits), self.bell, known)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.inlet.close(PATIENCE_S)

    def connect(self):
        address = self.inlet.address
        plug = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        plug.settimeout(PATIENCE_S)
        plug.connect(address)
        return plug

    def next(self):
        found = []
        assert self.bell.wait(lambda: (received := self.inlet.receive()) and (found.append(received) or True))
        return found[0]


FORWARD = {"type": "forward", "address": "127.0.0.1:0"}
RAW = {"type": "tcp", "address": "127.0.0.1:0"}


def message(*lines, chunk=None):
    entries = [[1, {"log": line}] for line in lines]
    return msgpack.encode(["t", entries] + ([{"chunk": chunk, "size": len(lines)}] if chunk else []))


def answer(plug):
    return msgpack.decode(plug.recv(4096))


def received(plug, size):
    """Exactly so many bytes."""
    data = b""
    while len(data) < size and (more := plug.recv(size - len(data))):
        data += more
    return data


def is_silent(plug):
    """Nothing is there to be read."""
    plug.setblocking(False)
    try:
        with contextlib.suppress(BlockingIOError):
            return plug.recv(1) == "impossible"
        return True
    finally:
        plug.settimeout(PATIENCE_S)


def closed(plug):
    """The server has closed the connection."""
    with contextlib.suppress(ConnectionResetError):
        return plug.recv(4096) == b""
    return True


def test_a_chunk_is_answered_only_when_the_loop_says_so():
    """No acknowledgement before acknowledge(ticket); then {"ack": id}."""
    with Listening(FORWARD) as listening, listening.connect() as plug:
        plug.sendall(message("a", "b\n", chunk="c1"))
        received = listening.next()
        assert (received.ticket, received.chunk, received.batch.lines) == (1, "c1", [b"a", b"b"])
        assert (received.batch.stream, received.batch.offsets, received.batch.end) == ("s", [0, 1], 2)
        assert is_silent(plug)
        listening.inlet.acknowledge(1)
        assert answer(plug) == {"ack": "c1"}


def test_acknowledgement_is_cumulative():
    """acknowledge(n) answers all chunks up to n."""
    with Listening(FORWARD) as listening, listening.connect() as plug:
        for number in (1, 2, 3):
            plug.sendall(message("a", chunk=f"c{number}"))
            listening.next()
        listening.inlet.acknowledge(2)
        expected = msgpack.encode({"ack": "c1"}) + msgpack.encode({"ack": "c2"})
        assert expected == received(plug, len(expected))
        assert is_silent(plug)


def test_a_known_chunk_is_answered_without_being_handed_on():
    """One acknowledged before, in this run or one before it, is acknowledged at once."""
    with Listening(FORWARD, known=["old"]) as listening, listening.connect() as plug:
        plug.sendall(message("a", chunk="old"))
        assert answer(plug) == {"ack": "old"}
        plug.sendall(message("a", chunk="new"))
        listening.next()
        listening.inlet.acknowledge(1)
        assert answer(plug) == {"ack": "new"}
        plug.sendall(message("a", chunk="new"))
        assert answer(plug) == {"ack": "new"}
        assert listening.inlet.receive() is None


def test_a_chunk_that_comes_again_while_under_way_is_scored_once():
    """The sender timed out and connected anew: both connections are answered, one batch is handed on."""
    with Listening(FORWARD) as listening, listening.connect() as first, listening.connect() as second:
        before = metrics.value("source_repeats_total", source=listening.inlet.name)
        first.sendall(message("a", chunk="c"))
        listening.next()
        second.sendall(message("a", chunk="c"))
        second.sendall(message("b", chunk="d"))
        assert listening.next().chunk == "d"
        assert listening.inlet.receive() is None
        listening.inlet.acknowledge(2)
        assert answer(first) == {"ack": "c"}
        expected = msgpack.encode({"ack": "c"}) + msgpack.encode({"ack": "d"})
        assert expected == received(second, len(expected))
        assert metrics.value("source_repeats_total", source=listening.inlet.name) == before + 1


def test_only_so_many_chunks_are_remembered():
    """The oldest id is forgotten at chunks_max."""
    with Listening(FORWARD, known=["c1", "c2", "c3"], chunks_max=2) as listening, listening.connect() as plug:
        plug.sendall(message("a", chunk="c3"))
        assert answer(plug) == {"ack": "c3"}
        plug.sendall(message("a", chunk="c1"))
        assert listening.next().chunk == "c1"


def test_the_same_chunk_has_the_same_source_whenever_it_comes():
    """Verdict ids rest on the chunk id; the origin stays the same over chunks."""
    sources = []
    for chunk in ("c", "c", "d"):
        with Listening(FORWARD) as listening, listening.connect() as plug:
            plug.sendall(message("a", chunk=chunk))
            sources.append(listening.next().batch.source)
    assert sources[0].id == sources[1].id != sources[2].id
    assert [source.path for source in sources] == ["forward://127.0.0.1:0/t"] * 3
    assert len(sources[0].id) == 24


def test_without_the_chunk_option_nothing_is_answered():
    """Message mode and chunks without an id are taken and not acknowledged; nil is a heartbeat."""
    with Listening(FORWARD) as listening, listening.connect() as plug:
        plug.sendall(b"\xc0" + msgpack.encode(["t", 1, {"log": "a"}]) + message("b"))
        assert listening.next().batch.lines == [b"a"]
        assert listening.next().batch.lines == [b"b"]
        listening.inlet.acknowledge(2)
        plug.sendall(message("c", chunk="c"))
        listening.next()
        listening.inlet.acknowledge(3)
        assert answer(plug) == {"ack": "c"}


@pytest.mark.parametrize("junk", [b"\xc1", b"GET / HTTP/1.1\r\n\r\n", b"\xdd\xff\xff\xff\xff", b"\x93\x01\x02\x03"])
def test_malformed_bytes_close_the_connection(junk):
    """They are counted; other connections and later ones go on."""
    with Listening(FORWARD) as listening, listening.connect() as other, listening.connect() as plug:
        name = listening.inlet.name
        before = metrics.value("source_refused_total", source=name, cause="malformed")
        plug.sendall(junk)
        assert closed(plug)
        assert metrics.value("source_refused_total", source=name, cause="malformed") == before + 1
        other.sendall(message("a"))
        assert listening.next().batch.lines == [b"a"]


def test_a_message_over_the_limit_closes_the_connection():
    """message_bytes_max bounds what a peer can make the agent hold."""
    with Listening(FORWARD | {"message_bytes_max": 4096}) as listening, listening.connect() as plug:
        plug.sendall(message("x" * 5000))
        assert closed(plug)


def test_a_message_of_too_many_events_closes_the_connection():
    """What is journalled of a batch is bounded too, or it could never be written."""
    with Listening(FORWARD) as listening, listening.connect() as plug:
        events = b"\x92\x01\x80" * (EVENTS_MAX + 1)
        plug.sendall(b"\x92\xa1t\xdd" + (EVENTS_MAX + 1).to_bytes(4, "big") + events)
        assert closed(plug)
        assert listening.inlet.receive() is None


def test_long_lines_are_cut_and_counted():
    """The stream's line limit holds for handed-over lines too."""
    with Listening(FORWARD) as listening, listening.connect() as plug:
        before = metrics.value("losses_total", cause="long_line", unit="bytes", stream="s")
        plug.sendall(message("x" * 300, "y"))
        assert listening.next().batch.lines == [b"x" * 256, b"y"]
        assert metrics.value("losses_total", cause="long_line", unit="bytes", stream="s") == before + 44


def test_a_full_buffer_makes_the_sender_wait():
    """While the loop takes nothing, nothing more is read; then all comes, in order."""
    with Listening(RAW, queue_batches_max=2) as listening, listening.connect() as plug:
        plug.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < 200 << 20:
                sent += plug.send(b"%0255d\n" % 7 * 256)
        assert sent < 200 << 20
        plug.settimeout(PATIENCE_S)
        plug.shutdown(socket.SHUT_WR)
        size = 0
        while size < sent // 256:
            size += len(listening.next().batch.lines)


def test_raw_lines_over_tcp():
    """Lines with offsets within the connection; the last one needs no end."""
    with Listening(RAW) as listening:
        with listening.connect() as plug:
            plug.sendall(b"a\r\nbc\n\xffd")
        first = listening.next().batch
        assert (first.lines, first.offsets) == ([b"a", b"bc"], [0, 3])
        second = listening.next().batch
        assert (second.lines, second.offsets) == ([b"\xffd"], [6])
        assert second.source == first.source
        assert second.source.path == "tcp://127.0.0.1"


def test_json_lines_over_a_unix_socket(tmp_path):
    """Codec = json takes the field; what is no object is scored as it came, counted."""
    path = str(tmp_path / "s")
    source = {"type": "unix", "address": path, "codec": "json", "field": "m", "mode": "0600"}
    with Listening(source) as listening:
        assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600
        before = metrics.value("source_undecoded_total", source=listening.inlet.name)
        with listening.connect() as plug:
            plug.sendall(b'{"m":"a"}\nno json\n{"x":1}\n')
            assert listening.next().batch.lines == [b"a", b"no json", b'{"x":1}']
        assert metrics.value("source_undecoded_total", source=listening.inlet.name) == before + 1
    assert not Path(path).exists()


def test_forward_over_a_unix_socket_replaces_a_dead_one(tmp_path):
    """The socket of an agent that was killed is no obstacle; that of a living one is."""
    path = str(tmp_path / "s")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    with Listening({"type": "forward", "address": f"unix:{path}"}) as listening:
        with listening.connect() as plug:
            plug.sendall(message("a", chunk="c"))
            assert listening.next().chunk == "c"
        with pytest.raises(ConfigError, match="cannot listen: Address already in use"):
            Listening({"type": "forward", "address": f"unix:{path}"})


def test_connections_are_bounded():
    """One over connections_max is closed and counted."""
    with Listening(RAW | {"connections_max": 1}) as listening, listening.connect() as first:
        first.sendall(b"a\n")
        listening.next()
        with listening.connect() as second:
            assert closed(second)
        assert metrics.value("source_refused_total", source=listening.inlet.name, cause="connections_max") > 0


def test_a_pipe_gives_lines_as_they_come_and_then_its_end():
    """Whole lines at once, the last without an end at EOF; ended is True when nothing more can come."""
    reader, fd = os.pipe()
    bell = Bell()
    inlet = PipeInlet("s", LineLimits(), bell, fd=reader)
    found = []

    def took(count):
        while (received := inlet.receive()) is not None:
            found.append(received.batch)
        return sum(len(batch.lines) for batch in found) == count

    os.write(fd, b"one\ntwo\nthr")
    assert bell.wait(lambda: took(2))
    assert not inlet.ended
    os.write(fd, b"ee")
    os.close(fd)
    assert bell.wait(lambda: inlet.ended and took(3))
    assert [line for batch in found for line in batch.lines] == [b"one", b"two", b"three"]
    assert [offset for batch in found for offset in batch.offsets] == [0, 4, 8]
    assert found[0].source.whole
    os.close(reader)


def test_a_plain_pipe_gives_one_line_for_each_line():
    """No byte order mark is looked for, so that answers stay in step whatever the bytes."""
    reader, fd = os.pipe()
    bell = Bell()
    inlet = PipeInlet("s", LineLimits(), bell, fd=reader, plain=True)
    os.write(fd, b"\xff\xfea\n\xef\xbb\xbfb\n\n")
    os.close(fd)
    found = []
    assert bell.wait(lambda: (received := inlet.receive()) and (found.append(received.batch) or True))
    assert bell.wait(lambda: inlet.ended)
    (batch,) = found
    assert (batch.lines, batch.offsets) == ([b"\xff\xfea", b"\xef\xbb\xbfb", b""], [0, 4, 9])
    os.close(reader)
