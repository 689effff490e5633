"""Which format a log has, from a sample of its lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from foretail.headers import LEVELS, named
from foretail.induction import induce
from foretail.layouts import SHAPES
from foretail.records import LEVEL_NAMES, MESSAGE_NAMES, TIME_NAMES, cri_layer, docker_layer, logfmt_pairs, scalar
from foretail.schema import Format
from foretail.stamps import Clock
from foretail.trial import Budget, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LINE_BYTES = 4096
SAMPLE_MAX = 1000
SHARE_MIN = 0.6
"""Share of the sample's lines a format must match; the rest may be continuation lines."""
FIELDS_MAX = 64
_LEVEL_WORDS = frozenset(word.encode() for word in LEVELS.split("|")) | set(b"T D I N W E F C V".split())
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
    rule, budget = Rule(form.header), Budget(1.0)
    return sum(rule.fullmatch(line, budget.restart()) is not None for line in lines) / max(len(lines), 1)


def _record(lines: Sequence[bytes]) -> Format | None:
    need = SHARE_MIN * len(lines)
    layers = [layer for line in lines if (layer := cri_layer(line)) is not None]
    if len(layers) >= need:
        return _wrapper("cri", [layer.message for layer in layers])
    layers = [layer for line in lines if (layer := docker_layer(line)) is not None]
    if len(layers) >= need:
        return _wrapper("docker", [layer.message for layer in layers])
    objects = [found for line in lines if (found := _object(line))]
    if len(objects) >= need:
        return _fielded("json", objects)
    pairs = [logfmt_pairs(line) for line in lines]
    pairs = [found for found, line in zip(pairs, lines, strict=True) if len(found) > 1 and _covers(found, line)]
    if len(pairs) >= need:
        return _fielded("logfmt", [{key.decode(): value for key, value in found.items()} for found in pairs])
    return None


def _wrapper(kind: Literal["cri", "docker"], messages: Sequence[bytes]) -> Format:
    inner = detect(messages)
    return Format(
        kind=kind, name=f"{kind} ({inner.name})", fields=("stream", *inner.fields), level=inner.level, inner=inner
    )


def _covers(pairs: dict[bytes, bytes], line: bytes) -> bool:
    return sum(len(key) + len(value) + 2 for key, value in pairs.items()) >= 0.7 * len(line)


def _object(line: bytes) -> dict[str, bytes]:
    """The scalars of a JSON object by dotted path; empty for anything else."""
    if line.lstrip()[:1] != b"{":
        return {}
    try:
        value = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return dict(_flat(value, "", 3)) if isinstance(value, dict) else {}


def _flat(record: dict[str, object], path: str, depth: int) -> Iterator[tuple[str, bytes]]:
    for name, value in record.items():
        if isinstance(value, dict) and depth > 1:
            yield from _flat(value, f"{path}{name}.", depth - 1)
        elif (text := scalar(value)) is not None:
            yield path + name, text


def _fielded(kind: Literal["json", "logfmt"], records: Sequence[dict[str, bytes]]) -> Format | None:
    """Which field is the message, the stamp, the level: by name if a usual one is there, else by what it holds."""
    columns: dict[str, list[bytes]] = {}
    for record in records:
        for name, value in record.items():
            columns.setdefault(name, []).append(value)
    common = {name: values for name, values in columns.items() if len(values) >= SHARE_MIN * len(records)}
    time = _by_name(TIME_NAMES, [name for name in common if _are_stamps(common[name])])
    level = _by_name(LEVEL_NAMES, [name for name in common if _are_levels(common[name])])
    rest = [name for name in common if name not in {time, level}]
    message = next((name for name in MESSAGE_NAMES if name in rest), None) or _wordiest(rest, common)
    if message is None:
        return None
    fields = tuple(name for name in columns if name not in {message, time, level})
    return Format(kind=kind, name=kind, message=message, time=time, level=level, fields=fields[:FIELDS_MAX])


def _by_name(names: Sequence[str], found: Sequence[str]) -> str | None:
    return next((name for name in names if name in found), found[0] if found else None)


def _wordiest(names: Sequence[str], columns: dict[str, list[bytes]]) -> str | None:
    """The field with most words; None if none has two on average."""
    words = {name: sum(len(value.split()) for value in columns[name]) / len(columns[name]) for name in names}
    return max((name for name in names if words[name] >= 2), key=words.__getitem__, default=None)


def _are_stamps(values: Sequence[bytes]) -> bool:
    clock = Clock(reference=4e9)
    return all(clock.time(value) > 5e8 for value in values[:50])


def _are_levels(values: Sequence[bytes]) -> bool:
    kinds = {value.strip().upper() for value in values}
    if kinds <= _LEVEL_WORDS:
        return True
    return all(kind.isdigit() for kind in kinds) and {int(kind) for kind in kinds} <= {
        *range(8),
        10,
        20,
        30,
        40,
        50,
        60,
    }
