"""The real syslog-ng, from Debian's package, with the configuration of plugins/syslog-ng."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from plugins import debian, syslog_bundle
from plugins.daemons import PATIENCE_S, children, count, send, until, verdicts

PLUGIN = Path(__file__).parents[2] / "plugins/syslog-ng"
FORETAIL = str(Path(sys.executable).with_name("foretail"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a loaded machine may need long
LOST_BYTES_MAX = 4 * (64 << 10)
"""In the pipe, and in the agent: read, waiting, being scored."""


@pytest.fixture(scope="module")
def syslog_ng():
    folder = debian.root("syslog-ng")
    if folder is None:
        pytest.skip("Debian's package syslog-ng-core cannot be downloaded here")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return syslog_bundle.write(tmp_path_factory.mktemp("bundle") / "syslog")


class Daemon:
    """syslog-ng with one unix stream as its s_src, and the plugin's files with this test's paths."""

    def __init__(self, syslog_ng, folder, bundle, rules=""):
        text = rules or (PLUGIN / "program.conf").read_text() + (PLUGIN / "verdicts.conf").read_text()
        text = text.replace("/usr/bin/foretail pipe", f"{FORETAIL} pipe --emit lines")
        text = text.replace("/var/lib/foretail/bundles/syslog", bundle).replace("/var/log/foretail", str(folder))
        self.address = str(folder / "log")
        source = f'source s_src {{ unix-stream("{self.address}"); }};'
        config = folder / "syslog-ng.conf"
        config.write_text(f"@version: 3.38\n{source}\n{text}")
        modules = syslog_ng / "usr/lib/syslog-ng/3.38"
        command = [str(syslog_ng / "usr/sbin/syslog-ng"), "-f", str(config), "--module-path", str(modules)]
        command += ["--persist-file", str(folder / "persist"), "--control", str(folder / "control"), "--no-caps"]
        environment = debian.environment(syslog_ng)
        checked = subprocess.run(
            [*command, "--syntax-only"], env=environment, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        self.process = subprocess.Popen(
            [*command, "-F", "--pidfile", str(folder / "pid")], env=environment, stderr=subprocess.PIPE
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.communicate(timeout=30)
        finally:
            self.process.kill()


def test_program_scores_every_line(syslog_ng, bundle, tmp_path):
    """50,000 lines through program(): a verdict for each, read back by syslog-ng's own source."""
    path, lines = tmp_path / "syslog-ng.jsonl", 50_000
    with Daemon(syslog_ng, tmp_path, bundle) as daemon:
        send(daemon.address, syslog_bundle.messages(lines))
        assert until(lambda: count(path) >= lines)
        assert until(lambda: count(tmp_path / "anomalous.log") >= lines)
    assert list(verdicts(path)) == list(range(lines))


def test_the_service_scores_every_line_that_syslog_ng_writes(syslog_ng, bundle, tmp_path):
    """The other way of the README: 50,000 lines in a file, `foretail run` killed twice, a verdict for every line."""
    path, lines = tmp_path / "verdicts.jsonl", 50_000
    messages = syslog_bundle.messages(lines)
    config = tmp_path / "agent.toml"
    config.write_text(
        f"""
        [agent]
        state_dir = "{tmp_path}/state"
        status_socket = ""
        [[stream]]
        name = "syslog"
        include = ["{tmp_path}/system.log"]
        bundle = "{bundle}"
        emit = "lines"
        start = "head"
        [[sink]]
        type = "file"
        path = "{path}"
        """
    )
    rules = f"""
        template t_file {{ template("${{ISODATE}} ${{HOST}} ${{MSGHDR}}${{MESSAGE}}\\n"); }};
        destination d_file {{ file("{tmp_path}/system.log" template(t_file)); }};
        log {{ source(s_src); destination(d_file); }};
    """
    with Daemon(syslog_ng, tmp_path, bundle, rules) as daemon:
        sender = threading.Thread(target=send, args=(daemon.address, messages))
        sender.start()
        for share in (0.2, 0.6, 1.0):
            agent = subprocess.Popen([FORETAIL, "run", "-c", str(config)], stderr=subprocess.DEVNULL)
            try:
                if share < 1:
                    assert until(lambda share=share: count(path) >= lines * share)
                else:
                    assert until(lambda: path.read_bytes().endswith(b"\n") and lines - 1 in verdicts(path))
            finally:
                agent.kill()
                agent.wait()
        sender.join(PATIENCE_S)
    found = verdicts(path)
    print(f"service: {lines} lines, 2 kills, {sum(map(len, found.values())) - lines} scored twice")  # noqa: T201  the figures
    assert sorted(found) == list(range(lines))
    assert [number for number, ids in found.items() if len(set(ids)) > 1] == []


def test_program_is_started_again_and_loses_only_what_was_in_the_pipe(syslog_ng, bundle, tmp_path):
    """Killed twice within 50,000 lines: the agent comes back each time, and the loss is bounded by the pipe."""
    path, lines = tmp_path / "syslog-ng.jsonl", 50_000
    messages = syslog_bundle.messages(lines)
    with Daemon(syslog_ng, tmp_path, bundle) as daemon:
        for start in (0, 20_000):
            send(daemon.address, messages[start : start + 20_000])
            assert until(lambda start=start: count(path) > start + 1000)
            (agent,) = children(daemon.process)
            os.kill(agent, signal.SIGKILL)
            assert until(lambda agent=agent: children(daemon.process) not in ([], [agent]))
        sender = threading.Thread(target=send, args=(daemon.address, messages[40_000:]))
        sender.start()
        sender.join(PATIENCE_S)
        assert until(lambda: path.exists() and f'"key":"{lines - 1}"' in path.read_text())
    found = verdicts(path)
    lost = lines - len(found)
    print(f"program(): {lines} lines, 2 kills, {lost} lost, {sum(map(len, found.values())) - len(found)} scored twice")  # noqa: T201  the figures
    assert max(found) == lines - 1  # it goes on
    assert lost * min(map(len, messages)) <= 2 * LOST_BYTES_MAX
