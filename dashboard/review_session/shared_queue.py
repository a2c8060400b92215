"""The queue of a reviewer in a team: the rows left for this visitor, locked for others while the visitor looks at them.

The order is frozen with the page's ranking. Examples that others have locked or reviewed since are dropped; examples
that this reviewer decided stay until the order is renewed. The page and, before each step, the session lock the next
examples (``hold``). An example that a session holds and that was open then is served to nobody else:

    served  ⇒  locked by the visitor, and then found open in the log
    given back  ⇒  the visitor is past it, and the decision about it is in the log (the session sends what is not)

Cost: one transaction per run of the page; none where one person audits alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import streamlit as st

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.grid.session import Queue
from dashboard.queries import decisions
from dashboard.review_session.arrangement import Arrangement
from scoring.audit import Audit
from scoring.queue import locks

AHEAD = 100  # examples sent at once
LOCKED_AHEAD = 8  # of these, locked: the same number as LOCKED in session.js


def is_shared() -> bool:
    """Returns whether several named people may review here."""
    who = serving().identity
    return not who.alone and who.reviewer is not None and who.may("auditor")


def open_rows(audit: Audit, rows: Arrangement) -> Arrangement:
    """Returns the rows of a queue that the visitor has to review (``scoring.queue.assignments``), in the order to read
    them."""
    log = decisions.open_log(audit)
    held = locks.held(log, datetime.now(UTC), second_reader.policy(audit).lock_minutes)
    share = second_reader.share(audit, held)
    return rows.take(share.order(rows.ids, second_reader.policy(audit).seed))


def visitor_rows(audit: Audit, rows: Arrangement, left: Arrangement, key: tuple[Any, ...]) -> Arrangement:
    """Returns the rows that the visitor has to review or has decided since, in their order. ``left``: ``open_rows`` of
    the queue; ``key``: identifies the frozen queue."""
    kept: tuple[tuple[Any, ...], np.ndarray] | None = st.session_state.get("_mine")
    if kept is None or kept[0] != key:
        st.session_state["_mine"] = kept = (key, left.order)
    frozen = kept[1]
    ranking = rows.ranking
    own = ranking.members(decisions.standings(audit).decided_by(serving().identity.reviewer))
    is_open, is_frozen, is_listed = (np.zeros(len(ranking.ids), dtype=bool) for _ in range(3))
    is_open[left.order], is_frozen[frozen], is_listed[rows.order] = True, True, True
    order = np.concatenate([frozen[is_open[frozen] | own[frozen]], left.order[~is_frozen[left.order]]])
    return Arrangement(ranking, order[is_listed[order]])


def start_queue(rows: Arrangement, left: Arrangement, example_in_url: str | None) -> Queue:
    """Returns the queue, started at the example in the address, else at the first one left to review."""
    place = rows.place_of(example_in_url)
    if place is None:
        place = rows.next_of(left, 0) or 0
    return Queue(rows.ids, place, left=len(left), ahead=AHEAD, skips=True, waits=True)


def lock_start(audit: Audit, queue: Queue) -> bool:
    """Locks the first examples that the visitor will see; returns whether nobody else holds the very first."""
    first = queue.ids[queue.start : queue.window().stop][:LOCKED_AHEAD]
    return lock_examples(audit, first)[first[0]] == serving().identity.reviewer


def lock_examples(audit: Audit, ids: Sequence[str]) -> dict[str, str]:
    """Locks these examples for some minutes and returns who holds each."""
    log, who = decisions.open_log(audit), serving().identity.name()
    return locks.claim(log, ids, who, datetime.now(UTC), second_reader.policy(audit).lock_minutes)


def hold(audit: Audit, ids: Sequence[str]) -> dict[str, str | None]:
    """Locks the examples that a session shows and will show next, gives its earlier ones back, and returns who holds
    each; None for those that are not the visitor's to review any more.

    The log is looked at when the locks are held. Whoever held one before has given it back after the decision was
    written, so that no decision is missed. Where the visitor holds them all already, nothing is written.
    """
    log, who = decisions.open_log(audit), serving().identity.name()
    held = locks.held(log, datetime.now(UTC), second_reader.policy(audit).lock_minutes)
    if ids and all(held.get(one) == who for one in ids):
        holders = dict.fromkeys(ids, who)
    else:
        holders = lock_examples(audit, ids)
        locks.let_go(log, who, keep=ids)
    closed = _closed(audit, ids)
    return {one: None if holder == who and one in closed else holder for one, holder in holders.items()}


def _closed(audit: Audit, ids: Sequence[str]) -> frozenset[str]:
    """Returns which of these examples are not the visitor's to review. Who audits alone has all assignments in the
    queue: there only what is decided and needs no second reader is closed."""
    if is_shared():
        return second_reader.share(audit, {}, ids).closed
    second = second_reader.hidden_from(audit, serving().identity.reviewer, among=ids)
    return decisions.state_at(audit)["decided"].intersection(ids) - second.keys()
