"""Datasets described by Croissant (``metadata.json`` in JSON-LD, of MLCommons), with a local copy of their files.

Read are record sets of two forms: pictures of a ``FileSet`` (a zip beside the description, or its unpacked folder) with
what their paths say, and with columns of a table that a field *references* joins to them; and rows of one table (CSV,
TSV, Parquet), with texts or the bytes of pictures. The picture is the field of the type ``ImageObject``, the label the
one of the type ``cr:Label``, else of a usual name; every other field is metadata.

Inputs → outputs: a description → listing. Cost: one read of the tables and of the zip's list. Known limits: nothing is
downloaded; transforms other than one regular expression, other archives than zip, and tables of several files are
refused.
"""

from __future__ import annotations

import fnmatch
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import close_names
from scoring.data.adapters.base import Listing
from scoring.data.adapters.columns import settled, typed
from scoring.data.adapters.croissant_fields import Field, files_of, read_fields
from scoring.data.adapters.json_files import Json, objects, read_json_file, shape, text
from scoring.data.adapters.manifest import USUAL
from scoring.data.adapters.records import Plain, Record, listing_of
from scoring.data.adapters.text_tables import read_text_table
from scoring.data.record_source import RecordSource

NAMES = ("croissant.json", "metadata.json", "metadata.json-ld", "metadata.jsonld")
KEYS = {"distribution", "recordSet"}
ENDINGS = (".json", ".json-ld", ".jsonld")


@dataclass(kw_only=True)
class Croissant(RecordSource):
    """A Croissant description, or the folder with it. ``record_set``: which of several; ``label_column``: the field
    with the label; ``input_column``: the one with the picture or text."""

    name = "croissant"

    record_set: str | None = None
    input_column: str | None = None
    label_column: str | None = None

    @classmethod
    def recognises(cls, place: Path) -> bool:
        """A file, or a folder with one, that has a distribution and record sets."""
        return description(place) is not None

    def listing(self) -> Listing:
        """The records, with the problem of one without a label."""
        unlabelled = "has no label in the description's tables; add one, or move the example to the pool"
        return listing_of(self, self.chosen, self.split_map, unlabelled=unlabelled)

    def records(self) -> Sequence[Record]:
        """The records of the set."""
        return self._of_files() if self._input.file_set else self._of_rows()

    def stored(self, row: int) -> Any:
        """A member of a zip, the bytes in a table, or a text."""
        if self._input.file_set:
            if self._archive is None:
                raise HardlookError(f"{self.chosen[row].name} is a file, and read by its path")
            with zipfile.ZipFile(self._archive) as archive:
                return archive.read(self.chosen[row].name)
        value = self._table[self._input.column or ""][row].as_py()
        if isinstance(value, Mapping):
            value = value.get("bytes")
        if not value:
            raise HardlookError(f"row {row} has no {self._input.name}")
        return value

    # ---- the description

    @cached_property
    def _file(self) -> Path:
        found = description(self.place)
        if found is None:
            raise self.error(f".path = {self.path!r} holds no description of Croissant; name another adapter")
        return found

    @cached_property
    def _content(self) -> dict[str, Json]:
        content = read_json_file(self._file)
        return content if isinstance(content, dict) else {}

    @cached_property
    def _fields(self) -> list[Field]:
        sets = [one for one in objects(self._content.get("recordSet")) if objects(one.get("field"))]
        names = [text(one.get("name")) or text(one.get("@id")) or "" for one in sets]
        fields = {name: read_fields(one) for name, one in zip(names, sets, strict=True)}
        if self.record_set is not None:
            if self.record_set not in fields:
                raise self.error(f".record_set = {self.record_set!r}: {close_names(self.record_set, names)}")
            return fields[self.record_set]
        likely = [name for name, each in fields.items() if any(one.holds(self.media) for one in each)]
        labelled = [name for name in likely if any(one.is_label for one in fields[name])] or likely
        if len(labelled) != 1:
            raise self.error(
                f" needs record_set, the set with the {self.media} data; there is {', '.join(names) or 'none'}"
            )
        return fields[labelled[0]]

    @cached_property
    def _input(self) -> Field:
        if self.input_column is not None:
            return self._named(self.input_column, "input_column")
        found = [one for one in self._fields if one.holds(self.media) and not one.is_label]
        usual = [one for one in found if one.name in USUAL["text_column"]] if self.media == "text" else []
        if len(usual or found) != 1:
            there = ", ".join(one.name for one in self._fields)
            raise self.error(f" needs input_column, the field with the {self.media}; the set has {there}")
        return (usual or found)[0]

    @cached_property
    def _label(self) -> Field | None:
        if self.label_column is not None:
            return self._named(self.label_column, "label_column")
        marked = [one for one in self._fields if one.is_label]
        if len(marked) > 1:
            raise self.error(f" needs label_column; the fields {', '.join(one.name for one in marked)} are labels")
        usual = (one for name in USUAL["label_column"] for one in self._fields if one.name == name)
        return marked[0] if marked else next(usual, None)

    def _named(self, name: str, what: str) -> Field:
        found = next((one for one in self._fields if one.name == name), None)
        if found is None:
            raise self.error(f".{what} = {name!r}: {close_names(name, [one.name for one in self._fields])}")
        return found

    def _local(self, own: str) -> Path:
        """The local copy of a file object, by its address, id or name, beside the description."""
        found = next((one for one in objects(self._content.get("distribution")) if one.get("@id") == own), None)
        address = (text(found.get("contentUrl")) if found else None) or own
        ways = [address, own, os.path.basename(address), (text(found.get("name")) if found else None) or own]
        places = [self._file.parent / way for way in ways if "://" not in way]
        there = next((place for place in places if place.is_file()), None)
        if there is None:
            raise self.error(f": {own} ({address}) is not beside {self._file.name}; download it to there")
        return there

    # ---- files

    @cached_property
    def _archive(self) -> Path | None:
        """The zip that holds the set's files; None where they lie in a folder."""
        inside = files_of(self._content, self._input.file_set).archive
        if inside is None or (self._file.parent / Path(inside).stem).is_dir():
            return None
        place = self._local(inside)
        if not zipfile.is_zipfile(place):
            raise self.error(f": {place} is no zip; unpack it into the folder {place.stem} beside it")
        return place

    def _of_files(self) -> list[Record]:
        members, folder = self._members()
        join = next((one for one in self._fields if one.joins), None)
        columns = self._joined(join) if join is not None else {}
        label, found = self._label, []
        for name in members:
            values: dict[str, Plain] = {}
            row = columns.get(text(join.of_path(name)) or "") if join is not None else None
            for one in self._fields:
                if one.file_set and one is not self._input:
                    values[one.name] = one.of_path(name)
                elif one.table and row is not None:
                    values[one.name] = row.get(one.column or "")
            found.append(
                Record(
                    name=name,
                    path=None if folder is None else os.path.normpath(folder / name),
                    label=values.pop(label.name, None) if label is not None else None,
                    own=name if folder is None else None,
                    metadata=values,
                )
            )
        return found

    def _members(self) -> tuple[list[str], Path | None]:
        """(names inside, the folder), sorted as text, of the files that the set includes."""
        files = files_of(self._content, self._input.file_set)
        if self._archive is not None:
            with zipfile.ZipFile(self._archive) as archive:
                names = [info.filename for info in archive.infolist() if not info.is_dir()]
            folder = None
        else:
            folder = self._file.parent / Path(files.archive).stem if files.archive else self._file.parent
            names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        kept = sorted(name for name in names if any(fnmatch.fnmatch(name, each) for each in files.includes))
        if not kept:
            raise self.error(f": no file is called {' or '.join(files.includes)}, as the description says")
        return kept, folder

    def _joined(self, join: Field) -> dict[str, dict[str, Plain]]:
        """Key → row of the table that a field references. Raises ``HardlookError`` where a key comes twice."""
        own, column = join.joins or ("", "")
        table = self._read(own)
        found: dict[str, dict[str, Plain]] = {}
        keys = table[column].to_pylist() if column in table.column_names else []
        plain = {name: typed(table[name]).to_pylist() for name in table.column_names}
        for row, key in enumerate(map(text, keys)):
            if key in found:
                raise self.error(f": {own} has {key!r} twice in its column {column!r}; needed one row per file")
            found[key or ""] = {name: values[row] for name, values in plain.items()}
        return found

    # ---- rows

    @cached_property
    def _table(self) -> pa.Table:
        if self._input.table is None:
            raise self.error(f": the field {self._input.name!r} is of no file and no table that is read")
        return self._read(self._input.table)

    def _read(self, own: str) -> pa.Table:
        place = self._local(own)
        try:
            return settled(pq.read_table(place)) if place.suffix == ".parquet" else read_text_table(place)
        except (HardlookError, pa.ArrowException) as error:
            raise self.error(f": {place} cannot be read: {error}") from error

    def _of_rows(self) -> list[Record]:
        table, label = self._table, self._label
        fields = [one for one in self._fields if one.table == self._input.table and one is not self._input]
        missing = [one.column for one in (*fields, self._input) if one.column not in table.column_names]
        if missing:
            raise self.error(f": {self._input.table} has no column {missing[0]!r}, which the description names")
        columns = {one.name: typed(table[one.column or ""]).to_pylist() for one in fields}
        found = []
        for row in range(len(table)):
            values = {name: cells[row] for name, cells in columns.items()}
            own = values.pop(label.name, None) if label is not None else None
            plain = {name: value for name, value in values.items() if not isinstance(value, (list, dict, bytes))}
            found.append(Record(name=f"{self._input.table}#{row}", label=own, metadata=plain))
        return found


def description(place: Path) -> Path | None:
    """The description at a path: itself, or one of the usual names in a folder."""
    ways = [place / name for name in NAMES] if place.is_dir() else [place]
    return next((way for way in ways if way.suffix in ENDINGS and shape(way).keys >= KEYS), None)
