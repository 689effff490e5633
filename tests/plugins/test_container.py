"""The sidecar of packaging/container: its pod is Kubernetes', its agent reads what the runtime (CRI) writes."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from plugins import syslog_bundle
from plugins.daemons import until

from foretail import detection, headers
from foretail.schema import Format

CONTAINER = Path(__file__).parents[2] / "packaging/container"
FORETAIL = str(Path(sys.executable).with_name("foretail"))
LOGS = "/var/log/pods/this/shop/0.log"


def shell(line, folder, **options):
    """Run a line of the pod's head in a folder."""
    return subprocess.run(["/bin/sh", "-euc", line], cwd=folder, check=True, capture_output=True, **options)


def told(word):
    """The command of the pod's head that holds a word, as one would type it."""
    (line,) = [
        line for line in (CONTAINER / "sidecar.yaml").read_text().splitlines() if word in line and line[0] == "#"
    ]
    return line.removeprefix("#").partition(" # ")[0].strip()


def cri(messages):
    """As containerd writes them."""
    stamps = (f"2026-11-21T09:{number // 60:02}:{number % 60:02}.123456789Z" for number in range(len(messages)))
    return "".join(f"{stamp} stdout F {message}\n" for stamp, message in zip(stamps, messages, strict=True))


def sidecar(folder):
    """The sidecar's agent.toml with this folder in the place of the container's paths, and the bundle's .tar."""
    syslog_bundle.write(folder / "shop", Format(kind="cri", name="cri", inner=Format()))
    shell(told("tar -C"), folder)
    text = (CONTAINER / "agent.toml").read_text()
    text = text.replace('metrics = "127.0.0.1:9477"', f'state_dir = "{folder}/state"').replace(
        "/bundles/", f"{folder}/"
    )
    text = text.replace("/run/foretail", str(folder)).replace("/var/log", f"{folder}/var/log")
    config = folder / "agent.toml"
    config.write_text(text.replace('start = "head"', 'start = "head"\nemit = "lines"'))
    log = folder / LOGS.lstrip("/")
    log.parent.mkdir(parents=True)
    return config, log


def test_check_and_run_on_the_runtimes_log(tmp_path):
    """`check` says what would be tailed; every message is typed and scored once."""
    config, log = sidecar(tmp_path)
    messages = syslog_bundle.messages(200)
    log.write_text(cri(messages))
    checked = subprocess.run([FORETAIL, "check", "-c", str(config)], capture_output=True, text=True, check=True)
    assert str(log) in checked.stdout
    assert "is valid" in checked.stdout
    out = tmp_path / "out.jsonl"
    with out.open("wb") as file:
        agent = subprocess.Popen([FORETAIL, "run", "-c", str(config)], stdout=file, stderr=subprocess.DEVNULL)
    try:
        assert until(lambda: out.read_bytes().count(b'"kind":"line"') >= 200)
    finally:
        agent.terminate()
        assert agent.wait(60) == 0
    records = [json.loads(line) for line in out.read_bytes().splitlines()]
    scored = [record for record in records if record["kind"] == "line"]
    assert [int(record["key"]) for record in scored] == list(range(200))
    assert "0" not in {record["type"] for record in scored}


def test_kubectl_logs_become_the_runtimes_lines(tmp_path):
    """What the pod's head makes of `kubectl logs --timestamps` is the format that the sidecar will read."""
    printed = [f"2026-11-21T09:00:00.123456789Z {message}\n" for message in syslog_bundle.messages(300)]
    command = re.sub(r"kubectl .*?\|", "cat |", told("kubectl logs --timestamps"))
    shell(command, tmp_path, input="".join(printed).encode())
    assert detection.detect((tmp_path / "shop.log").read_bytes().splitlines()).kind == "cri"
    assert headers.named("cri").inner is not None


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_pod_has_no_field_that_kubernetes_does_not_know():
    """Read with Kubernetes' own types, nothing of the file is dropped."""
    file = CONTAINER / "sidecar.yaml"
    command = ["kubectl", "label", "--local", "-f", str(file), "read=yes", "-o", "json"]
    read = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    def missing(wanted, found, path=""):
        if isinstance(wanted, dict):
            return [
                each
                for key, value in wanted.items()
                for each in (missing(value, found[key], f"{path}.{key}") if key in found else [f"{path}.{key}"])
            ]
        if isinstance(wanted, list):
            pairs = zip(wanted, found, strict=True)
            return [each for n, (a, b) in enumerate(pairs) for each in missing(a, b, f"{path}[{n}]")]
        return [] if wanted == found else [f"{path}: {wanted} is {found}"]

    assert missing(yaml.safe_load(file.read_text()), read) == []
