"""The layers of a model: their names, which of them a name or pattern means, and its last block and head.

Model and sample inputs → names. Cost: three forward passes for the last block and the head, none else. Known limits:
the block is a guess from the names of containers; ``layers`` of audit.toml names others.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.models.head import forward, head_of


def named_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that have parameters of their own, by name, in the order of registration.

    >>> list(named_layers(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))))
    ['0', '2']
    """
    return {name: layer for name, layer in model.named_modules() if any(True for _ in layer.parameters(recurse=False))}


def select_layers(model: nn.Module, names: str | Sequence[str]) -> list[str]:
    """Names of layers with parameters that ``names`` mean: layers, containers of them, or patterns
    (``block*``).

    Raises `HardlookError` for a name that means none, listing close ones.
    """
    layers, chosen = named_layers(model), set()
    for name in [names] if isinstance(names, str) else map(partial(_name_of, model), names):
        meant = {
            layer
            for layer in layers
            if _under(layer, name) or fnmatch.fnmatchcase(layer, name) or fnmatch.fnmatchcase(layer, f"{name}.*")
        }
        if not meant:
            known = [known for known, _ in model.named_modules() if known]
            raise HardlookError(
                f"layers = {name!r}: the model has no layer of that name with parameters; {close_names(name, known)}"
            )
        chosen |= meant
    return [layer for layer in layers if layer in chosen]


def _name_of(model: nn.Module, layer: object) -> str:
    """Returns the name of a layer that is given by its name, or as the module itself."""
    if isinstance(layer, str):
        return layer
    named = next((name for name, module in model.named_modules() if module is layer), None)
    if named is None:
        raise HardlookError(
            f"layers: found {type(layer).__name__}, which is no layer of the model; needed names, such as "
            f"{next((name for name in named_layers(model)), 'head')!r}"
        )
    return named


def _under(layer: str, container: str) -> bool:
    return layer == container or layer.startswith(f"{container}.")


def last_block_and_head(model: nn.Module, inputs: Any) -> tuple[str, ...]:
    """Names of the last block and the head, in the order in which they run: the default layers for influence.

    The block is the largest container around the last layer before the head that holds at most half of all
    layers with parameters; where that is a lone norm layer, the block before it comes along.
    """
    own = named_layers(model)
    ran, classes = _ran(model, inputs, own)
    if not ran:
        raise HardlookError(
            f"{type(model).__name__} has no layer with parameters in its forward; influence needs at least one"
        )
    name = head_of(model, inputs).name
    heads = [name] if name in own else _output_layers(ran, own, classes)
    # a parametrised head is not innermost: what makes its weight runs inside it
    first = min(at for at, layer in enumerate(ran) if any(_under(layer, head) for head in heads))
    before = ran[:first]
    blocks: list[str] = []
    while before and not any(_has_matrix(own, block) for block in blocks):
        blocks.insert(0, _block(before[-1], heads[0], [*before, *heads]))
        before = [layer for layer in before if not _under(layer, blocks[0])]
    return (*blocks, *heads)


def _ran(model: nn.Module, inputs: Any, own: dict[str, nn.Module]) -> tuple[list[str], int]:
    """The innermost layers with parameters in the order in which they first end, and the number of classes."""
    ended: dict[str, None] = {}
    handles = [layer.register_forward_hook(lambda *_, name=name: ended.setdefault(name)) for name, layer in own.items()]
    try:
        classes = forward(model, inputs).shape[1]
    finally:
        for handle in handles:
            handle.remove()
    return [name for name in ended if not any(name != other and _under(other, name) for other in ended)], classes


def _output_layers(ran: list[str], own: dict[str, nn.Module], classes: int) -> list[str]:
    """Returns where no single layer gives the logits: the last layers that run, as long as each gives one number per
    class (two heads whose mean is taken); at least the last one."""
    heads = [ran[-1]]
    for name in reversed(ran[:-1]):
        weight = getattr(own[name], "weight", None)
        if weight is None or weight.ndim < 2 or len(weight) != classes:
            break
        heads.insert(0, name)
    return heads


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
    """Returns whether a block holds a weight of two or more dimensions, so more than norms."""
    inside = [layer for name, layer in layers.items() if _under(name, block)]
    return any(weight.ndim > 1 for layer in inside for weight in layer.parameters(recurse=False))
