"""/grid: the examples with the lowest and the highest values of a score, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import streamlit as st

from dashboard.blinding import model_output
from dashboard.grid import example_grid
from dashboard.panels.duplicates import near_duplicates_of
from dashboard.presenters import cells
from dashboard.queries import database
from dashboard.queries.score_columns import ScoreColumn, describe_ends, first_column, start_column
from dashboard.queries.selection import Selection
from dashboard.review_session.frozen_ranking import frozen_ranking
from dashboard.style.formatting import command_line, count, plain, quoted, shorten
from dashboard.widgets import grouping, inputs, manual, page_frame
from dashboard.widgets.browser_history import OPENS
from scoring.audit import Audit, Run

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

SIDES = {"5 × 5": 5, "6 × 6": 6, "8 × 8": 8, "10 × 10": 10}
PANELS = ("both", "lowest", "highest")
NAMED = {"example": ("example_id", "Example"), "same": ("fingerprint", "Examples with the content")}
MOST_GROUPS, GROUP_ROWS = 8, 2
"""Maximum number of groups on the page, and rows of images per end of each."""
ENDS = {"lowest": "low", "highest": "high"}
GONE = "This audit has no such example. It may have been removed, or it belongs to another audit."


def show() -> None:
    """Shows the page."""
    for key, (column, what) in NAMED.items():
        if key in st.query_params:
            value = st.query_params[key]
            return show_some(database.find(page_frame.current().audit, column, value), f"{what} {quoted(value, 200)}")
    if "near" in st.query_params:
        shared, value = page_frame.current(), st.query_params["near"]
        found = near_duplicates_of(shared.audit, shared.run, value)
        none = "This example is in no group of near duplicates of this run."
        return show_some(found, f"Near duplicates of {quoted(value, 200)}, by features", none)
    audit, run, meta, columns = page_frame.scored_run()
    with (bar := st.container(horizontal=True, vertical_alignment="bottom")):
        chosen = inputs.pick_score(columns, opening(columns))
        split = inputs.pick_split(audit)
        class_name = inputs.pick_class(audit)
        decision = inputs.pick_decision()
        with st.popover("More", icon=":material/tune:"):
            panels = inputs.switch("Ends", PANELS, "ends", "both")
            side = SIDES[inputs.switch("Size of each", list(SIDES), "size", "5 × 5")]
            decile = inputs.choose("Decile of the score", [str(d) for d in range(1, 11)], "decile", placeholder="All")
    index = chosen.steps.get("index", "label")
    selection = Selection(split, class_name, index, meta, decision, decile=int(decile) if decile else None)
    explain(audit, run, chosen)
    inputs.remark(why_here(columns, chosen))
    table, left_out = model_output.drop_hidden(audit, frozen_ranking(audit, run, chosen, selection, "grid"))
    if left_out and not table.num_rows:
        return inputs.empty(f"{left_out} Review them one by one in a session on the page Suspects.")
    if left_out:
        st.caption(left_out)
    grouped = page_frame.current_grouping(MOST_GROUPS)
    if grouped is not None and table.num_rows:
        return show_groups(bar, audit, run, chosen, selection, table, side, panels, grouped)
    return show_ends(bar, audit, run, chosen, selection, table, side, panels)


def opening(columns: Sequence[ScoreColumn]) -> ScoreColumn:
    """Returns the score for an address that names none: VoG late of the logit, so that old links keep their meaning.
    If the address has no parameters at all, it is ``start_column``, and the address then names it (``?opens=``)."""
    first, start = first_column(columns), start_column(columns)
    opening_place = st.query_params.get(OPENS)
    if opening_place is not None:
        rest = {step: first.steps.get(step) for step in ("index", "normalised")}
        return next(
            (
                c
                for c in columns
                if c.scorer == first.scorer
                and place(c) == opening_place
                and all(c.steps.get(step) == value for step, value in rest.items())
            ),
            first,
        )
    if start is first or any(not name.startswith(page_frame.SHARED_KEYS) for name in st.query_params):
        return first
    st.query_params[OPENS] = place(start)
    return start


def place(column: ScoreColumn) -> str:
    """Returns stage and form of a variant as in the address."""
    return f"{column.steps.get('stage')} {column.steps.get('form')}"


def why_here(columns: Sequence[ScoreColumn], column: ScoreColumn) -> str | None:
    """Returns why the grid opens with another variant than the default."""
    first = first_column(columns)
    if column is first or column is not start_column(columns):
        return None
    if (first.direction or {}).get("n") == 0:
        return (
            f"The grid opens with this score because *{plain(first.title)}* has no values in this run. The page "
            "Overview gives the reason."
        )
    return (
        f"The grid opens with this variant because neither end of *{plain(first.title)}* is hard on held-out "
        "examples of this run. This variant has the strongest rank correlation with the model's errors."
    )


def explain(audit: Audit, run: Run, column: ScoreColumn) -> None:
    """Shows what the score means and which end is hard here."""
    warning, sentence = describe_ends(column)
    st.caption(
        f"**{plain(column.title)}.** {'' if warning else sentence} {manual.score_link(column.scorer)}",
        help=cells.score_help(column),
    )
    if warning:
        inputs.warn(sentence)
    page_frame.warn_about_stages(run, column)
    if column.steps.get("normalised") == "z":
        warn_about_small_classes(audit)


def warn_about_small_classes(audit: Audit) -> None:
    """Warns about classes with a single example in a split, whose z-score is 0."""
    sizes = database.counts(audit, Selection(), ["label", "split"]).dropna(subset=["label"])
    alone = int((sizes["n"] == 1).sum())
    if alone:
        what = count(alone, "class", "classes")
        st.caption(f"{what} with only one example in a split: too small to rank, so the z-score there is 0.")


def show_ends(
    bar: DeltaGenerator,
    audit: Audit,
    run: Run,
    column: ScoreColumn,
    selection: Selection,
    table: pa.Table,
    side: int,
    panels: str,
) -> None:
    """Shows both ends of the ranking in one grid, so that keys work across both."""
    n = table.num_rows
    if n == 0:
        return explain_nothing(audit, run, column, selection)
    warn_if_constant(table)
    shown, reach = reach_of(panels, n)
    size = side * side
    with bar:
        page = inputs.pick_page(
            max(reach.values()), size, (run.name, column.address, selection, side, panels), grid="grid"
        )
    url = cells.page_url()
    grids = [
        panel(audit, run, column, table, end, range((page - 1) * size, min(page * size, reach[end])), url)
        for end in shown
    ]
    following = [
        at for end in shown for at in places_of(end, n, range(page * size, min((page + 1) * size, reach[end])))
    ]
    draw(audit, run, grids, side, table["example_id"].take(pa.array(following, pa.int64())).to_pylist())
    return None


def show_groups(
    bar: DeltaGenerator,
    audit: Audit,
    run: Run,
    column: ScoreColumn,
    selection: Selection,
    table: pa.Table,
    side: int,
    panels: str,
    grouped: grouping.Grouping,
) -> None:
    """Shows both ends within each group of a metadata column, the groups below each other in one grid."""
    parts = grouping.split_ranking(audit, grouped, table)
    if not parts:
        return inputs.empty(
            f"None of these examples is in a group of {plain(grouped.column)}. Choose another column under “Group by”."
        )
    reaches = {name: reach_of(panels, part.num_rows) for name, part in parts.items()}
    size = side * GROUP_ROWS
    longest = max(max(reach.values()) for _, reach in reaches.values())
    with bar:
        page = inputs.pick_page(
            longest, size, (run.name, column.address, selection, side, panels, grouped), grid="grid"
        )
    grouping.explain(grouped)
    url, grids = cells.page_url(), []
    for name, part in parts.items():
        shown, reach = reaches[name]
        for end in shown:
            one = panel(audit, run, column, part, end, range((page - 1) * size, min(page * size, reach[end])), url)
            grids.append(one | {"title": f"{shorten(name, 40)} · {one['title']}"})
    return draw(audit, run, grids, side)


def warn_if_constant(table: pa.Table) -> None:
    """Warns if all scores are equal."""
    bounds = pc.min_max(table["score"]).as_py()
    if bounds["min"] == bounds["max"]:
        inputs.warn("All scores here are equal, so there is nothing to rank.")


def reach_of(panels: str, n: int) -> tuple[list[str], dict[str, int]]:
    """Returns which ends are shown, and how many examples each lists. Both ends together list every example once;
    the middle one belongs to the lowest."""
    if panels == "both":
        return ["lowest", "highest"], {"lowest": n - n // 2, "highest": n // 2}
    return [panels], {panels: n}


def draw(audit: Audit, run: Run, grids: list[dict[str, Any]], side: int, ahead: Sequence[str] = ()) -> None:
    """Shows the non-empty panels in one grid, so that keys work across all of them."""
    example_grid(
        [one for one in grids if one["cells"]],
        ahead=ahead,
        key="grid",
        columns=side,
        classes=audit.classes,
        issues=audit.issues,
        run=run.name,
        guidelines=inputs.guidelines(audit),
        turns=True,
    )


def places_of(end: str, n: int, places: range) -> list[int]:
    """Returns rows of a ranking, lowest first, by their place from one of its ends."""
    return list(places) if end == "lowest" else [n - 1 - place for place in places]


def panel(
    audit: Audit, run: Run, column: ScoreColumn, table: pa.Table, end: str, places: range, url: str | None
) -> dict[str, Any]:
    """Returns one page of one end of the ranking; the extreme comes first."""
    n = table.num_rows
    rows = table.take(pa.array(places_of(end, n, places), pa.int64()))
    made = cells.make_cells(audit, run, rows, column, ranks=[place + 1 for place in places], of=n, url=url)
    hard = column.hard_end == ENDS[end]
    word = ("suspicious" if column.suspicious in ENDS.values() else "hard here") if hard else ""
    title = f"{end.capitalize()} · {word}" if word else end.capitalize()
    note = f"{places.start + 1:,} to {places.stop:,} of {n:,}" if made else ""
    return {"title": title, "note": note, "cells": made}


def explain_nothing(audit: Audit, run: Run, column: ScoreColumn, selection: Selection) -> None:
    """Shows why no example is listed, and what to do."""
    if selection != Selection(index=selection.index):
        whole = database.ranking(audit, run, column, Selection(index=selection.index)).num_rows
        if whole:
            return inputs.empty(
                f"None of the {count(whole, 'scored example')} matches these filters. Clear a filter above or in the "
                "sidebar."
            )
    return inputs.empty(
        "No example has this score. Scores that use the label need labelled examples, and unreadable "
        "examples have no scores.",
        command_line("score", audit, "--run", run.name),
    )


def show_some(found: list[str], what: str, none: str = GONE) -> None:
    """Shows a few examples by id, for links from other pages; ``none``: the sentence if there are none."""
    shared = page_frame.current()
    audit, run = shared.audit, shared.run
    st.markdown(what)
    st.page_link(
        "views/grid.py",
        label="Back to the full grid",
        icon=":material/arrow_back:",
        query_params={"run": run.name} if run else None,
    )
    if not found:
        return inputs.empty(none)
    made = cells.make_cells(
        audit, run, pa.table({"example_id": found}), None, suggest=run is not None, url=cells.page_url()
    )
    example_grid(
        [{"title": "", "note": "", "cells": made}],
        key="some",
        columns=min(5, max(3, len(found))),
        classes=audit.classes,
        issues=audit.issues,
        run=run.name if run else None,
        guidelines=inputs.guidelines(audit),
    )
    return None


show()
