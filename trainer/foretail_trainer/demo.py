"""`make demo`: the whole way of a line, live, on a service that breaks on purpose, or on a log of your own."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from foretail import logs
from foretail.cli import guarded
from foretail.errors import ConfigError
from foretail_trainer import tables
from foretail_trainer.companion import Companion, seconds_at_rest
from foretail_trainer.findings import visible
from foretail_trainer.tally import CAUGHT_MIN, FALSE_MAX, tally
from foretail_trainer.workload import Workload, plans
from foretail_trainer.writer import RotatingLog, write_history, write_live

if TYPE_CHECKING:
    from collections.abc import Sequence

    from foretail_trainer.companion import Load
    from foretail_trainer.tally import Arrival, Tally
    from foretail_trainer.workload import Event


class Show(NamedTuple):
    """How the demo is run.

    Attributes:
        seed: of the history; the live part takes the next.
        history_s, history_rate: seconds of event time, and lines a second, of the history.
        live_s, live_rate: of the live part, in real time.
        first_s, last_s: when the first and the last fault's request arrives.
        drain_s: chatter after the last request ended, so that silence shows.
        alpha: budget of false alerts per session.
        rotate_bytes, keep: rotation of the live log.
    """

    seed: int = 2026
    history_s: float = 7200.0
    history_rate: float = 9.0
    live_s: float = 60.0
    live_rate: float = 250.0
    first_s: float = 8.0
    last_s: float = 50.0
    drain_s: float = 9.0
    alpha: float = 0.0002
    rotate_bytes: int = 512 << 10
    keep: int = 3


TRAIN_SHARE = 0.7
"""Of a log of the user's own; the rest is replayed."""
REPLAY_S_MAX = 600.0
WIDTH_MIN = 118
"""A table that goes to a file is not folded to 80 columns."""


def main(out_dir: str | Path = "demo", log: str | Path | None = None, show: Show | None = None) -> int:
    """Run the demo in a folder, which is emptied first; everything it starts ends before it returns.

    Returns:
        0; 1 when the demo's own service was watched and fewer than 9 of 10 faults were caught or more than one
        false incident came per 10,000 lines.

    Raises:
        ConfigError: the log or the folder cannot be used, or the fit refused.
    """
    console = Console(stderr=False)
    if not console.is_terminal:
        console = Console(width=max(console.width, WIDTH_MIN))
    if log is None:
        return _service(_empty(Path(out_dir)), show or Show(), console)
    if str(log) == "-":
        raise ConfigError("the demo reads a log twice, which standard input cannot; name a file")
    logs.check(str(log))
    if Path(out_dir).resolve() in Path(log).resolve().parents:
        raise ConfigError(f"{log} lies in {out_dir}, which is emptied first; name another folder with --out")
    return _own_log(Path(log), _empty(Path(out_dir)), console)


def _service(folder: Path, show: Show, console: Console) -> int:
    """History, fit, live with faults, table."""
    began = time.monotonic()
    history = folder / "history.log"
    _say(console, "1/3", "A storage service writes its normal history")
    past = Workload(show.seed, time.time() - show.history_s - 60, show.history_rate, fresh=True)
    lines = write_history(history, past.events(show.history_s))
    console.print(f"    {lines:,} lines, {show.history_s / 3600:.1f} hours of work, in {history}", highlight=False)
    _say(console, "2/3", "The trainer learns it")
    options = ["--name", "storage", "--false-alert-rate", str(show.alpha)]
    bundle = _fit(folder, [str(history), *options, "--detectors", "sequence"])  # live it is faster than it ever was
    _say(console, "3/3", f"The agent tails the live log while {len(plans(0, 1))} faults are injected")
    result, load, seconds = _live(folder, bundle, show, console)
    console.print(tables.faults(result))
    at_rest = lines / seconds_at_rest(bundle, history)
    console.print(tables.figures(result, load, seconds, at_rest, bundle, time.monotonic() - began))
    if not result.holds:
        console.print(
            f"[bold red]The demo must catch {CAUGHT_MIN:.0%} of the faults with at most {FALSE_MAX:g} false incident "
            "per 10,000 lines; this run did not.[/]"
        )
    return 0 if result.holds else 1


def _live(folder: Path, bundle: Path, show: Show, console: Console) -> tuple[Tally, Load, float]:
    live = folder / "live"
    live.mkdir()
    written: dict[int, float] = {}
    progress = Progress(
        TextColumn("    {task.description}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
    )

    def told(arrival: Arrival) -> None:
        progress.console.print(f"    [red]incident[/] {escape(visible(arrival.incident.summary))}", highlight=False)

    def injected(event: Event, at: float) -> None:
        if event.fault is not None:
            written[event.fault.id] = at
            progress.console.print(f"    [cyan]injected[/] {escape(event.fault.detail)}", highlight=False)

    with (
        progress,
        Companion(folder, live / "storage.log", bundle, told) as agent,
        RotatingLog(live / "storage.log", show.rotate_bytes, show.keep) as log,
    ):
        before, start = agent.load(), time.time()
        service = Workload(show.seed + 1, start, show.live_rate, plan=plans(show.first_s, show.last_s))
        task = progress.add_task("writing and tailing", total=show.live_s + show.drain_s)

        def sleep(seconds: float) -> None:
            time.sleep(seconds)
            progress.update(task, completed=time.time() - start)

        write_live(log, service.events(show.live_s, show.drain_s), time.time, sleep, injected)
        load = agent.await_lines(log.lines, timeout_s=10.0)
        seconds = time.time() - start
        lines = log.lines
    if load.lines < lines:
        console.print(f"[bold red]The agent read {load.lines:,} of {lines:,} lines.[/]")
    (folder / "faults.jsonl").write_bytes(b"".join(msgspec.json.encode(fault) + b"\n" for fault in service.faults))
    used = load._replace(cpu_s=load.cpu_s - before.cpu_s)
    return tally(service.faults, written, agent.arrivals, lines), used, seconds


def _own_log(path: Path, folder: Path, console: Console) -> int:
    """The first part trains, the rest is replayed through the agent."""
    train, rest = folder / "train.log", folder / "rest.log"
    _say(console, "1/3", f"The first {TRAIN_SHARE:.0%} of {path} train")
    trained, replayed = _split(path, train, rest)
    console.print(f"    {trained:,} lines to train, {replayed:,} to replay", highlight=False)
    if not replayed:
        raise ConfigError(f"{path} has too few lines to learn from; name a longer log")
    _say(console, "2/3", "The trainer learns them")
    bundle = _fit(folder, [str(train), "--name", path.name.partition(".")[0] or "log"])
    _say(console, "3/3", "The agent reads the rest")
    (folder / "live").mkdir()
    log = folder / "live" / "rest.log"
    with Companion(folder, log, bundle, lambda _: None) as agent, console.status("    replaying"):
        before, start = agent.load(), time.monotonic()
        rest.replace(log)
        load = agent.await_lines(replayed, REPLAY_S_MAX)
        seconds = time.monotonic() - start
    if load.lines < replayed:
        console.print(f"[bold red]The agent read {load.lines:,} of {replayed:,} lines in {seconds:.0f} s.[/]")
    console.print(tables.incidents(agent.arrivals))
    for notice in dict.fromkeys(agent.notices):
        console.print(f"notice: {visible(notice)}", markup=False, highlight=False)
    used = load._replace(cpu_s=load.cpu_s - before.cpu_s)
    console.print(tables.own_figures(agent.arrivals, replayed, used, seconds, bundle))
    return 0


def _fit(folder: Path, arguments: Sequence[str]) -> Path:
    """Run `foretail-train fit` with its progress on this terminal; ConfigError if it refuses."""
    bundle = folder / "bundle"
    command = [sys.executable, "-m", "foretail_trainer.cli", "fit", *arguments, "--out", str(bundle)]
    with subprocess.Popen(command) as fit:  # noqa: S603  our own program
        try:
            code = fit.wait()
        except BaseException:
            fit.terminate()
            raise
    if code != 0:
        raise ConfigError("the fit above did not succeed; a longer or another log may help")
    return bundle


def _split(path: Path, train: Path, rest: Path) -> tuple[int, int]:
    """Copy the first TRAIN_SHARE of the lines and the others to two files; how many each got."""
    with logs.open_bytes(str(path)) as file:
        total = sum(1 for _ in file)
    trained = int(total * TRAIN_SHARE)
    with logs.open_bytes(str(path)) as file, train.open("wb") as first, rest.open("wb") as second:
        for number, line in enumerate(file):
            whole = line if line.endswith(b"\n") else line + b"\n"
            (first if number < trained else second).write(whole)
    return trained, total - trained


def _say(console: Console, step: str, text: str) -> None:
    console.print(f"[bold]{step}[/] {escape(text)}", highlight=False)


def _empty(folder: Path) -> Path:
    """The folder, without what an earlier demo left; ConfigError if it holds anything else."""
    marker = folder / ".foretail-demo"
    try:
        if folder.exists() and any(folder.iterdir()) and not marker.exists():
            raise ConfigError(f"{folder} is not empty and no demo made it; name another folder with --out")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        marker.touch()
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; name another folder with --out") from error
    return folder.resolve()


def _stopped(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def command(argv: Sequence[str] | None = None) -> int:
    """`python -m foretail_trainer.demo`: 0 shown, 1 the must-hold was missed, 2 bad input."""
    parser = argparse.ArgumentParser(
        prog="demo",
        description="Shows foretail's work live: history, fit, and an agent that catches injected faults.",
        epilog="example: make demo LOG=/var/log/app.log  (learns its first 70 %, replays the rest)",
    )
    parser.add_argument("--out", default="demo", metavar="DIR", help="emptied, then filled (default demo)")
    parser.add_argument("--log", metavar="FILE", help="a log of your own, also .gz, .xz or .zst")
    options = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stopped)  # so that the processes below end with this one
    return guarded("demo", lambda: main(options.out, options.log))


if __name__ == "__main__":
    sys.exit(command())
