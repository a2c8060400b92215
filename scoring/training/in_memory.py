"""A dataset whose items are kept in memory between epochs.

Inputs → outputs: a map-style dataset of (input, label) → the same, decoded once. Cost: the memory of all inputs, up to
a limit above which nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

if TYPE_CHECKING:
    pass


IN_MEMORY_MOST = 1 << 30
"""Inputs of up to 1 GiB are kept in memory between epochs instead of being decoded again."""


class Labelled(Protocol):
    """A map-style dataset of (input, label) that knows the id and the label of each row."""

    @property
    def ids(self) -> Sequence[str] | np.ndarray: ...

    @property
    def labels(self) -> Sequence[int] | np.ndarray: ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


class InMemory(Dataset[Any]):
    """A dataset whose items are read once and kept, as long as all of them fit into ``most`` bytes.

    For inputs that are the same at every read, as an evaluation transform gives them. ``ids`` and ``labels``
    are the dataset's own.
    """

    def __init__(self, dataset: Labelled, most: int = IN_MEMORY_MOST) -> None:
        self.dataset, self.ids, self.labels = dataset, dataset.ids, dataset.labels
        self._kept: list[Any] = [None] * len(dataset)
        self._fits = len(dataset) > 0 and _bytes_of(dataset[0][0]) * len(dataset) <= most

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> Any:
        if not self._fits:
            return self.dataset[number]
        if self._kept[number] is None:
            self._kept[number] = self.dataset[number]
        return self._kept[number]


def _bytes_of(value: Any) -> float:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else float("inf")
