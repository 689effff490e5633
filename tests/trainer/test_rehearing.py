"""Old sessions judged again: how quiet a bundle is on what it knew, and the start that new types get in its network."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from foretail_trainer import weights
from foretail_trainer.export import distributions
from foretail_trainer.network import Shape, initial
from foretail_trainer.rehearing import Heard, quiet, raised

pytestmark = pytest.mark.trainer


def heard(*scores: tuple[float, int]) -> dict[bytes, Heard]:
    verdicts = [SimpleNamespace(score=score, anomalous=score >= 0.5) for score, _ in scores]
    return {b"%d" % n: Heard(one, weight) for n, (one, (_, weight)) in enumerate(zip(verdicts, scores, strict=True))}


def test_a_bundle_that_raises_no_more_keeps_its_threshold():
    """Two sessions, twice allowed."""
    found = heard((0.6, 1), (0.55, 1), (0.4, 50))
    assert raised(found) == 2
    assert quiet(found, 2, 10.0) == 10.0


def test_the_threshold_rises_just_over_the_first_session_too_many():
    """Score 0.55 is 12.2 bits at a threshold of 10; weights count."""
    found = heard((0.6, 1), (0.55, 3), (0.52, 1), (0.4, 50))
    wanted = quiet(found, 1, 10.0)
    assert 10.0 * 0.55 / 0.45 < wanted < 10.0 * 0.55 / 0.45 * 1.01


def test_new_types_begin_expected_at_their_share_everywhere():
    """Other types keep their order; the mean is geometric."""
    old = initial(Shape("lstm", 1, 8, 4, 7, 6), seed=3)
    window = np.random.default_rng(0).integers(3, 7, (200, 4)).astype(np.int32)
    carried = weights.carried(old, [*range(7), -1, -1])
    logp = distributions(weights.welcomed(carried, [7, 8], window, 0.02), window)
    assert np.exp(logp[:, 7].mean()) == pytest.approx(0.02, rel=0.1)
    assert (logp[:, 7] == logp[:, 8]).all()
    before = distributions(carried, window)[:, 3:7]
    assert (np.argsort(logp[:, 3:7], axis=1) == np.argsort(before, axis=1)).all()


def test_without_new_types_the_network_stays():
    """To the bit."""
    old = initial(Shape("lstm", 1, 8, 4, 7, 6), seed=3)
    assert weights.welcomed(old, [], np.zeros((3, 4), np.int32), 0.1) is old
