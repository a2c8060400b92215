"""Roboflow's multi-class export: folders train, valid and test, each with pictures and ``_classes.csv``.

The table has one column of 0 and 1 per class, in the order of the classes. A picture with a 1 in several columns is
refused as multi-label, one without any has no label. The path is the folder of one split, or the one above them. One
``_classes.csv`` by its own name is read by the adapter manifest.

Inputs → outputs: a folder → listing. Cost: one read of each table. Known limits: Roboflow's export of a single-label
project is an image folder, and read as that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from scoring.audit.errors import HardlookError
from scoring.data.adapters.columns import flags
from scoring.data.adapters.file_names import folders_in, on_this_system
from scoring.data.adapters.records import Record, one_label
from scoring.data.adapters.text_tables import read_text_table
from scoring.data.record_source import RecordSource

TABLE = "_classes.csv"
FILE = "filename"


@dataclass(kw_only=True)
class Roboflow(RecordSource):
    """A folder that Roboflow exported, with ``_classes.csv`` in it or in the folders of its splits."""

    name = "roboflow"

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """A folder with ``_classes.csv``, or with folders that have one."""
        return bool(tables(place))

    def records(self) -> Sequence[Record]:
        """The rows of every table."""
        return [record for table in self._tables for record in self._rows(table)]

    def names_of_classes(self) -> list[str] | None:
        """The columns after the file name. Raises ``HardlookError`` where two splits have others."""
        orders = {file: [name for name in table.column_names if name != FILE] for file, table in self._tables.items()}
        (first, names), *others = orders.items()
        for file, other in others:
            if other != names:
                raise self.error(f": {first} and {file} have other classes; needed the same columns in each split")
        return names

    @cached_property
    def _tables(self) -> dict[Path, pa.Table]:
        found = {}
        for file in tables(self.place):
            try:
                found[file] = read_text_table(file)
            except HardlookError as error:
                raise self.error(f": {error}") from error
            if FILE not in found[file].column_names or len(found[file].column_names) < 2:
                raise self.error(f": {file} has no column {FILE!r} and classes; export it from Roboflow again")
        if not found:
            raise self.error(f".path = {self.path!r} holds no {TABLE}; name another adapter")
        return found

    def _rows(self, file: Path) -> list[Record]:
        table = self._tables[file]
        names = [name for name in table.column_names if name != FILE]
        columns = [flags(table[name]) for name in names]
        wrong = [name for name, values in zip(names, columns, strict=True) if values is None and len(table)]
        if wrong:
            raise self.error(f": column {wrong[0]!r} of {file} holds other values than 0 and 1; needed one per class")
        subset = file.parent.name if file.parent != self.place else None
        found = []
        for row, name in enumerate(table[FILE].to_pylist()):
            ones = [own for own, values in zip(names, columns, strict=True) if values is not None and values[row]]
            label, problem = one_label(ones)
            path = os.path.normpath(file.parent / on_this_system(file.parent, name))
            own = name if subset is None else f"{subset}/{name}"
            found.append(Record(name=own, path=path, label=label, subset=subset, problem=problem))
        return found


def tables(place: Path) -> list[Path]:
    """The tables at a path: its own, else those of the folders in it, sorted."""
    own = place / TABLE
    if os.path.isfile(own) or not place.is_dir():
        return [own] if os.path.isfile(own) else []
    return [folder / TABLE for folder in folders_in(place) if os.path.isfile(folder / TABLE)]
