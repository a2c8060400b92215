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

import numpy as np

from scoring.scorer import Column, Columns, Scorer, Shard
from scoring.scorers.influence import padded_batches
from scoring.tables import HardlookError


def odin(model, inputs, *, temperature: float = 1000.0, epsilon: float = 0.0014,
         embedding: str | None = None) -> np.ndarray:
    """(n, *input) floats through ``model`` (inputs → (n, c) logits) → (n,) ODIN; high = in distribution.

    Of (n, tokens) integers the output of the module's embedding is moved: of its first ``nn.Embedding``, or of the layer
    ``embedding``.
    """
    import torch

    from scoring.gradients import forward, forward_from

    tokens = not inputs.is_floating_point()
    with torch.enable_grad():
        x, logits = forward(model, inputs, embedding) if tokens else (inputs.detach().clone().requires_grad_(), None)
        log_p = ((logits if tokens else model(x)).double() / temperature).log_softmax(1)
        best = log_p.max(1).values.sum()
        towards = torch.autograd.grad(best, x, allow_unused=True)[0] if best.requires_grad else None
    if towards is None:
        raise HardlookError("odin needs the gradient of the logits by the inputs, and the model's forward cuts the graph "
                            "(no_grad, detach, numpy); remove that")
    with torch.no_grad():
        step = epsilon * towards.sign()
        moved = forward_from(model, inputs, x + step, embedding) if tokens else model(inputs + step)
        return (moved.double() / temperature).softmax(1).max(1).values.cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class ODIN(Scorer):
    """ODIN of the last checkpoint; low is out of distribution.

    ``temperature``: what the logits are divided by. ``epsilon``: the length of the step, per input value; both as in
    the paper. ``batch_size``: examples per pass. ``embedding``: name of the layer that embeds tokens; empty = the first
    ``nn.Embedding``.
    """

    name = "odin"
    needs = ("checkpoints",)
    columns = (
        Column(name="odin", family="out of distribution", title="ODIN", unit="probability", suspicious="low",
               detects="out of distribution", uses_label=False,
               help="Largest probability at a temperature of 1,000, after a small step of the input towards it. High = in "
                    "distribution; low = out of distribution."),
    )

    temperature: float = 1000.0
    epsilon: float = 0.0014
    batch_size: int = 256
    embedding: str = ""

    def score(self, shard: Shard, state) -> Columns:
        """ODIN of the shard's examples at the last checkpoint."""
        import torch

        values = np.full(len(shard), np.nan)
        model = shard.model
        if not shard.inputs.is_floating_point():
            model = shard.model.module  # its embedding is hooked
            if not self.embedding and not any(isinstance(part, torch.nn.Embedding) for part in model.modules()):
                return {"odin": values}
        finite = np.flatnonzero(shard.inputs.flatten(1).isfinite().all(1).numpy())
        with shard.model.at(shard.checkpoints[-1]):
            for at, padded in padded_batches(finite, self.batch_size):
                batch = shard.inputs[padded].to(shard.model.device)
                found = odin(model, batch, temperature=self.temperature, epsilon=self.epsilon,
                             embedding=self.embedding or None)
                values[at] = found[: len(at)]
        return {"odin": values}
