"""The part of a model whose curvature and gradients are asked for: chosen layers, their parameters, one
batch's losses.

Influence is computed on chosen layers, because a whole network is rarely affordable and the last block and
the head hold most of what is learnt about the classes (Wang et al. 2023, section 4). Models, layer names or
patterns, and batches go in; parameters by name and per-example losses (n,) come out.

Cost: nothing beyond the forward pass of the caller.

Known limits: a parameter is taken whatever its ``requires_grad`` says, because loaders freeze models.
BatchNorm without running statistics is refused: it mixes the examples of a batch, so no example has a
gradient of its own.
"""

from __future__ import annotations

import contextlib
import copy
import fnmatch
import glob
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from scoring.curvature.plain_autograd import plain_autograd
from scoring.gradients import device_of, gradients_enabled
from scoring.models.layers import last_block_and_head, select_layers
from scoring.models.modes import evaluating, logits_of, run, to_device
from scoring.models.snapshot import given_back
from scoring.tables import HardlookError

FEW = 8  # examples; every tensor of the inputs has the example on its first axis

Loss = Callable[[Tensor, Tensor], Tensor]


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
        """Where parameters of these names live: a layer's name where all it has chosen is among them, else theirs."""
        names = list(names)
        partly = {_owner(name) for name in self.parameters if name not in names}
        return list(dict.fromkeys(name if _owner(name) in partly else _owner(name) for name in names))


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0] or parameter


def _means(layer: str, owner: str) -> bool:
    """Whether a chosen name or pattern means this layer, or (where a layer is left in part) its parameter."""
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
        raise HardlookError(f"{type(model).__name__} has no trainable parameter; influence needs at least one")
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
                f"{name!r} is a BatchNorm without running statistics: it mixes the examples of a batch, "
                "so none has a "
                "gradient of its own; build the model with track_running_stats=True"
            )


# -- running the model ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def differentiable(model: nn.Module, parameters: Iterable[nn.Parameter] = ()) -> Iterator[None]:
    """Eval mode in which only the given parameters require gradients; the model is given back as it was.

    Fused attention is off inside: it skips the layers that are watched, and has no second derivative.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    with (
        given_back(model),
        evaluating(model),
        gradients_enabled(device_of(model), model),
        plain_autograd(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            for parameter in parameters:
                parameter.requires_grad_(True)
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)


def outputs(model: nn.Module, inputs: Any) -> Tensor:
    """The (n, c) outputs for one batch: a tensor, a tuple of arguments, or a mapping of named ones. c may be
    1.
    """
    found = run(model, inputs)
    return found if isinstance(found, Tensor) and found.ndim == 2 else logits_of(found)


def example_losses(loss: Loss, predicted: Tensor, labels: Tensor) -> Tensor:
    """One loss per example, (n,): ``reduction="none"`` is set where the loss knows it, outputs of an example
    averaged.

    Raises ``HardlookError`` for a loss that returns one number for the whole batch, for a label that the
    model has no output for, and for a loss that is not finite.
    """
    if _is_cross_entropy(loss) and not labels.is_floating_point():
        _check_labels(labels, predicted.shape[1])
        predicted = predicted if getattr(loss, "weight", None) is not None else widened(predicted)
    values = _unreduced(loss)(predicted, labels)
    if values.ndim == 0 or len(values) != len(predicted):
        raise HardlookError(
            f"the loss returned shape {tuple(values.shape)} for {len(predicted)} examples; needed one "
            "value per "
            "example: build it with reduction='none'"
        )
    values = values.flatten(1).mean(1) if values.ndim > 1 else values
    _check_finite(values.detach())
    return values


def _is_cross_entropy(loss: Loss) -> bool:
    return loss is F.cross_entropy or type(loss) is nn.CrossEntropyLoss


def is_plain_cross_entropy(loss: Loss, labels: Tensor) -> bool:
    """Whether the loss is cross-entropy of class indices without weights, smoothing or ignored classes, whose head
    Hessian has a closed form. A subclass may compute anything.
    """
    if labels.is_floating_point():
        return False
    return loss is F.cross_entropy or (
        type(loss) is nn.CrossEntropyLoss
        and "forward" not in vars(loss)
        and loss.weight is None
        and not loss.label_smoothing
        and loss.ignore_index < 0
    )


def _unreduced(loss: Loss) -> Loss:
    """The same loss without averaging over the batch, where it has that setting."""
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        loss = copy.copy(loss)
        loss.reduction = "none"
        return loss
    if inspect.isfunction(loss) and "reduction" in inspect.signature(loss).parameters:
        return lambda predicted, labels: loss(predicted, labels, reduction="none")
    return loss


def widened(outputs: Tensor) -> Tensor:
    """Logits in float64, where the device has it: p − 1 of a confident example is all rounding in float32."""
    return outputs if outputs.device.type == "mps" else outputs.double()


def _check_labels(labels: Tensor, c: int) -> None:
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high >= c:
        raise HardlookError(f"labels run from {low} to {high}; the model has outputs 0 to {c - 1}")


def _check_finite(losses: Tensor) -> None:
    bad = (~losses.isfinite()).nonzero().flatten()
    if len(bad):
        raise HardlookError(
            f"the loss of example {int(bad[0])} of a batch is {float(losses[bad[0]])}, and {len(bad)} of "
            f"{len(losses)} are not finite; needed finite losses: look at the inputs and the weights"
        )


# -- reading the data ----------------------------------------------------------------------------------------


def batches(data: Iterable, device: torch.device) -> Iterator[tuple[Any, Tensor]]:
    """The (inputs, labels) batches of the data on a device; raises ``HardlookError`` for anything else in it."""
    for batch in data:
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise HardlookError(f"data gave {type(batch).__name__}; needed batches of two: (inputs, labels)")
        inputs, labels = mapped(to_device(batch[0], device), _ordinary), torch.as_tensor(batch[1]).to(device)
        if labels.ndim == 0 or not len(labels):
            raise HardlookError("data gave a batch without examples; needed at least one")
        yield inputs, labels


def _ordinary(tensor: Tensor) -> Tensor:
    """A copy of a tensor that was made in inference mode, which no backward pass may save."""
    return tensor.clone() if tensor.is_inference() else tensor


def few(data: Iterable, device: torch.device) -> tuple[Any, Tensor]:
    """The first examples of the first batch, at most eight: enough to look at how a model runs.

    Raises ``HardlookError`` where there is none.
    """
    for inputs, labels in batches(data, device):
        return mapped(inputs, lambda tensor: tensor[:FEW]), labels[:FEW]
    raise HardlookError("data holds no batch; needed at least one example")


def check_reiterable(data: Iterable) -> None:
    """Refuse a generator: it would be empty the second time."""
    if iter(data) is data:
        raise HardlookError("data can be read only once; pass a list of batches or a DataLoader")


def mapped(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Inputs with every tensor changed, the nesting kept."""
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {key: mapped(value, change) for key, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(mapped(value, change) for value in inputs)
    return inputs
