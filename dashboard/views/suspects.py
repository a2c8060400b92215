"""/suspects: examples ranked by a score, the most suspicious first, to be decided one by one or many at a time.

The order is frozen while somebody works through it: what is decided meanwhile stays where it is until the queue is
asked for again. The frozen position of the log is in the address, so that a link shows a colleague the same queue.
"""

from __future__ import annotations

import pyarrow as pa
import streamlit as st

from dashboard import cells, controls, decisions, state, view
from dashboard.columns import ScoreColumn, describe_ends, find_column
from dashboard.grid import example_grid
from dashboard.selection import DECISION_WORDS, Selection
from dashboard.words import count, plain
from scoring.audit import Audit, Run

ORDERS = {"high": "highest first", "low": "lowest first"}
SIZES = {"10": 5, "25": 5, "50": 10, "100": 10}
FROZEN = "_queue"


def show() -> None:
    """The page."""
    audit, run, meta, columns = view.scored()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        split = controls.pick_split(audit, "train")
        start = state.start_order(audit, run, split or "train")
        home = find_column(columns, start.score if start else None) or columns[0]
        column = controls.pick_score(columns, home)
        first = start.suspicious if start and column is home else column.hard_end or "high"
        order = controls.switch("Order", list(ORDERS.values()), "order", ORDERS[first])
        class_name = controls.pick_class(audit)
        decision = controls.pick_decision()
        per_page = controls.switch("Per page", list(SIZES), "size", "25")
    sentence = start.sentence if start and column is home and order == ORDERS[first] else describe_ends(column)[1]
    st.caption(f"**{plain(column.title)}** – {column.help} {sentence}. A rank is no probability of being wrong.".replace("..", "."))
    if column.hard_end and order != ORDERS[column.hard_end]:
        st.warning(f"This order starts at the other end: the {column.hard_end}est are the suspicious ones here.")
    selection = Selection(split, class_name, meta=meta, decision=decision)
    table = freeze(audit, run, column, order == ORDERS["low"], selection)
    show_queue(audit, run, column, table, int(per_page), (run.name, column.address, order, selection, per_page))


def freeze(audit: Audit, run: Run, column: ScoreColumn, ascending: bool, selection: Selection) -> pa.Table:
    """The queue in its order, as it was when it was first asked for; a button asks for it again."""
    signature = (run.name, column.address, ascending, selection)
    kept = st.session_state.get(FROZEN)
    if kept is None or kept[0] != signature:
        linked = st.query_params.get("as_of", "") if kept is None else ""
        as_of = int(linked) if linked.isdigit() else decisions.last_position(audit)
        kept = thaw(audit, run, column, ascending, selection, as_of, signature)
    since = decisions.last_position(audit) - kept[1]
    changed = kept[3] != state.stamp(run.score_path(column.scorer))
    if (since or changed) and st.button(_refresh_label(selection, since, changed), icon=":material/refresh:"):
        kept = thaw(audit, run, column, ascending, selection, decisions.last_position(audit), signature)
    st.session_state[FROZEN] = kept
    if selection.decision is not None:
        st.query_params["as_of"] = str(kept[1])
    elif "as_of" in st.query_params:
        del st.query_params["as_of"]
    return kept[2]


def _refresh_label(selection: Selection, since: int, changed: bool) -> str:
    if changed:
        return "The scores were computed again since: make the queue anew"
    if selection.decision is None:
        return f"{count(since, 'event')} in the log since this queue was made: make it anew"
    return f"{count(since, 'event')} since: keep only “{DECISION_WORDS[selection.decision]}” again"


def thaw(audit: Audit, run: Run, column: ScoreColumn, ascending: bool, selection: Selection, as_of: int, signature) -> tuple:
    """A new queue: (what it is of, the log's position, the ranking from its first end, the score file's stamp)."""
    table = state.ranking(audit, run, column, selection)
    table = decisions.keep(table, selection.decision, decisions.state_at(audit, as_of) if selection.decision else {})
    if not ascending:
        table = table.take(pa.array(range(table.num_rows - 1, -1, -1), pa.int64()))
    return signature, as_of, table, state.stamp(run.score_path(column.scorer))


def show_queue(audit: Audit, run: Run, column: ScoreColumn, table: pa.Table, size: int, signature) -> None:
    """One page of the queue."""
    n = table.num_rows
    if n == 0:
        return controls.empty("Nothing is left in this queue: every example that matches is filtered out, or has no such "
                              "score. Clear a filter above or in the sidebar.")  # fmt: skip
    page = controls.pick_page(n, size, signature, grid="queue")
    start = (page - 1) * size
    rows = table.slice(start, size)
    ranks = list(range(start + 1, start + 1 + rows.num_rows))
    made = cells.make_cells(audit, run, rows, column, ranks=ranks, of=n, url=cells.page_url())
    note = f"{ranks[0]:,} to {ranks[-1]:,} of {n:,}{suggestion_note(made)}"
    example_grid([{"title": "Queue", "note": note, "cells": made}], key="queue", columns=SIZES[str(size)],
                 classes=audit.classes, issues=audit.issues, run=run.name, guidelines=controls.guidelines(audit),
                 turns=True, notify=True)  # fmt: skip
    return None


def suggestion_note(made: list[dict]) -> str:
    """From where the suggested labels come, said once for the page."""
    sources = dict.fromkeys(cell["suggestion_source"] for cell in made if cell["suggestion_source"])
    return f" · suggested labels from {', '.join(sources)}" if sources else " · no suggested labels: no probabilities yet"


show()
