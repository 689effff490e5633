"""agent.toml: TOML to frozen records, every option and limit of the agent in one place, each with its unit.

`load(path)` gives a `Config`: `agent` (`Agent`), `stream` (`Stream`...), `sink` (`StdoutSink`, `FileSink`, `HttpSink`,
`ForwardSink`, `TcpSink`, `UnixSink`: together `Sink`), `source` (`Source`...), `incidents` (`Incidents`), `update`
(`Update`), `limits` (`Limits`). An unknown key, a wrong type or value is a `ConfigError` that names file and key and
says what is allowed.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from foretail.complaint import sentence
from foretail.errors import ConfigError
from foretail.multiline import check_start

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Emit = Literal["incidents", "anomalies", "lines", "sessions"]
Policy = Literal["block", "spool", "drop"]
Level = Literal["debug", "info", "warning", "error"]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each table of the file: its keys are the attributes and no others."""


class Agent(_Section, frozen=True, kw_only=True):
    """`[agent]`.

    Attributes:
        state_dir: journal, spool and learned identity of files; "" = nothing is kept.
        status_socket: where `foretail status` asks; "" = none.
        observe_h: hours after the first start in which incidents are kept back.
        observe_file: while this file exists incidents are kept back.
        metrics: "host:port" of the Prometheus endpoint; "" = none.
        fsync_s: what a power failure may repeat, in seconds.
        batch_bytes: most bytes of one read.
        poll_s: how often files are looked at when nothing wakes the loop.
        watchdog: let the kernel's file events wake the loop; it works without.
    """

    state_dir: str = "/var/lib/foretail"
    status_socket: str = "/run/foretail/status.sock"
    observe_h: NotNegative = 24.0
    observe_file: str = "/etc/foretail/observe"
    log_level: Level = "info"
    metrics: str = ""
    fsync_s: NotNegative = 5.0
    batch_bytes: Annotated[int, Meta(ge=4096, le=2 << 20)] = 256 << 10
    poll_s: Annotated[float, Meta(ge=0.01, le=60)] = 1.0
    watchdog: bool = True


class Stream(_Section, frozen=True, kw_only=True):
    """`[[stream]]`: lines of one kind, with a bundle, sessions and incidents of their own.

    Attributes:
        name: in every verdict.
        include, exclude: globs (`**` crosses folders).
        bundle: its directory.
        key: overrides the bundle's key: "" = as in the bundle, "none", or a regex whose first group is the key.
        start: where a file that is there at the first start is read from; later files are read from their head.
        emit: what leaves the agent.
        ignore_older_h: files not written for so long are not read; 0 = all are.
        idle_s: a session ends after so long without a line; 0 = as in the bundle.
        multiline: joins the lines of a trace; "start" uses `multiline_start`, the regex of a first line.
        long_lines: a line over `line_bytes_max` is cut or skipped, counted either way.
    """

    name: Name
    bundle: Text
    include: tuple[Text, ...] = ()
    exclude: tuple[Text, ...] = ()
    key: str = ""
    start: Literal["head", "end"] = "end"
    emit: Emit = "incidents"
    ignore_older_h: NotNegative = 0.0
    idle_s: NotNegative = 0.0
    multiline: Literal["none", "java", "python", "go", "start"] = "none"
    multiline_start: str = ""
    multiline_timeout_s: Positive = 1.0
    multiline_lines_max: Count = 500
    multiline_bytes_max: Count = 256 << 10
    long_lines: Literal["cut", "skip"] = "cut"
    line_bytes_max: Annotated[int, Meta(ge=256, le=16 << 20)] = 64 << 10


class _Sink(_Section, frozen=True, kw_only=True, tag_field="type"):
    """What all sinks share.

    Attributes:
        name: in logs and metrics; "" = type and position.
        policy: when it is slow or dead: `block` holds reading back, `spool` keeps records on disk and then drops the
            oldest, `drop` loses what does not fit in the queue; each loss is counted.
        queue_bytes_max: kept in memory for it.
        spool_bytes_max: kept on disk for it.
        retry_first_s, retry_max_s: bounds of the full-jitter back-off.
    """

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{0,64}$")] = ""
    policy: Policy = "block"
    queue_bytes_max: Count = 4 << 20
    spool_bytes_max: Annotated[int, Meta(ge=64 << 10)] = 256 << 20
    retry_first_s: Positive = 0.5
    retry_max_s: Positive = 30.0

    @property
    def type(self) -> str:
        """The `type` of the table."""
        return str(self.__struct_config__.tag)


class StdoutSink(_Sink, frozen=True, kw_only=True, tag="stdout"):
    """JSON lines on standard output: acknowledged when write() returned, which is not delivery."""


class FileSink(_Sink, frozen=True, kw_only=True, tag="file"):
    """Rotating JSON lines: acknowledged when write() returned.

    Attributes:
        path: rotated to `path.1` and so on.
        rotate_bytes: the file is rotated before it would grow over this.
        keep: rotated files kept; 0 = the full file is emptied by replacing it.
        fsync: `batch` before each acknowledgement, `interval` every fsync_s, `never`.
        mode: permissions in octal digits.
    """

    path: Text
    rotate_bytes: Annotated[int, Meta(ge=4096)] = 100 << 20
    keep: Annotated[int, Meta(ge=0, le=1000)] = 5
    fsync: Literal["batch", "interval", "never"] = "interval"
    fsync_s: Positive = 5.0
    mode: Annotated[str, Meta(pattern="^0?[0-7]{3}$")] = "0640"


class _TlsSink(_Sink, frozen=True, kw_only=True):
    """Peers that may be asked over TLS.

    Attributes:
        timeout_s: for connect, each send and the answer.
        ca: file of trusted certificates; "" = the system's.
        verify: check certificate and host name; only ever false in a laboratory.
    """

    timeout_s: Positive = 10.0
    ca: str = ""
    verify: bool = True


class HttpSink(_TlsSink, frozen=True, kw_only=True, tag="http"):
    """JSON lines in a POST: acknowledged by any 2xx.

    Attributes:
        url: http:// or https://.
        content_type: Fluent Bit takes lines as `application/json` and refuses `application/x-ndjson`.
        bearer_token_file: read again before each request.
        body_bytes_max: a request holds at most this (or one record).
    """

    url: Annotated[str, Meta(pattern=r"^https?://[^/\s]+(/\S*)?$")]
    content_type: Text = "application/json"
    bearer_token_file: str = ""
    body_bytes_max: Annotated[int, Meta(ge=1024)] = 1 << 20


class ForwardSink(_TlsSink, frozen=True, kw_only=True, tag="forward"):
    """Fluent forward with chunk acknowledgement.

    Attributes:
        address: "host:port" or "unix:/path".
        tag: of the events.
        tls: for host:port.
        chunk_bytes_max: a chunk holds at most this (or one record).
    """

    address: Text
    tag: Text = "foretail"
    tls: bool = False
    chunk_bytes_max: Annotated[int, Meta(ge=1024)] = 1 << 20


class TcpSink(_TlsSink, frozen=True, kw_only=True, tag="tcp"):
    """JSON lines over TCP to `address` "host:port": acknowledged when write() returned, which is not delivery."""

    address: Text
    tls: bool = False


class UnixSink(_Sink, frozen=True, kw_only=True, tag="unix"):
    """JSON lines over a unix stream socket: acknowledged when write() returned, which is not delivery."""

    path: Text
    timeout_s: Positive = 10.0


Sink = StdoutSink | FileSink | HttpSink | ForwardSink | TcpSink | UnixSink


class Source(_Section, frozen=True, kw_only=True):
    """`[[source]]`: lines that a shipper hands over.

    Attributes:
        type: Fluent `forward` (acknowledged by chunk), or lines over `tcp` or `unix`.
        address: "host:port", or "unix:/path" for forward; for `unix` a path.
        stream: the name of a [[stream]].
        codec: lines as they are (`raw`), or each a JSON object (`json`); forward is always decoded.
        field: of a decoded record; "" = the first of log, message, MESSAGE, msg, or else the record as JSON.
        mode: permissions of a unix socket, in octal digits.
    """

    type: Literal["forward", "tcp", "unix"]
    address: Text
    stream: Name
    codec: Literal["raw", "json"] = "raw"
    field: str = ""
    mode: Annotated[str, Meta(pattern="^0?[0-7]{3}$")] = "0660"
    connections_max: Count = 64
    message_bytes_max: Annotated[int, Meta(ge=4096)] = 16 << 20
    idle_timeout_s: Positive = 3600.0


class Incidents(_Section, frozen=True, kw_only=True):
    """`[incidents]`.

    Attributes:
        cap_per_hour: per stream; what is over it is counted in one "suppressed" notice.
        cooldown_s: repeats of one fingerprint within this join the open incident.
        mute_file: type_id, reason and expiry of what shall not be raised.
    """

    cap_per_hour: Count = 20
    cooldown_s: NotNegative = 3600.0
    mute_file: str = "/etc/foretail/mute.toml"


class Update(_Section, frozen=True, kw_only=True):
    """`[update]`: signed bundles from a TUF repository.

    Attributes:
        url: of the repository (https://..., file:///...); "" = no updates.
        name: of the bundle; "" = that of each stream's bundle.
        by: who looks: the running `agent`, or a `timer` that runs `foretail bundle pull --scheduled`.
        interval_h: between looks, each delayed at random by up to a tenth of it; sooner after a failure.
        proxy: http://host:port; "" = as `http_proxy`, `https_proxy` and `no_proxy` of the environment say.
        bytes_max: a bundle larger than this is refused.
    """

    url: Annotated[str, Meta(pattern=r"^((https?|file)://\S+)?$")] = ""
    name: str = ""
    channel: Name = "stable"
    by: Literal["agent", "timer"] = "agent"
    interval_h: Annotated[float, Meta(ge=0.01)] = 6.0
    proxy: Annotated[str, Meta(pattern=r"^(https?://\S+)?$")] = ""
    timeout_s: Positive = 30.0
    bytes_max: Annotated[int, Meta(ge=1 << 16)] = 64 << 20
    trust_dir: Text = "/var/lib/foretail/trust"


class Limits(_Section, frozen=True, kw_only=True):
    """`[limits]`: bounds of memory, time and descriptors.

    Attributes:
        record_bytes_max: an emitted record is cut to this, its cut fields marked.
        queue_batches_max: batches that wait between two threads.
        sessions_max: open sessions of a stream; the least recently used is closed as partial, counted.
        memo_entries_max, memo_bytes_max: of the skeleton memo of a stream.
        windows_max: entries of the window memo of a stream.
        match_timeout_s: for one line against one pattern.
        files_max: files followed; open_files_max: open at one moment.
        journal_bytes_max: the journal is compacted beyond this.
        chunks_max: acknowledged forward chunks that are remembered.
        drain_s: what SIGTERM leaves to the sinks.
    """

    record_bytes_max: Annotated[int, Meta(ge=1024)] = 256 << 10
    queue_batches_max: Count = 64
    sessions_max: Count = 200_000
    memo_entries_max: Count = 50_000
    memo_bytes_max: Count = 4 << 20
    windows_max: Count = 20_000
    match_timeout_s: Positive = 0.05
    files_max: Count = 10_000
    open_files_max: Count = 256
    journal_bytes_max: Annotated[int, Meta(ge=64 << 10)] = 64 << 20
    chunks_max: Count = 10_000
    drain_s: Annotated[float, Meta(ge=0, le=4)] = 3.0


class Config(_Section, frozen=True, kw_only=True):
    """The whole file."""

    stream: tuple[Stream, ...]
    agent: Agent = Agent()
    sink: tuple[Sink, ...] = (StdoutSink(),)
    source: tuple[Source, ...] = ()
    incidents: Incidents = Incidents()
    update: Update = Update()
    limits: Limits = Limits()


def load(path: str | Path) -> Config:
    """The configuration in the file; ConfigError if it cannot be read, parsed or obeyed."""
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read configuration {path}: {error.strerror}.") from None
    return parse(text, str(path))


def parse(text: bytes, name: str) -> Config:
    """The configuration in TOML `text`; `name` is the file's name in errors."""
    try:
        table = tomllib.loads(text.decode())
    except UnicodeDecodeError as error:
        raise ConfigError(f"{name}: byte {error.start} is not UTF-8; write the file as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: not valid TOML: {error}.") from None
    return build(table, name)


def build(table: dict[str, Any], name: str) -> Config:
    """The configuration in a parsed table (also for commands that make one without a file)."""
    try:
        config = msgspec.convert(table, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(sentence(str(error), table, Config, name)) from None
    _check(config, name)
    return _named(config, name)


def host_port(address: str, name: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` in its parts; ConfigError naming `name`."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{name}: {address!r} is not host:port, such as 127.0.0.1:24224.")
    return host.strip("[]"), int(port)


def _check(config: Config, name: str) -> None:
    streams = [stream.name for stream in config.stream]
    if not streams:
        raise ConfigError(f"{name}: there is no [[stream]]; add one with name, include and bundle.")
    fed = {source.stream for source in config.source}
    for stream in config.stream:
        if streams.count(stream.name) > 1:
            raise ConfigError(f"{name}: two streams are named {stream.name!r}; give each its own name.")
        if not stream.include and stream.name not in fed:
            raise ConfigError(f"{name}: stream {stream.name!r} has no include and no [[source]]; add one of them.")
        check_start(stream.multiline, stream.multiline_start, f"{name}: stream {stream.name!r}")
    for source in config.source:
        _check_source(source, streams, name)
    for sink in config.sink:
        _check_sink(sink, config.agent.state_dir, name)
    if sum(isinstance(sink, StdoutSink) for sink in config.sink) > 1:
        raise ConfigError(f"{name}: two sinks write to stdout; keep one.")
    if config.agent.metrics:
        host_port(config.agent.metrics, f"{name}: agent.metrics")


def _check_source(source: Source, streams: list[str], name: str) -> None:
    if source.stream not in streams:
        raise ConfigError(
            f"{name}: source.stream {source.stream!r} is not a [[stream]]; there are {', '.join(streams)}."
        )
    if source.type != "unix" and not source.address.startswith("unix:"):
        host_port(source.address, f"{name}: source.address")
    elif source.type == "tcp":
        raise ConfigError(f'{name}: source.address {source.address!r} is a path; use type = "unix".')


def _check_sink(sink: Sink, state_dir: str, name: str) -> None:
    if isinstance(sink, ForwardSink | TcpSink) and not sink.address.startswith("unix:"):
        host_port(sink.address, f"{name}: sink.address")
    if sink.policy == "spool" and not state_dir:
        raise ConfigError(f'{name}: sink.policy "spool" needs agent.state_dir, where its records wait.')
    if sink.retry_max_s < sink.retry_first_s:
        raise ConfigError(f"{name}: sink.retry_max_s {sink.retry_max_s} is below retry_first_s {sink.retry_first_s}.")


def _named(config: Config, name: str) -> Config:
    sinks = tuple(
        sink if sink.name else msgspec.structs.replace(sink, name=sink.type if number == 0 else f"{sink.type}-{number}")
        for number, sink in enumerate(config.sink)
    )
    names = [sink.name for sink in sinks]
    for sink in names:
        if names.count(sink) > 1:
            raise ConfigError(f"{name}: two sinks are named {sink!r}; give each its own name.")
    return msgspec.structs.replace(config, sink=sinks)
