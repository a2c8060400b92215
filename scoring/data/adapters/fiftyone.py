"""Exports of FiftyOne: ``FiftyOneImageClassificationDataset`` and ``FiftyOneDataset``.

The first is ``labels.json`` (keys → labels) beside ``data/``, or beside ``data.json``, which says where each key's file
is. The second is ``samples.json`` with every field of every sample, and ``metadata.json``; the label is the
``Classification`` that ``label_column`` names, the only one, or ``ground_truth``, and a sample's tags that are called
as a split are its subset. Both list their classes in order, where they were given. FiftyOne's directory tree is an
image folder, whose ``_unlabeled`` the adapter folder knows.

Inputs → outputs: a folder → listing. Cost: one parse of the file, one walk over ``data``. Known limits: images alone;
``Classifications`` of several labels are refused as multi-label.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.data.adapters.json_files import Json, objects, read_json_file, shape, text
from scoring.data.adapters.records import Plain, Record, one_label
from scoring.data.record_source import RecordSource

OF_SAMPLE = ("filepath", "tags", "metadata", "id", "created_at", "last_modified_at")
SUBSETS = ("train", "training", "test", "testing", "val", "valid", "validation", "pool")


@dataclass(kw_only=True)
class FiftyOne(RecordSource):
    """A folder that FiftyOne exported. ``label_column``: the field with the label, where there are several."""

    name = "fiftyone"
    turned_by = "FiftyOne"

    label_column: str | None = None

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """A folder with ``samples.json`` and ``metadata.json``, or with ``labels.json`` and pictures."""
        return is_samples(place) or is_labels(place)

    def records(self) -> Sequence[Record]:
        """Every sample."""
        if is_samples(self.place):
            field = self._field
            return [self._sample(sample, field) for sample in self._samples]
        if not is_labels(self.place):
            raise self.error(f".path = {self.path!r} holds neither labels.json nor samples.json; name another adapter")
        if self.label_column is not None:
            raise self.error(f".label_column = {self.label_column!r}: labels.json has one label per image; remove it")
        labels = self._labels.get("labels")
        return [self._labelled(key, value) for key, value in (labels.items() if isinstance(labels, dict) else ())]

    def names_of_classes(self) -> list[str] | None:
        """The classes that the export lists, of its field or for all fields."""
        if not is_samples(self.place):
            return _names(self._labels.get("classes"))
        content = self._read("metadata.json")
        by_field = content.get("classes")
        own = by_field.get(self._field or "") if isinstance(by_field, dict) else None
        return _names(own) or _names(content.get("default_classes"))

    def _read(self, name: str) -> dict[str, Json]:
        try:
            content = read_json_file(self.place / name)
        except HardlookError as error:
            raise self.error(f": {error}") from error
        return content if isinstance(content, dict) else {}

    # ---- labels.json

    @cached_property
    def _labels(self) -> dict[str, Json]:
        return self._read("labels.json")

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """Key → its files: as ``data.json`` says, else by path below ``data`` without ending."""
        if (self.place / "data.json").is_file():
            return {key: [str(self.place / str(path))] for key, path in self._read("data.json").items()}
        found: dict[str, list[str]] = {}
        data = self.place / "data"
        for file in sorted(path for path in data.rglob("*") if path.is_file() and not path.name.startswith(".")):
            found.setdefault(file.relative_to(data).with_suffix("").as_posix(), []).append(str(file))
        return found

    def _labelled(self, key: str, value: Json) -> Record:
        files = [key] if os.path.isabs(key) and key not in self._files else self._files.get(key, [])
        label, problem = one_label(label_names(value, _names(self._labels.get("classes"))))
        if len(files) > 1:
            problem = f"{len(files)} files of data are called so, the first {files[0]} and {files[1]}; keep one"
        elif not files:
            problem = "its file is not in data"
        own = key if (self.place / "data.json").is_file() else None
        path = os.path.normpath(files[0]) if len(files) == 1 else None
        return Record(name=key, path=path, label=label, problem=problem, own=own)

    # ---- samples.json

    @cached_property
    def _samples(self) -> list[dict[str, Json]]:
        if (self.place / "samples").is_dir():
            contents = [read_json_file(file) for file in sorted((self.place / "samples").glob("*.json"))]
            return objects(contents)
        return objects(self._read("samples.json").get("samples"))

    @cached_property
    def _field(self) -> str | None:
        fields = [
            key
            for key in dict.fromkeys(key for sample in self._samples for key in sample)
            if any(kind_of(sample.get(key)) in ("Classification", "Classifications") for sample in self._samples)
        ]
        if self.label_column is not None:
            if self.label_column not in fields:
                near = close_names(self.label_column, fields)
                raise self.error(f".label_column = {self.label_column!r}: no sample has such a classification; {near}")
            return self.label_column
        if len(fields) > 1 and "ground_truth" not in fields:
            raise self.error(f" needs label_column, the field with the label; the samples have {', '.join(fields)}")
        return "ground_truth" if "ground_truth" in fields else next(iter(fields), None)

    def _sample(self, sample: dict[str, Json], field: str | None) -> Record:
        label, problem = one_label(label_names(sample.get(field or ""), None))
        name, tags = text(sample.get("filepath")) or "", _names(sample.get("tags")) or []
        metadata: dict[str, Plain] = {"tags": ", ".join(tags)} if tags else {}
        for key, value in sample.items():
            if key in (*OF_SAMPLE, field) or key.startswith("_"):
                continue
            if kind_of(value) == "Classification":
                metadata[key] = next(iter(label_names(value, None)), None)
            elif not isinstance(value, (list, dict)) and value is not None:
                metadata[key] = value
        known = (*SUBSETS, *(self.split_map or {}))
        subsets = [tag for tag in tags if tag in known]
        if len(subsets) > 1:
            problem = f"has the tags {subsets[0]!r} and {subsets[1]!r}, which are two subsets; keep one of them"
        return Record(
            name=Path(name).as_posix(),
            path=os.path.normpath(self.place / name) if name else None,
            label=label,
            subset=next(iter(subsets), None),
            problem=problem if name else "has no filepath",
            metadata=metadata,
        )


def is_samples(place: Path) -> bool:
    """Returns whether a folder holds a ``FiftyOneDataset``."""
    return os.path.isfile(place / "metadata.json") and (
        "samples" in shape(place / "samples.json").keys or os.path.isdir(place / "samples")
    )


def is_labels(place: Path) -> bool:
    """Returns whether a folder holds a ``FiftyOneImageClassificationDataset``."""
    beside = os.path.isdir(place / "data") or os.path.isfile(place / "data.json")
    return beside and shape(place / "labels.json").keys >= {"classes", "labels"}


def kind_of(value: Json) -> str | None:
    """The class of a label of FiftyOne."""
    return text(value.get("_cls")) if isinstance(value, dict) else None


def label_names(value: Json, classes: Sequence[str] | None) -> list[str]:
    """The names in a label: of a number its class, of an object its label, of several all of them.

    >>> label_names(1, ["cat", "dog"]), label_names({"label": "cat"}, None), label_names(None, None)
    (['dog'], ['cat'], [])
    """
    if isinstance(value, list):
        return [name for each in value for name in label_names(each, classes)]
    if isinstance(value, dict):
        inner = value.get("classifications", value.get("label"))
        return label_names(inner, classes)
    if isinstance(value, int) and classes is not None and 0 <= value < len(classes):
        return [classes[value]]
    return [] if value is None else [str(value)]


def _names(value: Json) -> list[str] | None:
    return [str(name) for name in value] if isinstance(value, list) and value else None
