"""A stream that follows another one knows what it will be asked, by its own bundle."""

from __future__ import annotations

import pytest
from renumbered import renumbered
from swapping import GOLDEN, LINES

from foretail import bundle as bundles
from foretail.lines import Batch, Source
from foretail.stream import Stream
from foretail.telling import Options
from foretail.warming import warm


def fed(stream: Stream, first: int, last: int) -> list[bytes]:
    """Records of some lines of the log."""
    lines = [line.rstrip(b"\n") for line in LINES[first:last]]
    offsets = [sum(map(len, LINES[:row])) for row in range(first, last)]
    return stream.feed(Batch("s", Source("a" * 24, "/log", whole=True), lines, offsets, 0, 1.8e9))


@pytest.fixture
def pair(tmp_path):
    """A stream at work, and one on a bundle with other numbers."""
    old = bundles.read(GOLDEN)
    running, fresh = (Stream(b, Options("s", emit="lines")) for b in (old, renumbered(old, tmp_path / "twin", 2)))
    fed(running, 0, 500)
    return running, fresh


def test_what_was_seen_of_late_is_a_hit_at_once(pair):
    """Lines and windows, in the numbers of the new bundle; nothing of the warming is counted."""
    running, fresh = pair
    warm(fresh, running)
    assert fresh.matcher.stats.lines == fresh.model.memo.misses == fresh.model.memo.hits == 0
    fed(fresh, 0, 500)
    assert fresh.matcher.stats.misses == 0
    assert fresh.matcher.stats.hits == 500
    assert fresh.model.memo.misses <= 2  # of ends that were judged while the log was at its start


def test_a_warm_stream_gives_what_a_cold_one_gives(pair):
    """A memo changes no record."""
    running, fresh = pair
    cold = Stream(fresh.bundle, Options("s", emit="lines"))
    warm(fresh, running)
    fresh.take(running)
    cold.take(running)
    assert fed(fresh, 500, len(LINES)) == fed(cold, 500, len(LINES))


def test_a_stream_that_has_seen_nothing_warms_nothing(pair):
    """Nor does it fail."""
    _, fresh = pair
    again = Stream(fresh.bundle, Options("s"))
    warm(again, fresh)
    assert again.matcher.stats.memo_entries == 0
