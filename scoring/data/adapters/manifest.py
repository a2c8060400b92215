"""The manifest adapter: a CSV, TSV or Parquet table with one row per example.

A row names a file (relative paths start at the manifest's folder) or holds its bytes, a text, or the numbers
of a vector; further columns are the label, the user's own id, the split, and metadata. CSV cells are read as
text, so a class named "NA" or "007" stays what it is; metadata columns of numbers become numbers. A table with one
column of 0 and 1 per class (Roboflow's ``_classes.csv``) has as label the column that is 1. What Hugging Face wrote
into a Parquet's schema (``hub``) tells images and the names of numbered labels.

Cost: the table is read once, without its bytes column, of which one row group at a time is held. Known
limits: paths are local.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.audit import SPLITS
from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.data.adapters import hub
from scoring.data.adapters.base import Listing, Source
from scoring.data.adapters.columns import flags, is_bytes, is_number, settled, typed, value_type
from scoring.data.adapters.file_names import on_this_system
from scoring.data.adapters.text_tables import read_text_table

USUAL = {
    "image_column": ("path", "image", "image_path", "file", "filename", "file_name", "filepath", "img", "bytes"),
    "text_column": ("text", "sentence", "content"),
    "label_column": ("label", "class", "target", "category"),
    "id_column": ("example_id",),
    "split_column": (),
}


@dataclass(kw_only=True)
class Manifest(Source):
    """A table of examples. Columns that are not named are found by their usual names; ``columns`` names them
    all where a CSV has no header; ``folder`` is where relative paths start, if not beside the manifest."""

    name = "manifest"
    endings = (".csv", ".tsv", ".parquet")
    serial = True
    starting = '; relative paths start at the manifest\'s folder, or at `folder = "…"` in its [[data]] table'

    image_column: str | None = None
    text_column: str | list[Any] | None = None
    input_columns: list[Any] | None = None
    label_column: str | None = None
    id_column: str | None = None
    split_column: str | None = None
    split_map: dict[str, Any] | None = None
    metadata: list[Any] | None = None
    folder: str | None = None
    columns: list[Any] | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"

    def listing(self) -> Listing:
        """Splits, ids, labels, paths and metadata of every row."""
        n = self._table.num_rows
        listing = Listing(splits=self._splits(n), columns=self._inputs[1] if self.media == "vector" else None)
        listing.units = self._units(listing.columns or [])
        label, own = self.column_of("label_column"), self.column_of("id_column")
        if label and self.split != "pool":
            listing.labels = self._labels_of(listing, self._named(label))
        elif self._one_hot and self.split != "pool":
            listing.labels = self._labels_of(listing, self._the_one())
            listing.unlabelled = "has no 1 in any class column; add one, or move the example to the pool"
        elif label is None:
            there = ", ".join(self._names)
            listing.unlabelled = f"has no label: label_column is not one of the columns {there}"
        if own:
            listing.ids = ["" if value is None else str(value) for value in self._values(own)]
        if self.media == "image" and not self._holds_bytes:
            self._add_paths(listing)
        self._add_metadata(listing)
        return listing

    def stored(self, row: int) -> Any:
        """The bytes, the text or the float32 numbers of one row."""
        if self.media == "vector":
            return self._inputs[0][row].copy()  # transforms may write into it
        if self.media == "text":
            return "\n".join(str(self._values(name)[row] or "") for name in self._text_columns)
        value = self._blob(row)
        if isinstance(value, Mapping):
            value = value.get("bytes") or self._read_beside(value.get("path"))
        if not value:
            raise HardlookError(f"row {row} has no image")
        return bytes(value)

    def names_of_classes(self) -> list[str] | None:
        """The names of the label's ``ClassLabel``, or the columns of a table with one per class."""
        label = self.column_of("label_column")
        return self._class_names(label) if label else list(self._one_hot) or None

    @property
    def class_columns(self) -> list[str]:
        """The columns of 0 and 1, one per class, that hold the labels; none where a single column does."""
        return list(self._one_hot)

    @cached_property
    def image_feature(self) -> Mapping[str, Any] | None:
        """The ``Image`` feature of the image column; a structure of bytes and path is one without its name."""
        if self.media != "image" or self._parquet is None:
            return None
        feature = self._features.get(self._image_column)
        kind = value_type(self._parquet.schema_arrow.field(self._image_column).type)
        return feature if hub.is_kind(feature, "Image") else {} if pa.types.is_struct(kind) else None

    # ---- labels

    @staticmethod
    def _labels_of(listing: Listing, labels: list[Any]) -> list[Any]:
        return [None if split == "pool" else value for split, value in zip(listing.splits, labels, strict=True)]

    def _class_names(self, column: str) -> list[str] | None:
        return hub.class_names(self._features.get(column))

    def _named(self, column: str) -> list[Any]:
        """A column's values, numbers of a ``ClassLabel`` as their names."""
        names = self._class_names(column)
        try:
            return [hub.named(value, names) for value in self._values(column)] if names else self._values(column)
        except HardlookError as error:
            raise self.error(f": column {column!r}: {error}") from error

    @cached_property
    def _one_hot(self) -> dict[str, np.ndarray]:
        """Class → (n,) bool, where there is one column of 0 and 1 per class and no column of labels; else nothing."""
        known = {*self.classes, *(self.label_map or {})}
        if self.media == "vector" or self.column_of("label_column") is not None:
            return {}
        used = {self.column_of(what) for what in USUAL} | set(self.metadata or [])
        columns = [name for name in self._table.column_names if name not in used and (not known or name in known)]
        given = {name: flags(self._table[name]) for name in columns}
        found = {name: values for name, values in given.items() if values is not None}
        whole = len(found) == len(given) or not known
        return found if len(found) > 1 and whole else {}

    def _the_one(self) -> list[str | None]:
        """The class whose column is 1 of every row, None where none is; several are refused as multi-label."""
        names, ones = list(self._one_hot), np.stack(list(self._one_hot.values()), 1)
        several = np.flatnonzero(ones.sum(1) > 1)
        if len(several):
            first = " and ".join(repr(names[at]) for at in np.flatnonzero(ones[several[0]])[:2])
            raise self.error(
                f": {len(several)} rows have a 1 in several class columns, the first of them row {several[0]} in "
                f"{first} (multi-label); hardlook audits one label per example, so keep a single 1 in each row"
            )
        return [names[int(row.argmax())] if row.any() else None for row in ones]

    # ---- columns

    @cached_property
    def _names(self) -> list[str]:
        return self._parquet.schema_arrow.names if self._parquet else self._table.column_names

    def column_of(self, what: str) -> str | None:
        """The name of a column: as configured, else the first usual one that is there."""
        given = getattr(self, what)
        if given is not None and given not in self._names:
            near = close_names(given, self._names)
            raise self.error(f".{what} = {given!r}: {self.path} has no such column; {near}")
        kind = {"image_column": "Image", "label_column": "ClassLabel"}.get(what, "")
        by_type = [name for name, feature in self._features.items() if hub.is_kind(feature, kind)]
        return given or next(iter(by_type + [name for name in USUAL[what] if name in self._names]), None)

    @cached_property
    def _features(self) -> dict[str, Any]:
        """Returns what Hugging Face says of each column."""
        return hub.features(self._parquet.schema_arrow) if self._parquet else {}

    @cached_property
    def _image_column(self) -> str:
        name = self.column_of("image_column")
        if name is None:
            there = ", ".join(self._names)
            raise self.error(f" needs image_column, the column with paths or image bytes; available: {there}")
        return name

    @cached_property
    def _text_columns(self) -> list[str]:
        names = self.text_column if isinstance(self.text_column, list) else [self.column_of("text_column")]
        found = [name for name in names if name is not None and name in self._names]
        if len(found) < len(names):
            wanted = next(name for name in names if name not in found) or "the column with texts"
            raise self.error(f" needs text_column, {wanted}; available: {', '.join(self._names)}")
        return found

    @cached_property
    def _value_lists(self) -> dict[str, list[Any]]:
        return {}

    def _values(self, name: str) -> list[Any]:
        """A column as a Python list, made once."""
        if name not in self._value_lists:
            self._value_lists[name] = self._table[name].to_pylist()
        return self._value_lists[name]

    @cached_property
    def _inputs(self) -> tuple[np.ndarray, list[str]]:
        """(n, d) float32 vectors and the names of their columns; empty cells are not-a-number."""
        named = {self.column_of(what) for what in USUAL if what not in ("image_column", "text_column")}
        free = [name for name in self._table.column_names if name not in named | set(self.metadata or [])]
        names = self.input_columns or [name for name in free if is_number(typed(self._table[name]))]
        missing = [name for name in names if name not in self._names]
        if missing or not names:
            there = ", ".join(self._names)
            raise self.error(f" needs input_columns, the columns of numbers; found {missing or 'none'} in: {there}")
        columns = [pd.to_numeric(self._table[name].to_pandas(), errors="coerce") for name in names]
        return np.column_stack([column.to_numpy(np.float32, na_value=np.nan) for column in columns]), names

    def _units(self, names: list[str]) -> dict[str, str]:
        """In what columns are measured: ``unit`` (or ``units``) in the metadata of a Parquet column."""
        if not self._parquet:
            return {}
        schema, found = self._parquet.schema_arrow, {}
        for name in names:
            told = schema.field(name).metadata or {}
            unit = told.get(b"unit", told.get(b"units"))
            if unit:
                found[name] = unit.decode("utf8", "replace")
        return found

    # ---- rows

    def _splits(self, n: int) -> list[str]:
        name = self.column_of("split_column")
        if name is None:
            return self.one_split(n)
        known = dict(zip(SPLITS, SPLITS, strict=True)) | {"training": "train", "testing": "test"}
        known |= self.split_map or {}
        cells = ["" if cell is None else str(cell).strip() for cell in self._values(name)]
        splits = [known.get(cell) or known.get(cell.lower(), "") for cell in cells]
        for row, (cell, split) in enumerate(zip(cells, splits, strict=True)):
            if split not in SPLITS:
                raise self.error(
                    f': row {row} has split {cell!r}; needed {", ".join(SPLITS)}; map it with split_map = {{ "{cell}" '
                    '= "test" }'
                )
        return splits

    def _add_paths(self, listing: Listing) -> None:
        """Absolute paths and the relative names of ids; an empty cell or a URL is that example's problem."""
        paths: list[str | None] = []
        listing.paths, listing.names = paths, []
        for row, cell in enumerate(self._values(self._image_column)):
            cell = "" if cell is None else str(cell)
            cell = on_this_system(self._beside, cell)
            listing.names.append(Path(cell).as_posix() if cell else f"row {row}")
            path = os.path.normpath(self._beside / Path(cell).expanduser()) if cell else ""
            paths.append(path or None)
            if not cell.strip():
                listing.problems[row] = f"column {self._image_column!r} is empty"
            elif "://" in cell:
                paths[row] = None
                listing.problems[row] = f"{cell} is a URL, not a file; download it first"
            elif "\\" in cell and not os.path.exists(path):
                listing.problems[row] = (
                    f"found neither a file {cell} nor {cell.replace(chr(92), '/')}; correct the path"
                )

    @cached_property
    def _beside(self) -> Path:
        """The folder that relative paths start at."""
        return self.root / Path(self.folder).expanduser() if self.folder else self.place.parent

    def _read_beside(self, path: str | None) -> bytes | None:
        return (self._beside / on_this_system(self._beside, path)).read_bytes() if path else None

    def _add_metadata(self, listing: Listing) -> None:
        """Adds every other column of plain values, or those that ``metadata`` names, and notes columns of other
        types."""
        used = {self.column_of(what) for what in USUAL if what != "text_column"} | set(listing.columns or [])
        used |= set(self._one_hot)
        used |= set(self._text_columns) if self.media == "text" else set()
        for name in self.metadata if self.metadata is not None else self._table.column_names:
            if name not in self._names:
                raise self.error(f".metadata: there is no column {name!r}; {close_names(name, self._names)}")
            if name not in used and name in self._table.column_names:
                named = (
                    pa.array(self._named(name), pa.string())
                    if hub.is_kind(self._features.get(name), "ClassLabel")
                    else None
                )
                listing.metadata[name] = typed(self._table[name]) if named is None else named

    # ---- reading

    @cached_property
    def _parquet(self) -> pq.ParquetFile | None:
        if self.place.suffix.lower() != ".parquet":
            return None
        try:
            return pq.ParquetFile(self.place, memory_map=True)
        except (pa.ArrowInvalid, OSError) as error:
            raise self.error(f".path = {self.path!r} is not a Parquet file: {error}") from error

    @cached_property
    def _holds_bytes(self) -> bool:
        """Returns whether the image column holds the images themselves (bytes, or Hugging Face's {bytes, path})."""
        if self._parquet is None:
            return False
        kind = value_type(self._parquet.schema_arrow.field(self._image_column).type)
        return is_bytes(kind) or pa.types.is_struct(kind)

    @cached_property
    def _table(self) -> pa.Table:
        """The manifest without the column of bytes."""
        if self._parquet is None:
            return self._read_csv()
        bytes_column = self._image_column if self.media == "image" and self._holds_bytes else None
        return settled(self._parquet.read([name for name in self._names if name != bytes_column]))

    def _read_csv(self) -> pa.Table:
        try:
            return read_text_table(self.place, self.delimiter, self.encoding, self.columns)
        except HardlookError as error:
            raise self.error(f": {error}") from error

    @property
    def _opened(self) -> pq.ParquetFile:
        if self._parquet is None:
            raise self.error(f".path = {self.path!r} is not a Parquet file, so it cannot hold images itself")
        return self._parquet

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each row group, and the number of rows at the end."""
        meta = self._opened.metadata
        return np.cumsum([0, *(meta.row_group(group).num_rows for group in range(meta.num_row_groups))])

    def _blob(self, row: int) -> Any:
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        if self._group_held != group:
            self._held = self._opened.read_row_group(group, [self._image_column])[self._image_column]
            self._group_held = group
        return self._held[row - int(self._starts[group])].as_py()

    _group_held: int | None = None
