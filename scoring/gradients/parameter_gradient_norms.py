"""Exact norms of per-example loss gradients with respect to parameters: of the head, or of all layers.

For the cross-entropy ℓ of an example with logits z = W x + b, p = softmax(z), one-hot label y:

    head          ‖∂ℓ/∂(W, b)‖₂ = ‖p − y‖₂ √(‖x‖² + 1)                     (without bias: ‖x‖ alone)
    all layers    ‖∂ℓ/∂θ‖₂ over every parameter that requires a gradient, example by example

Features and logits, or a model and a batch, go in; (n,) lengths come out, in float64. Cost: none beyond a
forward pass for the head; for all layers one backward pass per example, vectorised over a few at a time and
proved on some (``scoring.gradients.per_example_gradients``). Limits: eval mode, so batch normalisation uses its running
statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from scoring.audit.errors import HardlookError
from scoring.gradients.per_example_gradients import ExampleGradients, Gradients, draw_sample, output_gradients
from scoring.gradients.plain_autograd import differentiable
from scoring.models.eval_mode import mapped, outputs


def head_gradient_norm(
    features: np.ndarray, logits: np.ndarray, labels: np.ndarray, *, bias: bool = True
) -> np.ndarray:
    """(n, d) inputs of the head, (n, c) logits, (n,) labels → (n,) length of the loss gradient of the head.

    >>> head_gradient_norm(np.array([[2.0, 2.0]]), np.array([[0.0, 0.0]]), np.array([0])).round(4).tolist()
    [2.1213]
    """
    x = np.asarray(features, dtype=np.float64)
    return error_length(logits, labels) * np.sqrt((x**2).sum(1) + (1.0 if bias else 0.0))


def error_length(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(n, c) logits, (n,) labels → (n,) ‖p − y‖₂; 1 − p(label) is not a difference, which would be 0 at p ≈
    1.
    """
    z = np.asarray(logits, dtype=np.float64)
    z = z - z.max(1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
    errors, rows = np.exp(log_p), np.arange(len(z))
    errors[rows, labels] = np.expm1(log_p[rows, labels])
    return np.sqrt((errors**2).sum(1))


def gradient_norm(
    model: nn.Module, inputs: Any, labels: Tensor, *, note: Callable[[str], None] = lambda _: None
) -> np.ndarray:
    """(n, *input), (n,) → (n,) length of each example's loss gradient by all parameters that require one.

    The model is given back as it was. A model that ``torch.func.vmap`` cannot run, or of which it gives other
    gradients than autograd does for a few random examples of the batch, goes one example at a time; ``note``
    hears of it. Raises ``HardlookError`` where no parameter requires a gradient, and for a length that is not
    finite.
    """
    chosen = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not chosen:
        raise HardlookError(
            f"{type(model).__name__} has no parameter that requires a gradient; gradient norms need at least one: set "
            "requires_grad, or use the head alone"
        )
    if not len(labels):
        return np.empty(0)
    if len(labels) == 1:  # see scoring.gradients.per_example_gradients: no batch holds one example alone
        inputs, labels = mapped(inputs, lambda tensor: tensor[[0, 0]]), labels[[0, 0]]
        return gradient_norm(model, inputs, labels, note=note)[:1]
    with differentiable(model, chosen.values()):
        with torch.no_grad():
            predicted = outputs(model, inputs)
        errors = output_gradients(cross_entropy, predicted, labels)
        sample = draw_sample(model, cross_entropy, inputs, labels, chosen, torch.Generator().manual_seed(0))
        each = ExampleGradients(model, chosen)
        squares = each(inputs, errors, sample, _squares)
    if each.reason is not None:
        note(f"gradient norms over all layers are computed one example at a time, which is slower: {each.reason}")
    return _finite(squares.sqrt()).cpu().numpy()


def _squares(gradients: Gradients) -> Tensor:
    return sum((g.reshape(len(g), -1).double().square().sum(1) for g in gradients.values()), torch.zeros(()))


def _finite(lengths: Tensor) -> Tensor:
    bad = (~lengths.isfinite()).nonzero().flatten()
    if len(bad):
        raise HardlookError(
            f"the gradient of example {int(bad[0])} of a batch is not finite ({len(bad)} such examples); check these "
            "inputs and the weights"
        )
    return lengths
