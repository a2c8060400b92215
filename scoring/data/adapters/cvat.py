"""CVAT's XML for images, version 1.1, with tags as labels.

The path is the XML file, or a folder that holds it (``annotations.xml``, or one file per subset). The pictures lie in
``images`` beside it, below their subset where a project was exported, or in ``folder``. The labels of the task, in
their order, are the classes. Attributes of a tag become metadata.

Inputs → outputs: a file → listing. Cost: one pass over the XML. Known limits: tags alone; boxes, polygons and tracks
are no labels of an example. Files in CVAT's ImageNet format are read by the adapters folder and imagenet.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from scoring.data.adapters.file_names import on_this_system
from scoring.data.adapters.records import Plain, Record, one_label
from scoring.data.record_source import RecordSource

HEAD = 4096
"""Bytes at the start of a file in which its root element stands."""


@dataclass(kw_only=True)
class Cvat(RecordSource):
    """An export "CVAT for images 1.1". ``folder``: where the pictures are, if not in ``images`` beside the XML."""

    name = "cvat"
    starting = '; the pictures are in `images` beside the XML, or in `folder = "…"` of its [[data]] table'

    folder: str | None = None

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """An XML file whose root is ``annotations``, with a version, or a folder with such files."""
        return any(map(is_cvat, xml_files(place)))

    def records(self) -> Sequence[Record]:
        """The images of every file."""
        return [self._record(file, image) for file, root in self._roots.items() for image in root.iter("image")]

    def names_of_classes(self) -> list[str] | None:
        """The labels of the task, in their order; parts of skeletons are none."""
        found: dict[str, None] = {}
        for root in self._roots.values():
            meta = root.find("meta")
            for label in meta.iter("label") if meta is not None else ():
                name = label.findtext("name")
                if name and not label.findtext("parent"):
                    found[name] = None
        return list(found) or None

    @cached_property
    def _roots(self) -> dict[Path, Element]:
        found = {}
        for file in filter(is_cvat, xml_files(self.place)):
            try:
                found[file] = ElementTree.parse(file).getroot()
            except ElementTree.ParseError as error:
                raise self.error(f": {file} is no XML ({error}); export it from CVAT again") from error
            if found[file].find("track") is not None:
                raise self.error(f": {file} is of a video (it has tracks); export it as CVAT for images 1.1")
        if not found:
            raise self.error(f".path = {self.path!r} holds no XML of CVAT for images; name another adapter")
        return found

    def _record(self, file: Path, image: Element) -> Record:
        tags = image.findall("tag")
        label, problem = one_label([tag.get("label", "") for tag in tags])
        name, subset = image.get("name", ""), image.get("subset") or self._subset_of(file)
        metadata: dict[str, Plain] = {
            one.get("name", ""): one.text.strip() for tag in tags for one in tag.iter("attribute") if one.text
        }
        return Record(
            name=name if image.get("subset") is None else f"{subset}/{name}",
            path=self._path(file, name, image.get("subset")),
            label=label,
            subset=subset,
            problem=problem,
            metadata=metadata,
        )

    def _subset_of(self, file: Path) -> str | None:
        """A file per subset is called as it; the one of a task is not."""
        return file.stem if len(self._roots) > 1 else None

    def _path(self, file: Path, name: str, subset: str | None) -> str:
        beside = self.root / Path(self.folder).expanduser() if self.folder else file.parent / "images"
        name = on_this_system(beside, name)
        ways = [*([beside / subset / name] if subset else []), beside / name]
        return os.path.normpath(next((way for way in ways if way.exists()), ways[-1]))


def xml_files(place: Path) -> list[Path]:
    """The XML files at a path: itself, or those right in the folder, sorted."""
    return sorted(place.glob("*.xml")) if place.is_dir() else [place] if place.suffix.lower() == ".xml" else []


def is_cvat(file: Path) -> bool:
    """Returns whether a file begins as an XML of CVAT."""
    try:
        with open(file, "rb") as opened:
            head = opened.read(HEAD)
    except OSError:  # closed: its reading says so, if it is named
        return False
    return b"<annotations>" in head and b"<version>" in head
