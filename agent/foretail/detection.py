"""Which format a log has, from a sample of its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from foretail.headers import named, parse_format
from foretail.records import LEVEL_NAMES, MESSAGE_NAMES, TIME_NAMES, logfmt_pairs, scalar
from foretail.schema import Format
from foretail.trial import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARE_MIN = 0.6
"""Share of the sample's lines a format must match; the rest may be continuation lines."""
_TEXT = (
    "rfc5424",
    "klog",
    "combined",
    "nginx_error",
    "apache_error",
    "android",
    "rfc3164",
    "python",
    "log4j",
    "iso8601",
)


def detect(sample: Sequence[bytes]) -> Format:
    """The Format of a log whose first lines (or a sample in order) are `sample`; whole lines if nothing fits."""
    lines = [line for line in sample if line.strip()][:2000]
    if not lines:
        return Format()
    record = _record(lines)
    if record is not None:
        return record
    for name in _TEXT:
        form = named(name)
        assert form is not None
        rule = Rule(form.header)
        hits = sum(rule.fullmatch(line[:4096], float("inf")) is not None for line in lines)
        if hits >= SHARE_MIN * len(lines):
            return form
    return parse_format("line")


def _record(lines: Sequence[bytes]) -> Format | None:
    objects = []
    for line in lines:
        if line.lstrip().startswith(b"{"):
            try:
                value = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if isinstance(value, dict):
                objects.append(value)
    if len(objects) >= SHARE_MIN * len(lines):
        return _json(objects)
    return None


def _json(objects: Sequence[dict[str, object]]) -> Format | None:
    if all({"log", "stream", "time"} == set(item) for item in objects):
        inner = detect([str(item["log"]).rstrip("\r\n").encode() for item in objects])
        return Format(kind="docker", name="docker", fields=("stream", *inner.fields), level=inner.level, inner=inner)
    share = SHARE_MIN * len(objects)

    def most(names: Sequence[str]) -> str | None:
        return next(
            (name for name in names if sum(scalar(item.get(name)) is not None for item in objects) >= share), None
        )

    message = most(MESSAGE_NAMES)
    if message is None:
        return None
    time, level = most(TIME_NAMES), most(LEVEL_NAMES)
    names = dict.fromkeys(name for item in objects for name, value in item.items() if scalar(value) is not None)
    fields = tuple(name for name in names if name not in {message, time, level})
    return Format(kind="json", name="json", message=message, time=time, level=level, fields=fields)


_ = logfmt_pairs
