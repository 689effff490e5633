"""A stand-in for Fluent Bit hands lines to the real agent and takes verdicts back, both ways acknowledged by chunk."""

import subprocess
import sys
from pathlib import Path

import pytest
from loopback import Server, acknowledging
from msgspec import msgpack
from plugins import syslog_bundle
from plugins.daemons import PATIENCE_S, connected

PLUGIN = Path(__file__).parents[2] / "plugins/fluent-bit"
FORETAIL = str(Path(sys.executable).with_name("foretail"))
pytestmark = pytest.mark.slow


class Agent:
    """`foretail run` with the plugin's agent-forward.toml, every line emitted."""

    def __init__(self, folder, bundle, policy):
        text = (PLUGIN / "agent-forward.toml").read_text().replace("/var/lib/foretail/bundles/nginx", bundle)
        text = text.replace("/run/foretail/forward.sock", f"{folder}/in.sock").replace('"spool"', f'"{policy}"')
        text = text.replace("/run/fluent-bit/foretail.sock", f"{folder}/out.sock")
        text = text.replace("[[source]]", 'emit = "lines"\n\n[[source]]')
        text = text.replace("policy", "timeout_s = 0.5\nretry_max_s = 0.5\npolicy")
        self._config = folder / "agent.toml"
        self._config.write_text(f'[agent]\nstate_dir = "{folder}/state"\nstatus_socket = ""\n{text}')
        self._path = f"{folder}/in.sock"
        self.start()

    def start(self):
        """Run it and connect."""
        self.process = subprocess.Popen([FORETAIL, "run", "-c", str(self._config)], stderr=subprocess.DEVNULL)
        self._plug = connected(self._path)

    def kill(self):
        """SIGKILL."""
        self._plug.close()
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    def hand_over(self, chunk, messages, mode):
        """One chunk in one of the protocol's modes."""
        lines = [f"2026-11-21T09:00:00+00:00 web1 prog[12]: {message}" for message in messages]
        entries = [[1763720000, {"log": line}] for line in lines]
        packed = b"".join(map(msgpack.encode, entries))
        self._plug.sendall(msgpack.encode(["nginx", packed if mode == "packed" else entries, {"chunk": chunk}]))

    def answer(self, timeout_s=PATIENCE_S):
        """The next acknowledged chunk, or None."""
        self._plug.settimeout(timeout_s)
        try:
            return msgpack.decode(self._plug.recv(4096))["ack"]
        except TimeoutError:
            return None


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return syslog_bundle.write(tmp_path_factory.mktemp("bundle") / "syslog")


def verdicts(server):
    """(number of the line, id) of each verdict that came back, in order."""
    return [(int(record["key"]), record["id"]) for _, records, _ in server.received for record in records]


@pytest.mark.parametrize("mode", ["forward", "packed"])
def test_a_chunk_is_scored_once_however_often_it_comes(mode, bundle, tmp_path):
    """As shipped: a verdict for every line, in order; none for a chunk that comes again, also to a new agent."""
    messages = syslog_bundle.messages(300)
    with Server(acknowledging(lambda chunk: [chunk]), path=f"{tmp_path}/out.sock") as server:
        with Agent(tmp_path, bundle, "spool") as agent:
            for chunk in ("c0", "c1"):
                agent.hand_over(chunk, messages[:100] if chunk == "c0" else messages[100:200], mode)
                assert agent.answer() == chunk
            agent.hand_over("c0", messages[:100], mode)
            assert agent.answer() == "c0"
            assert server.bell.wait(lambda: len(verdicts(server)) >= 200)
            agent.kill()
            agent.start()
            for chunk, begin in (("c1", 100), ("c2", 200)):
                agent.hand_over(chunk, messages[begin : begin + 100], mode)
                assert agent.answer() == chunk
            assert server.bell.wait(lambda: verdicts(server) and verdicts(server)[-1][0] == 299)
        found = dict.fromkeys(verdicts(server))
        assert [number for number, _ in found] == list(range(300))


def test_a_chunk_is_not_answered_before_its_verdicts_are(bundle, tmp_path):
    """Policy = block: no answer while the receiver gives none; after a kill the same chunk gives the same verdicts."""
    messages = syslog_bundle.messages(100)
    silent, obeying = acknowledging(lambda _: []), acknowledging(lambda chunk: [chunk])
    with Agent(tmp_path, bundle, "block") as agent:
        with Server(silent, path=f"{tmp_path}/out.sock") as server:
            agent.hand_over("c", messages, "forward")
            assert server.bell.wait(lambda: server.received)
            assert agent.answer(0.7) is None
            first = verdicts(server)[:100]
        agent.kill()
        Path(f"{tmp_path}/out.sock").unlink()
        with Server(obeying, path=f"{tmp_path}/out.sock") as server:
            agent.start()
            agent.hand_over("c", messages, "forward")
            assert agent.answer() == "c"
            assert verdicts(server)[:100] == first
        assert [number for number, _ in first] == list(range(100))
