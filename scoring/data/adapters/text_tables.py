"""CSV and TSV files as Arrow tables of text cells.

Cells are never guessed at: "NA", "007" and "1e3" stay what they are. Inputs → outputs: a path → a table. Cost: one read
of the file. Known limits: one header line; local files.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from scoring.audit.errors import HardlookError


def read_text_table(
    path: Path, delimiter: str | None = None, encoding: str = "utf-8", columns: list[str] | None = None
) -> pa.Table:
    """A CSV or TSV as a table of text cells; ``columns`` names them where there is no header.

    A row with too few or too many cells is an error that names it. A byte order mark is dropped.
    """
    delimiter = delimiter or ("\t" if path.suffix.lower() == ".tsv" else ",")
    try:
        with open(path, newline="", encoding="utf-8-sig" if encoding == "utf-8" else encoding) as file:
            names = [name.strip() for name in columns or next(csv.reader(file, delimiter=delimiter), [])]
        if not names or len(set(names)) < len(names):
            raise HardlookError(f"{path} has no header of unique names; found {names}")
        return pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(
                encoding=encoding, column_names=names, skip_rows_after_names=0 if columns else 1
            ),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError, LookupError, csv.Error) as error:
        raise HardlookError(
            f'{path} cannot be read as a table: {error}; it may need delimiter = ";", encoding = "latin-1", or '
            "columns if it has no header"
        ) from error
