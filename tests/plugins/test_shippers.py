"""Stand-ins that obey the shippers' contracts run the command lines of plugins/ as they are written."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from plugins import syslog_bundle
from plugins.daemons import PATIENCE_S, until

PLUGINS = Path(__file__).parents[2] / "plugins"
BINARIES = str(Path(sys.executable).parent)
LOG = "/var/log/nginx/access.log"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return syslog_bundle.write(tmp_path_factory.mktemp("bundle") / "syslog")


def fluent_bit():
    """in_exec: /bin/sh -c command."""
    command = re.search(r"(?m)^    Command +(.*)$", (PLUGINS / "fluent-bit/exec.conf").read_text())[1]
    return ["/bin/sh", "-c", command]


def vector():
    """The exec source: a list of words, no shell."""
    return tomllib.loads((PLUGINS / "vector/exec.toml").read_text())["sources"]["foretail"]["command"]


class Shipper:
    """Starts the command as written, with this test's bundle and log; reads stdout as told, never stderr."""

    def __init__(self, command, bundle, folder):
        self.log = folder / "access.log"
        words = [
            word.replace("/var/lib/foretail/bundles/nginx", bundle).replace(LOG, str(self.log)) for word in command
        ]
        if words[0] == "foretail":
            words[2:2] = ["--emit", "lines", "--start", "head"]
        else:
            words[-1] = words[-1].replace("foretail exec", "foretail exec --emit lines --start head")
        self._words = words
        self._environment = {"PATH": f"{BINARIES}:/usr/bin:/bin", "STATE_DIRECTORY": str(folder / "state")}
        self._rest = b""
        self.start()

    def start(self):
        """Run it; its stderr is a pipe that is full and that nobody reads."""
        self._stderr, full = os.pipe()
        os.set_blocking(full, False)
        try:
            while True:
                os.write(full, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(full, True)
        self.process = subprocess.Popen(
            self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=full, env=self._environment
        )
        os.close(full)
        self._rest = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        if not self.process.stdout.closed:
            self.process.stdout.close()
        os.close(self._stderr)

    def write(self, messages):
        """Append lines to the log."""
        with self.log.open("ab") as file:
            for message in messages:
                text = message if isinstance(message, bytes) else message.encode()
                file.write(b"2026-11-21T09:00:00+00:00 web1 prog[12]: " + text + b"\n")

    def read(self, count):
        """So many records, with reads of 4,096 bytes; fewer at the end of the output."""
        lines = []
        while len(lines) < count:
            *whole, self._rest = self._rest.split(b"\n")
            lines += whole
            if len(lines) >= count:
                break
            assert select.select([self.process.stdout], [], [], PATIENCE_S)[0], "no record came"
            data = os.read(self.process.stdout.fileno(), 4096)
            if not data:
                break
            self._rest += data
        return [json.loads(line) for line in lines]

    def ended(self, within_s):
        """The exit code, when it came in time."""
        started = time.monotonic()
        code = self.process.wait(PATIENCE_S)
        assert time.monotonic() - started < within_s
        return code


@pytest.fixture(params=[fluent_bit, vector], ids=lambda param: param.__name__)
def shipper(request, bundle, tmp_path):
    with Shipper(request.param(), bundle, tmp_path) as started:
        yield started


def test_records_come_as_lines_are_written(shipper):
    """One JSON object a line, below the shipper's limit, valid UTF-8 whatever the bytes, cut fields marked."""
    messages = syslog_bundle.messages(100)
    shipper.write(messages)
    records = shipper.read(100)
    assert [int(record["key"]) for record in records] == list(range(100))
    shipper.write([b"cache 7\xff\xfe\x00\xc3", b"cache 8 " + b"\xe2\x82" * 40_000, b"", b"cache 9"])
    records = shipper.read(4)
    assert max(len(json.dumps(record)) for record in records) < 1 << 20
    assert [record["key"] for record in records][::3] == ["7", "9"]


def test_a_slow_reader_gets_everything_in_order(shipper):
    """While nobody reads, the agent holds its place in the log."""
    shipper.write(syslog_bundle.messages(20_000))
    assert until(lambda: len(select.select([shipper.process.stdout], [], [], 0)[0]) == 1)
    records = shipper.read(10)
    assert until(lambda: shipper.process.poll() is None)
    records += shipper.read(20_000 - len(records))
    assert [int(record["key"]) for record in records] == list(range(20_000))


def test_a_closed_stdout_ends_the_agent(shipper):
    """Also when there is nothing to say: exit code 0."""
    shipper.write(syslog_bundle.messages(1))
    shipper.read(1)
    shipper.process.stdout.close()
    assert shipper.ended(5) == 0


@pytest.mark.parametrize("unread", [0, 50_000])
def test_sigterm_ends_the_agent_in_time(shipper, unread):
    """Exit code 0 in less than 5 s, also with a full stdout that nobody reads."""
    shipper.write(syslog_bundle.messages(1 + unread))
    shipper.read(1)
    shipper.process.send_signal(signal.SIGTERM)
    assert shipper.ended(5) == 0


def test_a_restart_by_the_shipper_goes_on_where_it_was(shipper):
    """Lines written while the agent was down are scored; what came twice came with the same id and score."""
    messages = syslog_bundle.messages(3000)
    shipper.write(messages[:1000])
    records = shipper.read(500)
    shipper.process.send_signal(signal.SIGTERM)
    records += shipper.read(1000)
    assert shipper.ended(5) == 0
    shipper.write(messages[1000:2000])
    shipper.process.stdout.close()
    os.close(shipper._stderr)
    shipper.start()
    shipper.write(messages[2000:])
    while int(records[-1]["key"]) < 2999:
        records += shipper.read(1)
    verdicts = {}
    for record in records:
        verdicts.setdefault(int(record["key"]), set()).add((record["id"], record["score"]))
    assert sorted(verdicts) == list(range(3000))
    assert {len(each) for each in verdicts.values()} == {1}


def test_pipe_ends_with_its_input(bundle, tmp_path):
    """syslog-ng's command line: EOF on stdin is the end, exit code 0, every line answered before."""
    text = (PLUGINS / "syslog-ng/program.conf").read_text()
    command = re.search(r'"exec (/usr/bin/foretail [^"]*)"', text)[1].replace(
        "/usr/bin/foretail", f"{BINARIES}/foretail"
    )
    command = command.replace("/var/lib/foretail/bundles/syslog", bundle).replace("/var/log/foretail", str(tmp_path))
    lines = "".join(f"2026-11-21T09:00:00+00:00 web1 prog[12]: {each}\n" for each in syslog_bundle.messages(500))
    command = command.replace(" pipe ", " pipe --emit lines ")
    done = subprocess.run(["/bin/sh", "-c", f"exec {command}"], input=lines.encode(), capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    records = [json.loads(line) for line in (tmp_path / "syslog-ng.jsonl").read_bytes().splitlines()]
    assert [int(record["key"]) for record in records if record["kind"] == "line"] == list(range(500))
