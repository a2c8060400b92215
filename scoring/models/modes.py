"""Running a model without leaving a trace: eval mode that is given back, devices, inputs and outputs of any
shape.

Model and inputs → (n, c) logits. A model comes back with the training flag of each module, requires_grad and
gradient of each parameter, and the value of each buffer that it had. Cost: one pass over the modules, and a
copy of the buffers. Known limits: one model is for one thread at a time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from scoring.models.outputs import fitting_items, rows_of
from scoring.tables import HardlookError

DEVICES = "auto, cpu, cuda or mps"


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" takes CUDA, else MPS, else the CPU. A device that is not there is an
    error.

    >>> choose_device("cpu")
    device(type='cpu')
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, is_there in there.items() if is_there))
    kind = str(name).partition(":")[0]
    if kind not in there:
        raise HardlookError(f"device {name!r} is unknown; needed {DEVICES}")
    if not there[kind]:
        found = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise HardlookError(f"device {name!r} is not on this machine; found {found}; use --device auto")
    device = torch.device(name)
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise HardlookError(
            f"device {name!r} is not on this machine; found {torch.cuda.device_count()} CUDA devices"
        )
    return device


@contextlib.contextmanager
def evaluating(model: nn.Module, *, frozen: bool = True) -> Iterator[nn.Module]:
    """Eval mode inside; outside, everything as it was: flags, requires_grad, gradients and buffers.

    ``frozen`` also turns off the gradients of parameters; influence, which needs them, passes False.
    """
    model = getattr(model, "module", model) if not isinstance(model, nn.Module) else model
    flags = [(module, module.training) for module in model.modules()]
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        model.eval()
        for parameter, _, _ in parameters:
            parameter.grad = None
            if frozen:
                parameter.requires_grad_(False)
        yield model
    finally:
        for module, training in flags:
            module.training = training
        for parameter, requires_grad, gradient in parameters:
            parameter.requires_grad_(requires_grad)
            parameter.grad = gradient
        for buffer_of in buffers:
            _put_back(*buffer_of)


def _put_back(module: nn.Module, name: str, buffer: torch.Tensor, before: torch.Tensor) -> None:
    """Restore a buffer that a forward pass wrote into or replaced."""
    if not torch.equal(buffer, before):
        with torch.no_grad():
            buffer.copy_(before)
    module._buffers[name] = buffer


def run(model: nn.Module, inputs: Any) -> Any:
    """The model's output for a batch: a tensor, a mapping of keyword inputs (tokens), or a tuple of
    inputs.

    The model gets a copy: one that normalises its input in place would find it normalised the next time.
    """
    inputs = copied(inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def copied(inputs: Any) -> Any:
    """A copy of a batch of any of those shapes, through which gradients flow."""
    if isinstance(inputs, Mapping):
        return {name: copied(value) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(copied(value) for value in inputs)
    return inputs.clone() if isinstance(inputs, torch.Tensor) else inputs


def to_device(inputs: Any, device: torch.device) -> Any:
    """A batch of any of those shapes on the device."""
    if isinstance(inputs, Mapping):
        return {name: to_device(value, device) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(to_device(value, device) for value in inputs)
    return inputs.to(device) if isinstance(inputs, torch.Tensor) else inputs


def logits_of(output: Any, n_classes: int | None = None) -> torch.Tensor:
    """The (n, c) logits in whatever a model returns: a tensor, ``.logits``, ``["logits"]``, or the first of a
    tuple.

    Raises `HardlookError` where there are none, or not ``n_classes`` of them.

    >>> logits_of({"logits": torch.zeros(2, 3)}).shape
    torch.Size([2, 3])
    """
    found = rows_of(output, n_classes=n_classes)
    if found.shape[1] == 1:
        raise HardlookError(
            "the model returns one number per example; needed one logit per class: for two classes, "
            'write `output = "logit"` in the run\'s table of audit.toml ("probability" where it ends in a sigmoid)'
        )
    if n_classes is not None and found.shape[1] != n_classes:
        others = [at for at in fitting_items(output, n_classes)]
        advice = (
            f"item {others[0]!r} of what it returns has {n_classes}: write `output_item = {others[0]!r}` in the run's "
            "table of audit.toml".replace("'", '"')
            if others
            else "set the factory's arguments and the list of classes to agree"
        )
        raise HardlookError(
            f"the model gives {found.shape[1]} logits per example and audit.toml lists {n_classes} classes; {advice}"
        )
    return found
