"""Nearest neighbours of every example in the model's feature space, and their labels.

The distance is the cosine distance 1 − cos(x, y) between inputs of the head at the last checkpoint. Every
example's neighbours are *labelled training examples* other than itself:

    disagreement = share of its k nearest whose label is another one

An error that the model did not memorise lies among examples of its true class. Up to ``EXACT`` training examples
the search is exact (scikit-learn), above it NN-descent (Dong et al. 2011, pynndescent), whose recall at the
defaults is about 0.99. Inputs (n, d) features → positions and distances, (n, k) each. Cost: n·m·d exact, about
n·log m approximate; memory n·k. Loads pynndescent only where it is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.audit.storage import write_table

EXACT = 40_000
"""Up to so many examples to search among, the search is exact. Of 60,000 (one thread,
``tests/benchmarks/neighbours.py``) the 200 nearest take 32 s exactly and 28 s by NN-descent with 84 features, 101 s and
58 s with 512; but numba compiles NN-descent for 27 s in every process, and for 100 s in a fresh environment."""
KEPT = 50
"""Neighbours per example that ``neighbours.parquet`` holds."""
BLOCK = 4096
CACHED = 4 << 20
"""Bytes of differences that are held at once: what fits into a processor's cache takes a fifth of the time."""
GRAPH = 30
"""Edges per example in the graph of the approximate search."""


@dataclass(frozen=True)
class Neighbours:
    """(n, k) positions among the base (−1 = none) and cosine distances (NaN = none), nearest first."""

    positions: np.ndarray
    distances: np.ndarray


def nearest(
    queries: np.ndarray, base: np.ndarray, k: int, *, own: np.ndarray | None = None, exact: int = EXACT, seed: int = 0
) -> Neighbours:
    """The k nearest of ``base`` (m, d) to each of ``queries`` (n, d), nearest first.

    ``own`` (n,): each query's own position in the base, which is left out; −1 = it is not there. Rows that are not
    finite have no neighbours and are nobody's. Of equal distances the one that stands first in the base comes first
    where the search is exact. Fewer than k where the base is smaller.

    >>> nearest(np.eye(2)[:1], np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 1.0]]), 2).positions.tolist()
    [[1, 0]]
    """
    own = np.full(len(queries), -1) if own is None else np.asarray(own)
    rows, there = np.flatnonzero(np.isfinite(queries).all(1)), np.flatnonzero(np.isfinite(base).all(1))
    positions = np.full((len(queries), k), -1, dtype=np.int64)
    distances = np.full((len(queries), k), np.nan, dtype=np.float32)
    most = min(k + 1, len(there))
    if most and len(rows):
        search = _exact if len(there) <= exact else _approximate
        found, far = search(_directions(queries[rows]), _directions(base[there]), most, seed)
        found = np.where(found >= 0, there[found], -1)
        positions[rows], distances[rows] = _without_own(found, far, own[rows], k)
    return Neighbours(positions, distances)


def among(values: np.ndarray, k: int, *, exact: int = EXACT, seed: int = 0) -> Neighbours:
    """The k nearest others of each of ``values`` (n, d), as ``nearest`` of all among all.

    Above ``exact`` rows they are read from the graph of NN-descent itself, at most ``GRAPH`` − 1 of them: several times
    faster than a search for each, and nearly always right about the very nearest.
    """
    rows = np.flatnonzero(np.isfinite(values).all(1))
    if len(rows) <= exact:
        return nearest(values, values, k, own=np.arange(len(values)), exact=exact)
    base = _directions(values[rows])
    found, far = _ordered(base, base, graph_of(base, seed).neighbor_graph[0])
    own, distances = _without_own(found, far, np.arange(len(rows)), k)
    positions = np.full((len(values), k), -1, dtype=np.int64)
    positions[rows] = np.where(own >= 0, rows[own], -1)
    full = np.full((len(values), k), np.nan, dtype=np.float32)
    full[rows] = distances
    return Neighbours(positions, full)


def _directions(values: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays as it is."""
    values = np.asarray(values, dtype=np.float32)
    length = np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    return (values / np.where(length > 0, length, 1)).astype(np.float32)


def _exact(queries: np.ndarray, base: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """By scikit-learn, in blocks: for directions, the order of Euclidean distances is that of cosine distances."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=1).fit(base)
    blocks = [
        index.kneighbors(queries[start : start + BLOCK], return_distance=False)
        for start in range(0, len(queries), BLOCK)
    ]
    return _ordered(queries, base, np.concatenate(blocks))


def _approximate(queries: np.ndarray, base: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """By NN-descent."""
    index = graph_of(base, seed)
    index.prepare()
    blocks = [
        index.query(queries[start : start + BLOCK], k=k, epsilon=0.1)[0] for start in range(0, len(queries), BLOCK)
    ]
    return _ordered(queries, base, np.concatenate(blocks))


def graph_of(base: np.ndarray, seed: int, edges: int = GRAPH) -> Any:
    """pynndescent's index of (n, d) points by Euclidean distance, with that many edges each, the point itself among
    them; made on one thread so that the same seed gives the same one."""
    from pynndescent import NNDescent

    return NNDescent(base, metric="euclidean", n_neighbors=edges, random_state=seed, n_jobs=1, low_memory=True)


def _ordered(queries: np.ndarray, base: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Found positions (−1 = none) nearest first by their exact distances, and these."""
    found = found.astype(np.int64)
    far = np.where(found >= 0, _cosine(queries, base, found), np.inf)
    order = np.lexsort((found, far), axis=1)
    return np.take_along_axis(found, order, 1), np.take_along_axis(far, order, 1)


def _cosine(queries: np.ndarray, base: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Cosine distances of found pairs, (n, k): half the squared Euclidean distance of the directions, which keeps
    its digits where two are nearly the same."""
    far = np.empty(found.shape, dtype=np.float32)
    step = int(np.clip(CACHED // max(1, found.shape[1] * base.shape[1] * 4), 1, 256))
    for start in range(0, len(queries), step):
        apart = base[found[start : start + step]] - queries[start : start + step, None]
        far[start : start + step] = np.einsum("nkd,nkd->nk", apart, apart) / 2
    return far


def _without_own(found: np.ndarray, far: np.ndarray, own: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The first k of each row that are not the query itself; −1 and NaN fill a row that has fewer."""
    other = (found != own[:, None]) & (found >= 0)
    order = np.argsort(~other, axis=1, kind="stable")[:, :k]
    keep = np.take_along_axis(other, order, 1)
    positions = np.full((len(found), k), -1, dtype=np.int64)
    distances = np.full((len(found), k), np.nan, dtype=np.float32)
    width = order.shape[1]
    positions[:, :width] = np.where(keep, np.take_along_axis(found, order, 1), -1)
    distances[:, :width] = np.where(keep, np.take_along_axis(far, order, 1), np.nan)
    return positions, distances


def disagreement(positions: np.ndarray, base_labels: np.ndarray, labels: np.ndarray, k: np.ndarray | int) -> np.ndarray:
    """Share of each example's k nearest whose label differs from its own; NaN without label or neighbour.

    positions: (n, ≥ k) into ``base_labels`` (m,), nearest first, −1 = none. labels: (n,), −1 = none. k: one for all,
    or one per example.

    >>> disagreement(np.array([[0, 1, 2], [2, 1, -1]]), np.array([5, 5, 6]), np.array([5, 5]), 3).round(2).tolist()
    [0.33, 0.5]
    """
    positions, labels = np.asarray(positions), np.asarray(labels)
    among = np.arange(positions.shape[1]) < np.broadcast_to(k, len(positions))[:, None]
    among &= positions >= 0
    differs = (base_labels[np.maximum(positions, 0)] != labels[:, None]) & among
    count = among.sum(1)
    known = (count > 0) & (labels >= 0)
    return np.divide(differs.sum(1), count, out=np.full(len(positions), np.nan), where=known)


def fair_k(k: int, base_labels: np.ndarray, labels: np.ndarray, least: int) -> np.ndarray:
    """(n,) how many neighbours to ask about each label: k, but no more than the base has others of that label.

    Otherwise a class of 30 could never fill 200 places, and all of it would look wrong. At least ``least``, so that
    a class of a few examples is asked about at all.

    >>> fair_k(200, np.array([0] * 300 + [1] * 31), np.array([0, 1]), 10).tolist()
    [200, 30]
    """
    sizes = np.bincount(base_labels, minlength=int(max(labels.max(initial=0), base_labels.max(initial=0))) + 1)
    return np.clip(sizes[np.maximum(labels, 0)] - 1, least, max(k, least))


def write_neighbours(
    path: Path, ids: np.ndarray, base_ids: np.ndarray, found: Neighbours, metadata: dict[str, Any]
) -> None:
    """Write the first ``KEPT`` neighbours of each example: example_id, neighbours (ids), distances."""
    positions, distances = found.positions[:, :KEPT], found.distances[:, :KEPT]
    there = positions >= 0
    offsets = np.concatenate([[0], np.cumsum(there.sum(1))]).astype(np.int32)
    names = pa.array(np.asarray(base_ids, dtype=object)[positions[there]], pa.string())
    table = pa.table(
        {
            "example_id": pa.array(list(ids), pa.string()),
            "neighbours": pa.ListArray.from_arrays(pa.array(offsets), names),
            "distances": pa.ListArray.from_arrays(pa.array(offsets), pa.array(distances[there], pa.float32())),
        }
    )
    write_table(path, table, metadata)
