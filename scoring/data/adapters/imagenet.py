"""ImageNet lists: ``synsets.txt`` with one class per line, and ``<subset>.txt`` with pictures and class numbers.

Datumaro and CVAT write these; the pictures lie in ``images``. A class's line is its number, from 0. A line names a
picture, in quotes where it has spaces, and the numbers of its classes: several are refused as multi-label, none is no
label. CVAT's form without lists (``synsets.txt`` beside one folder per class) is read as a folder.

Inputs → outputs: a folder → listing. Cost: one read of the lists. Known limits: in ``synsets.txt``, a whole line is the
name of its class.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from scoring.data.adapters.file_names import on_this_system
from scoring.data.adapters.records import Record, one_label
from scoring.data.record_source import RecordSource

CLASSES = "synsets.txt"
LINE = re.compile(r'(?:"(?P<quoted>[^"]*)"(?P<ending>\S*)|(?P<plain>\S+))(?P<numbers>(?:\s+-?\d+)*)\s*')


@dataclass(kw_only=True)
class ImageNet(RecordSource):
    """A folder with ``synsets.txt`` and lists of pictures. ``folder``: where the pictures are, if not in ``images``."""

    name = "imagenet"

    folder: str | None = None

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """A folder with ``synsets.txt``, another list, and ``images``."""
        there = os.path.isfile(place / CLASSES) and os.path.isdir(place / "images")
        return there and bool(list_files(place))

    def records(self) -> Sequence[Record]:
        """The lines of every list."""
        if not list_files(self.place):
            raise self.error(f".path = {self.path!r} has no list of pictures beside {CLASSES}; name another adapter")
        return [
            self._record(file, at, line)
            for file in list_files(self.place)
            for at, line in enumerate(file.read_text(encoding="utf8").splitlines(), 1)
            if line.strip()
        ]

    def names_of_classes(self) -> list[str] | None:
        """The lines of ``synsets.txt``."""
        return self._names

    @cached_property
    def _names(self) -> list[str]:
        if not (self.place / CLASSES).is_file():
            raise self.error(f".path = {self.path!r} has no {CLASSES}, the list of classes; name another adapter")
        return [line.strip() for line in (self.place / CLASSES).read_text(encoding="utf8").splitlines() if line.strip()]

    def _record(self, file: Path, at: int, line: str) -> Record:
        found = LINE.fullmatch(line)
        if found is None:
            raise self.error(
                f": line {at} of {file.name} is {line!r:.80}; needed a picture and the number of its class"
            )
        name = found["plain"] or f"{found['quoted']}{found['ending']}"
        numbers = [int(number) for number in found["numbers"].split()]
        wrong = [number for number in numbers if not 0 <= number < len(self._names)]
        if wrong:
            raise self.error(
                f": line {at} of {file.name} has class {wrong[0]}; {CLASSES} has {len(self._names)} classes"
            )
        label, problem = one_label([self._names[number] for number in numbers])
        beside = self.root / Path(self.folder).expanduser() if self.folder else self.place / "images"
        path = os.path.normpath(beside / on_this_system(beside, name))
        return Record(name=name, path=path, label=label, subset=file.stem, problem=problem)


def list_files(place: Path) -> list[Path]:
    """The lists of pictures in a folder, sorted."""
    return [file for file in sorted(place.glob("*.txt")) if file.name != CLASSES] if place.is_dir() else []
