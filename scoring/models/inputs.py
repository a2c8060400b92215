"""Model inputs of examples: originals read from their source and passed through the evaluation transform.

``Inputs`` is a map-style dataset over rows of the example table: number → (input tensor, label index, −1 = none). It
serves scoring (``batch`` reads many at once in threads), training (``torch.utils.data.DataLoader`` takes it as it is)
and the check. An original that can no longer be read raises ``Unreadable`` with its reason, so that a pass can give
that one example null and go on.

Cost: one decode and one transform per read. Items taken as a dataset, epoch after epoch, are kept in memory up to
1 GB, so that later epochs of a small training read nothing; ``read`` and ``batch`` always read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import torch

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_metadata
from scoring.data.examples import Originals, read_examples
from scoring.models import load_transform

KEEP_BYTES = 1 << 30
Augment = Callable[[torch.Tensor], torch.Tensor]
"""One transformed input → another view of it."""


class Unreadable(HardlookError):
    """One example whose original cannot be read or transformed; the rest of the audit goes on."""


class Inputs(torch.utils.data.Dataset[Any]):
    """Map-style dataset of (input tensor, label index) over ``examples`` (rows of the example table).

    ``augment`` (tensor → tensor) is applied after the evaluation transform, for training only.
    """

    def __init__(self, audit: Audit, run: Run, examples: pd.DataFrame, augment: Augment | None = None):
        self.originals = Originals(audit)
        self.transform = load_transform(run.config.get("transform"), audit.root, media=audit.media)
        self.ids = examples["example_id"].to_numpy(dtype=object)
        self.sources = examples["source"].to_numpy()
        self.rows = examples["row"].to_numpy()
        position = {name: number for number, name in enumerate(audit.classes)}
        self.labels = examples["label"].map(position).fillna(-1).astype(np.int64).to_numpy()
        self.augment = augment
        self._kept: dict[int, torch.Tensor] = {}
        self._room = KEEP_BYTES

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}  # what is kept does not travel to worker processes

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        value = self._kept.get(number)
        if value is None:
            value = self.read(number)
            if self._room >= (size := value.numel() * value.element_size()):
                self._kept[number], self._room = value, self._room - size
        return (self.augment(value) if self.augment else value), int(self.labels[number])

    def read(self, number: int) -> torch.Tensor:
        """The transformed input of one example; ``Unreadable`` names the example and what went wrong."""
        try:
            original = self.originals.read(int(self.sources[number]), int(self.rows[number]))
        except (Exception, SystemExit) as error:
            raise Unreadable(f"example {self.ids[number]!r} cannot be read: {error}") from error
        return transformed(self.transform, original, self.ids[number])

    def batch(
        self, numbers: Sequence[int] | np.ndarray, pool: ThreadPoolExecutor | None = None
    ) -> tuple[torch.Tensor, list[int], dict[int, str]]:
        """Read many → (stacked tensor of the readable ones, their positions in ``numbers``, {position: reason})."""
        read = pool.map if pool else map
        return stacked(list(read(self._attempt, numbers)), [str(self.ids[number]) for number in numbers])

    def _attempt(self, number: int) -> torch.Tensor | Unreadable:
        try:
            return self.read(number)
        except Unreadable as error:
            return error


def transformed(transform: Callable[[Any], Any], original: Any, example_id: str) -> torch.Tensor:
    """The input that a transform makes of one original; ``Unreadable`` where it fails on it."""
    try:
        value = transform(original)
    except (Exception, SystemExit) as error:
        raise Unreadable(f"example {example_id!r} cannot be read: {error}") from error
    return as_tensor(value, example_id)


def stacked(
    outcomes: Sequence[torch.Tensor | Unreadable], ids: Sequence[str]
) -> tuple[torch.Tensor, list[int], dict[int, str]]:
    """Inputs of many examples, or why there are none → (stacked tensor of the readable ones, their positions,
    {position: reason}). Raises ``HardlookError`` where they are of different shapes."""
    tensors = {at: outcome for at, outcome in enumerate(outcomes) if isinstance(outcome, torch.Tensor)}
    good = list(tensors)
    reasons = {at: str(outcome) for at, outcome in enumerate(outcomes) if not isinstance(outcome, torch.Tensor)}
    if not good:
        return torch.empty(0), good, reasons
    shapes = {tuple(tensors[at].shape): ids[at] for at in reversed(good)}
    if len(shapes) > 1:
        shown = ", ".join(f"{shape} of {example!r}" for shape, example in sorted(shapes.items())[:3])
        raise HardlookError(
            f"inputs of different shapes reach the model: {shown}; {shape_advice(shapes)} so that all have one shape"
        )
    return torch.stack(list(tensors.values())), good, reasons


def shape_advice(shapes: Iterable[tuple[int, ...]]) -> str:
    """What to do about inputs of these shapes: those of images differ in their channels, or in their size.

    >>> shape_advice([(1, 8, 8), (3, 8, 8)]), shape_advice([(3, 8, 8), (3, 9, 8)])
    ('write mode = "RGB" in the [[data]] table', 'add a resize (and crop) to the transform')
    """
    channels = {shape[0] for shape in shapes if len(shape) == 3}
    return (
        'write mode = "RGB" in the [[data]] table' if len(channels) > 1 else "add a resize (and crop) to the transform"
    )


def reading_facts(audit: Audit, turned: Sequence[int] | None = None) -> dict[str, list[Any]]:
    """Returns what inputs depend on besides their content and the transform, for a run's key: how each source is read,
    where that is not the plain way (a conversion, a loader, an EXIF orientation applied). ``turned``: the sources whose
    pictures are turned, where the example table is not written yet."""
    turned = read_metadata(audit.examples_path).get("turned", []) if turned is None else turned
    facts = [
        {
            **({"exif": True} if number in turned else {}),
            **{key: table[key] for key in ("mode", "loader", "layout", "shape", "exif") if key in table},
        }
        for number, table in enumerate(audit.sources)
    ]
    return {"reading": facts} if any(facts) else {}


def as_tensor(value: Any, example_id: str) -> torch.Tensor:
    """Returns what a transform returned, as a tensor; anything else is an error that names the example and the type."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return torch.from_numpy(np.ascontiguousarray(value))
    raise HardlookError(
        f"the transform returned {type(value).__name__} for example {example_id!r}; needed one tensor of the model's "
        "input: of a picture e.g. by torchvision.transforms.v2.functional.to_image and to_dtype(scale=True), of a text "
        "the token ids alone, from which the model derives its attention mask (manual: recipes/huggingface)"
    )


def usable(audit: Audit, splits: Sequence[str] | None = None) -> pd.DataFrame:
    """The examples that have no problem, of some splits or of all, in the table's order, numbered from 0."""
    examples = read_examples(audit)
    keep = examples["problem"].isna()
    if splits is not None:
        keep &= examples["split"].isin(splits)
    return examples[keep].reset_index(drop=True)


def labelled(audit: Audit, split: str = "train") -> pd.DataFrame:
    """The usable examples of a split that have a label."""
    examples = usable(audit, [split])
    return examples[examples["label"].notna()].reset_index(drop=True)


def reading_pool() -> ThreadPoolExecutor:
    """Threads for decoding: images decode outside Python's lock."""
    return ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="reading")
