"""Compares gradients with the measured slope of the logits; they differ if the forward cuts part of its graph.

Along a direction v of random signs, central differences must agree with the gradient g:

    Σ_i ( s_i − ⟨g_i, v_i⟩ )²  ≤  ¼ Σ_i s_i²,     s_i = ( f_a(x_i + h v_i) − f_a(x_i − h v_i) ) / 2h

A loose bound, met by kinks and rounding; a branch under ``no_grad`` or ``detach`` that carries half of the
slope is not. Inputs: a function from inputs to logits, a batch, its gradients → bool. Cost: four forward
passes. Known limits: says nothing where differences are rounded away, and nothing about less than half of the
slope.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scoring.gradients.backward_passes import Batch

STEPS = (1e-3, 4e-3)
"""h, in standard deviations of the batch's values; where the two disagree, a slope cannot be measured."""
EXAMPLES = 8
"""How many examples are enough to see that half of the slope is missing."""


def is_slope(logits_of: Callable[[Batch], Tensor], batch: Batch, gradient: Tensor) -> bool:
    """Returns whether the gradient of each example's chosen logit, (n, *input) floats, is the slope of that logit.

    >>> batch = Batch(torch.ones(2, 3), torch.tensor([[0], [1]]), 1)
    >>> is_slope(lambda one: one.leaf @ torch.ones(3, 2), batch, torch.ones(2, 3))
    True
    >>> is_slope(lambda one: one.leaf @ torch.ones(3, 2), batch, torch.zeros(2, 3))
    False
    """
    leaf = batch.leaf.detach()
    signs = torch.rand(leaf.shape, generator=torch.Generator().manual_seed(0)).sub_(0.5).sign_().to(leaf)
    size = float(leaf.double().std()) or 1.0
    near, far = (_slope(logits_of, batch, leaf, signs, step * size) for step in STEPS)
    if not (near - far).norm() <= 0.1 * near.norm():
        return True  # rounding, kinks or steps, or not finite: nothing can be said
    found = (gradient.double() * signs.double()).flatten(1).sum(1)
    return bool((near - found).norm() <= 0.5 * near.norm())


def _slope(logits_of: Callable[[Batch], Tensor], batch: Batch, leaf: Tensor, signs: Tensor, step: float) -> Tensor:
    """(n,) central differences of the chosen logits along the signs."""
    up, down = (
        logits_of(Batch((leaf + side * signs).requires_grad_(), batch.classes, batch.highest)) for side in (step, -step)
    )
    return (up.double() - down.double()).gather(1, batch.classes)[:, 0] / (2 * step)
