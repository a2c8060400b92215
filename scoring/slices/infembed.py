"""InfEmbed: clusters influence embeddings into slices, and finds the training examples responsible.

InfEmbed clusters influence embeddings, so examples that the training set influences alike come together;
InfEmbed-Rule splits until a group is wrong often enough, or too small (Wang et al. 2023, algorithms 1 and 2).
The opponents of a slice are the training examples with the most negative summed influence on it, Σ_{i ∈
slice} μ_i · μ_j.

Influence embeddings (n, r) go in; slice ids (n,), index arrays and influences (n_train,) come out. NumPy and
scikit-learn alone: the dashboard slices anew without torch.

Cost: clustering (``scoring.slices.clustering``); opponents n_train · r multiply-adds, whatever the slice's size.

Known limits: slices are found on the examples that they are judged on; to judge a correction, use others
(``assign_to_slices``).
"""

from __future__ import annotations

import numpy as np

from scoring.audit.arrays import as_flags, as_numbers
from scoring.audit.errors import HardlookError
from scoring.slices.clustering import dbscan, kmeans, spectral

DEFAULT_SLICES = 25
METHODS = ("kmeans", "dbscan", "spectral")


def find_slices(
    embeddings: np.ndarray,
    n_slices: int | None = None,
    *,
    method: str = "kmeans",
    seed: int = 0,
    n_init: int = 10,
    eps: float | None = None,
    min_samples: int = 5,
) -> np.ndarray:
    """Slice ids of examples, the largest slice 0, noise −1: (n, r) → (n,) integers. Deterministic for a seed.

    ``method``: "kmeans" with normalised centroids (zero embeddings are noise), "dbscan" (which finds its own
    number: ``n_slices`` is not used; ``eps`` None is taken from the data), or "spectral" on a
    nearest-neighbour graph. ``n_slices`` None means 25, or as many as there are examples. ``n_init``: starts
    of K-means, the best one is kept.

    Raises ``HardlookError`` for embeddings that are not a finite matrix, and for more slices than examples.

    >>> find_slices(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), 2)
    array([0, 0, 1])
    """
    embeddings = _checked(embeddings)
    n = len(embeddings)
    if method not in METHODS:
        raise HardlookError(f"method is {method!r}; needed one of {', '.join(METHODS)}")
    if method == "dbscan":
        return _largest_first(dbscan(embeddings, eps=eps, min_samples=min_samples))
    k = min(DEFAULT_SLICES, n) if n_slices is None else n_slices
    if not isinstance(k, (int, np.integer)):
        raise HardlookError(f"n_slices is {k!r}; needed a whole number")
    if not 1 <= k <= n:
        raise HardlookError(f"n_slices is {k} for {n} examples; needed between 1 and {n}")
    found = (
        kmeans(embeddings, k, seed=seed, n_init=n_init) if method == "kmeans" else spectral(embeddings, k, seed=seed)
    )
    return _largest_first(found)


def _checked(embeddings: np.ndarray, name: str = "embeddings") -> np.ndarray:
    embeddings = as_numbers(embeddings, name)
    if embeddings.ndim != 2 or not len(embeddings):
        raise HardlookError(f"{name} have shape {embeddings.shape}; needed (n, r) numbers with n ≥ 1")
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise HardlookError(f"{name} of row {bad[0]} and {len(bad) - 1} more are not finite; leave out such examples")
    return embeddings.astype(np.float64)


def _largest_first(assigned: np.ndarray) -> np.ndarray:
    """Rename clusters 0, 1, … by size, ties by first member; −1 stays."""
    ids, first, counts = np.unique(assigned, return_index=True, return_counts=True)
    order = [i for i in np.lexsort((first, -counts)) if ids[i] >= 0]
    names = {int(ids[i]): rank for rank, i in enumerate(order)}
    return np.array([names.get(int(value), -1) for value in assigned])


def find_slices_by_rule(
    embeddings: np.ndarray,
    correct: np.ndarray,
    *,
    max_accuracy: float,
    min_size: int,
    branching: int = 3,
    seed: int = 0,
    n_init: int = 10,
) -> list[np.ndarray]:
    """InfEmbed-Rule: disjoint slices with accuracy ≤ ``max_accuracy`` and size ≥ ``min_size``, the worst
    first.

    The whole set is split by K-means into ``branching`` parts, again and again, until a part satisfies the
    rule or is smaller than ``min_size``. ``embeddings``: (n, r); ``correct``: (n,) bool. → index arrays in
    ascending order, sorted by accuracy, then size; empty where nothing satisfies the rule. Examples in none
    of them are in no slice.

    Raises ``HardlookError`` for settings outside their range or ``correct`` of another length.
    """
    embeddings, correct = _checked(embeddings), as_flags(correct, "correct")
    _check_rule(len(embeddings), correct, max_accuracy, min_size, branching)
    found: list[np.ndarray] = []
    waiting = [(np.arange(len(embeddings)), np.random.SeedSequence(seed))]
    while waiting:
        members, seeds = waiting.pop()
        if len(members) < min_size:
            continue
        if correct[members].mean() <= max_accuracy:
            found.append(members)
            continue
        parts = _split(members, embeddings, branching, seeds, n_init)
        waiting += zip(parts, seeds.spawn(len(parts)), strict=True)
    return sorted(found, key=lambda members: (correct[members].mean(), -len(members), members[0]))


def _check_rule(n: int, correct: np.ndarray, max_accuracy: float, min_size: int, branching: int) -> None:
    if correct.shape != (n,):
        raise HardlookError(f"correct has shape {correct.shape}; needed ({n},), one per embedding")
    if not 0 <= max_accuracy <= 1 or min_size < 1 or branching < 2:
        raise HardlookError(
            f"max_accuracy is {max_accuracy}, min_size {min_size}, branching {branching}; needed an accuracy between "
            "0 and 1, a size of at least 1 and at least 2 branches"
        )


def _split(
    members: np.ndarray, embeddings: np.ndarray, branching: int, seeds: np.random.SeedSequence, n_init: int
) -> list[np.ndarray]:
    """Parts of a group; none where it cannot be split."""
    assigned = kmeans(embeddings[members], min(branching, len(members)), seed=seeds, n_init=n_init)
    parts = [members[assigned == part] for part in np.unique(assigned)]
    return parts if len(parts) > 1 else []


def slice_ids(slices: list[np.ndarray], n: int) -> np.ndarray:
    """(n,) slice ids from disjoint index arrays, −1 for examples are in no slice.

    >>> slice_ids([np.array([2, 3]), np.array([0])], 5)
    array([ 1, -1,  0,  0, -1])
    """
    ids = np.full(n, -1)
    for i, members in enumerate(slices):
        ids[members] = i
    return ids


def slice_centres(embeddings: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(s, r) unit centroids of slices 0 … s−1: the direction of each slice's summed embeddings."""
    sums = (
        np.stack([embeddings[ids == i].sum(axis=0) for i in range(ids.max() + 1)])
        if ids.max() >= 0
        else np.zeros((0, embeddings.shape[1]))
    )
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)


def distances_to_centres(embeddings: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(n,): 1 − cosine to the own slice's centre, 0 in the middle and at most 2; NaN outside every slice."""
    centres, out = slice_centres(embeddings, ids), np.full(len(ids), np.nan)
    inside = np.flatnonzero(ids >= 0)
    norms = np.linalg.norm(embeddings[inside], axis=1)
    along = np.einsum("nr,nr->n", embeddings[inside], centres[ids[inside]])
    out[inside] = 1 - np.divide(along, norms, out=np.zeros_like(along, dtype=float), where=norms > 0)
    return out


def assign_to_slices(embeddings: np.ndarray, found_on: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Returns which slice other examples would fall in: (m,), −1 where they lie further from every centre than any
    member.

    ``found_on``: (n, r) embeddings of the examples with slice ``ids`` (n,). Judging slices on examples that
    did not choose them is the only fair way: the worst of many slices is worst in part by chance.
    """
    if ids.max(initial=-1) < 0:
        return np.full(len(embeddings), -1)
    centres, reach = slice_centres(found_on, ids), distances_to_centres(found_on, ids)
    limits = np.array([np.nanmax(reach[ids == i]) for i in range(ids.max() + 1)])
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    distance = 1 - np.divide(
        embeddings @ centres.T, norms, out=np.zeros((len(embeddings), len(centres))), where=norms > 0
    )
    nearest = np.where(distance <= limits + 1e-9, distance, np.inf)
    return np.where(np.isfinite(nearest.min(axis=1)), nearest.argmin(axis=1), -1)


# -- opponents and proponents ---------------------------------------------------------------------------------


def summed_influence(slice_embeddings: np.ndarray, train_embeddings: np.ndarray) -> np.ndarray:
    """Σ over a slice of the influence of each training example: (m, r), (n, r) → (n,) float64.

    Positive helps the slice, negative harms it. One example, or any set, is a slice too.

    >>> summed_influence(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[2.0, 0.0], [-1.0, 3.0]]))
    array([4., 1.])
    """
    slice_embeddings = np.atleast_2d(as_numbers(slice_embeddings, "slice embeddings"))
    train_embeddings = as_numbers(train_embeddings, "training embeddings")
    if train_embeddings.ndim != 2 or slice_embeddings.shape[1] != train_embeddings.shape[1]:
        raise HardlookError(
            f"slice embeddings have shape {slice_embeddings.shape} and training embeddings {train_embeddings.shape}; "
            "needed (m, r) and (n, r) from the same factors"
        )
    return train_embeddings @ slice_embeddings.sum(axis=0, dtype=np.float64)


def slice_opponents(slice_embeddings: np.ndarray, train_embeddings: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k training examples with the most negative summed influence on the slice, strongest
    first.

    (m, r), (n, r) → (min(k, n),). ``summed_influence`` gives the numbers, which tell whether the last ones
    harm at all.

    >>> slice_opponents(np.array([[1.0]]), np.array([[2.0], [-3.0], [-1.0]]), 2)
    array([1, 2])
    """
    return np.argsort(summed_influence(slice_embeddings, train_embeddings), kind="stable")[: _count(k)]


def slice_proponents(slice_embeddings: np.ndarray, train_embeddings: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k training examples with the most positive summed influence on the slice, strongest
    first.

    >>> slice_proponents(np.array([[1.0]]), np.array([[2.0], [-3.0], [5.0]]), 2)
    array([2, 0])
    """
    return np.argsort(-summed_influence(slice_embeddings, train_embeddings), kind="stable")[: _count(k)]


def _count(k: int) -> int:
    if k < 1:
        raise HardlookError(f"k is {k}; needed at least 1")
    return k
