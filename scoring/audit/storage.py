"""Reading and writing the files of an audit: Parquet tables, Arrow vectors and blobs, JSON.

Every artefact is written atomically (``scoring.audit.atomic``) and carries checksums, which are verified before it is
parsed: Parquet and Arrow by ``scoring.audit.sealed``, JSON by ``scoring.audit.sealed_json``. All readers go through
here, so a flipped bit or a cut is one sentence with the file's name and the command that writes it again. Columns carry
their own explanation (title, help, unit, direction) as Arrow field metadata, from which the dashboard renders a score
that it has never heard of.

Inputs are Arrow tables, numpy arrays and plain dicts; outputs are files and verified reads. Nothing here knows the name
of a file: that is ``scoring.audit``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

from scoring.audit.arrow_rows import ArrowRows
from scoring.audit.atomic import ABANDONED, atomic_path, remove_abandoned, remove_abandoned_of, scratch_folder
from scoring.audit.blobs import BlobStore, write_arrow
from scoring.audit.errors import HardlookError, first_line
from scoring.audit.readable import readable
from scoring.audit.remedies import remedy
from scoring.audit.sealed import SealedFile, seal, verify
from scoring.audit.sealed_json import json_bytes, json_value

__all__ = [
    "ABANDONED",
    "BlobStore",
    "VectorFile",
    "atomic_path",
    "column_facts",
    "describe_column",
    "digest",
    "read_json",
    "read_metadata",
    "read_schema",
    "read_table",
    "read_vectors",
    "readable",
    "remove_abandoned",
    "remove_abandoned_of",
    "scratch_folder",
    "vectors_metadata",
    "verify",
    "write_json",
    "write_table",
    "write_vectors",
]


MOST_READ = 1 << 30
"""Bytes of vectors that are read into memory as a whole."""


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON with its checksum, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(json_bytes(value))


def read_json(path: Path, default: Any = None) -> Any:
    """Read JSON; ``default`` where there is no such file. A broken file is one clear error."""
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        return default
    try:
        return json_value(content)
    except (ValueError, RecursionError) as error:
        raise HardlookError(f"{path} is not JSON ({first_line(error)}); {remedy(Path(path))}") from error


def write_table(path: Path, table: pa.Table, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a Parquet file atomically; ``metadata`` values are kept as JSON under their keys."""
    packed = {key: json.dumps(value, ensure_ascii=False) for key, value in (metadata or {}).items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **packed})
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
        seal(temporary, b"PAR1")


def read_table(path: Path | str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file, or only some of its columns. A broken file is one clear error."""
    with readable(path):
        verify(path)
        return pq.read_table(path, columns=None if columns is None else list(columns))


def read_schema(path: Path | str) -> pa.Schema:
    """The columns of a Parquet file with what they say of themselves. A broken file is one clear error."""
    with readable(path):
        SealedFile(path)  # verifies the footer
        return pq.read_schema(path)


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The JSON values that ``write_table`` kept in the file's metadata."""
    with readable(path):
        raw = read_schema(path).metadata or {}
        return {
            key.decode(): json.loads(value)
            for key, value in raw.items()
            if key not in (b"pandas", b"ARROW:schema", b"huggingface")
        }


def describe_column(field: pa.Field, **facts: str | None) -> pa.Field:
    """Attach facts (title, help, unit, suspicious, detects …) to a field; absent facts are left out."""
    return field.with_metadata({key: str(value) for key, value in facts.items() if value is not None})


def column_facts(field: pa.Field) -> dict[str, str]:
    """The facts that ``describe_column`` attached. Raises ``HardlookError`` where they are damaged."""
    try:
        return {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    except UnicodeDecodeError as error:
        raise HardlookError(
            f"the description of the column {field.name!r} is damaged ({error.reason}); delete its file and "
            "run the command that writes it again, in most cases `hardlook score`"
        ) from error


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
    write_arrow(path, table)


def read_vectors(path: Path, only: Iterable[str] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Read what ``write_vectors`` wrote → (n,) object array of ids, (n, d) float32.

    only: read the vectors of these ids alone, in the file's order; the others stay on the disk. Without it the file is
    verified and read whole, or mapped where it is larger than ``MOST_READ``.
    """
    file = VectorFile(path)
    if only is None:
        return np.asarray(file.ids.to_pylist(), dtype=object), file.whole()
    rows = np.flatnonzero(
        pc.is_in(file.ids, value_set=pa.array(list(only), pa.string())).to_numpy(zero_copy_only=False)
    )
    return np.asarray(file.ids.take(pa.array(rows)).to_pylist(), dtype=object), file.take(rows)


class VectorFile:
    """The vectors of a file, read and verified row by row: what a page needs of a file that may be large."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with readable(path):
            self._rows = ArrowRows(path)
            self.width = self._rows.width("vector")

    def __len__(self) -> int:
        return len(self._rows)

    @cached_property
    def ids(self) -> pa.Array:
        """The (n,) example_ids, in the file's order."""
        with readable(self.path):
            return self._rows.column("example_id")

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop``, (m, d) float32."""
        with readable(self.path):
            return self._rows.vectors("vector", start, stop)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Some rows, (m, d) float32; ``rows`` ascend."""
        with readable(self.path):
            return self._rows.take("vector", rows)

    def whole(self) -> np.ndarray:
        """All rows, (n, d) float32, verified. A file larger than ``MOST_READ`` is mapped, so that memory does not
        follow its size; cutting it meanwhile would end the process."""
        if 4 * len(self) * self.width <= MOST_READ:
            return self.rows(0, len(self))
        with readable(self.path), pa.memory_map(str(self.path)) as source:
            self._rows.file.verify()
            column = ipc.open_file(source).read_all()["vector"].combine_chunks()
            width = column.type.list_size
            flat = column.flatten() if isinstance(column, pa.FixedSizeListArray) else column.chunk(0).flatten()
            return flat.to_numpy().reshape(-1, width)


def vectors_metadata(path: Path) -> dict[str, Any]:
    """The metadata that ``write_vectors`` kept."""
    with readable(path):
        raw = ArrowRows(path).metadata
        return {key.decode(): json.loads(value) for key, value in raw.items()}


def digest(value: Any) -> str:
    """A short hash of anything that JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:24]
