"""ODIN (Liang, Li and Srikant 2018): largest probability at a high temperature, after a small step towards it.

    x̃ = x + ε sign(∇_x log S_ŷ(x; T))        ODIN(x) = max_j S_j(x̃; T),   S = softmax(f / T)       (their eq. 1-3)

The step raises the probability of examples in distribution more than of others. HIGH = IN distribution.

Inputs: batches of inputs through the last checkpoint → (n,). Cost: two forward passes and one backward pass to the
input. Limits: ``epsilon`` is in units of the transformed input, and the paper tunes it on known examples out of
distribution. Tokens cannot be moved: the step is one of their embedding's output, in its units, as for VoG; a model
without an ``nn.Embedding`` gets null.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scoring.scorers import Column, Columns, Scorer, Shard, needed
from scoring.scorers.influence import padded_batches

if TYPE_CHECKING:
    from torch import Tensor, nn

    from scoring.models import AuditedModel


def odin(
    model: nn.Module | AuditedModel,
    inputs: Tensor,
    *,
    temperature: float = 1000.0,
    epsilon: float = 0.0014,
    embedding: str | None = None,
) -> np.ndarray:
    """(n, *input) floats through ``model`` (inputs → (n, c) logits) → (n,) ODIN; high = in distribution.

    Of (n, tokens) integers the output of the module's embedding is moved: of the ``nn.Embedding`` that receives them,
    or of the layer ``embedding``. Raises ``HardlookError`` where there is no input gradient.
    """
    import torch

    from scoring.gradients.backward_passes import differentiate, forward_through, make_batch
    from scoring.gradients.token_embedding import token_layer

    def towards_the_best(logits: Tensor, _classes: Tensor) -> Tensor:  # ∂ log S_ŷ / ∂ logits, but for the factor 1/T
        p = (logits.double() / temperature).softmax(1)
        return torch.zeros_like(p).scatter_(1, p.argmax(1, keepdim=True), 1).sub_(p).to(logits.dtype)

    part = model if isinstance(model, torch.nn.Module) else model.module
    batch = make_batch(inputs, torch.zeros(len(inputs)), inputs.device, inputs.dtype)
    layer = token_layer(part, inputs, embedding) if batch.tokens else ""
    with torch.enable_grad():
        _, (towards,) = differentiate(model, batch, [towards_the_best], layer or None)
    step = epsilon * towards.sign()
    with torch.no_grad():
        moved = forward_through(part, inputs, layer, step.add) if batch.tokens else model(inputs + step)
        return (moved.double() / temperature).softmax(1).max(1).values.cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class ODIN(Scorer):
    """ODIN of the last checkpoint; low is out of distribution.

    ``temperature``: divisor of the logits, 1,000 in the paper. ``epsilon``: step per input value, 0.0014 in the paper.
    ``batch_size``: examples per pass. ``embedding``: name of the layer that embeds tokens; empty = the ``nn.Embedding``
    that receives them.
    """

    name = "odin"
    needs = ("checkpoints",)
    columns = (
        Column(
            name="odin",
            family="out of distribution",
            title="ODIN",
            unit="probability",
            suspicious="low",
            detects="out of distribution",
            uses_label=False,
            help="Largest probability at a temperature of 1,000, after a small step of the input that increases it. "
            "High = in distribution; low = out of distribution.",
        ),
    )

    temperature: float = 1000.0
    epsilon: float = 0.0014
    batch_size: int = 256
    embedding: str = ""

    def score(self, shard: Shard, state: None) -> Columns:
        """ODIN of the shard's examples at the last checkpoint."""
        from scoring.gradients.token_embedding import LAYERS

        values = np.full(len(shard), np.nan)
        inputs, audited = needed(shard.inputs, "checkpoints"), needed(shard.model, "checkpoints")
        model: nn.Module | AuditedModel = audited
        if not inputs.is_floating_point():
            model = audited.module  # its embedding is hooked
            if not self.embedding and not any(isinstance(part, LAYERS) for part in audited.module.modules()):
                shard.note(
                    "odin is null: inputs are tokens and the model has no nn.Embedding whose output could be "
                    "perturbed; name its embedding layer"
                )
                return {"odin": values}
        finite = np.flatnonzero(inputs.flatten(1).isfinite().all(1).numpy())
        with audited.at(shard.checkpoints[-1]):
            for at, padded in padded_batches(finite, self.batch_size):
                batch = inputs[padded].to(audited.device)
                found = odin(
                    model, batch, temperature=self.temperature, epsilon=self.epsilon, embedding=self.embedding or None
                )
                values[at] = found[: len(at)]
        return {"odin": values}
