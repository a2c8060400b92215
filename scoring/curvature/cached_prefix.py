"""Cached outputs of the part of a network that runs before the first chosen parameter.

Changing the chosen parameters changes nothing below them, so for every Hessian-vector product the outputs of
the modules below are the same numbers. ``Prefix.find`` runs a few examples and finds the largest modules that
finish before the first chosen parameter is used; ``record`` keeps their outputs for a batch; ``replay`` puts
these in place of the modules. Which outputs matter is found by replacing each with NaN: what leaves the
logits as they are is not kept.

What a few examples show need not hold for others (a gate on the inputs, routing, padding), so ``record``
proves each batch: the replayed upper part must give the logits z of the whole model, and its gradient of ⟨R,
z⟩ by the chosen parameters for a random R, or there is no record of that batch.

Models and batches go in, a list of tensors comes out. Cost: one forward pass and two forward and backward
passes of the upper part per batch to record; to find, one forward pass of the upper part per module of the
lower one.

Known limits: a module below that is called twice, or gives something other than a tensor, runs again each
time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from scoring.curvature.equivalence import probe_gradient, same_gradients, same_logits
from scoring.models.eval_mode import mapped, outputs


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
        """Look at a few examples. Without gradients; the model is expected in eval mode."""
        with torch.no_grad():
            modules = _below(model, parameters, inputs)
            everything = cls(modules, (True,) * len(modules), True)
            recorded, expected = everything._observed(model, inputs)
            if recorded is None or not everything._reproduces(model, recorded, expected):
                return NO_PREFIX
            needed = [everything._matters(model, recorded, i, expected) for i in range(len(modules))]
            for inputs_needed in (False, True):
                found = cls(modules, tuple(needed), inputs_needed)
                if found._reproduces(model, recorded, expected):
                    return found
            return everything

    @property
    def fallbacks(self) -> tuple[Prefix, ...]:
        """Returns what to try where this one fails on a batch: all outputs and inputs kept, then no prefix at all."""
        everything = replace(self, needed=(True,) * len(self.modules), inputs_needed=True)
        return tuple(dict.fromkeys(other for other in (everything, NO_PREFIX) if other != self))

    def record(self, model: nn.Module, inputs: Any, parameters: Sequence[nn.Parameter] = ()) -> Recorded | None:
        """Run the model once and keep what matters; None where the upper part cannot run from that alone.

        NaNs of the same shape, which take no memory, stand for the rest. ``parameters``: the chosen ones,
        whose gradient must be the same too.
        """
        if not self.modules:
            return Recorded(inputs, ())
        recorded, expected = self._observed(model, inputs)
        if recorded is None:
            return None
        recorded = self._reduced(recorded)
        found = self._replayed(model, recorded)
        if found is None or not same_logits(found, expected):
            return None
        gradients = [probe_gradient(logits, parameters) for logits in (found, expected)]
        return recorded if same_gradients(*gradients) else None

    def _observed(self, model: nn.Module, inputs: Any) -> tuple[Recorded | None, Tensor]:
        """One run of the whole model: every output below (None where one has not exactly one) and the logits."""
        kept: dict[int, list[Any]] = {i: [] for i in range(len(self.modules))}
        with contextlib.ExitStack() as stack:
            for i, module in enumerate(self.modules):
                stack.enter_context(_forward_of(module, _storing_output(kept[i], module.forward)))
            logits = outputs(model, inputs)
        if any(len(values) != 1 or values[0] is None for values in kept.values()):
            return None, logits
        # Cloned outside of the model: a tensor made in its inference mode cannot be saved for a backward pass.
        values = (value.clone() if value.is_inference() else value for (value,) in kept.values())
        return Recorded(inputs, tuple(values)), logits

    def _reduced(self, recorded: Recorded) -> Recorded:
        inputs = recorded.inputs if self.inputs_needed else mapped(recorded.inputs, _hollow)
        values = zip(recorded.values, self.needed, strict=True)
        return Recorded(inputs, tuple(value if needed else _hollow(value) for value, needed in values))

    @contextlib.contextmanager
    def replay(self, recorded: Recorded) -> Iterator[Any]:
        """Inside, the modules below give the recorded outputs; yields the inputs to call the model with."""
        with contextlib.ExitStack() as stack:
            for module, value in zip(self.modules, recorded.values, strict=True):
                stack.enter_context(_forward_of(module, _constant(value)))
            yield recorded.inputs

    def _matters(self, model: nn.Module, recorded: Recorded, index: int, expected: Tensor) -> bool:
        """Returns whether the logits change when one recorded output is lost."""
        needed = tuple(i != index for i in range(len(self.modules)))
        return not replace(self, needed=needed)._reproduces(model, recorded, expected)

    def _reproduces(self, model: nn.Module, recorded: Recorded, expected: Tensor) -> bool:
        found = self._replayed(model, self._reduced(recorded))
        return found is not None and same_logits(found, expected)

    def _replayed(self, model: nn.Module, recorded: Recorded) -> Tensor | None:
        """The logits of the upper part; None where it cannot run, say because it refuses NaN or counts its calls."""
        with self.replay(recorded) as inputs:
            try:
                return outputs(model, inputs)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception:  # noqa: BLE001  whatever it raises, the whole model ran: what is kept is not enough
                return None


NO_PREFIX = Prefix((), (), True)


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


# -- standing in for modules ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _forward_of(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside, a module runs this forward. One that the instance had of its own is put back, not its class's."""
    attributes = vars(module)
    had, own = "forward" in attributes, attributes.get("forward")
    attributes["forward"] = forward
    try:
        yield
    finally:
        if had:
            attributes["forward"] = own
        else:
            attributes.pop("forward", None)


def _storing_output(kept: list[Any], forward: Callable[..., Any]) -> Callable[..., Any]:
    """The same forward that keeps a copy of each output (what follows may work in place), None for no float tensor."""

    def keep(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        plain = isinstance(output, Tensor) and output.is_floating_point()
        kept.append(output.detach().clone() if plain else None)
        return output

    return keep


def _constant(value: Tensor) -> Callable[..., Any]:
    """A forward that returns a copy of a value, because what follows may work in place."""
    return lambda *args, **kwargs: value.clone()


def _hollow(tensor: Tensor) -> Tensor:
    """NaNs (zeros for integers) of the same shape on one element of memory."""
    fill = float("nan") if tensor.is_floating_point() else 0
    return torch.full((1,), fill, dtype=tensor.dtype, device=tensor.device).expand(tensor.shape)


# -- what lies below -----------------------------------------------------------------------------------------


def _below(model: nn.Module, parameters: Sequence[nn.Parameter], inputs: Any) -> tuple[nn.Module, ...]:
    """The largest modules that run once, wholly before the first chosen parameter's owner, and give one float
    tensor.
    """
    names = {module: name for name, module in model.named_modules()}
    calls = _Calls(names)
    with calls.recording():
        outputs(model, inputs)
    wanted = {id(parameter) for parameter in parameters}
    owners = [module for module in names if any(id(p) in wanted for p in module.parameters(recurse=False))]
    first = min((calls.start.get(module, 0) for module in owners), default=0)
    done = {
        module
        for module in names
        if calls.finished(module) <= first and not any(id(p) in wanted for p in module.parameters())
    }
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
    def recording(self) -> Iterator[None]:
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
