import socket
import stat
from pathlib import Path

import pytest
from loopback import PATIENCE_S

from foretail.errors import ConfigError
from foretail.status import StatusServer, ask


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "status.sock")


@pytest.fixture
def serve(path):
    servers = []

    def start(**commands):
        servers.append(StatusServer(path, commands))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def raw(path, request):
    with socket.socket(socket.AF_UNIX) as plug:
        plug.settimeout(PATIENCE_S)
        plug.connect(path)
        plug.sendall(request)
        plug.shutdown(socket.SHUT_WR)
        return plug.makefile("rb").readline()


def test_it_answers_with_the_snapshot(path, serve):
    """One JSON document, as the function gives it at that moment."""
    counts = iter(range(9))
    serve(status=lambda: {"lines": next(counts)})
    assert ask(path) == {"lines": 0}
    assert ask(path) == {"lines": 1}


def test_a_large_snapshot_arrives_whole(path, serve):
    """1,500 files do not fit one packet."""
    files = [{"path": "/var/log/" + "x" * 100, "lag": n} for n in range(1500)]
    serve(status=lambda: {"files": files})
    assert ask(path) == {"files": files}


def test_commands_set_flags(path, serve):
    """Pause and resume call their functions."""
    called = []
    serve(pause=lambda: called.append("p") or {"paused": True}, resume=lambda: {"paused": False})
    assert ask(path, "pause") == {"paused": True}
    assert ask(path, "resume") == {"paused": False}
    assert called == ["p"]
    with pytest.raises(ConfigError, match="'stop' is unknown; there are pause, resume"):
        ask(path, "stop")


def test_nobody_there_is_one_sentence(path):
    """No agent, or one that was killed: the client says what to look at."""
    with pytest.raises(ConfigError, match=r"no agent answers at .*status_socket"):
        ask(path)
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    with pytest.raises(ConfigError, match="no agent answers"):
        ask(path)


def test_a_dead_socket_is_replaced_and_a_living_one_is_not(path, serve):
    """Two agents on one socket are a mistake to be told."""
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    serve(status=dict)
    with pytest.raises(ConfigError, match="is another agent running"):
        StatusServer(path, {})
    assert ask(path) == {}


def test_the_socket_is_for_the_group_and_goes_with_the_agent(path, serve):
    """Mode 0660; removed by close()."""
    server = serve(status=dict)
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o660
    server.close()
    assert not Path(path).exists()


def test_junk_is_answered_with_an_error(path, serve):
    """No request stops the server."""
    serve(status=lambda: {"ok": True})
    assert b"no JSON object" in raw(path, b"\xff\n")
    assert b"no JSON object" in raw(path, b"x" * 100_000)
    assert raw(path, b"{}\n") == b'{"ok":true}\n'
    assert ask(path) == {"ok": True}


def test_a_snapshot_that_fails_is_told(path, serve):
    """A bug in a snapshot is an answer, not a silence."""
    serve(status=lambda: 1 / 0)
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        ask(path)
