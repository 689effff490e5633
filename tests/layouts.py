"""Synthetic logs in the layouts of many programs, each with the messages it was made from."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WORDS = [
    "open", "close", "read", "write", "connection", "session", "user", "disk", "file", "timeout", "retry", "cache",
    "worker", "request", "node", "volume", "packet", "header", "queue", "shard", "index", "table", "replica",
]  # fmt: skip
TEMPLATES = (
    "Connection from {ip}:{n} closed",
    "User {user} logged in",
    "Starting {word} manager",
    "Could not open {word} {file}: No such file or directory",
    "{n} bytes written to {file}",
    "retrying {word} in {n} ms",
    "Failed to {word} the {word}, giving up after {n} attempts",
    "{word}: unexpected end of input",
    "checkpoint complete; {n} buffers",
    "Cache miss for key {hex}",
    "GET /api/{word}/{n} HTTP/1.1 200",
    "Shutting down",
    "Scheduled task {word} finished in {n}s",
    "thread pool exhausted (size={n})",
    "no route to host {ip}",
    "Loaded {n} rules from {file}",
    "Received signal {n}",
    "[{word}] handler registered",
    "updated {word}={n}, {word}={n}",
    "error while {word}: code {n}",
)
LEVELS = ["INFO"] * 8 + ["WARN", "ERROR", "DEBUG"]
DATE = "{Y}-{m:02}-{d:02}"
TIME = "{H:02}:{M:02}:{S:02}"
LOGGERS = ["com.acme.web.Server", "com.acme.db.Pool", "org.lib.Cache"]
COMPONENTS = ["ActivityManager", "WindowManager", "PowerManagerService", "AudioFlinger"]
SYSLOG = "{b} {d:2} {H:02}:{M:02}:{S:02}"


class Draw:
    """Seeded choices: the same log each time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def one(self, *choices: str) -> str:
        return self.random.choice(choices)

    def level(self) -> str:
        return self.random.choice(LEVELS)

    def below(self, end: int) -> int:
        return self.random.randrange(end)

    def message(self) -> str:
        draw = self.random
        return draw.choice(TEMPLATES).format(
            ip=f"10.{draw.randrange(255)}.{draw.randrange(255)}.{draw.randrange(255)}",
            user=draw.choice(["root", "alice", "bob"]),
            word=draw.choice(WORDS),
            file=f"/var/lib/{draw.choice(WORDS)}.{draw.randrange(99)}",
            n=draw.randrange(10_000),
            hex=f"{draw.getrandbits(32):08x}",
        )

    def at(self, layout: str) -> str:
        second, day = self.random.randrange(86_400), self.random.randrange(1, 29)
        return layout.format(
            Y=2024, y=24, m=3, d=day, b="Mar", H=second // 3600, M=second // 60 % 60, S=second % 60,
            ms=self.random.randrange(1000), us=self.random.randrange(10**6), e=1_710_000_000 + second,
        )  # fmt: skip


def _thunderbird(d: Draw, text: str) -> str:
    host = d.one("dn228", "bn431", "tbird-admin1", "aadmin1")
    tag = d.one(f"crond(pam_unix)[{d.below(9999)}]", "kernel", f"in.tftpd[{d.below(9999)}]", "gmond")
    when = f"Nov {d.below(28) + 1} 12:{d.below(60):02}:{d.below(60):02}"
    label = d.one(*["-"] * 9, "VAPI")
    return f"{label} {1131566461 + d.below(9999)} 2005.11.09 {host} {when} {host}/{host} {tag}: {text}"


def _ruby(d: Draw, text: str) -> str:
    level = d.level()
    return d.at(f"{level[0]}, [{DATE}T{TIME}.{{us:06}} #4242]") + f" {level:>5} -- : {text}"


def _mac(d: Draw, text: str) -> str:
    tag = d.one(
        "kernel[0]", "com.apple.cts[43]", "Microsoft Word[14463]", "com.apple.xpc.launchd[1] (com.apple.x[123])"
    )
    return d.at(SYSLOG) + f" calvisitor-10-105-160-{d.below(255)} {tag}: {text}"


LAYOUTS: dict[str, Callable[[Draw, str], str]] = {
    "android": lambda d, t: d.at("{m:02}-{d:02} " + TIME + ".{ms:03}")
    + f"  {d.below(9999)}  {d.below(9999)} {d.one(*'DIWEV')} {d.one(*COMPONENTS)}: {t}",
    "cbs": lambda d, t: d.at(f"{DATE} {TIME}") + f", Info                  {d.one('CBS', 'CSI')}    {t}",
    "healthapp": lambda d, t: d.at("{Y}{m:02}{d:02}-{H}:{M}:{S}:{ms}")
    + f"|{d.one('Step_LSC', 'HiH_Sync')}|30002312|{t}",
    "thunderbird": _thunderbird,
    "proxifier": lambda d, t: d.at(f"[{{m:02}}.{{d:02}} {TIME}] ")
    + f"{d.one('chrome.exe', 'chrome.exe *64', 'Dropbox.exe')} - {t}",
    "mac": _mac,
    "python": lambda d, t: d.at(f"{DATE} {TIME},{{ms:03}}") + f" - {d.one('root', 'app.web')} - {d.level()} - {t}",
    "logback": lambda d, t: d.at(f"{TIME}.{{ms:03}}")
    + f" [{d.one('main', f'exec-{d.below(9)}')}] {d.level():5} {d.one(*LOGGERS)} - {t}",
    "spring": lambda d, t: d.at(f"{DATE} {TIME}.{{ms:03}}")
    + f"  {d.level():5} 12345 --- [           main] {d.one(*LOGGERS):40} : {t}",
    "log4j2": lambda d, t: d.at(f"{DATE} {TIME},{{ms:03}}")
    + f" {d.level()} [{d.one(*LOGGERS)}] (task-{d.below(9)}) {t}",
    "mysql": lambda d, t: d.at(f"{DATE}T{TIME}.{{us:06}}Z")
    + f" {d.below(99)} [{d.one('Note', 'Warning', 'System')}] [MY-{d.below(20000):06}] [{d.one('Server', 'DB')}] {t}",
    "mysql_old": lambda d, t: d.at("{y}{m:02}{d:02} {H:2}:{M:02}:{S:02}") + f" [{d.one('Note', 'Warning')}] {t}",
    "postgres": lambda d, t: d.at(f"{DATE} {TIME}.{{ms:03}} UTC") + f" [{d.below(9999)}] {d.one('LOG', 'ERROR')}:  {t}",
    "elastic": lambda d, t: d.at(f"[{DATE}T{TIME},{{ms:03}}]")
    + f"[{d.level():5}][{d.one('o.e.n.Node', 'o.e.c.m.Meta'):25}] [node-{d.below(3)}] {t}",
    "go": lambda d, t: d.at("{Y}/{m:02}/{d:02} " + TIME) + f" {t}",
    "go_file": lambda d, t: d.at("{Y}/{m:02}/{d:02} " + TIME) + f" {d.one('main', 'db')}.go:{d.below(300)}: {t}",
    "klog": lambda d, t: d.one(*"IWE")
    + d.at("{m:02}{d:02} " + TIME + ".{us:06}")
    + f"  {d.below(9999)} {d.one('main', 'db')}.go:{d.below(300)}] {t}",
    "ruby": _ruby,
    "compose": lambda d, t: f"{d.one('web_1', 'db_1'):8} | " + d.at(f"{DATE} {TIME}") + f" {d.level()} {t}",
    "squid": lambda d, t: d.at("{e}.{ms:03}") + f" {d.below(999):6} {t}",
    "iso_only": lambda d, t: d.at(f"{DATE}T{TIME}.{{ms:03}}Z") + f" {t}",
    "rsyslog": lambda d, t: d.at(f"{DATE}T{TIME}.{{us:06}}+01:00")
    + f" web{d.below(3)} {d.one(f'sshd[{d.below(9999)}]', 'kernel', f'cron[{d.below(999)}]', 'nginx[77]')}: {t}",
    "rfc5424": lambda d, t: f"<{d.below(190)}>1 "
    + d.at(f"{DATE}T{TIME}.{{ms:03}}Z")
    + f' web{d.below(3)} app {d.below(999)} ID{d.below(9)} {d.one("-", "[a@1 b=" + chr(34) + "c" + chr(34) + "]")} {t}',
    "rfc3164": lambda d, t: f"<{d.below(190)}>" + d.at(SYSLOG) + f" web{d.below(3)} app[{d.below(999)}]: {t}",
    "redis": lambda d, t: "4242:M " + d.at("{d:02} {b} {Y} " + TIME + ".{ms:03}") + f" * {t}",
    "mongo_old": lambda d, t: d.at(f"{DATE}T{TIME}.{{ms:03}}+0000")
    + f" I {d.one('NETWORK', 'COMMAND'):8} [conn{d.below(9)}] {t}",
    "consul": lambda d, t: "    " + d.at("{Y}/{m:02}/{d:02} " + TIME) + f" [{d.level()}] {d.one('agent', 'serf')}: {t}",
    "cisco": lambda d, t: d.at(SYSLOG) + f" fw{d.below(3)} %ASA-{d.below(7)}-{d.below(999999):06}: {t}",
    "tomcat": lambda d, t: d.at("{d:02}-{b}-{Y} " + TIME + ".{ms:03}")
    + f" {d.one('INFO', 'SEVERE')} [main] {d.one(*LOGGERS)} {t}",
    "hadoop": lambda d, t: d.at(f"{DATE} {TIME},{{ms:03}}") + f" {d.level()} {d.one(*LOGGERS)}: {t}",
    "erlang": lambda d, t: d.at(f"{DATE} {TIME}.{{ms:03}}") + f" [{d.one('info', 'error')}] <0.{d.below(999)}.0> {t}",
    "cassandra": lambda d, t: f"{d.level():5} [{d.one('main', f'ReadStage-{d.below(9)}')}] "
    + d.at(f"{DATE} {TIME},{{ms:03}}")
    + f" {d.one('Daemon', 'Service')}.java:{d.below(900)} - {t}",
    "ceph": lambda d, t: d.at(f"{DATE}T{TIME}.{{us:06}}+0000") + f" {d.random.getrandbits(48):012x} -1 {t}",
    "jenkins": lambda d, t: d.at("{b} {d:02}, {Y} {H}:{M:02}:{S:02}") + f" {d.level()} {t}",
    "minecraft": lambda d, t: d.at(f"[{TIME}]") + f" [{d.one('Server thread', 'Worker-3')}/{d.level()}]: {t}",
    "heroku": lambda d, t: d.at(f"{DATE}T{TIME}.{{us:06}}+00:00") + f" {d.one('app', 'heroku')}[web.{d.below(3)}]: {t}",
    "nagios": lambda d, t: d.at("[{e}]") + f" {t}",
    "pipes": lambda d, t: d.at(f"{DATE} {TIME}") + f" | {d.level():5} | {d.one(*LOGGERS)} | {t}",
    "loguru": lambda d, t: d.at(f"{DATE} {TIME}.{{ms:03}}") + f" | {d.level():8} | app.web:handle:{d.below(300)} - {t}",
    "tracing": lambda d, t: d.at(f"{DATE}T{TIME}.{{us:06}}Z") + f" {d.level():>5} {d.one('app::web', 'app::db')}: {t}",
    "kafka": lambda d, t: d.at(f"[{DATE} {TIME},{{ms:03}}]")
    + f" {d.level()} {t} (kafka.{d.one('log.Log', 'server.Fetcher')})",
    "nginx_error": lambda d, t: d.at("{Y}/{m:02}/{d:02} " + TIME)
    + f" [{d.one('error', 'warn')}] {d.below(999)}#0: *{d.below(99)} {t}",
    "apache_error": lambda d, t: d.at("[Fri Mar {d:02} " + TIME + ".{us:06} {Y}]")
    + f" [a:{d.one('error', 'notice')}] [pid {d.below(9999)}:tid {d.below(9999)}] [client 10.0.0.{d.below(255)}] {t}",
}  # fmt: skip


def log(name: str, lines: int = 400, seed: int = 7) -> tuple[list[bytes], list[bytes]]:
    """Lines in a layout, and the message of each."""
    draw = Draw(seed)
    messages = [draw.message() for _ in range(lines)]
    return [LAYOUTS[name](draw, text).encode() for text in messages], [text.encode() for text in messages]
