"""The map of influence embeddings: its colours, its lasso selection, and the opponents and proponents of the selection.

The outline is in the address (``?lasso=``), so a link shows the same examples. The points inside are computed here. At
most ``slicings.MOST_POINTS`` points are sent to the browser.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from dashboard.blinding import model_output
from dashboard.charts import lasso_geometry, slice_charts
from dashboard.panels import influential_examples, jobs
from dashboard.queries import database, decisions, slicings
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import MetaFilter, Selection
from dashboard.queries.slicings import IN_NO_SLICE, Slicing
from dashboard.style.formatting import command_line, count
from dashboard.widgets import grouping, inputs, lasso_select, page_frame
from scoring.audit import SPLITS, Audit, Run

LEGEND = 24
"""Maximum number of groups in the legend; smaller groups share one entry."""
COLOURS = ("slice", "label", "correctness")
GROUP = "group"


def show_map(
    audit: Audit, run: Run, meta: tuple[MetaFilter, ...], columns: Sequence[ScoreColumn], slicing: Slicing
) -> None:
    """Shows the map, and below it the selected examples between their opponents and proponents."""
    if not run.map_path.is_file():
        inputs.empty(
            "There is no map of the influence embeddings yet. This command computes the map and saves a slicing:",
            command_line("slice", audit, "--run", run.name),
        )
        return jobs.show_job(audit, run, "Compute the map", "slice")
    scores = by_title(columns)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        grouped = page_frame.current_grouping()
        colours = COLOURS if grouped is None else (*COLOURS, GROUP)
        colour = inputs.choose("Colour by", [*colours, *scores], "colour", GROUP if grouped else COLOURS[0], width=300)
        split = pick_split(audit, slicing.settings.split)
    selection = Selection(split, meta=meta)
    points = place_in_slices(slicings.map_points(audit, run, selection, scores.get(colour)), slicing)
    on_map = len(points)
    points, left_out = model_output.drop_hidden_rows(audit, points, points["example_id"].tolist())
    hidden = on_map - len(points)
    if points.empty:
        return inputs.empty(left_out or "No example on the map matches these filters.")
    if left_out:
        st.caption(left_out)
    if grouped is not None:
        points = points.assign(group=points["example_id"].map(grouping.group_by_example(audit, grouped)))
    plotted = slicings.subsample(points, "label", always=decisions.state_at(audit)["flagged"]).reset_index(drop=True)
    labelled = int(database.counts(audit, selection, ["split"])["labelled"].sum())
    outlines = show_points(plotted, colour, slicing, count_text(len(plotted), labelled - hidden))
    return show_selected(audit, run, plotted, outlines)


def by_title(columns: Sequence[ScoreColumn]) -> dict[str, ScoreColumn]:
    """Returns scores by their title, or by their address if the title is not unique."""
    titles = [column.title for column in columns]
    return {
        c.title if titles.count(c.title) == 1 else c.address: c for c in columns if c.title not in (*COLOURS, GROUP)
    }


def pick_split(audit: Audit, default: str) -> str | None:
    """Returns the split on the map; None for all that have labels."""
    counts = database.counts(audit, Selection(), ["split"])
    there = set(counts["split"][counts["labelled"] > 0])
    options = ["all", *(split for split in SPLITS if split in there)]
    value = inputs.switch("On the map", options, "on_map", default)
    return None if value == "all" else value


def place_in_slices(points: pd.DataFrame, slicing: Slicing) -> pd.DataFrame:
    """Returns the points with their slice_id, ``NONE`` for examples in no slice."""
    ids = slicing.members.set_index("example_id")["slice_id"]
    return points.assign(slice_id=points["example_id"].map(ids).fillna(IN_NO_SLICE).astype(int))


def count_text(plotted: int, labelled: int) -> str:
    """Returns how many points are shown, and why not all.

    >>> count_text(497, 497)
    '497 examples.'
    """
    if plotted >= labelled:
        return f"{count(plotted, 'example')}."
    most = f"{slicings.MOST_POINTS:,}"
    return (
        f"{plotted:,} of {count(labelled, 'labelled example')}. The map is computed for at most {most} examples "
        f"of each split and shows at most {most} points: all flagged examples and an equal share of each "
        "class. Unreadable examples are not on the map."
    )


def groups(points: pd.DataFrame, colour: str, slicing: Slicing) -> list[tuple[str, pd.Series]]:
    """Returns the groups of points that ``colour`` distinguishes: (name, rows), in the order of the legend."""
    if colour == "correctness":
        correct = points["correct"]
        rows = [correct.eq(True).fillna(False), correct.eq(False).fillna(False), correct.isna()]
        return list(zip((slice_charts.RIGHT, slice_charts.MISSED, slice_charts.UNKNOWN), rows, strict=True))
    if colour in ("label", GROUP):
        sizes = points[colour].value_counts()
        named = [(name, points[colour] == name) for name in sizes.index]
        rest = (f"no {colour}", points[colour].isna())
    else:
        there = set(points["slice_id"])
        order = [one["slice_id"] for one in slicing.slices if one["slice_id"] in there]
        named = [(f"slice {slice_id}", points["slice_id"] == slice_id) for slice_id in order]
        rest = (slice_charts.IN_NO_SLICE, points["slice_id"] == IN_NO_SLICE)
    shown = named if len(named) == LEGEND + 1 else named[:LEGEND]  # a single remaining group keeps its own entry
    others = pd.Series(False, index=points.index)
    for _, rows in named[len(shown) :]:
        others |= rows.fillna(False)
    return [(name, rows.fillna(False)) for name, rows in (*shown, (slice_charts.OTHERS, others), rest)]


def show_points(points: pd.DataFrame, colour: str, slicing: Slicing, summary: str) -> list[lasso_geometry.Outline]:
    """Shows the chart and returns the outlines drawn on it or given in the address."""
    outlines = lasso_select.pending("map")
    if colour in (*COLOURS, GROUP):
        chart = slice_charts.influence_map(points, groups(points, colour, slicing), outlines)
    else:
        chart = slice_charts.score_map(points, colour, outlines)
    return lasso_select.show_lasso_chart(chart, "map", summary)


def show_selected(audit: Audit, run: Run, points: pd.DataFrame, outlines: list[lasso_geometry.Outline]) -> None:
    """Shows the examples inside the outlines, wrongly predicted ones first."""
    if not outlines:
        return
    inside = points[lasso_geometry.points_inside(points["x"].to_numpy(), points["y"].to_numpy(), outlines)]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(f"{count(len(inside), 'example')} selected", anchor=False, width="content")
        lasso_select.clear_button("map")
    if inside.empty:
        return
    wrong = int(inside["correct"].eq(False).sum())
    st.caption(f"{wrong:,} predicted wrong, listed first." if wrong else "None of them is predicted wrong.")
    ordered = inside.assign(right=inside["correct"].fillna(True)).sort_values(["right", "example_id"], kind="stable")
    about = {"lasso": lasso_geometry.to_text(outlines)}
    influential_examples.show_influential(
        audit, run, ordered["example_id"].tolist(), "Selected", key="map_grid", evidence=about
    )
