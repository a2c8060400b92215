"""Views of an input for test-time augmentation: shifted and mirrored, or as the run's own training augments.

What is random about an example's view comes from hash(seed, example_id, view) alone: neither its row nor its batch
matters. Views come in pairs, plain and mirrored, of one shift; the first pair is not shifted.

Inputs (n, channels, height, width) → the same shape. Cost: a copy of the batch per view; the run's own augmentation
is called once per example and view, about 0.1 ms each beside its own work. Limits: the built-in views are for
images. Loads torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from scoring.models.randomness import own_randomness

SHIFT = 8
"""Views are shifted by up to one SHIFT-th of a side."""


def view_seed(seed: int, example_id: str, view: int) -> int:
    """An integer below 2⁶³ that depends on these three alone.

    >>> view_seed(0, "a", 1) == view_seed(0, "a", 1) != view_seed(0, "b", 1)
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {example_id} {view}".encode()).digest()[:8], "big") >> 1


def shifts(ids: Sequence[str], view: int, most: int, seed: int) -> np.ndarray:
    """(n, 2) pixels down and to the right, each in −most … most; zero for views 0 and 1."""
    if view < 2 or most == 0:
        return np.zeros((len(ids), 2), dtype=int)
    drawn = [view_seed(seed, name, view // 2) for name in ids]
    side = 2 * most + 1
    return np.asarray([(number % side - most, number // side % side - most) for number in drawn])


def moved(inputs: Tensor, by: np.ndarray, mirrored: bool = False) -> Tensor:
    """Each picture moved by its own (down, right) pixels, the rim mirrored into the gap; then left and right swapped.

    inputs: (n, c, h, w); by: (n, 2), less than a side.

    >>> moved(torch.tensor([[[[1.0, 2.0, 3.0]]]]), np.array([[0, 1]])).tolist()
    [[[[2.0, 1.0, 2.0]]]]
    """
    most = int(np.abs(by).max(initial=0))
    if most:
        rim = [min(most, side - 1) for side in inputs.shape[-2:]]
        wide = pad(inputs, (rim[1], rim[1], rim[0], rim[0]), mode="reflect")
        height, width = inputs.shape[-2:]
        rows = torch.arange(height) + rim[0] - torch.as_tensor(by[:, :1])
        columns = torch.arange(width) + rim[1] - torch.as_tensor(by[:, 1:])
        each = torch.arange(len(inputs))[:, None, None, None]
        channels = torch.arange(inputs.shape[1])[None, :, None, None]
        inputs = wide[each, channels, rows[:, None, :, None], columns[:, None, None, :]]
    return inputs.flip(-1) if mirrored else inputs


def view_of(inputs: Tensor, ids: Sequence[str], view: int, *, shift: int, mirror: bool, seed: int) -> Tensor:
    """The built-in view of that number: odd ones mirrored (where ``mirror``), pairs shifted alike."""
    return moved(inputs, shifts(ids, view if mirror else 2 * view, shift, seed), mirror and view % 2 == 1)


def own_view(augment: Callable[[Tensor], Tensor], inputs: Tensor, ids: Sequence[str], view: int, seed: int) -> Tensor:
    """A view by the run's own augmentation of batches, one example at a time, each under a seed of its own."""
    views = []
    for number, name in enumerate(ids):
        with own_randomness(view_seed(seed, name, view)):
            views.append(augment(inputs[number : number + 1].clone()))  # it may work in place
    return torch.cat(views) if views else inputs
