"""`foretail-train`: argv to command; the exit codes are those of `foretail`."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import TYPE_CHECKING

from foretail import __version__
from foretail.cli import duration, guarded, positive, table_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; never a traceback for bad input."""
    options = parser().parse_args(argv)
    module, _, function = options.command.partition(":")

    def work() -> int:
        command: Callable[[argparse.Namespace], int] = getattr(
            importlib.import_module(f"foretail_trainer.{module}"), function
        )
        return command(options)

    return guarded("foretail-train", work)


def parser() -> argparse.ArgumentParser:
    """All commands of `foretail-train` (DESIGN §8)."""
    top = argparse.ArgumentParser(
        prog="foretail-train",
        description="Turns a normal log into the bundle that foretail's agent runs.",
        epilog="Start with `foretail-train fit app.log --out bundle`.",
    )
    top.add_argument("--version", action="version", version=f"foretail-train {__version__}")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _fit(commands)
    _evaluate(commands)
    gather = commands.add_parser(
        "feedback",
        help="Labels of many hosts as one file.",
        description="Collect what `foretail label` kept on many hosts: repeats once, conflicts as a table.",
        epilog="example: foretail-train feedback host*/labels.jsonl --out labels.jsonl  (then fit --base B --feedback)",
    )
    gather.set_defaults(command="feedback:command")
    gather.add_argument("files", nargs="+", metavar="FILE", help="labels.jsonl of a host")
    gather.add_argument("--out", required=True, metavar="FILE", help="what is agreed on, for fit --feedback")
    types = commands.add_parser("types", help="List the message types of a bundle.", description="List message types.")
    types.set_defaults(command="commands:types")
    types.add_argument("bundle", metavar="BUNDLE", help="directory that `fit --out` wrote")
    report = commands.add_parser("report", help="Render report.html again.", description="Render report.html again.")
    report.set_defaults(command="commands:render")
    report.add_argument("bundle", metavar="BUNDLE", help="directory that `fit --out` wrote")
    _publish(commands)
    _keys(commands)
    return top


def _fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fit = commands.add_parser(
        "fit",
        help="Make a bundle from normal logs.",
        description="Make a bundle from normal logs: message types, a sequence model, thresholds.",
        epilog="example: foretail-train fit /var/log/app.log* --out app  (writes app/ and app-report/)",
    )
    fit.set_defaults(command="commands:fit")
    fit.add_argument(
        "files", nargs="*", metavar="FILE", help="normal logs, also .gz, .xz, .zst or -; rotations are joined"
    )
    fit.add_argument("--out", required=True, metavar="DIR", help="the bundle; the report goes to DIR-report")
    fit.add_argument("--name", help="of the bundle (default: that of --out)")
    fit.add_argument(
        "--version-number", type=int, default=0, metavar="N", help="of the bundle (default: seconds since 1970)"
    )
    log = fit.add_argument_group("what the log looks like")
    log.add_argument("--format", default="auto", help="header, such as '<Date> <Time> <Level>: <Content>', or auto")
    log.add_argument("--key", default="auto", help="what joins lines to sessions: a regex, auto or none")
    log.add_argument("--idle", type=duration, metavar="90s", help="a session ends after so long without a line")
    log.add_argument("--types", metavar="FILE", help="edits of message types: merge, split, rename, pattern, mask")
    log.add_argument(
        "--exclude", metavar="FILE", help="suspects.jsonl, less what was normal after all: not learned from"
    )
    log.add_argument("--base", metavar="BUNDLE", help="an older bundle, whose type ids are kept")
    log.add_argument(
        "--feedback",
        metavar="FILE",
        action="append",
        default=[],
        help="labels: refit --base on all it learned from, on FILEs if there are any, and on what people said",
    )
    log.add_argument("--sequences", metavar="FILE", help="sessions as integer ids (`count<TAB>ids`) instead of logs")
    rows = fit.add_argument_group("tables instead of logs")
    rows.add_argument(
        "--timeseries", metavar="CSV", help="rows of numbers: learn what is normal (all of it is taken as such)"
    )
    rows.add_argument("--interval", type=duration, metavar="60s", help="of --timeseries: one row each so long")
    rows.add_argument("--aggregate", choices=("mean", "max", "last"), default="mean", help="of the rows of an interval")
    rows.add_argument(
        "--columns", nargs="*", default=[], metavar="COLUMN", help="of --timeseries: only these (default: all numbers)"
    )
    rows.add_argument(
        "--model", default="", help="of --timeseries and volume: lstm, gru, rnn, stacked, lstm-ae, ae or conv-ae"
    )
    rows.add_argument("--lines", metavar="CSV", help="labelled lines: learn to tell two labels apart")
    rows.add_argument("--label", metavar="COLUMN", help="of --lines: the column of the labels")
    rows.add_argument(
        "--drop", nargs="*", default=[], metavar="FIELD", help="columns, or fields of JSON lines, to leave out"
    )
    rows.add_argument(
        "--false-positive-rate", type=positive, metavar="P", help="of --lines (default: probability one half)"
    )
    table_options(rows)
    net = fit.add_argument_group("the model")
    net.add_argument(
        "--cell",
        choices=("lstm", "gru", "rnn", "stacked", "conv"),
        default="",
        help="lstm (default), gru or rnn; with --lines alone conv (default), lstm, stacked or rnn",
    )
    net.add_argument(
        "--detectors",
        default="sequence,volume",
        metavar="LIST",
        help="of a log: sequence (what comes next), volume (how much of it comes), or both (default)",
    )
    net.add_argument("--layers", type=int, default=1, metavar="N")
    net.add_argument("--window", type=int, default=10, metavar="C", help="events of context (default 10)")
    net.add_argument("--units", type=int, default=64, metavar="U")
    net.add_argument("--smoothing", type=float, default=0.0, help="label smoothing")
    net.add_argument("--dropout", type=float, default=0.0)
    net.add_argument("--seed", type=int, default=0)
    net.add_argument("--types-only", action="store_true", help="message types without a model")
    alarm = fit.add_argument_group("how many false alerts")
    rate = alarm.add_mutually_exclusive_group()
    rate.add_argument("--false-alert-rate", type=positive, metavar="A", help="per session (or block of 100 lines)")
    rate.add_argument("--false-alerts-per-week", type=positive, metavar="D", help="per host and stream (default 1)")
    alarm.add_argument("--hosts", type=int, default=0, metavar="N", help="hosts the log came from (default: files)")


def _evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="How well a bundle finds labelled anomalies.",
        description="Precision, recall, F1 with intervals, per detector and beside baselines.",
        epilog="example: foretail-train evaluate --bundle hdfs --labels labels.csv hdfs.log.xz",
    )
    evaluate.set_defaults(command="commands:evaluate")
    evaluate.add_argument("--bundle", required=True, metavar="DIR")
    evaluate.add_argument("--labels", metavar="CSV", help="session,label with label Normal or Anomaly")
    evaluate.add_argument("--normal", metavar="TSV", help="normal sessions as ids, with --abnormal")
    evaluate.add_argument("--abnormal", metavar="TSV", help="anomalous sessions as ids")
    evaluate.add_argument("--train", metavar="TSV", help="the training sessions, for the baselines")
    evaluate.add_argument("--out", metavar="DIR", help="write evaluate.html and evaluate.json there")
    evaluate.add_argument("files", nargs="*", metavar="FILE")


def _publish(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    publish = commands.add_parser(
        "publish",
        help="Sign a bundle and put it into a repository that hosts pull from.",
        description="Sign a bundle and put it into a TUF repository: a folder that any web server serves.",
        epilog="example: foretail-train publish web --repo /srv/bundles --keys /root/keys  (begin with `keys new`)",
    )
    publish.set_defaults(command="publish:publish")
    publish.add_argument("bundle", nargs="?", metavar="BUNDLE", help="directory that `fit --out` wrote")
    _repository(publish)
    publish.add_argument("--channel", default="stable", metavar="C", help="hosts follow one (default stable)")
    publish.add_argument("--refresh", action="store_true", help="only sign anew what expires soon: for a daily timer")
    publish.add_argument("--revert", type=int, metavar="N", help="offer the content of version N as the next version")
    publish.add_argument("--name", metavar="NAME", help="with --revert: whose version, if there are several bundles")


def _keys(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser(
        "keys", help="Make or replace signing keys.", description="Make or replace signing keys."
    )
    inner = keys.add_subparsers(required=True, metavar="COMMAND")
    new = inner.add_parser(
        "new",
        help="Keys and an empty repository.",
        description="Make keys and an empty repository that trusts them.",
        epilog="example: foretail-train keys new --repo /srv/bundles --keys /root/keys --root-keys 2/3",
    )
    new.set_defaults(command="publish:keys_new")
    _repository(new)
    for role in ("root", "targets"):
        new.add_argument(
            f"--{role}-keys", type=quorum, default=quorum("1/1"), metavar="M/N", help="M of N keys must sign (1/1)"
        )
    rotate = inner.add_parser(
        "rotate",
        help="Replace the keys of a role.",
        description="Replace the keys of a role; needs the root keys, and makes the old ones worthless.",
        epilog="example: foretail-train keys rotate timestamp --repo /srv/bundles --keys /root/keys --keys /mnt/stick",
    )
    rotate.set_defaults(command="publish:keys_rotate")
    rotate.add_argument("role", choices=("root", "targets", "snapshot", "timestamp"))
    _repository(rotate)


def _repository(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--repo", required=True, metavar="DIR", help="the repository: what is served")
    sub.add_argument(
        "--keys",
        required=True,
        action="append",
        metavar="DIR",
        help="private keys, also several; new ones go to the first",
    )


def quorum(text: str) -> tuple[int, int]:
    """`M/N` for argparse: M of N keys must sign."""
    first, _, second = text.partition("/")
    threshold, count = int(first), int(second or first)
    if not 1 <= threshold <= count <= 16:
        raise argparse.ArgumentTypeError(f"{text} is not M/N with 1 <= M <= N <= 16")
    return threshold, count


if __name__ == "__main__":
    sys.exit(main())
