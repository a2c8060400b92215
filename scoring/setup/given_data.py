"""Datasets as a notebook hands them over: one ``[[data]]`` table of audit.toml for each.

What can be read again by any process is written so: a path stays a path; a data frame becomes a Parquet manifest in the
audit's folder, arrays become an ``.npz``, and torchvision's ``ImageFolder`` (subsets of it, too) a manifest of its
files. Any other dataset object stays in this process (``scoring.audit.in_process``).

A dataset that transforms its items is taken apart where that gives the same tensors: the pictures are shown and kept as
they were before, and its transform becomes the run's. Random augmentation is found by reading an item twice.

Inputs → outputs: a split's name and a dataset → ``GivenData``. Cost: a copy of arrays and tables; the first, middle
and last item of a dataset object are read. Known limits: iterable datasets have no rows to come back to: refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from scoring.audit.arrays import as_numbers, refuse_other_order
from scoring.audit.errors import HardlookError
from scoring.audit.in_process import keep_in_process
from scoring.audit.storage import atomic_path, write_table
from scoring.data.adapters.manifest import USUAL
from scoring.data.images import as_array
from scoring.setup.data_found import find_data
from scoring.setup.dataset_parts import (
    Rows,
    files_of,
    input_of,
    is_vector,
    of_loader,
    readable,
    same_item,
    unwrapped,
    without_transform,
)

KINDS = "a path, a data frame, a tuple (inputs, labels), a map-style dataset of PyTorch or a dataset of Hugging Face"
FOLDER = "data"
"""The folder in the audit that holds what was written of frames and arrays."""


@dataclass(frozen=True)
class GivenData:
    """One split: its tables in audit.toml (one, but for a folder that holds splits), its media, and how its items
    become tensors.

    ``transform``: the dataset's own; None where it has none. ``as_given``: items are tensors that the model takes as
    they are. ``random``: its transform augments, so it is no evaluation transform. ``originals``: a few items before
    the transform. ``classes``: names in the dataset's own order. ``unsure``: why the order of classes has to be said;
    ``hidden``: why the transform has to be.
    """

    tables: tuple[dict[str, Any], ...]
    media: str = "image"
    transform: Callable[[Any], Any] | None = None
    as_given: bool = False
    random: bool = False
    originals: tuple[Any, ...] = ()
    classes: tuple[str, ...] | None = None
    unsure: str | None = None
    hidden: str | None = None

    def transforms_like(self, other: GivenData) -> bool:
        """Returns whether both transforms make the same of the same originals. How they print does not tell: all of
        torchvision's ``Lambda`` print alike."""
        if self.transform is None or other.transform is None or self.transform is other.transform:
            return self.transform is other.transform
        try:
            return all(
                same_item(self.transform(each), other.transform(each)) for each in (*self.originals, *other.originals)
            )
        except Exception:  # noqa: BLE001  code of others, on items of the other split: it does not take them
            return False


def given_data(folder: Path, split: str, value: Any, media: str | None = None) -> GivenData:
    """Returns how audit.toml names a dataset. ``folder``: the audit's. ``media``: image, vector or text; None: as the
    data tells. Raises ``HardlookError`` for what is no dataset, in one sentence that names the split."""
    library = type(value).__module__.partition(".")[0]
    if isinstance(value, (str, os.PathLike)):
        return _path(folder, split, os.fspath(value), media)
    if library == "datasets" or (isinstance(value, Mapping) and hasattr(value, "column_names")):
        return _hugging_face(folder, split, value, media)
    if isinstance(value, pd.DataFrame):
        return _frame(folder, split, value, media)
    if library in ("polars", "pyarrow") and hasattr(value, "to_pandas"):
        return _frame(folder, split, value.to_pandas(), media)
    if isinstance(value, tuple) and len(value) == 2:
        return _pair(folder, split, value[0], value[1], media)
    if isinstance(value, (np.ndarray, list)) or hasattr(value, "detach"):
        if split != "pool":
            raise HardlookError(f"{split}: found inputs alone; needed a tuple (inputs, labels), or pool=inputs")
        return _pair(folder, split, value, None, media)
    if hasattr(value, "dataset") and hasattr(value, "batch_size"):
        return given_data(folder, split, of_loader(split, value), media)
    if hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, Mapping):
        return _dataset(folder, split, value, media)
    raise HardlookError(f"{split}: found {type(value).__name__}; needed {KINDS}")


def _path(folder: Path, split: str, path: str, media: str | None) -> GivenData:
    """A path that audit.toml can name, with what it needs beside it."""
    found = find_data({split: str(Path(path).expanduser().resolve())}, folder, media=media)
    if found.asked:
        raise HardlookError(f"{split}: {'; '.join(found.asked)}")
    lines = [{line.key: line.value for line in table if not line.asked} for table in found.tables]
    return GivenData(tuple(lines), found.media)


# -- tables and arrays -----------------------------------------------------------------------------------------------


def _frame(folder: Path, split: str, frame: pd.DataFrame, media: str | None) -> GivenData:
    """A data frame: of files, of texts or of numbers."""
    if not len(frame):
        raise HardlookError(f"{split}: the data frame has no rows; needed one per example")
    if not all(isinstance(name, str) for name in frame.columns):
        frame = frame.rename(columns=str)
    image = next((name for name in USUAL["image_column"] if name in frame and _are_texts(frame[name])), None)
    text = next((name for name in USUAL["text_column"] if name in frame and _are_texts(frame[name])), None)
    media = media or ("image" if image else "text" if text else "vector")
    table: dict[str, Any] = {"split": split, "path": f"{FOLDER}/{split}.parquet"}
    if media == "image" and image:
        table["folder"], frame = _with_relative_paths(frame, image)
    if media == "image" and not image:
        raise HardlookError(
            f"{split}: no column of the data frame holds paths; needed one named "
            f"{', '.join(USUAL['image_column'][:4])}, found {', '.join(map(str, frame.columns))}"
        )
    try:
        content = pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise HardlookError(f"{split}: a column of the data frame holds values of several kinds: {error}") from error
    write_table(folder / FOLDER / f"{split}.parquet", content.replace_schema_metadata(None))
    return GivenData((table,), media, unsure=_unsure_order(split, frame))


def _unsure_order(split: str, frame: pd.DataFrame) -> str | None:
    """Returns what to ask where a label column is categorical and its categories are not sorted: scikit-learn numbers
    classes sorted, ``.cat.codes`` by category."""
    name = next((name for name in USUAL["label_column"] if name in frame), None)
    if name is None or not isinstance(frame[name].dtype, pd.CategoricalDtype):
        return None
    names = list(frame[name].dtype.categories)
    if names == sorted(names):
        return None
    return (
        f"{split}: the categories of column {name!r} are not sorted ({', '.join(map(str, names[:5]))}); pass classes=, "
        "the names in the order of the model's outputs"
    )


def _are_texts(column: pd.Series) -> bool:
    known = column.dropna()
    return bool(len(known)) and all(isinstance(value, (str, os.PathLike)) for value in known.head(100))


def _with_relative_paths(frame: pd.DataFrame, column: str) -> tuple[str, pd.DataFrame]:
    """Returns the folder that all paths of a column lie in, and the frame with paths that start there."""
    absolute = [None if pd.isna(path) else os.path.abspath(os.path.expanduser(path)) for path in frame[column]]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute if path])
    relative = [path and os.path.relpath(path, common) for path in absolute]
    return common, frame.assign(**{column: relative})


def _pair(folder: Path, split: str, inputs: Any, labels: Any, media: str | None) -> GivenData:
    """Inputs and labels of the same length."""
    if not hasattr(inputs, "__len__") or isinstance(inputs, (str, bytes, Mapping)):
        raise HardlookError(f"{split}: found inputs of type {type(inputs).__name__}; needed an array, tensor or list")
    refuse_other_order({f"the inputs of {split}": inputs, "its labels": labels})
    known = None if labels is None else _labels(split, labels, len(inputs))
    unsure = None if not isinstance(labels, pd.Series) else _unsure_order(split, labels.to_frame("label"))
    found = _known_pair(folder, split, inputs, known, media)
    return replace(found, unsure=found.unsure or unsure)


def _known_pair(folder: Path, split: str, inputs: Any, known: list[Any] | None, media: str | None) -> GivenData:
    """Inputs, and labels as plain values."""
    if isinstance(inputs, pd.DataFrame):
        if "label" in inputs and known is not None:
            raise HardlookError(f"{split}: the inputs have a column 'label' of their own; rename it")
        return _frame(folder, split, inputs if known is None else inputs.assign(label=known), media or "vector")
    if isinstance(inputs, (list, tuple, pd.Series)) and _are_texts(pd.Series(list(inputs), dtype=object)):
        paths = media == "image" or (media is None and all(os.path.isfile(text) for text in inputs[:10]))
        frame = pd.DataFrame({"path" if paths else "text": list(inputs)} | ({} if known is None else {"label": known}))
        return _frame(folder, split, frame, "image" if paths else "text")
    if isinstance(inputs, (list, tuple)) and not isinstance(inputs[0] if len(inputs) else 0, (int, float)):
        if all(isinstance(item, (list, tuple)) for item in inputs):
            inputs = [as_numbers(item, f"{split}: inputs") for item in inputs]
        if len({getattr(item, "shape", None) for item in inputs}) != 1 or not hasattr(inputs[0], "shape"):
            return _dataset(folder, split, Pairs(inputs, known), media)
        inputs = np.stack([as_array(item) for item in inputs])
    values = as_array(inputs)
    if values.ndim < 2:
        raise HardlookError(f"{split}: inputs of shape {values.shape}; needed (n, …), one row per example")
    media = media or ("vector" if values.ndim == 2 else "image")
    table = {"split": split, "path": f"{FOLDER}/{split}.npz", "inputs": "x"}
    with atomic_path(folder / FOLDER / f"{split}.npz") as temporary, open(temporary, "wb") as file:
        if known is None:
            np.savez(file, x=values)
        else:
            np.savez(file, x=values, y=np.asarray(known))
            table["labels"] = "y"
    return GivenData((table,), media, as_given=media == "image" and values.dtype != np.uint8)


def _labels(split: str, labels: Any, n: int) -> list[Any]:
    """One label per example as plain values; none as empty text, or −1 among numbers."""
    found = as_array(labels).tolist() if hasattr(labels, "detach") else list(labels)
    if len(found) != n:
        raise HardlookError(f"{split}: {len(found)} labels for {n} inputs; needed one per input")
    if found and isinstance(found[0], (list, np.ndarray)):
        return [np.asarray(row).tolist() for row in found]  # one-hot rows, which the reader settles
    plain = [None if value is None or value is pd.NA or value != value else value for value in found]
    plain = [value.item() if isinstance(value, np.generic) else value for value in plain]
    if all(isinstance(value, (int, float)) for value in plain if value is not None):
        whole = [-1 if value is None else value for value in plain]
        return [int(value) if value == int(value) else value for value in whole]
    return ["" if value is None else str(value) for value in plain]


@dataclass(frozen=True)
class Pairs:
    """A map-style dataset of inputs that cannot be stacked (Pillow images, arrays of several shapes)."""

    inputs: Sequence[Any]
    labels: Sequence[Any] | None

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, row: int) -> tuple[Any, Any]:
        return self.inputs[row], None if self.labels is None else self.labels[row]


# -- dataset objects -------------------------------------------------------------------------------------------------


def _hugging_face(folder: Path, split: str, value: Any, media: str | None) -> GivenData:
    """A ``datasets.Dataset``, which this process keeps."""
    if isinstance(value, Mapping):
        first = next(iter(value), "train")
        raise HardlookError(f"{split}: found a DatasetDict; needed one of its datasets, such as data[{first!r}]")
    features = getattr(value, "features", None)
    if not hasattr(value, "select_columns") or not hasattr(value, "__len__") or features is None:
        raise HardlookError(f"{split}: found {type(value).__name__} (streaming); needed a datasets.Dataset")
    kinds = {type(feature).__name__ for feature in features.values()}
    text = any(name in features for name in USUAL["text_column"])
    reference = keep_in_process(folder, split, lambda: value)
    table = {"split": split, "adapter": "huggingface", "factory": reference}
    hidden = None
    if (getattr(value, "format", None) or {}).get("type") == "custom":
        hidden = (
            f"{split}: the dataset has a transform of its own (set_transform), which is one of batches; pass "
            "transform=, original → tensor, that does the same to one example"
        )
    return GivenData((table,), media or ("image" if "Image" in kinds or not text else "text"), hidden=hidden)


def _dataset(folder: Path, split: str, dataset: Any, media: str | None) -> GivenData:
    """A map-style dataset of PyTorch: taken apart into originals and transform, as far as that is the same."""
    if not len(dataset):
        raise HardlookError(f"{split}: the dataset is empty; needed at least one example")
    if type(dataset).__name__ == "TensorDataset" and len(dataset.tensors) == 2:
        inputs, labels = dataset.tensors
        return _pair(folder, split, inputs, labels, media)
    base, rows = unwrapped(dataset)
    tried = readable(base, rows)
    raw, transform, random = without_transform(base, tried)
    whole = raw if raw is not None or callable(getattr(base, "transform", None)) else base
    if whole is not None and (files := files_of(whole, rows)) is not None:
        found = _frame(folder, split, files, media or "image")
        return GivenData(
            ({**found.tables[0], "mode": "RGB"},),
            found.media,
            transform,
            random=random,
            originals=tuple(whole[row][0] for row in tried),
            classes=tuple(map(str, whole.classes)),
        )
    kept = Rows(raw, rows) if raw is not None else dataset
    first = input_of((base if raw is None else raw)[tried[0]])
    media = media or ("text" if isinstance(first, str) else "vector" if is_vector(first) else "image")
    reference = keep_in_process(folder, split, lambda: kept)
    table = {"split": split, "adapter": "dataset", "factory": reference}
    as_given = media == "image" and transform is None and hasattr(first, "shape")
    originals = () if raw is None else tuple(raw[row][0] for row in tried)
    return GivenData((table,), media, transform, as_given, random, originals)
