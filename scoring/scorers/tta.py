"""Test-time augmentation: loss, margin and entropy of the last checkpoint, each averaged over views of the example.

    margin = (1/V) Σ_v [p_v(label) − max of the other p_v]        and alike for −log p_v(label) and the entropy

A label that was memorised with one picture is not memorised with all its shifted and mirrored views: averaging brings
wrong labels out that the example's own loss hides. Views are the run's own training augmentation
(``[run.x.training] augment``), else shifts by up to an eighth of the side and mirror images
(``scoring.models.augmentation``), each only where it leaves the prediction unchanged on at least ``stable`` of a
sample: a mirrored digit is another digit, and on 8×8 digits shifts by one pixel bring the average precision down from
0.85 to 0.74. Where the model stands neither, the example as it is is the only view.

Inputs (n, c, h, w) → three (n,) arrays. Cost: ``views`` forward passes. Limits: images, or any input where the run
has an augmentation of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scoring.evaluation.probabilities import softmax
from scoring.models import AuditedModel, load_callable
from scoring.models.augmentation import SHIFT, moved, own_view, shifts, view_of, view_seed
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard, needed
from scoring.scorers.influence import padded_batches
from scoring.scorers.uncertainty import uncertainty

SAMPLE = 256
"""Examples on which a built-in view is tested for unchanged predictions."""


@dataclass(frozen=True, kw_only=True)
class TestTimeAugmentation(Scorer):
    """Loss, margin and entropy averaged over views.

    ``views``: number of views per example. ``own``: use the run's own augmentation if it has one. ``stable``: share of
    predictions that must be unchanged by mirroring (or shifting) for that view to be used. ``batch_size``: examples per
    forward pass.
    """

    __test__ = False
    name = "tta"
    stage = "views"
    needs = ("checkpoints",)
    columns = (
        Column(
            name="loss",
            family="loss",
            title="Loss over views",
            unit="nats",
            suspicious="high",
            detects="label error",
            help="−log of the probability of the label, averaged over shifted and mirrored views of the example (or "
            "views of the training's augmentation); in-sample on train.",
        ),
        Column(
            name="margin",
            family="loss",
            title="Margin over views",
            suspicious="low",
            detects="label error",
            help="Probability of the label minus the largest other probability, averaged over views of the example; "
            "negative if the model predicts another class. Memorised labels often lose their margin under views.",
        ),
        Column(
            name="entropy",
            family="entropy",
            title="Entropy over views",
            unit="nats",
            suspicious="high",
            detects="difficulty",
            uses_label=False,
            help="How spread out the predicted probabilities are, averaged over views; needs no label.",
        ),
    )

    views: int = 8
    own: bool = True
    stable: float = 0.9
    batch_size: int = 256

    def lacks(self, context: RunContext) -> str | None:
        """Neither images nor an augmentation of the run's own."""
        if context.audit.media == "image" or self._named(context):
            return None
        return (
            f"tta needs images, or the run's own augmentation; found {context.audit.media} data; set augment = "
            f'"file.py:callable" in [run.{context.run.name}.training]'
        )

    def depends(self, context: RunContext) -> list[Any] | None:
        """The run's own augmentation: its name and its code."""
        from scoring.audit.code_fingerprint import code_digest

        named = self._named(context)
        return [named, code_digest(named, context.audit.root)] if named else None

    def fit(self, context: RunContext, workdir: Path) -> dict[str, Any]:
        """Returns which views are drawn: the run's own augmentation, or how far to shift and whether to mirror."""
        if named := self._named(context):
            context.say(f"tta: {self.views} views from {named}, the training's augmentation")
            return {"augment": named, "folder": str(context.audit.root)}
        inputs, ids = self._sample(context)
        side = min(inputs.shape[-2:])
        shift = max(1, side // SHIFT) if side > 2 else 0
        with context.model.at(context.checkpoints[-1]):
            plain = self._predictions(context.model, inputs)
            shifted = moved(inputs, shifts(ids, 2, shift, context.audit.seed))
            kept = {
                "shift": float((self._predictions(context.model, shifted) == plain).mean()),
                "mirror": float((self._predictions(context.model, inputs.flip(-1)) == plain).mean()),
            }
        plan = {"shift": shift if kept["shift"] >= self.stable else 0, "mirror": kept["mirror"] >= self.stable}
        context.say(
            f"tta: {self.views if any(plan.values()) else 1} views; {kept['shift']:.0%} of the predictions are "
            f"unchanged by shifting and {kept['mirror']:.0%} by mirroring; a view is used if at least "
            f"{self.stable:.0%} are"
        )
        return plan

    def score(self, shard: Shard, state: dict[str, Any]) -> Columns:
        """``views`` forward passes at the last checkpoint."""
        augment = load_callable(state["augment"], state["folder"]) if "augment" in state else None
        views = self.views if any(state.values()) else 1
        found = np.full((3, len(shard)), np.nan)
        model, images = needed(shard.model, "checkpoints"), needed(shard.inputs, "checkpoints")
        with model.at(shard.checkpoints[-1]):
            for at, padded in padded_batches(np.arange(len(shard)), self.batch_size):
                inputs, ids = images[at], shard.example_id[at]
                total = np.zeros((3, len(at)))
                for view in range(views):
                    seen = (
                        own_view(augment, inputs, ids, view, shard.seed)
                        if augment
                        else view_of(inputs, ids, view, seed=shard.seed, **state)
                    )
                    logits = self._logits(model, seen[torch.from_numpy(padded - at[0])])[: len(at)]
                    total += np.stack(uncertainty(softmax(logits.astype(np.float64)), shard.labels[at]))
                found[:, at] = total / views
        labelled = shard.labels >= 0
        return {
            "loss": np.where(labelled, found[0], np.nan),
            "margin": np.where(labelled, found[1], np.nan),
            "entropy": found[2],
        }

    def _named(self, context: RunContext) -> str | None:
        return context.run.config.get("training", {}).get("augment") if self.own else None

    def _sample(self, context: RunContext) -> tuple[torch.Tensor, list[str]]:
        """Inputs and ids of a few examples, drawn by their ids."""
        ids = context.examples["example_id"].tolist()
        order = np.argsort([view_seed(context.audit.seed, name, -1) for name in ids], kind="stable")[:SAMPLE]
        inputs, good, _ = context.inputs.batch(order, context.pool)
        return inputs, [ids[order[row]] for row in good]

    def _predictions(self, model: AuditedModel, inputs: torch.Tensor) -> np.ndarray:
        parts = [
            self._logits(model, inputs[at]) for at in np.array_split(np.arange(len(inputs)), max(1, len(inputs) // 64))
        ]
        return np.concatenate(parts).argmax(1)

    @staticmethod
    def _logits(model: AuditedModel, inputs: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return model(inputs).float().cpu().numpy()
