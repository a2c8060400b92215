"""Hessian products of a linear head under cross-entropy, in closed form from features and probabilities.

For logits z = W x + b and p = softmax(z):

    H V = (1/n) Σ_i ((diag p_i − p_i p_iᵀ) V x̃_i) x̃_iᵀ,   x̃ = (x, 1), or x without a bias

A model, its batches and the chosen parameters go in. That the layer with these parameters is the head is not
read from its type: on every batch the logits must be W x + b of what enters the layer, and their gradient by
W and b must be that of W x + b for fixed x. Cost: one forward pass per batch; a product is two matrix
products over all features.

Known limits: features of shape (n, d); another head is differentiated like any layer
(``scoring.curvature.hessian``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from scoring.curvature.chosen_parameters import Chosen
from scoring.curvature.equivalence import SAME, probe, probe_gradient, same_gradients
from scoring.curvature.lanczos import Vector
from scoring.curvature.products import Products
from scoring.models.eval_mode import outputs
from scoring.models.losses import Loss, example_losses, widened


class HeadProducts(Products):
    """H V of a linear head under cross-entropy, from cached features (n, d) and probabilities (n, c) in
    float64.
    """

    method = "closed form of the linear head"

    def __init__(self, chosen: Chosen, features: Tensor, probabilities: Tensor, l2: float):
        super().__init__(chosen, l2)
        self.features, self.probabilities = features, probabilities
        self.n = len(features)
        self.bytes = features.nbytes + probabilities.nbytes
        self.has_bias = len(chosen.parameters) > 1

    @classmethod
    def proved(
        cls, model: nn.Module, data: Iterable[Any], chosen: Chosen, layer: nn.Module, loss: Loss, l2: float
    ) -> HeadProducts | None:
        """From (inputs, labels) batches, or None where the layer is not the linear head of one of them.

        Raises ``HardlookError`` for labels and losses that ``example_losses`` refuses.
        """
        rows = []
        for inputs, labels in data:
            found = _linear_head(model, layer, chosen, inputs)
            if found is None:
                return None
            entering, logits = found
            example_losses(loss, logits, labels)
            rows.append((widened(entering), widened(logits).softmax(1)))
        features, probabilities = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return cls(chosen, features, probabilities, l2)

    def _summed(self, vector: Vector) -> list[Tensor]:
        wide = [part.to(self.features.dtype) for part in vector]
        change = self.features @ wide[0].T  # (n, c): how the logits move along v
        if self.has_bias:
            change += wide[1]
        change = self.probabilities * (change - (self.probabilities * change).sum(1, keepdim=True))
        products = [change.T @ self.features] + ([change.sum(0)] if self.has_bias else [])
        return [product.to(part.dtype) for product, part in zip(products, vector, strict=True)]


def head_candidate(model: nn.Module, chosen: Chosen) -> nn.Module | None:
    """The one layer that owns all chosen parameters, if these are a ``weight`` (c, d) and maybe a ``bias`` (c,)."""
    wanted = {id(parameter) for parameter in chosen.tensors}
    owners = [m for m in model.modules() if any(id(p) in wanted for p in m.parameters(recurse=False))]
    if len(owners) != 1:
        return None
    own = dict(owners[0].named_parameters(recurse=False))
    shapes = {name: parameter.ndim for name, parameter in own.items()}
    fits = shapes in ({"weight": 2}, {"weight": 2, "bias": 1}) and {id(p) for p in own.values()} == wanted
    return owners[0] if fits else None


def _linear_head(model: nn.Module, layer: nn.Module, chosen: Chosen, inputs: Any) -> tuple[Tensor, Tensor] | None:
    """Returns what enters the layer (n, d) and the logits (n, c) of a batch; None where these are not W x + b of it."""
    entered: list[Any] = []
    handle = layer.register_forward_pre_hook(
        lambda _, args, kwargs: entered.append(args[0] if args else kwargs.get("input")), with_kwargs=True
    )
    try:
        logits = outputs(model, inputs)
    finally:
        handle.remove()
    if (
        len(entered) != 1
        or not isinstance(entered[0], Tensor)
        or entered[0].ndim != 2
        or not entered[0].is_floating_point()
    ):
        return None
    x, z = widened(entered[0].detach()), widened(logits.detach())
    weight, *bias = (widened(parameter.detach()) for parameter in chosen.tensors)
    if z.shape != (len(x), len(weight)) or x.shape[1:] != weight.shape[1:]:
        return None
    expected, size = x @ weight.T + sum(bias), x.abs() @ weight.abs().T + sum(b.abs() for b in bias)
    if not ((z - expected).abs() <= SAME * size.amax(1, keepdim=True)).all():
        return None
    r = probe(z)
    closed = [r.T @ x, r.sum(0)][: len(chosen.tensors)]
    return (x, z) if same_gradients(closed, probe_gradient(logits, chosen.tensors)) else None
