"""One log, three ways into the agent: `score`, `pipe` and `run` give the same verdicts, however it arrives."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter

import pytest
from running import BUNDLE, LINES, PATIENCE_S, Agent, rows, until

TEXT = b"".join(LINES)
OWN = {"id", "source", "offset", "stream"}
"""Fields that say where a line came from."""


def verdicts(records, kind):
    """What is said of lines or sessions, without the fields that differ by the way in, in a fixed order."""
    told = [{k: v for k, v in record.items() if k not in OWN} for record in records if record["kind"] == kind]
    return sorted(json.dumps(record, sort_keys=True) for record in told)


def pieces(seed):
    """The log in arbitrary pieces, cut anywhere."""
    rng = random.Random(seed)
    cuts = sorted(rng.randrange(len(TEXT)) for _ in range(12))
    return [TEXT[a:b] for a, b in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]


def foretail(*arguments, given=b""):
    command = [sys.executable, "-m", "foretail", *map(str, arguments)]
    done = subprocess.run(command, input=given, capture_output=True, check=True, timeout=PATIENCE_S)
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("emit", ["lines", "sessions"])
def test_score_pipe_and_run_say_the_same(tmp_path, emit):
    """Line for line; of sessions those that ended by event time (for `run` time goes on when lines do not)."""
    kind = emit.removesuffix("s")
    agent = Agent(tmp_path, emit=emit)
    agent.log.touch()
    agent.start()
    until(lambda: "agent.started" in agent.errors())
    for piece in pieces(emit == "lines"):
        with agent.log.open("ab") as file:
            file.write(piece)
    scored = [r for r in foretail("score", "--bundle", BUNDLE, "--emit", emit, agent.log) if not r.get("open")]
    piped = [r for r in foretail("pipe", "--bundle", BUNDLE, "--emit", emit, given=TEXT) if not r.get("open")]
    wanted = verdicts(scored, kind)
    assert verdicts(piped, kind) == wanted
    until(lambda: sum(row["kind"] == kind for row in rows(agent.out)) >= len(wanted))
    assert agent.signal(signal.SIGTERM) == 0
    followed = verdicts(rows(agent.out), kind)
    assert not Counter(wanted) - Counter(followed)
    assert kind == "session" or followed == wanted
    assert len(wanted) > 50
