"""The units of packaging/systemd: clean, closely confined, and foretail works inside their sandbox.

Here the filter of system calls and the file system are made by `sandbox`. `make test-deb` starts systemd itself as
process 1 of a fresh Debian, where it is allowed to, and the packaged service under it, with every setting of the unit.
"""

import configparser
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from plugins import sandbox, syslog_bundle
from plugins.daemons import PATIENCE_S, until, verdicts

UNITS = Path(__file__).parents[2] / "packaging/systemd"
FORETAIL = str(Path(sys.executable).with_name("foretail"))
pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


@pytest.fixture
def confined():
    """The sandbox needs root, user space of util-linux, and kernel headers for the numbers of system calls."""
    needed = [shutil.which("unshare"), shutil.which("setpriv"), Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")]
    if os.geteuid() != 0 or not all(path and Path(path).exists() for path in needed):
        pytest.skip("needs root, unshare, setpriv and the kernel's headers for x86-64")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not to be had here")


def exposure(*texts, folder):
    """What systemd-analyze security says of a unit with drop-ins."""
    unit = folder / "foretail.service"
    unit.write_text("\n".join(texts))
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])


def test_units_are_clean(tmp_path):
    """systemd-analyze verify has nothing to say."""
    units = [path for path in UNITS.iterdir() if path.suffix in (".service", ".timer")]
    for unit in units:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/bin/foretail", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in units)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (["foretail.service"], 1.5),
        (["foretail-update.service"], 1.5),
        (["foretail.service", "root-logs.conf"], 1.8),
    ],
)
def test_exposure_is_low(files, limit, tmp_path):
    """The rating of systemd-analyze security, 0 to 10."""
    assert exposure(*((UNITS / name).read_text() for name in files), folder=tmp_path) <= limit


@pytest.mark.parametrize("name", ["foretail.service", "foretail-update.service"])
def test_the_processor_stays_visible(name):
    """ProcSubset=pid would hide /proc/cpuinfo: no XNNPACK, five times slower, other low-order bits."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(UNITS / name)
    assert "ProcSubset" not in parser["Service"]
    assert parser["Service"]["User"] == "foretail"


@pytest.mark.usefixtures("confined")
def test_the_sandbox_confines(tmp_path):
    """What the unit forbids is refused here too: so the next test means something."""
    script = """
import json, mmap, os, socket
def refused(action):
    try:
        action()
    except OSError as error:
        return error.strerror
print(json.dumps([
    refused(lambda: open("/etc/foretail-test", "w")),
    refused(lambda: mmap.mmap(-1, 4096, prot=7)),
    refused(lambda: socket.socket(socket.AF_NETLINK)),
    refused(lambda: os.chroot("/")),
    refused(lambda: open(os.sep.join(["", "dev", "kmsg"]))),
    refused(lambda: socket.socket().close()),
]))
"""
    command = [sys.executable, sandbox.__file__, str(UNITS / "foretail.service"), str(tmp_path), "--"]
    done = subprocess.run([*command, sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [
        "Read-only file system",
        "Operation not permitted",
        "Address family not supported by protocol",
        "Operation not permitted",
        "No such file or directory",
        None,
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("confined")
def test_foretail_runs_in_the_sandbox_with_fast_kernels(tmp_path):
    """Ready, scoring with XNNPACK, reloaded, and gone in time, under the unit's filter and file system."""
    log, path = tmp_path / "system.log", tmp_path / "verdicts.jsonl"
    bundle = syslog_bundle.write(tmp_path / "bundle")
    config = tmp_path / "agent.toml"
    config.write_text(
        f"""
        [agent]
        state_dir = "{tmp_path}/state"
        status_socket = "{tmp_path}/status.sock"
        [[stream]]
        name = "system"
        include = ["{log}"]
        bundle = "{bundle}"
        emit = "lines"
        start = "head"
        [[sink]]
        type = "file"
        path = "{path}"
        [[sink]]
        type = "http"
        url = "http://127.0.0.1:9/"
        policy = "drop"
        """
    )
    log.touch()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE_S)
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        command = [sys.executable, sandbox.__file__, str(UNITS / "foretail.service"), str(tmp_path), "--"]
        agent = subprocess.Popen([*command, FORETAIL, "run", "-c", str(config)], env=environment)
        try:
            assert told(manager, "READY=1")
            lines = syslog_bundle.messages(1000)
            log.write_text("".join(f"2026-11-21T09:00:00+00:00 web1 prog[12]: {line}\n" for line in lines))
            assert until(lambda: path.exists() and len(verdicts(path)) == 1000)
            asked = [FORETAIL, "status", "--json", "--socket", str(tmp_path / "status.sock")]
            status = json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)
            assert status["streams"]["system"]["kernels"] == "xnnpack"
            agent.send_signal(signal.SIGHUP)
            assert told(manager, "RELOADING=1")
            assert told(manager, "READY=1")
            started = time.monotonic()
            agent.send_signal(signal.SIGTERM)
            assert told(manager, "STOPPING=1")
            assert agent.wait(PATIENCE_S) == 0
            assert time.monotonic() - started < 5
        finally:
            agent.kill()
            agent.wait()


def told(manager, word):
    """Whether the agent told this, among other things."""
    return any(word in manager.recv(4096).decode() for _ in range(100))
