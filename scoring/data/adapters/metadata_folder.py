"""Image folders of Hugging Face with ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet``.

The file has ``file_name`` (or ``image_file_name``, …), a path relative to it, and further columns: the label, an id,
and metadata. As in ``datasets`` (``imagefolder``), folders give no labels where there is such a file, images come with
their EXIF orientation applied, and folders called as a split are splits. A folder whose file has no column of labels is
read as an image folder of classes, unless ``adapter = "metadata-folder"`` says otherwise.

Where the column and the folders name different classes, one of them is wrong: that is refused, and
``drop_labels = true`` says that the folders are no labels.

Inputs → outputs: a folder → listing. Cost: one read of each file. Known limits: one image per row (no ``file_names``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.data.adapters import hub
from scoring.data.adapters.columns import settled, typed
from scoring.data.adapters.file_names import folders_in, on_this_system
from scoring.data.adapters.json_files import Json, text
from scoring.data.adapters.manifest import USUAL
from scoring.data.adapters.records import Plain, Record
from scoring.data.adapters.text_tables import read_text_table
from scoring.data.record_source import RecordSource

NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
FILE, OF_FILE = "file_name", "_file_name"


@dataclass(kw_only=True)
class MetadataFolder(RecordSource):
    """An image folder with a metadata file. ``drop_labels``: the folders are no labels, whatever they are called."""

    name = "metadata-folder"

    image_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    drop_labels: bool | None = None

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """A folder whose metadata file has columns of files and of labels, or ``metadata.jsonl`` itself."""
        names = [column_names(file) for file in metadata_files(place)]
        return bool(names) and all(file_column(each) and label_column(each) for each in names)

    def records(self) -> Sequence[Record]:
        """The rows of every metadata file."""
        found = [record for file in self._files for record in self._rows(file)]
        if self.drop_labels is None:
            self._compare_with_folders(found)
        return found

    def names_of_classes(self) -> list[str] | None:
        """The names of a ``ClassLabel`` in a Parquet's schema."""
        return next((names for names in map(self._class_names, self._files) if names), None)

    @property
    def image_feature(self) -> Mapping[str, Any] | None:
        """The ``Image`` that ``datasets`` makes of each file."""
        return {} if self.media == "image" else None

    @cached_property
    def _files(self) -> list[Path]:
        found = metadata_files(self.place)
        if not found:
            raise self.error(f".path = {self.path!r} holds no {', '.join(NAMES)}; name another adapter")
        if len({file.suffix for file in found}) > 1:
            raise self.error(f": {found[0]} and {found[1]} are of two kinds, which datasets refuses too; keep one")
        return found

    def _class_names(self, file: Path) -> list[str] | None:
        if file.suffix != ".parquet":
            return None
        schema = pq.read_schema(file)
        return hub.class_names(hub.features(schema).get(self._column(schema.names, "label_column") or ""))

    def _column(self, names: Sequence[str], what: str) -> str | None:
        given: str | None = getattr(self, what)
        if given is not None and given not in names:
            raise self.error(f".{what} = {given!r}: {self.path} has no such column; {close_names(given, names)}")
        usual = {"image_column": file_column(names), "label_column": label_column(names)}
        return given or usual.get(what) or next((name for name in USUAL[what] if name in names), None)

    def _rows(self, file: Path) -> list[Record]:
        try:
            table = read_rows(file)
        except HardlookError as error:
            raise self.error(f": {error}") from error
        image, label, own = (
            self._column(table.column_names, what) for what in ("image_column", "label_column", "id_column")
        )
        if image is None:
            raise self.error(f": {file} has no column file_name; it has {', '.join(table.column_names)}")
        names = self._class_names(file)
        used = {image, label, own}
        plain = {name: typed(table[name]).to_pylist() for name in table.column_names if name not in used}
        subset = file.parent.name if file.parent != self.place else None
        found = []
        for row, cells in enumerate(table.select([one for one in (image, label, own) if one]).to_pylist()):
            name = on_this_system(file.parent, text(cells[image]) or "")
            raw = hub.named(cells[label], names) if label else None
            several = isinstance(raw, (list, dict))
            found.append(
                Record(
                    name=name if subset is None else f"{subset}/{name}",
                    path=os.path.normpath(file.parent / name) if name else None,
                    label=None if several else raw,
                    subset=subset,
                    problem=_problem(name, raw if several else None),
                    own=None if own is None else text(cells[own]) or "",
                    metadata={key: _plain(values[row]) for key, values in plain.items()},
                )
            )
        return found

    def _compare_with_folders(self, records: Sequence[Record]) -> None:
        """Raises ``HardlookError`` where all folders are called as labels, and some label is another."""
        folders = [Path(record.name).parent.name for record in records]
        labels = {str(record.label) for record in records if record.label is not None}
        if not labels or not {*folders} <= labels:
            return
        differ = [
            (record, folder)
            for record, folder in zip(records, folders, strict=True)
            if record.label is not None and str(record.label) != folder
        ]
        if differ:
            record, _ = differ[0]
            raise self.error(
                f": {len(differ)} labels of {self._files[0].name} are not the folder of their file, the first: "
                f"{record.name} is {record.label!r}; take the column with drop_labels = true, or the folders with "
                'adapter = "folder"'
            )


def metadata_files(place: Path) -> list[Path]:
    """The metadata files at a path: in the folder, else in the folders in it, sorted."""
    if not place.is_dir():
        return [place] if place.name == "metadata.jsonl" and place.is_file() else []
    own = [place / name for name in NAMES if os.path.isfile(place / name)]
    return own or [folder / name for folder in folders_in(place) for name in NAMES if os.path.isfile(folder / name)]


def column_names(file: Path) -> list[str]:
    """The names of a file's columns; none where it cannot be read, which its reading reports."""
    try:
        if file.suffix == ".parquet":
            return list(pq.read_schema(file).names)
        with open(file, encoding="utf-8-sig") as opened:
            line = opened.readline()
        if file.suffix == ".jsonl":
            first: Json = json.loads(line or "{}")
            return list(first) if isinstance(first, dict) else []
    except (OSError, ValueError, pa.ArrowException):
        return []
    return [name.strip().strip('"') for name in line.strip().split(",")]


def file_column(names: Sequence[str]) -> str | None:
    """The column with the files."""
    return FILE if FILE in names else next((name for name in names if name.endswith(OF_FILE)), None)


def label_column(names: Sequence[str]) -> str | None:
    """The column with the labels, by its usual names."""
    return next((name for name in (*USUAL["label_column"], "labels") if name in names), None)


def read_rows(file: Path) -> pa.Table:
    """A metadata file as a table. Raises ``HardlookError`` where it is none."""
    if file.suffix == ".csv":
        return read_text_table(file)
    try:
        if file.suffix == ".parquet":
            return settled(pq.read_table(file))
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        names = dict.fromkeys(name for line in lines for name in line)
        return settled(pa.table({name: pa.array([line.get(name) for line in lines]) for name in names}))
    except (ValueError, AttributeError, pa.ArrowException) as error:
        raise HardlookError(f"{file} cannot be read as a table of rows ({error}); write it again") from error


def _problem(name: str, several: Any) -> str | None:
    if not name:
        return "its file_name is empty"
    return None if several is None else f"its label {str(several)!r:.60} is not one class (multi-label)"


def _plain(value: Any) -> Plain:
    return value if isinstance(value, (str, int, float, bool)) else None
