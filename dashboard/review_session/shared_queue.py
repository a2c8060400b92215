"""A queue among several people: what is left for whoever looks, kept from others while they look at it.

The order is frozen with the page's ranking, as for one person; what others have taken or read since drops out of it,
and what this person decided stays until the order is renewed. The examples that are sent to the browser are locked for
some minutes, and those of the last time given back.

Cost: one transaction per page run, none where one person audits alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pyarrow as pa
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.grid.session import Queue
from dashboard.queries import decisions
from scoring.audit import Audit
from scoring.queue import locks

AHEAD = 100  # examples that are sent at once
LOCKED_AHEAD = 8  # of these, kept from others: as many as a session keeps while it goes on (LOCKED in session.js)


def is_shared() -> bool:
    """Whether several people may be here, each known by name."""
    who = serving().identity
    return not who.alone and who.reviewer is not None and who.may("auditor")


def visitor_rows(audit: Audit, table: pa.Table, key: tuple) -> pa.Table:
    """The rows of a queue that are this person's to read, in their order. ``key``: what the queue was frozen for."""
    found = second_reader.open_rows(audit, table)
    ids = found["example_id"].to_pylist()
    kept = st.session_state.get("_mine")
    if kept is None or kept[0] != key:
        st.session_state["_mine"] = kept = (key, ids)
    own = decisions.open_log(audit).decisions()
    own = set(own.loc[own["reviewer"] == serving().identity.reviewer, "example_id"])
    open_now = set(ids)
    frozen = [one for one in kept[1] if one in open_now or one in own]
    places = {one: place for place, one in enumerate(table["example_id"].to_pylist())}
    order = [*frozen, *(one for one in ids if one not in set(kept[1]))]
    return table.take(pa.array([places[one] for one in order if one in places], pa.int64()))


def start_queue(audit: Audit, table: pa.Table, example_in_url: str | None) -> Queue:
    """The queue, started at the example that the address asks for, else at the first that is left to read."""
    ids, left = table["example_id"].to_pylist(), second_reader.open_rows(audit, table)["example_id"].to_pylist()
    first = example_in_url if example_in_url in set(ids) else next(iter(left), ids[0])
    return Queue(ids, ids.index(first), left=len(left), ahead=AHEAD)


def lock_examples(audit: Audit, ids: Sequence[str]) -> dict[str, str]:
    """Keep these examples from others for a while, and give back what was held before → who holds each now. The page
    asks for the first ones that it sends, and the session's route for what comes next."""
    log, who = decisions.open_log(audit), serving().identity.name()
    locks.let_go(log, who, keep=ids)
    return locks.claim(log, ids, who, datetime.now(UTC), second_reader.policy(audit).lock_minutes)
