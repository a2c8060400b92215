"""Refits the head on cached features with original, corrected and placebo labels, to measure the effect of corrections.

    min over W, b of  mean_i cross_entropy(W x_i + b, y_i) + l2/2 ‖W‖²

is convex, so the difference between two fits is the labels' alone. The placebo makes as many edits of the
same kinds at random examples: what it gains is what any editing gains. Accuracies are compared on the same
test examples, which must not be those that chose the slices (``halves``); intervals are paired, adjusted Wald
(Agresti and Min 2005): with differences d_i in [−1, 1],  Σd/(n+2) ± 1.96 √(((Σd² + 1)/(n+2) − mean²)/(n+2)).

Features (n, d) and integer labels go in (−1 removes an example), a data frame comes out. NumPy and
scikit-learn alone.

Cost: one logistic regression per label set, seconds. Known limits: the features stay those of the old
training, so the gain of a whole retraining may be larger. The intervals are over test examples; which edits
were drawn is averaged over ``n_placebo`` draws, not part of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from scoring.audit.errors import HardlookError

REMOVED = -1
Z = 1.959964  # of a 95 % interval


class Classifier(Protocol):
    """What predicts classes from features; scikit-learn's classifiers do."""

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n, d) → (n,) class indices."""
        ...


@dataclass(frozen=True)
class Head:
    """A linear softmax head on standardised features, and the classes that its training labels had."""

    model: Classifier
    mean: np.ndarray
    scale: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(n, d) → (n,) class indices."""
        return self.model.predict((features - self.mean) / self.scale)


def fit_head(features: np.ndarray, labels: np.ndarray, *, l2: float = 1e-3, max_iter: int = 2000) -> Head:
    """The head that these labels give: (n, d), (n,) with −1 for a removed example. Deterministic.

    ``l2``: factor of ½‖W‖² beside the mean loss, on features standardised over all rows, removed ones
    included, so that label sets are compared in the same units. Raises ``HardlookError`` where nothing is
    left to train on.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.linear_model import LogisticRegression

    features, labels = np.asarray(features, dtype=np.float64), np.asarray(labels)
    if features.ndim != 2 or labels.shape != (len(features),) or not np.isfinite(features).all():
        raise HardlookError(
            f"features have shape {features.shape} and labels {labels.shape}; needed finite (n, d), (n,)"
        )
    kept = labels != REMOVED
    if not kept.any() or l2 <= 0:
        raise HardlookError(f"{kept.sum()} of {len(labels)} examples are left and l2 is {l2}; needed some, and above 0")
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    alone = len(np.unique(labels[kept])) == 1
    model = DummyClassifier() if alone else LogisticRegression(C=1 / (l2 * kept.sum()), max_iter=max_iter)
    return Head(model.fit(((features - mean) / scale)[kept], labels[kept]), mean, scale)


def placebo_labels(original: np.ndarray, reviewed: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """As many edits of the same kinds as the review made, at random unedited examples with the same given
    label.

    (n,), (n,) → (n,). Where a class has too few other examples, edited ones take part as well.

    >>> int(placebo_labels(np.array([0, 0, 0, 1]), np.array([1, 0, 0, 1]), seed=0).sum())
    2
    """
    rng, placebo = np.random.default_rng(seed), np.array(original)
    edited = np.flatnonzero(original != reviewed)
    for label in np.unique(original[edited]):
        mine = edited[original[edited] == label]
        others = np.setdiff1d(np.flatnonzero(original == label), mine)
        pool = others if len(others) >= len(mine) else np.flatnonzero(original == label)
        placebo[rng.choice(pool, len(mine), replace=False)] = reviewed[mine]
    return placebo


def refit(
    train_features: np.ndarray,
    original: np.ndarray,
    reviewed: np.ndarray,
    test_features: np.ndarray,
    test_labels: np.ndarray,
    groups: Mapping[str, np.ndarray] | None = None,
    *,
    l2: float = 1e-3,
    n_placebo: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy of the head refitted on original, reviewed and placebo labels, per group of test examples.

    ``original``, ``reviewed``: (n,) class indices, −1 for a removed example; ``test_labels``: (m,), the best
    known. ``groups``: boolean masks (m,) by name, such as slices and classes; "all" is added. ``n_placebo``:
    random edits are drawn and refitted this often, and averaged. → data frame group, n, original, reviewed,
    placebo (accuracies), and for reviewed − original and reviewed − placebo: gain, gain_low, gain_high,
    over_placebo, over_placebo_low, over_placebo_high (paired 95 % intervals; NaN for an empty group).

    Raises ``HardlookError`` where nothing was edited, or lengths differ.
    """
    original, reviewed, test_labels = (np.asarray(values) for values in (original, reviewed, test_labels))
    edits = int((original != reviewed).sum()) if original.shape == reviewed.shape else -1
    if edits < 1:
        raise HardlookError(
            f"original and reviewed labels differ in {max(edits, 0)} examples (shapes {original.shape}, "
            f"{reviewed.shape}); needed as many of each and at least one edit"
        )

    def right(labels: np.ndarray) -> np.ndarray:
        head = fit_head(train_features, labels, l2=l2)
        return (head.predict(np.asarray(test_features, dtype=np.float64)) == test_labels).astype(float)

    before, after = right(original), right(reviewed)
    placebo = np.mean([right(placebo_labels(original, reviewed, seed=seed + i)) for i in range(n_placebo)], axis=0)
    masks = {"all": np.ones(len(test_labels), bool), **(groups or {})}
    return pd.DataFrame([_row(name, before[mask], after[mask], placebo[mask]) for name, mask in masks.items()])


def _row(name: str, before: np.ndarray, after: np.ndarray, placebo: np.ndarray) -> dict[str, Any]:
    row: dict[str, Any] = {"group": name, "n": len(after)}
    for column, values in (("original", before), ("reviewed", after), ("placebo", placebo)):
        row[column] = values.mean() if len(values) else np.nan
    for column, differences in (("gain", after - before), ("over_placebo", after - placebo)):
        row[column] = differences.mean() if len(differences) else np.nan
        row[f"{column}_low"], row[f"{column}_high"] = paired_interval(differences)
    return row


def paired_interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of paired differences in [−1, 1]: (n,) → (low, high), NaN for none.

    >>> low, high = paired_interval(np.array([1.0, 0.0, 0.0, 0.0]))
    >>> round(low, 3), round(high, 3)
    (-0.276, 0.609)
    """
    n = len(differences)
    if not n:
        return np.nan, np.nan
    mean = differences.sum() / (n + 2)
    variance = (np.square(differences).sum() + 1) / (n + 2) - mean**2
    half = Z * np.sqrt(variance / (n + 2))
    return max(-1.0, float(mean - half)), min(1.0, float(mean + half))


def halves(example_ids: Sequence[str], *, seed: int = 0) -> np.ndarray:
    """(n,) bool: which examples find the slices; the others judge. From the id alone, so rows may move.

    >>> halves(["a", "b", "c", "d"]).dtype
    dtype('bool')
    """
    return np.array(
        [hashlib.sha256(f"{seed}:{example_id}".encode()).digest()[0] % 2 == 0 for example_id in example_ids]
    )
