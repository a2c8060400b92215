"""/data-map: confidence and variability of each example's label during training, up to any recorded epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import pyarrow as pa
import streamlit as st

from dashboard.blinding import model_output
from dashboard.charts import data_map, lasso_geometry
from dashboard.grid import example_grid
from dashboard.panels.embedding_map import by_title
from dashboard.presenters import cells
from dashboard.queries import data_map_epochs, database, decisions
from dashboard.queries.data_map_epochs import REGIONS, Quantiles
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import Selection
from dashboard.queries.slicings import MOST_POINTS, subsample
from dashboard.style.formatting import command_line, count, number, percent, plain
from dashboard.widgets import grouping, inputs, lasso_select, page_frame
from scoring.audit import Audit, Run

COLOURS = ("correctness", "label", "region")
GROUP = "group"
SELECTED = "selected"
SIZE = 24
CUTS = {
    "easy": ("Easy: confidence above this quantile", 2 / 3),
    "hard": ("Hard: confidence below this quantile", 1 / 3),
    "ambiguous": ("Ambiguous: variability above this quantile", 2 / 3),
}


def show() -> None:
    """Shows the page."""
    shared = page_frame.current()
    audit, run, meta = shared.audit, shared.run, shared.meta
    trainings = run.training_names() if run else []
    if run is None or not trainings:
        return explain_no_training(audit, run)
    grouped = page_frame.current_grouping()
    colours = COLOURS if grouped is None else (*COLOURS, GROUP)
    scores = {
        title: column
        for title, column in by_title(database.score_columns(run)).items()
        if title not in (*COLOURS, GROUP)
    }
    with st.container(horizontal=True, vertical_alignment="bottom"):
        colour = inputs.choose("Colour by", [*colours, *scores], "colour", GROUP if grouped else COLOURS[0], width=240)
        split = inputs.pick_split(audit, "train", labelled=True)
        class_name = inputs.pick_class(audit)
        with st.popover("More", icon=":material/tune:"):
            training = inputs.choose("Recorded training", trainings, "training", trainings[0])
            quantiles = pick_quantiles()
    epoch = pick_epoch(data_map_epochs.epochs(run, training))
    selection = Selection(split, class_name, meta=meta)
    points = data_map_epochs.positions(audit, run, training, epoch, selection, scores.get(colour))
    if points.empty:
        return inputs.empty(
            "No recorded example matches these filters. A recorded training holds only the examples that it was "
            "trained on, with the labels of that time. Choose another split, class or filter."
        )
    points = points.assign(region=data_map_epochs.regions(points, quantiles))
    points, left_out = model_output.drop_hidden_rows(audit, points, points["example_id"].tolist())
    if left_out and points.empty:
        return inputs.empty(left_out)
    if left_out:
        st.caption(left_out)
    if grouped is not None:
        points = points.assign(group=points["example_id"].map(grouping.group_by_example(audit, grouped)))
    show_map(audit, run, points, colour, scores.get(colour), epoch)
    if grouped is not None:
        show_by_group(points, grouped)
    table = data_map_epochs.progress(audit, run, training, selection)
    if len(table) > 1:
        with st.expander("Learning curve of these examples"):
            inputs.show_chart(data_map.progress(table, epoch), "progress")
    return None


def show_by_group(points: pd.DataFrame, grouped: grouping.Grouping) -> None:
    """Shows the means of each group of the metadata column chosen in the sidebar."""
    st.subheader(f"By {plain(grouped.column)}", anchor=False)
    table = data_map_epochs.by_group(points, grouped.names)
    if table.empty:
        return inputs.empty(
            "None of these examples is in a group of this column. Choose another column under “Group by”."
        )
    for name in ("confidence", "variability"):
        table[name] = [number(value) for value in table[name]]
    for name in ("correctness", "hard"):
        table[name] = [percent(value) for value in table[name]]
    st.dataframe(table, hide_index=True, placeholder=inputs.NONE)
    st.caption(
        "Means over the examples of each group. “hard” is the share of its examples in the hard region. Look "
        "first at groups with low confidence and a large hard share."
    )
    grouping.explain(grouped)
    return None


def explain_no_training(audit: Audit, run: Run | None) -> None:
    """Shows why there is no map, and what to run."""
    if run is not None and not run.config:
        return inputs.empty("The predictions of this run were imported, so it has no recorded training.")
    return inputs.empty(
        "The data map needs a recorded training. `hardlook score` can also compute it from several "
        "checkpoints. This command trains the run’s model and records the training; "
        "[the manual](/help?topic=training-dynamics) shows how to record your own training loop:",
        command_line("train", audit, *(("--run", run.name) if run else ())),
    )


def pick_quantiles() -> Quantiles:
    """Returns the chosen limits of the regions."""
    found = {
        key: st.slider(f"{label}, %", 0, 100, round(100 * default), key=key, bind="query-params")
        for key, (label, default) in CUTS.items()
    }
    exact = {key: CUTS[key][1] if value == round(100 * CUTS[key][1]) else value / 100 for key, value in found.items()}
    if exact["hard"] > exact["easy"]:
        inputs.warn("The quantile for hard is above the one for easy. Both use the quantile of easy.")
    return Quantiles(**exact)


def pick_epoch(epochs: list[int]) -> int:
    """Returns the epoch up to which the map is computed; arrow keys change it."""
    if len(epochs) == 1:
        st.caption("Only one epoch was recorded, so variability is 0 everywhere.")
        return epochs[0]
    names = [str(epoch) for epoch in epochs]
    value = st.select_slider(
        "After epoch",
        names,
        names[-1],
        key="epoch",
        bind="query-params",
        help="The map uses the epochs up to this one. Move it with the arrow keys to see how a class was learned.",
    )
    return int(value) if value in names else epochs[-1]


def show_map(audit: Audit, run: Run, points: pd.DataFrame, colour: str, column: ScoreColumn | None, epoch: int) -> None:
    """Shows the chart, and below it the examples of a region or of the lasso selection."""
    flagged = decisions.state_at(audit)["flagged"]
    plotted = subsample(points, "label", always=flagged).reset_index(drop=True)
    summary = f"{count(len(points), 'example')} after epoch {epoch}."
    if len(plotted) < len(points):
        summary = (
            f"{len(plotted):,} of {count(len(points), 'example')} after epoch {epoch}. The chart shows at most "
            f"{MOST_POINTS:,} points: all flagged examples and an equal share of each class. The regions below "
            "hold all examples."
        )
    chart = data_map.data_map(
        plotted, colour, column.title if column else "correctness", lasso_select.pending("data_map")
    )
    outlines = lasso_select.show_lasso_chart(chart, "data_map", summary)
    sizes = points["region"].value_counts()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        which = pick_region(bool(outlines))
        if outlines:
            lasso_select.clear_button("data_map")
    parts = ", ".join(f"{sizes.get(name, 0):,} {name}" for name in REGIONS)
    st.caption(f"{parts}. The limits are quantiles over these examples; change them under More.")
    if which == SELECTED:
        inside = lasso_geometry.points_inside(
            points["variability"].to_numpy(), points["confidence"].to_numpy(), outlines
        )
        found = points[inside].sort_values(["confidence", "example_id"], kind="stable")
        what, about = "Selected, lowest confidence first", {"lasso": lasso_geometry.to_text(outlines)}
    else:
        found = data_map_epochs.region_examples(points, which)
        what = {
            "easy": "Easy, highest confidence first",
            "ambiguous": "Ambiguous, highest variability first",
            "hard": "Hard, lowest confidence first",
        }[which]
        about = {"region": which}
    show_examples(audit, run, found, what, {**about, "epoch": epoch})


def pick_region(has_lasso: bool) -> str:
    """Returns a region, or the lasso selection, to which a new lasso switches."""
    names = [SELECTED, *REGIONS] if has_lasso else list(REGIONS)
    if has_lasso and st.session_state.get("_data_map_had") is False:
        st.session_state["examples"] = SELECTED
    st.session_state["_data_map_had"] = has_lasso
    return inputs.switch("Examples", names, "examples", SELECTED if has_lasso else "hard")


def show_examples(audit: Audit, run: Run, found: pd.DataFrame, what: str, about: Mapping[str, Any]) -> None:
    """Shows a page of examples in the grid, with the keys of every grid."""
    if found.empty:
        return inputs.empty("No example is in this region.")
    page = inputs.pick_page(len(found), SIZE, (run.name, what, tuple(about.items())), grid="data_map_grid")
    places = range((page - 1) * SIZE, min(page * SIZE, len(found)))
    rows = found.iloc[places.start : places.stop]
    table = pa.table({"example_id": pa.array(rows["example_id"], pa.string())})
    made = cells.make_cells(audit, run, table, None, url=cells.page_url())
    for place, cell, row in zip(places, made, rows.itertuples(), strict=True):
        score_help = (
            f"Mean probability of the label: {number(row.confidence)}, standard deviation: {number(row.variability)}. "
            f"Predicted right in {row.correctness:.0%} of the epochs up to {about['epoch']}."
        )
        about_one = {
            **about,
            "confidence": round(row.confidence, 4),
            "variability": round(row.variability, 4),
            "rank": place + 1,
            "of": len(found),
        }
        cell |= model_output.scored_cell(cell, f"{row.confidence:.2f} ± {row.variability:.2f}", score_help, about_one)
    note = f"{places.start + 1:,} to {places.stop:,} of {len(found):,}"
    example_grid(
        [{"title": what, "note": note, "cells": made}],
        key="data_map_grid",
        columns=8,
        classes=audit.classes,
        issues=audit.issues,
        run=run.name,
        guidelines=inputs.guidelines(audit),
        turns=True,
    )
    return None


show()
