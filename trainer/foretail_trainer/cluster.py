"""Clusters of templates: token features that keep order, truncated SVD, normalised k-means with k from the data.

One template is one point, however many lines it has; so a cluster never cuts a type in two. The number of components
comes from the explained variance, k from the silhouette over a rising grid (Rousseeuw 1987); both curves are returned.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from foretail_trainer.tokens import BLANK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VARIANCE = 0.95
COMPONENTS_MAX = 100
POINTS_MAX = 2_000
"""Points that choose k; all others are assigned to the centres found."""
CLUSTERS_MAX = 64
_COLUMNS = 1 << 14


@dataclass(frozen=True, slots=True)
class Clusters:
    """Where each template lies.

    Attributes:
        labels: int32[n], 0-based.
        k: number of clusters.
        curve: (k, inertia, silhouette) for each k tried.
        explained: share of variance the components keep.
        points: float64[n, 2], the first two components.
    """

    labels: NDArray[np.int32]
    k: int
    curve: tuple[tuple[int, float, float], ...]
    explained: float
    points: NDArray[np.float64]


def features(keys: Sequence[Sequence[str]]) -> csr_matrix:
    """float64[n, columns]: tokens, tokens at their place from either end, pairs in order; idf-weighted, hashed."""
    rows: list[int] = []
    columns: list[int] = []
    for number, key in enumerate(keys):
        words = [token for token in key if token != BLANK]
        names = [f"w {word}" for word in words]
        names += [f"{place} {word}" for place, word in enumerate(words)]
        names += [f"{place - len(words)} {word}" for place, word in enumerate(words)]
        names += [f"p {a} {b}" for a, b in itertools.pairwise(words)]
        for name in sorted(set(names)):
            rows.append(number)
            columns.append(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) % _COLUMNS)
    matrix = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(keys), _COLUMNS))
    matrix.data[:] = 1.0
    held = np.bincount(matrix.indices, minlength=_COLUMNS)
    idf = np.log((1 + len(keys)) / (1 + held)) + 1
    return csr_matrix(matrix.multiply(idf))


def cluster(keys: Sequence[Sequence[str]], *, seed: int = 0) -> Clusters:
    """Clusters of distinct templates (tokens); deterministic for a seed."""
    n = len(keys)
    if n < 4:
        return Clusters(np.zeros(n, np.int32), min(n, 1), (), 1.0, np.zeros((n, 2)))
    with threadpool_limits(1):
        points, explained = _components(features(keys), seed)
        norms = np.linalg.norm(points, axis=1, keepdims=True)
        unit = points / np.where(norms > 0, norms, 1.0)
        random = np.random.default_rng(seed)
        chosen = unit if n <= POINTS_MAX else unit[np.sort(random.choice(n, POINTS_MAX, replace=False))]
        k, curve = _choose(chosen, seed)
        model = KMeans(k, n_init=2, random_state=seed).fit(chosen)
        labels = model.predict(unit)
    flat = points[:, :2] if points.shape[1] > 1 else np.column_stack([points[:, 0], np.zeros(n)])
    return Clusters(labels.astype(np.int32), k, curve, explained, flat)


def _components(matrix: csr_matrix, seed: int) -> tuple[NDArray[np.float64], float]:
    most = min(COMPONENTS_MAX, matrix.shape[0] - 1)
    model = TruncatedSVD(most, random_state=seed)
    points = model.fit_transform(matrix)
    kept = np.cumsum(model.explained_variance_ratio_)
    count = min(int(np.searchsorted(kept, VARIANCE)) + 1, most)
    return points[:, :count], float(kept[count - 1])


def _choose(points: NDArray[np.float64], seed: int) -> tuple[int, tuple[tuple[int, float, float], ...]]:
    """The k of the best silhouette, the smallest on ties, and the curve."""
    n = len(np.unique(points.round(9), axis=0))
    most = min(CLUSTERS_MAX, n // 2)  # clusters of single templates would say nothing
    if most < 2:
        return 1, ()
    grid = sorted({min(most, round(2 * 1.45**step)) for step in range(11)})
    curve = []
    for k in grid:
        model = KMeans(k, n_init=1, random_state=seed).fit(points)
        width = silhouette_score(points, model.labels_) if 1 < len(set(model.labels_)) < len(points) else 0.0
        curve.append((k, float(model.inertia_), float(width)))
    best = max(curve, key=lambda entry: (round(entry[2], 6), -entry[0]))
    return best[0], tuple(curve)
