"""Data maps (Swayamdipta et al. 2020): how sure, and how steadily so, a training was of each label.

Over the E recorded epochs, with p_e the probability that the model gives to the label after epoch e:

    confidence = (1/E) Σ_e p_e                                    (their eq. 1)
    variability = sqrt((1/E) Σ_e (p_e − confidence)²)             (their eq. 2)
    correctness = share of epochs after which the label has the largest probability

Hard-to-learn examples (low confidence, low variability) are often mislabelled; ambiguous ones (high
variability) lie between classes. Inputs (epochs, n) → three (n,) arrays. Cost: none beyond the recording.
Limits: the probabilities are those of the un-augmented example in eval mode, not of the training forward as
in the paper; epochs in which an example was not recorded are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring.scorer import Column, Columns, Scorer, Shard


def mean_over_epochs(values: np.ndarray) -> np.ndarray:
    """(epochs, n) → (n,) float64 mean over the epochs that are not NaN; NaN where all are.

    >>> mean_over_epochs(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    values = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(values)
    count = there.sum(0)
    total = np.where(there, values, 0.0).sum(0)
    return np.divide(total, count, out=np.full(values.shape[1], np.nan), where=count > 0)


def data_map(p_label: np.ndarray, correct: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(epochs, n) p(label) and (epochs, n) right or wrong → confidence, variability, correctness, each (n,).

    Variability is the population standard deviation. NaN marks epochs in which an example was not recorded.

    >>> [values.tolist() for values in data_map(np.array([[0.25], [0.75]]), np.array([[False], [True]]))]
    [[0.5], [0.25], [0.5]]
    """
    confidence = mean_over_epochs(p_label)
    variability = np.sqrt(mean_over_epochs((np.asarray(p_label, dtype=np.float64) - confidence) ** 2))
    return confidence, variability, mean_over_epochs(correct)


@dataclass(frozen=True, kw_only=True)
class DataMap(Scorer):
    """Confidence, variability and correctness over the recorded epochs."""

    name = "data_map"
    needs = ("dynamics", "labels")
    least = {"dynamics": 2}
    columns = (
        Column(name="confidence", family="dynamics", title="Confidence", unit="probability", suspicious="low",
               detects="label error",
               help="Mean probability of the label over the epochs of training; low: it stayed improbable."),
        Column(name="variability", family="variability", title="Variability", unit="probability",
               suspicious="high", detects="difficulty",
               help="How much the probability of the label moved over the epochs (standard deviation); high "
                    "where the training kept changing its mind, between classes."),
        Column(name="correctness", family="dynamics", title="Correctness", unit="share", suspicious="low",
               detects="label error", help="Share of epochs after which the model predicted the label."),
    )

    def score(self, shard: Shard, state) -> Columns:
        """From the shard's recorded epochs."""
        confidence, variability, correctness = data_map(shard.dynamics["p_label"], shard.dynamics["correct"])
        return {"confidence": confidence, "variability": variability, "correctness": correctness}
