"""/suspects: examples ranked by a score, most suspicious first, reviewed one by one in a session or many on a sheet.

The order does not change during a review (``dashboard.review_session.frozen_ranking``). A session lists the examples
that are still to review and starts where its reviewer stopped (``dashboard.review_session.queue``). The sheet lists
all examples.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import hidden_controls, model_output, second_reader
from dashboard.grid import example_grid
from dashboard.grid.session import review_session
from dashboard.panels import corrected_metrics
from dashboard.presenters import cells
from dashboard.queries import database, decisions
from dashboard.queries.score_columns import ScoreColumn, describe_ends, find_column
from dashboard.queries.selection import META, Selection
from dashboard.review_session import pipeline
from dashboard.review_session import queue as queueing
from dashboard.review_session.arrangement import Arrangement
from dashboard.review_session.frozen_ranking import FrozenRanking, frozen
from dashboard.review_session.pipeline import QueueRequest
from dashboard.style.formatting import plain
from dashboard.widgets import inputs, manual, page_frame
from scoring.audit import Audit, Run
from scoring.reviews.sessions import model_of

SUSPICIOUS, OTHER = ORDERS = ("suspicious first", "other end first")
SESSION, SHEET = VIEWS = ("Session", "Sheet")
SIZES = {"12": 6, "24": 8, "48": 8, "100": 10}
"""Examples per page of the sheet → number of columns."""
PAGE = "suspects"


def show() -> None:
    """Shows the page."""
    audit, run, meta, columns = page_frame.scored_run()
    with (bar := st.container(horizontal=True, vertical_alignment="bottom")):
        shown_as = inputs.switch("View", VIEWS, "view", SESSION)
        split = inputs.pick_split(audit, "train")
        start = database.start_order(audit, run, split or "train")
        home = find_column(columns, start.score if start else None) or first_with_values(audit, run, columns, split)
        column = inputs.pick_score(columns, home)
        class_name = inputs.pick_class(audit)
        decision = inputs.pick_decision() if shown_as == SHEET else None
        with st.popover("More", icon=":material/tune:"):
            decision = inputs.pick_decision("To review") if shown_as == SESSION else decision
            suggested = inputs.choose("Suggested label", audit.classes, "suggested", placeholder="Any")
            order = inputs.switch("Order", ORDERS, "order", SUSPICIOUS)
            group = pick_group(audit)
            mixed = shown_as == SESSION and pick_controls(audit, split, order)
            per_page = "24" if shown_as == SESSION else inputs.switch("Examples per page", list(SIZES), "size", "24")
    selection = Selection(split, class_name, meta=meta, decision=decision)
    mixed = mixed and decision is None and suggested is None
    model_output.remember_controls(serving().identity.reviewer, mixed)
    default = start if start and column is home else None
    request = QueueRequest(column, default, order == OTHER, selection, group, suggested, mixed)
    if shown_as == SHEET:
        explain(request)
    ranking = frozen(audit, run, column, selection, PAGE)
    rows, left_out = pipeline.listed(audit, run, ranking, request, shown_as == SESSION)
    if left_out and not len(rows):
        return inputs.empty(left_out)
    if split == "test":
        corrected_metrics.warn_about_test(audit)
    if shown_as == SESSION:
        show_session(audit, run, ranking, request, rows)
        if left_out:
            st.caption(left_out)
        return None
    if left_out:
        st.caption(left_out)
    rows = pipeline.grouped(audit, rows, request)
    with bar:
        shown = (run.name, column.address, order, selection, per_page)
        page = inputs.pick_page(len(rows), int(per_page), shown, grid="queue")
    return show_sheet(audit, run, column, rows, page, int(per_page))


def first_with_values(audit: Audit, run: Run, columns: list[ScoreColumn], split: str | None) -> ScoreColumn:
    """Returns the score for a split without a default order (a pool has no labels): the first one with values here,
    preferably one with a suspicious end."""
    known = sorted(columns, key=lambda column: column.hard_end is None)
    return next((one for one in known if database.ranking(audit, run, one, Selection(split)).num_rows), columns[0])


def pick_group(audit: Audit) -> str | None:
    """Returns the metadata column whose members stay together in the queue."""
    columns = [name.removeprefix(META) for name in database.meta_columns(audit)]
    if not columns:
        return None
    nobody = "(nobody)"
    default = page_frame.current().group or (queueing.GROUP if queueing.GROUP in columns else nobody)
    help_text = "Examples of one group (a patient, a product, a scene) follow each other in the queue."
    value = inputs.choose("Keep together", [nobody, *columns], "group", default, help=help_text)
    return None if value == nobody else value


def pick_controls(audit: Audit, split: str | None, order: str) -> bool:
    """Returns whether controls are mixed into the session; the default is yes if audit.toml sets a goal."""
    if split not in ("train", "test") or order != SUSPICIOUS:
        return False
    options = ("none", "mixed in")
    default = options[bool(audit.config.get("goal"))]
    help_text = (
        "Controls are examples drawn at random. They are mixed into the queue without a mark. Controls and "
        "an equal number of suspects show no score and no suggestion until your first verdict. Controls are "
        "needed to estimate how many wrong labels the ranking misses."
    )
    return inputs.switch("Blind controls", options, "controls", default, help=help_text) == options[1]


def explain(request: QueueRequest) -> None:
    """Shows which end comes first, and why."""
    column, end = request.column, request.end
    st.caption(
        f"**{plain(column.title)}.** {reason(request)} {manual.score_link(column.scorer)}",
        help=cells.score_help(column),
    )
    if request.default is None and column.hard_end is None:
        inputs.warn(
            f"Neither end of this score is known to be suspicious. The {end}est values come first by convention."
        )
    if request.from_other_end:
        inputs.warn(f"This order starts at the other end, with the {'high' if end == 'low' else 'low'}est values.")


def reason(request: QueueRequest) -> str:
    """Returns the reason for this order in one sentence."""
    why = f"{request.default.sentence}." if request.default else describe_ends(request.column)[1]
    return f"{why} A rank is not a probability that the label is wrong."


# -- one by one ------------------------------------------------------------------------------------------------------


def show_session(audit: Audit, run: Run, ranking: FrozenRanking, request: QueueRequest, rows: Arrangement) -> None:
    """Shows the queue one example at a time, from where its reviewer stopped."""
    found = pipeline.session(audit, run, ranking, request, rows, st.query_params.get("at"))
    if found is None:
        return nothing_left(len(rows))
    queue = found.queue
    window = queue.window()
    ranks = [place + 1 for place in window]
    shown = found.rows.rows(window)
    made = cells.make_cells(audit, run, shown, request.column, ranks=ranks, of=len(queue.ids), url=cells.page_url())
    model = model_of(run)
    named = queueing.groups(audit, request.group)
    for cell in made:
        cell["evidence"]["model"] = model
        cell["group"] = named.get(cell["id"])
        cell["again"] = cell["id"] in found.again and not cell.get("blind")
    review_session(
        queue,
        [hidden_controls.with_draw_evidence(cell, found.drawn) for cell in made],
        key="session",
        classes=audit.classes,
        issues=audit.issues,
        run=run.name,
        guidelines=inputs.guidelines(audit),
    )
    st.caption(
        f"**{plain(request.column.title)}.** {reason(request)} {manual.score_link(request.column.scorer)}",
        help=cells.score_help(request.column),
    )
    return None


def nothing_left(n: int) -> None:
    """Shows that the queue is finished."""
    if n:
        return inputs.empty(
            f"All {n:,} examples of this queue are decided. Choose another class or score above, list the decided "
            "examples under Decision, or download the corrected labels on the page Reviews."
        )
    return empty()


def empty() -> None:
    """Shows that no example matches."""
    return inputs.empty(
        "No example is left in this queue. The filters exclude every example, or none has this score. Clear a filter "
        "above or in the sidebar, or choose another score. Scores that use the label need labelled examples."
    )


# -- many at a time --------------------------------------------------------------------------------------------------


def show_sheet(audit: Audit, run: Run, column: ScoreColumn, rows: Arrangement, page: int, size: int) -> None:
    """Shows one page of the queue."""
    n = len(rows)
    if n == 0:
        return empty()
    places = range((page - 1) * size, min(page * size, n))
    ranks = [place + 1 for place in places]
    made = cells.make_cells(audit, run, rows.rows(places), column, ranks=ranks, of=n, url=cells.page_url())
    made = [cells.with_suggestion(cell) for cell in made]
    states = second_reader.visible_states(audit, decisions.state_at(audit), serving().identity.reviewer)
    decided = len(rows.only(states["decided"]))
    note = f"{ranks[0]:,} to {ranks[-1]:,} of {n:,} · {decided:,} decided{suggestion_note(made)}"
    example_grid(
        [{"title": "Queue", "note": note, "cells": made}],
        ahead=rows.ids[places.stop : places.stop + size],
        key="queue",
        columns=SIZES[str(size)],
        classes=audit.classes,
        issues=audit.issues,
        run=run.name,
        guidelines=inputs.guidelines(audit),
        turns=True,
        notify=True,
    )
    return None


def suggestion_note(made: list[dict[str, Any]]) -> str:
    """Returns the sources of the suggested labels, once for the page."""
    sources = dict.fromkeys(cell["suggestion_source"] for cell in made if cell["suggestion_source"])
    return (
        f" · source of suggested labels: {', '.join(sources)}"
        if sources
        else " · no suggested labels, because there are no probabilities yet"
    )


show()
