r"""Text headers: the named ones, and those a person writes as `<Date> <Time> <Level> <Component>: <Content>`.

A header is one regex over the whole record, linear or nearly so and digit-blind, whose group `content` is the message
and whose group `time` is the stamp; other groups can serve as session key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from foretail.errors import ConfigError
from foretail.layouts import SHAPES
from foretail.schema import Format

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTENT = r"(?P<content>(?s:.*))"
LEVELS = (
    "TRACE|DEBUG|INFO|INFORMATION|NOTICE|WARN|WARNING|ERR|ERROR|SEVERE|CRIT|CRITICAL|FATAL|ALERT|EMERG|EMERGENCY|PANIC"
    "|FINE|FINER|FINEST|CONFIG|FAILURE|SUCCESS|DBG|WRN|INF|VERBOSE|AUDIT"
)
_ISO = SHAPES["iso8601"]
_ANY_TIME = "|".join(SHAPES[name] for name in ("iso8601", "ctime", "clf", "spark", "basic", "hdfs", "rfc3164"))
_QUOTED = r'"(?:[^"\\]++|\\.)*+"'

_NAMED = {
    "rfc3164": rf"(?:<(?P<pri>\d{{1,3}})>)?(?P<time>{SHAPES['rfc3164']}|{_ISO})\s++(?P<host>\S+)\s++"
    r"(?:(?P<program>[^\s:\[\]]+(?: [^\s:\[\]]+){0,2})(?:\[(?P<pid>[^\]\s]*)\])?(?: \([^()\n]*\))?:\s++)?" + CONTENT,
    "rfc5424": r"(?:<(?P<pri>\d{1,3})>)\d{1,2} (?P<time>\S+) (?P<host>\S+) (?P<program>\S+) (?P<pid>\S+)"
    r" (?P<msgid>\S+) (?P<data>-|(?:\[[^\]]*\])++)\s*+(?:\xef\xbb\xbf)?" + CONTENT,
    "klog": rf"(?P<level>[IWEF])(?P<time>{SHAPES['klog']})\s++(?P<pid>\d+) (?P<source>[^\s\]:]+:\d+)\]\s*+" + CONTENT,
    "combined": r"(?:(?P<vhost>\S+:\d+) )?(?P<client>\S+) (?P<ident>\S+) (?P<user>\S+(?: [^\s\[]+)?)"
    rf" \[(?P<time>[^\]\n]*)\] (?P<content>{_QUOTED} \d{{3}}) (?P<rest>(?s:.*))",
    "nginx_error": rf"(?P<time>{SHAPES['iso8601']}) \[(?P<level>\w+)\] (?P<pid>\d+)#(?P<tid>\d+): "
    r"(?:\*(?P<connection>\d+) )?" + CONTENT,
    "apache_error": rf"\[(?P<time>{SHAPES['ctime']})\] \[(?:(?P<module>\w*):)?(?P<level>\w+)\]\s++"
    r"(?:\[pid (?P<pid>\d+)(?::tid (?P<tid>\d+))?\]\s++)?(?:\[client (?P<client>[^\]]*)\]\s++)?" + CONTENT,
    "android": rf"(?P<time>{SHAPES['monthday']})\s++(?P<pid>\d+)\s++(?P<tid>\d+)\s++(?P<level>[VDIWEFAS])\s++"
    r"(?P<component>[^\s:]*(?: [^\s:]+){0,3})\s*+:\s++" + CONTENT,
    "logcat": rf"(?:(?P<time>{SHAPES['monthday']})\s++)?(?P<level>[VDIWEFAS])/"
    r"(?P<component>[^\n(]*)\(\s*+(?P<pid>\d+)\):\s++" + CONTENT,
    "log4j": rf"\[?(?P<time>{_ANY_TIME})\]?[\s,:|-]++(?:\[(?P<before>[^\]]*)\]\s++)?"
    rf"\[?(?P<level>(?i:{LEVELS}))\]?:?\s++"
    r"(?:\[(?P<thread>[^\]]*)\]\s++)?(?:(?P<logger>[\w.$/-]+)(?:\s++-\s++|:\s++))?" + CONTENT,
    "python": rf"(?P<time>{_ISO})[\s:-]++(?P<logger>[\w.]+)[\s:-]++(?P<level>(?i:{LEVELS}))[\s:-]++" + CONTENT,
    "python_basic": rf"(?P<level>{LEVELS}):(?P<logger>[^\s:]+):" + CONTENT,
    "iso8601": rf"\[?(?P<time>{_ISO})\]?\s++" + CONTENT,
    "line": "",
}
_KINDS = {"json": "message", "logfmt": "msg"}
_TIME_NAMES = {"date", "day", "month", "year", "time", "datetime", "weekday", "timestamp", "monthday", "hour"}
_LEVEL_NAMES = {"level", "severity", "loglevel", "lvl", "priority", "pri"}
_NAME = re.compile(r"<([^<>\\()|\[\]?*+ ]*)>")


def text_format(name: str, header: str, *, time: str | None = None) -> Format:
    """A text Format from a header regex, its fields and level read from the group names."""
    groups = re.findall(r"\(\?P<(\w+)>", header)
    level = next((group for group in groups if group.lower() in _LEVEL_NAMES), None)
    fields = tuple(
        group
        for group in groups
        if group.lower().rstrip("23456789") not in _TIME_NAMES | {"content"} and group != level
    )
    return Format(kind="text", name=name, header=header, time=time, fields=fields, level=level)


def named(name: str) -> Format | None:
    """The known format of that name, else None."""
    if name in _NAMED:
        return text_format(name, _NAMED[name])
    if name in _KINDS:
        return Format(kind=name, name=name)  # type: ignore[arg-type]
    if name in {"cri", "docker"}:
        return Format(kind=name, name=name, inner=Format())  # type: ignore[arg-type]
    return None


def names() -> tuple[str, ...]:
    """All names `named` knows, for messages."""
    return (*_NAMED, *_KINDS, "cri", "docker")


def parse_format(text: str) -> Format:
    """The Format of a known name or of a header as the literature writes it: `<Date> <Time> <Level>: <Content>`.

    `<Name>` is a field, blanks stand for any white space, the rest is regex (`\\[`, `(\\[<PID>\\])?`). `<Content>` is
    the message. ConfigError for a header without `<Content>`, a field twice, two fields without text between them, or
    a regex that is none (issue 3, build 2; Zhu et al., ISSRE 2023, for the notation).
    """
    known = named(text.strip())
    if known is not None:
        return known
    pieces = _NAME.split(text.strip())
    fields = pieces[1::2]
    if "content" not in [field.lower() for field in fields]:
        raise ConfigError(
            f"format {text!r} has no <Content>; write a header such as '<Date> <Time> <Level>: <Content>'"
            f" or one of {', '.join(names())}"
        )
    for field in fields:
        if not re.fullmatch(r"[A-Za-z_]\w{0,30}", field):
            raise ConfigError(f"format {text!r}: the field name {field!r} must be letters, digits and _ only")
        if fields.count(field) > 1:
            raise ConfigError(f"format {text!r} has the field <{field}> twice; give each a name of its own")
    for before, literal, after in zip(fields, pieces[2:-1:2], fields[1:], strict=False):
        if not literal:
            raise ConfigError(
                f"format {text!r} has nothing between <{before}> and <{after}>; write what separates them"
            )
    header = _header(fields, [_literal(piece) for piece in pieces[0::2]])
    try:
        re.compile(header.encode())
    except re.error as error:
        raise ConfigError(
            f"format {text!r} is not a regex ({error}); escape brackets that are meant as text"
        ) from error
    return text_format(text, header)


def _literal(text: str) -> str:
    text = re.sub(r"(?:\\?\s)+", r"\\s++", text)
    depth, out = 0, ""
    for part in re.findall(r"\\.|.", text, re.DOTALL):
        depth += {"(": 1, ")": -1}.get(part, 0)
        out += r"\|" if part == "|" and depth == 0 else part
    return out


def _header(fields: Sequence[str], literals: Sequence[str]) -> str:
    stamp = _stamp_run(fields, literals)
    out = literals[0]
    for place, field in enumerate(fields):
        after = literals[place + 1]
        last = place + 1 == len(fields)
        body = r"\S+" if field.lower() in _TIME_NAMES and after.startswith(r"\s++") else _body(after, last=last)
        group = CONTENT if field.lower() == "content" and last and not after else f"(?P<{_name(field)}>{body})"
        opening = "(?P<time>" if stamp and place == stamp[0] else ""
        closing = ")" if stamp and place == stamp[1] else ""
        out += opening + group + closing + after
    return out


def _name(field: str) -> str:
    return "content" if field.lower() == "content" else field


def _body(after: str, *, last: bool) -> str:
    """What a field may hold: up to white space, up to a single byte, or lazily up to the text that follows it."""
    if last and not after:
        return r"[^\n]*"
    if after == r"\s++":
        return r"\S+"
    if after.startswith(r"\s++"):
        return r"\S+(?: \S+){0,3}?"
    single = re.fullmatch(r"\\?([^\w\s\\()\[\]?*+{}^$|])|\\([\[\](){}|?*+.^$])", after)
    if single:
        byte = single[1] or single[2]
        return rf"[^\n{re.escape(byte)}]*"
    closing = re.match(r"\\\]\)", after)  # an optional bracket, as in (\[<PID>\])?
    return r"[^\n\]]*" if closing else r"[^\n]*?"


def _stamp_run(fields: Sequence[str], literals: Sequence[str]) -> tuple[int, int] | None:
    """First and last place of the fields that are the stamp together, None if one group named `time` is it already."""
    runs: list[list[int]] = []
    for place, field in enumerate(fields):
        if field.lower() not in _TIME_NAMES:
            continue
        whole = field.lower() in {"timestamp", "datetime"}
        joined = runs and runs[-1][1] == place - 1 and re.fullmatch(r"(?:\\s\+\+|[,T_:-])*", literals[place])
        if joined and not whole and fields[place - 1].lower() not in {"timestamp", "datetime"}:
            runs[-1][1] = place
        else:
            runs.append([place, place])
    if not runs:
        return None
    first, last = max(
        runs,
        key=lambda run: (fields[run[0]].lower() in {"timestamp", "datetime"}, run[1] - run[0], _is_time(fields, run)),
    )
    return None if first == last and fields[first] == "time" else (first, last)


def _is_time(fields: Sequence[str], run: list[int]) -> tuple[bool, int]:
    return (any(fields[place].lower() == "time" for place in range(run[0], run[1] + 1)), run[0])
