import contextlib
import gzip
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from foretail import forward
from foretail.errors import StreamError

NOW = msgpack.Ext(0, struct.pack(">II", 1700000000, 500_000_000))
EVENTS = [[1700000000, {"log": "a"}], [NOW, {"log": "b"}]]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def decoded(message: object) -> forward.Chunk:
    return forward.decode(msgpack.encode(message))


def read(data: bytes) -> list[forward.Chunk]:
    return [forward.decode(frame, 1000) for frame in forward.Framer(1000).feed(data)]


def refusal(data: bytes) -> str:
    with pytest.raises(StreamError) as error:
        read(data)
    return str(error.value)


@given(st.lists(VALUES, max_size=5), st.lists(st.integers(1, 9), min_size=1))
def test_objects_are_found_however_the_bytes_are_torn(values, sizes):
    """The same objects come out whatever pieces their bytes come in."""
    objects = [msgpack.encode(value) for value in values]
    data, found, framer = b"".join(objects), [], forward.Framer()
    while data:
        size = sizes[len(data) % len(sizes)]
        found += framer.feed(data[:size])
        data = data[size:]
    assert objects == found
    assert framer.rest() == 0


def test_large_and_extended_objects_are_framed():
    """Every width of length is understood."""
    values = ["x" * 300, "x" * 70000, b"y" * 300, b"y" * 70000, list(range(70000)), {i: i for i in range(70000)}]
    values += [msgpack.Ext(5, b"z" * size) for size in (1, 2, 4, 8, 16, 3, 300, 70000)]
    objects = [msgpack.encode(value) for value in values]
    assert objects == forward.Framer().feed(b"".join(objects))


def test_an_endless_object_is_refused_at_the_limit():
    """An object over the limit is an error with the limit in it, before it is all there."""
    assert "over the limit of 1000 bytes" in refusal(b"\xc6\xff\xff\xff\xff")
    assert "over the limit" in refusal(b"\xdd\xff\xff\xff\xff")
    assert "over the limit" in refusal(b"\x91" * 2000)


@pytest.mark.parametrize(
    "message",
    [
        ["t", EVENTS, {"chunk": "c"}],
        ["t", b"".join(map(msgpack.encode, EVENTS)), {"chunk": "c"}],
        ["t", gzip.compress(b"".join(map(msgpack.encode, EVENTS))), {"chunk": "c", "compressed": "gzip"}],
        ["t", b"".join(gzip.compress(msgpack.encode(e)) for e in EVENTS), {"chunk": "c", "compressed": "gzip"}],
        ["t", [[[time, {"meta": 1}], record] for time, record in EVENTS], {"chunk": "c"}],
    ],
)
def test_every_mode_holds_the_same_events(message):
    """Forward, packed and compressed packed mode, and Fluent Bit's metadata, are one."""
    assert decoded(message) == forward.Chunk("t", "c", (1700000000.0, 1700000000.5), ({"log": "a"}, {"log": "b"}))


def test_message_mode_is_one_event():
    """[tag, time, record] with and without the chunk option."""
    assert decoded(["t", 5, {"log": "a"}]) == forward.Chunk("t", "", (5.0,), ({"log": "a"},))
    assert decoded(["t", NOW, {"log": "a"}, {"chunk": "c"}]).chunk == "c"


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("x", "expected [tag, time, record]"),
        (["t"], "expected [tag, time, record]"),
        (["t", EVENTS, 3], "option must be a map"),
        ([5, EVENTS], "tag and chunk must be text"),
        (["t", EVENTS, {"chunk": 5}], "tag and chunk must be text"),
        (["t", [[1]]], "expected [time, record]"),
        (["t", None, {"log": "a"}], "the time is no number"),
        (["t", b"\x92"], "ends within an event"),
        (["t", b"\xc1"], "byte 0xc1"),
        (["t", b"zip", {"compressed": "gzip"}], "compressed chunk"),
        (["t", gzip.compress(b"x" * 2000), {"compressed": "gzip"}], "unpacks to more than 1000 bytes"),
        (["t", gzip.compress(b"x" * 20)[:-9], {"compressed": "gzip"}], "ends within its data"),
    ],
)
def test_what_is_no_forward_message_is_refused(message, said):
    """Each malformed message is one sentence."""
    assert said in refusal(msgpack.encode(message))


def test_malformed_bytes_are_refused():
    """A byte that MessagePack does not know, a map as key, and deep nesting end in StreamError."""
    assert "0xc1" in refusal(b"\xc1")
    assert "malformed" in refusal(b"\x81\x80\x01")
    with pytest.raises(StreamError, match="malformed"):
        forward.decode(b"\x91" * 9000 + b"\x01")


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_stream_errors(data):
    """Whatever a peer sends, the codec gives chunks or StreamError."""
    with contextlib.suppress(StreamError):
        read(data)


@given(st.binary(max_size=300).filter(lambda raw: b"\n" not in raw and b"\r" not in raw))
def test_text_that_is_not_utf8_keeps_its_bytes(raw):
    """Fluent Bit sends a log's bytes as text whatever they are; the line is these bytes."""
    text = msgpack.encode("x" * len(raw))[: -len(raw) or None] + raw
    message = b"\x93" + msgpack.encode("t") + b"\x05" + b"\x81" + msgpack.encode("log") + text
    assert raw == forward.line(forward.decode(message).records[0])


def test_the_line_is_the_first_known_field():
    """log, message, MESSAGE, msg in this order, or the field asked for, without its line end."""
    assert forward.line({"msg": "m", "log": "l\r\n"}) == b"l"
    assert forward.line({"msg": "m", "log": "l"}, "msg") == b"m"
    assert forward.line({"log": b"\xff\n"}) == b"\xff"


def test_a_record_without_a_line_is_itself_the_line():
    """The whole record as JSON, valid whatever bytes are in it."""
    assert forward.line({"a": b"\xff", b"k": [None, 1.5, True]}) == '{"a":"\ufffd","k":[null,1.5,true]}'.encode()


def test_what_is_sent_is_understood():
    """encode() and decode() are inverse; a numeric `time` is the event's."""
    message = forward.encode("t", [b'{"time":5.5,"a":1}', b'{"a":2}'], "c", 9.25)
    expected = forward.Chunk("t", "c", (5.5, 9.25), ({"time": 5.5, "a": 1}, {"a": 2}))
    assert expected == forward.decode(message)


def test_acknowledgements_are_understood():
    """{"ack": id} and nothing else."""
    assert forward.acknowledged(forward.acknowledgement("c")) == "c"
    with pytest.raises(StreamError, match="holds no ack"):
        forward.acknowledged(msgpack.encode({"nack": "c"}))
