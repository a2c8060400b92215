"""Comparison of scores in reduced precision with scores in float32, by rank.

Columns of both precisions on a sample → the lowest Spearman correlation among the columns, class-normalised as the
pages rank them. Cost: a sort per column. Limit: a sample; a rare class may have no example in it.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from scoring.evaluation import normalize_by_class

ENOUGH = 0.995
CLASSES, EXAMPLES = 16, 1024


def balanced_sample(classes: np.ndarray, seed: int) -> np.ndarray:
    """Positions of at most 1,024 examples, as many of each of at most 16 classes; (n,) class indices, −1 = none.

    >>> balanced_sample(np.array([0, 0, -1, 1]), 0).tolist()
    [0, 1, 3]
    """
    rng = np.random.default_rng(seed)
    known = np.unique(classes[classes >= 0])
    chosen = rng.permutation(known)[:CLASSES]
    parts = [rng.permutation(np.flatnonzero(classes == one))[: EXAMPLES // len(chosen)] for one in chosen]
    return np.sort(np.concatenate(parts)) if parts else np.zeros(0, dtype=int)


def lowest_agreement(
    full: dict[str, np.ndarray], reduced: dict[str, np.ndarray], classes: np.ndarray
) -> tuple[float, str]:
    """(Spearman, column) of the column that agrees least; each (n,), z-scored within ``classes``, (n,) indices.

    Rows without a number are left out, columns without two different numbers count as agreeing.

    >>> right = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([1.0, 2.0, 3.0])}
    >>> lowest_agreement(right, {"a": right["a"], "b": right["b"][::-1]}, np.zeros(3))
    (-1.0, 'b')
    """
    found = (1.0, "")
    for name, values in full.items():
        z = [normalize_by_class(one, classes) for one in (values, reduced[name])]
        both = np.isfinite(z[0]) & np.isfinite(z[1])
        if min(len(np.unique(one[both])) for one in z) > 1:
            found = min(found, (round(float(spearmanr(z[0][both], z[1][both]).statistic), 4), name))
    return found
