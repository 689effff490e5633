"""The n-gram model that ranks keys: proper probabilities, learnt only from what came before."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretail_trainer.backoff import bits, histories

pytestmark = pytest.mark.trainer


def slowly(events, sessions, order, vocabulary):
    """The same by dictionaries, one event at a time."""
    counts, past, result = {}, {}, []
    for event, session in zip(events, sessions, strict=True):
        history = past.setdefault(session, [0] * order)
        contexts = [(k, *history[len(history) - k :]) for k in range(order + 1)]
        p = 1 / vocabulary
        for context in contexts:
            seen = counts.get(context, {})
            total, kinds = sum(seen.values()), len(seen)
            p = (seen.get(event, 0) + kinds * p) / (total + kinds) if total else p
        result.append(-np.log2(p))
        for context in contexts:
            seen = counts.setdefault(context, {})
            seen[event] = seen.get(event, 0) + 1
        history.append(event)
    return result


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2)), max_size=60), st.integers(1, 3))
def test_columns_give_what_a_loop_gives(events, order):
    """All events at once cost what they cost one after another."""
    ids = np.array([e for e, _ in events], np.int64)
    session = np.array([s for _, s in events], np.int64)
    found = bits(ids, histories(ids, session, order), 6)
    assert found.shape == (order + 1, len(events))
    assert found[-1].tolist() == pytest.approx(slowly(*zip(*events, strict=True), order, 6) if events else [])


def test_a_repeated_sequence_becomes_cheap():
    """After some rounds of one cycle the next event costs next to nothing; the first costs log2 of the vocabulary."""
    ids = np.tile(np.array([1, 2, 3], np.int64), 100)
    found = bits(ids, histories(ids, np.zeros(300, np.int64)), 8)[-1]
    assert found[0] == 3
    assert found[-30:].max() < 0.05


def test_sessions_have_histories_of_their_own():
    """Interleaved sessions are seen apart: each context holds events of its own session only."""
    ids = np.array([1, 5, 2, 6], np.int64)
    contexts = histories(ids, np.array([0, 1, 0, 1], np.int64), 1)
    assert contexts[1].tolist() == [0, 0, 1, 5]
