"""Tables and arrays: which columns of a CSV or Parquet file, or arrays of an ``.npz``, are ids, labels, splits, inputs.

A column is taken where its name and its values say what it is, and written with that reason. Where several could be
the label, the command refuses with the choices: a label column that was guessed would spoil every score.

Inputs → outputs: a file → `FoundTable`. Cost: one read of the table without its bytes. Known limits: a column of texts
of an unusual name is told by its length.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.audit.errors import HardlookError
from scoring.data.adapters import hub
from scoring.data.adapters.columns import is_bytes, is_number, typed, value_type
from scoring.data.adapters.manifest import USUAL, Manifest
from scoring.data.adapters.npz import Npz
from scoring.data.adapters.text_tables import read_text_table
from scoring.setup.findings import Line, Value
from scoring.setup.places import SPLIT_WORDS, split_of

TABLE_ENDINGS, ARRAY_ENDINGS = Manifest.endings, Npz.endings
IDS = ("example_id", "id", "uid", "uuid", "key", "image_id", "text_id", "row_id", "index")
LABELS = (*USUAL["label_column"], "labels")
OTHER_LABELS = ("targets", "y", "class_name", "label_name", "category_name", "species")
"""Names of labels that inputs and metadata have too: they count where no other column is called like a label."""

SPLIT_COLUMNS = ("split", "subset", "partition", "set", "fold")
LONG = 30
"""Characters: texts to classify are longer on average than names."""


@dataclass(frozen=True)
class FoundTable:
    """One ``[[data]]`` table, with its kind of examples and what to say about it."""

    media: str
    lines: tuple[Line, ...]
    said: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


# -- tables --------------------------------------------------------------------------------------------------


def table_lines(place: Path, split: str, path: str, media: str | None, may_hold_splits: bool) -> FoundTable:
    """The ``[[data]]`` table of a CSV, TSV or Parquet file.

    ``may_hold_splits``: whether a column may say of each row which split it is of. Raises ``HardlookError`` where
    several columns could be the label, or none holds the inputs.
    """
    table, features = _read(place)
    kind = media or _media(table, features)
    lines: list[Line] = []
    column = _split_column(table) if may_hold_splits else None
    lines += [Line("path", path)] if column else [Line("split", split), Line("path", path)]
    if column:
        lines += _split_lines(table, column)
    own = next((name for name in IDS if name in table.column_names and _is_unique(table[name])), None)
    if own and own not in USUAL["id_column"]:
        lines.append(Line("id_column", own, "its values are all different"))
    lines += _input_lines(table, features, kind, place)
    if split != "pool":
        taken = {str(line.value) for line in lines} | {own or ""}
        lines += _label_lines(table, features, place, taken, kind)
    said = f"{place}: {table.num_rows:,} rows with the columns {', '.join(table.column_names[:8])}"
    said += ", …" if len(table.column_names) > 8 else ""
    return FoundTable(kind, tuple(lines), (said,))


def _read(place: Path) -> tuple[pa.Table, dict[str, object]]:
    """The table without columns of bytes (which stand as nulls), and Hugging Face's features."""
    if place.suffix.lower() != ".parquet":
        return read_text_table(place), {}
    try:
        file = pq.ParquetFile(place, memory_map=True)
        schema = file.schema_arrow
        plain = [field.name for field in schema if not _holds_bytes(field.type)]
        table = file.read(plain)
    except (pa.ArrowInvalid, OSError) as error:
        raise HardlookError(f"{place} is not a Parquet file ({error}); save it again") from error
    for field in schema:
        if field.name not in plain:
            table = table.append_column(field.name, pa.nulls(table.num_rows, pa.binary()))
    return table, dict(hub.features(schema))


def _holds_bytes(kind: pa.DataType) -> bool:
    inner = value_type(kind)
    return is_bytes(inner) or (
        pa.types.is_struct(inner) and any(is_bytes(inner.field(at).type) for at in range(inner.num_fields))
    )


def _media(table: pa.Table, features: dict[str, object]) -> str:
    """image where a column holds images or paths, text where one holds texts, else rows of numbers."""
    if any(hub.is_kind(feature, "Image") for feature in features.values()):
        return "image"
    names = table.column_names
    if any(pa.types.is_binary(table.schema.field(name).type) for name in names):
        return "image"
    if any(name in names and _is_text(table[name]) for name in USUAL["text_column"]):
        return "text"
    if any(name in names and _is_text(table[name]) for name in USUAL["image_column"]) or _path_columns(table):
        return "image"
    return "text" if _text_columns(table) else "vector"


def _input_lines(table: pa.Table, features: dict[str, object], media: str, place: Path) -> list[Line]:
    """The column of texts or of images, where no usual name tells it."""
    names = table.column_names
    if media == "vector":
        return []
    what = "text_column" if media == "text" else "image_column"
    if any(hub.is_kind(feature, "Image") for feature in features.values()) and media == "image":
        return []
    usual = [name for name in USUAL[what] if name in names]
    found = usual or (
        _text_columns(table)
        if media == "text"
        else [name for name in names if pa.types.is_binary(table.schema.field(name).type)] or _path_columns(table)
    )
    if len(found) == 1 or (usual and media == "image"):
        return [Line(what, found[0], "" if usual else "the only such column")]
    raise HardlookError(
        f"{place}: {len(found)} columns may hold the {media}s ({', '.join(found) or 'none of ' + ', '.join(names)}); "
        f"rename the one to audit to {USUAL[what][0]!r}"
    )


def _text_columns(table: pa.Table) -> list[str]:
    """Columns of texts that are long or have spaces, and mostly differ."""
    found = []
    for name in table.column_names:
        cells = _cells(table[name])
        if cells and sum(map(len, cells)) / len(cells) > LONG and len(set(cells)) > len(cells) / 2:
            found.append(name)
    return found


def _path_columns(table: pa.Table) -> list[str]:
    """Columns whose cells end like names of image files."""
    pattern = re.compile(r".\.(png|jpe?g|bmp|gif|tiff?|webp|ppm|pgm|npy)$", re.IGNORECASE)
    return [
        name
        for name in table.column_names
        if (cells := _cells(table[name])) and all(pattern.search(cell) for cell in cells[:200])
    ]


def _cells(column: pa.ChunkedArray) -> list[str]:
    """The first filled cells of a column of text; none of any other."""
    if value_type(column.type) != pa.string():
        return []
    return [cell for cell in column.slice(0, 1000).to_pylist() if cell]


def _is_text(column: pa.ChunkedArray) -> bool:
    return bool(_cells(column))


def _is_unique(column: pa.ChunkedArray) -> bool:
    """Returns whether no two cells are equal, and none is empty."""
    cells = column.to_pylist()
    return all(cell not in (None, "") for cell in cells) and len(set(cells)) == len(cells)


# -- columns of splits and labels ----------------------------------------------------------------------------


def _split_column(table: pa.Table) -> str | None:
    """A column of a usual name whose every cell is the name of a split."""
    for name in SPLIT_COLUMNS:
        if name in table.column_names:
            cells = {str(cell).strip().casefold() for cell in table[name].unique().to_pylist()}
            if cells and cells <= set(SPLIT_WORDS):
                return name
    return None


def _split_lines(table: pa.Table, column: str) -> list[Line]:
    """``split_column``, and ``split_map`` for names that the adapter does not know."""
    cells = sorted({str(cell).strip() for cell in table[column].unique().to_pylist()})
    mapped: dict[str, Value] = {
        cell: SPLIT_WORDS[cell.casefold()]
        for cell in cells
        if cell.casefold() not in ("train", "test", "pool", "training", "testing")
    }
    lines = [Line("split_column", column, f"its values are {', '.join(cells)}")]
    return [*lines, Line("split_map", mapped, "held out, so a test split")] if mapped else lines


def _label_lines(table: pa.Table, features: dict[str, object], place: Path, taken: set[str], media: str) -> list[Line]:
    """The column of labels; raises ``HardlookError`` where several could be it."""
    typed_ones = [name for name, feature in features.items() if hub.is_kind(feature, "ClassLabel")]
    named = [name for name in table.column_names if name.casefold() in LABELS and name not in taken]
    few = [name for name in table.column_names if name not in taken and _has_few_values(table[name], media)]
    less = [name for name in few if name.casefold() in OTHER_LABELS]
    less += [name for name in table.column_names if name.casefold() == "y" and _has_few_values(table[name], "image")]
    named = named or list(dict.fromkeys(less))
    found = typed_ones or named or few
    if len(found) == 1:
        why = "its type is ClassLabel" if typed_ones else "" if named else "the only column with few distinct values"
        return [Line("label_column", found[0], why)]
    if not found:
        if _one_hot(table, taken):
            return []  # one column of 0 and 1 per class, which the adapter reads as it is
        raise HardlookError(
            f"{place}: none of the columns {', '.join(table.column_names[:12])} is known as the label; rename it to "
            "'label', or name the file with --pool if it has none"
        )
    choices = ", ".join(f"{name} ({', '.join(_some(table[name]))})" for name in found[:6])
    raise HardlookError(
        f"{place}: {len(found)} columns could be the label: {choices}; rename the one to audit to 'label', and the "
        "others to names of their own"
    )


def _one_hot(table: pa.Table, taken: set[str]) -> bool:
    """Returns whether there are columns of 0 and 1 of which exactly one is 1 in each row."""
    columns = [typed(table[name]) for name in table.column_names if name not in taken]
    flags = [column for column in columns if is_number(column) and set(column.unique().to_pylist()) <= {0, 1}]
    return len(flags) > 1 and bool((np.stack([np.asarray(column) for column in flags]).sum(0) == 1).all())


def _some(column: pa.ChunkedArray) -> list[str]:
    """The first distinct cells, for a sentence."""
    values = [str(cell) for cell in column.unique().to_pylist()[:4]]
    return [value[:20] for value in values[:3]] + (["…"] if len(values) > 3 else [])


def _has_few_values(column: pa.ChunkedArray, media: str) -> bool:
    """Returns whether a column of names, or of whole numbers beside no vector, has few values that each occur often."""
    if not (pa.types.is_string(column.type) or pa.types.is_integer(column.type) or pa.types.is_dictionary(column.type)):
        return False
    values = [cell for cell in column.to_pylist() if cell not in (None, "")]
    numbers = media == "vector" and is_number(typed(column))
    distinct = len(set(values))
    return not numbers and 1 < distinct <= max(2, min(len(values) // 4, 1000))


# -- arrays --------------------------------------------------------------------------------------------------


def array_tables(place: Path, split: str, path: str, may_hold_splits: bool) -> list[FoundTable]:
    """The tables of an ``.npz``: one per split that the names of its arrays speak of (``x_train``), else one.

    Raises ``HardlookError`` where no array, or several, could be the inputs.
    """
    try:
        with zipfile.ZipFile(place) as archive:
            shapes = {name.removesuffix(".npy"): _header(archive, name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise HardlookError(f"{place} is not an .npz file ({error}); save it again with numpy.savez") from error
    parts = {name: split_of(name) for name in shapes}
    if may_hold_splits and "train" in parts.values():
        splits = [each for each in ("train", "test", "pool") if each in parts.values()]
        groups = _held_out(parts, splits)
    else:
        groups = [(split, list(shapes))]
    said = f"{place}: the arrays {', '.join(f'{name} {shape}' for name, (shape, _) in list(shapes.items())[:8])}"
    found = [_array_table(place, each, path, {name: shapes[name] for name in names}) for each, names in groups]
    return [FoundTable(found[0].media, found[0].lines, (said,)), *found[1:]]


def _held_out(parts: dict[str, str | None], splits: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Split → its arrays; where validation and test arrays are both there, each is a table of its own."""
    groups: list[tuple[str, list[str]]] = []
    for split in splits:
        names = [name for name, part in parts.items() if part == split]
        words: dict[str, list[str]] = {}
        for name in names:
            word = next(each for each in re.split(r"[^a-z]+", name.casefold()) if each in SPLIT_WORDS)
            words.setdefault(word, []).append(name)
        groups += [(split, each) for each in words.values()]
    return groups


def _header(archive: zipfile.ZipFile, name: str) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Shape and type of one array, from its header."""
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = reader(file)
    return tuple(shape), dtype


def _array_table(
    place: Path, split: str, path: str, shapes: dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]
) -> FoundTable:
    """One table: the array of most numbers is the inputs, one of labels is named like one."""
    labels = [name for name in shapes if re.search(r"(^|_)(y|labels?|targets?|classes_of)(_|$)", name.casefold())]
    ids = [name for name in shapes if name.casefold() in ("id", "ids", "example_id", "example_ids")]
    others = [
        name
        for name, (shape, dtype) in shapes.items()
        if name not in labels + ids + ["classes", "columns"] and (len(shape) > 1 or dtype.kind in "US") and shape
    ]
    if len(others) != 1 or len(labels) > 1:
        raise HardlookError(
            f"{place}: {len(others)} arrays may be the inputs ({', '.join(others) or 'none'}) and {len(labels)} the "
            f"labels ({', '.join(labels) or 'none'}) of {split}; keep one of each, named x and y"
        )
    shape, dtype = shapes[others[0]]
    media = "text" if dtype.kind in "US" else "vector" if len(shape) == 2 else "image"
    lines = [Line("split", split), Line("path", path), Line("inputs", others[0], f"{shape} of {dtype}")]
    lines += [Line("labels", labels[0])] if labels and split != "pool" else []
    lines += [Line("ids", ids[0])] if ids else []
    if split != "pool" and not labels:
        lines[0] = Line("split", "pool", "no array of labels")
    return FoundTable(media, tuple(lines))
