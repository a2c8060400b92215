"""The score files of a run: which rows are current, the key under which they are, and how they are written.

A file is current if its key is: the model, the data, the scorer's settings and code, and the version of the numbers.
Rows of examples that did not change are kept.

Inputs → outputs: a scorer's columns → ``runs/<run>/scores/<scorer>.parquet``. Cost: one read of the old file, one write
of the new one.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

import scoring
from scoring.audit.storage import digest, read_metadata, read_table, write_table
from scoring.pipeline.shards import Context
from scoring.scorers import Scorer

if TYPE_CHECKING:
    pass


NUMBERS = "0.2.0"
"""The version of hardlook since which every score computes what it computes now; raised if a change outside the
scorers' own files gives other numbers."""


def score_key(context: Context, scorer: Scorer) -> str:
    """Returns what the numbers of this score depend on, besides the examples: another one means scoring anew."""
    return digest([context_key(context, scorer), scorer.name, scorer.key_settings(), NUMBERS])


def context_key(context: Context, scorer: Scorer) -> Any:
    """Returns what this scorer's numbers depend on besides its own settings and the examples."""
    run = context.run
    dynamics = [[p.parent.name, p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in run.dynamics_files()]
    return [
        context.key if run.config else None,
        dynamics if "dynamics" in scorer.needs else None,
        run.influence_path.stat().st_mtime_ns if "influence" in scorer.needs else None,
        run.logits_path.stat().st_mtime_ns if not run.config and run.logits_path.is_file() else None,
        scorer.depends(context),
    ]


def scorer_code(kind: type[Scorer]) -> str | None:
    """Returns a digest of the code in a scorer's own file, without docstrings and layout; None if it has no file."""
    try:
        return code_digest(inspect.getsource(sys.modules[kind.__module__]))
    except (OSError, TypeError):
        return None


@lru_cache(maxsize=64)
def code_digest(source: str) -> str:
    """Returns a digest of Python source that comments, layout and docstrings do not change.

    >>> code_digest("def f(x):\\n    return x") == code_digest("def f( x ):\\n    'Doc.'\\n    return x  # same")
    True
    >>> code_digest("x = 1") == code_digest("x = 2")
    False
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return digest(ast.dump(tree))


def is_current(path: Path, key: str, scorer: Scorer) -> bool:
    """Returns whether a score file was made with this key and by this code of the scorer. Files of 0.2.0 do not name
    their code; their key alone counts."""
    facts, code = read_metadata(path), scorer_code(type(scorer))
    return facts.get("key") == key and facts.get("code", code) == code


def kept_rows(path: Path, key: str, examples: pd.DataFrame, scorer: Scorer) -> np.ndarray:
    """(n,) row of the old file that still holds for each example, −1 where it must be scored (again)."""
    kept = np.full(len(examples), -1)
    if not path.is_file() or not is_current(path, key, scorer):
        return kept
    names = ["example_id", "fingerprint", "label"]
    old = read_table(path, names).to_pandas().fillna("")
    where = pd.Series(np.arange(len(old)), index=pd.MultiIndex.from_frame(old))
    now = pd.MultiIndex.from_frame(examples[names].fillna("").astype(object))
    return where.reindex(now).fillna(-1).astype(int).to_numpy(copy=True)


def merge_rows(
    path: Path, kept: np.ndarray, todo: np.ndarray, tables: list[pa.Table], scorer: Scorer
) -> dict[str, np.ndarray]:
    """Rows of the old file that still hold and new rows → columns in the examples' order."""
    old = read_table(path).to_pandas() if (kept >= 0).any() else None
    columns = {}
    names = {name for table in tables for name in table.column_names} - set(scorer.vectors)
    if old is not None:
        names |= {column.name for column in scorer.columns if column.name in old}
    for name in sorted(names):
        merged = np.full(len(kept), np.nan, dtype=np.float32)
        if old is not None and name in old:
            merged[kept >= 0] = old[name].to_numpy(dtype=np.float32)[kept[kept >= 0]]
        if tables:
            merged[todo] = np.concatenate([_numbers(table, name) for table in tables])
        columns[name] = merged
    return columns


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan, dtype=np.float32)
    return table[name].to_numpy()


def write_scores(context: Context, scorer: Scorer, columns: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write one scorer's file: ids, what was scored, and its declared columns with their explanations."""
    examples = context.examples
    fields = [pa.field("example_id", pa.string()), pa.field("fingerprint", pa.string()), pa.field("label", pa.string())]
    label = examples["label"].astype(object).where(examples["label"].notna(), None)
    arrays = [
        pa.array(examples["example_id"], pa.string()),
        pa.array(examples["fingerprint"], pa.string()),
        pa.array(label, pa.string()),
    ]
    for column in scorer.columns:
        values = columns[column.name]
        arrays.append(pa.array(values, mask=~np.isfinite(values)))
        fields.append(column.arrow_field())
    metadata = {**facts, "scorer": scorer.name, "parameters": asdict(scorer), "hardlook": scoring.__version__}
    write_table(context.run.score_path(scorer.name), pa.table(arrays, schema=pa.schema(fields)), metadata)
