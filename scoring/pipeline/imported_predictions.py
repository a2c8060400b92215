"""Imported predictions: a table of any model's predictions becomes a run without a model.

``read_predictions`` checks a CSV or Parquet file and gives ids, (n, c) probabilities and (n, d) features;
``import_predictions`` writes them as a run, in whose files logits are log p, so that everything that reads
a run reads this one too. The table has one row per example:

    example_id                   as in the example table, or under the id_column of the audit's [[data]] tables, as it
                                 stands there, without their id_prefix
    probabilities                a list per row, in the order of audit.toml's classes (JSON in a CSV), or one column per
                                 class, named as the class or p_<class>
    features                     optional: a list per row, or columns feature_0, feature_1, …: the vectors on which
                                 neighbours are looked for

Nothing is written before everything is checked, and the run's folder is renamed into place whole. Cost: one
read; memory 8 · n · (c + d) bytes. Limits: no checkpoints, so no gradients, influence or training dynamics.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import scoring
from scoring.audit import Audit, Run, can_name_run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, read_table, write_json, write_table, write_vectors
from scoring.audit.user_code import close_names
from scoring.data.adapters.text_tables import read_text_table
from scoring.data.examples import read_examples

TOLERANCE = 0.01
"""How far from 1 the probabilities of an example may sum; they are divided by their sum."""
SMALLEST = 1e-30
"""Probabilities below it are written as this: its logarithm is finite."""
FEATURE = re.compile(r"features?[_.]?(\d+)")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a table held: (n,) ids, (n, c) probabilities that sum to 1, (n, d) features or None."""

    ids: list[str]
    probabilities: np.ndarray
    features: np.ndarray | None


def read_predictions(path: Path, classes: Sequence[str], id_column: str = "example_id") -> Predictions:
    """Read and check a table of predictions. Anything wrong is one ``HardlookError`` that names the first
    bad row.
    """
    path = Path(path)
    table = _table(path)
    if id_column not in table.column_names:
        raise HardlookError(f"{path} has no column {id_column!r}; {close_names(id_column, table.column_names)}")
    ids = ["" if value is None else str(value) for value in table[id_column].to_pylist()]
    _check_ids(path, ids)
    rest = table.drop_columns([id_column])
    probabilities = _checked_probabilities(path, ids, _probabilities(path, rest, ids, classes))
    features = _features(path, rest, ids, set(classes))
    return Predictions(ids, probabilities, features)


def _table(path: Path) -> pa.Table:
    if not path.is_file():
        raise HardlookError(f"{path} does not exist; needed a CSV or Parquet table of predictions")
    return read_table(path) if path.suffix.lower() in (".parquet", ".pq") else read_text_table(path)


def id_column_of(path: Path, audit: Audit, given: str | None = None) -> str:
    """The column of a table that holds the ids: the one given, else example_id, else the one that the audit's
    ``[[data]]`` tables call id_column. Raises ``HardlookError`` where several of these are there."""
    if given is not None:
        return given
    names = _table(Path(path)).column_names
    own = dict.fromkeys(table["id_column"] for table in audit.sources if table.get("id_column") in names)
    if "example_id" in names or not own:
        return "example_id"
    if len(own) > 1:
        raise HardlookError(
            f"{path} has several columns that audit.toml calls id_column ({', '.join(own)}); say which: --id-column"
        )
    return next(iter(own))


def _check_ids(path: Path, ids: list[str]) -> None:
    if not ids:
        raise HardlookError(f"{path} has no rows; needed one per example")
    if "" in ids:
        raise HardlookError(f"{path}: row {ids.index('') + 1} has no example_id; needed one in every row")
    twice = pd.Series(ids)[pd.Series(ids).duplicated()]
    if len(twice):
        raise HardlookError(
            f"{path} names {twice.iloc[0]!r} more than once ({twice.nunique():,} such ids); needed one row per example"
        )


def _probabilities(path: Path, table: pa.Table, ids: list[str], classes: Sequence[str]) -> np.ndarray:
    """(n, c) as they stand: from one list column, or from one column per class."""
    if not classes:
        raise HardlookError("audit.toml has no classes, so the order of probabilities is unknown; add classes = [...]")
    if "probabilities" in table.column_names and "probabilities" not in classes:
        return _lists(path, table["probabilities"], ids, "probabilities", len(classes), "audit.toml has {} classes")
    own = {name: column for name in classes for column in (f"p_{name}", name) if column in table.column_names}
    missing = [name for name in classes if name not in own]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise HardlookError(
            f"{path} has no column of probabilities for class {missing[0]!r}{more}; needed one column per class, "
            "named as the class or p_<class>, or one list column 'probabilities'; it has "
            f"{', '.join(table.column_names) or 'none'}"
        )
    return np.column_stack([_numbers(path, table[own[name]], ids, own[name]) for name in classes])


def _features(path: Path, table: pa.Table, ids: list[str], classes: set[str]) -> np.ndarray | None:
    if "features" in table.column_names and "features" not in classes:
        return _finite(path, ids, _lists(path, table["features"], ids, "features"), "features")
    numbered = {
        int(found[1]): name for name in table.column_names if name not in classes and (found := FEATURE.fullmatch(name))
    }
    if not numbered:
        return None
    columns = [numbered[number] for number in sorted(numbered)]
    return _finite(path, ids, np.column_stack([_numbers(path, table[c], ids, c) for c in columns]), "features")


def _lists(
    path: Path,
    column: pa.ChunkedArray,
    ids: list[str],
    what: str,
    width: int | None = None,
    needed: str = "the first row has {}",
) -> np.ndarray:
    """A column of lists (or of JSON lists) as (n, width)."""
    rows = column.to_pylist()
    for at, row in enumerate(rows):
        if isinstance(row, str):
            try:
                row = json.loads(row)
            except json.JSONDecodeError:
                row = None
        if not isinstance(row, list) or not row:
            raise HardlookError(
                f"{path}: {ids[at]!r} has {what} = {rows[at]!r}; needed a list of numbers such as [0.1, 0.9]"
            )
        width = len(row) if width is None else width
        if len(row) != width:
            raise HardlookError(f"{path}: {ids[at]!r} has {len(row)} {what}; {needed.format(width)}")
        rows[at] = row
    try:
        return np.array(rows, dtype=np.float64)  # None becomes NaN, which is refused with its row
    except (TypeError, ValueError) as error:
        raise HardlookError(
            f"{path}: {what} contains a value that is not a number ({error}); needed lists of numbers"
        ) from error


def _numbers(path: Path, column: pa.ChunkedArray, ids: list[str], name: str) -> np.ndarray:
    values = pd.to_numeric(column.to_pandas().replace("", None), errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(np.isnan(values))
    if len(bad):
        found = column[int(bad[0])].as_py()
        raise HardlookError(f"{path}: {ids[bad[0]]!r} has {name} = {found!r} ({len(bad):,} such rows); needed a number")
    return values


def _finite(path: Path, ids: list[str], values: np.ndarray, what: str) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(values).all(1))
    if len(bad):
        raise HardlookError(
            f"{path}: {ids[bad[0]]!r} has {what} that are not finite ({len(bad):,} such rows); needed numbers"
        )
    return values


def _checked_probabilities(path: Path, ids: list[str], p: np.ndarray) -> np.ndarray:
    """Each row between 0 and 1, summing to 1."""
    _finite(path, ids, p, "probabilities")
    sums = p.sum(1)
    bad = np.flatnonzero((p < -1e-6).any(1) | (p > 1 + TOLERANCE).any(1) | (np.abs(sums - 1) > TOLERANCE))
    if len(bad):
        row = bad[0]
        raise HardlookError(
            f"{path}: the probabilities of {ids[row]!r} lie between {p[row].min():.3g} and {p[row].max():.3g} and sum "
            f"to {sums[row]:.4g} ({len(bad):,} such rows); needed numbers from 0 to 1 that sum to 1 (apply a softmax "
            "to logits first)"
        )
    return np.clip(p, 0, 1) / np.clip(p, 0, 1).sum(1, keepdims=True)


def import_predictions(
    audit: Audit,
    name: str,
    path: Path,
    *,
    id_column: str = "example_id",
    out_of_fold: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the run ``name`` from a table → what was imported: examples, of, features, accuracy.

    ``out_of_fold``: each example's probabilities come from a model that was not trained on it; labels are
    then suggested from them as such. An imported run of that name is replaced with ``overwrite``, scores
    and all; a configured one never.
    """
    from scoring.pipeline.predictions import predictions_table

    _check_name(audit, name, overwrite)
    found = read_predictions(path, audit.classes, id_column)
    examples = read_examples(audit)
    examples = examples[examples["problem"].isna()].reset_index(drop=True)
    at = _placed(audit, Path(path), found.ids, examples["example_id"])
    ids = examples["example_id"].tolist()
    logits = _spread(at, len(ids), np.log(np.maximum(found.probabilities, SMALLEST)))
    table = predictions_table(examples, logits, audit.classes)
    correct = table["correct"].to_pandas().dropna()
    table_of = table_facts(path, id_column, out_of_fold)
    facts = {
        "file": Path(path).name,
        "sha256": table_of["sha256"],
        "examples": len(at),
        "of": len(ids),
        "out_of_fold": out_of_fold,
        "features": 0 if found.features is None else found.features.shape[1],
        "accuracy": float(correct.mean()) if len(correct) else None,
    }
    with audit_run(audit, name).replaced() as run:
        write_vectors(run.logits_path, ids, logits)
        write_table(run.predictions_path, table, {"imported": facts, "hardlook": scoring.__version__})
        if found.features is not None:
            write_vectors(run.features_path, ids, _spread(at, len(ids), found.features))
        if out_of_fold:
            write_vectors(run.out_of_fold_path, ids, _spread(at, len(ids), found.probabilities))
        write_json(run.import_path, table_of)
        versions = {"hardlook": scoring.__version__}
        record = {"name": name, "imported": facts, "versions": versions, "classes": audit.classes}
        write_json(run.record_path, record)
    return facts


def table_facts(path: Path, id_column: str, out_of_fold: bool) -> dict[str, Any]:
    """What an import is of: the table's content, and how it is read."""
    content = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return {"sha256": content, "id_column": id_column, "out_of_fold": out_of_fold}


def is_unfinished(audit: Audit, run: Run, path: Path, id_column: str, out_of_fold: bool) -> bool:
    """Returns whether this table was imported as the run over these examples, by a command that was killed before all
    scores were computed."""
    if run.name not in audit.run_names() or read_json(run.import_path) != table_facts(path, id_column, out_of_fold):
        return False
    examples = read_examples(audit)
    ids = examples.loc[examples["problem"].isna(), "example_id"].tolist()
    return read_table(run.predictions_path, ["example_id"])["example_id"].to_pylist() == ids


def audit_run(audit: Audit, name: str) -> Run:
    """The run of that name whether it is there or not."""
    return Run(name, audit.root)


def _check_name(audit: Audit, name: str, overwrite: bool) -> None:
    if not can_name_run(name):
        raise HardlookError(
            f"--run {name!r} cannot be the name of a run, which becomes a folder name; use letters and digits"
        )
    if name in audit.config.get("run", {}):
        raise HardlookError(f"audit.toml has a table [run.{name}] with its own model; import under another --run name")
    if name in audit.run_names() and not overwrite:
        raise HardlookError(
            f"run {name!r} already exists; --overwrite replaces it and its scores, another --run name keeps it"
        )


def _placed(audit: Audit, path: Path, ids: list[str], known: pd.Series) -> np.ndarray:
    """The row of each id among the usable examples, which may have the id_prefix of a ``[[data]]`` table before it; ids
    that are none, or two, are an error."""
    at = pd.Index(known).get_indexer(ids)
    for prefix in dict.fromkeys(table["id_prefix"] for table in audit.sources if table.get("id_prefix")):
        found = pd.Index(known).get_indexer([prefix + name for name in ids])
        twice = np.flatnonzero((at >= 0) & (found >= 0))
        if len(twice):
            raise HardlookError(
                f"{path}: {ids[twice[0]]!r} could be {known[at[twice[0]]]!r} or {known[found[twice[0]]]!r}; write the "
                "ids of the example table, with the id_prefix of their [[data]] table"
            )
        at = np.where(at >= 0, at, found)
    unknown = [name for name, row in zip(ids, at, strict=True) if row < 0]
    if unknown:
        raise HardlookError(
            f"{path} has {len(unknown):,} ids that are not readable examples of {audit.root}, the first: "
            f"{unknown[0]!r}; {close_names(unknown[0], known.tolist())}"
        )
    once = pd.Series(at)
    if once.duplicated().any():
        row = int(np.flatnonzero(once.duplicated())[0])
        raise HardlookError(f"{path} names example {known[at[row]]!r} twice, with and without its id_prefix; keep one")
    return at


def _spread(at: np.ndarray, n: int, values: np.ndarray) -> np.ndarray:
    """Rows put where they belong among n; NaN elsewhere."""
    result = np.full((n, values.shape[1]), np.nan, dtype=np.float32)
    result[at] = values
    return result
