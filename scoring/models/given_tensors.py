"""Models and batches as users hand them over to the Python functions: modules, and tensors, arrays, frames or lists.

Inputs → outputs: any of these → what torch takes, or one ``HardlookError`` that names the argument. Cost: one copy
where the values are no tensor yet. Known limits: floating numbers that were no tensor become float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoring.audit.arrays import as_numbers
from scoring.audit.errors import HardlookError


def need_module(model: object) -> None:
    """Raises ``HardlookError`` for what is no module."""
    if not isinstance(model, nn.Module):
        raise HardlookError(f"model: found {type(model).__name__}; needed a torch.nn.Module")


def as_input(value: Any, name: str = "inputs") -> Tensor:
    """Returns one tensor of inputs: floating numbers, or integers, which are tokens.

    >>> as_input([[1.0, 2.0]]).dtype, as_input([[1, 2]]).dtype
    (torch.float32, torch.int64)
    """
    if isinstance(value, Tensor):
        return value
    values = torch.from_numpy(as_numbers(value, name).copy())
    return values.float() if values.is_floating_point() else values


def as_inputs(value: Any) -> Any:
    """Returns the inputs of a batch: one tensor, or several under their names or in their order."""
    if isinstance(value, Mapping):
        return {key: as_input(item, f"inputs[{key!r}]") for key, item in value.items()}
    if isinstance(value, (tuple, list)) and any(isinstance(item, Tensor) for item in value):
        return value
    return as_input(value)


def as_labels(value: Any, name: str = "labels") -> Tensor:
    """Returns class indices as a tensor."""
    return value if isinstance(value, Tensor) else torch.from_numpy(as_numbers(value, name).copy())
