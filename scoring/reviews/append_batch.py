"""One append to the log in one transaction: which events are new, what they undo, and which are refused.

Inputs → outputs: the events of any number of clients → the rows to insert, and the refusals. Cost: one or two
queries per ``CHUNK`` of events. A refusal costs no query of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from scoring.reviews.event import Event, EventRefused
from scoring.reviews.event_store import event_table

CHUNK = 200


class Batch:
    """The events of one append; once ``new_rows`` has returned, ``refused`` holds the refusals, and
    ``clients`` those of the other events.

    classes: where given, new labels must be among them. one_reviewer: a client belongs to the reviewer of its first
    event.
    """

    def __init__(
        self,
        connection: sa.Connection,
        audit: str,
        classes: frozenset[str] | None = None,
        *,
        one_reviewer: bool = False,
    ):
        self.connection, self.audit, self.classes, self.one_reviewer = connection, audit, classes, one_reviewer
        self.known: dict[tuple[str, int], dict[str, Any]] = {}
        self.owners: dict[str, str] = {}
        self.clients: set[str] = set()
        self.refused: list[EventRefused] = []

    def new_rows(self, events: list[Event], position: int) -> list[dict[str, Any]]:
        """Returns the rows to insert after ``position``; known events and refused ones give none."""
        self._load(events)
        created_at = time.time_ns() // 1000
        rows: list[dict[str, Any]] = []
        for event in events:
            try:
                row = self._new_row(event)
            except EventRefused as refusal:
                self.refused.append(refusal)
                continue
            self.clients.add(event.client)
            if row is not None:
                row |= {"audit": self.audit, "position": position + len(rows) + 1, "created_at": created_at}
                self.known[event.client, event.seq] = row
                self.owners.setdefault(event.client, event.reviewer)
                rows.append(row)
        return rows

    def _new_row(self, event: Event) -> dict[str, Any] | None:
        """Returns the event's row without its position; None if the log has the event. Raises ``EventRefused``."""
        if self.classes is not None:
            event.check_classes(self.classes)
        row = event.row()
        if self._is_known(event, row):
            return None
        if self.one_reviewer and self.owners.get(event.client, event.reviewer) != event.reviewer:
            reason = "another reviewer uses this client; reload the page, which takes a client of its own"
            raise EventRefused(event.client, event.seq, reason)
        row["undoes_position"] = None if event.undoes is None else self._undone(event, *event.undoes)
        return row

    def _load(self, events: list[Event]) -> None:
        """Fetches the events that these repeat or undo, and the reviewer of each client: one query per chunk."""
        keys = {(event.client, event.seq) for event in events} | {event.undoes for event in events if event.undoes}
        for chunk in batched(sorted(keys), CHUNK):
            self._fetch(chunk)
        if self.one_reviewer:
            for clients in batched(sorted({event.client for event in events}), CHUNK):
                self._fetch_owners(clients)

    def _fetch(self, keys: Sequence[tuple[str, int]]) -> None:
        table = event_table.c
        clients, seqs = {client for client, _ in keys}, {seq for _, seq in keys}
        where = sa.and_(table.audit == self.audit, table.client.in_(clients), table.seq.in_(seqs))
        for row in self.connection.execute(sa.select(event_table).where(where)).mappings():
            self.known[row["client"], row["seq"]] = dict(row)

    def _fetch_owners(self, clients: Sequence[str]) -> None:
        table = event_table.c
        own = sa.and_(table.audit == self.audit, table.client.in_(clients))
        first = (
            sa.select(table.client, sa.func.min(table.seq).label("seq")).where(own).group_by(table.client).subquery()
        )
        same = sa.and_(table.client == first.c.client, table.seq == first.c.seq, table.audit == self.audit)
        for client, reviewer in self.connection.execute(sa.select(table.client, table.reviewer).join(first, same)):
            self.owners[client] = reviewer

    def _is_known(self, event: Event, row: dict[str, Any]) -> bool:
        stored = self.known.get((event.client, event.seq))
        if stored is None:
            return False
        changed = [name for name, value in row.items() if stored[name] != value]
        if changed:
            reason = f"is in the log with other content ({', '.join(changed)}); a client must not use a seq twice"
            raise EventRefused(event.client, event.seq, reason)
        return True

    def _undone(self, event: Event, client: str, seq: int) -> int:
        """The position of what an undo takes back: the event (client, seq)."""
        target = self.known.get((client, seq))
        if target is None:
            raise EventRefused(event.client, event.seq, f"undoes {client!r} {seq}, which is not in this audit's log")
        if target["reviewer"] != event.reviewer:
            raise EventRefused(
                event.client,
                event.seq,
                f"undoes an event of {target['reviewer']!r}; record a decision of your own instead",
            )
        return target["position"]


T = TypeVar("T")


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yields consecutive parts of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
