"""A map-style dataset taken apart: what a DataLoader draws from, the rows of a subset, the originals before a
transform, the files of torchvision's ``ImageFolder``.

Only what gives the same items is taken apart: a subclass that reads its items itself stays as it is.

Inputs → outputs: a dataset object → the same examples in simpler parts. Cost: a few items are read. Known limits: a
transform is compared on the items named, not on all.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from scoring.audit.errors import HardlookError
from scoring.data.adapters.dataset_objects import INPUT_KEYS
from scoring.data.images import fingerprint

READ_AGAIN = 8
"""Reads of the first item in which random augmentation is looked for."""

WHOLE = {"SequentialSampler", "RandomSampler", "WeightedRandomSampler"}
"""PyTorch's samplers that draw from all of a dataset, in whatever order and as often as they like."""


def of_loader(split: str, loader: Any) -> Any:
    """Returns the dataset of a DataLoader, or the part of it that its sampler draws from."""
    collate = getattr(loader, "collate_fn", None)
    if getattr(collate, "__module__", "") != "torch.utils.data._utils.collate":
        raise HardlookError(
            f"{split}: the DataLoader joins items by a collate_fn of its own, which may change them; pass its dataset, "
            "with transform= where collate_fn changed the inputs"
        )
    sampler = getattr(getattr(loader, "batch_sampler", None), "sampler", loader.sampler)
    if type(sampler).__name__ == "SubsetRandomSampler":
        from torch.utils.data import Subset

        rows = sorted(int(row) for row in sampler.indices)
        return loader.dataset.select(rows) if hasattr(loader.dataset, "select") else Subset(loader.dataset, rows)
    if type(sampler).__name__ not in WHOLE or not hasattr(loader.batch_sampler, "sampler"):
        raise HardlookError(
            f"{split}: the sampler of the DataLoader ({type(sampler).__name__}) may draw from a part of the data; pass "
            "the dataset, or a Subset of it"
        )
    return loader.dataset


@dataclass(frozen=True)
class Rows:
    """Some rows of a dataset, under its class names."""

    dataset: Any
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Any:
        return self.dataset[self.rows[row]]


def unwrapped(dataset: Any) -> tuple[Any, Sequence[int]]:
    """Returns the dataset inside ``torch.utils.data.Subset``, and its rows that are meant. A subset with a
    ``__getitem__`` of its own, which may transform the items, stays as it is."""
    rows: Sequence[int] = range(len(dataset))
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset") and _reads_like(dataset, "torch"):
        rows = [int(dataset.indices[row]) for row in rows]
        dataset = dataset.dataset
    return dataset, rows


def _reads_like(dataset: Any, library: str) -> bool:
    """Returns whether a library's own code reads the items, not that of a subclass."""
    return getattr(type(dataset).__getitem__, "__module__", "").partition(".")[0] == library


def readable(dataset: Any, rows: Sequence[int]) -> list[int]:
    """Returns the first, middle and last of the rows, or those next to them where one cannot be read. Raises
    ``HardlookError`` where none can."""
    found: list[int] = []
    problem: Exception | None = None
    for place in (range(len(rows)), range(len(rows) // 2, len(rows)), range(len(rows) - 1, -1, -1)):
        for at in place[:READ_AGAIN]:
            try:
                dataset[rows[at]]
            except Exception as error:  # noqa: BLE001  code of others; the reading lists such rows with their reason
                problem = error
            else:
                found.append(rows[at])
                break
    if not found:
        raise HardlookError(f"the dataset's items cannot be read: {type(problem).__name__}: {problem}")
    return sorted(set(found))


def without_transform(dataset: Any, rows: Sequence[int]) -> tuple[Any | None, Callable[[Any], Any] | None, bool]:
    """Returns the dataset before its transform, the transform, and whether that is random; (None, None, False) where
    the dataset transforms nothing, or taking it apart does not give the same items."""
    transform = getattr(dataset, "transform", None)
    if not callable(transform):
        return None, None, False
    raw = copy.copy(dataset)
    try:
        raw.transform = None
        if hasattr(raw, "transforms"):
            raw.transforms = None
        random = _augments(dataset, transform, rows)
        for row in rows:
            before, after = raw[row], dataset[row]
            if not _same_label(before, after) or not (random or same_item(transform(before[0]), after[0])):
                return None, None, False
    except Exception:  # noqa: BLE001  code of others that needs its transform: the dataset is taken as it is
        return None, None, False
    return raw, transform, random


def _augments(dataset: Any, transform: object, rows: Sequence[int]) -> bool:
    """Returns whether a transform says that it is random, or gives another item at one of a few reads."""
    if "Random" in repr(transform):
        return True
    first = [fingerprint(input_of(dataset[rows[0]])) for _ in range(READ_AGAIN)]
    return len(set(first)) > 1 or any(not same_item(input_of(dataset[row]), input_of(dataset[row])) for row in rows[1:])


def input_of(item: Any) -> Any:
    if isinstance(item, Mapping):
        return next((item[key] for key in INPUT_KEYS if key in item), None)
    return item[0] if isinstance(item, (tuple, list)) else item


def same_item(one: Any, other: Any) -> bool:
    return fingerprint(one) == fingerprint(other)


def _same_label(one: Any, other: Any) -> bool:
    return isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other) == 2 and one[1] == other[1]


def is_vector(value: Any) -> bool:
    return len(getattr(value, "shape", (0, 0))) == 1


def files_of(dataset: Any, rows: Sequence[int]) -> pd.DataFrame | None:
    """Returns paths and class names of torchvision's ``ImageFolder``; None for what reads its files otherwise."""
    loader, samples, classes = (getattr(dataset, name, None) for name in ("loader", "samples", "classes"))
    usual = getattr(loader, "__module__", "") == "torchvision.datasets.folder"
    if (
        not usual
        or not _reads_like(dataset, "torchvision")
        or not samples
        or not classes
        or getattr(dataset, "target_transform", None) is not None
    ):
        return None
    named = [(samples[row][0], classes[samples[row][1]]) for row in rows]
    return pd.DataFrame(named, columns=["path", "label"])
