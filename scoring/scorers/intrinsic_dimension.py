"""Local intrinsic dimension at each example (Levina and Bickel 2004, eq. 8 and 9), on features.

    m̂_k(x) = [ (1/(k−1)) Σ_{j<k} log(T_k(x) / T_j(x)) ]⁻¹           m̂(x) = mean of m̂_k(x) over k = k₁ … k₂

with T_j(x) the distance to the j-th nearest neighbour. High where the examples nearby vary in many directions, which
goes with hard ones. No label is used. A duplicate (T₁ = 0) or equal radii (Σ = 0) leave m̂_k undefined: null.

Inputs (n, d) features → (n,). Neighbours are those of the same split: exact up to ``EXACT`` examples, else found by
pynndescent, in about n log n; distances are exact for those found. On 60,000 Fashion-MNIST images (84 features of a
LeNet) 500 dimensions drawn at random were those of exact neighbours to 1e-7. scikit-dimension's MLE agrees at a single
k (its ``unbiased`` divides by k − 2, which the paper only mentions), and has no mean over k. Cost: the neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.data.nearest_neighbours import EXACT, GRAPH, graph_of
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard

BLOCK = 4 << 20


def intrinsic_dimension(radii: np.ndarray, k1: int = 10, k2: int = 20) -> np.ndarray:
    """(n, ≥ k2) sorted distances to the nearest neighbours → (n,) dimension, averaged over k = k1 … k2.

    NaN where a distance is 0 or not finite, or where the k radii of one k are all equal.

    >>> intrinsic_dimension(np.array([[1.0, 2.0, 4.0], [0.0, 1.0, 2.0], [3.0, 3.0, 3.0]]), 2, 3).round(3).tolist()
    [1.202, nan, nan]
    """
    if not 2 <= k1 <= k2 or radii.shape[1] < k2:
        raise HardlookError(
            f"intrinsic dimension with k1 = {k1}, k2 = {k2} and {radii.shape[1]} neighbours; needed 2 ≤ k1 ≤ k2 ≤ "
            "neighbours"
        )
    radii = np.asarray(radii[:, :k2], dtype=np.float64)
    usable = (np.isfinite(radii) & (radii > 0)).all(1)
    logs = np.log(np.where(usable[:, None], radii, 1.0))
    ks = np.arange(k1, k2 + 1)
    sums = (ks - 1) * logs[:, ks - 1] - np.cumsum(logs, axis=1)[:, ks - 2]
    equal = radii[:, ks - 1] == radii[:, :1]  # the sum is then 0, but for its rounding
    usable &= ~equal.any(1)
    dimension = np.divide(ks - 1, sums, out=np.full(sums.shape, np.nan), where=usable[:, None])
    return dimension.mean(1)


def neighbour_radii(features: np.ndarray, k: int, seed: int = 0, exact: int = EXACT) -> np.ndarray:
    """(n, d) → (n, k) sorted Euclidean distances to the k nearest other examples; exact zeros for duplicates.

    Up to ``exact`` examples they are the nearest; else nearly all of them are.
    """
    x = np.ascontiguousarray(features, dtype=np.float32)
    if len(x) <= exact:
        from sklearn.neighbors import NearestNeighbors

        found = NearestNeighbors(n_neighbors=k + 1).fit(x).kneighbors(x, return_distance=False)
    else:
        found, _ = graph_of(x, seed, max(k + 1, GRAPH)).neighbor_graph
    return np.sort(_distances(x, found), axis=1)[:, :k]


def _distances(x: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(n, ≥ k+1) neighbours' numbers → distances in float64, infinite to the example itself."""
    distances = np.empty(found.shape)
    step = max(1, BLOCK // (found.shape[1] * x.shape[1]))
    for start in range(0, len(x), step):
        at = slice(start, start + step)
        away = x[found[at]].astype(np.float64) - x[at, None].astype(np.float64)
        distances[at] = np.sqrt(np.einsum("nkd,nkd->nk", away, away))
    distances[found == np.arange(len(x))[:, None]] = np.inf
    return distances


@dataclass(frozen=True, kw_only=True)
class IntrinsicDimension(Scorer):
    """Levina-Bickel dimension on the last checkpoint's features, among examples of the same split.

    ``k1``: smallest number of neighbours to average over, 10 in the paper. ``k2``: largest number of neighbours to
    average over, 20 in the paper; fewer in a split with fewer examples.
    """

    name = "intrinsic_dimension"
    needs = ("features",)
    columns = (
        Column(
            name="dimension",
            family="intrinsic dimension",
            title="Intrinsic dimension",
            unit="dimensions",
            suspicious="measured",
            detects="difficulty",
            uses_label=False,
            help="Number of directions in which the nearest examples vary in feature space; null for exact "
            "duplicates. Whether high or low is hard is measured per run.",
        ),
    )

    k1: int = 10
    k2: int = 20

    def depends(self, context: RunContext) -> int:
        """Everybody's features: one example more may be a neighbour of any."""
        return context.run.features_path.stat().st_mtime_ns

    def fit(self, context: RunContext, workdir: Path) -> dict[str, float]:
        """Dimension of every example by id, split by split."""
        features, splits = context.features, context.examples["split"].to_numpy(dtype=object)
        values = np.full(len(features), np.nan)
        for split in sorted(set(splits)):
            rows = np.flatnonzero((splits == split) & np.isfinite(features).all(1))
            k2 = min(self.k2, len(rows) - 1)
            if k2 >= self.k1:
                radii = neighbour_radii(features[rows], k2, context.audit.seed)
                values[rows] = intrinsic_dimension(radii, self.k1, k2)
        return dict(zip(context.examples["example_id"], values, strict=True))

    def score(self, shard: Shard, state: dict[str, float]) -> Columns:
        """Look the shard's examples up."""
        return {"dimension": np.asarray([state[name] for name in shard.example_id])}
