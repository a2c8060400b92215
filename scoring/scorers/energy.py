"""Free energy (Liu et al. 2020, eq. 4) and maximum softmax probability (Hendrycks and Gimpel 2017) of the logits.

    E(x) = −T log Σ_j exp(f_j(x) / T)            MSP(x) = max_j p_j(x)

High energy and low probability speak for an example out of distribution. Inputs (n, c) logits → (n,). Cost: none
beyond the prediction pass. Limits: energy depends on the scale of the logits, which cross-entropy does not fix.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from scoring.scorers import Column, Columns, RunContext, Scorer, Shard, needed


def energy(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(n, c) logits → (n,) free energy; high is out of distribution.

    >>> energy(np.log(np.array([[1.0, 3.0]]))).round(4).tolist()
    [-1.3863]
    """
    return -temperature * logsumexp(np.asarray(logits, dtype=np.float64) / temperature, axis=1)


@dataclass(frozen=True, kw_only=True)
class Energy(Scorer):
    """Free energy and maximum probability of the last checkpoint. ``temperature``: softmax temperature T, 1 in the
    paper's experiments."""

    name = "energy"
    needs = ("predictions",)
    columns = (
        Column(
            name="energy",
            family="out of distribution",
            title="Energy",
            unit="nats",
            suspicious="high",
            detects="out of distribution",
            uses_label=False,
            help="Negative log-sum-exp of the logits: high if no class has a large logit. High = out of distribution.",
        ),
        Column(
            name="max_probability",
            family="entropy",
            title="Largest probability",
            unit="probability",
            suspicious="low",
            detects="out of distribution",
            uses_label=False,
            help="Probability of the predicted class. Low = out of distribution.",
        ),
    )

    temperature: float = 1.0

    def lacks(self, context: RunContext) -> str | None:
        """Imported predictions are probabilities, which have lost the scale of the logits."""
        if not context.run.config:
            return f"energy needs the model's logits, and the imported run {context.run.name!r} has only probabilities"
        return None

    def fit(self, context: RunContext, workdir: Path) -> dict[str, float]:
        """The energies of all examples, by id; null where the model returns probabilities or their logarithm."""
        if context.model.keeps_logits:
            values = energy(context.aligned(context.run.logits_path), self.temperature)
        else:
            values = np.full(len(context.examples), np.nan)
            context.note(
                "energy is null: the model returns probabilities, from which the logits' normalisation cannot be "
                "recovered"
            )
        return dict(zip(context.examples["example_id"], values, strict=True))

    def score(self, shard: Shard, state: dict[str, float]) -> Columns:
        """Returns the columns from the shard's logits."""
        values = np.asarray([state[name] for name in shard.example_id])
        return {"energy": values, "max_probability": needed(shard.probabilities, "predictions").max(1)}
