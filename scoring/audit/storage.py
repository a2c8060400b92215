"""Atomic reading and writing of Parquet tables, Arrow vectors and blobs, and JSON.

Every artefact of an audit is written to a temporary file in the same folder, flushed to the disk and renamed, so a
kill at any moment leaves the old file or the new one. Columns carry their own explanation (title, help, unit,
direction) as Arrow field metadata, from which the dashboard renders a score that it has never heard of.

Inputs are Arrow tables, numpy arrays and plain dicts; outputs are files and memory-mapped reads. Nothing here knows
the name of a file: that is ``scoring.audit``.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import shutil
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from scoring.audit.errors import HardlookError, first_line

SETTLED = 2_000_000_000
"""Nanoseconds: a folder that changed less long ago may have changed again within the clock's grain."""


ABANDONED = 3600
"""Seconds after which a temporary file belongs to no command that still runs."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that replaces it, flushed to the disk, when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files that a killed command left in a folder and those inside it, once they are an hour old.

    Only for whoever holds the folder's lock: nobody else is then writing there; the hour is for files that need none.
    """
    for path in Path(folder).rglob(".*.partial"):
        with contextlib.suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def remove_abandoned_of(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it, files or folders, once it is an hour old."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _umask() -> int:
    """The process's umask; temporary files are private, artefacts follow the user's own setting."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    """fsync a file, or a folder where the operating system allows it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf8")


def read_json(path: Path, default: Any = None) -> Any:
    """Read JSON; ``default`` where there is no such file."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return default
    try:
        return json.loads(content)
    except ValueError as error:
        raise HardlookError(f"{path} is not JSON ({error}); delete it and run the command again") from error


@contextlib.contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Turn what a damaged file makes its reader raise into one clear error; a missing file stays
    ``FileNotFoundError``."""
    try:
        yield
    except (FileNotFoundError, HardlookError):
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise HardlookError(
            f"{path} cannot be read ({first_line(error, 200)}); if it is damaged, delete it and run the command that "
            "writes it again (in most cases `hardlook score`)"
        ) from error


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a Parquet file atomically; ``metadata`` values are kept as JSON under their keys."""
    packed = {key: json.dumps(value, ensure_ascii=False) for key, value in (metadata or {}).items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **packed})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or only some of its columns. A broken file is one clear error."""
    with readable(path):
        return pq.read_table(path, columns=None if columns is None else list(columns), memory_map=True)


def read_schema(path: Path | str) -> pa.Schema:
    """The columns of a Parquet file with what they say of themselves. A broken file is one clear error."""
    with readable(path):
        return pq.read_schema(path)


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The JSON values that ``write_table`` kept in the file's metadata."""
    with readable(path):
        raw = pq.read_schema(path).metadata or {}
        return {
            key.decode(): json.loads(value)
            for key, value in raw.items()
            if key not in (b"pandas", b"ARROW:schema", b"huggingface")
        }


def describe_column(field: pa.Field, **facts: str | None) -> pa.Field:
    """Attach facts (title, help, unit, suspicious, detects …) to a field; absent facts are left out."""
    return field.with_metadata({key: str(value) for key, value in facts.items() if value is not None})


def column_facts(field: pa.Field) -> dict[str, str]:
    """The facts that ``describe_column`` attached."""
    return {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}


# -- vectors: one float32 row per example ---------------------------------------------------------------------------


def write_vectors(
    path: Path, ids: Sequence[str], values: np.ndarray, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write (n,) ids and (n, d) float32 vectors as one Arrow IPC file, atomically."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    width = values.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), width)
    packed = {key: json.dumps(value) for key, value in (metadata or {}).items()}
    table = pa.table({"example_id": pa.array(list(ids), pa.string()), "vector": column})
    table = table.replace_schema_metadata(packed)
    with atomic_path(path) as temporary, ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)


def read_vectors(path: Path, only: Iterable[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read what ``write_vectors`` wrote → (n,) object array of ids, (n, d) float32, memory-mapped where possible.

    only: read the vectors of these ids alone, in the file's order; the others stay on the disk.
    """
    with readable(path), pa.memory_map(str(path)) as source:
        table = ipc.open_file(source).read_all()
        if only is not None:
            table = table.filter(pc.is_in(table["example_id"], value_set=pa.array(list(only), pa.string())))
    column = table["vector"].combine_chunks()
    width = table.schema.field("vector").type.list_size
    flat = column.flatten() if isinstance(column, pa.FixedSizeListArray) else column.chunk(0).flatten()
    return np.asarray(table["example_id"].to_pylist(), dtype=object), flat.to_numpy().reshape(-1, width)


# -- blobs: pictures by example_id ----------------------------------------------------------------------------------


class BlobStore:
    """Bytes by example_id in a folder of memory-mapped Arrow files, each sorted by id.

    A part is written once and never changed; a later part wins over an earlier one, so images that changed are
    added, not rewritten. A look-up is a binary search per part and decodes nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._parts: list[tuple[pa.ChunkedArray, pa.ChunkedArray]] = []
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
        with atomic_path(path) as temporary, ipc.new_file(str(temporary), table.schema) as writer:
            writer.write_table(table)

    def _refresh(self) -> None:
        names = sorted(path.name for path in self.folder.glob("part-*.arrow"))
        if names == self._names:
            return
        self._parts = [self._open(self.folder / name) for name in names]
        self._names = names

    @staticmethod
    def _open(path: Path) -> tuple[pa.Array, pa.Array]:
        with readable(path):
            table = ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
            return table["example_id"], table["data"]

    def get(self, example_id: str) -> bytes | None:
        """The bytes of one example, or None. Parts that another process has added since are included."""
        modified = self.folder.stat().st_mtime_ns if self.folder.is_dir() else 0
        if modified != self._seen or time.time_ns() - modified < SETTLED:
            self._refresh()
            self._seen = modified
        return self._search(example_id)

    def _search(self, example_id: str) -> bytes | None:
        for ids, blobs in reversed(self._parts):
            at = bisect_left(_Strings(ids), example_id)
            if at < len(ids) and ids[at].as_py() == example_id:
                return blobs[at].as_py()
        return None

    def ids(self) -> set[str]:
        """Every example_id that has bytes here."""
        self._refresh()
        return {value for ids, _ in self._parts for value in ids.to_pylist()}

    def clear(self) -> None:
        """Remove every part."""
        self._parts, self._names = [], []
        for path in self.folder.glob("part-*.arrow"):
            path.unlink()


class _Strings(Sequence[Any]):
    """An Arrow string column as a sequence of Python strings, one at a time, for ``bisect``."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    def __getitem__(self, at: Any) -> Any:
        return self.column[at].as_py()


def digest(value: Any) -> str:
    """A short hash of anything that JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]
