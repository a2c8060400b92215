"""Cached reads of one audit: DuckDB over its Parquet files, so that what a page does not show stays on the
disk.

Every cache is keyed by (path, modification time, size) of the files that it read: a new `hardlook score` is
seen at the next page, and a page turn reads nothing twice. A *ranking* (ids and scores in order, 41 bytes per
example) is the largest thing that is kept.

Inputs are the audit that ``dashboard.auth.serving`` names and a ``Selection``; outputs are Arrow tables and data
frames. Cost at 1.3 million examples on two cores: 1.2 s for a new ranking, 0.2 s per file for a page of it;
at 60,000: 0.1 s and 20 ms. Limit: the files are read where they lie; a network disk is as slow as it is.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.auth.serving import serving
from dashboard.queries.score_columns import ScoreColumn, read_columns
from dashboard.queries.selection import META, MetaFilter, Selection, identifier, source
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError, first_line
from scoring.audit.storage import read_schema
from scoring.data.duplicates import duplicates as group_duplicates
from scoring.evaluation import deciles, error_by_decile, wilson
from scoring.queue import order
from scoring.queue.order import Order

MEMORY = "512MB"
FEW_VALUES = 200
FEW_NUMBERS = 12

_lock = threading.Lock()
_database: duckdb.DuckDBPyConnection | None = None

Stamp = tuple[str, int, int]


def sql(query: str, parameters: Sequence[Any] = ()) -> pa.Table:
    """Runs one query on this process's in-memory DuckDB, on a cursor of its own."""
    global _database
    with _lock:
        if _database is None:
            _database = duckdb.connect(config={"memory_limit": MEMORY, "threads": "2"})
        cursor = _database.cursor()
    try:
        return cursor.sql(query, params=list(parameters)).to_arrow_table()
    except (duckdb.Error, UnicodeError, RuntimeError) as error:  # a damaged footer without checksums raises any of them
        if isinstance(error, duckdb.ProgrammingError) and not isinstance(error, duckdb.InvalidInputException):
            raise
        raise HardlookError(
            f"a file of this audit cannot be read ({first_line(error)}); if it is damaged, delete it and run "
            "the command that writes it again, in most cases `hardlook score`"
        ) from error
    finally:
        cursor.close()


def stamp(path: Path) -> Stamp | None:
    """Returns (path, modification time, size) of a file, the key of every cache of it; None if there is none that can
    be looked at: whoever reads it says why."""
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_mtime_ns, found.st_size


# -- what is audited
# -------------------------------------------------------------------------------------------------


def open_audit() -> Audit:
    """Returns the audit that this process serves, read again when its ``audit.toml`` changed; the last sound one where
    that is broken or gone."""
    return serving().settings.audit


def audit_at(root: Path) -> Audit:
    """Returns the audit of a folder, for what is computed once per version of its files: the served one as it is
    served, another one from its ``audit.toml``."""
    served = serving().settings.audit
    return served if served.root == root else Audit.open(root)


def score_columns(run: Run) -> list[ScoreColumn]:
    """Returns every score column of a run, in the order of the file names; broken files are left out of the pages."""
    stamps = tuple(stamp(run.score_path(name)) for name in run.score_names())
    return _score_columns(run.root, run.name, stamps, stamp(run.record_path))


@lru_cache(maxsize=16)
def _score_columns(root: Path, name: str, _stamps: tuple[Any, ...], _record: Stamp | None) -> list[ScoreColumn]:
    run = Run(name, root)
    found = []
    for scorer in run.score_names():
        try:
            found += read_columns(run, scorer)
        except (HardlookError, pa.ArrowInvalid, OSError):
            continue
    return found


def broken_scores(run: Run) -> list[str]:
    """Returns score files that cannot be read."""
    readable = {column.scorer for column in score_columns(run)}
    return [name for name in run.score_names() if name not in readable]


# -- metadata
# --------------------------------------------------------------------------------------------------------


def meta_columns(audit: Audit) -> dict[str, pa.DataType]:
    """Returns the dataset's own metadata columns, as ``meta.<name>``, with their types."""
    at = stamp(audit.examples_path)
    return {} if at is None else dict(_meta_columns(at))


@lru_cache(maxsize=4)
def _meta_columns(examples: Stamp) -> list[tuple[str, pa.DataType]]:
    return [(f.name, f.type) for f in read_schema(examples[0]) if f.name.startswith(META)]


@lru_cache(maxsize=64)
def _meta_values(examples: Stamp, column: str) -> tuple[list[str | None], float | None, float | None]:
    name = identifier(column)
    where = source(examples[0])
    found = sql(
        f"SELECT CAST({name} AS VARCHAR) v, count(*) n FROM {where} GROUP BY v ORDER BY n DESC, v "
        f"LIMIT {FEW_VALUES + 1}"
    )
    kind = read_schema(examples[0]).field(column).type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        return found["v"].to_pylist(), None, None
    bounds = sql(f"SELECT min({name})::DOUBLE, max({name})::DOUBLE FROM {where} WHERE NOT isnan({name}::DOUBLE)")
    return found["v"].to_pylist(), bounds[0][0].as_py(), bounds[1][0].as_py()


def meta_choices(audit: Audit, column: str) -> tuple[str, list[str | None], tuple[float, float] | None]:
    """Returns how a metadata column is filtered: ("values", these), ("range", these bounds) or ("text", none)."""
    examples = stamp(audit.examples_path)
    if examples is None:
        return "values", [], None
    values, low, high = _meta_values(examples, column)
    kind = meta_kind(examples, column)
    bounds = None if low is None or high is None or kind != "range" else (low, high)
    return kind, values if kind == "values" else [], bounds


def meta_kind(examples: Stamp, column: str) -> str:
    """Returns whether a metadata column is filtered by its "values", as a "range", or as "text"."""
    values, low, high = _meta_values(examples, column)
    if low is not None and high is not None and len(values) > FEW_NUMBERS:
        return "range"
    return "values" if len(values) <= FEW_VALUES else "text"


# -- rankings and pages of them
# --------------------------------------------------------------------------------------


def ranking(audit: Audit, run: Run, column: ScoreColumn, selection: Selection) -> pa.Table:
    """Returns example_id and score of the selected examples that have this score, lowest first, ties by id.

    ``dashboard.queries.decisions`` filters by decisions afterwards. A decile is computed here, among the scored
    examples of the selection that have a label and a prediction.
    """
    files = (stamp(run.score_path(column.scorer)), stamp(audit.examples_path), stamp(run.predictions_path))
    if files[0] is None or files[1] is None or (selection.needs_predictions and files[2] is None):
        return pa.table({"example_id": pa.array([], pa.string()), "score": pa.array([], pa.float32())})
    return _ranking(files, column.name, selection.without_decisions())


@lru_cache(maxsize=6)
def _ranking(files: tuple[Any, ...], column: str, selection: Selection) -> pa.Table:
    table = _scored(files, column, selection, [])
    if selection.decile is None:
        return table
    return table.filter(pa.array(deciles(table["score"].to_numpy()) == selection.decile))


def _scored(files: tuple[Any, ...], column: str, selection: Selection, extra: list[str]) -> pa.Table:
    """Returns scores of the selected examples in order, with more columns of e and p."""
    scores, examples, predictions = files
    name = f"s.{identifier(column)}"
    condition, parameters = selection.sql()
    joined = f"{source(scores[0])} s JOIN {source(examples[0])} e ON e.example_id = s.example_id"
    if selection.needs_predictions or any(part.startswith("p.") for part in extra):
        joined += f" JOIN {source(predictions[0])} p ON p.example_id = s.example_id"
    fields = ", ".join(["s.example_id", f"{name} AS score", *extra])
    return sql(
        f"SELECT {fields} FROM {joined} WHERE {name} IS NOT NULL AND NOT isnan({name}) AND {condition} "
        f"ORDER BY score, s.example_id",
        parameters,
    )


def details(audit: Audit, run: Run | None, ids: Sequence[str]) -> pd.DataFrame:
    """Returns everything the cells of a page show about these examples, in the order of ``ids``, indexed by example_id.

    Columns: split, label, fingerprint, problem, and prediction, p_prediction, p_label, correct (null without
    predictions).
    """
    frame = (
        rows(audit.examples_path, ids, ["split", "label", "fingerprint", "problem"]).to_pandas().set_index("example_id")
    )
    if run is not None and run.predictions_path.is_file():
        wanted = ("prediction", "p_prediction", "p_label", "correct", "second")
        there = read_schema(run.predictions_path).names
        predicted = rows(run.predictions_path, ids, [name for name in wanted if name in there])
        frame = frame.join(predicted.to_pandas().set_index("example_id"))
    return frame.reindex(list(ids))


def find(audit: Audit, column: str, value: str, most: int = 100) -> list[str]:
    """Returns the ids of the examples whose example_id or fingerprint is ``value``, at most some."""
    where = f"{source(audit.examples_path)} WHERE {identifier(column)} = ?"
    query = f"SELECT example_id FROM {where} ORDER BY example_id LIMIT {most}"
    return sql(query, [value])["example_id"].to_pylist()


def labels(audit: Audit) -> pd.DataFrame:
    """Returns example_id, split, label and fingerprint of every example: what a patch is made against."""
    return sql(f"SELECT example_id, split, label, fingerprint FROM {source(audit.examples_path)}").to_pandas()


def matching(audit: Audit, meta: tuple[MetaFilter, ...]) -> set[str]:
    """Returns the ids that pass the metadata filters."""
    condition, parameters = Selection(meta=meta).sql()
    return set(
        sql(f"SELECT example_id FROM {source(audit.examples_path)} e WHERE {condition}", parameters)[
            "example_id"
        ].to_pylist()
    )


def rows(path: Path, ids: Sequence[str], columns: Sequence[str] | None = None) -> pa.Table:
    """Returns the rows of some examples in one file, in the file's order: example_id and these columns, or all there
    are.

    All pages use this look-up by id. It is one query for any number of ids, which are one list parameter.
    """
    names = "*" if columns is None else ", ".join(["example_id", *map(identifier, columns)])
    where = "example_id IN (SELECT unnest(?::VARCHAR[]))"
    return sql(f"SELECT {names} FROM {source(path)} WHERE {where}", [list(ids)])


def suggestions(audit: Audit, run: Run, labels: pd.Series) -> pd.DataFrame:
    """Returns suggested_label and its source by example_id, for the examples of ``labels`` (given labels by id)."""
    return order.suggestions(audit, run, labels).set_index("example_id").reindex(labels.index)


def start_order(audit: Audit, run: Run, split: str) -> Order | None:
    """Returns ``scoring.queue.order.default_order``: the score with which a queue starts, its end, and the reason."""
    stamps = tuple(stamp(run.score_path(name)) for name in run.score_names())
    return _start_order(audit.root, run.name, split, (stamp(audit.examples_path), *stamps))


@lru_cache(maxsize=16)
def _start_order(root: Path, name: str, split: str, _stamps: tuple[Any, ...]) -> Order | None:
    audit = audit_at(root)
    return order.default_order(audit, audit.run(name), split)


# -- numbers for charts
# ----------------------------------------------------------------------------------------------


def decile_errors(audit: Audit, run: Run, column: ScoreColumn, selection: Selection) -> pd.DataFrame:
    """Returns ``scoring.evaluation.error_by_decile`` of the selected examples that have a label and a prediction."""
    files = (stamp(run.score_path(column.scorer)), stamp(audit.examples_path), stamp(run.predictions_path))
    return _decile_errors(files, column.name, selection.without_decisions())


@lru_cache(maxsize=64)
def _decile_errors(files: tuple[Any, ...], column: str, selection: Selection) -> pd.DataFrame:
    if None in files:
        return error_by_decile(np.array([]), np.array([], dtype=bool))
    table = _scored(files, column, selection, ["p.correct"])
    table = table.filter(pc.is_valid(table["correct"]))
    return error_by_decile(table["score"].to_numpy(), ~table["correct"].to_numpy(zero_copy_only=False))


def class_decile_errors(
    audit: Audit, run: Run, column: ScoreColumn, selection: Selection, classes: Sequence[str]
) -> pd.DataFrame:
    """Returns error per decile within each of some classes → columns class, decile, n, error, low, high."""
    from dataclasses import replace

    frames = [
        decile_errors(audit, run, column, replace(selection, class_name=name)).assign(**{"class": name})
        for name in classes
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def counts(audit: Audit, selection: Selection, by: Sequence[str]) -> pd.DataFrame:
    """Returns how many of the selected examples each group has, how many labelled, and how many unreadable."""
    return _counts(stamp(audit.examples_path), selection.without_decisions(), tuple(by))


@lru_cache(maxsize=128)
def _counts(examples: Stamp, selection: Selection, by: tuple[str, ...]) -> pd.DataFrame:
    names = ", ".join(f"e.{identifier(name)}" for name in by)
    condition, parameters = selection.sql()
    return sql(
        f"SELECT {names}, count(*) n, count(label) labelled, count(problem) problems "
        f"FROM {source(examples[0])} e WHERE {condition} GROUP BY {names} ORDER BY {names}",
        parameters,
    ).to_pandas()


def accuracy(audit: Audit, run: Run, selection: Selection, by: Sequence[str]) -> pd.DataFrame:
    """Returns accuracy per group: the columns of ``by``, n, right, accuracy. ``with_intervals`` adds low and high."""
    files = (stamp(audit.examples_path), stamp(run.predictions_path))
    if None in files:
        return pd.DataFrame(columns=[*by, "n", "right", "accuracy"])
    return _accuracy(files, selection.without_decisions(), tuple(by))


@lru_cache(maxsize=128)
def _accuracy(files: tuple[Any, ...], selection: Selection, by: tuple[str, ...]) -> pd.DataFrame:
    names = ", ".join(f"e.{identifier(name)}" for name in by)
    condition, parameters = selection.sql()
    frame = sql(
        f'SELECT {names}, count(*) n, count(*) FILTER (p.correct) "right" FROM {source(files[0][0])} e '
        f"JOIN {source(files[1][0])} p ON p.example_id = e.example_id "
        f"WHERE p.correct IS NOT NULL AND {condition} "
        f"GROUP BY {names} ORDER BY {names}",
        parameters,
    ).to_pandas()
    return frame.assign(accuracy=frame["right"] / frame["n"])


def with_intervals(accuracy: pd.DataFrame) -> pd.DataFrame:
    """Returns the 95 % Wilson intervals beside accuracies, for the rows that a page shows: a thousand of them take
    seconds."""
    bounds = [wilson(right, n) for right, n in zip(accuracy["right"], accuracy["n"], strict=True)]
    return accuracy.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds])


def problems(audit: Audit, selection: Selection, most: int = 1000) -> pd.DataFrame:
    """Returns examples that could not be read, with the reason: example_id, split, label, problem; the first
    ``most``."""
    condition, parameters = selection.sql()
    return sql(
        f"SELECT example_id, split, label, problem FROM {source(audit.examples_path)} e "
        f"WHERE problem IS NOT NULL AND {condition} ORDER BY problem, example_id LIMIT {most}",
        parameters,
    ).to_pandas()


def coverage(audit: Audit, run: Run) -> pd.DataFrame:
    """Returns per score file how many examples are scored, stale (changed since) and readable but not scored."""
    names = [name for name in run.score_names() if name not in broken_scores(run)]
    files = tuple(stamp(run.score_path(name)) for name in names)
    rows = [_coverage(stamp(audit.examples_path), file) for file in files]
    return pd.DataFrame(rows, columns=["scored", "stale", "missing"], index=pd.Index(names, name="scorer"))


@lru_cache(maxsize=64)
def _coverage(examples: Stamp, scores: Stamp) -> tuple[int, int, int]:
    changed = "e.fingerprint IS DISTINCT FROM s.fingerprint OR e.label IS DISTINCT FROM s.label"
    there = {"fingerprint", "label"} <= set(read_schema(scores[0]).names)
    row = sql(
        "SELECT count(s.example_id), count(*) FILTER (s.example_id IS NOT NULL AND "
        f"({changed if there else 'FALSE'})), count(*) FILTER (s.example_id IS NULL AND e.problem IS NULL) FROM "
        f"{source(examples[0])} e LEFT JOIN {source(scores[0])} s ON s.example_id = e.example_id"
    )
    return tuple(row[at][0].as_py() for at in range(3))


def duplicates(audit: Audit) -> pd.DataFrame:
    """Returns exact duplicates as ``scoring.data.duplicates`` finds them, those across splits and labels first."""
    return _duplicates(stamp(audit.examples_path))


@lru_cache(maxsize=2)
def _duplicates(examples: Stamp) -> pd.DataFrame:
    names = "example_id, split, label, fingerprint, problem"
    return group_duplicates(sql(f"SELECT {names} FROM {source(examples[0])}").to_pandas())
