"""Cross-fit: each fifth of the training sessions as a model fitted on the other four sees it (DESIGN §6).

The fifths are blocks of time, so that what the log does only for a while counts as what it is: new to a model that
has not seen that while. Without times they are a seeded, stratified deal of the single sessions behind each weight.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np

from foretail.schema import END, PAD, UNKNOWN
from foretail.surprise import soft
from foretail_trainer.sequences import Sessions, spread
from foretail_trainer.vectors import learn, resting, upto

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from foretail.counts import Counts
    from foretail.surprise import Scores, Surprise

FOLDS = 5
RARE_BELOW = 3
"""Events of a type below which it is rare."""
_CHUNK = 1 << 18
_KNOWN_MAX = 1 << 19  # distinct windows remembered: some 60 MB
_LN2 = float(np.log(2))


class Scorer(Protocol):
    """A fitted model."""

    def __call__(self, window: NDArray[np.int32], target: NDArray[np.int32], /) -> NDArray[np.floating]:
        """Windows int32 `[n, C]` and targets int32 `[n]` -> float `[n]`, -ln p(target | window)."""


class Fitter(Protocol):
    """How a model is fitted."""

    def __call__(self, sessions: Sessions, partial: NDArray[np.bool_], seed: int, /) -> Scorer:
        """Fit on sessions; bool `[s]` says of which the beginning was not seen."""


@dataclass(frozen=True, slots=True)
class Held:
    """Units as a model saw them that was not fitted on them; h rows (a unit of weight 5 may have a row in each fold).

    Attributes:
        unit: int64 `[h]`, index in `Sessions.units`.
        fold: int64 `[h]`.
        weight: int64 `[h]`: how many of the unit lie in that fold.
        n: int64 `[h]`: events up to the last rest; all events where it never rested.
        top: float64 `[h]`: the greatest surprise of an event of known type, bits.
        place: int64 `[h]`: that event, as index in `Sessions.ids`.
        novel: int64 `[h]`: events whose type is unknown or rare in the other folds.
        strange: int64 `[h]`: the least model id of such a type; 0 = none.
        unknown: bool `[h]`: one of them is unknown there.
        end: float64 `[h]`: bits of END at the last rest.
        ended: bool `[h]`: it rested; a block: it is full.
        distance: float64 `[h]`: bits from its type counts to the nearest normal ones.
        odd: int64 `[h]`: the rarest type that adds to them; unknown ones under their own id.
    """

    unit: NDArray[np.int64]
    fold: NDArray[np.int64]
    weight: NDArray[np.int64]
    n: NDArray[np.int64]
    top: NDArray[np.float64]
    place: NDArray[np.int64]
    novel: NDArray[np.int64]
    strange: NDArray[np.int64]
    unknown: NDArray[np.bool_]
    end: NDArray[np.float64]
    ended: NDArray[np.bool_]
    distance: NDArray[np.float64]
    odd: NDArray[np.int64]

    def combined(self, surprise: Surprise) -> Scores:
        """The verdict of each row, as the agent would give it."""
        return surprise.combine(
            top=self.top,
            end=self.end,
            ended=self.ended & (not surprise.blocks),
            unknown=self.unknown,
            novel=self.novel > 0,
            distance=self.distance,
            length=np.where(self.ended, surprise.length(self.n), 0.0),
        )

    def network(self, surprise: Surprise, chances: float) -> NDArray[np.float64]:
        """What the network would say by itself: float64 `[h]`, bits.

        Args:
            surprise: the scale.
            chances: log2 of the events of a mean unit: it has so many chances to hold a rare event, and one end.
        """
        end = np.where(self.ended & (not surprise.blocks), soft(self.end, surprise.cap), 0.0)
        most = np.maximum(np.maximum(soft(self.top, surprise.cap + chances) - chances, 0.0), end)
        bits: NDArray[np.float64] = np.where(self.unknown, np.maximum(most, surprise.cap), most)
        return bits

    @staticmethod
    def join(parts: list[Held]) -> Held:
        """The rows of all folds."""
        return Held(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Held)})


def deal(sessions: Sessions, seed: int = 0, folds: int = FOLDS) -> NDArray[np.int64]:
    """How much of each unit's weight lies in each fold: int64 `[u, folds]`."""
    weight = sessions.weight[sessions.owner]
    units = len(sessions.units)
    if len(sessions.times):
        share = np.zeros((units, folds), np.int64)
        order = np.argsort(sessions.times[sessions.units], kind="stable")
        share[order, np.arange(units) * folds // max(units, 1)] = weight[order]
        return share
    rng = np.random.default_rng([seed, 5])
    order = rng.permutation(units)
    share = np.repeat(weight[:, None] // folds, folds, axis=1)
    rest = weight[order] % folds
    next_fold = np.cumsum(rest) - rest + rng.integers(folds)
    for extra in range(folds - 1):
        more = rest > extra
        share[order[more], (next_fold[more] + extra) % folds] += 1
    return share


def cross_fit(
    sessions: Sessions,
    share: NDArray[np.int64],
    fitter: Fitter,
    *,
    window: int,
    vocabulary: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Held:
    """Score each fold by a model, and a table of counts, made from the others.

    Args:
        sessions: all training sessions.
        share: int64 `[u, folds]`, see `deal`.
        fitter: fits a model; called once a fold.
        window: C.
        vocabulary: V.
        seed: of the first fold's fit; the next ones follow.
        progress: called with folds done and all folds.
    """
    parts = []
    folds = share.shape[1]
    for fold in range(folds):
        weight = share.sum(axis=1) - share[:, fold]
        if share[:, fold].any() and weight.any():
            scorer, counts, ids, rare = fold_model(sessions, weight, fitter, vocabulary, seed + fold)
            parts.append(score(sessions, share[:, fold], ids, rare, scorer, counts, window=window, fold=fold))
        if progress:
            progress(fold + 1, folds)
    return Held.join(parts)


def fold_model(
    sessions: Sessions, weight: NDArray[np.int64], fitter: Fitter, vocabulary: int, seed: int
) -> tuple[Scorer, Counts, NDArray[np.int32], NDArray[np.bool_]]:
    """Fit on the units of some weight.

    Returns:
        The model, the table of counts, int32 `[e]` the ids of all events with types that those units do not hold as
        UNKNOWN, and bool `[V]` the types that are rare in them.
    """
    lengths = sessions.unit_stops - sessions.units
    support = np.bincount(sessions.ids, np.repeat(weight, lengths), vocabulary)
    ids = np.where(support[sessions.ids] > 0, sessions.ids, UNKNOWN).astype(np.int32)
    part, partial = restricted(sessions, weight, ids)
    scorer = fitter(part, partial, seed)
    return scorer, learn(*resting(sessions, weight, ids, vocabulary)), ids, (support > 0) & (support < RARE_BELOW)


def restricted(
    sessions: Sessions,
    weight: NDArray[np.int64],
    ids: NDArray[np.int32],
    partial: NDArray[np.bool_] | None = None,
) -> tuple[Sessions, NDArray[np.bool_]]:
    """Sessions of the units that have weight; a run of blocks inside an endless session is a session of its own.

    Args:
        sessions: u units.
        weight: int64 `[u]`.
        ids: int32 `[e]` instead of theirs.
        partial: bool `[s]`: of these sessions the beginning was not seen.

    Returns:
        The sessions, and bool `[s]`: their beginning was not seen.
    """
    kept = weight > 0
    lengths = sessions.unit_stops - sessions.units
    opens = np.append(True, sessions.owner[1:] != sessions.owner[:-1])[: len(kept)]
    begins = kept & (opens | ~np.append(False, kept[:-1]))
    run = np.cumsum(begins)[kept] - 1
    events = np.repeat(kept, lengths)
    size = np.bincount(run, lengths[kept]).astype(np.int64)
    part = spread(
        sessions,
        ids[events],
        size,
        weight=weight[begins],
        censored=sessions.censored[sessions.owner[begins]],
        rests=sessions.rests[events],
        times=sessions.times[events] if len(sessions.times) else sessions.times,
        keys=[],
    )
    unseen = ~opens[begins]
    return part, unseen if partial is None else unseen | partial[sessions.owner[begins]]


def score(
    sessions: Sessions,
    weight: NDArray[np.int64],
    ids: NDArray[np.int32],
    rare: NDArray[np.bool_],
    scorer: Scorer,
    counts: Counts,
    *,
    window: int,
    fold: int = 0,
) -> Held:
    """Units of some weight as a model sees them.

    Args:
        sessions: u units.
        weight: int64 `[u]`.
        ids: int32 `[e]` ids as the model knows them.
        rare: bool `[V]`.
        scorer: the model.
        counts: normal type counts.
        window: C.
        fold: number to note.
    """
    vocabulary = len(rare)
    units = np.flatnonzero(weight > 0)
    starts, stops = sessions.units[units], sessions.unit_stops[units]
    lengths = stops - starts
    first = np.cumsum(lengths) - lengths
    events = np.repeat(starts - first, lengths) + np.arange(int(lengths.sum()))
    begin = sessions.starts[sessions.owner]
    bits = surprises(scorer, ids, np.repeat(begin[units], lengths), events, ids[events], window)
    bits[ids[events] == UNKNOWN] = 0.0
    novel = (ids[events] == UNKNOWN) | rare[ids[events]]
    unknown = np.logical_or.reduceat(ids[events] == UNKNOWN, first)
    top = np.maximum.reduceat(bits, first)
    place = np.array(
        [a + int(bits[b : b + n].argmax()) for a, b, n in zip(starts, first, lengths, strict=True)], np.int64
    )
    strange = np.minimum.reduceat(np.where(novel, sessions.ids[events], vocabulary), first)
    last = sessions.last_rest(units)
    ended = last > starts
    stop = np.where(ended, last, stops)
    end = np.zeros(len(units))
    if not sessions.endless and ended.any():
        targets = np.full(int(ended.sum()), END, np.int32)
        end[ended] = surprises(scorer, ids, begin[units[ended]], last[ended], targets, window)
    vectors = upto(sessions, units, stop, ids, vocabulary).astype(np.int64)
    distance = np.where(ended, counts.distance(vectors), 0.0)
    support = np.bincount(sessions.ids, minlength=vocabulary)
    odd = np.where(counts.prices(vectors) > 0, support, len(ids) + 1).argmin(axis=1)
    strange = np.where(strange < vocabulary, strange, 0)
    return Held(
        unit=units,
        fold=np.full(len(units), fold),
        weight=weight[units],
        n=stop - starts,
        top=top,
        place=place,
        novel=np.add.reduceat(novel, first),
        strange=strange,
        unknown=unknown,
        end=end,
        ended=ended,
        distance=distance,
        odd=np.where(odd == UNKNOWN, strange, odd),
    )


def surprises(
    scorer: Scorer,
    ids: NDArray[np.int32],
    begin: NDArray[np.int64],
    stop: NDArray[np.int64],
    target: NDArray[np.int32],
    window: int,
) -> NDArray[np.float64]:
    """Bits of each target after the C events before `stop` in a session that began at `begin`: float64 `[m]`."""
    multipliers = np.random.default_rng(0).integers(1, 2**63, window + 1, np.uint64) * 2 + 1
    result = np.zeros(len(stop))
    known: dict[int, float] = {}
    for start in range(0, len(stop), _CHUNK):
        part = slice(start, start + _CHUNK)
        rows = contexts(ids, begin[part], stop[part], window)
        pairs = np.concatenate([rows, target[part, None]], axis=1).astype(np.uint64)
        hashes, where, inverse = np.unique(pairs @ multipliers, return_index=True, return_inverse=True)
        fresh = np.array([name not in known for name in hashes.tolist()], np.bool_)
        if len(known) > _KNOWN_MAX:
            known = {}
            fresh[:] = True
        chosen = where[fresh]
        if len(chosen):
            nats = scorer(np.ascontiguousarray(rows[chosen]), target[part][chosen])
            known |= zip(hashes[fresh].tolist(), (np.asarray(nats, np.float64) / _LN2).tolist(), strict=True)
        result[part] = np.array([known[name] for name in hashes.tolist()])[inverse.ravel()]
    return result


def contexts(
    ids: NDArray[np.int32], begin: NDArray[np.int64], stop: NDArray[np.int64], window: int
) -> NDArray[np.int32]:
    """The C events before `stop`, PAD before `begin`: int32 `[m, C]`."""
    index = stop[:, None] + np.arange(-window, 0)
    rows: NDArray[np.int32] = np.where(index >= begin[:, None], ids[np.maximum(index, 0)], PAD).astype(np.int32)
    return rows
