"""Pure: what each event costs in bits under an n-gram model of its session, in columns.

Interpolated Witten-Bell smoothing (Witten and Bell, IEEE Trans. Inf. Theory 37, 1991): each order mixes what it counted
with the next shorter one, by how often its context was followed by something new. Crude beside an LSTM, and a thousand
times cheaper; it ranks session keys the same way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

ORDER = 3
CODE_MAX = 1 << 15  # (ORDER + 1) ids of 15 bits fill an int64


def histories(ids: NDArray[np.int64], session: NDArray[np.int64], order: int = ORDER) -> list[NDArray[np.int64]]:
    """The context of each event at each order, as one number: int64 [n] for orders 0 .. `order`.

    Args:
        ids: int64 [n], 1 .. CODE_MAX - 1; 0 stands for the time before the session.
        session: int64 [n], which session each event belongs to; its events are in the order given.
        order: events of context.
    """
    sort = np.argsort(session, kind="stable")
    sorted_ids, sorted_session = ids[sort], session[sort]
    result = [np.zeros(len(ids), np.int64)]
    for back in range(1, order + 1):
        before = np.zeros(len(ids), np.int64)
        same = sorted_session[back:] == sorted_session[:-back]
        before[back:][same] = sorted_ids[:-back][same]
        context = np.empty(len(ids), np.int64)
        context[sort] = before
        result.append(result[-1] * CODE_MAX + context)
    return result


def bits(ids: NDArray[np.int64], contexts: list[NDArray[np.int64]], vocabulary: int) -> NDArray[np.float64]:
    """-log2 p(event | its contexts), mixed over the first contexts, for each number of them: float64 [contexts, n].

    Prequential (Dawid, JRSS A 147, 1984): each event is predicted from the events before it and then learnt, so that
    nothing is predicted by itself, and a change of the log costs no more than it takes to learn it.

    Args:
        ids: int64 [n], what came, in order.
        contexts: the context of each event as a number, shortest first.
        vocabulary: number of possible ids.
    """
    p = np.full(len(ids), 1.0 / vocabulary)
    result = np.empty((len(contexts), len(ids)))
    for row, context in enumerate(contexts):
        total, kinds, follows = _counted(context, ids)
        p = np.where(total > 0, (follows + kinds * p) / np.maximum(total + kinds, 1), p)
        result[row] = -np.log2(p)
    return result


def _counted(
    context: NDArray[np.int64], ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Before each event: how often its context came, with how many kinds of events behind it, how often with this."""
    _, code = np.unique(context, return_inverse=True)
    _, first, pair = np.unique(code * CODE_MAX + ids, return_index=True, return_inverse=True)
    new = np.zeros(len(ids), np.int64)
    new[first] = 1
    return _before(code, np.ones(len(ids), np.int64)), _before(code, new), _before(pair, np.ones(len(ids), np.int64))


def _before(codes: NDArray[np.int64], amount: NDArray[np.int64]) -> NDArray[np.int64]:
    """The sum of `amount` over earlier events of the same code: int64 [n]."""
    order = np.argsort(codes, kind="stable")
    reached = np.cumsum(amount[order]) - amount[order]
    begins = np.append(True, codes[order][1:] != codes[order][:-1])[: len(codes)]
    result = np.empty(len(codes), np.int64)
    result[order] = reached - np.maximum.accumulate(np.where(begins, reached, 0))
    return result
