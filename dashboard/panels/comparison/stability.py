"""Stability of scores: one score in several runs (seeds, batch sizes), and VoG of three checkpoints against all.

Compared are the runs of one audit that have a score of the same name. The runs are in the address (``?of=``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa
import streamlit as st

from dashboard.blinding import model_output
from dashboard.charts import comparison
from dashboard.grid import example_grid
from dashboard.panels.corrected_metrics import warn_about_test
from dashboard.presenters import cells, corrected_metrics
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.score_frames import (
    Scores,
    main_variants,
    model_errors,
    runs_with_score,
    score_by_run,
    stages,
    unique_titles,
)
from dashboard.queries.selection import Selection
from dashboard.style.formatting import command_line, count, listed, number, percent
from dashboard.widgets import inputs
from scoring.audit import Audit, Run
from scoring.evaluation import (
    decile_band,
    decile_errors_by_run,
    deviation_per_example,
    rank_correlation,
    run_agreement,
)

SIZE = 24


def show_stability(
    audit: Audit,
    run: Run,
    shown: Sequence[ScoreColumn],
    columns: Sequence[ScoreColumn],
    scores: Scores,
    selection: Selection,
) -> None:
    """Shows the correlation between runs for the scores ``shown``, one of them in detail, and three checkpoints
    against all."""
    names = pick_runs(audit)
    if len(names) > 1:
        show_runs(audit, run, shown, selection, names)
    else:
        inputs.empty(
            "Only one run has scores. Stability compares scores of the same model trained with different seeds. "
            "This command adds, trains and scores runs with two more seeds:",
            command_line("repeat", audit, "--run", run.name, "--seeds", "1,2"),
        )
    show_few_checkpoints(columns, scores)


def pick_runs(audit: Audit) -> list[str]:
    """Returns the runs to compare: all that have scores, unless the address names some."""
    there = [name for name in audit.run_names() if audit.run(name).score_names()]
    if len(there) < 2:
        return there
    found = st.multiselect("Runs", there, default=there, key="of", bind="query-params")
    return [name for name in there if name in found]


def show_runs(
    audit: Audit, run: Run, columns: Sequence[ScoreColumn], selection: Selection, names: Sequence[str]
) -> None:
    """Shows the correlation between runs for all scores, then one score in detail."""
    title = unique_titles(columns)
    frames = {}
    for column in columns:
        runs = {name: found for name, found in runs_with_score(audit, column.address).items() if name in names}
        if len(runs) > 1:
            frames[column.address] = score_by_run(audit, runs, selection)
    tables = [run_agreement(frame).assign(score=address) for address, frame in frames.items()]
    tables = [table for table in tables if table["rho"].notna().any()]
    if not tables:
        return inputs.empty(
            f"The runs {listed(names)} have no score in common on these examples. This command computes scores:",
            command_line("score", audit, "--run", names[-1]),
        )
    st.subheader("Rank correlation between runs", anchor=False)
    inputs.show_chart(comparison.run_correlations(pd.concat(tables, ignore_index=True), title), "steadiness")
    there = [table["score"].iloc[0] for table in tables]
    return show_one(audit, run, columns, selection, {title[a]: a for a in there}, frames)


def show_one(
    audit: Audit,
    run: Run,
    columns: Sequence[ScoreColumn],
    selection: Selection,
    back: Mapping[str, str],
    frames: Mapping[str, pd.DataFrame],
) -> None:
    """Shows one score in all runs: error per decile with bands, and the examples whose position varies most."""
    st.subheader("One score in all runs", anchor=False)
    address = back[inputs.choose("Score", list(back), "one", next(iter(back)), width=320)]
    values = frames[address]
    errors = {name: model_errors(audit, audit.run(name), selection) for name in values}
    by_run = decile_errors_by_run({name: values[name] for name in values}, errors)
    if by_run["n"].sum():
        show_errors(audit, by_run, values, selection)
    else:
        st.caption("Error per decile needs examples with a label and a prediction.")
    moved = deviation_per_example(values).sort_values("place_deviation", ascending=False, kind="stable")
    moved = moved[moved["place_deviation"].notna()]
    typical = moved["place_deviation"].median()
    st.markdown(
        f"Over {count(values.shape[1], 'run')} and {count(len(moved), 'example')}: the median standard "
        f"deviation of an example's position in the ranking is {percent(typical)} of the ranking. The median "
        f"standard deviation of its score is {number(moved['deviation'].median())}."
    )
    inputs.show_chart(comparison.deviations(moved), "deviations")
    column = next(column for column in columns if column.address == address)
    show_moving(audit, run, moved, column, list(values))


def show_errors(audit: Audit, by_run: pd.DataFrame, values: pd.DataFrame, selection: Selection) -> None:
    """Shows the error per decile in all runs, and their mean also on corrected labels, if some were changed."""
    band = corrected_metrics.add_corrected_band(
        audit, {name: values[name] for name in values}, selection, decile_band(by_run)
    )
    inputs.show_chart(comparison.decile_runs(by_run, band), "decile_runs")
    note = corrected_metrics.note(band)
    if note:
        st.caption(note)
        if selection.split != "train":
            warn_about_test(audit)


def show_moving(audit: Audit, run: Run, moved: pd.DataFrame, column: ScoreColumn, runs: Sequence[str]) -> None:
    """Shows the examples whose position in the ranking varies most between runs."""
    moved, left_out = model_output.drop_hidden_rows(audit, moved, moved.index.tolist())
    if left_out:
        (st.caption if len(moved) else inputs.empty)(left_out)
    if moved.empty:
        return
    page = inputs.pick_page(len(moved), SIZE, (run.name, column.address, tuple(runs)), grid="moving")
    places = range((page - 1) * SIZE, min(page * SIZE, len(moved)))
    rows = moved.iloc[places.start : places.stop]
    made = cells.make_cells(
        audit, run, pa.table({"example_id": pa.array(rows.index, pa.string())}), None, url=cells.page_url()
    )
    for place, cell, row in zip(places, made, rows.itertuples(), strict=True):
        score_help = (
            f"Mean position in the ranking by {column.title}: {percent(row.place)}, standard deviation "
            f"{percent(row.place_deviation)} over {count(int(row.runs), 'run')}. {cells.score_help(column)}"
        )
        evidence = {
            "score": column.address,
            "runs": list(runs),
            "place_deviation": round(row.place_deviation, 4),
            "rank": place + 1,
            "of": len(moved),
        }
        cell |= model_output.scored_cell(cell, f"± {100 * row.place_deviation:.0f} %", score_help, evidence)
    note = f"{places.start + 1:,} to {places.stop:,} of {len(moved):,}"
    example_grid(
        [{"title": "Position in the ranking varies most between runs", "note": note, "cells": made}],
        key="moving",
        columns=8,
        classes=audit.classes,
        issues=audit.issues,
        run=run.name,
        guidelines=inputs.guidelines(audit),
        turns=True,
    )


def show_few_checkpoints(columns: Sequence[ScoreColumn], scores: Scores) -> None:
    """Shows the correlation of scores from the first or last three checkpoints with scores from all."""
    if not {"all", "late"} <= set(stages(columns)):
        return
    rows = []
    for column in main_variants(columns, "all"):
        if column.steps.get("stage") != "all" or column.address not in scores.values:
            continue
        row = {"score": column.title}
        for stage, word in (("early", "first three and all"), ("late", "last three and all")):
            few = _same_at(columns, column, stage)
            if few is not None and few.address in scores.values:
                pair = scores.values[[column.address, few.address]]
                # undo the orientation: agreement with all checkpoints does not depend on the hard end
                flip = 1.0 if few.hard_end == column.hard_end or "low" not in (few.hard_end, column.hard_end) else -1.0
                row[word] = flip * rank_correlation(pair).iloc[0, 1]
        rows.append(row)
    if rows:
        st.subheader("Three checkpoints or all", anchor=False)
        st.dataframe(
            pd.DataFrame(rows),
            hide_index=True,
            placeholder=inputs.NONE,
            width="content",
            column_config={name: st.column_config.NumberColumn(format="%.3g") for name in rows[0] if name != "score"},
        )
        st.caption(
            "Rank correlation between a score computed from three checkpoints and the same score computed from "
            "all checkpoints. If it is near 1, three checkpoints are enough. To test other scores with fewer "
            "checkpoints, add a run whose `checkpoints` name fewer files."
        )


def _same_at(columns: Sequence[ScoreColumn], column: ScoreColumn, stage: str) -> ScoreColumn | None:
    """Returns the same variant of a score at another stage."""
    steps = {**column.steps, "stage": stage}
    return next((c for c in columns if c.scorer == column.scorer and dict(c.steps) == steps), None)
