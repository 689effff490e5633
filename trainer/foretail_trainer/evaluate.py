"""How well a bundle finds labelled anomalies: per detector, combined, and beside what simple counting finds.

Numbers only; `report` shows them. Labels are used to count, never to choose: every threshold is the bundle's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from foretail.schema import END, PAD, UNKNOWN
from foretail_trainer.crossfit import score
from foretail_trainer.findings import EvaluateRow
from foretail_trainer.vectors import at_last_rest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from foretail.schema import Calibration
    from foretail.surprise import Scores, Surprise
    from foretail_trainer.crossfit import Held, Scorer
    from foretail_trainer.sequences import Sessions

DRAWS = 2000
DETECTORS = {
    "combined": "what the bundle decides",
    "lstm": "sequence and end of the network; an unknown type is as surprising as anything can be",
    "sequence": "the most surprising event",
    "end": "the end",
    "novelty": "types unknown or rare",
    "counts": "distance to the nearest normal type counts",
}


@dataclass(frozen=True, slots=True)
class Judged:
    """Labelled sessions and what the bundle says of each unit.

    Attributes:
        sessions: u units, each taken as ended.
        held: their raw terms.
        scores: combined.
        surprise: the bundle's scale.
        chances: log2 of the events of a mean unit, see `Held.network`.
    """

    sessions: Sessions
    held: Held
    scores: Scores
    surprise: Surprise
    chances: float

    def bits(self, detector: str) -> NDArray[np.float64]:
        """float64 `[u]` of one of DETECTORS."""
        if detector == "combined":
            return self.scores.x
        if detector == "lstm":
            return self.held.network(self.surprise, self.chances)
        return self.scores.terms[detector]


def judge(sessions: Sessions, scorer: Scorer, surprise: Surprise, rare: NDArray[np.bool_], *, window: int) -> Judged:
    """What a bundle says of sessions whose last event is their end.

    Args:
        sessions: u units.
        scorer: the bundle's model (`SequenceModel.surprise` fits).
        surprise: the bundle's scale.
        rare: bool `[V]`: rare types.
        window: C.
    """
    ended = np.zeros(len(sessions.ids), np.bool_)
    ended[sessions.stops - 1] = True
    sessions = replace(sessions, rests=ended)
    weight = sessions.weight[sessions.owner]
    held = score(sessions, weight, sessions.ids, rare, scorer, surprise.counts, window=window)
    events = float((weight * (sessions.unit_stops - sessions.units)).sum() / max(weight.sum(), 1))
    return Judged(sessions, held, held.combined(surprise), surprise, float(np.log2(max(events, 1.0))))


def rows(
    judged: Judged, anomalous: NDArray[np.bool_], calibration: Calibration, train: Sessions | None = None, seed: int = 0
) -> list[EvaluateRow]:
    """The table of an evaluation: combined first, then each detector alone, then baselines.

    Args:
        judged: u units.
        anomalous: bool `[u]`, the labels.
        calibration: of the bundle: thresholds of the detectors alone are in its `weights` (`alone_NAME`).
        train: the training sessions, for the baselines; None: no baselines.
        seed: of the bootstrap.
    """
    weight = judged.sessions.weight[judged.sessions.owner]
    judged = replace(judged, chances=calibration.weights.get("chances", judged.chances))
    found = []
    for name, note in DETECTORS.items():
        t = calibration.threshold if name == "combined" else calibration.weights.get(f"alone_{name}")
        if t is None:
            continue
        bits = judged.bits(name)
        found.append(row(name, bits >= t, anomalous, weight, bits, note, ours=name == "combined", seed=seed))
    if train is not None:
        for name, (raised, note) in baselines(train, judged.sessions, calibration.alpha).items():
            found.append(row(name, raised, anomalous, weight, None, note, seed=seed))
    return found


def row(
    name: str,
    raised: NDArray[np.bool_],
    anomalous: NDArray[np.bool_],
    weight: NDArray[np.int64],
    bits: NDArray[np.float64] | None = None,
    note: str = "",
    *,
    ours: bool = False,
    seed: int = 0,
) -> EvaluateRow:
    """Precision, recall, F1 with a bootstrap 95 % interval over single sessions, and average precision of `bits`."""
    tp, fp, fn, tn = (
        int(weight[cell].sum())
        for cell in (raised & anomalous, raised & ~anomalous, ~raised & anomalous, ~raised & ~anomalous)
    )
    low, high = interval(tp, fp, fn, tn, seed)
    return EvaluateRow(
        detector=name,
        precision=tp / (tp + fp) if tp + fp else 0.0,
        recall=tp / (tp + fn) if tp + fn else 0.0,
        f1=f1(tp, fp, fn),
        f1_low=low,
        f1_high=high,
        ap=average_precision(anomalous, bits, weight) if bits is not None else None,
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        ours=ours,
        note=note,
    )


def f1(tp: int, fp: int, fn: int) -> float:
    """2 TP / (2 TP + FP + FN); 0 where nothing is right."""
    return 2 * tp / (2 * tp + fp + fn) if tp else 0.0


def interval(tp: int, fp: int, fn: int, tn: int, seed: int = 0) -> tuple[float, float]:
    """Bootstrap 95 % interval of F1: sessions drawn again with replacement (which is a multinomial of four cells)."""
    total = tp + fp + fn + tn
    if not total:
        return 0.0, 0.0
    draws = np.random.default_rng(seed).multinomial(total, np.array([tp, fp, fn, tn]) / total, DRAWS)
    scores = 2 * draws[:, 0] / np.maximum(2 * draws[:, 0] + draws[:, 1] + draws[:, 2], 1)
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def average_precision(anomalous: NDArray[np.bool_], bits: NDArray[np.float64], weight: NDArray[np.int64]) -> float:
    """Sum over falling thresholds of precision x the recall it adds; equal scores are one threshold."""
    order = np.argsort(-bits, kind="stable")
    right = np.cumsum(np.where(anomalous, weight, 0)[order])
    both = np.cumsum(weight[order])
    last = np.append(bits[order][1:] != bits[order][:-1], True)
    if not len(order) or not right[-1]:
        return 0.0
    recall = np.append(0.0, right[last] / right[-1])
    return float((np.diff(recall) * right[last] / both[last]).sum())


def baselines(train: Sessions, test: Sessions, alpha: float) -> dict[str, tuple[NDArray[np.bool_], str]]:
    """What needs no network: bool `[u]` raised, and how.

    Args:
        train: normal sessions.
        test: u units.
        alpha: false alerts a session that the length rule may spend.
    """
    vocabulary = int(max(train.ids.max(initial=UNKNOWN), test.ids.max(initial=UNKNOWN))) + 1
    return {
        "unseen vector": (_unseen_vector(train, test, vocabulary), "type counts that no training session has"),
        "unseen 2-gram": (_unseen_pair(train, test, vocabulary), "two types in a row that never were, ends included"),
        "length": (_length(train, test, alpha), "fewer or more events than all but alpha of the training sessions"),
    }


def _unseen_vector(train: Sessions, test: Sessions, vocabulary: int) -> NDArray[np.bool_]:
    known, which = at_last_rest(train, vocabulary)
    seen = {vector.tobytes() for vector in known[np.unique(which)]}
    vectors, which = at_last_rest(test, vocabulary)
    return np.array([vector.tobytes() not in seen for vector in vectors], np.bool_)[which]


def _unseen_pair(train: Sessions, test: Sessions, vocabulary: int) -> NDArray[np.bool_]:
    known, _ = _pairs(train, vocabulary)
    pairs, unit = _pairs(test, vocabulary)
    odd = ~np.isin(pairs, known)
    return np.bincount(unit, odd, len(test.units)) > 0


def _pairs(sessions: Sessions, vocabulary: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each event with the one before it, and END where a unit rested; and the unit of each pair."""
    unit = np.repeat(np.arange(len(sessions.units)), sessions.unit_stops - sessions.units)
    before = np.append(PAD, sessions.ids[:-1]).astype(np.int64)
    before[sessions.units] = PAD
    rests = np.flatnonzero(sessions.rests)
    pairs = np.append(before * vocabulary + sessions.ids, sessions.ids[rests].astype(np.int64) * vocabulary + END)
    return pairs, np.append(unit, unit[rests])


def _length(train: Sessions, test: Sessions, alpha: float) -> NDArray[np.bool_]:
    weight = train.weight[train.owner]
    size = np.repeat(train.unit_stops - train.units, weight)
    low, high = np.quantile(size, [alpha / 2, 1 - alpha / 2], method="inverted_cdf")
    mine = test.unit_stops - test.units
    return np.asarray((mine < low) | (mine > high), np.bool_)


def by_key(keys: Sequence[bytes], raised: NDArray[np.bool_]) -> dict[bytes, bool]:
    """A key is raised by any of its sessions (`session_f1.py` counts so)."""
    result: dict[bytes, bool] = {}
    for key, over in zip(keys, raised.tolist(), strict=True):
        result[key] = result.get(key, False) or over
    return result
