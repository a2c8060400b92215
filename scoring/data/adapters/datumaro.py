"""Datumaro's own format: ``annotations/<subset>.json`` with label annotations, ``images/<subset>/``.

The path is the folder, or one of its annotation files. Each item has the names of its labels from the categories of
its file, whose order is the order of the classes. Its attributes become metadata.

Inputs → outputs: a folder → listing. Cost: one parse of each annotation file. Known limits: pictures alone; labels of
boxes and masks are no labels of an example, and an item without a label annotation has none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scoring.audit.errors import HardlookError
from scoring.data.adapters.json_files import Json, objects, read_json_file, shape, text
from scoring.data.adapters.records import Record, one_label
from scoring.data.record_source import RecordSource

KEYS = {"categories", "items"}


@dataclass(kw_only=True)
class Datumaro(RecordSource):
    """A folder that Datumaro wrote, or one annotation file of it."""

    name = "datumaro"

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """A folder with ``annotations`` of which one holds categories and items, or such a file."""
        return any(shape(file).keys >= KEYS for file in annotation_files(place))

    def records(self) -> Sequence[Record]:
        """The items of every subset."""
        return [record for file in self._contents for record in self._records_of(file)]

    def names_of_classes(self) -> list[str] | None:
        """The label categories, in their order. Raises ``HardlookError`` where two subsets number them otherwise."""
        orders = {file: label_names(content) for file, content in self._contents.items()}
        (first, names), *others = orders.items()
        for file, other in others:
            if other != names:
                raise self.error(f": {first.name} and {file.name} list other labels; needed the same in each subset")
        return names or None

    @cached_property
    def _contents(self) -> dict[Path, dict[str, Json]]:
        found = {}
        for file in annotation_files(self.place):
            try:
                content = read_json_file(file)
            except HardlookError as error:
                raise self.error(f": {error}") from error
            if isinstance(content, dict) and content.keys() >= KEYS:
                found[file] = content
        if not found:
            raise self.error(f".path = {self.path!r} holds no annotations/*.json of Datumaro; name another adapter")
        return found

    def _records_of(self, file: Path) -> list[Record]:
        names, subset = label_names(self._contents[file]), file.stem
        images = file.parent.parent / "images"
        found = []
        for item in objects(self._contents[file].get("items")):
            numbers = [one.get("label_id") for one in objects(item.get("annotations")) if one.get("type") == "label"]
            wrong = [number for number in numbers if not isinstance(number, int) or not 0 <= number < len(names)]
            labels = [names[number] for number in numbers if isinstance(number, int) and number not in wrong]
            label, problem = one_label(labels)
            if wrong:
                label, problem = None, f"its label_id {wrong[0]!r} is none of the {len(names)} labels"
            path = image_path(images, subset, item)
            own = item.get("attr")
            found.append(
                Record(
                    name=f"{subset}/{text(item.get('id'))}",
                    path=path,
                    label=label,
                    subset=subset,
                    problem=problem or (None if path else "has no image"),
                    metadata={
                        key: value
                        for key, value in (own.items() if isinstance(own, dict) else ())
                        if not isinstance(value, (list, dict))
                    },
                )
            )
        return found


def annotation_files(place: Path) -> list[Path]:
    """The files that may hold annotations at a path, sorted."""
    if place.is_dir():
        return sorted((place / "annotations").glob("*.json"))
    return [place] if place.suffix.lower() == ".json" and place.parent.name == "annotations" else []


def label_names(content: dict[str, Json]) -> list[str]:
    """The names of the label categories of a file, in their order."""
    categories = content.get("categories")
    labels = categories.get("label") if isinstance(categories, dict) else None
    return [str(one.get("name")) for one in objects(labels.get("labels") if isinstance(labels, dict) else None)]


def image_path(images: Path, subset: str, item: dict[str, Json]) -> str | None:
    """Where the picture of an item lies: under its subset, else beside, else as its path says; None where it has
    none."""
    image = item.get("image") or item.get("media")
    name = text(image.get("path")) if isinstance(image, dict) else None
    if not name:
        return None
    ways = [images / subset / name, images / name, images.parent / name]
    return os.path.normpath(next((way for way in ways if way.exists()), ways[0]))
