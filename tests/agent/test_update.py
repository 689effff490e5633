"""Bundles over the network: attacks on a real TUF repository over HTTP, rotation, rollback, killed activations."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
import structlog

pytest.importorskip("tuf")
pytest.importorskip("cryptography")

import attacks
from attacks import ATTACKS, NAME, Host, attacked, standing

from foretail import bundle as bundles
from foretail import looks
from foretail.activation import Shelf
from foretail.cli import main as foretail
from foretail.errors import ConfigError
from foretail.examination import Bounds, examined
from foretail.lines import Batch, Source
from foretail.status import ask
from foretail.stream import Stream
from foretail.telling import Options

pytestmark = pytest.mark.trainer

LINES = (attacks.BUNDLE.parent / "storage.log").read_bytes().splitlines(keepends=True)
PATIENCE_S = 120.0
STEPS = ("written", "placed", "previous", "current", "standing", "forgotten")


def until(true):
    """Wait for a fact about another process."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it did not get there in time"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _diagnostics_of_this_test():
    """A scheduled look writes them to the stderr that it finds, which is gone after the test."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A host on version 1, before which version 2 lies; tests work on copies."""
    folder = tmp_path_factory.mktemp("base") / "host"
    folder.mkdir()
    Host(folder).begin()
    return folder


@pytest.fixture
def site(base, tmp_path):
    """A copy of the host, and the web server of its repository."""
    with attacked(base, tmp_path / "host") as made:
        yield made


def test_what_is_published_is_pulled_examined_and_made_current(site, capsys):
    """Version 2 over HTTP; version 1 is kept; a second pull finds nothing new."""
    host, web = site
    assert host.take("pull", "--url", web.url) == 0
    assert standing(host)[0].startswith("2-")
    assert (host.shelf / "previous").readlink().name.startswith("1-")
    assert host.take("pull", "--url", web.url) == 0
    assert "2 is current, and what stable offers" in capsys.readouterr().out


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name.replace(" ", "-"))
def test_an_attack_is_refused_with_one_sentence_and_the_bundle_stays(site, attack, capsys):
    """Exit 1 or 2, one line on stderr that says what is wrong; what was current is, byte for byte."""
    host, web = site
    attack.arrange(host, web)
    before = standing(host)
    capsys.readouterr()
    assert host.take("pull", "--url", web.url) in (1, 2)
    sentences = capsys.readouterr().err.splitlines()
    assert len(sentences) == 1
    assert re.search(attack.sentence, sentences[0])
    assert standing(host) == before
    assert not list(host.folder.rglob("evil*.json"))
    assert not list(host.shelf.glob(".draft*"))


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp"])
def test_keys_are_rotated_under_a_running_host(site, role):
    """Hosts follow the chain of roots from the one they pinned."""
    host, web = site
    host.train("keys", "rotate", role)
    assert host.take("pull", "--url", web.url) == 0
    assert standing(host)[0].startswith("2-")


def test_a_revoked_key_signs_nothing_any_more(site, capsys):
    """Who stole the timestamp key before it was replaced cannot serve its signatures after."""
    host, web = site
    stolen = (host.repo / "metadata" / "timestamp.json").read_bytes()
    host.train("keys", "rotate", "timestamp")
    (host.repo / "metadata" / "timestamp.json").write_bytes(stolen)
    assert host.take("pull", "--url", web.url) == 2
    assert "timestamp was signed by 0/1 keys" in capsys.readouterr().err


def test_unreadable_local_metadata_is_made_anew_from_the_pinned_root(site):
    """Garbage, and a folder where a file was: neither stops an update."""
    host, web = site
    cache = next((host.folder / "trust").glob("metadata-*"))
    for name in ("timestamp.json", "snapshot.json"):
        (cache / name).write_bytes(b"\x00garbage")
    (cache / "targets.json").unlink()
    (cache / "targets.json").mkdir()
    assert host.take("pull", "--url", web.url) == 0
    assert standing(host)[0].startswith("2-")


def test_an_unreachable_repository_is_said_and_nothing_changes(site, capsys):
    """Exit 1: try again later; scoring goes on."""
    host, _ = site
    before = standing(host)
    assert host.take("pull", "--url", f"http://127.0.0.1:{attacks.quiet_port()}") == 1
    assert "cannot be read" in capsys.readouterr().err
    assert standing(host) == before


def test_without_a_pinned_root_nothing_is_taken(site, capsys):
    """Trust never begins by itself."""
    host, web = site
    (host.folder / "trust" / "root.json").unlink()
    assert host.take("pull", "--url", web.url) == 2
    assert "foretail bundle trust ROOT.json" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"{}", b"no json", b'{"signed": {}, "signatures": []}'])
def test_what_is_no_root_is_not_trusted(site, content, capsys):
    """The pinned root stays."""
    host, _ = site
    pinned = (host.folder / "trust" / "root.json").read_bytes()
    (host.folder / "odd.json").write_bytes(content)
    assert host.take("trust", str(host.folder / "odd.json")) == 2
    assert "is no valid root metadata" in capsys.readouterr().err
    assert (host.folder / "trust" / "root.json").read_bytes() == pinned


def test_a_rolled_back_version_returns_only_by_force_or_newer(site, capsys):
    """`rollback` bars what was current; the next version ends the bar."""
    host, web = site
    assert host.take("pull", "--url", web.url) == 0
    assert host.take("rollback") == 0
    assert standing(host)[0].startswith("1-")
    assert host.take("pull", "--url", web.url) == 0
    assert standing(host)[0].startswith("1-")
    assert "returns with --force, or when a newer one appears" in capsys.readouterr().out
    host.train("publish", "--revert", "2")
    assert host.take("pull", "--url", web.url) == 0
    assert standing(host)[0].startswith("3-")
    assert host.take("rollback") == 0
    assert host.take("pull", "--url", web.url, "--force") == 0
    assert standing(host)[0].startswith("3-")


def test_a_bundle_that_does_worse_on_the_last_lines_is_taken_by_force_only(site, capsys):
    """Its threshold would raise five times the lines of the one in use."""
    host, web = site
    (host.folder / "storage.log").write_bytes(b"".join(LINES))
    calibration = msgspec.structs.replace(bundles.read(attacks.BUNDLE).manifest.calibration, threshold=0.01)
    host.changed(calibration=calibration)
    assert host.take("pull", "--url", web.url) == 2
    assert "are over its threshold" in capsys.readouterr().err
    assert standing(host)[0].startswith("1-")
    assert host.take("pull", "--url", web.url, "--force") == 0
    assert standing(host)[0].startswith("3-")


def test_lines_that_came_over_a_socket_are_asked_of_the_running_agent(site, capsys):
    """A stream without files is compared on what the agent holds in memory."""
    host, web = site
    text = host.config.read_text()
    include = re.search(r"include = .*\n", text)[0]
    source = f'[[source]]\ntype = "unix"\nstream = "storage"\naddress = "{host.folder / "in.sock"}"\n'
    host.config.write_text(text.replace(include, "") + source)
    calibration = msgspec.structs.replace(bundles.read(attacks.BUNDLE).manifest.calibration, threshold=0.01)
    host.changed(calibration=calibration)
    with Agent(host) as agent:
        with socket.socket(socket.AF_UNIX) as plug:
            plug.connect(str(host.folder / "in.sock"))
            plug.sendall(b"".join(LINES))
        until(lambda: len(agent.records()) == len(LINES))
        assert host.take("pull", "--url", web.url) == 2
        assert "are over its threshold" in capsys.readouterr().err
        assert ask(agent.socket)["streams"]["storage"]["bundle"].startswith("golden:1:")
        assert host.take("pull", "--url", web.url, "--force") == 0
        assert ask(agent.socket)["streams"]["storage"]["bundle"].startswith("golden:3:")


def test_check_says_what_updates_lack(site, capsys):
    """No root, or no stream that follows a name: nothing would ever be taken."""
    host, web = site
    (host.folder / "storage.log").touch()
    host.configure(extra=f'url = "{web.url}"\n')
    assert foretail(["check", "-c", str(host.config)]) == 0
    said = capsys.readouterr().out
    assert f"update {web.url}: channel stable, every 6 h by the agent" in said
    assert "warning" not in said
    (host.folder / "trust" / "root.json").unlink()
    host.config.write_text(host.config.read_text().replace(str(host.shelf / "current"), str(attacks.BUNDLE)))
    assert foretail(["check", "-c", str(host.config)]) == 0
    said = capsys.readouterr().out
    assert "no root is trusted yet" in said
    assert "none follows the repository" in said


def test_a_configuration_without_a_repository_has_nothing_to_pull(site, capsys):
    """The timer of a fresh installation succeeds in silence."""
    host, _ = site
    assert host.take("pull") == 0
    assert "there is nothing to pull from" in capsys.readouterr().out


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_an_activation_old_or_new_is_whole(site, step):
    """SIGKILL after each step; the next activation comes to its end and leaves no remains."""
    host, _ = site
    bundle = host.bundle(2)
    code = (
        "import os, sys; from pathlib import Path; from foretail import bundle; from foretail.activation import Shelf\n"
        "stop = lambda step: step == sys.argv[3] and os.kill(os.getpid(), 9)\n"
        "Shelf(Path(sys.argv[1]), stop).activate(bundle.read(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(host.shelf), str(bundle.path), step]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    entry, digest = standing(host)
    new = STEPS.index(step) >= STEPS.index("current")
    assert entry.startswith("2-" if new else "1-")
    assert digest == (bundle.digest if new else bundles.read(attacks.BUNDLE).digest)
    assert Shelf(host.shelf).standing.floor == (2 if new else 1)
    Shelf(host.shelf).activate(bundle)
    assert standing(host)[1] == bundle.digest
    assert sorted(path.name.split("-")[0] for path in host.shelf.iterdir()) == sorted(
        [".lock", "1", "2", "current", "previous", "standing.json"]
    )


@pytest.mark.parametrize("step", ["standing", "current"])
def test_killed_at_any_step_of_a_rollback_old_or_new_is_whole(site, step):
    """SIGKILL after each step: what was current is barred before the link moves, never the other way round."""
    host, _ = site
    bundle = host.bundle(2)
    Shelf(host.shelf).activate(bundle)
    code = (
        "import os, sys; from pathlib import Path; from foretail.activation import Shelf\n"
        "stop = lambda step: step == sys.argv[2] and os.kill(os.getpid(), 9)\n"
        "Shelf(Path(sys.argv[1]), stop).rollback()"
    )
    command = [sys.executable, "-c", code, str(host.shelf), step]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    entry, digest = standing(host)
    assert entry.startswith("1-" if step == "current" else "2-")
    assert digest == (bundles.read(attacks.BUNDLE).digest if step == "current" else bundle.digest)
    assert Shelf(host.shelf).standing.barred == (bundle.digest[:12],)


def test_a_damaged_current_bundle_is_fetched_again(site):
    """The same version in another folder: nothing is written into a folder that is in use."""
    host, web = site
    assert host.take("pull", "--url", web.url) == 0
    (host.shelf / "current" / "patterns.json").write_bytes(b"{}")
    assert host.take("pull", "--url", web.url) == 0
    assert standing(host)[0].endswith(".1")


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [(Bounds(wall_s=0.05), "took over 0 s"), (Bounds(memory_bytes=96 << 20), "is refused: ")],
)
def test_an_examination_is_bounded(bounds, sentence):
    """A bundle that eats time or memory ends its examination, not the host."""
    with pytest.raises(ConfigError, match=sentence):
        examined(attacks.BUNDLE, NAME, bounds)


class Agent:
    """`foretail run` on the host's configuration."""

    def __init__(self, host: Host, program: str = "") -> None:
        self.program = ["-c", program] if program else ["-m", "foretail"]
        self.host, self.out = host, host.folder / "out.jsonl"
        self.log, self.socket = host.folder / "storage.log", str(host.folder / "s.sock")

    def __enter__(self):
        self.log.touch()
        command = [sys.executable, *self.program, "run", "-c", str(self.host.config)]
        with (self.host.folder / "err.log").open("ab") as err:
            self.process = subprocess.Popen(command, stderr=err, stdout=subprocess.DEVNULL)
        until(lambda: Path(self.socket).exists())
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def write(self, first: int, last: int) -> None:
        with self.log.open("ab") as file:
            file.writelines(LINES[first:last])

    def records(self) -> list[dict]:
        rows = [json.loads(line) for line in self.out.read_bytes().split(b"\n")[:-1]] if self.out.exists() else []
        return [row for row in rows if row["kind"] == "line"]


def test_a_running_agent_takes_the_new_bundle_without_losing_or_repeating_a_line(site):
    """Refused ones do not touch it; the good one is told over the socket; every line has one verdict, scored alike."""
    host, web = site
    with Agent(host) as agent:
        agent.write(0, 200)
        until(lambda: len(agent.records()) == 200)
        web.lies["timestamp.json"] = attacks._endless
        assert host.take("pull", "--url", web.url) == 2
        web.lies.clear()
        agent.write(200, 400)
        assert host.take("pull", "--url", web.url) == 0
        assert ask(agent.socket)["streams"]["storage"]["bundle"].startswith("golden:2:")
        agent.write(400, 600)
        until(lambda: len(agent.records()) == 600)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(PATIENCE_S) == 0
        got = agent.records()
    assert len({row["id"] for row in got}) == 600
    assert {row["bundle"].split(":")[1] for row in got} == {"1", "2"}
    lines = [line.rstrip(b"\n") for line in LINES[:600]]
    offsets = [sum(map(len, LINES[:row])) for row in range(600)]
    undisturbed = Stream(bundles.read(attacks.BUNDLE), Options("storage", emit="lines"))
    batch = Batch("storage", Source("0" * 24, "log", whole=True), lines, offsets, 0, time.time())
    expected = [row["score"] for row in map(json.loads, undisturbed.feed(batch)) if row["kind"] == "line"]
    assert [row["score"] for row in got] == expected


def test_what_the_running_agent_cannot_load_is_taken_back(site, monkeypatch):
    """The agent keeps what it runs; the pull ends with exit 1 and the bundle before is current again."""
    host, web = site
    monkeypatch.setattr("foretail.exchange.RELOAD_S", 2.0)
    with Agent(host) as agent:
        text = host.config.read_text()
        host.config.write_text(text.replace('name = "storage"', 'name = "storage"\nnonsense = 1'))
        monkeypatch.setattr("foretail.exchange._place", _placed(host, text))
        assert host.take("pull", "--url", web.url) == 1
        assert standing(host)[0].startswith("1-")
        assert ask(agent.socket)["streams"]["storage"]["bundle"].startswith("golden:1:")


def events(text: str) -> list[dict]:
    """Log events; every line is one."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_scheduled_look_tells_each_step_and_counts_it(site, capsys):
    """Due at first, then not before the interval has passed; no sentence for people, no other output."""
    host, web = site
    host.configure(extra=f'url = "{web.url}"\n')
    capsys.readouterr()
    assert host.take("pull", "--scheduled") == 0
    assert standing(host)[0].startswith("2-")
    said = capsys.readouterr()
    told = events(said.err)
    assert [event["event"] for event in told] == [
        f"bundle.{step}" for step in ("looked", "offered", "fetched", "examined", "activated")
    ]
    assert told[4]["previous"].startswith("1-")
    assert said.out == ""
    known = looks.read(host.state)
    assert known.steps["activated"] >= 1
    assert known.failures == 0
    assert 5.9 * 3600 < known.due - time.time() < 6.7 * 3600
    assert host.take("pull", "--scheduled") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("lie", "event", "code"), [(attacks._endless, "bundle.refused", 2), (attacks._slow, "bundle.failed", 1)]
)
def test_a_scheduled_look_that_fails_is_an_event_and_is_made_again_sooner(site, lie, event, code, capsys):
    """After a minute or so, not after six hours; what is current stays."""
    host, web = site
    host.configure(timeout_s=attacks.TIMEOUT_S, extra=f'url = "{web.url}"\n')
    web.lies["timestamp.json"] = lie
    capsys.readouterr()
    assert host.take("pull", "--scheduled") == code
    assert [each["event"] for each in events(capsys.readouterr().err)] == ["bundle.looked", event]
    known = looks.read(host.state)
    assert known.failures == 1
    assert 50 < known.due - time.time() < 100
    assert standing(host)[0].startswith("1-")


def test_a_proxy_of_the_configuration_is_used(site):
    """Every request goes through it; the address of the repository need not resolve."""
    host, _ = site
    with attacks.Web(host.repo) as proxy:
        host.configure(extra=f'url = "http://bundles.invalid"\nproxy = "{proxy.url}"\n')
        assert host.take("pull") == 0
        assert {urlsplit(path).hostname for path in proxy.asked} == {"bundles.invalid"}
    assert standing(host)[0].startswith("2-")


def test_a_proxy_of_the_environment_is_used(site, monkeypatch):
    """Unless `no_proxy` names the repository."""
    host, web = site
    with attacks.Web(host.repo) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert host.take("pull", "--url", web.url) == 0
        assert proxy.asked == []
        monkeypatch.delenv("no_proxy")
        assert host.take("pull", "--url", "http://bundles.invalid") == 0
        assert len(proxy.asked) > 0


def test_the_running_agent_looks_by_itself(site):
    """From a folder, at a time of its own; it takes what it found, and its metrics show every step."""
    host, _ = site
    host.configure(extra=f'url = "{host.repo.as_uri()}"\n')
    with Agent(host, IMPATIENT) as agent:
        agent.write(0, 200)
        until(lambda: ask(agent.socket)["streams"]["storage"]["bundle"].startswith("golden:2:"))
        until(lambda: "update_steps_total" in ask(agent.socket)["metrics"])
        series = ask(agent.socket)["metrics"]["update_steps_total"]
        steps = {each["labels"]["step"]: each["value"] for each in series}
        assert {"looked", "offered", "fetched", "examined", "activated"} <= steps.keys()
        until(lambda: "bundle.activated" in (host.folder / "err.log").read_text())
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(PATIENCE_S) == 0
    told = [event["event"] for event in events((host.folder / "err.log").read_text())]
    assert "bundle.activated" in told
    assert "bundle.taken" in told


def test_a_look_that_hangs_ends_with_the_agent(site):
    """SIGTERM does not wait for a repository."""
    host, web = site
    host.configure(extra=f'url = "{web.url}"\n')
    began = threading.Event()
    web.lies["timestamp.json"] = lambda _: began.set() or time.sleep(PATIENCE_S)
    with Agent(host, IMPATIENT) as agent:
        assert began.wait(PATIENCE_S)
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(20) == 0


IMPATIENT = """
import sys
from foretail import updating
from foretail.cli import main
updating.LOOK_S, updating.FIRST_S = 0.2, 0.1
sys.exit(main(sys.argv[1:]))
"""


def _placed(host: Host, text: str):
    """Where things are, by a configuration that was readable a moment ago."""
    from foretail.exchange import _place  # noqa: PLC0415

    good = host.folder / "good.toml"
    good.write_text(text)

    def place(options):
        options.config = str(good)
        return _place(options)

    return place
