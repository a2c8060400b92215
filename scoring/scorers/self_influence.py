"""Self-influence on the head (Picard et al. 2022, section 3): Cook's distance of every labelled example.

    gᵀ (H + δI)⁻¹ g,   g = (p − y) ⊗ (x, 1),   H the mean Hessian of the softmax head over the training examples

exact in float64 from the features x and the probabilities p of the last checkpoint. Cost: n (c (d+1))² flops and
8 (c (d+1))² bytes; above the memory budget it is refused with the numbers, and the influence embeddings give a
low-rank self-influence over any layers instead (`influence`). Limits: the head alone; everything below is held fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring.scorer import Column, Columns, Scorer, Shard
from scoring.scorers.influence import padded_batches
from scoring.tables import HardlookError


@dataclass(frozen=True, kw_only=True)
class SelfInfluence(Scorer):
    """Cook's distance on the head.

    ``damping``: δ, in units of curvature; the head's Hessian is singular without it. ``batch_size``: examples per
    triangular solve. ``memory_budget``: GB for the
    Hessian. The head's L2 regularisation is taken from ``l2`` in the run's table of audit.toml.
    """

    name = "self_influence"
    needs = ("predictions", "features", "labels")
    columns = (
        Column(name="cook", family="influence", title="Self-influence, head", suspicious="high", detects="label error",
               help="Cook's distance on the classification head: how far leaving the example out would move the head, "
                    "in units of the head's own curvature. High for examples that pull the model alone."),
    )

    damping: float = 1e-3
    batch_size: int = 256
    memory_budget: float = 4.0

    def fit(self, run, workdir):
        """The damped Hessian of the head over the labelled training examples, factored; made anew each time."""
        from scoring.curvature import head_hessian
        from scoring.influence import head_factor

        _, probabilities = run.predicted
        features = run.features
        self._refuse(probabilities.shape[1] * (features.shape[1] + 1))
        rows = (run.examples["split"] == "train").to_numpy() & (run.labels >= 0) & np.isfinite(features).all(1)
        if not rows.any():
            raise HardlookError("self_influence needs labelled training examples, found none")
        hessian = head_hessian(features[rows], probabilities[rows], l2=run.run.config.get("l2", 0.0))
        return head_factor(hessian, self.damping)

    def score(self, shard: Shard, state) -> Columns:
        """Cook's distance of the shard's labelled examples."""
        from scoring.influence import cook_distances

        values = np.full(len(shard), np.nan)
        known = np.flatnonzero((shard.labels >= 0) & np.isfinite(shard.features).all(1))
        for at, padded in padded_batches(known, self.batch_size):
            values[at] = cook_distances(state, shard.features[padded], shard.probabilities[padded],
                                        shard.labels[padded])[: len(at)]
        return {"cook": values}

    def _refuse(self, width: int) -> None:
        if 8 * width**2 > self.memory_budget * 2**30:
            raise HardlookError(f"self_influence: the exact head Hessian takes {8 * width**2 / 2**30:.1f} GB, the budget "
                                f"is {self.memory_budget} GB; raise --self-influence-memory-budget, or use the "
                                "self-influence of `influence`")
