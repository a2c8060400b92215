"""Data maps (Swayamdipta et al. 2020): confidence and variability of each label over the training.

Over the E recorded epochs, with p_e the probability that the model gives to the label after epoch e:

    confidence = (1/E) Σ_e p_e                                    (their eq. 1)
    variability = sqrt((1/E) Σ_e (p_e − confidence)²)             (their eq. 2)
    correctness = share of epochs after which the label has the largest probability

Hard-to-learn examples (low confidence, low variability) are often mislabelled; ambiguous ones (high
variability) lie between classes. The map's three regions, easy, ambiguous and hard, are cut at quantiles of
confidence and variability within each split. Inputs (epochs, n) → three (n,) arrays. Cost: none beyond the recording.
Limits: the probabilities are those of the un-augmented example in eval mode, not of the training forward as
in the paper; epochs in which an example was not recorded are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from scoring.audit.arrays import as_numbers
from scoring.audit.errors import HardlookError
from scoring.scorers import Column, Columns, Scorer, Shard, needed


def mean_over_epochs(values: np.ndarray) -> np.ndarray:
    """(epochs, n) → (n,) float64 mean over the epochs that are not NaN; NaN where all are.

    >>> mean_over_epochs(np.array([[1.0, np.nan], [3.0, np.nan]])).tolist()
    [2.0, nan]
    """
    values = as_numbers(values, "values of epochs", ndim=2).astype(np.float64)
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
    p_label, correct = as_numbers(p_label, "p_label", ndim=2), as_numbers(correct, "correct", ndim=2)
    if p_label.shape != correct.shape:
        raise HardlookError(
            f"p_label has shape {p_label.shape} and correct {correct.shape}; needed (epochs, n) of both"
        )
    confidence = mean_over_epochs(p_label)
    variability = np.sqrt(mean_over_epochs((p_label.astype(np.float64) - confidence) ** 2))
    return confidence, variability, mean_over_epochs(correct)


REGIONS = ("easy", "ambiguous", "hard")


def data_map_regions(
    confidence: np.ndarray,
    variability: np.ndarray,
    *,
    easy: float = 2 / 3,
    hard: float = 1 / 3,
    ambiguous: float = 2 / 3,
) -> np.ndarray:
    """(n,) confidence and (n,) variability → (n,) object array of "easy", "ambiguous", "hard", None where NaN.

    The three numbers are quantiles between 0 and 1, over the examples given. Ambiguous: variability above its
    quantile ``ambiguous``, and what is neither easy nor hard. Of the others, easy: confidence at or above its
    quantile ``easy``; hard: confidence at or below its quantile ``hard``. The defaults are the thirds of Swayamdipta
    et al. 2020 (section 3), whose regions may overlap; here each example has one. Raises ``HardlookError`` for
    quantiles outside [0, 1] or ``hard`` above ``easy``.

    >>> data_map_regions(np.array([0.9, 0.5, 0.1, np.nan]), np.array([0.1, 0.4, 0.1, 0.1])).tolist()
    ['easy', 'ambiguous', 'hard', None]
    """
    if not 0 <= hard <= easy <= 1 or not 0 <= ambiguous <= 1:
        raise HardlookError(
            f"regions of the data map: hard = {hard}, easy = {easy}, ambiguous = {ambiguous}; needed quantiles with 0 "
            "≤ hard ≤ easy ≤ 1 and 0 ≤ ambiguous ≤ 1"
        )
    confidence, variability = np.asarray(confidence, dtype=np.float64), np.asarray(variability, dtype=np.float64)
    known = np.isfinite(confidence) & np.isfinite(variability)
    regions = np.full(len(confidence), None, dtype=object)
    if not known.any():
        return regions
    low, high = np.quantile(confidence[known], [hard, easy])
    steady = known & (variability <= np.quantile(variability[known], ambiguous))
    regions[known] = "ambiguous"
    regions[steady & (confidence <= low)] = "hard"
    regions[steady & (confidence >= high)] = "easy"
    return regions


@dataclass(frozen=True, kw_only=True)
class DataMap(Scorer):
    """Confidence, variability and correctness over the recorded epochs, and the region of the map.

    ``easy``: confidence quantile from which examples count as easy. ``hard``: confidence quantile up to which they
    count as hard. ``ambiguous``: variability quantile from which they count as ambiguous.
    """

    name = "data_map"
    needs = ("dynamics", "labels")
    least: ClassVar = {"dynamics": 2}
    columns = (
        Column(
            name="confidence",
            family="dynamics",
            title="Confidence",
            unit="probability",
            suspicious="low",
            detects="label error",
            help="Mean probability of the label over the epochs of training; low if the label stayed improbable.",
        ),
        Column(
            name="variability",
            family="variability",
            title="Variability",
            unit="probability",
            suspicious="high",
            detects="difficulty",
            help="Standard deviation of the label's probability over the epochs; high if the model kept switching "
            "between classes.",
        ),
        Column(
            name="correctness",
            family="dynamics",
            title="Correctness",
            unit="share",
            suspicious="low",
            detects="label error",
            help="Share of epochs after which the model predicts the label.",
        ),
        Column(
            name="region",
            family="",
            title="Region of the data map",
            help="0 easy, 1 ambiguous, 2 hard: by quantiles of confidence and variability within the split.",
        ),
    )

    easy: float = 2 / 3
    hard: float = 1 / 3
    ambiguous: float = 2 / 3

    def score(self, shard: Shard, state: None) -> Columns:
        """Returns the columns from the shard's recorded epochs."""
        recorded = needed(shard.dynamics, "dynamics")
        confidence, variability, correctness = data_map(recorded["p_label"], recorded["correct"])
        return {"confidence": confidence, "variability": variability, "correctness": correctness}

    def finish(self, columns: Columns, examples: pd.DataFrame) -> Columns:
        """Add the region, within each split."""
        region = np.full(len(examples), np.nan)
        for rows in examples.groupby("split").indices.values():
            found = data_map_regions(
                columns["confidence"][rows],
                columns["variability"][rows],
                easy=self.easy,
                hard=self.hard,
                ambiguous=self.ambiguous,
            )
            region[rows] = [np.nan if name is None else REGIONS.index(name) for name in found]
        return {**columns, "region": region}
