"""Exact lengths of per-example gradients of the loss by the parameters: of the head alone, or of all layers.

For the cross-entropy ℓ of an example with logits z = W x + b, p = softmax(z), one-hot label y:

    head          ‖∂ℓ/∂(W, b)‖₂ = ‖p − y‖₂ √(‖x‖² + 1)                     (without bias: ‖x‖ alone)
    all layers    ‖∂ℓ/∂θ‖₂ over every parameter that requires a gradient, example by example

Features and logits, or a model and a batch, go in; (n,) lengths come out, in float64. Cost: none beyond a forward
pass for the head; for all layers one backward pass per example, vectorised over a few at a time (``SCRATCH`` bytes
of gradients). Limits: eval mode, so batch normalisation uses its running statistics.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.functional import cross_entropy

from scoring.models.modes import evaluating, logits_of

SCRATCH = 64 << 20


def head_gradient_norm(features: np.ndarray, logits: np.ndarray, labels: np.ndarray, *, bias: bool = True) -> np.ndarray:
    """(n, d) inputs of the head, (n, c) logits, (n,) labels → (n,) length of the loss gradient of the head.

    >>> head_gradient_norm(np.array([[2.0, 2.0]]), np.array([[0.0, 0.0]]), np.array([0])).round(4).tolist()
    [2.1213]
    """
    x = np.asarray(features, dtype=np.float64)
    return error_length(logits, labels) * np.sqrt((x**2).sum(1) + (1.0 if bias else 0.0))


def error_length(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, c) logits, (n,) labels → (n,) ‖p − y‖₂; 1 − p(label) is not a difference, which would be 0 at p ≈ 1."""
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    errors, rows = np.exp(log_p), np.arange(len(z))
    errors[rows, labels] = np.expm1(log_p[rows, labels])
    return np.sqrt((errors**2).sum(1))


def gradient_norm(model: nn.Module, inputs: Tensor, labels: Tensor) -> np.ndarray:
    """(n, *input), (n,) → (n,) length of each example's loss gradient by all parameters that require one.

    The model is given back as it was. A model that ``torch.func.vmap`` cannot run goes one example at a time.
    """
    chosen = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    step = max(1, SCRATCH // (4 * max(1, sum(p.numel() for p in chosen.values()))))
    with evaluating(model), torch.enable_grad():
        parts = [_norms(model, chosen, inputs[at : at + step], labels[at : at + step])
                 for at in range(0, len(inputs), step)]
    return torch.cat(parts).cpu().numpy() if parts else np.empty(0)


def _norms(model: nn.Module, parameters: dict[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
    def loss(given, x, y):
        logits = logits_of(functional_call(model, given, (x[None],)))
        return cross_entropy(logits.double(), y[None])

    each = grad(loss)
    try:
        squares = _squares(vmap(each, (None, 0, 0))(parameters, inputs, labels))
    except RuntimeError:
        squares = torch.stack([_squares({k: g[None] for k, g in each(parameters, x, y).items()})[0]
                               for x, y in zip(inputs, labels, strict=True)])
    return squares.sqrt()


def _squares(gradients: dict[str, Tensor]) -> Tensor:
    return sum(g.flatten(1).double().square().sum(1) for g in gradients.values())
