"""A model of pairs, fitted in a millisecond: what the cross-fit needs of a network, without one."""

import numpy as np

from foretail.schema import END, PAD
from foretail_trainer.sequences import Sessions, plain, sessions

V = 9


def fitter(part: Sessions, partial, _seed):
    """Counts of pairs, END included, with a little for what never came."""
    pairs = np.full((V, V), 0.01)
    weight = np.repeat(part.weight, part.stops - part.starts)
    before = np.append(PAD, part.ids[:-1])
    before[part.starts] = np.where(partial, 2, PAD)
    np.add.at(pairs, (before, part.ids), weight)
    np.add.at(pairs, (part.ids[part.rests], END), weight[part.rests])
    nats = -np.log(pairs / pairs.sum(axis=1, keepdims=True))
    return lambda window, target: nats[window[:, -1], target]


def service(n=2000, seed=0, odd=()):
    """Sessions 3 4 4? 5 6, one every ten seconds; `odd` rows of ids take the place of every 50th."""
    rng = np.random.default_rng(seed)
    rows = [[3, 4, *[4] * int(rng.integers(0, 3)), 5, 6] for _ in range(n)]
    for i, row in enumerate(odd):
        rows[i * 50 + 25] = list(row)
    return rows


def timed(rows, every=10.0):
    """Rows as timed sessions of keys k0, k1, ..."""
    flat = [(f"k{i}".encode(), name, i * every + j) for i, row in enumerate(rows) for j, name in enumerate(row)]
    flat.append((b"late", 3, len(rows) * every + 1000))
    keys, ids, times = zip(*flat, strict=True)
    return sessions(np.array(ids, np.int32), list(keys), np.array(times, float), vocabulary=V)


def untimed(rows):
    """Rows as sessions without time."""
    return plain([np.array(row, np.int32) for row in rows])
