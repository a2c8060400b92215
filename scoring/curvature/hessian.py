"""Products of vectors with the mean training-loss Hessian of chosen layers, fast for many products.

    H = (1/n) Σ_i ∇²ℓ(f(x_i), y_i) + l2 · I        (l2 on weight matrices; biases and norms are not penalised)

Models in eval mode, re-iterable (inputs, labels) batches and chosen parameters go in; ``products(v)`` gives H
v, lists of tensors shaped like the parameters. Three ways, fastest first, batch by batch within a memory
budget:

    closed form   a linear head under cross-entropy (``closed_form``), from cached features
    retained      the graph of the first backward pass is kept; a product is one backward pass through it
    recomputed    the part below the first chosen layer is cached, the rest runs anew for each product
    reread        what does not fit even so is read from the data again

Cost of a product, against one forward and backward pass of the part above: about 2 retained, 3 recomputed.

Known limits: the data must come in the same order every time where it is reread; this is checked by its
labels and the sums of its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge, saved_tensors_hooks

from scoring.audit.errors import HardlookError
from scoring.curvature.cached_prefix import NO_PREFIX, Prefix, Recorded
from scoring.curvature.chosen_parameters import Chosen, batches, few
from scoring.curvature.closed_form import HeadProducts, head_candidate
from scoring.curvature.double_backward import SecondOrder
from scoring.curvature.forward import check_forward
from scoring.curvature.lanczos import Vector
from scoring.curvature.products import Products
from scoring.curvature.second_derivative_check import REMEDY, check_second_derivatives, describe_failure
from scoring.gradients import device_of
from scoring.models.eval_mode import mapped, outputs
from scoring.models.losses import Loss, example_losses, is_plain_cross_entropy

Gradients = Callable[[], list[Tensor | None]]


def hessian_products(
    model: nn.Module,
    data: Iterable[Any],
    chosen: Chosen,
    *,
    loss: Loss,
    l2: float = 0.0,
    memory_budget: int = 2**31,
    checked_before: bool = False,
) -> HeadProducts | HessianProducts:
    """The fastest way to multiply by the Hessian of these layers on these data within ``memory_budget``
    bytes.

    Call it, and its result, inside ``differentiable(model, chosen.tensors)``. Second derivatives are tried on
    a few examples first (``scoring.curvature.second_derivative_check``), unless they were ``checked_before``. Raises
    ``HardlookError`` where they are wrong, the model gives other outputs the second time, the data are empty,
    or a loss is not finite.
    """
    batch = few(data, device_of(model))
    notes = []
    if not checked_before:
        check_forward(model, batch[0])
        verdict = check_second_derivatives(model, batch, chosen, loss, products_on_few)
        if verdict.wrong:
            raise HardlookError(f"{describe_failure(chosen, verdict)}; {REMEDY}")
        notes = list(verdict.notes)
    products = _products(model, data, chosen, loss, l2, memory_budget)
    products.notes += notes
    return products


def products_on_few(model: nn.Module, data: list[Any], chosen: Chosen, loss: Loss) -> HeadProducts | HessianProducts:
    """Returns the products over a few examples, by the method used for many (for ``second_derivative_check``)."""
    return _products(model, data, chosen, loss, 0.0, 2**31, NO_PREFIX)


def _products(
    model: nn.Module,
    data: Iterable[Any],
    chosen: Chosen,
    loss: Loss,
    l2: float,
    memory_budget: int,
    prefix: Prefix | None = None,
) -> HeadProducts | HessianProducts:
    device = device_of(model)
    _, labels = few(data, device)
    head = head_candidate(model, chosen) if is_plain_cross_entropy(loss, labels) else None
    if head is not None:
        products = HeadProducts.proved(model, batches(data, device), chosen, head, loss, l2)
        if products is not None:
            return products
    return HessianProducts(model, data, chosen, loss, l2, memory_budget, prefix)


# -- any layers ----------------------------------------------------------------------------------------------


class Retained:
    """One batch whose first backward pass is kept as a graph: a product is one backward pass through it."""

    def __init__(self, chosen: Chosen, gradients: Gradients):
        self.parameters = chosen.tensors
        edges = {i: get_gradient_edge(g) for i, g in enumerate(gradients()) if g is not None and g.requires_grad}
        self.used = list(edges)
        self.edges = list(edges.values())

    def add(self, total: list[Tensor], vector: Vector) -> None:
        """total += n H v of this batch."""
        if not self.edges:
            return
        found = torch.autograd.grad(
            self.edges, self.parameters, [vector[i] for i in self.used], retain_graph=True, allow_unused=True
        )
        for part, more in zip(total, found, strict=True):
            if more is not None:
                part.add_(more)


@dataclass
class Recomputed:
    """One batch from the first chosen layer on: its graph is built and dropped for each product."""

    products: HessianProducts
    prefix: Prefix
    recorded: Recorded
    labels: Tensor

    def retained(self) -> Retained:
        """The same batch with its graph kept."""
        return Retained(self.products.chosen, self._gradients)

    def _gradients(self) -> list[Tensor | None]:
        """The summed loss gradient, differentiable once more."""
        model, loss, chosen = self.products.model, self.products.loss, self.products.chosen
        with SecondOrder(), self.prefix.replay(self.recorded) as inputs:
            total = example_losses(loss, outputs(model, inputs), self.labels).sum()
            if not total.requires_grad:  # no example of the batch reaches a chosen layer (an expert, say)
                return [None] * len(chosen.tensors)
            return list(torch.autograd.grad(total, chosen.tensors, create_graph=True, allow_unused=True))

    def add(self, total: list[Tensor], vector: Vector) -> None:
        """total += n H v of this batch."""
        self.retained().add(total, vector)


class HessianProducts(Products):
    """H v of any layers, each batch retained, recomputed or reread, as the memory budget allows."""

    def __init__(
        self,
        model: nn.Module,
        data: Iterable[Any],
        chosen: Chosen,
        loss: Loss,
        l2: float,
        memory_budget: int,
        prefix: Prefix | None = None,
    ):
        super().__init__(chosen, l2)
        self.model, self.data, self.loss = model, data, loss
        self.device = device_of(model)
        found = prefix or Prefix.find(model, chosen.tensors, few(data, self.device)[0])
        for self.prefix in (found, *found.fallbacks):
            self.left = memory_budget
            self.kept: list[Retained | Recomputed] = []
            self.labels: list[Tensor] = []
            self.sums: dict[int, list[Tensor]] = {}
            if self._record():
                break
        if self.prefix is not found:
            self.notes.append(_kept_more(self.prefix))
        self._retain()
        self.bytes = memory_budget - self.left

    @property
    def method(self) -> str:
        """Returns how the batches are multiplied, in words."""
        retained = sum(isinstance(piece, Retained) for piece in self.kept)
        counts = {
            "retained": retained,
            "recomputed": len(self.kept) - retained,
            "reread": len(self.labels) - len(self.kept),
        }
        return ", ".join(f"{count} of {len(self.labels)} batches {how}" for how, count in counts.items() if count)

    def _record(self) -> bool:
        """Run every batch up to the first chosen layer and keep what fits → whether each could be run from that."""
        full = False
        for inputs, labels in batches(self.data, self.device):
            self.labels.append(labels)
            if full:
                self.sums[len(self.labels) - 1] = _sums(inputs)
                continue
            recorded = self.prefix.record(self.model, inputs, self.chosen.tensors)
            if recorded is None:
                return False
            full = recorded.bytes > self.left
            if full:
                self.sums[len(self.labels) - 1] = _sums(inputs)
            else:
                self.left -= recorded.bytes
                self.kept.append(Recomputed(self, self.prefix, recorded, labels))
        self.n = sum(map(len, self.labels))
        return True

    def _retain(self) -> None:
        """Turn recorded batches into retained graphs while the budget lasts; the first one tells what a graph
        takes.
        """
        if not self.kept or len(self.kept) < len(self.labels):
            return
        per_example = None
        for i, piece in enumerate(self.kept):
            if isinstance(piece, Retained):
                continue
            n = len(piece.labels)
            if per_example is not None and per_example * n > self.left:
                return
            sizes: dict[int, int] = {}
            with saved_tensors_hooks(_measure(sizes), lambda tensor: tensor):
                graph = piece.retained()
            size = sum(sizes.values()) - sum(sizes.get(p.data_ptr(), 0) for p in self.model.parameters())
            per_example = size / n
            if size > self.left:
                return
            self.left += piece.recorded.bytes - size
            self.kept[i] = graph

    def _summed(self, vector: Vector) -> list[Tensor]:
        total = [torch.zeros_like(parameter) for parameter in self.chosen.tensors]
        for piece in self.kept:
            piece.add(total, vector)
        for inputs, labels in self._reread():
            Recomputed(self, NO_PREFIX, Recorded(inputs, ()), labels).add(total, vector)
        return total

    def _reread(self) -> Iterator[tuple[Any, Tensor]]:
        """The batches that were not kept, from the data."""
        if len(self.kept) == len(self.labels):
            return
        again = islice(batches(self.data, self.device), len(self.kept), None)
        left = range(len(self.kept), len(self.labels))
        for number, (inputs, labels) in zip(left, again, strict=True):
            if not torch.equal(labels, self.labels[number]) or not _close(_sums(inputs), self.sums[number]):
                raise HardlookError(
                    "the second pass over data returned other examples or another order; pass a DataLoader with "
                    "shuffle=False and no random transform"
                )
            yield inputs, labels


def _sums(inputs: Any) -> list[Tensor]:
    """A number for each tensor of the inputs, by which other inputs are recognised."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor.double().sum())
        return tensor

    mapped(inputs, note)
    return found


def _close(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.allclose(a, b, rtol=1e-6, atol=0.0, equal_nan=True) for a, b in zip(one, two, strict=True))


def _kept_more(prefix: Prefix) -> str:
    """Returns what to say where some batch could not be run from what the first examples needed."""
    how = (
        "all of their outputs are kept in memory"
        if prefix.modules
        else "they run again for every product, which is slower"
    )
    return f"the layers below the chosen ones run differently for some examples than for the first ones: {how}"


def _measure(sizes: dict[int, int]) -> Callable[[Tensor], Tensor]:
    """A hook that notes the memory of each tensor a graph saves, shared memory once."""

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    return pack
