"""Many scores of the same examples as one data frame, oriented so that high means suspicious.

Inputs: an audit, a run, score columns and a selection; outputs: data frames indexed by example_id with columns named
``<scorer>.<column>``. Of more than ``MOST`` examples a fixed sample is taken, by a hash of their ids. Cost: 60,000
examples of 50 columns take 0.4 s once. Verified labels are read here and leave this module only as one boolean per
example of a group, for curves; pages never show them for a single example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from dashboard.queries import database
from dashboard.queries.score_columns import PREFERRED, ScoreColumn, find_column
from dashboard.queries.selection import Selection, identifier, source
from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.data.examples import truth
from scoring.evaluation import clustered_order, rank_correlation, top_overlap, turned

MOST = 50_000
FEWEST_KNOWN = 50
FEWEST_WRONG = 5
STAGES = ("early", "late", "all")


@dataclass(frozen=True, eq=False)
class Scores:
    """(n, m) scores by example_id, oriented so that high means suspicious, and the (n,) given labels of the same
    examples."""

    values: pd.DataFrame
    labels: pd.Series


def unique_titles(columns: Sequence[ScoreColumn]) -> dict[str, str]:
    """Returns address → the column's title, or the address itself if the title is not unique."""
    words = [column.title for column in columns]
    return {c.address: c.title if words.count(c.title) == 1 else c.address for c in columns}


def main_variants(columns: Sequence[ScoreColumn], stage: str) -> list[ScoreColumn]:
    """Returns one column per score; of a score with variants those of this stage in the preferred form and scale,
    for the label and for the prediction. A score without one of these choices keeps what it has."""
    wanted = {"stage": stage, "form": PREFERRED["form"], "normalised": PREFERRED["normalised"]}
    there: dict[tuple[str, str], set[str]] = {}
    for column in columns:
        for step, value in column.steps.items():
            there.setdefault((column.scorer, step), set()).add(value)

    def chosen(column: ScoreColumn, step: str, value: str) -> bool:
        return value not in there.get((column.scorer, step), ()) or column.steps.get(step) == value

    return [c for c in columns if all(chosen(c, step, value) for step, value in wanted.items())]


def stages(columns: Sequence[ScoreColumn]) -> list[str]:
    """Returns the stages that the columns come in."""
    there = {column.steps.get("stage") for column in columns}
    return [stage for stage in STAGES if stage in there]


def score_frame(
    audit: Audit, run: Run, columns: Sequence[ScoreColumn], selection: Selection, most: int = MOST
) -> Scores:
    """Returns the scores of the selected examples, without columns that are empty for them."""
    files = tuple(database.stamp(run.score_path(name)) for name in dict.fromkeys(c.scorer for c in columns))
    named = tuple((c.scorer, c.name, c.hard_end) for c in columns)
    at = (database.stamp(audit.examples_path), database.stamp(run.predictions_path), *files)
    return _score_frame(run.root, run.name, at, named, selection.without_decisions(), most)


@lru_cache(maxsize=12)
def _score_frame(
    root: Path,
    name: str,
    _stamps: tuple[Any, ...],
    columns: tuple[tuple[str, str, str | None], ...],
    selection: Selection,
    most: int,
) -> Scores:
    audit = database.audit_at(root)
    run = audit.run(name)
    scorers = list(dict.fromkeys(scorer for scorer, _, _ in columns))
    fields = ", ".join(
        f"s{scorers.index(scorer)}.{identifier(column)}::DOUBLE AS {identifier(f'{scorer}.{column}')}"
        for scorer, column, _ in columns
    )
    joined = f"{source(audit.examples_path)} e"
    for at, scorer in enumerate(scorers):
        joined += f" LEFT JOIN {source(run.score_path(scorer))} s{at} ON s{at}.example_id = e.example_id"
    if selection.needs_predictions:
        joined += f" JOIN {source(run.predictions_path)} p ON p.example_id = e.example_id"
    condition, parameters = selection.sql()
    query = f"SELECT e.example_id, e.label, {fields or 'NULL AS nothing'} FROM {joined} WHERE {condition}"
    sample = f"SELECT * FROM ({query} ORDER BY md5(e.example_id), e.example_id LIMIT {most}) ORDER BY example_id"
    found = database.sql(sample, parameters).to_pandas().set_index("example_id")
    labels = found.pop("label")
    ends = {f"{scorer}.{column}": end for scorer, column, end in columns}
    values = turned(found[list(ends)].astype("float64"), ends)
    return Scores(values.loc[:, values.notna().any()], labels.astype(object).where(labels.notna(), None))


@lru_cache(maxsize=12)
def drop_constant(scores: Scores) -> tuple[Scores, tuple[str, ...]]:
    """Returns the scores that vary, and the addresses of those with the same value for every example."""
    values = scores.values
    same = tuple(name for name in values if values[name].min() == values[name].max())
    return Scores(values.drop(columns=list(same)), scores.labels), same


@lru_cache(maxsize=12)
def correlation(scores: Scores, method: str) -> tuple[pd.DataFrame, list[str]]:
    """Returns ``rank_correlation`` of the scores and the clustered order; cached, so that a page turn computes
    nothing."""
    table = rank_correlation(scores.values, method)
    return table, clustered_order(table)


@lru_cache(maxsize=12)
def overlap(scores: Scores) -> pd.DataFrame:
    """Returns ``top_overlap`` of the scores in their clustered order."""
    return top_overlap(scores.values[correlation(scores, "spearman")[1]])


def uses_label(audit: Audit, run: Run, columns: Sequence[ScoreColumn]) -> dict[str, bool]:
    """Returns address → whether the score uses the given label.

    The score declares it. Otherwise a score that unlabelled examples have does not use it. If every example has a
    label, only scores of the prediction's class are taken not to use it.
    """
    found = {c.address: c.steps.get("index") != "prediction" if c.uses_label is None else c.uses_label for c in columns}
    open_ones = [c for c in columns if c.uses_label is None]
    without = _without_label(
        database.stamp(audit.examples_path),
        tuple((database.stamp(run.score_path(c.scorer)), c.name) for c in open_ones),
    )
    if without is not None:
        found |= {c.address: not count for c, count in zip(open_ones, without, strict=True)}
    return found


@lru_cache(maxsize=12)
def _without_label(examples: database.Stamp, columns: tuple[tuple[database.Stamp, str], ...]) -> list[int] | None:
    """Returns how many readable examples without a label have each column; None where every example has a label."""
    where = "label IS NULL AND problem IS NULL"
    whole = database.sql(f"SELECT count(*) n FROM {source(examples[0])} WHERE {where}")["n"][0].as_py()
    if not whole:
        return None
    return [
        database.sql(
            f"SELECT count(s.{identifier(name)}) n FROM {source(examples[0])} e JOIN {source(file[0])} s "
            f"ON s.example_id = e.example_id WHERE e.{where.replace('AND ', 'AND e.')}"
        )["n"][0].as_py()
        for file, name in columns
    ]


def runs_with_score(audit: Audit, address: str) -> dict[str, ScoreColumn]:
    """Returns run → its column with that address, in the audit's order."""
    found = {name: find_column(database.score_columns(audit.run(name)), address) for name in audit.run_names()}
    return {name: column for name, column in found.items() if column is not None}


def score_by_run(audit: Audit, runs: dict[str, ScoreColumn], selection: Selection) -> pd.DataFrame:
    """Returns (n, r): one score in each run, oriented as in the first one."""
    first = next(iter(runs.values()))
    frames = {}
    for name, column in runs.items():
        one = ScoreColumn(column.scorer, column.name, column.title, suspicious=first.hard_end)
        frames[name] = score_frame(audit, audit.run(name), [one], selection).values.get(column.address)
    there = {name: values for name, values in frames.items() if values is not None}
    return pd.DataFrame(there)


def model_errors(audit: Audit, run: Run, selection: Selection) -> pd.Series:
    """Returns whether the model is wrong, by example_id, for the selected examples that have a label and a
    prediction."""
    at = (database.stamp(audit.examples_path), database.stamp(run.predictions_path))
    return pd.Series(dtype=bool) if None in at else _errors(at, selection.without_decisions())


@lru_cache(maxsize=12)
def _errors(files: tuple[Any, ...], selection: Selection) -> pd.Series:
    condition, parameters = selection.sql()
    query = (
        f"SELECT e.example_id, NOT p.correct AS error FROM {source(files[0][0])} e JOIN "
        f"{source(files[1][0])} p ON p.example_id = e.example_id WHERE p.correct IS NOT NULL AND {condition}"
    )
    found = database.sql(query, parameters).to_pandas().set_index("example_id")["error"]
    return found.astype(bool)


def wrong_labels(audit: Audit, labels: pd.Series) -> pd.Series | None:
    """Returns whether the given label is wrong, for those of some labelled examples that have a verified label; None
    if the audit has no verified labels. For aggregates only."""
    if audit.truth is None:
        return None
    path = audit.path(audit.truth["path"]) if "path" in audit.truth else None
    known = _truth(audit.root, database.stamp(audit.config_path), database.stamp(path) if path else None)
    labels = labels.dropna()
    true = known.reindex(labels.index).dropna()
    return labels.reindex(true.index).astype(str) != true.astype(str)


def reveals_truth(audit: Audit, selection: Selection) -> bool:
    """Returns whether the difference of two selections like this one could reveal the verified label of single
    examples.

    False without metadata filters. False for one column filtered by its values, if each value's group has enough
    verified and wrong examples, because two such selections differ by whole groups. True for ranges and parts of texts,
    which can differ by one example.
    """
    if not selection.meta:
        return False
    (first, *more) = selection.meta
    if more or first.low is not None or first.high is not None or first.contains:
        return True
    condition, parameters = replace(selection, meta=()).sql()
    value, table = identifier(first.column), source(audit.examples_path)
    query = f"SELECT example_id, label, CAST({value} AS VARCHAR) v FROM {table} e WHERE {condition}"
    found = database.sql(query, parameters).to_pandas().set_index("example_id")
    wrong = wrong_labels(audit, found["label"].astype(object).where(found["label"].notna(), None))
    if wrong is None:
        return False
    groups = wrong.groupby(found["v"].reindex(wrong.index).fillna("\0 nothing recorded")).agg(["size", "sum"])
    return bool(((groups["size"] < FEWEST_KNOWN) | (groups["sum"] < FEWEST_WRONG)).any())


@lru_cache(maxsize=2)
def _truth(root: Path, _audit: database.Stamp, _file: database.Stamp | None) -> pd.Series:
    found = truth(database.audit_at(root))
    if found is None:
        raise HardlookError("audit.toml has no [truth] table; add one with the path of the verified labels")
    return found.set_index("example_id")["true_label"]
