"""Pure: the Fluent forward protocol, bytes in, events out, no sockets.

Source: Fluentd's Forward Protocol Specification v1 (message, forward, packed and compressed packed modes, chunk
acknowledgement). Not spoken: the shared-key handshake. A chunk without the `chunk` option is not acknowledged.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import msgpack

from foretail.errors import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterable

EVENT_TIME = 0
LINE_FIELDS = ("log", "message", "MESSAGE", "msg")
_SIZES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4}
"""First byte of text, binary and extensions -> bytes of their length."""
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}
"""First byte of arrays and maps -> bytes of their count, objects per item."""
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4}
_FIXED |= {0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17}


def _known(first: int) -> tuple[int, int] | None:
    """Size of an object and objects in it, where its first byte alone says so."""
    if first < 0x80 or first >= 0xE0:
        return 1, 0
    if first < 0xA0:
        return 1, (first & 15) * (2 if first < 0x90 else 1)
    if first < 0xC0:
        return 1 + (first & 31), 0
    return (1 + _FIXED[first], 0) if first in _FIXED else None


_KNOWN = [_known(first) for first in range(256)]


class Chunk(msgspec.Struct, frozen=True):
    """One received message.

    Attributes:
        tag: of its events.
        chunk: id to acknowledge; "" = the sender wants no acknowledgement.
        times: epoch seconds of each event.
        records: the events' maps; values may be bytes where the sender's text was not UTF-8.
    """

    tag: str
    chunk: str
    times: tuple[float, ...]
    records: tuple[dict[Any, Any], ...]


class Framer:
    """Cuts a stream of MessagePack objects; linear in the bytes however they are torn.

    feed() raises StreamError on malformed bytes or an object over `bytes_max`; the stream is then of no use.
    """

    def __init__(self, bytes_max: int = 16 << 20) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()
        self._scanned = 0  # where the next header of the unfinished object starts
        self._pending = 1  # objects that still belong to it

    def feed(self, data: bytes) -> list[bytes]:
        """The objects that `data` completes, each as its own bytes."""
        self._buffer += data
        whole = []
        while self._scan():
            whole.append(bytes(self._buffer[: self._scanned]))
            del self._buffer[: self._scanned]
            self._scanned, self._pending = 0, 1
        return whole

    def rest(self) -> int:
        """Bytes of an unfinished object."""
        return len(self._buffer)

    def _scan(self) -> bool:
        while self._pending:
            size, inner = _header(self._buffer, self._scanned)
            if size == 0:
                return False
            self._scanned += size
            self._pending += inner - 1
            if self._scanned + self._pending > self._bytes_max:  # each pending object has a byte at least
                raise StreamError(f"MessagePack object is over the limit of {self._bytes_max} bytes.")
        return self._scanned <= len(self._buffer)


def _header(data: bytes | bytearray, at: int) -> tuple[int, int]:
    """Size of the object at `at` without the objects in it, and how many are in it; (0, 0) if `data` ends before."""
    if at >= len(data):
        return 0, 0
    first = data[at]
    known = _KNOWN[first]
    if known is not None:
        return known
    width, each = _CONTAINERS.get(first, (_SIZES.get(first, 0), 0))
    if width == 0:
        raise StreamError(f"malformed MessagePack: byte 0x{first:02x}.")
    if at + 1 + width > len(data):
        return 0, 0
    count = int.from_bytes(data[at + 1 : at + 1 + width], "big")
    if each:
        return 1 + width, each * count
    return 1 + width + count + (0xC7 <= first <= 0xC9), 0


def decode(frame: bytes, bytes_max: int = 16 << 20) -> Chunk:
    """The message in one frame; StreamError says what is wrong with it.

    Args:
        frame: one MessagePack object as Framer gives it.
        bytes_max: what a compressed chunk may unpack to.
    """
    match _object(frame):
        case [tag, (bytes() | str()) as entries, *rest] if len(rest) <= 1:
            option = _option(rest)
            packed = entries.encode("utf-8", "surrogateescape") if isinstance(entries, str) else entries
            if option.get("compressed") == "gzip":
                packed = _gunzip(packed, bytes_max)
            framer = Framer(bytes_max)
            pairs = [_object(each) for each in framer.feed(packed)]
            if framer.rest():
                raise StreamError(f"packed chunk ends within an event ({framer.rest()} bytes over).")
        case [tag, list() as pairs, *rest] if len(rest) <= 1 and all(isinstance(pair, list) for pair in pairs):
            option = _option(rest)
        case [tag, moment, dict() as record, *rest] if len(rest) <= 1:
            option, pairs = _option(rest), [[moment, record]]
        case _:
            raise StreamError("not a Fluent forward message: expected [tag, time, record] or [tag, entries].")
    chunk = option.get("chunk", "")
    if not isinstance(tag, str) or not isinstance(chunk, str):
        raise StreamError("not a Fluent forward message: tag and chunk must be text.")
    events = [_event(pair) for pair in pairs]
    return Chunk(tag, chunk, tuple(time for time, _ in events), tuple(record for _, record in events))


def line(record: dict[Any, Any], field: str = "") -> bytes:
    """The log line in an event: its `field`, or the first of LINE_FIELDS, or else the record as JSON; no line end."""
    for name in (field,) if field else LINE_FIELDS:
        value = record.get(name)
        if isinstance(value, str):
            return value.encode("utf-8", "replace").rstrip(b"\r\n")
        if isinstance(value, bytes):
            return value.rstrip(b"\r\n")
    return msgspec.json.encode(_plain(record))


def _plain(value: Any) -> Any:
    """What JSON can hold: bytes as text with replacement, any key as text."""
    match value:
        case dict():
            return {str(_plain(key)): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case bytes():
            return value.decode("utf-8", "replace")
        case None | str() | bool() | int() | float():
            return value
    return str(value)


def encode(tag: str, records: Iterable[bytes], chunk: str, now: float) -> bytes:
    """One forward-mode message; each record a JSON object whose `time`, if a number, is the event's."""
    entries = []
    for record in records:
        fields = msgspec.json.decode(record)
        moment = fields.get("time", now)
        entries.append([_event_time(moment if isinstance(moment, int | float) else now), fields])
    return msgpack.encode([tag, entries, {"chunk": chunk, "size": len(entries)}])


def acknowledgement(chunk: str) -> bytes:
    """What a receiver answers."""
    return msgpack.encode({"ack": chunk})


def acknowledged(frame: bytes) -> str:
    """The chunk id in an answer; StreamError if it is none."""
    match _object(frame):
        case {"ack": str() as chunk}:
            return chunk
    raise StreamError("the peer's answer holds no ack.")


def _object(frame: bytes) -> Any:
    try:
        return msgpack.decode(frame)
    except UnicodeDecodeError:
        return _object(_binary(frame))
    except (msgspec.DecodeError, RecursionError, ValueError, TypeError) as error:
        raise StreamError(f"malformed MessagePack: {error}.") from None


def _binary(frame: bytes) -> bytes:
    """The frame with each text that is not UTF-8 as binary: Fluent Bit sends any bytes of a log as text."""
    parts, at = [], 0
    while at < len(frame):
        size, _ = _header(frame, at)
        first = frame[at]
        if 0xA0 <= first < 0xC0 or 0xD9 <= first <= 0xDB:
            start = at + 1 + _SIZES.get(first, 0)
            text = frame[start : at + size]
            try:
                text.decode()
            except UnicodeDecodeError:
                parts.append(b"\xc6" + struct.pack(">I", len(text)) + text)
                at += size
                continue
        parts.append(frame[at : at + size])
        at += size
    return b"".join(parts)


def _gunzip(packed: bytes, bytes_max: int) -> bytes:
    """All gzip members; StreamError beyond `bytes_max`, so that no bomb fills the memory."""
    parts: list[bytes] = []
    room = bytes_max
    try:
        while packed:
            member = zlib.decompressobj(wbits=31)
            parts.append(member.decompress(packed, room + 1))
            room -= len(parts[-1])
            if room < 0:
                raise StreamError(f"compressed chunk unpacks to more than {bytes_max} bytes.")
            if not member.eof:
                raise StreamError("compressed chunk ends within its data.")
            packed = member.unused_data
    except zlib.error as error:
        raise StreamError(f"compressed chunk: {error}.") from None
    return b"".join(parts)


def _option(rest: list[Any]) -> dict[str, Any]:
    if not rest or rest[0] is None:
        return {}
    if not isinstance(rest[0], dict):
        raise StreamError("not a Fluent forward message: the option must be a map.")
    return rest[0]


def _event(pair: Any) -> tuple[float, dict[Any, Any]]:
    match pair:
        case [[moment, dict()], dict() as record] | [moment, dict() as record]:  # Fluent Bit may add metadata
            return _seconds(moment), record
    raise StreamError("not a Fluent forward event: expected [time, record].")


def _seconds(moment: Any) -> float:
    match moment:
        case bool():
            pass
        case int() | float():
            return float(moment)
        case msgpack.Ext() if moment.code == EVENT_TIME and len(bytes(moment.data)) == 8:
            seconds, nanoseconds = struct.unpack(">II", moment.data)
            return float(seconds + nanoseconds / 1e9)
    if hasattr(moment, "timestamp"):
        return float(moment.timestamp())
    raise StreamError("not a Fluent forward event: the time is no number.")


def _event_time(moment: float) -> msgpack.Ext:
    seconds = int(moment)
    return msgpack.Ext(EVENT_TIME, struct.pack(">II", seconds & 0xFFFFFFFF, int((moment - seconds) * 1e9)))
