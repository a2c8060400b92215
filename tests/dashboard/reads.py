"""How many files a piece of code opens and how many of their rows it may read: a number that no busy machine
changes."""

import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dashboard.queries import database


class Reads:
    """Openings and rows by file name, of Parquet files through DuckDB and pyarrow, and of mapped Arrow files.

    Rows are all that the opened file has: what a scan by id costs, whatever it returns. A schema alone counts no row.
    """

    def __init__(self, monkeypatch):
        self.opened, self.rows = Counter(), 0
        sql, read, schema, mapped = database.sql, pq.read_table, pq.read_schema, pa.memory_map
        monkeypatch.setattr(database, "sql", lambda query, given=(): self._queried(query) or sql(query, given))
        monkeypatch.setattr(pq, "read_table", lambda path, *a, **k: self._opened(path) or read(path, *a, **k))
        monkeypatch.setattr(pq, "read_schema", lambda path, *a, **k: self._opened(path, 0) or schema(path, *a, **k))
        monkeypatch.setattr(pa, "memory_map", lambda path, *a, **k: self._opened(path, 0) or mapped(path, *a, **k))

    @property
    def files(self) -> int:
        """All openings."""
        return self.opened.total()

    def clear(self) -> None:
        """Begin anew."""
        self.opened.clear()
        self.rows = 0

    def _queried(self, query: str) -> None:
        for literal in re.findall(r"read_parquet\('((?:[^']|'')*)'\)", query):
            self._opened(re.sub(r"\[([\[*?])\]", r"\1", literal.replace("''", "'")))

    def _opened(self, path, rows: int | None = None) -> None:
        path = Path(str(path))
        self.opened[path.name] += 1
        if rows is None and path.suffix == ".parquet":
            self.rows += pq.ParquetFile(path).metadata.num_rows
