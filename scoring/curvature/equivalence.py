"""Tests whether two ways to run a model are the same function of its parameters, on one batch.

Two ways are the same where their logits z are, and the gradients of ⟨R, z⟩ by the parameters for a random R.
(The gradient of the loss would not do: it is nearly zero at a minimum.) Logits and gradients go in, yes or no
comes out. Cost: a backward pass. Known limits: equality to rounding, at these parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from scoring.models.closeness import close_in_norm, norm

SAME = 1e-5  # of the largest number: the same operations on the same values
SAME_GRADIENT = 1e-4  # of a parameter's gradient: sums over a batch, in another order on some devices


def same_logits(found: Tensor, expected: Tensor) -> bool:
    """Returns whether logits (n, c) are equal row by row up to rounding; NaN equals nothing.

    >>> one, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.1]])
    >>> same_logits(one, one), same_logits(one, other)
    (True, False)
    """
    if found.shape != expected.shape:
        return False
    found, expected = found.detach(), expected.detach()
    size = torch.where(expected.isfinite(), expected, 0).abs()
    largest = size.amax(1, keepdim=True).maximum(size.max() * SAME) if size.numel() else size
    return bool(((found == expected) | ((found - expected).abs() <= SAME * largest)).all())


def same_gradients(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> bool:
    """Returns whether gradients are equal up to rounding, parameter by parameter; None stands for zero.

    A gradient that is tiny beside the largest one is rounding noise and is not compared.
    """
    floor = SAME_GRADIENT * SAME * max(map(norm, expected), default=0.0)
    return all(close_in_norm(f, e, SAME_GRADIENT, floor) for f, e in zip(found, expected, strict=True))


def probe(logits: Tensor) -> Tensor:
    """Returns R: standard normal numbers of the logits' shape, the same for every batch of that shape."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(logits.shape, generator=generator, dtype=torch.double).to(logits)


def probe_gradient(logits: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Returns the gradient of ⟨R, z⟩ with respect to each parameter; None for a parameter without one."""
    if not logits.requires_grad or not parameters:
        return [None] * len(parameters)
    return list(torch.autograd.grad(logits, parameters, probe(logits), allow_unused=True))
