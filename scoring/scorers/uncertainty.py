"""Uncertainty of the last checkpoint: loss, margin and entropy of its predicted probabilities.

loss = −log p(label), margin = p(label) − max of the others, entropy = −Σ p log p (nats). On examples that the model
was trained on these are *in-sample*: a model that has memorised a wrong label is sure of it (Northcutt et al. 2021,
section 3, ask for out-of-sample probabilities for this reason).

Inputs (n, c) probabilities and (n,) labels → three (n,) arrays. Cost: none beyond the prediction pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring.scorers import Column, Columns, Scorer, Shard, needed

TINY = np.finfo(np.float32).tiny


def uncertainty(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, c) probabilities and (n,) labels (−1 = none) → loss, margin (NaN without a label), entropy, each (n,).

    >>> loss, margin, entropy = uncertainty(np.array([[0.5, 0.5]]), np.array([0]))
    >>> round(float(loss[0]), 4), float(margin[0]), round(float(entropy[0]), 4)
    (0.6931, 0.0, 0.6931)
    """
    p = np.asarray(probabilities, dtype=np.float64)
    rows, known = np.arange(len(p)), labels >= 0
    own = np.where(known, p[rows, labels], np.nan)
    others = p.copy()
    others[rows, labels] = np.where(known, -np.inf, others[rows, labels])
    entropy = -(p * np.log(np.maximum(p, TINY))).sum(1)
    return -np.log(np.maximum(own, TINY)), own - others.max(1), entropy


@dataclass(frozen=True, kw_only=True)
class Uncertainty(Scorer):
    """Loss, margin and entropy of the last checkpoint."""

    name = "uncertainty"
    needs = ("predictions",)
    columns = (
        Column(
            name="loss",
            family="loss",
            title="Loss",
            unit="nats",
            suspicious="high",
            detects="label error",
            help="−log of the last checkpoint's probability of the label; in-sample on train.",
        ),
        Column(
            name="margin",
            family="loss",
            title="Margin",
            suspicious="low",
            detects="label error",
            help="Probability of the label minus the largest other probability; negative if the model predicts "
            "another class.",
        ),
        Column(
            name="entropy",
            family="entropy",
            title="Entropy",
            unit="nats",
            suspicious="high",
            detects="difficulty",
            uses_label=False,
            help="How spread out the predicted probabilities are; needs no label.",
        ),
    )

    def score(self, shard: Shard, state: None) -> Columns:
        """Returns the columns from the shard's probabilities."""
        loss, margin, entropy = uncertainty(needed(shard.probabilities, "predictions"), shard.labels)
        return {"loss": loss, "margin": margin, "entropy": entropy}
