import os
import ssl
import threading
import time
from pathlib import Path

import pytest
from loopback import Bell, Server, acknowledging, http, lines, reset, stall

from foretail.config import FileSink, ForwardSink, HttpSink, StdoutSink, TcpSink, UnixSink
from foretail.delivery import Delivery, pieces
from foretail.errors import ConfigError
from foretail.sinks import FileWriter, StdoutWriter, writer
from foretail.telemetry import metrics

TLS = Path(__file__).with_name("tls")
FAST = {"retry_first_s": 0.01, "retry_max_s": 0.02, "timeout_s": 5.0}
A, B, C = b'{"n":1}', b'{"n":2}', b'{"n":3}'


class Running:
    """A Delivery and what a test asks of it."""

    def __init__(self, config, way=None, **options):
        self.bell = Bell()
        self.sink = Delivery(config, way or writer(config), self.bell, **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sink.close(0.1)

    def send(self, *batches):
        for seq, batch in enumerate(batches, self.sink._sent + 1):
            self.sink.send(seq, batch)

    def done(self, seq):
        return self.bell.wait(lambda: self.sink.acknowledged() == seq)


def http_sink(server, **options):
    return HttpSink(url=f"http://{server.address}/in?x=1", **(FAST | options))


def forward_sink(server, **options):
    return ForwardSink(address=server.address, **(FAST | options))


def same(chunk):
    return [chunk]


def test_http_posts_lines_and_takes_2xx_as_the_acknowledgement():
    """Lines in one body, as application/json, on one connection."""
    with Server(http(200, 201)) as server, Running(http_sink(server)) as running:
        running.send([A, B])
        assert running.done(1)
        running.send([C])
        assert running.done(2)
        assert [(target, body) for target, _, body in server.received] == [
            ("/in?x=1", A + b"\n" + B + b"\n"),
            ("/in?x=1", C + b"\n"),
        ]
        assert server.received[0][1]["content-type"] == "application/json"
        assert server.connections == 1


@pytest.mark.parametrize("status", [500, 503, 429, 400, 302])
def test_http_retries_what_is_not_2xx(status):
    """The same body comes again until a 2xx; the failure is counted and its reason kept."""
    with Server(http(status, status, 204)) as server, Running(http_sink(server)) as running:
        running.send([A])
        assert running.done(1)
        assert [body for _, _, body in server.received] == [A + b"\n"] * 3
        assert running.sink.status()["failures"] == 2


def test_http_tells_what_the_peer_said():
    """The status and the head of the answer stand in the error."""
    with Server(http(500)) as server, Running(http_sink(server)) as running:
        running.send([A])
        assert running.bell.wait(lambda: "status 500 (so it is)" in running.sink.status()["error"])


def test_http_cuts_bodies_and_keeps_the_order():
    """A batch over body_bytes_max goes in several bodies, acknowledged when all are."""
    records = [b'{"n":%d}' % number for number in range(1000)]
    with Server(http(200)) as server, Running(http_sink(server, body_bytes_max=1024)) as running:
        running.send(records)
        assert running.done(1)
        bodies = [body for _, _, body in server.received]
        assert max(map(len, bodies)) <= 1024 + 1024 // 7
        assert b"".join(bodies).split() == records


def test_http_reads_the_token_before_each_request(tmp_path):
    """A renewed token is used without a restart; a missing one is a failure, not an anonymous request."""
    token = tmp_path / "token"
    with Server(http(200)) as server, Running(http_sink(server, bearer_token_file=str(token))) as running:
        running.send([A])
        assert running.bell.wait(lambda: "bearer token" in running.sink.status()["error"])
        assert server.received == []
        token.write_text("one\n")
        assert running.done(1)
        token.write_text("two\n")
        running.send([B])
        assert running.done(2)
        assert [headers["authorization"] for _, headers, _ in server.received] == ["Bearer one", "Bearer two"]


def test_http_notices_that_an_idle_connection_was_closed():
    """A peer that closes after each answer costs no failed request."""
    with Server(http(200, once=True)) as server, Running(http_sink(server)) as running:
        for number in (1, 2, 3):
            running.send([A])
            assert running.done(number)
            assert server.bell.wait(lambda number=number: server._plugs[number - 1].fileno() == -1)
        assert server.connections == 3


@pytest.mark.parametrize("make", [http_sink, forward_sink])
@pytest.mark.parametrize("bad", [reset, stall])
def test_a_bad_peer_is_asked_again(make, bad):
    """After a reset or a stall beyond the time limit the same records go over a new connection."""
    good = http(200) if make is http_sink else acknowledging(same)
    with Server(bad, bad, good) as server, Running(make(server, timeout_s=0.2)) as running:
        running.send([A])
        assert running.done(1)
        assert server.connections == 3


def test_a_peer_that_is_not_there_is_asked_again():
    """A refused connection is a failure with a sentence, and the queue is kept."""
    with Server(lines) as server:
        address = server.address
    with Running(TcpSink(address=address, **FAST)) as running:
        running.send([A])
        assert running.bell.wait(lambda: running.sink.status()["failures"] > 2)
        assert running.sink.acknowledged() == 0
        assert running.sink.close(0) == 1


def tls():
    """A server's context with the certificate of this folder, for 127.0.0.1; it is its own authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "cert.pem", TLS / "key.pem")
    return context


def test_https_verifies_its_peer():
    """A known certificate is taken, an unknown one is a failure that says so, unless verification is off."""
    with Server(http(200), tls=tls()) as server:
        url = f"https://{server.address}/"
        with Running(HttpSink(url=url, ca=str(TLS / "cert.pem"), **FAST)) as running:
            running.send([A])
            assert running.done(1)
        with Running(HttpSink(url=url, **FAST)) as running:
            running.send([B])
            assert running.bell.wait(lambda: "certificate refused: self-signed" in running.sink.status()["error"])
        with Running(HttpSink(url=url, verify=False, **FAST)) as running:
            running.send([C])
            assert running.done(1)
        assert [body for _, _, body in server.received] == [A + b"\n", C + b"\n"]


def test_forward_and_lines_over_tls():
    """Acknowledged chunks, and JSON lines, with a verified peer."""
    known = {"tls": True, "ca": str(TLS / "cert.pem")}
    with Server(acknowledging(same), tls=tls()) as server, Running(forward_sink(server, **known)) as running:
        for number in (1, 2):
            running.send([A])
            assert running.done(number)
        assert server.connections == 1
    with Server(lines, tls=tls()) as server, Running(TcpSink(address=server.address, **FAST, **known)) as running:
        running.send([A])
        assert server.bell.wait(lambda: server.received == [A + b"\n"])


def test_a_certificate_file_that_cannot_be_read_is_named():
    """ConfigError at start, not a failure for ever."""
    with pytest.raises(ConfigError, match="cannot load certificates from /nonexistent"):
        writer(HttpSink(url="https://a/", ca="/nonexistent"))


def test_a_bug_in_a_writer_is_a_failure_and_not_the_end():
    """A record that a writer cannot take is retried and reported; the thread lives."""
    with Server(acknowledging(same)) as server, Running(forward_sink(server)) as running:
        running.send([b"no json"])
        assert running.bell.wait(lambda: "malformed" in running.sink.status()["error"])
        assert running.sink._thread.is_alive()


def test_forward_waits_for_its_chunk():
    """A chunk is acknowledged by its own id; records are maps, the option holds id and size."""
    with Server(acknowledging(same)) as server, Running(forward_sink(server, tag="x")) as running:
        running.send([A, B])
        assert running.done(1)
        ((tag, records, chunk),) = server.received
        assert (tag, records, len(chunk)) == ("x", [{"n": 1}, {"n": 2}], 24)


def test_forward_over_a_unix_socket(tmp_path):
    """The same over unix:/path."""
    with Server(acknowledging(same), path=str(tmp_path / "s")) as server, Running(forward_sink(server)) as running:
        running.send([A])
        assert running.done(1)


def test_forward_sends_an_unacknowledged_chunk_again_under_its_id():
    """No answer in time: the same id on a new connection, so that the receiver can tell."""
    silent = acknowledging(lambda _: [])
    with Server(silent, acknowledging(same)) as server, Running(forward_sink(server, timeout_s=0.2)) as running:
        running.send([A])
        assert running.done(1)
        first, second = server.received
        assert first == second


def test_forward_passes_over_wrong_and_double_answers():
    """Answers for other chunks, before and after, and an answer twice, acknowledge nothing else."""
    noisy = acknowledging(lambda chunk: ["other", "old", chunk, chunk, "later"], lambda chunk: ["other", chunk])
    with Server(noisy) as server, Running(forward_sink(server)) as running:
        for number in (1, 2, 3):
            running.send([A])
            assert running.done(number)
        assert len({chunk for _, _, chunk in server.received}) == 3
        assert server.connections == 1


def test_forward_is_not_acknowledged_by_another_chunks_answer():
    """A peer that answers only with another id has acknowledged nothing."""
    wrong = acknowledging(lambda _: ["other"])
    with Server(wrong, wrong, acknowledging(same)) as server, Running(forward_sink(server, timeout_s=0.2)) as running:
        running.send([A])
        assert running.done(1)
        assert len(server.received) == 3


def test_lines_over_tcp_and_unix(tmp_path):
    """JSON lines arrive in order, whole."""
    with Server(lines) as server, Running(TcpSink(address=server.address, **FAST)) as running:
        running.send([A, B], [C])
        assert running.done(2)
        assert server.bell.wait(lambda: len(server.received) == 3)
        assert server.received == [A + b"\n", B + b"\n", C + b"\n"]
    path = str(tmp_path / "s")
    with Server(lines, path=path) as server, Running(UnixSink(path=path, **FAST)) as running:
        running.send([A])
        assert server.bell.wait(lambda: server.received == [A + b"\n"])


def test_a_full_queue_says_so_and_room_wakes_the_loop():
    """ready() is False from queue_bytes_max on, send() never blocks, and delivery makes room."""
    gate = threading.Event()

    class Gated:
        group_bytes_max = 100

        def write(self, _records):
            gate.wait(5)

        def idle(self):
            pass

        def interrupt(self):
            gate.set()

        def close(self):
            pass

    with Running(TcpSink(address="a:1", queue_bytes_max=100), Gated()) as running:
        assert running.sink.ready()
        running.send([b"x" * 60], [b"x" * 60])
        assert not running.sink.ready()
        running.send([b"x" * 60])
        assert running.sink.acknowledged() == 0
        gate.set()
        assert running.bell.wait(running.sink.ready)
        assert running.done(3)


def test_empty_batches_carry_the_acknowledgement_on():
    """A batch without records is acknowledged with what went before it, and takes no room in the queue."""
    with Server(stall) as server, Running(http_sink(server)) as running:
        running.send([], [])
        assert running.sink.acknowledged() == 2
        running.send([A], *[[]] * 10000)
        assert running.sink.acknowledged() == 2
        assert running.sink.ready()
        assert len(running.sink._queue) <= 1
    with Server(http(200)) as server, Running(http_sink(server)) as running:
        running.send([A], [], [])
        assert running.done(3)


def test_policy_drop_never_holds_the_cursor():
    """What does not fit is lost and counted; everything sent counts as acknowledged."""
    before = metrics.value("losses_total", cause="sink_full", unit="records", sink="lossy")
    with Server(stall) as server:
        config = http_sink(server, name="lossy", policy="drop", queue_bytes_max=len(A))
        with Running(config) as running:
            running.send([A], [A, B], [C])
            assert running.sink.ready()
            assert running.sink.acknowledged() == 3
            assert metrics.value("losses_total", cause="sink_full", unit="records", sink="lossy") == before + 3
            running.sink.close(0)
            assert metrics.value("losses_total", cause="sink_full", unit="records", sink="lossy") == before + 4


@pytest.mark.parametrize(
    ("make", "bad"),
    [
        (http_sink, stall),
        (http_sink, reset),
        (http_sink, http(500)),
        (forward_sink, stall),
        (forward_sink, reset),
        (forward_sink, acknowledging(lambda _: ["other"])),
    ],
)
def test_close_returns_in_time_with_a_dead_sink(make, bad):
    """However the peer behaves, close() ends at its limit and tells what was not delivered."""
    with Server(bad) as server, Running(make(server, timeout_s=60, retry_first_s=60, retry_max_s=60)) as running:
        running.send([A, B])
        assert server.bell.wait(lambda: server.connections)
        started = time.monotonic()
        assert running.sink.close(0.2) == 2
        assert time.monotonic() - started < 1


def test_close_delivers_what_waits():
    """A living sink is drained."""
    with Server(http(200)) as server:
        running = Running(http_sink(server))
        running.send(*[[A]] * 50)
        assert running.sink.close(5) == 0
        assert running.sink.acknowledged() == 50


def test_stdout_ends_when_its_reader_is_gone():
    """EPIPE is an end, not an error."""
    reader, fd = os.pipe()
    with Running(StdoutSink(), StdoutWriter(fd)) as running:
        running.send([A, B])
        assert running.done(1)
        assert os.read(reader, 100) == A + b"\n" + B + b"\n"
        os.close(reader)
        running.send([C])
        assert running.bell.wait(lambda: running.sink.ended)
        assert running.sink.acknowledged() == 1
    os.close(fd)


def test_stdout_notices_a_gone_reader_while_there_is_nothing_to_write():
    """A shipper that died ends the agent within about a second, not at the next verdict."""
    reader, fd = os.pipe()
    with Running(StdoutSink(), StdoutWriter(fd)) as running:
        os.close(reader)
        assert running.bell.wait(lambda: running.sink.ended)
    os.close(fd)


def test_close_returns_while_stdout_is_blocked():
    """A reader that does not read cannot hold the agent."""
    reader, fd = os.pipe()
    running = Running(StdoutSink(), StdoutWriter(fd))
    running.send([b"x" * 200_000])
    started = time.monotonic()
    assert running.sink.close(0.1) == 1
    assert time.monotonic() - started < 1
    os.close(reader)
    assert running.bell.wait(lambda: running.sink.ended)
    os.close(fd)


def test_the_file_sink_rotates_by_size_and_keeps_n(tmp_path):
    """Each file is below the limit, records are whole, and the oldest go."""
    path = tmp_path / "sub" / "out.jsonl"
    way = FileWriter(FileSink(path=str(path), rotate_bytes=4096, keep=2))
    records = [b'{"n":%04d}' % number for number in range(2000)]
    for record in records:
        way.write([record])
    way.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["out.jsonl", "out.jsonl.1", "out.jsonl.2"]
    assert max(file.stat().st_size for file in path.parent.iterdir()) <= 4096
    kept = b"".join((path.parent / f"out.jsonl{end}").read_bytes() for end in (".2", ".1", "")).splitlines()
    assert records[-len(kept) :] == kept
    assert oct(path.stat().st_mode & 0o777) == "0o640"


def test_the_file_sink_follows_a_foreign_rotation(tmp_path):
    """If logrotate renames or removes the file, the next batch goes to a new one."""
    path = tmp_path / "out"
    way = FileWriter(FileSink(path=str(path)))
    way.write([A])
    path.rename(tmp_path / "out.old")
    way.write([B])
    path.unlink()
    way.write([C])
    way.close()
    assert (tmp_path / "out.old").read_bytes() == A + b"\n"
    assert path.read_bytes() == C + b"\n"


def test_the_file_sink_ends_a_torn_line(tmp_path):
    """After a kill within a write, the next record starts on a line of its own."""
    path = tmp_path / "out"
    path.write_bytes(A + b'\n{"n":')
    way = FileWriter(FileSink(path=str(path), fsync="batch"))
    way.write([B])
    way.write([C])
    way.close()
    assert path.read_bytes() == A + b'\n{"n":\n' + B + b"\n" + C + b"\n"


def test_a_full_disk_fails_and_is_tried_again():
    """ENOSPC is a failure like any other: the batch waits."""
    with Running(FileSink(path="/dev/full", **{k: v for k, v in FAST.items() if k != "timeout_s"})) as running:
        running.send([A])
        assert running.bell.wait(lambda: "No space left" in running.sink.status()["error"])
        assert running.sink.acknowledged() == 0


def test_pieces_keep_order_and_limit():
    """Runs of at most the limit, or one record."""
    assert list(pieces([b"aa", b"b", b"cccccc", b"d"], 3)) == [[b"aa", b"b"], [b"cccccc"], [b"d"]]
    assert list(pieces([], 3)) == []
