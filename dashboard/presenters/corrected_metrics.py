"""Metrics on corrected labels beside the metrics on given labels.

``add_corrected`` joins a page's own frame (accuracy per class, error per decile, slices) with
``scoring.corrections.corrected_metrics``. It adds the columns corrected (the metric on corrected labels) and changed
(number of labels that the review changed). Before the first correction both would be the same, so nothing is joined.

Cost: one join of the examples per new event, cached. Limit: of a blind test, groups with fewer than
``model_output.FEWEST_TEST_EXAMPLES`` changed labels are dropped, because the difference could reveal single
predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pandas as pd

from dashboard.auth.serving import serving
from dashboard.blinding import model_output, second_reader
from dashboard.queries import database, decisions
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import Selection, identifier, source
from dashboard.style.formatting import count, percent
from scoring.audit import Audit, Run
from scoring.corrections import corrected_metrics as metrics

ADDED = ("corrected", "changed")


def corrected_examples(audit: Audit, run: Run | None, selection: Selection | None = None) -> pd.DataFrame | None:
    """Returns ``scoring.corrections.corrected_metrics.judged`` of the selected examples; None where no label was
    changed."""
    if run is None or not run.predictions_path.is_file() or not (position := decisions.last_position(audit)):
        return None
    stamps = (
        database.stamp(audit.examples_path),
        database.stamp(run.predictions_path),
        database.stamp(audit.config_path),
    )
    found = _corrected_examples(serving().log_url, position, run.name, stamps)
    if selection is None or found is None:
        return found
    for column, value in (("split", selection.split), (selection.index, selection.class_name)):
        found = found if value is None else found[found[column] == value]
    found = found[~found["example_id"].isin(selection.left_out)] if selection.left_out else found
    return found[found["example_id"].isin(database.matching(audit, selection.meta))] if selection.meta else found


@lru_cache(maxsize=8)
def _corrected_examples(_url: str, _position: int, run_name: str, _stamps: tuple[Any, ...]) -> pd.DataFrame | None:
    audit = database.open_audit()
    path = audit.run(run_name).predictions_path
    predictions = database.sql(f"SELECT example_id, {identifier('prediction')} FROM {source(path)}").to_pandas()
    found = metrics.judged(database.labels(audit), predictions, decisions.open_log(audit), audit.policy)
    return found if (found["relabelled"] | ~found["kept"]).any() else None


def groups(audit: Audit, run: Run | None, by: list[str], selection: Selection | None = None) -> pd.DataFrame:
    """Returns accuracy on given and corrected labels per group; an empty table if no label was changed."""
    found = corrected_examples(audit, run, selection)
    if found is None:
        return pd.DataFrame(columns=[*by, *metrics.COLUMNS])
    return drop_revealing_rows(audit, metrics.by_group(found, by))


def drop_revealing_rows(audit: Audit, table: pd.DataFrame, split: str | None = None) -> pd.DataFrame:
    """Returns the rows that reveal no single example of a blind test. split: the split of all rows, if it is no
    column."""
    if not second_reader.policy(audit).is_blind:
        return table
    test = table["split"] == "test" if "split" in table else pd.Series(split in ("test", None), index=table.index)
    return table[~(test & (metrics.changed(table) < model_output.FEWEST_TEST_EXAMPLES))]


def add_corrected_classes(audit: Audit, run: Run | None, known: pd.DataFrame, selection: Selection) -> pd.DataFrame:
    """Returns accuracy per class and split, with the accuracy on corrected labels where some were changed."""
    return add_corrected(audit, run, known, selection, ["label", "split"])


def add_corrected(
    audit: Audit, run: Run | None, known: pd.DataFrame, selection: Selection, by: list[str]
) -> pd.DataFrame:
    """Returns accuracies by some columns, with the accuracy on corrected labels where some were changed."""
    found = groups(audit, run, by, selection)
    found = found.assign(changed=metrics.changed(found))
    return known.merge(found.loc[found["changed"] > 0, [*by, *ADDED]], on=by, how="left")


def add_corrected_deciles(
    audit: Audit, run: Run, column: ScoreColumn, selection: Selection, known: pd.DataFrame
) -> pd.DataFrame:
    """Returns error per decile, with the error on corrected labels where some were changed."""
    found = corrected_examples(audit, run, selection)
    if found is None or not len(found):
        return known
    table = metrics.by_decile(found, _scores(database.stamp(run.score_path(column.scorer)), column.name))
    if (
        second_reader.policy(audit).is_blind
        and selection.split in ("test", None)
        and metrics.changed(table).sum() < model_output.FEWEST_TEST_EXAMPLES
    ):
        return known
    table = table.assign(changed=metrics.changed(table))
    return known.merge(table.loc[table["changed"] > 0, ["decile", *ADDED]], on="decile", how="left")


def add_corrected_band(
    audit: Audit, runs: Mapping[str, pd.Series], selection: Selection, band: pd.DataFrame
) -> pd.DataFrame:
    """Returns the mean error per decile over runs, with the mean on corrected labels where some were changed.

    runs: name → its score by example_id, oriented as on the page.
    """
    found = {name: corrected_examples(audit, audit.run(name), selection) for name in runs}
    found = {name: rows for name, rows in found.items() if rows is not None and len(rows)}
    if not found:
        return band
    table = metrics.decile_band(found, runs)
    if (
        second_reader.policy(audit).is_blind
        and selection.split in ("test", None)
        and table["changed"].sum() < model_output.FEWEST_TEST_EXAMPLES
    ):
        return band
    table = table.rename(columns={"mean": "corrected", "deviation": "corrected_deviation"})
    return band.merge(
        table.loc[table["changed"] > 0, ["decile", "corrected_deviation", *ADDED]], on="decile", how="left"
    )


@lru_cache(maxsize=8)
def _scores(scores: database.Stamp, column: str) -> pd.Series:
    table = database.sql(f"SELECT example_id, {identifier(column)} v FROM {source(scores[0])}").to_pandas()
    return table.set_index("example_id")["v"]


def slice_accuracy_texts(audit: Audit, run: Run | None, members: pd.DataFrame) -> dict[int, str]:
    """Returns slice_id → its accuracy on corrected labels as text, for slices with changed labels."""
    found = corrected_examples(audit, run)
    if found is None:
        return {}
    table = metrics.by_slice(found, members)
    table = table.assign(changed=metrics.changed(table))
    return {
        int(row.slice_id): accuracy_text(row.corrected, row.changed) for row in table[table["changed"] > 0].itertuples()
    }


def accuracy_text(corrected: float, changed: float) -> str:
    """Returns an accuracy on corrected labels with the number of changed labels.

    >>> accuracy_text(0.75, 3)
    '75 % on corrected labels (3 changed)'
    """
    return f"{percent(corrected)} on corrected labels ({int(changed):,} changed)"


def note(table: pd.DataFrame) -> str:
    """Returns the note below a chart with corrected metrics; "" if no label was changed."""
    changed = round(table["changed"].fillna(0).sum()) if "changed" in table else 0
    return (
        f"◇ is the error on corrected labels, if some labels were changed ({count(changed, 'label')} in all)."
        if changed
        else ""
    )
