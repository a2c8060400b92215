"""Adapters for dataset objects: any map-style PyTorch dataset, torchvision's included, and Hugging Face
``datasets``.

The object comes from ``factory`` (code of the audit, or of a package: ``torchvision.datasets:FashionMNIST``)
with ``arguments``; "{audit}" in an argument is the audit's folder. Nothing here imports torch: a dataset that
needs it imports it itself.

Cost: a map-style dataset is read once, one item at a time and in one thread, since its label is known no
sooner. Known limits: iterable datasets are refused, and so are datasets that give another item each time
(augmentation).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import call_reference, close_names
from scoring.data.adapters.base import Listing, Source
from scoring.data.adapters.hub import named
from scoring.data.adapters.manifest import USUAL
from scoring.data.images import fingerprint

INPUT_KEYS = ("image", "img", "pixel_values", "input", "inputs", "x", "text")
LABEL_KEYS = ("label", "labels", "target", "y", "class")


def made_by_factory(source: MapStyle | HuggingFace) -> Any:
    """Returns what the source's factory returns; "{audit}" in text arguments stands for the audit's folder."""
    arguments = {
        key: value.replace("{audit}", str(source.root)) if isinstance(value, str) else value
        for key, value in (source.arguments or {}).items()
    }
    return call_reference(source.factory or "", source.root, arguments)


def _classes_of(dataset: Any) -> list[str] | None:
    """Returns the class names that a dataset, or each of those inside it, has in one order."""
    if getattr(dataset, "target_transform", None) is not None:
        return None
    names = getattr(dataset, "classes", None)
    if names is None and isinstance(parts := getattr(dataset, "datasets", None), (list, tuple)) and parts:
        found = [_classes_of(part) for part in parts]
        return found[0] if all(each == found[0] for each in found) else None
    if names is None and hasattr(dataset, "dataset"):
        return _classes_of(dataset.dataset)
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else None


@dataclass(kw_only=True)
class MapStyle(Source):
    """A dataset with ``len`` and ``[i]``, whose items are (input, label), a mapping, or an input alone."""

    name = "dataset"
    reads_code = True
    serial = True
    labels_from_items = True

    factory: str | None = None
    arguments: dict[str, Any] | None = None
    input_key: str | None = None
    label_key: str | None = None

    def listing(self) -> Listing:
        """The number of items; labels come with reading. A random item is an error here."""
        n = len(self._dataset)
        for row in sorted({0, n // 2, n - 1}) if n else ():
            self._refuse_random(row)
        return Listing(splits=self.one_split(n))

    def stored(self, row: int) -> Any:
        """The input of one item."""
        return self.item(row)[0]

    def item(self, row: int) -> tuple[Any, Any]:
        """(input, raw label) of one item; no label where the item has none or the split is the pool."""
        item, label = self._dataset[row], None
        if isinstance(item, Mapping):
            item, label = self._parts(item)
        elif isinstance(item, (tuple, list)) and len(item) >= 2:
            item, label = item[0], item[1]
        elif isinstance(item, (tuple, list)) and len(item) == 1:
            item = item[0]
        return item, None if self.split == "pool" else label

    def names_of_classes(self) -> list[str] | None:
        """``dataset.classes``, as torchvision's have it, of a ``Subset`` or a ``ConcatDataset`` of them too; None where
        the labels are changed afterwards."""
        return _classes_of(self._dataset)

    def _parts(self, item: Mapping[str, Any]) -> tuple[Any, Any]:
        key = self.input_key or next((key for key in INPUT_KEYS if key in item), None)
        label = self.label_key or next((key for key in LABEL_KEYS if key in item), None)
        if key is None or key not in item:
            raise HardlookError(
                f"the items have no {key or 'usual input key'!r}; name it with input_key: "
                f"{close_names(str(key), map(str, item))}"
            )
        return item[key], None if label is None else item.get(label)

    @cached_property
    def _dataset(self) -> Any:
        if not self.factory:
            raise self.error(' (dataset) needs factory = "file.py:callable" that returns a dataset')
        dataset = made_by_factory(self)
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise self.error(
                f": {self.factory} returned {type(dataset).__name__}; needed a map-style dataset, with len(dataset) "
                "and dataset[i]"
            )
        return dataset

    def _refuse_random(self, row: int) -> None:
        try:
            first, second = fingerprint(self.stored(row)), fingerprint(self.stored(row))
        except Exception:  # noqa: BLE001  an item that cannot be read is listed with its reason in its turn
            return
        if first != second:
            raise self.error(
                f": {self.factory} returns a different item {row} on every access; return the dataset without random "
                "augmentation"
            )


@dataclass(kw_only=True)
class HuggingFace(Source):
    """A Hugging Face dataset: a folder of ``save_to_disk``, or what ``factory`` returns.

    Image and label columns are found by their type (``Image``, ``ClassLabel``), else by their usual names;
    all other columns of plain values are metadata. ``dataset_split`` picks from a ``DatasetDict``, else the
    one named as split.
    """

    name = "huggingface"
    markers = ("dataset_info.json", "dataset_dict.json")
    serial = True
    sorts_as_text = True

    factory: str | None = None
    arguments: dict[str, Any] | None = None
    dataset_split: str | None = None
    image_column: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None

    def listing(self) -> Listing:
        """Labels, ids and metadata, straight from the Arrow columns."""
        n, label, own = len(self._dataset), self._named("label_column"), self._named("id_column")
        listing = Listing(splits=self.one_split(n))
        if label and self.split != "pool":
            listing.labels = [self._class_name(label, value) for value in self._arrow(label).to_pylist()]
        if own:
            listing.ids = ["" if value is None else str(value) for value in self._arrow(own).to_pylist()]
        for name, feature in self._dataset.features.items():
            used = name in (label, own, self._input_column)
            if not used and type(feature).__name__ not in ("Value", "ClassLabel"):
                listing.left_out.append(name)
            elif not used:
                column = self._arrow(name)
                listing.metadata[name] = (
                    column
                    if not hasattr(feature, "names")
                    else pa.array([self._class_name(name, value) for value in column.to_pylist()], pa.string())
                )
        return listing

    def stored(self, row: int) -> Any:
        """The encoded bytes of an image, a text, or an array."""
        value = self._inputs[row][self._input_column]
        if value is None:
            raise HardlookError(f"row {row} is empty")
        if isinstance(value, Mapping):
            return value["bytes"] or Path(value["path"]).read_bytes()
        return value if isinstance(value, str) else np.asarray(value)

    def names_of_classes(self) -> list[str] | None:
        """The names of the label's ``ClassLabel``."""
        label = self._named("label_column")
        return self._class_names(label) if label else None

    @cached_property
    def image_feature(self) -> Mapping[str, Any] | None:
        """The ``Image`` feature of the input column."""
        if self.media != "image":
            return None
        feature = self._dataset.features[self._input_column]
        return {"mode": feature.mode} if type(feature).__name__ == "Image" else None

    def _class_names(self, column: str) -> list[str] | None:
        """The names of a column that is a ``ClassLabel`` or a list of them."""
        feature = self._dataset.features[column]
        return list(getattr(getattr(feature, "feature", feature), "names", None) or []) or None

    def _class_name(self, column: str, value: Any) -> Any:
        """ClassLabel numbers as names; other labels as they are."""
        try:
            return named(value, self._class_names(column))
        except HardlookError as error:
            raise self.error(f": column {column!r}: {error}") from error

    def _named(self, what: str) -> str | None:
        """A column: as configured, else by its type, else by its usual name."""
        features, given = self._dataset.features, getattr(self, what)
        if given is not None and given not in features:
            raise self.error(f".{what} = {given!r}: no such column; {close_names(given, features)}")
        kind = {"image_column": "Image", "label_column": "ClassLabel"}.get(what)
        by_type = [name for name, feature in features.items() if type(feature).__name__ == kind]
        return given or next(iter(by_type + [name for name in USUAL[what] if name in features]), None)

    @cached_property
    def _input_column(self) -> str:
        what = "text_column" if self.media == "text" else "image_column"
        name = self._named(what)
        if name is None:
            raise self.error(f" needs {what}; the dataset has: {', '.join(self._dataset.features)}")
        return name

    @cached_property
    def _inputs(self) -> Any:
        """The input column alone, images still encoded."""
        from datasets import Image

        inputs = self._dataset.select_columns([self._input_column])
        if isinstance(self._dataset.features[self._input_column], Image):
            return inputs.cast_column(self._input_column, Image(decode=False))
        return inputs

    def _arrow(self, name: str) -> pa.Array:
        """One column in the dataset's own order, which ``select`` and ``shuffle`` may have changed."""
        column = self._dataset.select_columns([name]).with_format("arrow")[:][name]
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    @cached_property
    def _dataset(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            reason = " needs the Hugging Face datasets library: pip install 'hardlook[huggingface]'"
            raise self.error(reason) from error
        data = made_by_factory(self) if self.factory else datasets.load_from_disk(str(self.place))
        if isinstance(data, Mapping):
            wanted = self.dataset_split or self.split
            if wanted not in data:
                raise self.error(f" needs dataset_split; {close_names(str(wanted), data)}")
            data = data[wanted]
        if not isinstance(data, datasets.Dataset):
            raise self.error(f": found {type(data).__name__}; needed a datasets.Dataset (not streaming)")
        return data.with_format(None)
