"""The real rsyslogd, from Debian's package, with the configuration of plugins/rsyslog."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plugins import debian, syslog_bundle
from plugins.daemons import PATIENCE_S, children, count, send, until, verdicts

PLUGIN = Path(__file__).parents[2] / "plugins/rsyslog"
FORETAIL = str(Path(sys.executable).with_name("foretail"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a loaded machine may need long


@pytest.fixture(scope="module")
def rsyslog():
    folder = debian.root("rsyslog")
    if folder is None:
        pytest.skip("Debian's package rsyslog cannot be downloaded here")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return syslog_bundle.write(tmp_path_factory.mktemp("bundle") / "syslog")


def as_shipped(name, folder, bundle, *options):
    """The plugin's file with this test's paths in the place of the shipped ones."""
    text = (PLUGIN / name).read_text()
    text = text.replace("/usr/bin/foretail", FORETAIL).replace("/var/lib/foretail/bundles/syslog", bundle)
    text = re.sub(r'(--reply [^"]*)"', " ".join([r"\1", *options]) + '"', text)
    return text.replace("/var/lib/foretail", str(folder)).replace("/var/log/foretail", str(folder))


class Daemon:
    """rsyslogd with one TCP input on loopback."""

    def __init__(self, rsyslog, folder, *rules):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.address = probe.getsockname()
        modules = next(rsyslog.glob("usr/lib/*/rsyslog"))
        head = f'global(workDirectory="{folder}" maxMessageSize="64k")\nmodule(load="imtcp")\n'
        head += f'input(type="imtcp" address="127.0.0.1" port="{self.address[1]}")\n'
        config = folder / "rsyslog.conf"
        config.write_text(head + "\n".join(rules))
        self.command = [str(rsyslog / "usr/sbin/rsyslogd"), "-M", str(modules), "-f", str(config)]
        self.environment = debian.environment(rsyslog)
        checked = subprocess.run(
            [*self.command, "-N1"], env=self.environment, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        self.process = subprocess.Popen(
            [*self.command, "-n", "-i", str(folder / "pid")], env=self.environment, stderr=subprocess.PIPE
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.communicate(timeout=30)
        finally:
            self.process.kill()


def test_omprog_scores_every_line_although_the_agent_is_killed_twice(rsyslog, bundle, tmp_path):
    """50,000 lines with confirmMessages, the agent killed twice meanwhile: every line scored at least once."""
    rules = as_shipped("omprog.conf", tmp_path, bundle, "--emit", "lines")
    path = tmp_path / "rsyslog" / "verdicts.jsonl"
    lines = 50_000

    with Daemon(rsyslog, tmp_path, rules) as daemon:
        sender = threading.Thread(target=send, args=(daemon.address, syslog_bundle.messages(lines)))
        sender.start()
        for share in (0.2, 0.6):
            assert until(lambda share=share: count(path) > lines * share)
            (agent,) = children(daemon.process)
            os.kill(agent, signal.SIGKILL)
        sender.join(PATIENCE_S)
        assert until(lambda: count(path) >= lines), (tmp_path / "rsyslog.log").read_text()[-2000:]
    found = verdicts(path)
    assert set(found) == set(range(lines))
    repeated = sum(len(ids) - 1 for ids in found.values())
    print(f"omprog: {lines} lines, 2 kills, {repeated} scored twice")  # noqa: T201  the figures
    assert repeated <= 2


def test_mmexternal_annotates_every_message_in_order(rsyslog, bundle, tmp_path):
    """10,000 messages leave rsyslog in order, each with its own verdict in $!foretail."""
    rules = as_shipped("mmexternal.conf", tmp_path, bundle)
    rules += f'\naction(type="omfile" file="{tmp_path}/all.jsonl" template="foretail_verdicts")'
    path, lines = tmp_path / "all.jsonl", 10_000
    messages = syslog_bundle.messages(lines)
    with Daemon(rsyslog, tmp_path, rules) as daemon:
        send(daemon.address, messages)
        assert until(lambda: count(path) >= lines)
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [record["message"].strip() for record in records] == messages
    assert [int(record["foretail"]["key"]) for record in records] == list(range(lines))
    assert {record["foretail"]["type"] for record in records} == {f"1.{number}" for number in range(9)}
    anomalous = [record for record in records if record["foretail"]["anomalous"]]
    assert anomalous
    kept = (tmp_path / "anomalous.jsonl").read_bytes()
    assert [json.loads(line) for line in kept.splitlines()] == anomalous
