"""Pictures by example_id: parts of Arrow files, each sorted by id, read by position.

A part is written once and never changed; a later part wins over an earlier one, so images that changed are added, not
rewritten. Inputs → outputs: (example_id, bytes) pairs → files; an example_id → its bytes. Cost of a look-up: a binary
search per part and one verified read of the picture's own bytes.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import pyarrow as pa
import pyarrow.ipc as ipc

from scoring.audit.arrow_rows import ArrowRows
from scoring.audit.atomic import atomic_path
from scoring.audit.readable import readable
from scoring.audit.sealed import SealedFile, damaged, seal

SETTLED = 2_000_000_000
"""Nanoseconds: a folder that changed less long ago may have changed again within the clock's grain."""


class BlobStore:
    """Bytes by example_id in a folder of Arrow files, each sorted by id; a later part wins over an earlier one."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._parts: list[_Part] = []
        self._names: list[str] = []
        self._seen = 0

    def write_part(self, items: Iterable[tuple[str, bytes]]) -> None:
        """Write one part from (example_id, bytes) pairs; sorts them. Empty input writes nothing."""
        items = sorted(items)
        if not items:
            return
        taken = [int(path.stem.split("-")[1]) for path in self.folder.glob("part-*.arrow")]
        path = self.folder / f"part-{max(taken, default=-1) + 1:05d}.arrow"
        ids, blobs = zip(*items, strict=True)
        table = pa.table({"example_id": pa.array(ids, pa.string()), "data": pa.array(blobs, pa.large_binary())})
        write_arrow(path, table)

    def _refresh(self) -> None:
        names = sorted(path.name for path in self.folder.glob("part-*.arrow"))
        if names == self._names:
            return
        self._parts = [_Part(self.folder / name) for name in names]
        self._names = names

    def get(self, example_id: str) -> bytes | None:
        """The bytes of one example, or None. Parts that another process has added since are included. Raises
        ``HardlookError`` where they are damaged."""
        modified = self.folder.stat().st_mtime_ns if self.folder.is_dir() else 0
        if modified != self._seen or time.time_ns() - modified < SETTLED:
            self._refresh()
            self._seen = modified
        for part in reversed(self._parts):
            found = part.get(example_id)
            if found is not None:
                return found
        return None

    def ids(self) -> set[str]:
        """Every example_id that has bytes here."""
        self._refresh()
        return {value for part in self._parts for value in part.ids}

    def clear(self) -> None:
        """Remove every part."""
        self._parts, self._names = [], []
        for path in self.folder.glob("part-*.arrow"):
            path.unlink()


class _Part:
    """One file of a store: its ids in memory, its bytes on the disk."""

    def __init__(self, path: Path) -> None:
        try:
            with readable(path):
                rows = ArrowRows(path)
                self.file: SealedFile = rows.file
                self.ids = _Strings(rows.column("example_id"))
                self.starts, self.stops = rows.blobs("data")
        except FileNotFoundError as error:  # listed a moment ago: being written anew, or a link to nothing
            raise damaged(path, "it is listed in its folder, but not there") from error

    def get(self, example_id: str) -> bytes | None:
        """The bytes of one example, verified, or None."""
        at = bisect_left(self.ids, example_id)
        if at == len(self.ids) or self.ids[at] != example_id:
            return None
        start = int(self.starts[at])
        return self.file.read_at(start, int(self.stops[at]) - start)


class _Strings(Sequence[str]):
    """An Arrow string column as a sequence of Python strings, one at a time, for ``bisect``."""

    def __init__(self, column: pa.Array) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        return self.column[at].to_pylist() if isinstance(at, slice) else self.column[at].as_py()


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write a table as an Arrow IPC file with its checksums, atomically."""
    with atomic_path(path) as temporary:
        with ipc.new_file(str(temporary), table.schema) as writer:
            writer.write_table(table)
        seal(temporary, b"ARROW1")
