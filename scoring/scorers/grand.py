"""GraNd (Paul et al. 2021, definition 2.1): the norm of an example's loss gradient, early in training.

    GraNd = E ‖∇_θ ℓ(x, y)‖₂

over the first checkpoints, by the head's parameters in closed form (``scoring.gradients.parameter_gradient_norms``), or
by all parameters (``--grand-layers all``), exactly. The paper averages over ten initialisations, here over the first
checkpoints of one training. EL2N is its approximation by the error vector alone.

Cost: one forward pass per checkpoint; with all layers a backward pass per example besides. Limits: eval mode; where the
head is not linear (measured, ``scoring.models.head``) all layers are taken, and a note says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard, needed
from scoring.scorers.influence import padded_batches

LAYERS = ("head", "all")


@dataclass(frozen=True, kw_only=True)
class GraNd(Scorer):
    """Mean gradient length over the first checkpoints.

    ``layers``: layers whose gradient is measured, head or all. ``early``: number of first checkpoints to average over.
    ``batch_size``: examples per pass.
    """

    name = "grand"
    needs = ("checkpoints", "labels")
    columns = (
        Column(
            name="early",
            family="dynamics",
            title="GraNd, early",
            unit="nats per unit of weight",
            suspicious="high",
            detects="difficulty",
            stage="early",
            help="Norm of the gradient of the example's loss with respect to the weights, mean over the first "
            "checkpoints: high for examples that change the model much early in training, such as rare, hard or "
            "mislabelled ones.",
        ),
    )

    layers: str = "head"
    early: int = 3
    batch_size: int = 256

    def fit(self, context: RunContext, workdir: Path) -> str:
        """Returns the layers to use: the setting's, or all if the head has no closed form."""
        if self.layers not in LAYERS or self.early < 1:
            raise HardlookError(
                f"grand: layers = {self.layers!r}, early = {self.early}; needed layers = head or all, and early of at "
                "least 1"
            )
        if self.layers == "all" or context.head.get("linear"):
            return self.layers
        context.note(f"over all layers: {context.head.get('reason', 'the head was not measured')}")
        return "all"

    def score(self, shard: Shard, state: str | None) -> Columns:
        """Mean over the first checkpoints; null without a label. ``state``: over which layers, None: as they are
        set."""
        layers = state or self.layers
        known = np.flatnonzero(shard.labels >= 0)
        chosen, model = shard.checkpoints[: self.early], needed(shard.model, "checkpoints")
        total = np.zeros(len(shard))
        for checkpoint in chosen:
            model.at(checkpoint)
            for at, padded in padded_batches(known, self.batch_size):
                total[at] += self._norms(shard, padded, layers)[: len(at)] / len(chosen)
        model.at(shard.checkpoints[-1])  # where other scores expect it
        values = np.full(len(shard), np.nan)
        values[known] = total[known]
        return {"early": values}

    def _norms(self, shard: Shard, rows: np.ndarray, layers: str) -> np.ndarray:
        import torch

        from scoring.gradients.parameter_gradient_norms import gradient_norm, head_gradient_norm

        model = needed(shard.model, "checkpoints")
        inputs, labels = needed(shard.inputs, "checkpoints")[rows], shard.labels[rows]
        if layers == "head":
            found, head = model.features(inputs), model.head
            if head is None or found.features is None or not found.linear:
                raise HardlookError(
                    f"grand: at an early checkpoint, {found.reason}; use all layers with --grand-layers all"
                )
            return abs(head.scale) * head_gradient_norm(
                found.features.float().cpu().numpy(), found.logits.float().cpu().numpy(), labels, bias=head.bias
            )
        device = model.device
        return gradient_norm(
            model.module,
            inputs.to(device),
            torch.from_numpy(labels).to(device),
            note=lambda text: shard.note(text),
        )
