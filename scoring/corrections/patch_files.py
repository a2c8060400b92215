"""Label patches as files, CSV or Parquet: ``write_patch`` and ``read_patch``, and the columns that they have.

CSV neutralises what a spreadsheet would run as a formula, by an apostrophe that reading takes away again, so the round
trip is exact. Inputs → outputs: a data frame with the columns of ``PATCH_SCHEMA`` → a file, and back. Cost: one write,
one read. Known limits: times are kept to the microsecond.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path, read_table, write_table
from scoring.data.adapters.columns import settled_column, value_type
from scoring.reviews.event_store import TEXT

TIME = pa.timestamp("us", "UTC")
PATCH_SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("fingerprint", pa.string()),
        ("split", pa.string()),
        ("old_label", pa.string()),
        ("new_label", pa.string()),
        ("verdict", pa.string()),
        ("disposition", pa.string()),
        ("reviewer", pa.string()),
        ("time", TIME),
        ("status", pa.string()),  # agreed, disputed or adjudicated
        ("reason", pa.string()),  # why the disposition is not the verdict's
        ("labels", pa.list_(pa.string())),
        ("issues", pa.list_(pa.string())),
        ("note", pa.string()),
    ]
)


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The patch's columns in their types, whatever the rows, even none."""
    types = {field.name: TEXT for field in PATCH_SCHEMA if pa.types.is_string(field.type)}
    typed = frame.astype({**types, "time": "datetime64[us, UTC]"})
    for name in ("labels", "issues"):
        typed[name] = pd.Series([tuple(names) for names in frame[name]], dtype=object, index=frame.index)
    return typed[PATCH_SCHEMA.names]


def write_patch(path: Path, patch: pd.DataFrame) -> None:
    """Write a patch as CSV or Parquet, by the ending of ``path``, atomically."""
    path = Path(path)
    table = pa.Table.from_pandas(patch, schema=PATCH_SCHEMA, preserve_index=False).replace_schema_metadata(None)
    if path.suffix == ".parquet":
        write_table(path, table, {"hardlook": {"kind": "label patch", "format": 1}})
        return
    for name in ("labels", "issues"):
        texts = pa.array([json.dumps(names, ensure_ascii=False) for names in table[name].to_pylist()], pa.string())
        table = table.set_column(table.schema.get_field_index(name), name, texts)
    times = pa.array([time.isoformat(timespec="microseconds") for time in patch["time"]], pa.string())
    table = table.set_column(table.schema.get_field_index("time"), "time", times)
    table = pa.table({name: neutralise(table[name]) for name in table.column_names})
    options = pyarrow.csv.WriteOptions(quoting_style="all_valid")  # null stays apart from the empty text
    with atomic_path(path) as temporary:
        pyarrow.csv.write_csv(table, temporary, options)


def read_patch(path: Path) -> pd.DataFrame:
    """Read what ``write_patch`` wrote, exactly; a CSV may have gone through a spreadsheet in between.

    Raises ``HardlookError`` of one sentence where it is no patch, or a cell is not what its column holds.
    """
    path = Path(path)
    table = read_table(path) if path.suffix == ".parquet" else _read_csv(path)
    missing = [name for name in PATCH_SCHEMA.names if name not in table.column_names]
    if missing:
        raise HardlookError(
            f"{path} is not a label patch: it has no column {', '.join(missing)}; write it with `hardlook export`"
        )
    read = pa.table([_column(path, table[field.name], field) for field in PATCH_SCHEMA], schema=PATCH_SCHEMA)
    return typed(read.to_pandas())


def _column(path: Path, column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    """A column in the type that a patch has; lists that are missing are empty."""
    if pa.types.is_list(field.type):
        cells = [_names(path, row, field.name, cell) for row, cell in enumerate(column.to_pylist())]
        return pa.chunked_array([pa.array(cells, field.type)])
    if pa.types.is_timestamp(field.type) and pa.types.is_string(value_type(column.type)):
        times = [_time(path, row, cell) for row, cell in enumerate(column.to_pylist())]
        return pa.chunked_array([pa.array(times, field.type)])
    kinds = {value_type(column.type), pa.null(), field.type}
    if len(kinds) > 2 and not (pa.types.is_timestamp(field.type) and pa.types.is_timestamp(column.type)):
        raise HardlookError(
            f"{path}: column {field.name!r} is of type {column.type}; needed {field.type}; write it again with "
            "`hardlook export`"
        )
    return settled_column(column).cast(field.type, safe=False)


def _names(path: Path, row: int, name: str, cell: object) -> list[str]:
    """The names in a cell of a list: a list, or its JSON."""
    needed, found = 'a list of names such as ["cat", "dog"]', cell
    if cell is None or isinstance(cell, str):
        try:
            found = json.loads(cell or "[]")
        except (ValueError, RecursionError) as error:
            raise _wrong(path, row, name, cell, needed) from error
    names = [each for each in found if isinstance(each, str)] if isinstance(found, list) else None
    if names is None or names != found:
        raise _wrong(path, row, name, cell, needed)
    return names


def _time(path: Path, row: int, cell: str | None) -> pd.Timestamp | None:
    """The moment that a cell names, in UTC; none where it is empty."""
    try:
        return None if cell is None else pd.to_datetime(cell, format="ISO8601", utc=True)
    except (ValueError, OverflowError) as error:
        raise _wrong(path, row, "time", cell, "a time such as 2025-12-31T09:00:00+00:00") from error


def _wrong(path: Path, row: int, name: str, cell: object, needed: str) -> HardlookError:
    return HardlookError(
        f"{path}: {name} of row {row + 1} is {cell!r:.80}; needed {needed}; write the patch again with `hardlook "
        "export`"
    )


def _read_csv(path: Path) -> pa.Table:
    size = path.stat().st_size
    if not size:
        raise HardlookError(f"{path} is empty; write it again with `hardlook export`")
    try:
        table = pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=min(size + 1, 2**31 - 1)),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={name: pa.string() for name in PATCH_SCHEMA.names},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise HardlookError(f"{path} cannot be read as CSV ({error}); write it again with `hardlook export`") from error
    return pa.table({name: restore(table[name]) for name in table.column_names if name in PATCH_SCHEMA.names})


def neutralise(texts: pa.ChunkedArray | pa.Array) -> Any:
    """Put an apostrophe before each text that a spreadsheet may run as a formula or that begins with one.

    >>> neutralise(pa.array(["=1+1", "'tis", "cat", None])).to_pylist()
    ["'=1+1", "''tis", 'cat', None]
    """
    risky = pc.match_substring_regex(texts, r"^(?:[\t\r\n']|[\s\x00-\x1f]*[=+\-@＝＋－＠])")
    return pc.if_else(risky, pc.binary_join_element_wise("'", texts, ""), texts)


def restore(texts: pa.ChunkedArray | pa.Array) -> Any:
    """Take away the apostrophe that ``neutralise`` put.

    >>> restore(pa.array(["'=1+1", "''tis", "cat", None])).to_pylist()
    ['=1+1', "'tis", 'cat', None]
    """
    return pc.if_else(pc.starts_with(texts, "'"), pc.utf8_slice_codeunits(texts, 1), texts)
