"""A snapshot of the state of a model's modules besides their weights, to restore it bit for bit.

A forward pass may write on the modules: a counter, a cache, the ``weight`` that a weight norm derives, a hook
that registers another. ``given_back(model)`` keeps each module's ``__dict__``, the builtin containers in it
(hooks, buffers, lists) and a copy of the plain tensors there, and puts them back, also after an error.

A model goes in; the same model comes out. Cost: one pass over the modules and a copy of their plain tensors.

Known limits: the values of parameters and buffers are not copied here (``scoring.models.evaluating`` does
buffers), nor is what an object of another class holds.
"""

from __future__ import annotations

import contextlib
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

_CONTAINERS = (dict, OrderedDict, defaultdict, Counter, list, deque, set)


@contextlib.contextmanager
def given_back(model: nn.Module) -> Iterator[None]:
    """Outside, every module has the attributes, containers and plain tensors that it had.

    >>> layer = nn.Linear(2, 2)
    >>> with given_back(layer):
    ...     layer.calls = 1
    >>> hasattr(layer, "calls")
    False
    """
    attributes = [(module, dict(vars(module))) for module in model.modules()]
    contents: dict[int, tuple[Any, Any]] = {}
    tensors: dict[int, tuple[Tensor, Tensor]] = {}
    for _, held in attributes:
        for name, value in held.items():
            _keep(value, contents, None if name in ("_parameters", "_buffers") else tensors)
    try:
        yield
    finally:
        for module, held in attributes:
            _refill(vars(module), held)
        for container, held in contents.values():
            _refill(container, held)
        for tensor, before in tensors.values():
            _copy_back(tensor, before)


def _keep(value: Any, contents: dict[int, tuple[Any, Any]], tensors: dict[int, tuple[Tensor, Tensor]] | None) -> None:
    """Copy a builtin container, the containers in it, and (where ``tensors`` is given) the plain tensors."""
    if type(value) in _CONTAINERS and id(value) not in contents:
        contents[id(value)] = value, value.copy()
        for inside in list(value.values() if isinstance(value, dict) else value):
            _keep(inside, contents, tensors)
    elif tensors is not None and type(value) is Tensor and value.layout == torch.strided and not value.is_meta:
        tensors.setdefault(id(value), (value, value.detach().clone()))


def _refill(container: Any, held: Any) -> None:
    """Give a container its former elements, the very same objects in the same order, where they differ."""
    if len(container) == len(held) and all(a is b for a, b in zip(_flat(container), _flat(held), strict=True)):
        return
    container.clear()
    (container.extend if isinstance(container, (list, deque)) else container.update)(held)


def _flat(container: Any) -> Iterator[Any]:
    """The elements of a container in its order, keys and values alternating."""
    if isinstance(container, dict):
        return (part for item in container.items() for part in item)
    return iter(container)


def _copy_back(tensor: Tensor, before: Tensor) -> None:
    """The former values of a tensor that was written into."""
    if torch.equal(tensor, before):
        return
    with torch.inference_mode(tensor.is_inference()), torch.no_grad():
        tensor.copy_(before)
