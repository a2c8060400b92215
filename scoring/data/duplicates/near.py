"""Near duplicates: examples whose features are much closer to each other than is usual in the dataset.

For two examples with different content, d the cosine distance of their features, d₁₀ an example's distance to its tenth
nearest other, m the dimension of the features (Levina and Bickel 2004, median over the examples, from the same ten):

    near  ⟺  d(x, y) < t · min(d₁₀(x), d₁₀(y)),      t = (1 − (1 − α)^(1/9))^(2/m)

Were the ten nearest spread evenly in m dimensions, each of the nine within d₁₀ would be that near with probability
t^(m/2), since a cosine distance grows with the square of a length; so α = 0.001 is the share of examples that meet so
near a neighbour by chance. A threshold in units of the ordinary (median) distance is worse: features are dense in one
class and sparse in another; and a fixed t is, too: in a plane d₁ < 0.25 d₁₀ holds by chance for nine of ten examples.

More than ten images of one thing leave none of their neighbours to compare with. So pairs nearer than 0.05 of the
median nearest distance are near, too (of less where the features have few dimensions, and chance puts pairs there).
Groups are the connected components over all splits; exact copies (one fingerprint) count once in the search and all in
the group, and make no group by themselves. Rows that are zero or not finite have no direction and are nobody's
duplicate.

Inputs (n, d) features and (n,) fingerprints → groups. Cost: one search (``scoring.data.nearest_neighbours.among``,
exact up to its ``EXACT``, else about n log n). Measured by ``tests/benchmarks/near_duplicates.py`` (README there) on
brightened and re-encoded copies; copies that the *model* sees as something else (digits of 8×8 pixels moved by half a
pixel) are not found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from scoring.audit.storage import write_table
from scoring.data.duplicates.exact import FACTS, grouped
from scoring.data.nearest_neighbours import EXACT, among

if TYPE_CHECKING:
    from scoring.data.nearest_neighbours import Neighbours

K = 10
CHANCE = 0.001
"""Share of examples that would have so near a neighbour by chance."""
CLOSE = 0.05
"""Of the median nearest distance: what lies nearer is a near duplicate whatever else is near."""
MEMBERS = ("group", "example_id", "closest", "ratio")


@dataclass(frozen=True)
class NearDuplicates:
    """``group`` (n,): number of the example's group, −1 = none. ``closest`` (n,): position of the nearest example of
    other content, −1 = none. ``ratio`` (n,): its distance in units of that to the tenth, NaN = none. ``threshold``: the
    t of the ratio; ``dimension``: the m that it follows from.
    """

    group: np.ndarray
    closest: np.ndarray
    ratio: np.ndarray
    threshold: float
    dimension: float


def near_groups(
    features: np.ndarray, fingerprints: np.ndarray, *, chance: float = CHANCE, exact: int = EXACT, seed: int = 0
) -> NearDuplicates:
    """(n, d) features, (n,) content → the groups of near duplicates among them."""
    each, content = pd.factorize(np.asarray(fingerprints, dtype=str))
    first = np.unique(each, return_index=True)[1]
    values = np.array(features, dtype=np.float32)[first]
    values[~(np.linalg.norm(values, axis=1) > 0)] = np.nan
    k = min(K, int(np.isfinite(values).all(1).sum()) - 1)
    none = np.full(len(each), -1)
    if k < 3:
        return NearDuplicates(none, none, np.full(len(each), np.nan), 0.0, np.nan)
    found = among(values, k, exact=exact, seed=seed)
    dimension = local_dimension(found.distances)
    threshold = (1 - (1 - chance) ** (1 / (k - 1))) ** (2 / dimension) if dimension > 0 else 0.0
    group = _components(_pairs(found, threshold, _close(found.distances, dimension, chance)), len(content))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = found.distances[:, 0] / found.distances[:, -1]
    closest = np.where(found.positions[:, 0] >= 0, first[found.positions[:, 0]], -1)
    return NearDuplicates(group[each], closest[each], ratio[each], threshold, dimension)


def local_dimension(distances: np.ndarray) -> float:
    """(n, k) cosine distances, nearest first → the median over the examples of Levina and Bickel's dimension at k; 0
    where no example has k different neighbours.

    >>> local_dimension(np.array([[0.25, 0.5, 1.0]])).__round__(2)  # lengths 1/2, 0.71, 1
    1.92
    """
    known = np.isfinite(distances).all(1) & (distances > 0).all(1) & (distances[:, :1] < distances[:, -1:]).all(1)
    if not known.any():
        return 0.0
    lengths = np.log(distances[known].astype(np.float64)) / 2
    return float(np.median(1 / (lengths[:, -1:] - lengths[:, :-1]).mean(1)))


def _close(distances: np.ndarray, dimension: float, chance: float) -> float:
    """The distance within which any two are near duplicates."""
    if not dimension > 0:
        return 0.0
    return float(np.nanmedian(distances[:, 0]) * min(CLOSE, (chance / np.log(2)) ** (2 / dimension)))


def _pairs(found: Neighbours, threshold: float, close: float) -> tuple[np.ndarray, np.ndarray]:
    """Positions of both examples of each near pair. A pair that is near is among each other's k nearest."""
    one = np.repeat(np.arange(len(found.positions)), found.positions.shape[1])
    other, far, reach = found.positions.ravel(), found.distances.ravel(), found.distances[:, -1]
    near = other >= 0
    one, other, far = one[near], other[near], far[near]
    near = (far < threshold * np.fmin(reach[one], reach[other])) | (far < close)
    return one[near], other[near]


def _components(pairs: tuple[np.ndarray, np.ndarray], n: int) -> np.ndarray:
    """(n,) number of each one's connected component, from 0 in the order of their first members; −1 = alone."""
    one, other = pairs
    graph = coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(n, n))
    _, label = connected_components(graph, directed=False)
    sizes = np.bincount(label, minlength=1)
    _, first, number = np.unique(label, return_index=True, return_inverse=True)
    together = sizes[label] > 1
    rank = np.full(len(first), -1)
    kept = np.flatnonzero(sizes > 1)
    rank[kept[np.argsort(first[kept])]] = np.arange(len(kept))
    return np.where(together, rank[number], -1)


def write_members(path: Path, ids: np.ndarray, found: NearDuplicates, metadata: dict[str, Any]) -> None:
    """Write the members of all groups: group, example_id, closest (the id of the nearest other content) and ratio."""
    rows = np.flatnonzero(found.group >= 0)
    rows = rows[np.argsort(found.group[rows], kind="stable")]
    ids = np.asarray(ids, dtype=object)
    table = pa.table(
        {
            "group": pa.array(found.group[rows], pa.int64()),
            "example_id": pa.array(ids[rows], pa.string()),
            "closest": pa.array(ids[found.closest[rows]], pa.string()),
            "ratio": pa.array(found.ratio[rows].astype(np.float32)),
        }
    )
    write_table(path, table, {**metadata, "threshold": found.threshold, "dimension": found.dimension})


def near_duplicates(members: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """Returns what ``write_members`` wrote and the example table as it is now → one row per group, in the order of
    ``duplicates``: those with conflicting labels first, then those across splits. Groups of which one member is left,
    or that are exact copies by now, are no more.

    >>> members = pd.DataFrame({"group": [0, 0], "example_id": ["a", "b"]})
    >>> examples = pd.DataFrame({"example_id": ["a", "b"], "split": ["train", "test"], "label": ["cat", "cat"],
    ...     "fingerprint": ["f", "g"], "problem": [None, None]})
    >>> near_duplicates(members, examples)[["copies", "across_splits", "conflicting"]].values.tolist()
    [[2, True, False]]
    """
    there = members[["group", "example_id"]].merge(examples[examples["problem"].isna()], on="example_id")
    several = there.groupby("group")["fingerprint"].transform("nunique") > 1
    return grouped(there[several], "group")[["group", *FACTS]]
