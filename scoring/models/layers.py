"""The layers of a model: their names, its head, the features that enter the head, and its last block.

What is the head is seen, not guessed from the order of registration: a forward pass is watched, and the head
is the last Linear layer whose output *is* the logits. Model and sample inputs → names and modules; features
(n, d).

Cost: one forward pass. Known limits: a head that is no Linear layer has no features here; the reason is
given.
"""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from scoring.models.modes import evaluating, logits_of, run
from scoring.references import close_names
from scoring.tables import HardlookError


class Head(NamedTuple):
    """The output layer: its name and module; where it is no Linear layer both are None, and ``reason`` says
    why."""

    name: str | None
    module: nn.Linear | None
    reason: str | None = None


class Features(NamedTuple):
    """(n, d) inputs of the head (None, with a ``reason``, where the head is no Linear layer) and (n, c)
    logits."""

    features: torch.Tensor | None
    logits: torch.Tensor
    reason: str | None = None


@dataclass(frozen=True)
class _Call:
    """One layer that ran: its name, module, and its output where that may be logits."""

    name: str
    module: nn.Module
    output: Any


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that have parameters of their own, by name, in the order of registration.

    >>> list(named_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))))
    ['0', '2']
    """
    return {
        name: layer
        for name, layer in model.named_modules()
        if any(True for _ in layer.parameters(recurse=False))
    }


def select_layers(model: nn.Module, names: str | Sequence[str]) -> list[str]:
    """Names of layers with parameters that ``names`` mean: layers, containers of them, or patterns
    (``block*``).

    Raises `HardlookError` for a name that means none, listing close ones.
    """
    layers, chosen = named_layers(model), set()
    for name in [names] if isinstance(names, str) else names:
        meant = {
            layer
            for layer in layers
            if _under(layer, name)
            or fnmatch.fnmatchcase(layer, name)
            or fnmatch.fnmatchcase(layer, f"{name}.*")
        }
        if not meant:
            known = [known for known, _ in model.named_modules() if known]
            raise HardlookError(
                f"layers = {name!r}: the model has no layer of that name with parameters; "
                f"{close_names(name, known)}"
            )
        chosen |= meant
    return [layer for layer in layers if layer in chosen]


def _under(layer: str, container: str) -> bool:
    return layer == container or layer.startswith(f"{container}.")


def head_of(model: nn.Module, inputs: Any) -> Head:
    """The output layer, by watching a forward pass over a few sample ``inputs``.

    The model runs in eval mode and is given back as it was.
    """
    with _watched(model, _may_be_head) as calls:
        logits = _forward(model, inputs)
    giving = [call for call in calls if _same(call.output, logits)]
    linear = [call for call in giving if isinstance(call.module, nn.Linear)]
    if linear:
        return Head(linear[-1].name, linear[-1].module)
    if not giving:
        return Head(
            None,
            None,
            "the logits are the output of no single layer; the features that enter a Linear head "
            "are what is needed",
        )
    last = giving[-1]
    return Head(
        None,
        None,
        f"the logits come from {last.name!r}, which is {type(last.module).__name__} and no Linear layer",
    )


def features_of(model: nn.Module, inputs: Any, head: Head | None = None) -> Features:
    """What enters the head, (n, d), and the logits, (n, c), from one forward pass without gradients.

    ``head``: what `head_of` found, to save its forward pass for every batch but the first.
    """
    head = head or head_of(model, inputs)
    if head.module is None:
        return Features(None, _forward(model, inputs), head.reason)
    entered: list[torch.Tensor] = []
    handle = head.module.register_forward_pre_hook(
        lambda _layer, arguments: entered.append(arguments[0].detach())
    )
    try:
        logits = _forward(model, inputs)
    finally:
        handle.remove()
    return Features(entered[-1].flatten(1), logits)


def last_block_and_head(model: nn.Module, inputs: Any) -> tuple[str, ...]:
    """Names of the last block and the head, in the order in which they run: the default layers for influence.

    The block is the largest container around the last layer before the head that holds at most half of all
    layers with parameters; where that is a lone norm layer, the block before it comes along.
    """
    own = named_layers(model)
    with _watched(model, set(own.values()).__contains__) as calls:
        _forward(model, inputs)
    names = dict.fromkeys(call.name for call in calls)
    ran = [name for name in names if not any(name != other and _under(other, name) for other in names)]
    if not ran:
        raise HardlookError(
            f"{type(model).__name__} ran no layer with parameters; there is nothing to take influence of"
        )
    head = head_of(model, inputs).name or ran[-1]
    before = ran[: ran.index(head)] if head in ran else ran[:-1]
    blocks: list[str] = []
    while before and not any(_has_matrix(own, block) for block in blocks):
        blocks.insert(0, _block(before[-1], head, [*before, head]))
        before = [name for name in before if not _under(name, blocks[0])]
    return (*blocks, head)


def _block(layer: str, head: str, ran: Sequence[str]) -> str:
    """The largest container of ``layer``, without the head, that holds at most half of the layers that
    ran."""
    parts = layer.split(".")
    for depth in range(1, len(parts)):
        container = ".".join(parts[:depth])
        if not _under(head, container) and 2 * sum(_under(name, container) for name in ran) <= len(ran):
            return container
    return layer


def _has_matrix(layers: dict[str, nn.Module], block: str) -> bool:
    """Whether a block holds a weight of two or more dimensions, so more than norms."""
    inside = [layer for name, layer in layers.items() if _under(name, block)]
    return any(weight.ndim > 1 for layer in inside for weight in layer.parameters(recurse=False))


# -- watching ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _watched(model: nn.Module, which: Callable[[nn.Module], bool]) -> Iterator[list[_Call]]:
    """Record every call of the layers that ``which`` picks, in the order in which they end."""
    calls: list[_Call] = []
    handles = [
        layer.register_forward_hook(_recorder(calls, name))
        for name, layer in model.named_modules()
        if which(layer)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _recorder(calls: list[_Call], name: str) -> Callable:
    def record(layer: nn.Module, _arguments: tuple, output: Any) -> None:
        small = isinstance(output, torch.Tensor) and output.ndim == 2
        calls.append(
            _Call(name, layer, output.clone() if small else None)
        )  # cloned: what follows may work in place

    return record


def _forward(model: nn.Module, inputs: Any) -> torch.Tensor:
    """(n, c) logits in eval mode, without gradients."""
    with evaluating(model), torch.no_grad():
        return logits_of(run(model, inputs))


def _may_be_head(layer: nn.Module) -> bool:
    """Leaves, and Linear layers that a parametrisation (spectral norm) has given children."""
    return isinstance(layer, nn.Linear) or next(layer.children(), None) is None


def _same(output: Any, logits: torch.Tensor) -> bool:
    """Whether a layer's output is the logits, element for element."""
    if output is None or output.shape != logits.shape or output.dtype != logits.dtype:
        return False
    return torch.equal(output, logits)
