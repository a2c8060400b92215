"""Checks second derivatives on a few examples before thousands of Hessian products use them.

A Hessian product is the change of the gradient along v:  H v = lim (∇ℓ(θ + h v) − ∇ℓ(θ − h v)) / 2h,  and H
is symmetric: uᵀ H v = vᵀ H u. Double backward gives something else, silently, through a function whose
backward pass drops second-order terms (numpy, ``detach``), gives an error through one marked
``once_differentiable``, and is plainly wrong through some of PyTorch's own (2.14: ``weight_norm``, which
``second_order`` replaces).

A model, a few examples and the way to make products go in; the parameters whose rows of H v are wrong come
out. Each is judged by itself, ‖(H v)_p − difference‖ against ‖difference‖, so layers can be left out by name.

Cost: one pass over two examples in float64; a product and two gradients of the upper part. Known limits: a
model that loses float64's precision on its way (code outside of PyTorch) is tried with coarser steps; where
it has kinks as well, symmetry alone is tried, and the note says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError, first_line
from scoring.curvature.cached_prefix import NO_PREFIX, Prefix, Recorded
from scoring.curvature.chosen_parameters import Chosen
from scoring.curvature.double_precision import in_float64, in_own_precision, scales, wide_inputs, wide_loss
from scoring.curvature.lanczos import Vector
from scoring.models.eval_mode import mapped, outputs
from scoring.models.losses import Loss, example_losses

EXAMPLES = 2
MOVED = 1e-3  # how far the point of the trial is from the weights, in units of each parameter's scale
SEEDS = range(3)  # points and directions of their own: one may meet a kink, an error is met at all
FINE = (1e-8, 1e-6, 1e-3)  # a small and a large step, and the tolerance, in float64
COARSE = (1e-3, 1e-2, 3e-2)
FLOOR = 1e-5  # of the largest row, in units of the parameters' scales: below it a row is rounding
UNVERIFIED = (
    "the second derivatives could not be checked in float64 (the model casts to a lower precision, or does not run "
    "in float64): they are symmetric, but their values are not verified"
)

REMEDY = "choose layers closer to the output, or make that function twice differentiable"

Make = Callable[[nn.Module, list[Any], Chosen, Loss], Callable[[Vector], Vector]]


@dataclass(frozen=True)
class DerivativeCheck:
    """The result of the check: parameters with wrong second derivatives → the relative error or the reason; and
    notes."""

    wrong: Mapping[str, float | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def twice_differentiable_parameters(
    model: nn.Module, batch: tuple[Any, Tensor], chosen: Chosen, loss: Loss, make: Make
) -> tuple[Chosen, list[str]]:
    """Returns the chosen parameters with correct second derivatives, and notes on layers that were left out.

    Call it inside ``differentiable(model, chosen.tensors)``. Raises ``HardlookError`` where none is left.
    """
    notes: list[str] = []
    while True:
        verdict = check_second_derivatives(model, batch, chosen, loss, make)
        if not verdict.wrong:
            return chosen, [*notes, *verdict.notes]
        left, reason = chosen.without(verdict.wrong), describe_failure(chosen, verdict)
        if not left.parameters:
            raise HardlookError(f"{reason}; {REMEDY}")
        notes.append(f"{reason}: left out; the layers are {', '.join(left.owners(left.parameters))}")
        for name in verdict.wrong:
            chosen.parameters[name].requires_grad_(False)
        chosen = left


def describe_failure(chosen: Chosen, verdict: DerivativeCheck) -> str:
    """Returns the sentence on the layers whose second derivatives are wrong."""
    layers = ", ".join(chosen.owners(verdict.wrong))
    why = [reason for reason in verdict.wrong.values() if isinstance(reason, str)]
    if why:
        return f"the gradient of {layers} cannot be differentiated again ({why[0]})"
    worst = max(float(off) for off in verdict.wrong.values())
    return (
        f"the second derivatives of {layers} differ from a finite difference by up to {worst:.0%} of the change of "
        "the gradient: a function in the model drops second-order terms or computes them wrongly"
    )


def check_second_derivatives(
    model: nn.Module, batch: tuple[Any, Tensor], chosen: Chosen, loss: Loss, make: Make
) -> DerivativeCheck:
    """Compares products on a few examples with finite differences of the gradient, and tests their symmetry.

    ``make``: (model, data, chosen, loss) → products. Call it inside ``differentiable(model,
    chosen.tensors)``. Where some are wrong, each layer is tried alone: an error below a layer is in its
    products with those below, not its own.
    """
    batch = mapped(batch, lambda tensor: tensor[:EXAMPLES])
    verdict = _check_together(model, batch, chosen, loss, make)
    layers = chosen.layer_parameters() if verdict.wrong else {}
    if len(layers) < 2:
        return verdict
    wrong: dict[str, float | str] = {}
    for names in layers.values():
        alone = chosen.without(set(chosen.parameters) - set(names))
        wrong |= _check_together(model, batch, alone, loss, make).wrong
    return DerivativeCheck(wrong or verdict.wrong)


def _check_together(
    model: nn.Module, batch: tuple[Any, Tensor], chosen: Chosen, loss: Loss, make: Make
) -> DerivativeCheck:
    """Checks all these parameters at once."""
    inputs, labels = batch
    prefix = Prefix.find(model, chosen.tensors, inputs)
    if chosen.tensors[0].device.type != "mps":
        with in_float64(model), _lower_part_kept(model, prefix, chosen, wide_inputs(inputs)) as kept:
            case = _Case(model, kept, wide_inputs(labels), chosen, wide_loss(loss), make)
            wrong, unknown = case.verdict(*FINE) if case.runs() else ({}, set(chosen.parameters))
        if not unknown:
            return DerivativeCheck(wrong)
    with in_own_precision(model), _lower_part_kept(model, prefix, chosen, inputs) as kept:
        case = _Case(model, kept, labels, chosen, loss, make)
        wrong, unknown = case.verdict(*COARSE)
        if wrong or not unknown:
            return DerivativeCheck(wrong)
        off = case.asymmetry()
    return (
        DerivativeCheck(dict.fromkeys(chosen.parameters, off))
        if off > COARSE[2]
        else DerivativeCheck(notes=(UNVERIFIED,))
    )


@contextlib.contextmanager
def _lower_part_kept(model: nn.Module, prefix: Prefix, chosen: Chosen, inputs: Any) -> Iterator[Any]:
    """Inside, what lies below the chosen layers does not run again, where that is proved; yields the inputs."""
    try:
        recorded = prefix.record(model, inputs, chosen.tensors)
    except (HardlookError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception:  # noqa: BLE001  the model does not run in this precision: ``runs`` will see that too
        recorded = None
    prefix, recorded = (NO_PREFIX, Recorded(inputs, ())) if recorded is None else (prefix, recorded)
    with prefix.replay(recorded) as kept:
        yield kept


@dataclass(frozen=True)
class _Case:
    """A few examples through one model, whose parameters are private copies that may be moved."""

    model: nn.Module
    inputs: Any
    labels: Tensor
    chosen: Chosen
    loss: Loss
    make: Make

    def verdict(self, small: float, large: float, tolerance: float) -> tuple[dict[str, float | str], set[str]]:
        """Returns parameters whose rows are wrong → by how much or why; and those for which this is undecided.

        A row is right where it is near one difference at one point. It is wrong where it is near none, and
        the differences of a small and a large step agree: these show neither a kink nor rounding, which would
        tell them apart.
        """
        wrong: dict[str, float | str] = {}
        left = set(self.chosen.parameters)
        for seed in SEEDS:
            self._move(seed)
            try:
                product = self._products()(self._direction(seed))
            except HardlookError:
                raise
            except (RuntimeError, NotImplementedError) as error:
                return dict.fromkeys(self.chosen.parameters, first_line(error, 200)), set()
            near = self._difference(seed, small)
            off = self._apart(product, near, tolerance)
            left &= set(off)
            if not left:
                break
            far = self._difference(seed, large)
            left &= set(self._apart(product, far, tolerance))
            unsure = self._apart(near, far, tolerance)
            wrong |= {name: value for name, value in off.items() if name not in unsure}
        return {name: value for name, value in wrong.items() if name in left}, left - set(wrong)

    def runs(self) -> bool:
        """Returns whether a gradient can be taken in this precision."""
        try:
            gradients = self._gradient()
        except (HardlookError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # noqa: BLE001  whatever is raised, this precision is not one that the model has
            return False
        return all(g.dtype == p.dtype for g, p in zip(gradients, self.chosen.tensors, strict=True))

    def asymmetry(self) -> float:
        """|uᵀHv − vᵀHu| over the length of the products, for random u and v."""
        products, u, v = self._products(), self._direction(5), self._direction(6)
        hu, hv = _flat(products(u)), _flat(products(v))
        size = float(hu.norm() * _flat(v).norm() + hv.norm() * _flat(u).norm())
        return float((_flat(u) @ hv - _flat(v) @ hu).abs()) / max(size, 1e-30)

    def _products(self) -> Callable[[Vector], Vector]:
        return self.make(self.model, [(self.inputs, self.labels)], self.chosen, self.loss)

    def _gradient(self) -> list[Tensor]:
        """The gradient of the mean loss by plain autograd, zeros where none reaches."""
        total = example_losses(self.loss, outputs(self.model, self.inputs), self.labels).mean()
        if not total.requires_grad:  # no example of the trial reaches a chosen layer
            return [torch.zeros_like(parameter) for parameter in self.chosen.tensors]
        return list(torch.autograd.grad(total, self.chosen.tensors, allow_unused=True, materialize_grads=True))

    def _difference(self, seed: int, step: float) -> list[Tensor]:
        """(∇ℓ(θ + h v) − ∇ℓ(θ − h v)) / 2h."""
        v = self._direction(seed)
        self._add(v, step)
        up = self._gradient()
        self._add(v, -2 * step)
        down = self._gradient()
        self._add(v, step)
        return [(a - b) / (2 * step) for a, b in zip(up, down, strict=True)]

    def _apart(self, product: Vector, difference: Vector, tolerance: float) -> dict[str, float]:
        """Parameters whose rows differ by more than the tolerance → by how much of the difference."""
        size = scales(self.chosen.parameters)
        lengths = {name: size[name] * float(d.double().norm()) for name, d in zip(size, difference, strict=True)}
        floor, found = FLOOR * max(lengths.values()), {}
        for name, p, d in zip(size, product, difference, strict=True):
            off = size[name] * float((p - d).double().norm())
            if not off <= tolerance * lengths[name] + floor:
                found[name] = off / max(lengths[name], floor, 1e-300)
        return found

    def _direction(self, seed: int) -> Vector:
        """A random vector, each parameter's part in units of its scale."""
        generator = torch.Generator().manual_seed(seed)
        return [
            scale * torch.randn(p.shape, generator=generator, dtype=torch.double).to(p)
            for scale, p in zip(scales(self.chosen.parameters).values(), self.chosen.tensors, strict=True)
        ]

    def _move(self, seed: int) -> None:
        """Go to a point in general position near by."""
        self._add(self._direction(seed + 10), MOVED)

    def _add(self, vector: Vector, step: float) -> None:
        """θ += h v, on the private copies, unseen by autograd."""
        for parameter, part in zip(self.chosen.tensors, vector, strict=True):
            parameter.data.add_(part, alpha=step)


def _flat(parts: Vector) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])
