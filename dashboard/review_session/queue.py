"""The queue of a session: which examples are to review, in which order, and where the reviewer stopped.

The queue is computed from the ranking and the log, so it is the same on any machine. It lists the examples that are not
decided, and the decided ones that a later model contradicts (``scoring.reviews.sessions``). It continues after the last
example that the reviewer decided. Members of a group follow each other.

Cost: the ranking once more in memory; for reopened examples one reading of the log per new event.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dashboard.auth.serving import serving
from dashboard.blinding import second_reader
from dashboard.grid.session import Queue
from dashboard.queries import database, decisions
from dashboard.queries.selection import META, identifier, source
from scoring.audit import Audit, Run
from scoring.queue.order import opinions, together
from scoring.queue.order import suggestions as all_suggestions
from scoring.reviews import sessions

GROUP = "group"
"""The metadata column whose members stay together by default."""


def in_order(table: pa.Table, ascending: bool) -> pa.Table:
    """Returns a ranking, given lowest first, from one of its ends."""
    return table if ascending else table.take(pa.array(range(table.num_rows - 1, -1, -1), pa.int64()))


def keep_groups_together(table: pa.Table, groups: dict[str, str]) -> pa.Table:
    """Returns the queue with all members of a group at the position of its first member."""
    if not groups:
        return table
    names = [groups.get(example) for example in table["example_id"].to_pylist()]
    return table.take(pa.array(together(names), pa.int64()))


def groups(audit: Audit, column: str | None) -> dict[str, str]:
    """Returns example_id → its group, as text; examples without one are left out."""
    if column is None:
        return {}
    return _groups(database.stamp(audit.examples_path), META + column)


@lru_cache(maxsize=2)
def _groups(examples: database.Stamp, column: str) -> dict[str, str]:
    name = identifier(column)
    query = f"SELECT example_id, CAST({name} AS VARCHAR) g FROM {source(examples[0])} WHERE {name} IS NOT NULL"
    table = database.sql(query)
    return dict(zip(table["example_id"].to_pylist(), table["g"].to_pylist(), strict=True))


def filter_by_suggestion(audit: Audit, run: Run, table: pa.Table, suggested: str | None) -> pa.Table:
    """Returns the rows whose suggested label is this class; all rows for None."""
    if suggested is None:
        return table
    stamps = tuple(database.stamp(path) for path in (audit.examples_path, run.predictions_path, run.out_of_fold_path))
    named = _suggested(audit.root, run.name, stamps, suggested)
    return table.filter(pc.is_in(table["example_id"], value_set=named))


@lru_cache(maxsize=16)
def _suggested(root: Path, name: str, _stamps: tuple[Any, ...], suggested: str) -> pa.Array:
    audit = database.audit_at(root)
    found = all_suggestions(audit, audit.run(name))
    return pa.array(found.loc[found["suggested_label"] == suggested, "example_id"].astype(object), pa.string())


def to_review(audit: Audit, run: Run, table: pa.Table, as_of: int | None = None) -> pa.Table:
    """Returns the rows that are still to review: undecided ones, and decided ones that a later model contradicts.

    as_of: examples decided after this position stay in the queue; undone ones return to it at once.
    """
    decided = decisions.state_at(audit, as_of)["decided"] & decisions.state_at(audit)["decided"]
    second = second_reader.hidden_from(audit, serving().identity.reviewer)  # waits for a second reader
    settled = decided - reopened(audit, run) - set(second)
    inside = pc.is_in(table["example_id"], value_set=pa.array(sorted(settled), table.schema.field("example_id").type))
    return table.filter(pc.invert(inside))


def reopened(audit: Audit, run: Run) -> frozenset[str]:
    """Returns the decided examples that this run's model contradicts, if its output was not on screen at the
    decision."""
    last = decisions.last_position(audit)
    return (
        _reopened(serving().log_url, last, run.name, run.root, database.stamp(run.predictions_path))
        if last
        else frozenset()
    )


@lru_cache(maxsize=8)
def _reopened(_url: str, _last: int, name: str, root: Path, _stamp: object) -> frozenset[str]:
    audit = database.audit_at(root)
    run, log = audit.run(name), decisions.open_log(audit)
    current = {(row.client, int(row.seq)) for row in log.decisions().itertuples()}
    events = log.events()
    events = events[events["action"] == "decide"]
    holds = [(row.client, int(row.seq)) in current for row in events.itertuples()]
    events = events[np.array(holds, dtype=bool)]  # an empty list would select columns instead of rows
    found = opinions(audit, run, events["example_id"].unique())
    return frozenset(sessions.reopened(events, found, run.name, sessions.model_of(run)))


def resume(
    audit: Audit, ids: Sequence[str], whole: Sequence[str], example_in_url: str | None, reviewer: str | None
) -> Queue:
    """Returns the queue and its start.

    ids: the examples to review, in order; whole: the same with decided ones; example_in_url: the address's example.
    """
    at = {example: place for place, example in enumerate(ids)}
    if example_in_url in at:
        return Queue(ids, at[example_in_url])
    if example_in_url is not None and example_in_url in (
        known := {example: place for place, example in enumerate(whole)}
    ):
        start = next((at[one] for one in whole[known[example_in_url] :] if one in at), 0)
        return Queue(ids, start)
    last = _last_decided(audit, reviewer, set(whole))
    if last is None:
        return Queue(ids, 0)
    place = whole.index(last)
    following = next((at[one] for one in whole[place + 1 :] if one in at), None)
    if following is None:
        return Queue(ids, 0)
    skipped = f"; you skipped {following:,} before it" if following else ""
    return Queue(
        ids, following, f"Resumed after your last decision{skipped}. Press Home to go to the first undecided example."
    )


def _last_decided(audit: Audit, reviewer: str | None, among: set[str]) -> str | None:
    own = decisions.open_log(audit).decisions()
    own = own[(own["reviewer"] == reviewer) & own["example_id"].isin(among)]
    return None if own.empty else own.sort_values("position")["example_id"].iloc[-1]
