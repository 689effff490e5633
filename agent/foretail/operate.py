"""What an operator asks: `check`, `status`, `pause`, `resume`, `bundle show`, `bundle verify`."""

from __future__ import annotations

import os
import pwd
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from foretail import bundle as bundles
from foretail import golden, others
from foretail.activation import followed
from foretail.config import FileSink, load
from foretail.errors import ConfigError
from foretail.globs import Globs
from foretail.mutes import read as read_mutes
from foretail.service import make_stream, opened
from foretail.sinks import own_files
from foretail.status import ask
from foretail.tables import printable, table

if TYPE_CHECKING:
    import argparse

SERVICE = "foretail"
"""The user of the packaged service."""
FILES_SHOWN = 10
"""Of each stream, by `check`."""


def check(options: argparse.Namespace) -> int:
    """`foretail check`: everything `run` needs, without running."""
    config = load(options.config)
    read_mutes(config.incidents.mute_file)
    rows, problems = [], []
    tailed: list[str] = []
    for stream in config.stream:
        bundle = opened(stream.bundle)
        make_stream(stream, config, bundle)
        paths = Globs(stream.include, stream.exclude, own_files(config)).paths()
        unreadable = [path for path in paths if not os.access(path, os.R_OK)]
        problems += [f"stream {stream.name}: {path} cannot be read by this user" for path in unreadable]
        if stream.include and not paths:
            problems.append(f"stream {stream.name}: no file matches {' '.join(stream.include)} yet")
        size = sum(Path(path).stat().st_size for path in paths if path not in unreadable)
        rows.append((stream.name, bundle.label, len(paths), f"{size / 1e6:.1f}", stream.emit))
        tailed += [f"{stream.name} would tail {path}" for path in paths[:FILES_SHOWN]]
        tailed += [f"{stream.name} would tail {len(paths) - FILES_SHOWN} more"] * (len(paths) > FILES_SHOWN)
    print(table(["stream", "bundle", "files", "MB", "emit"], rows, right=frozenset({2, 3})))
    tailed += [f"{source.stream} would listen at {source.address} ({source.type})" for source in config.source]
    print("\n".join(map(printable, tailed)))
    for sink in config.sink:
        place = next((getattr(sink, key) for key in ("path", "url", "address") if hasattr(sink, key)), "")
        print(f"sink {sink.name}: " + ", ".join(filter(None, [printable(place) or sink.type, f"policy {sink.policy}"])))
        if isinstance(sink, FileSink) and not os.access(_writable(Path(sink.path).parent), os.W_OK):
            problems.append(f"sink {sink.name}: {Path(sink.path).parent} cannot be written by this user")
    update, state_dir = config.update, Path(config.agent.state_dir)
    if update.url:
        print(f"update {update.url}: channel {update.channel}, every {update.interval_h:g} h by the {update.by}")
        if not (Path(update.trust_dir) / "root.json").exists():
            problems.append("no root is trusted yet, so no bundle is taken; run `foretail bundle trust ROOT.json`")
        if not any(followed(stream.bundle, state_dir) for stream in config.stream):
            problems.append(f"no stream's bundle is {state_dir}/bundles/NAME/current, so none follows the repository")
    state = _writable(state_dir)
    if not os.access(state, os.W_OK):
        problems.append(f"agent.state_dir {config.agent.state_dir} cannot be written by this user")
    for problem in problems:
        print(f"warning: {printable(problem)}")
    if os.geteuid() == 0 and _is_user(SERVICE):
        print(f"root may read everything; `sudo -u {SERVICE} foretail check -c FILE` says what the service may")
    print(f"{options.config} is valid" + (f", with {len(problems)} warning(s)" if problems else ""))
    return 0


def status(options: argparse.Namespace) -> int:
    """`foretail status`: what the running agent says of itself."""
    answer = ask(_socket(options))
    if options.json:
        print(msgspec.json.encode(answer).decode())
        return 0
    streams: dict[str, dict[str, Any]] = answer.get("streams", {})
    rows = [
        (
            name,
            figures["bundle"],
            f"{figures['lines_total']:,}",
            f"{figures['lines_untyped_total'] / max(1, figures['lines_total']):.2%}",
            figures["sessions_open"],
            figures["incidents_total"] - figures["incidents_observed_total"],
            figures["incidents_observed_total"],
            f"{sum(file['lag_bytes'] for file in figures['files']) / 1e6:.1f}",
            figures["kernels"],
        )
        for name, figures in streams.items()
    ]
    head = ["stream", "bundle", "lines", "untyped", "sessions", "raised", "kept back", "lag MB", "kernels"]
    print(table(head, rows, right=frozenset({2, 3, 4, 5, 6, 7})))
    if answer.get("observing"):
        print(f"observing, so incidents are kept back: {answer['observing']}")
    for name, figures in streams.items():
        for incident in figures["observed"]:
            when = datetime.fromtimestamp(incident.get("time") or 0, UTC).strftime("%Y-%m-%d %H:%M:%S")
            print(f"{name}  {when}  {incident['score']:.3f}  {printable(incident['summary'])}")
        if any(figures["losses"].get(key) for key in ("truncated_bytes", "vanished_bytes", "dropped_bytes")):
            print(f"{name}: losses {figures['losses']}")
        if figures["kernels"] != "xnnpack":
            print(f"{name}: the model runs without XNNPACK, about four times slower; is /proc/cpuinfo hidden?")
    for sink in answer.get("sinks", []):
        trouble = f", error: {sink['error']}" if sink.get("error") else ""
        print(f"sink {sink['name']}: {sink['queue_records']} records wait{trouble}")
    print(
        f"pid {answer.get('pid')}, {answer.get('resident_mb', 0):.0f} MB, {answer.get('cpu_share', 0):.1%} of a core, "
        f"up {(time.time() - answer.get('since', time.time())) / 3600:.1f} h"
    )
    return 0


def pause(options: argparse.Namespace) -> int:
    """`foretail pause`: keep incidents back."""
    print(f"{ask(_socket(options), 'pause')['state']}: incidents are kept back until `foretail resume`")
    return 0


def resume(options: argparse.Namespace) -> int:
    """`foretail resume`: raise incidents again."""
    said = ask(_socket(options), "resume")["state"]
    file = load(options.config).agent.observe_file if not options.socket else ""
    still = file and Path(file).exists()
    print(
        f"{said}: " + (f"but incidents are kept back while {file} exists" if still else "incidents are raised from now")
    )
    return 0


def bundle_show(options: argparse.Namespace) -> int:
    """`foretail bundle show`: what a bundle holds and promises."""
    bundle = bundles.read(options.bundle)
    manifest, sequence, calibration = bundle.manifest, bundle.manifest.sequence, bundle.manifest.calibration
    rows: list[tuple[str, object]] = [
        ("name", manifest.name),
        ("version", manifest.version),
        ("digest", bundle.digest),
        ("created", manifest.created),
        ("trainer", manifest.trainer),
        ("format", manifest.format.name),
        ("key", manifest.key.regex or manifest.key.field or "none"),
        ("idle", f"{manifest.idle_s:.0f} s"),
        ("types", f"{len(bundle.patterns)} ({sum(p.rare for p in bundle.patterns)} rare)"),
        ("trained on", f"{manifest.training.lines:,} lines, {manifest.training.sessions:,} sessions"),
    ]
    if sequence:
        rows.append(("model", f"{sequence.cell}, {sequence.layers} layer(s) of {sequence.units}, C {sequence.window}"))
    if calibration:
        how = "extrapolated" if calibration.extrapolated else "certified"
        rows.append(
            ("threshold", f"{calibration.threshold:.2f} bits at {calibration.alpha:.3g} a {calibration.unit}, {how}")
        )
    rows += [(name, f"{len(data):,} bytes") for name, data in sorted(bundle.files.items())]
    print(table(["what", "value"], rows))
    return 0


def bundle_verify(options: argparse.Namespace) -> int:
    """`foretail bundle verify`: all that is checked before a bundle is used."""
    bundle = bundles.read(options.bundle)
    golden.verify(bundle)
    others.verify(bundle)
    held = ", ".join(others.names(bundle)) or "no detector"
    size = f"{len(bundle.files) + 1} files, {len(bundle.patterns)} types, {held}"
    print(f"{bundle.label} is whole: {size}; golden results agree")
    return 0


def _socket(options: argparse.Namespace) -> str:
    if options.socket:
        return str(options.socket)
    if not Path(options.config).exists():
        raise ConfigError(f"there is no {options.config}; name it with -c, or the socket with --socket")
    found = load(options.config).agent.status_socket
    if not found:
        raise ConfigError(f"{options.config} sets no agent.status_socket; name one with --socket")
    return found


def _is_user(name: str) -> bool:
    try:
        return bool(pwd.getpwnam(name))
    except KeyError:
        return False


def _writable(path: Path) -> Path:
    """The path, or the first folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
