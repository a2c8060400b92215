"""The queue of a reviewer in a team: the rows left for this visitor, locked for others while the visitor looks at them.

The order is frozen with the page's ranking. Examples that others have locked or reviewed since are dropped; examples
that this reviewer decided stay until the order is renewed. The examples sent to the browser are locked for some
minutes, and the previous ones are released.

Cost: one transaction per run of the page; none where one person audits alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.grid.session import Queue
from dashboard.queries import decisions
from scoring.audit import Audit
from scoring.queue import locks

AHEAD = 100  # examples sent at once
LOCKED_AHEAD = 8  # of these, locked: the same number as LOCKED in session.js


def is_shared() -> bool:
    """Returns whether several named people may review here."""
    who = serving().identity
    return not who.alone and who.reviewer is not None and who.may("auditor")


def visitor_rows(audit: Audit, table: pa.Table, key: tuple[Any, ...]) -> pa.Table:
    """Returns the rows of a queue that the visitor has to review, in their order. ``key``: identifies the frozen
    queue."""
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
    """Returns the queue, started at the example in the address, else at the first one left to review."""
    ids, left = table["example_id"].to_pylist(), second_reader.open_rows(audit, table)["example_id"].to_pylist()
    first = example_in_url if example_in_url in set(ids) else next(iter(left), ids[0])
    return Queue(ids, ids.index(first), left=len(left), ahead=AHEAD)


def lock_examples(audit: Audit, ids: Sequence[str]) -> dict[str, str]:
    """Locks these examples for some minutes, releases the visitor's previous ones, and returns who holds each. The
    page locks the first examples that it sends, the session's route the next ones."""
    log, who = decisions.open_log(audit), serving().identity.name()
    locks.let_go(log, who, keep=ids)
    return locks.claim(log, ids, who, datetime.now(UTC), second_reader.policy(audit).lock_minutes)
