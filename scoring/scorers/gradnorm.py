"""GradNorm (Huang, Geng and Li 2021): gradient norm of the divergence from uniform. HIGH = IN distribution.

    S(x) = ‖∂ KL(u ‖ softmax(f(x)/T)) / ∂W‖₁ = (s / (C T)) · ‖x‖₁ · Σ_j |1 − C p_j(x)|          (their eq. 6-8)

with W the weights of the head, x its input, C classes, f = s (W x + b) and s = 1 for most models. Where a model knows
an example, features and probabilities are far from flat and the gradient is long; a low value speaks for an example out
of distribution.

Inputs (n, d) features and (n, c) logits → (n,). Cost: none beyond the prediction pass. Limits: needs a Linear head;
the bias is left out, as in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoring.scorers import Column, Columns, RunContext, Scorer, Shard


def gradnorm(features: np.ndarray, logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(n, d) inputs of the head and (n, c) logits → (n,) L1 length of the gradient by its weights; high = in
    distribution.

    >>> gradnorm(np.array([[1.0, -2.0]]), np.zeros((1, 3))).tolist()
    [0.0]
    """
    z = np.asarray(logits, dtype=np.float64) / temperature
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    classes = p.shape[1]
    away = np.abs(1 - classes * p).sum(1)
    return np.abs(np.asarray(features, dtype=np.float64)).sum(1) * away / (classes * temperature)


@dataclass(frozen=True, kw_only=True)
class GradNorm(Scorer):
    """GradNorm of the last checkpoint; low is out of distribution. ``temperature``: softmax temperature T, 1 in the
    paper."""

    name = "gradnorm"
    needs = ("predictions", "features", "head")
    columns = (
        Column(
            name="gradnorm",
            family="out of distribution",
            title="GradNorm",
            unit="nats per unit of weight",
            suspicious="low",
            detects="out of distribution",
            uses_label=False,
            help="Norm of the head's gradient of the KL divergence between the uniform distribution and the "
            "prediction. High = in distribution; low = out of distribution.",
        ),
    )

    temperature: float = 1.0

    def lacks(self, context: RunContext) -> str | None:
        """Imported predictions are probabilities, which have lost the scale of the logits."""
        if not context.run.config:
            return (
                f"gradnorm needs the model's logits, and the imported run {context.run.name!r} has only probabilities"
            )
        return None

    def fit(self, context: RunContext, workdir: Path) -> dict[str, float]:
        """GradNorm of all examples, by id: the shard has no logits."""
        values = gradnorm(context.features, context.aligned(context.run.logits_path), self.temperature) * abs(
            context.head["scale"]
        )
        return dict(zip(context.examples["example_id"], values, strict=True))

    def score(self, shard: Shard, state: dict[str, float]) -> Columns:
        """Look the shard's examples up."""
        return {"gradnorm": np.asarray([state[name] for name in shard.example_id])}
