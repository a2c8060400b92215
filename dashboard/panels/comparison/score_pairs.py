"""Agreement of two scores: matrices of rank correlation and of overlap, and the examples on which a pair disagrees
most.

The pair is in the address (``?a=`` and ``?b=``). A click on a cell and the two lists beside the chart set it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from dashboard.blinding import model_output
from dashboard.charts import comparison
from dashboard.charts.common import Chart
from dashboard.grid import example_grid
from dashboard.presenters import cells
from dashboard.queries.score_columns import ScoreColumn, find_column
from dashboard.queries.score_frames import Scores, correlation, overlap
from dashboard.style.formatting import count, number, percent, plain
from dashboard.widgets import grouping, inputs, page_frame
from scoring.audit import Audit, Run
from scoring.evaluation import (
    SHARES,
    between_groups,
    correlation_by_group,
    disagreement,
    rank_correlation,
)

SIZE = 12
MOST_CLASSES = 20
WITH, WITHOUT = "with label", "without label"
WORDS = {
    (WITH, WITH): "pairs of two scores that use the label",
    (WITHOUT, WITHOUT): "pairs of two scores that do not",
    (WITH, WITHOUT): "pairs of one score that uses the label and one that does not",
}
ALL_PAIRS, AGAINST = "all scores", "with the label against without"
NAMES = {"a": "Score", "b": "Against"}
TOPS = {f"{100 * value:.0f} %": value for value in SHARES}


def show_agreement(scores: Scores, names: Mapping[str, str], takes: Mapping[str, bool], method: str) -> None:
    """Shows the rank correlation of all pairs, similar scores next to each other, or of scores that use the label
    against those that do not."""
    table, order = correlation(scores, method.lower())
    rows, columns = pick_sides(order, takes)
    reading = (
        "Each cell is the rank correlation of two scores, oriented so that high means suspicious. Orange: both suspect "
        "the same examples. Blue: they suspect opposite examples. Pale: they are unrelated. Similar scores are next to "
        f"each other. {comparison.LABELLED} uses the given label, {comparison.UNLABELLED} does not. Click a cell to "
        "list the examples on which its two scores disagree."
    )
    if method == "Kendall":
        reading += " Kendall’s τ is computed on a sample of at most 2,000 examples."
    shown = table.loc[rows, columns]
    if shown.isna().any(axis=None):
        reading += " A cell is empty if one of its scores is constant on the examples that have both."
    marks, picked = _marks(takes), _picked(names)
    _clickable(
        comparison.matrix(shown, names, marks, picked, what="correlation", diverging=True, reading=reading), names
    )
    groups = between_groups(table, {a: WITH if takes[a] else WITHOUT for a in table.columns})
    means = [
        f"{WORDS[row.group_a, row.group_b]} {number(row.mean)} ({count(row.pairs, 'pair')})"
        for row in groups.itertuples()
    ]
    if means:
        st.markdown(f"Mean correlation: {'; '.join(means)}.")


def pick_sides(order: Sequence[str], takes: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Returns the scores for rows and columns: all of them, or those that use the label against those that do not."""
    sides = [address for address in order if takes[address]], [a for a in order if not takes[a]]
    if not all(sides):
        return list(order), list(order)
    which = inputs.switch("Pairs", (ALL_PAIRS, AGAINST), "pairs", ALL_PAIRS)
    return sides if which == AGAINST else (list(order), list(order))


def show_overlap(scores: Scores, names: Mapping[str, str], takes: Mapping[str, bool]) -> None:
    """Shows the overlap of the most suspicious examples of every two scores."""
    top = inputs.switch("Top", list(TOPS), "top", "5 %")
    _, order = correlation(scores, "spearman")
    table = overlap(scores)
    here = table[table["share"] == TOPS[top]]
    square = pd.DataFrame(1.0, index=order, columns=order)
    for row in here.itertuples():
        square.loc[row.a, row.b] = square.loc[row.b, row.a] = row.overlap
    chance = percent(float(here["chance"].mean()) if len(here) else None)
    _clickable(
        comparison.matrix(
            square,
            names,
            _marks(takes),
            _picked(names),
            what="overlap",
            diverging=False,
            reading=f"Each cell is the overlap of the {top} most suspicious examples by two scores. 1 means the same "
            f"examples; two unrelated scores share {chance}. Click a cell to list the examples on which its two "
            "scores disagree.",
        ),
        names,
    )
    with st.expander("Numbers"):
        shown = table.assign(
            a=table["a"].map(names),
            b=table["b"].map(names),
            share=100 * table["share"],
            overlap=100 * table["overlap"],
            chance=100 * table["chance"],
        )
        percent_column = st.column_config.NumberColumn(format="%.3g %%")
        st.dataframe(
            shown.rename(columns={"a": "score", "b": "against", "share": "top", "k": "examples in the top"}),
            column_config={"top": percent_column, "overlap": percent_column, "chance": percent_column},
            hide_index=True,
            placeholder=inputs.NONE,
        )


def _marks(takes: Mapping[str, bool]) -> dict[str, str]:
    return {address: comparison.LABELLED if label else comparison.UNLABELLED for address, label in takes.items()}


def _picked(names: Mapping[str, str]) -> tuple[str, str] | None:
    """Returns the pair in the address, before its widgets are shown."""
    back = {title: address for address, title in names.items()}
    first, second = (back.get(st.session_state.get(key) or st.query_params.get(key) or "") for key in NAMES)
    return (first, second) if first and second else None


def _clickable(chart: Chart, names: Mapping[str, str]) -> None:
    """Shows a matrix in which a click on a cell picks its pair."""

    def pick() -> None:
        points = ((st.session_state.get("matrix") or {}).get("selection") or {}).get("points") or []
        for point in points[:1]:
            for key, address in zip(NAMES, point.get("customdata") or (), strict=False):
                if address in names:
                    st.session_state[key] = names[address]

    inputs.show_chart(chart, "matrix", on_select=pick, selection_mode="points")


def pick_pair(scores: pd.DataFrame, names: Mapping[str, str]) -> tuple[str, str] | None:
    """Returns the pair chosen in two lists; a click on a cell sets the lists."""
    back = {names[address]: address for address in scores.columns}
    with st.container(horizontal=True, vertical_alignment="bottom"):
        first, second = (
            inputs.choose(label, list(back), key, placeholder="Choose a score, or click a cell", width=320)
            for key, label in NAMES.items()
        )
    return (back[first], back[second]) if first and second and first != second else None


def show_pair(
    audit: Audit,
    run: Run,
    scores: Scores,
    columns: Sequence[ScoreColumn],
    pair: tuple[str, str],
    names: Mapping[str, Any],
) -> None:
    """Shows one pair: numbers, the classes, and the examples on which they disagree most."""
    a, b = pair
    table = disagreement(scores.values[a], scores.values[b])
    rho = rank_correlation(scores.values[[a, b]]).loc[a, b]
    st.markdown(
        f"**{plain(names[a])}** and **{plain(names[b])}**: rank correlation {rho:.2f} over "
        f"{count(len(table), 'example')} with both scores."
    )
    if table.empty:
        return inputs.empty("No example here has both scores. Choose another split or class.")
    show_disagreement(audit, run, table, columns, pair, names)
    grouped = page_frame.current_grouping()
    if grouped is not None:
        named = grouping.group_by_example(audit, grouped).reindex(scores.values.index)
        groups = correlation_by_group(scores.values[a], scores.values[b], named)
        st.subheader(f"Correlation within each {plain(grouped.column)}", anchor=False)
        inputs.show_chart(comparison.by_group(groups, "group"), "pair_groups")
        grouping.explain(grouped)
    groups = correlation_by_group(scores.values[a], scores.values[b], scores.labels)
    if len(groups) > 1:
        with st.expander("Correlation within each class"):
            if len(groups) > MOST_CLASSES:
                st.caption(f"The {MOST_CLASSES} largest of {count(len(groups), 'class', 'classes')}.")
            inputs.show_chart(comparison.by_group(groups.head(MOST_CLASSES)), "pair_classes")
    return None


def show_disagreement(
    audit: Audit,
    run: Run,
    table: pd.DataFrame,
    columns: Sequence[ScoreColumn],
    pair: tuple[str, str],
    names: Mapping[str, Any],
) -> None:
    """Shows two panels of one grid: examples that only the first score suspects, and those that only the second
    suspects."""
    table, left_out = model_output.drop_hidden_rows(audit, table, table.index.tolist())
    if left_out:
        (st.caption if len(table) else inputs.empty)(left_out)
    if table.empty:
        return None
    one, other = table[table["difference"] > 0], table[table["difference"] < 0].iloc[::-1]
    longest = max(len(one), len(other))
    page = inputs.pick_page(longest, SIZE, (run.name, pair, len(table)), grid="pair_grid")
    url = cells.page_url()
    panels = [
        _panel(
            audit,
            run,
            part,
            page,
            columns,
            pair,
            names,
            f"Suspicious by {names[first]}, not suspicious by {names[second]}",
            url,
        )
        for part, first, second in ((one, *pair), (other, *reversed(pair)))
    ]
    if not longest:
        return inputs.empty("Both scores rank every example alike.")
    example_grid(
        [panel for panel in panels if panel["cells"]],
        key="pair_grid",
        columns=4,
        classes=audit.classes,
        issues=audit.issues,
        run=run.name,
        guidelines=inputs.guidelines(audit),
        turns=True,
    )
    return None


def _panel(
    audit: Audit,
    run: Run,
    part: pd.DataFrame,
    page: int,
    columns: Sequence[ScoreColumn],
    pair: tuple[str, str],
    names: Mapping[str, Any],
    title: str,
    url: str | None,
) -> dict[str, Any]:
    """Returns a page of one side of the disagreement."""
    places = range((page - 1) * SIZE, min(page * SIZE, len(part)))
    rows = part.iloc[places.start : max(places.stop, places.start)]
    made = cells.make_cells(audit, run, pa.table({"example_id": pa.array(rows.index, pa.string())}), None, url=url)
    about = " ".join(cells.score_help(column) for column in map(partial(find_column, columns), pair) if column)
    for place, cell, row in zip(places, made, rows.itertuples(), strict=True):
        evidence = {
            "scores": list(pair),
            "places": [round(row.place_a, 4), round(row.place_b, 4)],
            "rank": place + 1,
            "of": len(part),
        }
        score_help = (
            f"Percentile in the ranking (100 % is most suspicious): {names[pair[0]]} {percent(row.place_a)}, "
            f"{names[pair[1]]} {percent(row.place_b)}. {about}"
        )
        places_text = f"{100 * row.place_a:.0f} % · {100 * row.place_b:.0f} %"
        cell |= model_output.scored_cell(cell, places_text, score_help, evidence)
    note = f"{places.start + 1:,} to {places.stop:,} of {len(part):,}" if made else ""
    return {"title": title, "note": note, "cells": made}
