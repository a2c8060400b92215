"""/suspects: examples ranked by a score, the most suspicious first, to be decided one by one or many at a
time.

The order is frozen while somebody works through it (``dashboard.freezing``).
"""

from __future__ import annotations

import pyarrow as pa
import streamlit as st

from dashboard import cells, controls, decisions, state, view
from dashboard.columns import ScoreColumn, describe_ends, find_column
from dashboard.freezing import frozen_ranking
from dashboard.grid import example_grid
from dashboard.selection import Selection
from dashboard.words import plain
from scoring.audit import Audit, Run
from scoring.queues import Order

SUSPICIOUS, OTHER = ORDERS = ("suspicious first", "other end first")
SIZES = {"12": 6, "24": 8, "48": 8, "100": 10}
"""Examples per page, and in how many columns."""


def show() -> None:
    """The page."""
    audit, run, meta, columns = view.scored()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = controls.pick_split(audit, "train")
        start = state.start_order(audit, run, split or "train")
        home = find_column(columns, start.score if start else None) or columns[0]
        column = controls.pick_score(columns, home)
        order = controls.switch("Order", ORDERS, "order", SUSPICIOUS)
        class_name = controls.pick_class(audit)
    with (bar := st.container(horizontal=True, vertical_alignment="bottom")):
        decision = controls.pick_decision()
        with st.popover("More", icon=":material/tune:"):
            per_page = controls.switch("Examples per page", list(SIZES), "size", "24")
    default = start if start and column is home else None
    end = default.suspicious if default else column.hard_end or "high"
    explain(column, default, end, order)
    selection = Selection(split, class_name, meta=meta, decision=decision)
    table = frozen_ranking(audit, run, column, selection, "suspects")
    with bar:
        shown = (run.name, column.address, order, selection, per_page)
        page = controls.pick_page(table.num_rows, int(per_page), shown, grid="queue")
    show_queue(audit, run, column, table, (end == "low") == (order == SUSPICIOUS), page, int(per_page))


def explain(column: ScoreColumn, default: Order | None, end: str, order: str) -> None:
    """Which end comes first, and why."""
    reason = f"{default.sentence}." if default else describe_ends(column)[1]
    told = f"**{plain(column.title)}** {reason} A rank is no probability of being wrong."
    st.caption(told, help=cells.score_help(column))
    if default is None and column.hard_end is None:
        controls.warn(
            f"Neither end is known to be suspicious, so the {end}est come first by convention alone."
        )
    if order == OTHER:
        controls.warn(f"This order starts at the other end, with the {'high' if end == 'low' else 'low'}est.")


def show_queue(
    audit: Audit, run: Run, column: ScoreColumn, table: pa.Table, ascending: bool, page: int, size: int
) -> None:
    """One page of the queue."""
    n = table.num_rows
    if n == 0:
        return controls.empty(
            "Nothing is left in this queue: every example that matches is filtered out, or has no such "
            "score. Clear a filter above or in the sidebar."
        )
    places = range((page - 1) * size, min(page * size, n))
    rows = table.take(pa.array([place if ascending else n - 1 - place for place in places], pa.int64()))
    ranks = [place + 1 for place in places]
    made = cells.make_cells(audit, run, rows, column, ranks=ranks, of=n, url=cells.page_url())
    made = [cells.with_suggestion(cell) for cell in made]
    decided = decisions.keep(table, "decided", decisions.state_at(audit)).num_rows
    note = f"{ranks[0]:,} to {ranks[-1]:,} of {n:,} · {decided:,} decided{suggestion_note(made)}"
    example_grid(
        [{"title": "Queue", "note": note, "cells": made}],
        key="queue",
        columns=SIZES[str(size)],
        classes=audit.classes,
        issues=audit.issues,
        run=run.name,
        guidelines=controls.guidelines(audit),
        turns=True,
        notify=True,
    )
    return None


def suggestion_note(made: list[dict]) -> str:
    """From where the suggested labels come, said once for the page."""
    sources = dict.fromkeys(cell["suggestion_source"] for cell in made if cell["suggestion_source"])
    return (
        f" · suggested labels from {', '.join(sources)}"
        if sources
        else " · no suggested labels: no probabilities yet"
    )


show()
