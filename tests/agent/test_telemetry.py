import io
import json
import os
import re
import socket
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from foretail import telemetry
from foretail.errors import ConfigError
from foretail.telemetry import Registry, log, metrics


@pytest.fixture
def written():
    stream = io.StringIO()
    telemetry.configure("info", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    telemetry.configure("info")


@pytest.fixture
def manager(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plug:
        plug.bind(str(tmp_path / "notify"))
        plug.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield lambda: plug.recv(4096).decode()


def test_a_log_line_is_one_json_object(written):
    """Event, level, time and fields; bytes and long texts are made fit."""
    log.warning("sink.failed", sink="http", error="x" * 5000, raw=b"\xff\n", path={"any": object})
    (line,) = written()
    assert (line["event"], line["level"], line["sink"]) == ("sink.failed", "warning", "http")
    assert line["error"] == "x" * 500 + "..."
    assert line["raw"] == "\\xff\n"
    assert line["timestamp"].endswith("Z")


def test_lines_below_the_level_are_not_written(written):
    """INFO by default: nothing per batch."""
    log.debug("batch.read")
    assert written() == []


def test_an_unknown_level_is_an_error():
    """The sentence lists the levels."""
    with pytest.raises(ConfigError, match="use one of debug, info, warning, error"):
        telemetry.configure("loud")


def test_a_reader_that_does_not_read_is_not_waited_for():
    """A shipper that ignores our stderr cannot stop the agent: what does not fit is dropped and counted."""
    reader, fd = os.pipe()
    before = metrics.value("log_lines_dropped_total")
    with os.fdopen(fd, "w") as stream:
        telemetry.configure("info", stream)
        started = time.monotonic()
        for _ in range(5000):
            log.info("bundle.loaded", path="x" * 100)
        assert time.monotonic() - started < 5
        dropped = metrics.value("log_lines_dropped_total") - before
        assert 0 < dropped < 5000
        os.set_blocking(reader, False)
        assert [json.loads(line)["event"] for line in os.read(reader, 60_000).splitlines()[:-1]].count("bundle.loaded")
        os.close(reader)
        log.info("reader.gone")
        telemetry.configure("info")


def test_counters_and_gauges():
    """add() sums by labels, set() replaces, remove() forgets."""
    registry = Registry()
    registry.add("lines_total", 3, stream="a")
    registry.add("lines_total", 4, stream="a")
    registry.add("lines_total", stream="b")
    registry.set("file_lag_bytes", 7, path="x")
    registry.set("file_lag_bytes", 5, path="x")
    assert registry.value("lines_total", stream="a") == 7
    assert registry.snapshot() == {
        "file_lag_bytes": [{"labels": {"path": "x"}, "value": 5}],
        "lines_total": [{"labels": {"stream": "a"}, "value": 7}, {"labels": {"stream": "b"}, "value": 1}],
    }
    registry.remove("file_lag_bytes", path="x")
    assert registry.value("file_lag_bytes", path="x") == 0


def test_metric_names_end_in_their_unit():
    """Counters end in _total, gauges in what they count."""
    units = ("_total", "_bytes", "_seconds", "_batches", "_files", "_open", "_version", "_slow")
    assert [name for name in telemetry.METRICS if not name.endswith(units)] == []


def test_every_metric_is_in_the_docs_with_the_same_words():
    """docs/metrics.md is the operator's list; nothing else is in it."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert dict(rows) == telemetry.METRICS
    assert len(rows) == len(telemetry.METRICS)


def test_prometheus_reads_the_registry():
    """The endpoint shows counters and gauges with help and labels."""
    pytest.importorskip("prometheus_client")
    registry = Registry()
    registry.add("lines_total", 3, stream="a")
    registry.set("file_lag_bytes", 7, stream="a", path='/x"y')
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    stop = telemetry.serve_metrics(address, registry)
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    finally:
        stop()
    assert 'foretail_lines_total{stream="a"} 3.0' in text
    assert "# HELP foretail_lines_total Lines read, by stream." in text
    assert 'foretail_file_lag_bytes{path="/x\\"y",stream="a"} 7.0' in text


def test_metrics_without_the_extra_say_what_to_install(monkeypatch):
    """The sentence names the extra."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r'install "foretail\[metrics\]"'):
        telemetry.serve_metrics("127.0.0.1:0")


def test_an_address_in_use_is_named():
    """ConfigError, not a traceback of the server."""
    pytest.importorskip("prometheus_client")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"cannot listen on {address}: Address already in use"):
            telemetry.serve_metrics(address)


def test_the_service_manager_is_told(manager):
    """sd_notify's messages, reloading with the monotonic time that Type=notify-reload asks for."""
    assert telemetry.notify_ready("2 streams")
    assert manager() == "READY=1\nSTATUS=2 streams"
    assert telemetry.notify_watchdog()
    assert manager() == "WATCHDOG=1"
    assert telemetry.notify_stopping()
    assert manager() == "STOPPING=1"
    before = time.monotonic_ns() // 1000
    assert telemetry.notify_reloading()
    head, stamp = manager().split("\nMONOTONIC_USEC=")
    assert head == "RELOADING=1"
    assert before <= int(stamp) <= time.monotonic_ns() // 1000


def test_without_a_service_manager_nothing_is_sent(monkeypatch):
    """Also when the socket is gone."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not telemetry.notify_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/notify")
    assert not telemetry.notify_ready()


def test_the_watchdog_wants_half_its_time(monkeypatch):
    """For this process only."""
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert telemetry.watchdog_s() == 15
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert telemetry.watchdog_s() == 0
    monkeypatch.delenv("WATCHDOG_PID")
    monkeypatch.delenv("WATCHDOG_USEC")
    assert telemetry.watchdog_s() == 0
