"""Runs a model in eval mode and restores its state afterwards; devices, inputs and outputs of any structure.

Model and inputs → (n, c) logits. A model comes back with the training flag and every other attribute of each
module, requires_grad and gradient of each parameter, and the value of each buffer that it had.

What a forward pass in eval mode derives from the weights and keeps (LeViT's table of biases in timm, a weight
normalised once) is gone with the block, else the next checkpoint would be read through the weights of this one.
Classes that derive something as they change modes (loralib adds its low-rank product to the weight in
``train(False)``) get their weights in training mode (``load_weights``), and their parameters are copied too.

Cost: one pass over the modules, a copy of the buffers and of the parameters of such classes. Known limits: one
model is for one thread at a time; what a model that was called before already keeps is believed to be of its weights.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError
from scoring.models.outputs import fitting_items, rows_of
from scoring.models.snapshot import given_back

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
        raise HardlookError(f"device {name!r} is not available on this machine; found {found}; use --device auto")
    device = torch.device(name)
    if kind == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise HardlookError(
            f"device {name!r} is not available on this machine; found {torch.cuda.device_count()} CUDA devices"
        )
    return device


@contextlib.contextmanager
def evaluating(
    model: nn.Module, *, frozen: bool = True, state: Mapping[str, torch.Tensor] | None = None
) -> Iterator[nn.Module]:
    """Eval mode inside; outside, everything as it was: flags, attributes, requires_grad, gradients and buffers.

    ``frozen`` also turns off the gradients of parameters; influence, which needs them, passes False. ``state``:
    weights to take before (``load_weights``); who gives them restores the parameters (``execution_paths.frozen_at``).
    """
    model = getattr(model, "module", model) if not isinstance(model, nn.Module) else model
    parameters = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    rewritten = {id(value): value for module in _rewriting(model) for value in module.parameters()}
    values = [(value, value.detach().clone()) for value in (*model.buffers(), *rewritten.values())]
    with given_back(model):
        try:
            if state is not None:
                load_weights(model, state)
            model.eval()
            for parameter, _, _ in parameters:
                parameter.grad = None
                if frozen:
                    parameter.requires_grad_(False)
            yield model
        finally:
            for parameter, requires_grad, gradient in parameters:
                parameter.requires_grad_(requires_grad)
                parameter.grad = gradient
            for value, before in values:
                _put_back(value, before)


def load_weights(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a state dict whose names are known to fit; training flags stay as they are.

    Modules with a ``train`` of their own are in training mode meanwhile: in eval mode they may hold something
    derived from the former weights, which only leaving that mode takes back. Versions of modules, which some
    read while they load (torchvision's MNASNet), are those that the model itself writes: files without pickle
    hold none.
    """
    flags = [(module, module.training) for module in model.modules()]
    try:
        if any(_changes_with_mode(module) for module in model.modules()):
            model.train()
        versioned = OrderedDict(state)
        versions = getattr(model.state_dict(), "_metadata", None) or {}
        setattr(versioned, "_metadata", versions)  # noqa: B010  where ``load_state_dict`` looks for the versions
        model.load_state_dict(versioned, strict=False)
    finally:
        for module, training in flags:
            module.training = training


def _changes_with_mode(module: nn.Module) -> bool:
    """Returns whether a module has a ``train`` or ``eval`` of its own, by its class or patched onto it."""
    own = type(module).train is not nn.Module.train or type(module).eval is not nn.Module.eval
    return own or not vars(module).keys().isdisjoint(("train", "eval"))


def _rewriting(model: nn.Module) -> Iterator[nn.Module]:
    """Modules that may write into their parameters in eval mode: those above, and embeddings with a ``max_norm``."""
    embeddings = (nn.Embedding, nn.EmbeddingBag)
    return (
        module
        for module in model.modules()
        if _changes_with_mode(module) or (isinstance(module, embeddings) and module.max_norm is not None)
    )


def _put_back(value: torch.Tensor, before: torch.Tensor) -> None:
    """Restore a buffer or parameter that was written into."""
    if not torch.equal(value, before):
        with torch.no_grad():
            value.copy_(before)


def run(model: Callable[..., Any], inputs: Any) -> Any:
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
            "the model returns one number per example; needed one logit per class: for two classes, write `output = "
            '"logit"` in the run\'s table of audit.toml ("probability" where it ends in a sigmoid)'
        )
    if n_classes is not None and found.shape[1] != n_classes:
        others = list(fitting_items(output, n_classes))
        advice = (
            f"item {others[0]!r} of its output has {n_classes}: write `output_item = {others[0]!r}` in the run's "
            "table of audit.toml".replace("'", '"')
            if others
            else "set the factory's arguments and the list of classes to agree, or, if these are features, name code "
            "whose forward pass gives the logits"
        )
        raise HardlookError(
            f"the model gives {found.shape[1]} logits per example and audit.toml lists {n_classes} classes; {advice}"
        )
    return found


def outputs(model: Callable[..., Any], inputs: Any) -> Tensor:
    """The (n, c) outputs for one batch: a tensor, a tuple of arguments, or a mapping of named ones. c may be
    1.
    """
    found = run(model, inputs)
    return found if isinstance(found, Tensor) and found.ndim == 2 else logits_of(found)


def mapped(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Inputs with every tensor changed, the nesting kept."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {key: mapped(value, change) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(mapped(value, change) for value in inputs)
    return inputs
