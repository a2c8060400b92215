"""Columns of Arrow tables in the few types that hardlook works with: text, bytes, numbers, lists and structures.

Arrow has several layouts of the same thing (``large_string``, ``string_view``, dictionaries of strings, …); ``settled``
makes one of them. ``typed`` turns text into numbers where all of it is numbers; ``flags`` reads columns of 0 and 1, as
tables have them that hold one column per class.

Inputs → outputs: Arrow columns → Arrow columns or lists. Cost: a cast. Known limits: columns of an extension type are
taken for their storage.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, whatever the layout: of a dictionary's values, of an extension's storage.

    >>> value_type(pa.dictionary(pa.int8(), pa.large_string())), value_type(pa.binary_view())
    (DataType(string), DataType(binary))
    """
    if pa.types.is_dictionary(kind):
        return value_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return value_type(kind.storage_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if is_bytes(kind) else kind


def is_bytes(kind: pa.DataType) -> bool:
    """Returns whether values of this type are bytes, in any of Arrow's layouts."""
    return (
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def is_plain(kind: pa.DataType) -> bool:
    """Returns whether a page can show and filter values of this type."""
    return not (pa.types.is_nested(kind) or is_bytes(kind))


def is_number(column: pa.Array) -> bool:
    """Returns whether a column holds numbers; booleans are none."""
    return pa.types.is_integer(column.type) or pa.types.is_floating(column.type)


def settled(table: pa.Table) -> pa.Table:
    """The same table with each column in its ``value_type``."""
    return pa.table(
        [settled_column(column) for column in table.columns],
        pa.schema([field.with_type(value_type(field.type)) for field in table.schema]),
    )


def settled_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The same column in its ``value_type``, chunk by chunk, so that each has its own 2 GB of text."""
    kind = value_type(column.type)
    chunks = [chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk for chunk in column.chunks]
    return pa.chunked_array([chunk if chunk.type == kind else chunk.cast(kind) for chunk in chunks], kind)


def typed(column: pa.ChunkedArray) -> pa.Array:
    """A column of text as numbers where every filled cell is one (leading zeros, as in "007", are text)."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    cells = column.to_pandas()
    filled = cells[cells.fillna("") != ""]
    if not len(filled) or filled.str.match(r"^[+-]?0\d").any():
        return column.cast(pa.string())
    numbers = pd.to_numeric(filled, errors="coerce")
    if numbers.isna().any() or not np.isfinite(numbers.astype(float)).all():
        return column.cast(pa.string())
    whole = pd.api.types.is_integer_dtype(numbers)
    return pa.array(numbers.astype("Int64" if whole else "Float64").reindex(cells.index))


def flags(column: pa.ChunkedArray) -> np.ndarray | None:
    """(n,) bool of a column that holds nothing but 0 and 1, in whatever type; None for any other.

    >>> flags(pa.chunked_array([["0", " 1", "1"]])).tolist(), flags(pa.chunked_array([[0, 2]]))
    ([False, True, True], None)
    """
    distinct = {value: FLAGS.get(str(value).strip().lower()) for value in column.unique().to_pylist()}
    if not distinct or None in distinct.values():
        return None
    return np.array([distinct[value] for value in column.to_pylist()], dtype=bool)
