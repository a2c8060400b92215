"""Builds the example table source by source, and converts it to Arrow.

``add_source`` appends what was read of one source to ``Rows``; ``example_table`` joins all of them: the fixed
columns, then the dataset's own as ``meta.<name>``, null where a source has none and text where two sources
differ in type.

Inputs → outputs: readings and listings → the content of ``examples.parquet``. Cost: memory for the table.
Limit: metadata that no page could show or filter (lists, structures, bytes) are left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters.base import Listing, Source
from scoring.data.adapters.columns import is_plain, value_type
from scoring.data.example_reader import Reading
from scoring.data.listed_sources import ListedSource, reference

FIXED = ("example_id", "split", "label", "fingerprint", "kind", "reference", "problem", "source", "row")
TYPES = {"source": pa.int32(), "row": pa.int64()}


@dataclass
class Rows:
    """The example table while it grows, column by column."""

    columns: dict[str, list[Any]] = field(default_factory=lambda: {name: [] for name in FIXED})
    metadata: list[dict[str, pa.Array]] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    vector_columns: list[str] | None = None
    units: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    turned: list[int] = field(default_factory=list)
    decoded: int = 0
    unreadable: int = 0
    moved: int = 0


def add_source(
    audit: Audit,
    listed: ListedSource,
    made: list[tuple[str, Reading]],
    rows: Rows,
) -> None:
    """Append one source's rows to the table."""
    n, source, listing = len(made), listed.source, listed.listing
    labels = listed.labels if listed.labels is not None else [reading.label for _, reading in made]
    problems = [
        reading.problem or (listing.unlabelled if label is None and split != "pool" else None)
        for (_, reading), label, split in zip(made, labels, listing.splits, strict=True)
    ]
    columns: dict[str, Iterable[Any]] = {
        "example_id": [own for own, _ in made],
        "split": listing.splits,
        "label": labels,
        "fingerprint": [reading.fingerprint for _, reading in made],
        "kind": [audit.media] * n,
        "reference": [reference(audit, listing.path(row)) for row in range(n)],
        "problem": problems,
        "source": [source.number] * n,
        "row": list(range(n)),
    }
    for name, values in columns.items():
        rows.columns[name].extend(values)
    metadata, left_out = {}, list(listing.left_out)
    for name, column in listing.metadata.items():
        kind = value_type(column.type)
        if is_plain(kind):
            metadata[name] = column.cast(kind) if column.type != kind else column
        else:
            left_out.append(name)
    rows.metadata.append(metadata)
    rows.notes += [f"data[{source.number}]: {note}" for note in listing.notes]
    if missing := _where_files_are_missing(source, listing, made):
        rows.missing.append(missing)
        rows.notes.append(missing)
    if huge := [own for own, reading in made if reading.huge]:
        rows.notes.append(
            f"data[{source.number}]: {len(huge)} images have more pixels than Pillow's safety limit, the first "
            f"{huge[0]!r}: make them smaller, or check that their size is intended"
        )
    if left_out:
        rows.notes.append(
            f"data[{source.number}]: columns of lists, structs or bytes are not kept as metadata: {', '.join(left_out)}"
        )
    rows.lengths.append(n)
    rows.turned += [source.number] if audit.media == "image" and source.turns else []
    rows.unreadable += sum(reading.problem is not None for _, reading in made)
    rows.skipped += [f"data[{source.number}]: {name}" for name in listing.skipped]
    _agree_on_columns(source, listing.columns, rows)
    rows.units |= listing.units


def _where_files_are_missing(source: Source, listing: Listing, made: list[tuple[str, Reading]]) -> str | None:
    """The full path of the first missing file of a source of which nothing can be read: a wrong folder, most often."""
    if not made or not all(reading.problem for _, reading in made):
        return None
    first = next((path for path in map(listing.path, range(len(made))) if path and not os.path.exists(path)), None)
    return first and f"data[{source.number}]: there is no file {first}{source.starting}"


def _agree_on_columns(source: Source, columns: list[str] | None, rows: Rows) -> None:
    if columns and rows.vector_columns and columns != rows.vector_columns:
        raise source.error(
            f" has the columns {columns[:5]}…, the table before {rows.vector_columns[:5]}…; all sources need the same "
            "columns in the same order"
        )
    rows.vector_columns = columns or rows.vector_columns


def example_table(audit: Audit, rows: Rows) -> tuple[pa.Table, dict[str, Any]]:
    """The example table and what its metadata says of all of it."""
    columns = {name: pa.array(values, TYPES.get(name, pa.string())) for name, values in rows.columns.items()}
    columns |= _metadata_columns(rows)
    facts: dict[str, Any] = {"media": audit.media}
    if rows.vector_columns:
        facts["columns"] = rows.vector_columns
    if rows.turned:
        facts["turned"] = (
            rows.turned
        )  # the sources whose pictures are turned by their EXIF orientation before the transform
    if rows.unreadable == sum(rows.lengths):
        raise HardlookError(
            f"none of the {rows.unreadable} examples can be read; the first, {rows.columns['example_id'][0]!r}: "
            f"{'; '.join([rows.columns['problem'][0], *rows.missing])}"
        )
    return pa.table(columns), facts


def _metadata_columns(rows: Rows) -> dict[str, pa.Array]:
    """The dataset's own columns as ``meta.<name>``: null where a source has none, text where types differ."""
    columns = [item for source in rows.metadata for item in source.items()]
    names = dict.fromkeys(name for name, column in columns if is_plain(column.type))
    found: dict[str, pa.Array] = {}
    for name in names:
        types = {source[name].type for source in rows.metadata if name in source}
        kind = types.pop() if len(types) == 1 else pa.string()
        parts = [
            source[name].cast(kind) if name in source else pa.nulls(length, kind)
            for source, length in zip(rows.metadata, rows.lengths, strict=True)
        ]
        found[f"meta.{name}"] = pa.chunked_array(parts, kind).combine_chunks()
    return found
