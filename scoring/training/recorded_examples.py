"""The examples over which a training is recorded: a dataset, the ids and labels of its rows, and their evaluation.

A map-style dataset of un-augmented (input, label) and an audit → ids and labels, aligned with the dataset and
checked against the audit's own example table; a model and these → (n, c) logits, in batches, in eval mode,
leaving no trace in the model or in any random number generator.

Cost: one forward pass per evaluation. Labels that neither the audit nor the dataset's ``labels``, ``targets``
or ``tensors`` tell are read from the dataset once, item by item; ``labels=`` spares that. Limits: one label
per example.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.models.eval_mode import evaluating, logits_of, run, to_device
from scoring.models.randomness import own_randomness
from scoring.training.forward_hooks import LABEL_KEYS, size_of


@dataclass(frozen=True)
class Recorded:
    """A dataset of un-augmented (input, label), and the id (string) and label (class index) of each row."""

    dataset: Dataset[Any]
    ids: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


def unpack(batch: Any) -> tuple[Any, Any]:
    """A batch or an item → its inputs and its labels: (inputs, labels, …), or a mapping with ``labels``.

    >>> unpack({"pixel_values": 1, "labels": 2})
    ({'pixel_values': 1}, 2)
    """
    if isinstance(batch, Mapping):
        key = next((key for key in LABEL_KEYS if key in batch), None)
        if key is not None:
            return {name: value for name, value in batch.items() if name != key}, batch[key]
    elif isinstance(batch, (tuple, list)) and len(batch) > 1:
        return batch[0], batch[1]
    raise HardlookError(
        f"the examples' dataset gives {type(batch).__name__} items; needed (input, label), or a mapping with one of "
        f"{', '.join(LABEL_KEYS)}"
    )


def evaluate(
    model: nn.Module,
    examples: Recorded,
    *,
    batch_size: int = 256,
    num_workers: int = 0,
    collate: Callable[..., Any] | None = None,
    read: Callable[[Any], Tensor] = logits_of,
) -> Generator[tuple[slice, np.ndarray], None, None]:
    """Yield (rows, (b, c) float32 logits) over the un-augmented examples, in eval mode; ``read`` takes the logits from
    what the model returns.

    The model, its buffers and gradients and every global random number generator are as before once the
    iteration ends. Raises ``HardlookError`` where the dataset's label of an example differs from the recorded
    one.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    loader = DataLoader(
        examples.dataset,
        batch_size,
        num_workers=num_workers,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )
    start = 0
    with own_randomness(), evaluating(model, frozen=False), torch.no_grad():
        for batch in loader:
            inputs, labels = unpack(batch)
            rows = slice(start, start + len(labels))
            _check_labels(examples, rows, labels)
            logits = read(run(model, to_device(inputs, device))).float().cpu().numpy()
            yield rows, logits
            start = rows.stop


def _check_labels(examples: Recorded, rows: slice, labels: Any) -> None:
    given = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    differs = np.flatnonzero(given != examples.labels[rows])
    if len(differs):
        row = rows.start + int(differs[0])
        raise HardlookError(
            f"example {examples.ids[row]!r} has label {given[differs[0]]} in the dataset and {examples.labels[row]} in "
            "the audit; the dataset must be un-augmented and in the order of ids: pass the ids that belong to it"
        )


# -- which id and which label each row has -------------------------------------------------------------------


def recorded(
    audit: Audit | None,
    dataset: Dataset[Any],
    ids: Sequence[str] | None = None,
    labels: Sequence[int] | None = None,
    *,
    split: str = "train",
) -> Recorded:
    """Put ids and labels beside the rows of a dataset, and check them against the audit's example table.

    ``ids`` and ``labels`` are taken as given, else from the dataset, else from the audit's labelled, readable
    examples of the split, in the order of its table. Raises ``HardlookError`` where they do not fit.
    """
    ids = getattr(dataset, "ids", None) if ids is None else ids
    given = dataset_labels(dataset) if labels is None else np.asarray(labels)
    known = _audit_labels(audit, split)
    if ids is None:
        ids = None if known is None else list(known)
    if ids is None:
        raise HardlookError(
            "the Recorder cannot match the rows of the dataset to examples; pass ids=[…], or run `hardlook score` "
            "once, which reads the audit's data"
        )
    ids, n = [str(name) for name in ids], size_of(dataset)
    _check_ids(ids, n, split)
    if given is not None and len(given) != len(ids):
        raise HardlookError(f"there are {len(given)} labels for {len(ids)} examples; needed one per row")
    agreed = _agreed_labels(ids, given, known, split)
    if agreed is None:
        agreed = np.asarray([int(unpack(dataset[row])[1]) for row in range(n)])
    _check_label_range(ids, agreed, audit)
    return Recorded(dataset, ids, agreed.astype(np.int64))


def dataset_labels(dataset: Any) -> np.ndarray | None:
    """Returns (n,) integer labels if a dataset has them without reading its items, else None.

    >>> dataset_labels(Subset(TensorDataset(torch.zeros(3, 1), torch.tensor([5, 6, 7])), [2, 0])).tolist()
    [7, 5]
    """
    if isinstance(dataset, Subset):
        below = dataset_labels(dataset.dataset)
        return None if below is None else below[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, TensorDataset):
        found = dataset.tensors[1] if len(dataset.tensors) > 1 else None
    else:
        names = [name for name in ("labels", "targets") if hasattr(dataset, name)]
        found = getattr(dataset, names[0]) if names else None
    if not isinstance(found, (Tensor, np.ndarray, list, tuple)) or len(found) != len(dataset):
        return None
    values = np.asarray(found)
    return values if values.ndim == 1 and values.dtype.kind in "iu" else None


def _audit_labels(audit: Audit | None, split: str) -> dict[str, int] | None:
    """id → class index of a split's labelled, readable examples, in order; None before the audit was read."""
    if audit is None or not audit.examples_path.is_file():
        return None
    from scoring.models.inputs import labelled  # the example table's own imports are many

    examples = labelled(audit, split)
    position = {name: number for number, name in enumerate(audit.classes)}
    labels = examples["label"].map(position).fillna(-1).astype(int)
    return dict(zip(examples["example_id"], labels, strict=True))


def _check_ids(ids: list[str], n: int, split: str) -> None:
    if len(ids) != n:
        raise HardlookError(
            f"there are {len(ids)} ids for the {split} split and {n} examples in the dataset; needed one id per row, "
            "in the dataset's order: pass ids=[…]"
        )
    if not n:
        raise HardlookError(f"the dataset of the {split} split is empty; needed at least one example")
    if len(set(ids)) < n:
        twice = next(name for name in ids if ids.count(name) > 1)
        raise HardlookError(f"id {twice!r} is used by several rows of the dataset; ids must be unique")


def _agreed_labels(
    ids: list[str], labels: np.ndarray | None, known: Mapping[str, int] | None, split: str
) -> np.ndarray | None:
    """The labels on which dataset and audit agree, or the one source there is."""
    if known is None:
        return labels
    strangers = [name for name in ids if name not in known]
    if strangers:
        raise HardlookError(
            f"the audit has no labelled, readable {split} example {strangers[0]!r} ({len(strangers)} of {len(ids)} ids "
            "are unknown); ids are those of the audit's example table"
        )
    own = np.asarray([known[name] for name in ids])
    if labels is None or len(labels) != len(own):
        return own
    differs = np.flatnonzero(labels != own)
    if len(differs):
        row = int(differs[0])
        raise HardlookError(
            f"example {ids[row]!r} has label {labels[row]} in the dataset and {own[row]} in the audit ({len(differs)} "
            f"of {len(ids)} differ); pass the ids in the order of the dataset's rows, or correct the labels"
        )
    return own


def _check_label_range(ids: list[str], labels: np.ndarray, audit: Audit | None) -> None:
    classes = len(audit.classes) if audit and audit.classes else np.inf
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(bad):
        raise HardlookError(
            f"example {ids[int(bad[0])]!r} has label {labels[int(bad[0])]}; needed an index into the classes of "
            "audit.toml"
        )
