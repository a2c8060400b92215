"""Where the columns of an Arrow IPC file lie, and reads of single rows by position.

Arrow maps a file into memory or reads whole batches; neither suits one picture of a large file that may be cut while a
server reads it. Here the file's structure alone (its first bytes and its footer, verified) is given to Arrow in a block
of memory as long as the file, whose untouched pages cost nothing. The addresses of the buffers that Arrow finds in it
are the positions in the file, from which ``SealedFile`` reads verified rows.

Inputs → outputs: a path → ``ArrowRows``. Cost: 64 kB and the footer per file, the ids when they are asked for. Known
limit: files that Arrow wrote compressed or with null values are not read row by row; this house writes none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc

from scoring.audit.sealed import SealedFile, damaged

STRUCTURE = 65_536
"""Bytes at both ends of a file that hold its structure where it has few batches."""
SEGMENT = 1 << 20
"""Bytes that are read at once on the way through many rows."""


class ArrowRows:
    """The rows of one Arrow IPC file: ids, blobs and float32 vectors, read by position."""

    def __init__(self, path: Path | str) -> None:
        self.file = SealedFile(path)
        size = self.file.size
        memory = np.zeros(size, np.uint8)
        few = size > 4 * STRUCTURE
        for start, stop in [(0, STRUCTURE), (size - STRUCTURE, size)] if few else [(0, size)]:
            memory[start:stop] = np.frombuffer(self.file.read_at(start, stop - start), np.uint8)
        try:
            self.schema, self.batches = _opened(memory)
        except (pa.ArrowException, OSError):
            if not few:
                raise
            memory[:] = np.frombuffer(self.file.read_at(0, size), np.uint8)  # many batches, or damage that Arrow names
            self.schema, self.batches = _opened(memory)
        self._base = memory.ctypes.data
        self._memory = memory

    def __len__(self) -> int:
        return sum(batch.num_rows for batch in self.batches)

    def column(self, name: str) -> pa.Array:
        """Returns a string column, its positions checked. Raises ``HardlookError`` where they are damaged."""
        parts = [self._strings(batch, batch.schema.get_field_index(name)) for batch in self.batches]
        return pa.concat_arrays(parts) if parts else pa.array([], pa.string())

    def _strings(self, batch: pa.RecordBatch, at: int) -> pa.Array:
        _, offsets, values = batch.column(at).buffers()
        places = self._numbers(offsets, batch.num_rows + 1, np.dtype("<i4"))
        text = self._bytes(values) if values is not None else b""
        made = pa.Array.from_buffers(pa.string(), batch.num_rows, [None, pa.py_buffer(places), pa.py_buffer(text)])
        made.validate(full=True)
        return made

    def blobs(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns where each row of a ``large_binary`` column begins and ends in the file, (n,) int64 twice."""
        starts, stops = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for batch in self.batches:
            column = batch.column(batch.schema.get_field_index(name))
            _, offsets, values = column.buffers()
            places = self._numbers(offsets, batch.num_rows + 1, np.dtype("<i8"))
            length = values.size if values is not None else 0
            if len(places) and (places[0] < 0 or places[-1] > length or (np.diff(places) < 0).any()):
                raise damaged(self.file.path, f"the positions in its column {name!r} contradict one another")
            base = values.address - self._base if values is not None else 0
            starts.append(base + places[:-1])
            stops.append(base + places[1:])
        return np.concatenate(starts), np.concatenate(stops)

    def width(self, name: str) -> int:
        """Returns the length of the vectors of a column."""
        return self.schema.field(name).type.list_size

    @property
    def metadata(self) -> dict[bytes, bytes]:
        """Returns what the file's schema says besides its columns."""
        return self.schema.metadata or {}

    def vectors(self, name: str, start: int, stop: int) -> np.ndarray:
        """Returns rows ``start`` to ``stop`` of a column of float32 vectors, (n, d)."""
        width, parts, first = self.width(name), [], 0
        for batch in self.batches:
            low, high = max(start, first) - first, min(stop, first + batch.num_rows) - first
            if low < high:
                values = batch.column(batch.schema.get_field_index(name)).flatten().buffers()[1]
                where = values.address - self._base + 4 * width * low
                raw = self.file.read_at(where, 4 * width * (high - low))
                parts.append(np.frombuffer(raw, "<f4").reshape(-1, width))
            first += batch.num_rows
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty((0, width), np.float32)

    def take(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Returns some rows of a column of float32 vectors, (len(rows), d); ``rows`` ascend."""
        width = self.width(name)
        found = np.empty((len(rows), width), np.float32)
        step = max(1, SEGMENT // max(1, 4 * width))
        groups = rows // step
        for edge in np.flatnonzero(np.r_[True, np.diff(groups) != 0]) if len(rows) else []:
            last = np.searchsorted(groups, groups[edge], "right")
            low, high = int(rows[edge]), int(rows[last - 1]) + 1
            found[edge:last] = self.vectors(name, low, high)[rows[edge:last] - low]
        return found

    def _numbers(self, buffer: pa.Buffer | None, count: int, kind: np.dtype) -> np.ndarray:
        if buffer is None or buffer.size < count * kind.itemsize:
            return np.zeros(count, kind)
        return np.frombuffer(self._bytes(buffer), kind)[:count]

    def _bytes(self, buffer: pa.Buffer) -> bytes:
        return self.file.read_at(buffer.address - self._base, buffer.size) if buffer.size else b""


def _opened(memory: np.ndarray) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    """The schema and the batches of a file, their buffers lying in this memory."""
    reader = ipc.open_file(pa.BufferReader(pa.py_buffer(memory)))
    return reader.schema, [reader.get_batch(at) for at in range(reader.num_record_batches)]
