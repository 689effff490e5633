"""The reference loop on real lines (issue 7): hold out, flag, label, refit; `make bench-feedback` does all of it."""

from __future__ import annotations

import lzma
import os
import random
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from trainer.jobs import fitted, flagged, label, records

from foretail.formats import parse_format
from foretail.patterns import Matcher
from foretail.schema import KeyRule
from foretail_trainer import learn
from foretail_trainer.fit import Plan
from foretail_trainer.mine import mine

pytestmark = [pytest.mark.trainer, pytest.mark.data, pytest.mark.slow]

DATA = Path(os.environ.get("FORETAIL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
FORMAT = "<Date> <Time> <Pid> <Level> <Component>: <Content>"
KEY = r"blk_-?\d+"
SESSIONS = 3000


@pytest.fixture(scope="module")
def sessions():
    """Normal sessions of HDFS with their lines, in an order of their own, and some anomalous ones."""
    path = DATA / "hdfs_raw" / "hdfs.log.xz"
    if not path.exists():
        pytest.skip(f"{path} is missing: set FORETAIL_DATA")
    bad = {row.split(",")[0] for row in (path.parent / "labels.csv").read_text().splitlines() if "Anomaly" in row}
    found: dict[str, list[bytes]] = {}
    for line in lzma.decompress(path.read_bytes()).splitlines():
        found.setdefault(re.search(KEY.encode(), line)[0].decode(), []).append(line)
    normal = sorted(found.keys() - bad)
    random.Random(7).shuffle(normal)
    return {name: found[name] for name in normal[:SESSIONS]}, {name: found[name] for name in sorted(found.keys() & bad)}


def marks(types: list[int], kind: str) -> set[tuple[int, ...]]:
    return set(pairwise(types)) if kind == "transition" else {(one,) for one in types}


def holding(sessions: dict[str, list[bytes]], kind: str, share: float) -> set[str]:
    """Sessions that hold the transition, or type, that is in a share of all nearest to the one wanted."""
    form = parse_format(FORMAT)
    lines = [line for mine_ in sessions.values() for line in mine_]
    matcher = Matcher(mine([lines], form).patterns, form, KeyRule())
    found = {name: marks(matcher.match(rows).index.tolist(), kind) for name, rows in sessions.items()}
    counted = Counter(mark for each in found.values() for mark in each)
    chosen = min(sorted(counted), key=lambda mark: abs(counted[mark] / len(sessions) - share))
    return {name for name, each in found.items() if chosen in each}


def write(path: Path, sessions: dict[str, list[bytes]], names: set[str]) -> str:
    """Their lines, in order of time."""
    lines = sorted(line for name in names for line in sessions[name])
    path.write_bytes(b"\n".join(lines) + b"\n")
    return str(path)


@pytest.mark.parametrize(("kind", "share", "rate"), [("transition", 0.04, 0.0165), ("message type", 0.14, 0.01)])
def test_what_was_labelled_normal_is_no_longer_flagged_and_nothing_else_changes(tmp_path, sessions, kind, share, rate):
    """At least half of what was held out is flagged before, at most one in twenty after; all else within 1 %."""
    normal, bad = sessions
    held, names = holding(normal, kind, share), list(normal)
    train, later, rest = set(names[:1800]) - held, set(names[1800:2200]), set(names[2200:])
    log = write(tmp_path / "train.log", normal, train)
    new = write(tmp_path / "later.log", normal, later)
    test = write(tmp_path / "test.log", normal | bad, rest | bad.keys())
    plan = Plan(steps=900, batch=128)
    common = {"key": KEY, "format": FORMAT, "plan": plan, "units": 32, "rate": rate}
    fitted(learn.Options(out=str(tmp_path / "base"), files=(log,), **common))
    before, old = flagged(tmp_path / "base", Path(test)), flagged(tmp_path / "base", Path(log))
    rows = {row["id"]: row for row in records(tmp_path / "base", Path(new), "incidents") if row.get("key") in held}
    said = label(tmp_path, tmp_path / "base", list(rows.values())[:40], "normal")
    fitted(learn.Options(out=str(tmp_path / "again"), base=str(tmp_path / "base"), feedback=(said,), plan=plan))
    after = flagged(tmp_path / "again", Path(test))
    mine_ = held & rest
    assert len(before & mine_) >= len(mine_) / 2
    assert len(after & mine_) <= len(mine_) / 20
    assert abs(len(after & bad.keys()) - len(before & bad.keys())) <= 0.01 * len(bad)
    assert len(flagged(tmp_path / "again", Path(log))) <= len(old)
