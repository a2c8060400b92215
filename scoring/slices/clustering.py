"""Clusters of vectors: K-means with normalised centroids, DBSCAN, and spectral clustering of a neighbour
graph.

K-means here maximises Σ_i x_i · c(i) over unit centroids c: the influence that the members of a cluster have
along its own direction. Assignment is by largest inner product, a centroid is its members' normalised sum,
seeding is k-means++ with the loss ‖x‖ − x·c, and an empty cluster is seeded anew at the worst-served vector.

Vectors (n, d) go in; a cluster per row (n,) comes out, −1 for none.

Cost: n · k · d multiply-adds per iteration and start; DBSCAN and spectral need neighbours, n² d at worst.

Known limits: a zero vector has no direction and gets no cluster in K-means.
"""

from __future__ import annotations

import warnings

import numpy as np

ITERATIONS = 100
NEIGHBOURS = 10


def kmeans(vectors: np.ndarray, k: int, *, seed: int | np.random.SeedSequence = 0, n_init: int = 10) -> np.ndarray:
    """The best of ``n_init`` starts of K-means with unit centroids: (n, d) → (n,) in 0 … k−1, −1 for zero
    vectors.

    Fewer than k distinct directions give fewer clusters. Deterministic for a seed.

    >>> kmeans(np.array([[1.0, 0.0], [2.0, 0.1], [0.0, 3.0]]), 2).tolist() in ([0, 0, 1], [1, 1, 0])
    True
    """
    lengths = np.linalg.norm(vectors, axis=1)
    alive = np.flatnonzero(lengths > 0)
    assigned = np.full(len(vectors), -1)
    if len(alive):
        rng = np.random.default_rng(seed)
        starts = [_start(vectors[alive], lengths[alive], min(k, len(alive)), rng) for _ in range(n_init)]
        assigned[alive] = max(starts, key=lambda start: start[0])[1]
    return assigned


def _start(x: np.ndarray, lengths: np.ndarray, k: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """One run from k-means++ seeds → (objective, clusters)."""
    centres = _seeds(x, lengths, k, rng)
    assigned, similarity = np.full(len(x), -1), np.zeros((len(x), k))
    for _ in range(ITERATIONS):
        similarity = x @ centres.T
        new = similarity.argmax(axis=1)
        if (new == assigned).all():
            break
        assigned = new
        centres = _centres(x, lengths, assigned, similarity)
    return float(np.take_along_axis(similarity, assigned[:, None], axis=1).sum()), assigned


def _seeds(x: np.ndarray, lengths: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """k directions among the vectors, each drawn with probability proportional to what is lost without it."""
    unit = x / lengths[:, None]
    loss = lengths.copy()
    chosen: list[int] = []
    for _ in range(k):
        total = loss.sum()
        share = loss / total if total > 1e-9 * lengths.sum() else np.full(len(x), 1 / len(x))
        chosen.append(int(rng.choice(len(x), p=share)))
        loss = np.minimum(loss, np.maximum(lengths - x @ unit[chosen[-1]], 0))
    return unit[chosen]


def _centres(x: np.ndarray, lengths: np.ndarray, assigned: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Normalised sums of the members; empty clusters restart at the vectors that lose most where they are."""
    k = similarity.shape[1]
    sums = np.zeros((k, x.shape[1]), dtype=x.dtype)
    np.add.at(sums, assigned, x)
    norms = np.linalg.norm(sums, axis=1)
    empty = np.flatnonzero(norms == 0)
    if len(empty):
        lost = lengths - similarity.max(axis=1)
        worst = np.argsort(-lost, kind="stable")[: len(empty)]
        sums[empty], norms[empty] = x[worst], lengths[worst]
    return sums / norms[:, None]


def dbscan(vectors: np.ndarray, *, eps: float | None = None, min_samples: int = 5) -> np.ndarray:
    """Density clusters in Euclidean distance: (n, d) → (n,), −1 for noise.

    ``eps`` None takes the knee of the sorted distances to the ``min_samples``-th neighbour.
    """
    from sklearn.cluster import DBSCAN

    eps = knee(vectors, min_samples) if eps is None else eps
    return DBSCAN(eps=eps, min_samples=min_samples).fit(vectors).labels_


def knee(vectors: np.ndarray, min_samples: int) -> float:
    """The distance at which the curve of sorted neighbour distances lies furthest below its chord."""
    from sklearn.neighbors import NearestNeighbors

    count = min(min_samples, len(vectors))
    distances = (
        np.sort(NearestNeighbors(n_neighbors=count).fit(vectors).kneighbors()[0][:, -1])
        if count < len(vectors)
        else np.zeros(1)
    )
    chord = np.linspace(distances[0], distances[-1], len(distances))
    found = float(distances[np.argmax(chord - distances)])
    return max(found, float(distances[-1]) * 1e-6, float(np.finfo(np.float32).tiny))


def spectral(vectors: np.ndarray, k: int, *, seed: int = 0) -> np.ndarray:
    """Spectral clusters of the symmetrised nearest-neighbour graph: (n, d) → (n,)."""
    from sklearn.cluster import SpectralClustering
    from sklearn.neighbors import kneighbors_graph

    if k >= len(vectors):
        return np.arange(len(vectors))
    graph = kneighbors_graph(vectors, min(NEIGHBOURS, len(vectors) - 1), include_self=True)
    model = SpectralClustering(k, affinity="precomputed", random_state=seed, assign_labels="cluster_qr")
    with warnings.catch_warnings():
        # a graph in several pieces is no error here: its pieces are the clusters
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        return model.fit_predict(0.5 * (graph + graph.T))
