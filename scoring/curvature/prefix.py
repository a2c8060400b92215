"""The part of a network that runs before the first chosen parameter, kept as values so that it need not run
again.

Changing the chosen parameters changes nothing below them, so for every Hessian-vector product the outputs of
the modules below are the same numbers. ``Prefix.find`` runs one batch and finds the largest modules that
finish before the first chosen parameter is used; ``record`` keeps their outputs for a batch; ``replay`` puts
these in place of the modules. Which outputs matter is found by replacing each with NaN: what leaves the
logits as they are is not kept.

Models and batches go in, a list of tensors comes out. Cost: one forward pass per batch to record; to find,
one forward pass of the upper part per module of the lower one.

Known limits: a module below that is called twice, or gives something other than a tensor, runs again each
time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scoring.curvature.parameters import mapped, outputs


@dataclass(frozen=True)
class Prefix:
    """Modules below the first chosen parameter, which of their outputs matter, and whether the inputs still
    do.
    """

    modules: tuple[nn.Module, ...]
    needed: tuple[bool, ...]
    inputs_needed: bool

    @classmethod
    def find(cls, model: nn.Module, parameters: Sequence[nn.Parameter], inputs: Any) -> Prefix:
        """Look at one batch. Without gradients; the model is expected in eval mode."""
        with torch.no_grad():
            modules = _below(model, parameters, inputs)
            everything = cls(modules, (True,) * len(modules), True)
            recorded = everything.record(model, inputs)
            expected = outputs(model, inputs)
            needed = [everything._matters(model, recorded, i, expected) for i in range(len(modules))]
            found = cls(modules, tuple(needed), False)
            if found._reproduces(model, recorded, expected):
                return found
            found = cls(modules, tuple(needed), True)
            return found if found._reproduces(model, recorded, expected) else everything

    def record(self, model: nn.Module, inputs: Any) -> Recorded:
        """Run the model once and keep what matters; NaNs of the same shape, which take no memory, for the
        rest.
        """
        kept: dict[int, Tensor] = {}
        handles = [module.register_forward_hook(_keeper(kept, i)) for i, module in enumerate(self.modules)]
        try:
            with torch.no_grad():
                outputs(model, inputs)
        finally:
            for handle in handles:
                handle.remove()
        return self._reduced(Recorded(inputs, tuple(kept[i] for i in range(len(self.modules)))))

    def _reduced(self, recorded: Recorded) -> Recorded:
        inputs = recorded.inputs if self.inputs_needed else mapped(recorded.inputs, _hollow)
        values = zip(recorded.values, self.needed, strict=True)
        return Recorded(inputs, tuple(value if needed else _hollow(value) for value, needed in values))

    @contextlib.contextmanager
    def replay(self, recorded: Recorded) -> Iterator[Any]:
        """Inside, the modules below give the recorded outputs; yields the inputs to call the model with."""
        try:
            for module, value in zip(self.modules, recorded.values, strict=True):
                module.forward = _constant(value)
            yield recorded.inputs
        finally:
            for module in self.modules:
                module.__dict__.pop("forward", None)

    def _matters(self, model: nn.Module, recorded: Recorded, index: int, expected: Tensor) -> bool:
        """Whether the logits change when one recorded output is lost."""
        needed = tuple(i != index for i in range(len(self.modules)))
        return not Prefix(self.modules, needed, True)._reproduces(model, recorded, expected)

    def _reproduces(self, model: nn.Module, recorded: Recorded, expected: Tensor) -> bool:
        with self.replay(self._reduced(recorded)) as inputs:
            return bool(torch.allclose(outputs(model, inputs), expected, rtol=1e-5, atol=1e-6))


@dataclass(frozen=True)
class Recorded:
    """One batch as the upper part needs it: inputs and the outputs of the modules below."""

    inputs: Any
    values: tuple[Tensor, ...]

    @property
    def bytes(self) -> int:
        """Memory held, shared and hollow tensors counted once and as nothing."""
        seen: dict[int, int] = {}
        mapped(
            (self.inputs, self.values),
            lambda t: seen.update({t.data_ptr(): t.untyped_storage().nbytes()}) or t,
        )
        return sum(seen.values())


def _keeper(kept: dict[int, Tensor], index: int):
    """A hook that keeps a copy: what follows may work in place."""
    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        kept[index] = output.detach().clone()
    return keep


def _constant(value: Tensor):
    """A forward that returns a copy of a value, because what follows may work in place."""
    return lambda *args, **kwargs: value.clone()


def _hollow(tensor: Tensor) -> Tensor:
    """NaNs (zeros for integers) of the same shape on one element of memory."""
    fill = float("nan") if tensor.is_floating_point() else 0
    return torch.full((1,), fill, dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)


def _below(model: nn.Module, parameters: Sequence[nn.Parameter], inputs: Any) -> tuple[nn.Module, ...]:
    """The largest modules that run once, wholly before the first chosen parameter's owner, and give one float
    tensor.
    """
    names = {module: name for name, module in model.named_modules()}
    calls = _Calls(names)
    with calls.watching():
        outputs(model, inputs)
    wanted = {id(parameter) for parameter in parameters}
    owners = [module for module in names if any(id(p) in wanted for p in module.parameters(recurse=False))]
    first = min((calls.start.get(module, 0) for module in owners), default=0)
    done = {module for module in names if calls.finished(module) <= first
            and not any(id(p) in wanted for p in module.parameters())}
    whole = [m for m in done if _parent(model, names[m]) not in done]
    return tuple(sorted((m for m in whole if m in calls.plain), key=lambda m: calls.start[m]))


def _parent(model: nn.Module, name: str) -> nn.Module | None:
    return model.get_submodule(name.rpartition(".")[0]) if name else None


class _Calls:
    """When each module started and ended, and which were called once and gave one float tensor."""

    def __init__(self, modules: dict[nn.Module, str]):
        self.modules = modules
        self.clock = 0
        self.start: dict[nn.Module, int] = {}
        self.end: dict[nn.Module, int] = {}
        self.plain: set[nn.Module] = set()

    def finished(self, module: nn.Module) -> float:
        """When the module ended for the last time; never, where it was not called."""
        return self.end.get(module, float("inf"))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        handles = [module.register_forward_pre_hook(self._enter) for module in self.modules]
        handles += [module.register_forward_hook(self._leave) for module in self.modules]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.clock += 1
        self.start.setdefault(module, self.clock)

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.clock += 1
        plain = isinstance(output, Tensor) and output.is_floating_point() and module not in self.end
        (self.plain.add if plain else self.plain.discard)(module)
        self.end[module] = self.clock
