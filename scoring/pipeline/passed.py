"""What a first pass over the data computed, batch by batch: logits, features, and whether each input was as it should.

A file per batch of ``BATCH`` examples under ``runs/<run>/parts/first_pass``, all of one key. A batch is found again by
the ids and fingerprints of its examples, in their order: only the very same batch gives the same bits.

Inputs → outputs: arrays → files, and back. Cost: one read of the ids when it is opened. Limits: of a batch that the
pass could not finish there is nothing.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.audit.storage import digest, read_table, write_table

HEAD = b"head"
"""The key of a table's schema metadata under which ``Head.facts`` travel."""


def vector_column(values: np.ndarray) -> pa.Array:
    """(n, d) → one fixed-size list per row."""
    flat = pa.array(np.ascontiguousarray(values, dtype=np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def vectors_of(table: pa.Table, name: str) -> np.ndarray | None:
    """(n, d) of a column of ``vector_column``; None where the table has none."""
    if name not in table.column_names:
        return None
    column = table[name].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy().reshape(-1, column.type.list_size)


@dataclass(frozen=True)
class PassedRows:
    """Some examples in a first pass: (n, c) logits, NaN where an input could not be made, whose reason is in
    ``problems``; (n,) whether all of the input is finite."""

    logits: np.ndarray
    finite: np.ndarray
    problems: list[str | None]


class Passed:
    """The batches of a first pass, in a folder, of one key."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    def open(self) -> Passed:
        """Make the folder, empty where it holds what another key computed; returns itself."""
        marker = self.folder / "key"
        if not marker.is_file() or marker.read_bytes() != self.key.encode():
            self.drop()
            self.folder.mkdir(parents=True)
            marker.write_text(self.key)
        return self

    def drop(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def _places(self) -> dict[str, Path]:
        """The file of each batch, by the digest of its examples."""
        marker = self.folder / "key"
        if not marker.is_file() or marker.read_bytes() != self.key.encode():
            return {}
        found = {}
        for path in sorted(self.folder.glob("batch-*.parquet")):
            table = read_table(path, ["example_id", "fingerprint"])
            found[_name(table["example_id"].to_pylist(), table["fingerprint"].to_pylist())] = path
        return found

    def has(self, ids: Sequence[str], fingerprints: Sequence[str]) -> bool:
        """Returns whether exactly this batch was computed."""
        return _name(ids, fingerprints) in self._places

    def batch(self, ids: Sequence[str], fingerprints: Sequence[str]) -> pa.Table | None:
        """The table of exactly this batch; None where it was not computed."""
        path = self._places.get(_name(ids, fingerprints))
        return None if path is None else read_table(path)

    def write(self, table: pa.Table, head: dict[str, Any]) -> None:
        """Keep the table of one batch, with what was measured of the head."""
        ids, fingerprints = table["example_id"].to_pylist(), table["fingerprint"].to_pylist()
        path = self.folder / f"batch-{len(self._places):05d}.parquet"
        write_table(path, table.replace_schema_metadata({HEAD: json.dumps(head)}))
        self._places[_name(ids, fingerprints)] = path

    def rows(self, ids: Sequence[str], fingerprints: Sequence[str]) -> PassedRows | None:
        """What the pass found of some examples, in their order; None where it lacks one of them."""
        wanted = dict(zip(zip(ids, fingerprints, strict=True), range(len(ids)), strict=True))
        logits: np.ndarray | None = None
        finite, found = np.zeros((2, len(ids)), dtype=bool)
        problems = list[str | None]([None] * len(ids))
        for path in self._places.values():
            table = read_table(path, ["example_id", "fingerprint", "finite", "problem", "logits"])
            pairs = zip(table["example_id"].to_pylist(), table["fingerprint"].to_pylist(), strict=True)
            at = [(row, wanted[pair]) for row, pair in enumerate(pairs) if pair in wanted]
            if not at:
                continue
            values = vectors_of(table, "logits")
            if values is None:
                return None
            logits = np.full((len(ids), values.shape[1]), np.nan, np.float32) if logits is None else logits
            known, reasons = table["finite"].to_pylist(), table["problem"].to_pylist()
            for row, place in at:
                logits[place], finite[place], problems[place] = values[row], known[row], reasons[row]
                found[place] = True
        return PassedRows(logits, finite, problems) if logits is not None and found.all() else None


def _name(ids: Sequence[str], fingerprints: Sequence[str]) -> str:
    return digest([list(ids), list(fingerprints)])
