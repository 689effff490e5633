"""Which format a log has, from a sample of its lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from foretail.headers import LEVELS, named
from foretail.induction import induce
from foretail.records import LEVEL_NAMES, MESSAGE_NAMES, TIME_NAMES, logfmt_pairs, scalar
from foretail.schema import Format
from foretail.stamps import SHAPES
from foretail.trial import Rule

if TYPE_CHECKING:
    from collections.abc import Sequence
from time import perf_counter

LINE_BYTES = 4096
SAMPLE_MAX = 2000
SHARE_MIN = 0.6
"""Share of the sample's lines a format must match; the rest may be continuation lines."""
_NAMED = ("rfc5424", "klog", "combined", "nginx_error", "apache_error", "android", "logcat", "python_basic")
_SYSLOG = re.compile(
    rf"(?:<\d{{1,3}}>)?(?:{SHAPES['rfc3164']}|(?P<iso>{SHAPES['iso8601']})) (?!(?i:{LEVELS})\b)(?P<host>[\w.:@/-]+)"
    r" [^\s:\[\]]+(?: [^\s:\[\]]+)?(?P<pid>\[[^\]\s]*\])?(?: \([^()\n]*\))?:\s".encode()
)


def detect(sample: Sequence[bytes]) -> Format:
    """The Format of a log of which `sample` holds lines in order, at best some thousands; whole lines if nothing fits.

    Records (JSON, CRI, Docker, logfmt) and headers that people know by name come first, then what the columns show
    (induction). Lines that continue a record do not disturb; they are messages as a whole (issue 3, build 2).
    """
    lines = _thinned([line[:LINE_BYTES] for line in sample if line.strip()])
    if not lines:
        return Format()
    return _record(lines) or _named(lines) or induce(lines) or Format()


def _thinned(lines: Sequence[bytes]) -> Sequence[bytes]:
    """At most SAMPLE_MAX lines, in runs: a run keeps the lines that continue a record beside it."""
    if len(lines) <= SAMPLE_MAX:
        return lines
    runs = 10
    step, run = len(lines) // runs, SAMPLE_MAX // runs
    return [line for start in range(0, step * runs, step) for line in lines[start : start + run]]


def _named(lines: Sequence[bytes]) -> Format | None:
    heads = [line for line in lines if line[:1] not in {b" ", b"\t"}]
    for name in _NAMED:
        form = named(name)
        if form is not None and _share(form, heads) >= SHARE_MIN:
            return form
    found = [match for line in heads if (match := _SYSLOG.match(line)) is not None]
    if not found or len(found) < (0.9 if found[0]["iso"] else 0.5) * len(heads):
        return None
    hosts = [match["host"] for match in found]
    few = len(set(hosts)) <= max(10, 0.05 * len(hosts))
    names = sum(re.search(rb"[\d.-]", host) is not None for host in hosts) >= 0.9 * len(hosts)
    pids = sum(match["pid"] is not None for match in found)
    if (few or names) and (not found[0]["iso"] or pids >= 0.3 * len(found)):
        return named("rfc3164")
    return None


def _share(form: Format, lines: Sequence[bytes]) -> float:
    rule = Rule(form.header)
    return sum(rule.fullmatch(line, perf_counter() + 1.0) is not None for line in lines) / max(len(lines), 1)


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
