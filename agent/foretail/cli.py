"""`foretail`: argv to command, and exit codes: 0 done, 1 found or failed as documented, 2 usage or bad input."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from foretail import __version__
from foretail.errors import ConfigError, StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EMITS = ("incidents", "anomalies", "lines", "sessions")
BUNDLE = "directory that `foretail-train fit --out` wrote, or a .tar of its files"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; never a traceback for bad input."""
    options = parser().parse_args(argv)
    module, _, function = options.command.partition(":")
    command: Callable[[argparse.Namespace], int] = getattr(importlib.import_module(f"foretail.{module}"), function)
    return guarded("foretail", lambda: command(options))


def guarded(name: str, work: Callable[[], int]) -> int:
    """Turn what a person can cause into one sentence and an exit code; shared with the trainer's command."""
    try:
        return work()
    except ConfigError as error:
        print(f"{name}: {str(error).rstrip('.')}.", file=sys.stderr)
        return 2
    except StreamError as error:
        print(f"{name}: {str(error).rstrip('.')}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader went away: nothing is left to flush to
        return 0


def parser() -> argparse.ArgumentParser:
    """All commands of `foretail` (DESIGN §8: stable, other programs call them)."""
    top = argparse.ArgumentParser(
        prog="foretail",
        description="Tells which line in a log should not have come next.",
        epilog="Start with `foretail-train fit app.log --out web`, then `foretail backtest --bundle web app.log`.",
    )
    top.add_argument("--version", action="version", version=f"foretail {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _at_rest(commands)
    _service(commands)
    _label(commands)
    _bundle(commands)
    return top


def positive(text: str) -> float:
    """A number above 0, for argparse."""
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def duration(text: str) -> float:
    """`90s`, `15m`, `12h` or `7d` in seconds, for argparse."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.replace(".", "", 1).isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s, 15m, 12h or 7d")
    return float(number) * units[unit]


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, function: str, about: str, example: str
) -> argparse.ArgumentParser:
    """One command with its help and an example."""
    sub = commands.add_parser(name, help=about, description=about, epilog=f"example: {example}")
    sub.set_defaults(command=function)
    return sub


def _at_rest(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    match = _command(
        commands,
        "match",
        "rest:match",
        "The message type of every line, as JSON lines.",
        "foretail match --bundle web access.log",
    )
    match.add_argument("--bundle", required=True, help=BUNDLE)
    match.add_argument("files", nargs="+", metavar="FILE", help="log, also .gz, .xz, .zst or -")
    score = _command(
        commands,
        "score",
        "rest:score",
        "Score files at rest: JSON lines on stdout, progress on a terminal.",
        "foretail score --bundle web access.log --emit anomalies",
    )
    score.add_argument("--bundle", required=True, help=BUNDLE)
    score.add_argument("--emit", choices=EMITS, default="incidents", help="what to print (default incidents)")
    score.add_argument("--close-all", action="store_true", help="the end of the files is the end of every session")
    score.add_argument(
        "--sequences", metavar="FILE", help="sessions as integer ids (`count<TAB>ids`): a verdict a line"
    )
    score.add_argument("--timeseries", metavar="CSV", help="rows of numbers: a verdict a row")
    score.add_argument("--lines", metavar="CSV", help="lines in a column of a CSV (--text): a verdict a row")
    table_options(score)
    score.add_argument("--fail-on-anomaly", action="store_true", help="exit 1 when anything is anomalous")
    score.add_argument("files", nargs="*", metavar="FILE", help="log, also .gz, .xz, .zst or -; rotations are joined")
    backtest = _command(
        commands,
        "backtest",
        "rest:backtest",
        "The incidents that would have been raised, a table by day.",
        "foretail backtest --bundle web --since 7d '/var/log/nginx/access.log*'",
    )
    backtest.add_argument("--bundle", required=True, help=BUNDLE)
    backtest.add_argument("--since", type=duration, metavar="7d", help="only so long before the newest line")
    backtest.add_argument("globs", nargs="+", metavar="GLOB", help="log files or quoted patterns of them")


def table_options(sub: argparse._ActionsContainer) -> None:
    """How a CSV is written; shared with the trainer's command."""
    sub.add_argument("--text", metavar="COLUMN", help="of --lines: the column of the lines, by name or number from 1")
    sub.add_argument("--quote", default='"', metavar="C", help="quote character of a CSV (default \"); '' = none")
    sub.add_argument(
        "--separator", default="", metavar="C", help="between the cells of a CSV (default: found in the file)"
    )
    sub.add_argument("--no-header", action="store_true", help="the first row of the CSV is data, columns are numbers")


def _service(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = _command(
        commands,
        "run",
        "service:run",
        "Tail, score and deliver: the service.",
        "foretail run -c /etc/foretail/agent.toml",
    )
    run.add_argument("-c", "--config", default="/etc/foretail/agent.toml", metavar="FILE")
    execute = _command(
        commands,
        "exec",
        "service:execute",
        "Tail files and print JSON lines: the exec plugin of Fluent Bit and Vector.",
        "foretail exec --bundle web '/var/log/nginx/access.log'",
    )
    _live(execute)
    execute.add_argument(
        "--start", choices=("head", "end"), default="end", help="where known files begin (default end)"
    )
    execute.add_argument("globs", nargs="+", metavar="GLOB", help="files to tail; quote patterns")
    pipe = _command(
        commands,
        "pipe",
        "service:pipe",
        "Score lines from standard input.",
        "journalctl -f | foretail pipe --bundle host",
    )
    _live(pipe)
    pipe.add_argument("--reply", choices=("none", "omprog", "mmexternal"), default="none", help="rsyslog's contracts")
    check = _command(
        commands,
        "check",
        "operate:check",
        "Check configuration, bundles, permissions and paths; say what would be tailed.",
        "foretail check -c /etc/foretail/agent.toml",
    )
    check.add_argument("-c", "--config", default="/etc/foretail/agent.toml", metavar="FILE")
    for name, about in (
        ("status", "What the running agent does, and what it would have raised."),
        ("pause", "Keep incidents back until `resume`."),
        ("resume", "Raise incidents again; ends the first hours of observing, too."),
    ):
        sub = _command(commands, name, f"operate:{name}", about, f"foretail {name}")
        sub.add_argument("-c", "--config", default="/etc/foretail/agent.toml", metavar="FILE")
        sub.add_argument("--socket", metavar="PATH", help="instead of the configuration's status_socket")
        if name == "status":
            sub.add_argument("--json", action="store_true", help="as one JSON object")


def _label(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    label = _command(
        commands,
        "label",
        "labels:label",
        "Say what an incident was, for the next training: normal after all, or an anomaly.",
        'foretail label 430cf75356416bea23da80c0 normal --reason "new nightly job"',
    )
    label.add_argument("id", metavar="ID", help="of an incident or verdict")
    label.add_argument("label", choices=("normal", "anomaly"))
    label.add_argument("--reason", required=True, metavar="TEXT", help="why, for those who read it later")
    label.add_argument("--from", dest="origin", metavar="FILE", help="its record is in this JSONL file, or - (stdin)")
    label.add_argument("--bundle", help="that judged it (default: that of its stream)")
    label.add_argument("-c", "--config", default="/etc/foretail/agent.toml", metavar="FILE")
    label.add_argument("--state", metavar="DIR", help="instead of a configuration: where labels.jsonl is kept")


def _live(sub: argparse.ArgumentParser) -> None:
    """Options of the commands that print what they score as it comes."""
    sub.add_argument("--bundle", required=True, help=BUNDLE)
    sub.add_argument("--emit", choices=EMITS, default="incidents", help="what to print (default incidents)")
    sub.add_argument("--stream", default="default", metavar="NAME", help="`stream` of every record")
    sub.add_argument("--state", metavar="DIR", help="keep cursors and sessions there over restarts")
    sub.add_argument("--observe", type=duration, default=0.0, metavar="24h", help="keep incidents back at first")


def _bundle(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    bundle = commands.add_parser(
        "bundle", help="Look at bundles, check them.", description="Look at bundles, check them."
    )
    inner = bundle.add_subparsers(required=True, metavar="COMMAND")
    for name, about in (
        ("show", "What a bundle holds and promises."),
        ("verify", "Check hashes, schema, patterns, models and golden results."),
    ):
        sub = _command(inner, name, f"operate:bundle_{name}", about, f"foretail bundle {name} web")
        sub.add_argument("bundle", metavar="BUNDLE", help=BUNDLE)
    _exchange(inner)


def _exchange(inner: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Bundles from elsewhere."""
    trust = _command(
        inner,
        "trust",
        "exchange:trust",
        "Pin the root of a repository: only what it signs is activated.",
        "foretail bundle trust 1.root.json",
    )
    trust.add_argument("root", metavar="ROOT.json", help="N.root.json of the repository, brought by a way you trust")
    pull = _command(
        inner,
        "pull",
        "exchange:pull",
        "Fetch, examine and activate what the channel offers; then the running agent takes it.",
        "foretail bundle pull -c /etc/foretail/agent.toml",
    )
    pull.add_argument("--url", metavar="URL", help="instead of update.url: http://, https:// or file://")
    pull.add_argument(
        "--scheduled", action="store_true", help="only when a look is due by update.interval_h; events instead of words"
    )
    folder = _command(
        inner,
        "import",
        "exchange:import_",
        "The same from a folder: hosts without a network.",
        "foretail bundle import /media/stick/repository",
    )
    folder.add_argument("folder", metavar="DIR", help="copy of all that the repository serves")
    rollback = _command(
        inner,
        "rollback",
        "exchange:rollback",
        "Go back to the bundle before the current one.",
        "foretail bundle rollback",
    )
    for sub in (trust, pull, folder, rollback):
        sub.add_argument("-c", "--config", default="/etc/foretail/agent.toml", metavar="FILE")
        sub.add_argument("--state", metavar="DIR", help="without a configuration: the state directory")
    for sub in (pull, folder, rollback):
        sub.add_argument("--name", help="of the bundle (default: those that streams follow)")
    for sub in (pull, folder):
        sub.add_argument("--channel", metavar="C", help="instead of update.channel")
        sub.add_argument("--force", action="store_true", help="also a version that is older or was rolled back")


if __name__ == "__main__":
    sys.exit(main())
