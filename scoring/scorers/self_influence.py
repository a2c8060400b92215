"""Self-influence on the head (Picard et al. 2022, section 3): Cook's distance of every labelled example.

    gᵀ (H + δI)⁻¹ g,   g = (p − y) ⊗ (x, 1),   H the mean Hessian of the softmax head over the training examples

exact in float64 from the features x and the probabilities p of the last checkpoint, x alone for a head without bias.
Where the logits are s times the head's output (a temperature), g and H are those of s = 1 times s and s², so δ and the
l2 part are divided by s² instead. Cost: n (c (d+1))² flops and
8 (c (d+1))² bytes. Above the memory budget the same system is solved by conjugate gradients, with Hessian products over
at most ``subset`` training examples: 4 c d · subset flops per product, some tens of products per example. The influence
embeddings give a low-rank self-influence over any layers, and sooner (`influence`). Limits: the head alone; everything
below is held fixed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard, needed
from scoring.scorers.influence import padded_batches

TRIED = 512
"""Examples, and parameters of the head, by which the speed of this machine is measured."""


@dataclass(frozen=True, kw_only=True)
class SelfInfluence(Scorer):
    """Cook's distance on the head.

    ``damping``: δ, added to the Hessian's diagonal; without it the head's Hessian is singular. ``batch_size``: examples
    per solve. ``memory_budget``: GB for the exact Hessian; a larger Hessian is replaced by conjugate gradients.
    ``subset``: number of random training examples that conjugate gradients use. ``tolerance``: relative residual at
    which conjugate gradients stop.

    The head's L2 regularisation (of an elastic net: its L2 part) is ``l2`` in the run's table of audit.toml.
    """

    name = "self_influence"
    stage = "others"
    needs = ("predictions", "features", "labels", "head")
    together = True
    columns = (
        Column(
            name="cook",
            family="influence",
            title="Self-influence, head",
            suspicious="high",
            detects="label error",
            help="Cook's distance on the classification head: how far the head's weights would move without the "
            "example, measured in the head's curvature. High for isolated examples that influence the model much.",
        ),
    )

    damping: float = 1e-3
    batch_size: int = 256
    memory_budget: float = 4.0
    subset: int = 5000
    tolerance: float = 1e-4

    def is_exact(self, context: RunContext) -> bool:
        """Returns whether the head's whole Hessian fits into the memory budget."""
        return 8 * _width(context) ** 2 <= self.memory_budget * 2**30

    def exact_seconds(self, context: RunContext, n: int) -> float:
        """Seconds that ``fit`` and ``score`` of n examples take with the whole Hessian: by its flops, at the speed of
        the same steps on a part of the features."""
        from scoring.curvature import head_hessian
        from scoring.influence import cook_distances, head_factor

        _, probabilities = context.predicted
        known = np.isfinite(context.features).all(1) & (context.labels >= 0)
        few, classes = np.flatnonzero(known)[:TRIED], probabilities.shape[1]
        if not len(few):
            return 0.0
        part, p = context.features[few][:, : max(1, TRIED // classes)], probabilities[few]
        begun = time.perf_counter()
        factor = head_factor(head_hessian(part, p), self.damping)
        cook_distances(factor, part, p, context.labels[few])
        seconds = time.perf_counter() - begun
        train = int((known & (context.examples["split"] == "train").to_numpy()).sum())
        tried = _flops(len(factor), classes, len(few), len(few))
        return seconds * _flops(_width(context), classes, train, n) / tried

    def fit(self, context: RunContext, workdir: Path) -> Exact | ByProducts:
        """Returns what solves with the head's damped Hessian over the labelled training examples; made anew each
        time."""
        from scoring.curvature import head_hessian
        from scoring.influence import head_factor

        _, probabilities = context.predicted
        features, l2 = context.features, context.run.config.get("l2", 0.0)
        rows = np.flatnonzero(
            (context.examples["split"] == "train").to_numpy() & (context.labels >= 0) & np.isfinite(features).all(1)
        )
        if not len(rows):
            raise HardlookError("self_influence needs labelled training examples, found none")
        bias, scale = context.head["bias"], context.head["scale"]
        damping, l2 = self.damping / scale**2, l2 / scale**2
        needed = 8 * _width(context) ** 2
        if self.is_exact(context):
            hessian = head_hessian(features[rows], probabilities[rows], l2=l2, bias=bias)
            return Exact(head_factor(hessian, damping), bias)
        rows = np.sort(np.random.default_rng(context.audit.seed).permutation(rows)[: self.subset])
        context.say(
            f"self_influence: the exact head Hessian takes {needed / 2**30:.1f} GB, the budget is "
            f"{self.memory_budget} GB; conjugate gradients over {len(rows):,} training examples are used instead"
        )
        return ByProducts(features[rows], probabilities[rows], l2, damping, self.tolerance, bias)

    def score(self, shard: Shard, state: Exact | ByProducts) -> Columns:
        """Cook's distance of the shard's labelled examples."""
        features, p = needed(shard.features, "features"), needed(shard.probabilities, "predictions")
        values = np.full(len(shard), np.nan)
        known = np.flatnonzero((shard.labels >= 0) & np.isfinite(features).all(1))
        for at, padded in padded_batches(known, self.batch_size):
            values[at] = state.distances(features[padded], p[padded], shard.labels[padded])[: len(at)]
        return {"cook": values}


def _width(context: RunContext) -> int:
    """c (d+1), the number of the head's parameters; c d without a bias."""
    return len(context.audit.classes) * (context.features.shape[1] + int(context.head["bias"]))


def _flops(width: int, classes: int, train: int, n: int) -> float:
    """Of the Hessian over ``train`` examples (a symmetric product, and one per class), its factor and n solves."""
    return width**2 * (train * (1 + 2 / classes) + width / 3 + n)


@dataclass(frozen=True)
class Exact:
    """Solves with the lower Cholesky factor of the damped Hessian, (c(d+1), c(d+1))."""

    factor: np.ndarray
    bias: bool

    def distances(self, features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Cook's distance of (n, d), (n, c), (n,) → (n,)."""
        from scoring.influence import cook_distances

        return cook_distances(self.factor, features, probabilities, labels, bias=self.bias)


@dataclass(frozen=True)
class ByProducts:
    """Solves by conjugate gradients with products of the Hessian over these training rows."""

    features: np.ndarray
    probabilities: np.ndarray
    l2: float
    damping: float
    tolerance: float
    bias: bool

    def distances(self, features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Cook's distance of (n, d), (n, c), (n,) → (n,)."""
        from scoring.influence import self_influence_by_gradients

        return self_influence_by_gradients(
            features,
            probabilities,
            labels,
            damping=self.damping,
            l2=self.l2,
            over=(self.features, self.probabilities),
            tolerance=self.tolerance,
            bias=self.bias,
        )
