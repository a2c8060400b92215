"""A ranking that does not change while a reviewer works through it, although examples are decided and scores renewed.

The decided examples are taken from one position of the log. That position is in the address (``?as_of=``), so a link
shows a colleague the same queue. The ranking is stored in the browser session. A button renews it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.queries import database, decisions
from dashboard.queries.score_columns import ScoreColumn
from dashboard.queries.selection import Selection, decision_words
from dashboard.review_session.arrangement import Ranking
from dashboard.style.formatting import count
from scoring.audit import Audit, Run

PARAMETER = "as_of"


@dataclass(frozen=True, eq=False, kw_only=True)
class FrozenRanking(Ranking):
    """A ranking, lowest first, with the key, the log position and the score file it was made from."""

    signature: tuple[Any, ...]
    as_of: int
    scores: database.Stamp | None


def frozen_ranking(audit: Audit, run: Run, column: ScoreColumn, selection: Selection, page: str) -> pa.Table:
    """Returns the table of ``frozen``."""
    return frozen(audit, run, column, selection, page).table


def frozen(audit: Audit, run: Run, column: ScoreColumn, selection: Selection, page: str) -> FrozenRanking:
    """Returns the ranking of the selected examples as it was when the page first showed it."""
    signature = (run.name, column.address, selection)
    key = f"_frozen_{page}"
    kept: FrozenRanking | None = st.session_state.get(key)
    last = decisions.last_position(audit)
    if kept is None or kept.signature != signature:
        linked = st.query_params.get(PARAMETER, "") if kept is None else ""
        kept = freeze(audit, run, column, selection, min(int(linked), last) if linked.isdigit() else last)
    if _refresh_pressed(kept, last, database.stamp(run.score_path(column.scorer)), selection, page):
        kept = freeze(audit, run, column, selection, last)
    st.session_state[key] = kept
    _put_into_address(kept.as_of if selection.decision else None)
    return kept


def freeze(audit: Audit, run: Run, column: ScoreColumn, selection: Selection, as_of: int) -> FrozenRanking:
    """Returns the present ranking, of the examples that are decided (or not) at a position of the log."""
    table = database.ranking(audit, run, column, selection)
    if selection.decision is not None:
        states = second_reader.visible_states(audit, decisions.state_at(audit, as_of), serving().identity.reviewer)
        table = decisions.filter_by_decision(table, selection.decision, states)
    scores = database.stamp(run.score_path(column.scorer))
    signature = (run.name, column.address, selection)
    return FrozenRanking(table=table, signature=signature, as_of=as_of, scores=scores)


def _refresh_pressed(
    frozen: FrozenRanking, last: int, scores: database.Stamp | None, selection: Selection, page: str
) -> bool:
    """Shows a button if the ranking is out of date, and returns whether it was pressed."""
    if frozen.scores != scores:
        label = "The scores have changed. Show the new order"
    elif selection.decision is not None and last > frozen.as_of:
        word = decision_words()[selection.decision]
        label = f"{count(last - frozen.as_of, 'event')} since this list was made. Apply the filter “{word}” again"
    else:
        return False
    return st.button(label, icon=":material/refresh:", key=f"renew_{page}")


def _put_into_address(as_of: int | None) -> None:
    there = st.query_params.get(PARAMETER)
    if as_of is None and there is not None:
        del st.query_params[PARAMETER]
    elif as_of is not None and there != str(as_of):
        st.query_params[PARAMETER] = str(as_of)
