"""Per-example gradients of the loss with respect to chosen parameters, vectorised where that is verified.

    ∇ℓ(x_i) = J_i e_i,   J_i = ∂z(x_i)ᵀ/∂θ,   e_i = ∂ℓ_i/∂z_i                      (chain rule; z: the (n, c) outputs)

e comes from an ordinary batch, so that no loss has to be vectorised; J_i e_i from ``torch.func.vmap`` of the
gradient of ⟨e_i, z(x_i)⟩, in chunks that fit ``MEMORY``, or one example at a time. A ``Sample`` is the proof:
a few random examples of the batch in a batch of their own, by ordinary autograd of the model's own
parameters,

    Σ_i w_i ∇ℓ(x_i),   w_i = ±1/‖e_i‖

so that each of them weighs as much as the next. A model, a batch and parameters by name go in; gradients by
name, (k, *shape), come out. Cost: a forward and a backward pass per example, batched; for the proof,
``SAMPLE`` examples more.

No batch here holds one example alone: PyTorch's batch norm gives such a batch a wrong gradient on the CPU
(findings/batchnorm_backward_of_one_example.sh), and some models squeeze it. It is sent twice.

Known limits: the proof looks at ``SAMPLE`` random examples of each batch, and to ``AGREEMENT``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from scoring.audit.errors import first_line
from scoring.models.closeness import close_in_norm, norm
from scoring.models.eval_mode import mapped, outputs
from scoring.models.losses import Loss, example_losses, is_plain_cross_entropy, widened

AGREEMENT = 1e-3  # of a gradient's length; float32 rounding stays far below
ROUNDING = 1e-6  # of the length over all parameters: what a sum of float32 numbers does not hold anyway
MEMORY = 256 << 20  # bytes of gradients and activations in one chunk
SAMPLE = 4

Gradients = dict[str, Tensor]


def output_gradients(loss: Loss, predicted: Tensor, labels: Tensor) -> Tensor:
    """e = ∂ℓ_i/∂z_i, (n, c), of cross-entropy in float64 where the device has it; 0 where a loss does not
    depend on them.

    Of cross-entropy p − y, with p(label) − 1 taken as minus the others' sum: of a sure example it rounds to
    0.

    Raises ``HardlookError`` as ``example_losses`` does.
    """
    plain = is_plain_cross_entropy(loss, labels)
    with torch.enable_grad():
        leaf = (widened(predicted) if plain else predicted).detach().clone().requires_grad_()
        losses = example_losses(loss, leaf.clone(), labels)
        if not losses.requires_grad:
            return torch.zeros_like(leaf)
        (found,) = torch.autograd.grad(losses.sum(), leaf, allow_unused=True, materialize_grads=True)
    if plain:
        found = found.scatter(1, labels[:, None], 0.0)
        found = found.scatter(1, labels[:, None], -found.sum(1, keepdim=True))
    return found.detach()


def pull_back(predicted: Tensor, errors: Tensor, parameters: Mapping[str, Tensor]) -> Gradients:
    """Σ_i J_i e_i by ordinary autograd, by name; names without a gradient are left out."""
    if not predicted.requires_grad or not parameters:
        return {}
    found = torch.autograd.grad(predicted, list(parameters.values()), errors.to(predicted), allow_unused=True)
    return {name: g for name, g in zip(parameters, found, strict=True) if g is not None}


def doubled(rows: Tensor) -> Tensor:
    """Row numbers of a batch that has two at least: one row alone is sent twice."""
    return rows.repeat(2) if len(rows) == 1 else rows


@dataclass(frozen=True)
class Sample:
    """A weighted sum of a few examples' gradients by ordinary autograd: ``rows`` (m,), ``weights`` (m,),
    ``gradients`` by name, and the ``bytes`` of activations that one example keeps."""

    rows: Tensor
    weights: Tensor
    gradients: Gradients
    bytes: int


def draw_sample(
    model: nn.Module,
    loss: Loss,
    inputs: Any,
    labels: Tensor,
    parameters: Mapping[str, nn.Parameter],
    generator: torch.Generator,
) -> Sample:
    """At most ``SAMPLE`` and half of the examples, so that each is in other company than in its batch.

    Call it where ``parameters`` require gradients and the model is in eval mode (``differentiable``).
    """
    count = max(1, min(SAMPLE, len(labels) // 2))
    drawn = torch.randperm(len(labels), generator=generator)[:count]
    signs = torch.randint(0, 2, (count,), generator=generator) * 2 - 1
    rows = doubled(drawn).to(labels.device)
    kept: dict[int, int] = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: _counted(tensor, kept), lambda tensor: tensor):
        predicted = outputs(model, mapped(inputs, lambda tensor: tensor[rows]))
    errors = output_gradients(loss, predicted, labels[rows])
    lengths = errors.flatten(1).norm(dim=1)
    weights = doubled(signs).to(errors) / torch.where(lengths > 0, lengths, 1) / (len(rows) / count)
    own = sum(kept.get(value.untyped_storage().data_ptr(), 0) for value in (*model.parameters(), *model.buffers()))
    return Sample(
        rows,
        weights,
        pull_back(predicted, weights[:, None] * errors, parameters),
        max(0, sum(kept.values()) - own) // len(rows),
    )


def _counted(tensor: Tensor, kept: dict[int, int]) -> Tensor:
    storage = tensor.untyped_storage()
    kept[storage.data_ptr()] = storage.nbytes()
    return tensor


def agree(found: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> bool:
    """Returns whether gradients by name are equal up to rounding; a missing one is zero, NaN equals nothing.

    >>> agree({"w": torch.ones(2)}, {"w": torch.ones(2)}), agree({"w": torch.ones(2)}, {})
    (True, False)
    """
    floor = ROUNDING * math.hypot(*map(norm, truth.values()))
    return all(close_in_norm(found.get(name), truth.get(name), AGREEMENT, floor) for name in {**truth, **found})


class ExampleGradients:
    """Per-example gradients of one model by some parameters, reduced to a row per example as they are made.

    ``reason``: why vmap does not serve the model, so that each example goes alone; None while it does.
    """

    def __init__(self, model: nn.Module, parameters: Mapping[str, nn.Parameter]):
        self.model, self.parameters = model, dict(parameters)
        self.reason: str | None = None

    def __call__(self, inputs: Any, errors: Tensor, sample: Sample, reduce: Callable[[Gradients], Tensor]) -> Tensor:
        """(n, …): ``reduce`` of each chunk's gradients, {name: (k, *shape)} → (k, …), in the order of the
        examples.

        ``errors``: ``output_gradients`` of the batch; ``sample``: of the same batch, by which vmap must prove
        itself.
        """
        rows: list[Tensor] = []
        if self.reason is None:
            # What vmap cannot do is raised in many kinds of exception; the plain way tells whether it is the model's.
            try:
                rows, agrees = self._vectorised(inputs, errors, sample, reduce)
                self.reason = None if agrees else "torch.func.vmap computes other gradients than autograd"
            except Exception as error:  # noqa: BLE001  vmap raises many kinds, and the reason is kept
                self.reason = f"torch.func.vmap cannot run it ({type(error).__name__}: {first_line(error, 120)})"
        if self.reason is not None:
            rows = [reduce(self.one(inputs, errors, at)) for at in range(len(errors))]
        return torch.cat(rows)

    def one(self, inputs: Any, errors: Tensor, at: int) -> Gradients:
        """One example's gradients by ordinary autograd, (1, *shape), zero where there is none; sent as two
        halves.
        """
        pair = mapped(inputs, lambda tensor: tensor[[at, at]])
        with torch.enable_grad():
            found = pull_back(outputs(self.model, pair), errors[[at, at]] / 2, self.parameters)
        return {
            name: (found[name] if name in found else torch.zeros_like(p))[None] for name, p in self.parameters.items()
        }

    def _vectorised(
        self, inputs: Any, errors: Tensor, sample: Sample, reduce: Callable[[Gradients], Tensor]
    ) -> tuple[list[Tensor], bool]:
        """The rows of all examples, and whether the sampled ones have the sampled gradient."""
        weights = errors.new_zeros(len(errors)).index_add(0, sample.rows, sample.weights)
        rows: list[Tensor] = []
        total: Gradients = {name: torch.zeros_like(p) for name, p in self.parameters.items()}
        for part in self._chunks(len(errors), sample):
            found = self._chunk(inputs, errors, doubled(part))
            rows.append(reduce(found)[: len(part)].detach())
            if weights[part].any():
                for name, value in found.items():
                    total[name] += torch.tensordot(weights[part].to(value), value[: len(part)].detach(), 1)
        truth = {name: value for name, value in sample.gradients.items() if name in self.parameters}
        return rows, agree(total, truth)

    def _chunks(self, n: int, sample: Sample) -> Iterator[Tensor]:
        each = sum(p.numel() * p.element_size() for p in self.parameters.values()) + sample.bytes
        yield from torch.arange(n, device=sample.rows.device).split(max(2, MEMORY // max(1, each)))

    def _chunk(self, inputs: Any, errors: Tensor, rows: Tensor) -> Gradients:
        """{name: (k, *shape)} of some examples, by vmap over batches of one."""

        def weighted(given: Gradients, x: Any, e: Tensor) -> Tensor:
            def run(*args: Any, **kwargs: Any) -> Any:
                return functional_call(self.model, given, args, kwargs)

            return (outputs(run, mapped(x, lambda tensor: tensor[None])).to(e) * e).sum()

        given = {name: p.detach() for name, p in self.parameters.items()}
        return vmap(grad(weighted), (None, 0, 0))(given, mapped(inputs, lambda tensor: tensor[rows]), errors[rows])
