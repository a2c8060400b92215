"""The layers and parameters whose curvature and gradients are computed, and the batches of the data.

Influence is computed on chosen layers, because a whole network is rarely affordable and the last block and
the head hold most of what is learnt about the classes (Wang et al. 2023, section 4). Models, layer names or
patterns, and batches go in; parameters by name and per-example losses (n,) come out.

Cost: nothing beyond the forward pass of the caller.

Known limits: a parameter is taken whatever its ``requires_grad`` says, because loaders freeze models.
BatchNorm without running statistics is refused: it mixes the examples of a batch, so no example has a
gradient of its own.
"""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError
from scoring.models.eval_mode import mapped, to_device
from scoring.models.given_tensors import as_inputs, as_labels
from scoring.models.layers import last_block_and_head, select_layers
from scoring.models.snapshot import given_back

FEW = 8  # examples; every tensor of the inputs has the example on its first axis


@dataclass(frozen=True)
class Chosen:
    """Layers of one model by name, and all their parameters by name, in the model's own order."""

    layers: tuple[str, ...]
    parameters: Mapping[str, nn.Parameter]

    @property
    def dimension(self) -> int:
        """p, the number of chosen parameters."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def tensors(self) -> list[nn.Parameter]:
        """The parameters alone, in order."""
        return list(self.parameters.values())

    def without(self, names: Iterable[str]) -> Chosen:
        """The same without the parameters of these names, and without layers that then have none."""
        left = {name: p for name, p in self.parameters.items() if name not in set(names)}
        owners = self.owners(left)
        return Chosen(tuple(layer for layer in self.layers if any(_means(layer, owner) for owner in owners)), left)

    def layer_parameters(self) -> dict[str, list[str]]:
        """The names of the parameters of each layer that owns some, by its name."""
        found: dict[str, list[str]] = {}
        for name in self.parameters:
            found.setdefault(_owner(name), []).append(name)
        return found

    def owners(self, names: Iterable[str]) -> list[str]:
        """Returns where parameters of these names live: a layer's name where all it has chosen is among them, else
        theirs."""
        names = list(names)
        partly = {_owner(name) for name in self.parameters if name not in names}
        return list(dict.fromkeys(name if _owner(name) in partly else _owner(name) for name in names))


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter


def _means(layer: str, owner: str) -> bool:
    """Returns whether a chosen name or pattern means this layer, or (where a layer is left in part) its parameter."""
    patterns = (f"{name}{end}" for name in (layer, glob.escape(layer)) for end in ("", ".*"))
    return not layer or any(fnmatch.fnmatchcase(owner, pattern) for pattern in patterns)


def choose(model: nn.Module, layers: str | Sequence[str] | None = None, inputs: Any = None) -> Chosen:
    """The parameters of the named layers; ``None`` means the last block and the head, as they run on
    ``inputs``.

    ``layers``: names as in ``model.named_modules()``, or patterns as in the shell (``"layer4*"``, ``"*"``).
    Raises ``HardlookError`` for a name that means no layer with parameters (with close names), for a model
    without any, and for parameters that are not float32 or float64.

    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> choose(model, "2").parameters.keys()
    dict_keys(['2.weight', '2.bias'])
    """
    if not any(True for _ in model.parameters()):
        raise HardlookError(
            f"{type(model).__name__} has no trainable parameter; influence needs at least one: set requires_grad on "
            "some parameters"
        )
    if layers is not None and not isinstance(layers, (str, Sequence)):
        raise HardlookError(f"layers: found {type(layers).__name__}; needed a list of names or patterns, or None")
    with given_back(model):
        names = (
            last_block_and_head(model, inputs) if layers is None else (layers,) if isinstance(layers, str) else layers
        )
    if not names:
        raise HardlookError("layers is empty; name at least one, or leave it out for the last block and the head")
    owners = [model.get_submodule(name) for name in select_layers(model, names)]
    wanted = {id(parameter) for owner in owners for parameter in owner.parameters(recurse=False)}
    found = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in wanted}
    _check_precision(found)
    _check_norms(model)
    return Chosen(tuple(names), found)


def _check_precision(parameters: Mapping[str, nn.Parameter]) -> None:
    for name, parameter in parameters.items():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise HardlookError(f"{name} is {parameter.dtype}; needed float32 or float64: convert with model.float()")


def _check_norms(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if (
            isinstance(module, nn.modules.batchnorm._NormBase)
            and module.running_mean is None
            and not isinstance(module, nn.modules.instancenorm._InstanceNorm)
        ):
            raise HardlookError(
                f"{name!r} is a BatchNorm without running statistics: it mixes the examples of a batch, so a single "
                "example has no gradient of its own; build the model with track_running_stats=True"
            )


# -- reading the data ----------------------------------------------------------------------------------------


def batches(data: Iterable[Any], device: torch.device) -> Iterator[tuple[Any, Tensor]]:
    """The (inputs, labels) batches of the data on a device; raises ``HardlookError`` for anything else in it."""
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise HardlookError(f"data yielded {type(batch).__name__}; needed batches of two: (inputs, labels)")
        inputs, labels = mapped(to_device(as_inputs(batch[0]), device), _ordinary), as_labels(batch[1]).to(device)
        if labels.ndim == 0 or not len(labels):
            raise HardlookError("data yielded a batch without examples; needed at least one example per batch")
        yield inputs, labels


def _ordinary(tensor: Tensor) -> Tensor:
    """A copy of a tensor that was made in inference mode, which no backward pass may save."""
    return tensor.clone() if tensor.is_inference() else tensor


def few(data: Iterable[Any], device: torch.device) -> tuple[Any, Tensor]:
    """The first examples of the first batch, at most eight: enough to look at how a model runs.

    Raises ``HardlookError`` where there is none.
    """
    for inputs, labels in batches(data, device):
        return mapped(inputs, lambda tensor: tensor[:FEW]), labels[:FEW]
    raise HardlookError("data yielded no batch; needed at least one example")


def check_reiterable(data: Iterable[Any]) -> None:
    """Refuse a generator: it would be empty the second time."""
    if not isinstance(data, Iterable):
        raise HardlookError(f"data: found {type(data).__name__}; needed batches of (inputs, labels), or a DataLoader")
    if iter(data) is data:
        raise HardlookError("data can be read only once; pass a list of batches or a DataLoader")
