"""What a fit learned from comes back as it was, without keys of pickle and without text."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from trainer.bigrams import V, service, timed, untimed

from foretail.errors import ConfigError
from foretail.schema import FIRST
from foretail_trainer import history, sequences
from foretail_trainer.crossfit import deal
from foretail_trainer.network import Shape, initial

pytestmark = pytest.mark.trainer

TYPES = tuple(f"{number:016x}" for number in range(V - FIRST))


@pytest.fixture(scope="module")
def network():
    return initial(Shape("lstm", 1, 4, 3, V, 4), seed=1)


def kept(sessions, network) -> history.History:
    folds = (network, None, network, network, network)
    return history.History("d" * 64, TYPES, sessions, deal(sessions), network, folds, 99, 3, "t" * 64, 0.01, 1.0, 2)


def again(tmp_path, one: history.History) -> history.History:
    history.write(tmp_path, one)
    return history.read(tmp_path, SimpleNamespace(digest=one.digest, path="b", label="b:1"))


@pytest.mark.parametrize("make", [timed, untimed])
def test_sessions_come_back_as_they_were(tmp_path, network, make):
    """Events, rests, weights, ends, keys, folds; of times the beginnings and the ends."""
    sessions = make(service(80))
    got = again(tmp_path, kept(sessions, network))
    for name in ("ids", "starts", "weight", "censored", "rests", "units"):
        assert (getattr(got.sessions, name) == getattr(sessions, name)).all(), name
    assert got.sessions.keys == sessions.keys
    assert (got.share == deal(sessions)).all()
    assert len(got.sessions.times) == len(sessions.times)
    if len(sessions.times):
        for place in (sessions.starts, sessions.stops - 1):
            assert (got.sessions.times[place] == sessions.times[place]).all()
    assert (got.lines, got.untyped, got.rate, got.hosts, got.types) == (99, 3, 0.01, 2, TYPES)


def test_blocks_of_endless_sessions_come_back(tmp_path, network):
    """Their times are those of each block's beginning."""
    ids = np.tile(np.arange(FIRST, V, dtype=np.int32), 60)
    sessions = sequences.sessions(ids, None, np.arange(len(ids), dtype=float), vocabulary=V)
    got = again(tmp_path, kept(sessions, network)).sessions
    assert got.endless
    assert (got.units == sessions.units).all()
    assert (got.times[got.units] == sessions.times[sessions.units]).all()


def test_networks_come_back_to_the_bit(tmp_path, network):
    """A fold that is missing is None: it is fitted anew."""
    got = again(tmp_path, kept(untimed(service(20)), network))
    assert got.folds[1] is None
    for one in (got.network, got.folds[4]):
        assert all((a == b).all() for a, b in zip(one.arrays, network.arrays, strict=True))


def test_equal_sessions_are_kept_once(tmp_path, network):
    """Ten times as many sessions of the same three kinds hardly take more."""
    sizes = []
    for count in (500, 5000):
        history.write(tmp_path, kept(timed([[3, 4, 5, 6], [3, 5, 6], [3, 4, 6]] * count), network))
        with np.load(tmp_path / history.NAME) as found:
            sizes.append(len(found["events"]))
    assert sizes[0] == sizes[1] <= 30


def test_beyond_the_limit_the_oldest_give_way(tmp_path, network, monkeypatch):
    """The newest sessions stay."""
    monkeypatch.setattr(history, "EVENTS_MAX", 100)
    sessions = timed(service(80))
    got = again(tmp_path, kept(sessions, network))
    assert len(got.sessions.ids) <= 100
    assert got.sessions.times.max() == sessions.times.max()
    assert len(got.share) == len(got.sessions.units)


def test_what_cannot_be_read_is_one_sentence(tmp_path, network):
    """Missing, damaged, of another bundle."""
    other = SimpleNamespace(digest="e" * 64, path="b", label="b:1")
    with pytest.raises(ConfigError, match="is missing"):
        history.read(tmp_path, other)
    history.write(tmp_path, kept(untimed(service(20)), network))
    with pytest.raises(ConfigError, match="is not of b:1"):
        history.read(tmp_path, other)
    raw = (tmp_path / history.NAME).read_bytes()
    (tmp_path / history.NAME).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ConfigError, match="cannot be read"):
        history.read(tmp_path, other)
