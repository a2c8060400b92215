"""A copy of a model that shares no layer and no weight with it.

``copy.deepcopy`` leaves to each module how it is copied, and some come back as themselves; whatever is then
done to the copy would be done to the original. A model goes in, its copy comes out. Cost: the weights once
more.

Known limits: a function kept in a module (a closure, a lambda) is not copied and still refers to the
original.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from torch import nn

from scoring.audit.errors import HardlookError


def independent_copy(model: nn.Module) -> nn.Module:
    """A deep copy without the Trainer that Lightning attaches to a module; ``HardlookError`` where it shares a layer or
    memory of a weight with the model, and what ``copy.deepcopy`` raises where it fails.

    >>> layer = nn.Linear(2, 3)
    >>> independent_copy(layer).weight is layer.weight
    False
    """
    copied = copy.deepcopy(model, _training_loops(model))
    if not set(_held(model)).isdisjoint(_held(copied)):
        raise HardlookError("a copy of the model shares layers or weights with the original")
    return copied


def _training_loops(model: nn.Module) -> dict[int, Any]:
    """Returns a memo of ``copy.deepcopy`` that leaves out the trainers that modules refer to, with their loaders."""
    named = (vars(module).get(name) for module in model.modules() for name in ("_trainer", "_fabric"))
    return {id(trainer): None for trainer in named if trainer is not None}


def _held(model: nn.Module) -> Iterator[tuple[str, int]]:
    """Returns what tells layers and weights apart: the identity of modules, the address of tensors."""
    for module in model.modules():
        yield "module", id(module)
    for value in (*model.parameters(), *model.buffers()):
        if value.numel():
            yield "memory", value.untyped_storage().data_ptr()
