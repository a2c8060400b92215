"""The data map after any recorded epoch of a training.

``positions`` reads ``dynamics/<training>/epoch-*.parquet`` with DuckDB. Over the epochs up to one of them it computes
the three numbers of Swayamdipta et al. 2020: confidence (mean p(label), their eq. 1), variability (its population
standard deviation, eq. 2) and correctness. Only examples recorded under their present label count. ``progress`` returns
the means of each single epoch.

Cost: at 60,000 examples and 15 epochs 0.2 s for the last epoch, once; results are cached. Limit: the amount read grows
with the epochs; ImageNet over 90 epochs takes seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd

from dashboard.queries import database
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import Selection, identifier, source
from scoring.audit import Audit, Run
from scoring.scorers.data_map import data_map_regions

REGIONS = ("easy", "ambiguous", "hard")


@dataclass(frozen=True)
class Quantiles:
    """The limits of the regions: quantiles of confidence (easy above, hard below) and of variability (ambiguous
    above)."""

    easy: float = 2 / 3
    hard: float = 1 / 3
    ambiguous: float = 2 / 3


def epochs(run: Run, training: str) -> list[int]:
    """Returns the recorded epochs, as their files are numbered."""
    return [int(path.stem.removeprefix("epoch-")) for path in run.dynamics_files(training)]


def positions(
    audit: Audit, run: Run, training: str, upto: int, selection: Selection, column: ScoreColumn | None = None
) -> pd.DataFrame:
    """Returns the data map after epoch ``upto``: example_id, split, label, prediction, confidence, variability,
    correctness, correct (after that epoch) and score (of ``column``, null for none), by id."""
    files = tuple(
        database.stamp(path)
        for path, epoch in zip(run.dynamics_files(training), epochs(run, training), strict=True)
        if epoch <= upto
    )
    others = (
        audit.examples_path,
        run.predictions_path,
        *((run.score_path(column.scorer),) if column else ()),
    )
    return _positions(
        files,
        tuple(database.stamp(path) for path in others),
        selection.without_decisions(),
        column.name if column else None,
        tuple(audit.classes),
    )


@lru_cache(maxsize=24)
def _positions(
    files: tuple[Any, ...], others: tuple[Any, ...], selection: Selection, column: str | None, classes: tuple[str, ...]
) -> pd.DataFrame:
    condition, parameters = selection.sql()
    joined = f"{source(others[0][0])} e JOIN d ON d.example_id = e.example_id"
    if others[1] is not None:
        joined += f" LEFT JOIN {source(others[1][0])} p ON p.example_id = e.example_id"
    score = "NULL::FLOAT"
    if column is not None:
        joined += f" LEFT JOIN {source(others[2][0])} s ON s.example_id = e.example_id"
        score = f"s.{identifier(column)}"
    found = database.sql(
        f"WITH d AS ({_recorded(files, others[0])} GROUP BY r.example_id) SELECT e.example_id, e.split, e.label, "
        f"{'p.prediction' if others[1] else 'NULL::VARCHAR'} AS prediction, d.confidence, d.variability, "
        f"d.correctness, d.correct, {score} AS score FROM {joined} WHERE {condition} ORDER BY e.example_id",
        [list(classes), *parameters],
    ).to_pandas()
    # variances of float32 numbers that are all the same may come out as 1e-9
    return found.assign(variability=found["variability"].where(found["variability"] > 1e-7, 0.0))


def _recorded(files: tuple[Any, ...], examples: database.Stamp) -> str:
    """Returns the query over the epoch tables, with the list of classes as its one parameter. A file's position is
    its epoch."""
    tables = " UNION ALL ".join(
        f"SELECT example_id, label, p_label::DOUBLE AS p_label, correct, {at} AS at FROM {source(file[0])}"
        for at, file in enumerate(files)
    )
    return (
        "SELECT r.example_id, avg(r.p_label) AS confidence, stddev_pop(r.p_label) AS variability, avg(r.correct::INT) "
        f"AS correctness, arg_max(r.correct, r.at) AS correct FROM ({tables}) r JOIN {source(examples[0])} x ON "
        "x.example_id = r.example_id AND list_extract(?::VARCHAR[], r.label + 1) = x.label WHERE r.p_label IS NOT NULL"
    )


def progress(audit: Audit, run: Run, training: str, selection: Selection) -> pd.DataFrame:
    """Returns the mean p(label) and the share right of the selected examples after each single epoch: epoch, n,
    p_label, correct."""
    files = tuple(database.stamp(path) for path in run.dynamics_files(training))
    at = (database.stamp(audit.examples_path), database.stamp(run.predictions_path))
    found = _progress(files, at, selection.without_decisions())
    return found.assign(epoch=epochs(run, training))


@lru_cache(maxsize=24)
def _progress(files: tuple[Any, ...], others: tuple[Any, ...], selection: Selection) -> pd.DataFrame:
    condition, parameters = selection.sql()
    rows = [
        database.sql(
            f"SELECT count(r.p_label) AS n, avg(r.p_label) AS p_label, avg(r.correct::INT) AS correct FROM "
            f"{source(file[0])} r JOIN {source(others[0][0])} e ON e.example_id = r.example_id WHERE {condition}",
            parameters,
        ).to_pandas()
        for file in files
    ]
    return pd.concat(rows, ignore_index=True)


def regions(points: pd.DataFrame, quantiles: Quantiles) -> pd.Series:
    """Returns the region of each point among the points given: easy, ambiguous, hard; None if it is not known."""
    found = data_map_regions(
        points["confidence"].to_numpy(dtype=float),
        points["variability"].to_numpy(dtype=float),
        easy=quantiles.easy,
        hard=min(quantiles.hard, quantiles.easy),
        ambiguous=quantiles.ambiguous,
    )
    return pd.Series(found, index=points.index, dtype=object)


def region_examples(points: pd.DataFrame, region: str) -> pd.DataFrame:
    """Returns the points of a region: easy by highest confidence, ambiguous by highest variability, hard by lowest
    confidence."""
    own = points[points["region"] == region]
    by, rising = {
        "easy": ("confidence", False),
        "ambiguous": ("variability", False),
        "hard": ("confidence", True),
    }[region]
    return own.sort_values([by, "example_id"], ascending=[rising, True], kind="stable")


def by_group(points: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Returns the means of each group of points, in this order → group, examples, confidence, variability,
    correctness, and the share that lies in the hard region."""
    table = points.assign(hard=points["region"] == "hard").groupby("group")
    found = table[["confidence", "variability", "correctness", "hard"]].mean()
    found.insert(0, "examples", table.size())
    return found.reindex([name for name in names if name in found.index]).reset_index()
