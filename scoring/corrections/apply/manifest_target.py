"""A manifest to which a patch is applied: the cells of its labels are rewritten, rows are left out, the rest stays.

The manifest is replaced whole: its old bytes are kept beside it, the journal names both, then the new file is renamed
into place, unless another program changed the old one in the meantime. A link stays; what it leads to is changed.

Inputs → outputs: labels and rows to leave out → the new manifest, the old one beside it, the journal. Cost: one
read and one write of the file. Known limits: CSV cells are quoted only where they need it.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path, remove_abandoned_of
from scoring.corrections.apply.audit_table import AuditTable, KnownRow
from scoring.corrections.apply.target import Target
from scoring.corrections.apply.written_labels import WrittenLabels
from scoring.data.adapters.base import Listing
from scoring.data.adapters.columns import FLAGS, settled_column
from scoring.data.adapters.manifest import Manifest
from scoring.data.adapters.text_tables import read_text_table
from scoring.data.moved_files import excluded as excluded_examples
from scoring.data.moved_files import manifest_journal

Cells = dict[str, dict[int, Any]]
"""Column → row → the value that it gets."""


class ManifestTarget(Target):
    """A CSV, TSV or Parquet manifest."""

    source: Manifest

    def __init__(self, path: Path, source: Manifest, table: AuditTable | None = None):
        super().__init__(Path(os.path.realpath(path)), source, table)

    @property
    def journal(self) -> Path:
        """Beside the manifest."""
        return manifest_journal(self.path)

    @cached_property
    def left_out(self) -> set[str]:
        """As the journal has them."""
        return excluded_examples(self._entries(), self._alike.__getitem__)

    @cached_property
    def known(self) -> Sequence[KnownRow]:
        """Without those that the journal has as excluded."""
        return [row for row in self.table.rows if row.example_id not in self.left_out]

    @cached_property
    def _alike(self) -> Counter[str]:
        """How many rows are like each other: the user's own id, the path, the content."""
        return Counter(self._like(row) for row in range(len(self.listing)))

    def _like(self, row: int) -> str:
        if self.listing.ids is not None:
            return self.source.id_prefix + self.listing.ids[row]
        if self.listing.names is not None:
            return self.listing.names[row]
        return self.fingerprint(row) or ""

    @cached_property
    def listing(self) -> Listing:
        """The adapter's listing, of the file as its digest has it."""
        self._read = file_digest(self.path)
        return self.source.listing()

    def change(self, labels: Mapping[int, str], excluded: Mapping[int, str]) -> tuple[dict[int, str], dict[int, str]]:
        """Rewrite the manifest, its other cells as they are."""
        before, refused, cells = self._before(), dict[int, str](), Cells()
        if labels and not self.source.class_columns:
            self._written.need_classes(self.path)
        for row, label in labels.items():
            try:
                for column, value in self._cells(row, label).items():
                    if self._table[column][row].as_py() != value:  # of a pool, nobody knows the label before
                        cells.setdefault(column, {})[row] = value
            except HardlookError as error:
                refused[row] = str(error)
        if not cells and not excluded:
            return refused, {}
        for path in (self.path, self.journal):
            remove_abandoned_of(path)
        old, mode = self.path.with_name(f".{self.path.name}.{before[:12]}.before"), self.path.stat().st_mode
        with atomic_path(old) as temporary:
            shutil.copyfile(self.path, temporary)
        with atomic_path(self.path) as temporary:
            self._write(temporary, cells, set(excluded))
            earlier = self._entries()
            while earlier and earlier[-1].get("before") == before:  # written down, but killed before it happened
                earlier.pop()
            entry = {"before": before, "after": file_digest(temporary), "kept": old.name}
            self._keep([*earlier, {**entry, **self._gone(excluded)}])
            if file_digest(self.path) != before or file_digest(old) != before:
                self._keep(earlier)
                old.unlink()
                raise _changed_meanwhile(self.path)
        os.chmod(self.path, mode)
        return refused, {}

    def _gone(self, excluded: Mapping[int, str]) -> dict[str, Any]:
        """What the journal says of excluded rows: their names; of their examples what they are like, and how many such
        rows are left."""
        if not excluded:
            return {"excluded": []}
        left = self._alike - Counter(self._like(row) for row in excluded)
        examples = {example: [self._like(row), left[self._like(row)]] for row, example in excluded.items()}
        return {"excluded": [self.names[row] for row in excluded], "examples": examples}

    def _before(self) -> str:
        """The digest of the file as it was listed."""
        return self._read if len(self.listing) else file_digest(self.path)

    def restore(self) -> list[str]:
        """Put the manifest back as it was, unless it was edited since."""
        rest, last = self._last()
        old, now, mode = self.path.with_name(last["kept"]), file_digest(self.path), self.path.stat().st_mode
        if now not in (last["before"], last["after"]):
            raise HardlookError(
                f"{self.path} was changed after the patch was applied, and undo would lose that change; the content "
                f"from before the patch is in {old}"
            )
        if now != last["before"]:
            if not old.is_file() or file_digest(old) != last["before"]:
                raise HardlookError(
                    f"{old} no longer holds the content from before the patch; bring that file back, then undo again"
                )
            with atomic_path(self.path) as temporary:
                shutil.copyfile(old, temporary)
                if file_digest(self.path) != now:
                    raise _changed_meanwhile(self.path)
            os.chmod(self.path, mode)
        self._keep(rest)
        if old.name not in {entry["kept"] for entry in rest}:
            old.unlink(missing_ok=True)
        return []

    # ---- cells

    def _cells(self, row: int, label: str) -> dict[str, Any]:
        """Column → value that make a row's label this class."""
        if columns := self.source.class_columns:
            return self._flags(columns, label)
        return {self._label_column: self._written.value(label)}

    @property
    def _label_column(self) -> str:
        """The column that is rewritten."""
        name = self.source.column_of("label_column")
        if name is None:
            raise HardlookError(f"{self.path} has no column with a known name for labels; name it with --label-column")
        return name

    @cached_property
    def _written(self) -> WrittenLabels:
        column = self._table[self._label_column]
        return WrittenLabels(self.source, column.to_pylist(), column.type)

    def _flags(self, columns: Sequence[str], label: str) -> dict[str, Any]:
        """1 in the column of a class and 0 in the others, as these columns write them."""
        renamed = self.source.label_map or {}
        ones = [column for column in columns if renamed.get(column, column) == label]
        if not ones:
            raise HardlookError(f"{self.path} has no column for the class {label!r}; add one")
        held = [value for column in columns for value in self._table[column].unique().to_pylist()]
        ways = {FLAGS[str(value).strip().lower()]: value for value in held}
        return {column: ways[column == ones[0]] for column in columns}

    @cached_property
    def _table(self) -> pa.Table:
        """The cells as they are stored: all of a CSV as text, of a Parquet each column as it is."""
        if self.path.suffix.lower() == ".parquet":
            return pq.ParquetFile(self.path).read()
        return read_text_table(self.path, self.source.delimiter, self.source.encoding, self.source.columns)

    # ---- writing

    def _write(self, out: Path, cells: Cells, excluded: set[int]) -> None:
        if self._table.num_rows != len(self.listing):
            raise _changed_meanwhile(self.path)
        if self.path.suffix.lower() == ".parquet":
            self._write_parquet(out, cells, excluded)
        else:
            self._write_text(out, cells, excluded)

    def _write_text(self, out: Path, cells: Cells, excluded: set[int]) -> None:
        delimiter = self.source.delimiter or ("\t" if self.path.suffix.lower() == ".tsv" else ",")
        with open(self.path, "rb") as file:
            head = file.read(65536)
        marked = head.startswith(b"\xef\xbb\xbf")
        encoding = "utf-8-sig" if marked and self.source.encoding == "utf-8" else self.source.encoding
        with open(self.path, newline="", encoding=encoding) as file:
            header = None if self.source.columns else next(csv.reader(file, delimiter=delimiter))
        end = "\r\n" if "\r\n" in head.decode(encoding, "ignore") else "\n"
        columns = {name: self._table[name].to_pylist() for name in self._table.column_names}
        for name, values in cells.items():
            for row, value in values.items():
                columns[name][row] = value
        with open(out, "w", newline="", encoding=encoding) as to:
            writer = csv.writer(to, delimiter=delimiter, lineterminator=end)
            if header is not None:
                writer.writerow(header)
            writer.writerows(row for at, row in enumerate(zip(*columns.values(), strict=True)) if at not in excluded)

    def _write_parquet(self, out: Path, cells: Cells, excluded: set[int]) -> None:
        table = self._table
        for name, values in cells.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), _with(table[name], values))
        if excluded:
            table = _without(table, excluded)
        stored = pq.ParquetFile(self.path).metadata
        group = stored.row_group(0) if stored.num_row_groups else None
        packed = group.column(0).compression if group is not None and group.num_columns else "SNAPPY"
        pq.write_table(
            table,
            out,
            compression="NONE" if packed == "UNCOMPRESSED" else packed,
            row_group_size=max(group.num_rows, 1) if group is not None else None,
        )


def _without(table: pa.Table, excluded: set[int]) -> pa.Table:
    """A table without some rows, cut where they were: Arrow filters no views of texts, as Polars writes them."""
    ends = [-1, *sorted(excluded), table.num_rows]
    parts = [table.slice(last + 1, end - last - 1) for last, end in itertools.pairwise(ends) if end > last + 1]
    return pa.concat_tables(parts) if parts else table.slice(0, 0)


def _with(column: pa.ChunkedArray, values: Mapping[int, Any]) -> pa.ChunkedArray:
    """A column with other values in some rows, of the same type; a category that is new is added behind the others."""
    cells = settled_column(column).to_pylist()
    for row, value in values.items():
        cells[row] = value
    if not pa.types.is_dictionary(column.type):
        return pa.chunked_array([pa.array(cells, column.type)], column.type)
    kind = column.type
    known = column.unify_dictionaries().chunk(0).dictionary.to_pylist() if column.num_chunks else []
    names = list(dict.fromkeys([*known, *(value for value in values.values() if value is not None)]))
    place = {name: number for number, name in enumerate(names)}
    indices = pa.array([None if cell is None else place[cell] for cell in cells], kind.index_type)
    made = pa.DictionaryArray.from_arrays(indices, pa.array(names, kind.value_type), ordered=kind.ordered)
    return pa.chunked_array([made], kind)


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _changed_meanwhile(path: Path) -> HardlookError:
    return HardlookError(
        f"{path} was changed by another program while the patch was being applied, and is left as that program wrote "
        "it; run this command again"
    )
