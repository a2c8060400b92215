"""Whether two ways of running a model are the same function of its parameters, as far as one batch tells.

Two ways are the same where their logits z are, and the gradients of ⟨R, z⟩ by the parameters for a random R.
(The gradient of the loss would not do: it is nearly zero at a minimum.) Logits and gradients go in, yes or no
comes out. Cost: a backward pass. Known limits: equality to rounding, at these parameters.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SAME = 1e-5  # of the largest number: the same operations on the same values
SAME_GRADIENT = 1e-4  # of a parameter's gradient: sums over a batch, in another order on some devices


def same(found: Tensor, expected: Tensor) -> bool:
    """Whether logits (n, c) are the same, row by row, but for rounding; NaN is the same as nothing.

    >>> one, other = torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.1]])
    >>> same(one, one), same(one, other)
    (True, False)
    """
    if found.shape != expected.shape:
        return False
    found, expected = found.detach(), expected.detach()
    size = torch.where(expected.isfinite(), expected, 0).abs()
    largest = size.amax(1, keepdim=True).maximum(size.max() * SAME) if size.numel() else size
    return bool(((found == expected) | ((found - expected).abs() <= SAME * largest)).all())


def same_gradients(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> bool:
    """Whether gradients are the same, parameter by parameter; None is zero. Noise beside the largest is left out."""
    lengths = [0.0 if e is None else float(e.double().norm()) for e in expected]
    largest = max(lengths, default=0.0)
    for f, e, length in zip(found, expected, lengths, strict=True):
        apart = f if e is None else e if f is None else f - e
        if apart is not None and not float(apart.double().norm()) <= SAME_GRADIENT * (length + SAME * largest):
            return False
    return True


def probe(logits: Tensor) -> Tensor:
    """R: standard normal numbers in the shape of the logits, the same for every batch of that shape."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(logits.shape, generator=generator, dtype=torch.double).to(logits)


def probe_gradient(logits: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradient of ⟨R, z⟩ by each parameter; None where none reaches it."""
    if not logits.requires_grad or not parameters:
        return [None] * len(parameters)
    return list(torch.autograd.grad(logits, parameters, probe(logits), allow_unused=True))
