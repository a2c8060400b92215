"""Expiring locks, so that two reviewers do not review the same example at the same time.

A lock is a row beside the log, not an event: it is worth nothing once it is over. Whoever asks for free, expired or own
examples gets them; of two who ask at once the database decides. Nothing is refused because of a lock: a decision on a
locked example is written as any other.

Inputs → outputs: ids and a reviewer → who holds each. Cost: one transaction, whatever the number of ids. Limit: expiry
is told by the clock of the server that asks. A clock may be set back: a lock that ends later than twice the minutes of
a new one is over, and nobody waits for a time that may be years away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from scoring.reviews import ReviewLog
from scoring.reviews.event_store import lock_table
from scoring.reviews.log_database import explained, writing

LONGEST = 24 * 60.0
"""Minutes: the most that ``[policy] lock_minutes`` may be."""
INSERT: dict[str, Callable[[sa.Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}


def claim(log: ReviewLog, ids: Iterable[str], reviewer: str, now: datetime, minutes: float) -> dict[str, str]:
    """Take what is free for some minutes → {example_id: who holds it now}, the reviewer where it was got."""
    ids = list(dict.fromkeys(ids))
    if not ids:
        return {}
    until = micros(now + timedelta(minutes=minutes))
    audit = log.one_audit()
    rows: list[dict[str, Any]] = [
        {"audit": audit, "key": _key(one), "example_id": one, "reviewer": reviewer, "expires_at": until} for one in ids
    ]
    insert = INSERT[log.engine.dialect.name](lock_table)
    free = ~_holds(now, minutes) | (lock_table.c.reviewer == reviewer)
    taken = {"reviewer": insert.excluded.reviewer, "expires_at": insert.excluded.expires_at}
    upsert = insert.on_conflict_do_update(index_elements=["audit", "key"], set_=taken, where=free)
    with explained(log.engine), writing(log.engine) as connection:
        for row in sorted(rows, key=lambda one: one["key"]):  # always in one order, so that no two wait for each other
            connection.execute(upsert, row)
        held = sa.select(lock_table.c.example_id, lock_table.c.reviewer).where(
            lock_table.c.audit == log.audit, lock_table.c.key.in_([row["key"] for row in rows])
        )
        return {row.example_id: row.reviewer for row in connection.execute(held)}


def held(log: ReviewLog, now: datetime, minutes: float = LONGEST) -> dict[str, str]:
    """Every example that is locked now → by whom. minutes: for how long locks are made."""
    query = sa.select(lock_table.c.example_id, lock_table.c.reviewer).where(
        lock_table.c.audit == log.audit, _holds(now, minutes)
    )
    with explained(log.engine), log.engine.connect() as connection:
        return {row.example_id: row.reviewer for row in connection.execute(query)}


def let_go(log: ReviewLog, reviewer: str, ids: Iterable[str] | None = None, *, keep: Iterable[str] = ()) -> None:
    """Give locks back before they expire; None: all that the reviewer holds, apart from those to ``keep``."""
    mine = (lock_table.c.audit == log.audit) & (lock_table.c.reviewer == reviewer)
    if ids is not None:
        mine &= lock_table.c.key.in_([_key(one) for one in ids])
    if kept := [_key(one) for one in keep]:
        mine &= lock_table.c.key.not_in(kept)
    with explained(log.engine), writing(log.engine) as connection:
        connection.execute(sa.delete(lock_table).where(mine))


def _holds(now: datetime, minutes: float) -> sa.ColumnElement[bool]:
    """Whether a lock is not over: it ends after now, and no later than a lock of a server whose clock is ahead."""
    latest = micros(now + timedelta(minutes=2 * minutes))
    return (lock_table.c.expires_at > micros(now)) & (lock_table.c.expires_at <= latest)


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return int(moment.timestamp() * 1e6)


def _key(example_id: str) -> str:
    """Ids may be longer than an index can hold."""
    return hashlib.sha256(example_id.encode()).hexdigest()
