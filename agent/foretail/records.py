"""Records that wrap a message: JSON lines, logfmt, CRI and Docker; decoded before the message is typed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from foretail.errors import ConfigError
from foretail.schema import Format


class Record(NamedTuple):
    """One decoded line; `fields` holds the scalars that can serve as key, `time` the text of the stamp."""

    message: bytes
    time: bytes = b""
    level: bytes = b""
    fields: Mapping[str, bytes] = MappingProxyType({})


MESSAGE_NAMES = (
    "message", "msg", "MESSAGE", "Message", "@message", "log", "text", "body", "short_message", "event",
    "event.message", "request", "description", "details", "statement", "error",
)  # fmt: skip
TIME_NAMES = (
    "time", "timestamp", "@timestamp", "ts", "t", "t.$date", "date", "datetime", "Timestamp", "asctime", "eventTime",
    "_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP", "created",
)  # fmt: skip
LEVEL_NAMES = (
    "level", "severity", "lvl", "loglevel", "log.level", "levelname", "level_name", "Level", "log_level", "PRIORITY",
    "s",
)  # fmt: skip

_CRI = re.compile(rb"(\d{4}-\S+) (stdout|stderr) (?:[FP](?::\S+)?) ?(.*)", re.DOTALL)
_PAIR = re.compile(rb'([A-Za-z_@][\w.@/-]*)=(?:"((?:[^"\\]|\\.)*)"|([^\s"]*))(?=\s|$)')
_ERROR_NAMES = frozenset(
    b"ERROR ERR FATAL CRITICAL CRIT ALERT EMERG EMERGENCY PANIC SEVERE FAILURE F E ERRO DPANIC".split()
)
Decoder = Callable[[bytes], Record]


def is_error(level: bytes) -> bool:
    """Whether the text of a severity means error or worse: names, syslog numbers (PRI or 0..7), pino's 50 and 60."""
    text = level.strip(b" []:<>").upper()
    if text in _ERROR_NAMES:
        return True
    if not text.isdigit() or len(text) > 3:
        return False
    number = int(text)
    return number in {50, 60} if number in {10, 20, 30, 40, 50, 60} and len(text) == 2 else number % 8 <= 3


Header = Callable[[bytes], "Mapping[str, bytes | None] | None"]
"""A text header applied to a line: its groups (`content` among them), or None."""


def decoder(form: Format, compiled: Callable[[str], Header]) -> Decoder:
    """What turns a line of `form` into a Record; `compiled` makes text headers, under the caller's time limit.

    A line that is no record (a stack trace between JSON lines, say) is a message as a whole.
    """
    match form.kind:
        case "text":
            return _text(form, compiled)
        case "json":
            return _json(form)
        case "logfmt":
            return _logfmt(form)
        case "docker":
            return _wrapped(docker_layer, decoder(form.inner or Format(), compiled))
        case "cri":
            return _wrapped(cri_layer, decoder(form.inner or Format(), compiled))
    raise ConfigError(f"the format kind {form.kind!r} is unknown; use text, json, cri, docker or logfmt")


def scalar(value: object) -> bytes | None:
    """A JSON scalar as the bytes it is matched and keyed by; None for the rest."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float) and math.isfinite(value):
        return repr(value).encode()
    return None


def _find(record: dict[str, object], path: str) -> object:
    if path in record:
        return record[path]
    value: object = record
    for part in path.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def _json(form: Format) -> Decoder:
    read = msgspec.json.Decoder(dict).decode
    message_name, time_name, level_name, fields = form.message or "message", form.time, form.level, form.fields

    def decode(line: bytes) -> Record:
        try:
            record = read(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Record(line)
        message = scalar(_find(record, message_name))
        if message is None:
            return Record(line)
        found = {}
        for name in fields:
            value = scalar(_find(record, name))
            if value is not None:
                found[name] = value
        time = scalar(_find(record, time_name)) if time_name else None
        level = scalar(_find(record, level_name)) if level_name else None
        return Record(message, time or b"", level or b"", found)

    return decode


def _logfmt(form: Format) -> Decoder:
    message_name = (form.message or "msg").encode()
    time_name = form.time.encode() if form.time else b""
    level_name = form.level.encode() if form.level else b""
    fields = [(name, name.encode()) for name in form.fields]

    def decode(line: bytes) -> Record:
        pairs = logfmt_pairs(line)
        message = pairs.get(message_name)
        if message is None:
            return Record(line)
        found = {name: pairs[raw] for name, raw in fields if raw in pairs}
        return Record(message, pairs.get(time_name, b""), pairs.get(level_name, b""), found)

    return decode


def logfmt_pairs(line: bytes) -> dict[bytes, bytes]:
    """The `key=value` pairs of a logfmt line, quotes and escaped quotes removed."""
    return {
        key: quoted.replace(b'\\"', b'"').replace(b"\\\\", b"\\") if quoted else bare
        for key, quoted, bare in _PAIR.findall(line)
    }


def docker_layer(line: bytes) -> Record | None:
    """A line of Docker's json-file driver; None for any other."""
    try:
        record = _READ_DOCKER(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    text = record.log.encode("utf-8", "surrogatepass").rstrip(b"\r\n")
    return Record(text, record.time.encode(), b"", {"stream": record.stream.encode()})


class _Docker(msgspec.Struct):
    log: str
    time: str
    stream: str = ""


_READ_DOCKER = msgspec.json.Decoder(_Docker).decode


def cri_layer(line: bytes) -> Record | None:
    """A line of a Kubernetes container log (CRI); None for any other."""
    match = _CRI.fullmatch(line)
    return Record(match[3], match[1], b"", {"stream": match[2]}) if match else None


def _wrapped(layer: Callable[[bytes], Record | None], inside: Decoder) -> Decoder:
    """The outer stamp wins: the runtime wrote it, it has a zone and is there for every line."""

    def decode(line: bytes) -> Record:
        outer = layer(line)
        if outer is None:
            return Record(line)
        found = inside(outer.message)
        return Record(found.message, outer.time or found.time, found.level, {**outer.fields, **found.fields})

    return decode


def _text(form: Format, compiled: Callable[[str], Header]) -> Decoder:
    if not form.header:
        return Record
    header = compiled(form.header)
    level = form.level or ""

    def decode(line: bytes) -> Record:
        groups = header(line)
        if groups is None:
            return Record(line)
        fields = {name: value for name, value in groups.items() if value is not None and name in form.fields}
        return Record(groups["content"] or b"", groups.get("time") or b"", groups.get(level) or b"", fields)

    return decode
