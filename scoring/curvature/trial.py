"""A trial of second derivatives, before thousands of products are made of them.

A Hessian product is the change of the gradient along v:  H v = lim (∇ℓ(θ + h v) − ∇ℓ(θ − h v)) / 2h,  and H is
symmetric: uᵀ H v = vᵀ H u. Double backward gives something else, silently, through a function whose backward pass
drops second-order terms (numpy, ``detach``), gives an error through one marked ``once_differentiable``, and is plainly
wrong through some of PyTorch's own (2.14: ``weight_norm``, which ``second_order`` replaces).

A model, a few examples and the way to make products go in; the parameters whose rows of H v are wrong come out.
Each is judged by itself, ‖(H v)_p − difference‖ against ‖difference‖, so layers can be left out by name.

Cost: three products and seven gradients on four examples, in float64. Known limits: a model that loses float64's
precision on its way (code outside of PyTorch) is tried with coarser steps; where it has kinks as well, symmetry alone
is tried, and the note says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scoring.curvature.double_precision import as_it_stands, in_float64, scales, wide_inputs, wide_loss
from scoring.curvature.lanczos import Vector
from scoring.curvature.parameters import Chosen, Loss, example_losses, mapped, outputs
from scoring.tables import HardlookError

EXAMPLES = 4
MOVED = 1e-3  # how far the point of the trial is from the weights, in units of each parameter's scale
FINE = ((1e-6, 1e-3), (1e-8, 1e-3), (1e-9, 1e-3))  # steps and tolerances in float64, each at a point of its own
COARSE = ((1e-2, 3e-2), (3e-3, 3e-2), (1e-3, 3e-2))
NOISE = 1e-9  # relative change of a float64 gradient under a step of 1e-13: precision is lost on the way
FLOOR = 1e-5  # of the largest row, in units of the parameters' scales: below it a row is rounding
UNPROVED = ("the second derivatives could not be tried in float64 (the model loses precision on its way, or does not "
            "run in it): they are symmetric, and no more is known of them")

Make = Callable[[nn.Module, list, Chosen, Loss], Callable[[Vector], Vector]]


@dataclass(frozen=True)
class Verdict:
    """Parameters whose second derivatives are wrong → by how much, or why there are none; and what to note."""

    wrong: Mapping[str, float | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def twice_differentiable(model: nn.Module, batch: tuple[Any, Tensor], chosen: Chosen, loss: Loss,
                         make: Make) -> tuple[Chosen, list[str]]:
    """The chosen parameters with right second derivatives, and notes on layers that were left out.

    Call it inside ``differentiable(model, chosen.tensors)``. Raises ``HardlookError`` where none is left.
    """
    notes: list[str] = []
    while True:
        verdict = tried(model, batch, chosen, loss, make)
        if not verdict.wrong:
            return chosen, [*notes, *verdict.notes]
        left, reason = chosen.without(verdict.wrong), said(chosen, verdict)
        if not left.parameters:
            raise HardlookError(f"{reason}; choose layers above it, or write that function so that it can be "
                                "differentiated twice")
        notes.append(f"{reason}: left out; the layers are {', '.join(left.owners(left.parameters))}")
        for name in verdict.wrong:
            chosen.parameters[name].requires_grad_(False)
        chosen = left


def said(chosen: Chosen, verdict: Verdict) -> str:
    """Which layers, and what is wrong with them, in the words of a sentence."""
    layers = ", ".join(chosen.owners(verdict.wrong))
    why = [reason for reason in verdict.wrong.values() if isinstance(reason, str)]
    if why:
        return f"the gradient of {layers} cannot be differentiated again ({why[0]})"
    worst = max(float(off) for off in verdict.wrong.values())
    return (f"the second derivatives of {layers} are wrong by up to {worst:.0%} of the change of the gradient: a function "
            "in the model drops or mistakes them")


def tried(model: nn.Module, batch: tuple[Any, Tensor], chosen: Chosen, loss: Loss, make: Make) -> Verdict:
    """Compare products on a few examples with differences of the plain gradient, and with their own symmetry.

    ``make``: (model, data, chosen, loss) → products. Call it inside ``differentiable(model, chosen.tensors)``.
    """
    inputs, labels = mapped(batch, lambda tensor: tensor[:EXAMPLES])
    case = _Case(model, inputs, labels, chosen, loss, make)
    wide = _Case(model, wide_inputs(inputs), wide_inputs(labels), chosen, wide_loss(loss), make)
    with contextlib.ExitStack() as stack:
        fine = chosen.tensors[0].device.type != "mps"
        if fine:
            stack.enter_context(in_float64(model))
            fine = wide.runs()
        if fine:
            verdict = wide.verdict(FINE)
            if not verdict.wrong or not wide.is_noisy():
                return verdict
    with as_it_stands(model):
        verdict = case.verdict(COARSE)
        wrong = {name: off for name, off in verdict.wrong.items() if isinstance(off, str)}
        if not verdict.wrong or wrong:
            return Verdict(wrong)
        off = case.asymmetry()
        return Verdict(dict.fromkeys(chosen.parameters, off)) if off > COARSE[0][1] else Verdict(notes=(UNPROVED,))


@dataclass(frozen=True)
class _Case:
    """A few examples through one model, whose parameters are private copies that may be moved."""

    model: nn.Module
    inputs: Any
    labels: Tensor
    chosen: Chosen
    loss: Loss
    make: Make

    def verdict(self, steps: tuple[tuple[float, float], ...]) -> Verdict:
        """A parameter is wrong where it is at every step: a step may meet a kink, an error meets every step."""
        wrong: dict[str, float | str] = dict.fromkeys(self.chosen.parameters, 0.0)
        for seed, (step, tolerance) in enumerate(steps):
            self._move(seed)
            try:
                product = self._products()(self._direction(seed))
            except HardlookError:
                raise
            except (RuntimeError, NotImplementedError) as error:
                return Verdict(self._without(error))
            off = self._apart(product, self._difference(seed, step), tolerance)
            wrong = {name: off[name] for name in wrong if name in off}
            if not wrong:
                break
        return Verdict(wrong)

    def runs(self) -> bool:
        """Whether a gradient can be taken in this precision."""
        try:
            gradients = self._gradient()
        except (HardlookError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception:  # whatever is raised, this precision is not one that the model has
            return False
        return all(g.dtype == p.dtype for g, p in zip(gradients, self.chosen.tensors, strict=True))

    def is_noisy(self) -> bool:
        """Whether a step of rounding size changes the gradient by much more than rounding."""
        self._move(0)
        before = _flat(self._gradient())
        self._add(self._direction(0), 1e-13)
        return bool((_flat(self._gradient()) - before).norm() > NOISE * before.norm())

    def asymmetry(self) -> float:
        """|uᵀHv − vᵀHu| over the length of the products, for random u and v."""
        products, u, v = self._products(), self._direction(5), self._direction(6)
        hu, hv = _flat(products(u)), _flat(products(v))
        size = float(hu.norm() * _flat(v).norm() + hv.norm() * _flat(u).norm())
        return float((_flat(u) @ hv - _flat(v) @ hu).abs()) / max(size, 1e-30)

    def _products(self) -> Callable[[Vector], Vector]:
        return self.make(self.model, [(self.inputs, self.labels)], self.chosen, self.loss)

    def _without(self, error: Exception) -> dict[str, str]:
        """The parameters of the layers that raise even alone; all of them where none does."""
        failing = {}
        for owner in self.chosen.owners(self.chosen.parameters):
            names = [name for name in self.chosen.parameters if self.chosen.owners([name]) == [owner]
                     or name.rpartition(".")[0] == owner]
            alone = self.chosen.without(set(self.chosen.parameters) - set(names))
            case = _Case(self.model, self.inputs, self.labels, alone, self.loss, self.make)
            try:
                case._products()(case._direction(0))
            except (RuntimeError, NotImplementedError) as reason:
                failing |= dict.fromkeys(names, _first_line(reason))
        return failing or dict.fromkeys(self.chosen.parameters, _first_line(error))

    def _gradient(self) -> list[Tensor]:
        """The gradient of the mean loss by plain autograd, zeros where none reaches."""
        total = example_losses(self.loss, outputs(self.model, self.inputs), self.labels).mean()
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
        lengths = {name: scale * float(d.double().norm())
                   for (name, scale), d in zip(scales(self.chosen.parameters).items(), difference, strict=True)}
        size = scales(self.chosen.parameters)
        floor, found = FLOOR * max(lengths.values()), {}
        for name, p, d in zip(self.chosen.parameters, product, difference, strict=True):
            off = size[name] * float((p - d).double().norm())
            if not off <= tolerance * lengths[name] + floor:
                found[name] = off / max(lengths[name], floor, 1e-300)
        return found

    def _direction(self, seed: int) -> Vector:
        """A random vector, each parameter's part in units of its scale."""
        generator = torch.Generator().manual_seed(seed)
        return [scale * torch.randn(p.shape, generator=generator, dtype=torch.double).to(p)
                for scale, p in zip(scales(self.chosen.parameters).values(), self.chosen.tensors, strict=True)]

    def _move(self, seed: int) -> None:
        """Go to a point in general position near by."""
        self._add(self._direction(seed + 10), MOVED)

    def _add(self, vector: Vector, step: float) -> None:
        """θ += h v, on the private copies, unseen by autograd."""
        for parameter, part in zip(self.chosen.tensors, vector, strict=True):
            parameter.data.add_(part, alpha=step)


def _flat(parts: Vector) -> Tensor:
    return torch.cat([part.detach().flatten() for part in parts])


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")[:200]
