"""Runs a model in float64 at slightly moved parameters, and restores it bit for bit.

A finite difference of gradients tells right second derivatives from wrong ones only where its steps are far
above rounding and far below the distance to the next kink of a ReLU: in float64, at a point in general
position (at zero biases, every ReLU over an empty patch of an image stands on its kink).

A model and its parameters go in. Inside, parameters, buffers and plain tensors are private copies in float64,
and what the forward makes or casts in a lower precision is float64 too. Cost: a copy of the weights. Known
limits: what runs outside of PyTorch keeps its precision.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scoring.models.eval_mode import mapped
from scoring.models.losses import Loss
from scoring.models.snapshot import given_back

_NARROW = (torch.float32, torch.float16, torch.bfloat16)
_CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16)


class _Wide(TorchFunctionMode):
    """Inside, a call that asks for a lower precision gets float64."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        function = Tensor.double if function in _CASTS else function
        return function(*map(_wide, args), **{key: _wide(value) for key, value in (kwargs or {}).items()})


def _wide(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _NARROW else value


@contextlib.contextmanager
def in_float64(model: nn.Module) -> Iterator[None]:
    """Inside, the model is its own float64 copy in place; outside, its tensors are the former ones, untouched.

    The same parameter objects stay leaves. Nests in ``differentiable``, and may end long before it.
    """
    held = [(tensor, tensor.data) for tensor in (*model.parameters(), *model.buffers())]
    default = torch.get_default_dtype()
    with given_back(model):
        try:
            for tensor, data in held:
                tensor.data = data.double() if data.dtype in _NARROW else data.clone()
            for module in model.modules():
                plain = {
                    name: value.double()
                    for name, value in vars(module).items()
                    if type(value) is Tensor and value.dtype in _NARROW
                }
                vars(module).update(plain)
            torch.set_default_dtype(torch.float64)
            with _Wide():
                yield
        finally:
            torch.set_default_dtype(default)
            _put_back(held)


@contextlib.contextmanager
def in_own_precision(model: nn.Module) -> Iterator[None]:
    """Inside, parameters are private copies in their own precision."""
    held = [(parameter, parameter.data) for parameter in model.parameters()]
    try:
        for parameter, data in held:
            parameter.data = data.clone()
        yield
    finally:
        _put_back(held)


def _put_back(held: Sequence[tuple[Tensor, Tensor]]) -> None:
    """Give tensors the memory that they had."""
    for tensor, data in held:
        tensor.data = data


def wide_inputs(inputs: Any) -> Any:
    """Inputs or labels with floats in float64."""
    return mapped(inputs, lambda tensor: tensor.double() if tensor.dtype in _NARROW else tensor)


def wide_loss(loss: Loss) -> Loss:
    """The same loss, its weights (if it has any) in float64."""
    return copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss


def scales(parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
    """The root mean square of each parameter; of the largest one, a hundredth, where a parameter is zero.

    >>> scales({"a": nn.Parameter(torch.tensor([3.0, 4.0])), "b": nn.Parameter(torch.zeros(2))})["b"] > 0
    True
    """
    found = {name: float(p.detach().double().square().mean().sqrt()) for name, p in parameters.items()}
    least = max(max(found.values(), default=0.0) / 100, 1e-6)
    return {name: scale if scale > 0 else least for name, scale in found.items()}
