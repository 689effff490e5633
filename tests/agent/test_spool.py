import os

import pytest
from loopback import Bell, Server, http, stall

from foretail.config import HttpSink
from foretail.errors import ConfigError, StreamError
from foretail.peers import HttpWriter
from foretail.spool import Spool
from foretail.spooled import SpooledDelivery
from foretail.telemetry import metrics


def record(number):
    return b'{"n":%06d}' % number


def drained(spool):
    """Everything that waits, delivered."""
    found = []
    while (taken := spool.take()) is not None:
        position, records = taken
        found += records
        spool.trim(position)
    return found


def test_records_come_out_as_they_went_in(tmp_path):
    """In order, once, over many segments; delivered segments are removed."""
    spool = Spool(tmp_path, 1 << 20)
    records = [record(number) for number in range(20_000)]
    for start in range(0, len(records), 1000):
        spool.append(records[start : start + 1000])
    assert len(list(tmp_path.glob("*.spool"))) > 3
    assert records == drained(spool)
    assert len(list(tmp_path.glob("*.spool"))) == 1
    assert spool.lost == 0


def test_a_restart_goes_on_where_delivery_was(tmp_path):
    """What was trimmed does not come again, what was taken but not trimmed does."""
    spool = Spool(tmp_path, 1 << 20)
    for number in range(10):
        spool.append([record(number)])
    for _ in range(3):
        position, _ = spool.take()
    spool.trim(position)
    spool.take()
    spool.close()
    again = Spool(tmp_path, 1 << 20)
    again.append([record(10)])
    assert drained(again) == [record(number) for number in range(3, 11)]


def test_a_torn_frame_is_cut_off(tmp_path):
    """A kill within a write costs only what was never acknowledged; later records follow."""
    spool = Spool(tmp_path, 1 << 20)
    spool.append([record(1)])
    spool.append([record(2)])
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    os.truncate(path, path.stat().st_size - 3)
    again = Spool(tmp_path, 1 << 20)
    again.append([record(3)])
    assert drained(again) == [record(1), record(3)]


def test_a_damaged_segment_is_counted_and_passed_over(tmp_path):
    """A wrong checksum met while reading gives up the rest of that segment, with a count."""
    spool = Spool(tmp_path, 64 << 10)
    for number in range(1000):
        spool.append([record(number)])
    first = min(tmp_path.glob("*.spool"))
    data = bytearray(first.read_bytes())
    data[100] ^= 1
    first.write_bytes(data)
    found = drained(spool)
    assert spool.lost > 0
    assert len(found) + spool.lost == 1000
    assert found[-1] == record(999)


@pytest.mark.parametrize("taken", [0, 1, 30])
def test_the_oldest_are_dropped_at_the_limit_and_counted(tmp_path, taken):
    """The disk never holds more than the limit; what is delivered and what is lost are all there is."""
    before = metrics.value("losses_total", cause="spool_full", unit="records", sink=tmp_path.name)
    spool = Spool(tmp_path, 64 << 10)
    found = []
    for number in range(5000):
        spool.append([record(number)])
        assert sum(path.stat().st_size for path in tmp_path.glob("*.spool")) <= 64 << 10
        if number < taken:
            found += spool.take()[1]
    found += drained(spool)
    assert found[-1] == record(4999)
    assert found == sorted(set(found))
    assert len(found) + spool.lost == 5000
    lost = metrics.value("losses_total", cause="spool_full", unit="records", sink=tmp_path.name) - before
    assert lost == spool.lost > 0


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    """ConfigError names the folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"spool folder .*file"):
        Spool(tmp_path / "file", 1 << 20)


def test_a_failed_write_leaves_no_half_frame(tmp_path):
    """After an error of the disk the spool is as before and takes the records when they come again."""
    spool = Spool(tmp_path, 1 << 20)
    spool.append([record(1)])
    good, spool._fd = spool._fd, os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(StreamError, match="No space left"):
        spool.append([record(2)])
    os.close(spool._fd)
    spool._fd = good
    spool.append([record(2)])
    assert drained(spool) == [record(1), record(2)]


def sink(server):
    return HttpSink(
        name="h", url=f"http://{server.address}/", policy="spool", retry_first_s=0.01, retry_max_s=0.02, timeout_s=0.2
    )


def spooled(server, folder):
    bell = Bell()
    return bell, SpooledDelivery(sink(server), HttpWriter(sink(server)), Spool(folder, 1 << 20), bell)


def test_a_dead_peer_does_not_hold_the_cursor(tmp_path):
    """A batch is acknowledged when it is on disk; a later run delivers it, before what is new."""
    with Server(stall) as server:
        bell, outlet = spooled(server, tmp_path)
        for number in range(1, 101):
            outlet.send(number, [record(number)])
        assert bell.wait(lambda: outlet.acknowledged() == 100)
        assert outlet.ready()
        assert outlet.close(0.3) == 0
    with Server(http(500, 200)) as server:
        bell, outlet = spooled(server, tmp_path)
        outlet.send(1, [record(101)])
        wanted = [record(number) for number in range(1, 102)]

        def delivered():
            bodies = [body for _, _, body in server.received[1:]]
            return b"".join(bodies).split() == wanted

        assert server.bell.wait(delivered)
        assert outlet.close(5) == 0
    bell, outlet = spooled(server, tmp_path)
    assert outlet._spool.take() is None
    outlet.close(0.1)


def test_empty_batches_pass_a_spool(tmp_path):
    """They are acknowledged with or after what was sent before."""
    with Server(http(200)) as server:
        bell, outlet = spooled(server, tmp_path)
        outlet.send(1, [])
        assert outlet.acknowledged() == 1
        outlet.send(2, [record(2)])
        outlet.send(3, [])
        assert bell.wait(lambda: outlet.acknowledged() == 3)
        assert outlet.close(5) == 0
