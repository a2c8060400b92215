"""The review log: append-only events, and the tables derived from them.

``ReviewLog.append`` returns when its events are on the disk; a page that waits for it never shows as saved
what a kill could lose. It is idempotent on (client, seq), so a client sends everything that is not
acknowledged yet, as often as it likes. Nothing is changed or deleted: undo is an event, and decisions, flags
and consensus are derived (``scoring.reviews.decisions``) from the events (``scoring.reviews.event``) in the database
(``scoring.reviews.event_store``).

Inputs → outputs: events → {client: highest acknowledged seq}; the log → data frames. Cost: one flush to the
disk per append, whatever the number of events; reading follows what is new since the last reading. Known
limits: derived tables hold the audit's events, evidence apart, in memory (some 1 kB each).
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from scoring.audit.errors import HardlookError
from scoring.reviews import decisions as verdicts
from scoring.reviews import event_store as store
from scoring.reviews.append_batch import Batch
from scoring.reviews.event import LONGEST_KEY, Event, EventRefused, needed_text
from scoring.reviews.event_store import event_table
from scoring.reviews.log_database import explained, writing
from scoring.reviews.log_file import LogUnavailable

__all__ = ["Event", "EventRefused", "LogUnavailable", "ReviewLog"]
UNDOABLE = ("decide", "flag", "unflag", "comment", "adjudicate", "assign", "release")


@dataclass(frozen=True)
class Appended:
    """What ``ReviewLog.append_valid`` did: {client: up to which seq nothing is missing}, and what was refused."""

    acknowledged: dict[str, int]
    refused: tuple[EventRefused, ...] = ()


class ReviewLog:
    """The log of one audit, or of all audits in a database for reading. Safe to share among threads.

    Frames have one row per event, decision or example; text is pandas text, ``labels`` and ``issues`` are
    tuples of names, ``created_at`` is in UTC and set by the log, ``position`` counts in commit order across
    the database.
    """

    def __init__(self, engine: sa.Engine, audit: str | None, classes: Collection[str] | None = None):
        self._engine = engine
        self.audit = audit
        self._classes = None if classes is None else frozenset(classes)
        self._acknowledged: dict[str, int] = {}
        self._turn = threading.Lock()  # of those who append
        self._lock = threading.Lock()  # of what is remembered below
        self._cache = pd.DataFrame()
        self._stands = np.array([], dtype=bool)
        rules = (verdicts.decisions, verdicts.consensus, verdicts.flags, verdicts.comments, verdicts.assignments)
        self._tables = {rule.__name__: verdicts.Table(rule) for rule in rules}

    @classmethod
    def open(cls, url: str | Path, audit: str | None = None, *, classes: Collection[str] | None = None) -> ReviewLog:
        """Open a log, creating or migrating it.

        url: a path, ``sqlite:///…`` or ``postgresql+psycopg://…``.
        audit: the audit's name; None reads across audits. classes: where given, new labels must be among
        them. Raises ``LogUnavailable`` where the database cannot be used, ``HardlookError`` where it was
        written by a newer version.
        """
        if audit is not None and len(needed_text("audit", audit)) > LONGEST_KEY:
            raise HardlookError(f"the audit's name has {len(audit)} characters, but at most {LONGEST_KEY} are allowed")
        return cls(store.open_engine(url), audit, classes)

    @property
    def engine(self) -> sa.Engine:
        """The database, for what lives beside the events: locks and meetings."""
        return self._engine

    def close(self) -> None:
        """Give the connections back. Everything that was appended is on the disk already."""
        self._engine.dispose()

    def one_audit(self) -> str:
        """Returns the audit that this log belongs to; ``HardlookError`` where it was opened across audits."""
        if self.audit is None:
            raise HardlookError("this log was opened for all audits, read-only; open it with audit=NAME to append")
        return self.audit

    def __enter__(self) -> ReviewLog:
        return self

    def __exit__(self, *_error: Any) -> None:
        self.close()

    # -- writing ------------------------------------------------------------------------------------

    def append(self, events: Iterable[Event]) -> dict[str, int]:
        """Write events in the order given, all or none → {client: up to which seq nothing is missing}.

        Durable when it returns. Events that are there already with the same content are left as they are, so
        sending again is safe. The acknowledged seq counts from the client's lowest one: a client sends the
        oldest event that is not acknowledged first, and drops what is acknowledged.

        Raises ``EventRefused`` (the same (client, seq) with other content, an undo of nothing or of somebody
        else's act, a label that is no class) and ``LogUnavailable`` (try again); nothing is written then.
        """
        return self._append(list(events), all_or_none=True, one_reviewer=False).acknowledged

    def append_valid(self, events: Iterable[Event], *, one_reviewer: bool = False) -> Appended:
        """Writes the events that can be written, in the order given, and returns the refusals of the others.

        Otherwise as ``append``. A refusal costs no more than an event. one_reviewer: a client belongs to the reviewer
        of its first event, and events of others under its name are refused. Raises ``LogUnavailable``; nothing is
        written then.
        """
        return self._append(list(events), all_or_none=False, one_reviewer=one_reviewer)

    def _append(self, events: list[Event], *, all_or_none: bool, one_reviewer: bool) -> Appended:
        audit = self.one_audit()
        # SQLite's waiting writers poll and may starve; the threads of one server take turns instead.
        with self._turn, explained(self._engine), writing(self._engine) as connection:
            position = store.lock_appends(connection)
            batch = Batch(connection, audit, self._classes, one_reviewer=one_reviewer)
            rows = batch.new_rows(events, position)
            if all_or_none and batch.refused:
                raise batch.refused[0]
            if rows:
                store.insert_events(connection, rows)
            acknowledged = self._count(connection, audit, batch.clients)
        self._acknowledged.update(acknowledged)
        return Appended(acknowledged, tuple(batch.refused))

    def acknowledged(self, clients: Iterable[str]) -> dict[str, int]:
        """Returns up to which seq nothing is missing, per client that has sent anything."""
        audit = self.one_audit()
        with explained(self._engine), self._engine.connect() as connection:
            return self._count(connection, audit, set(clients))

    def _count(self, connection: sa.Connection, audit: str, clients: set[str]) -> dict[str, int]:
        counts = {
            client: store.contiguous_seq(connection, audit, client, self._acknowledged.get(client))
            for client in sorted(clients)
        }
        return {client: seq for client, seq in counts.items() if seq is not None}

    # -- reading ------------------------------------------------------------------------------------

    def events(self, after: int = 0, *, example_id: str | None = None, limit: int | None = None) -> pd.DataFrame:
        """Events in commit order, those after position ``after``; every column, ``evidence`` as a dict.

        A reader that goes on from the last position it has seen never skips one. example_id: this example's
        alone.
        """
        query = self._select(event_table.c, after)
        if example_id is not None:
            query = query.where(event_table.c.example_id == example_id)
        with explained(self._engine), self._engine.connect() as connection:
            return store.read_events(connection, query.limit(limit))

    def _select(self, columns: Iterable[sa.ColumnElement[Any]], after: int) -> sa.Select[Any]:
        query = sa.select(*columns).where(event_table.c.position > after).order_by(event_table.c.position)
        return query if self.audit is None else query.where(event_table.c.audit == self.audit)

    def position(self) -> int:
        """The position of the last event, 0 in an empty log; the least costly way to ask for news."""
        last = self._select([sa.func.max(event_table.c.position)], 0).order_by(None)
        with explained(self._engine), self._engine.connect() as connection:
            return connection.execute(last).scalar() or 0

    def decisions(self, as_of: int | None = None) -> pd.DataFrame:
        """Returns what each reviewer says: one row per (example, reviewer), ``verdicts.DECISION_COLUMNS``.

        as_of: how it stood when this position was the last; here and below None is now, which costs least.
        """
        return self._derive("decisions", as_of)

    def consensus(self, as_of: int | None = None) -> pd.DataFrame:
        """Returns what it comes to: one row per example, agreed, disputed or adjudicated, ``CONSENSUS_COLUMNS``."""
        return self._derive("consensus", as_of)

    def flags(self, as_of: int | None = None) -> pd.DataFrame:
        """The examples flagged for discussion, ``verdicts.FLAG_COLUMNS``."""
        return self._derive("flags", as_of)

    def comments(self, as_of: int | None = None) -> pd.DataFrame:
        """The comments that stand, ``verdicts.FLAG_COLUMNS``."""
        return self._derive("comments", as_of)

    def assignments(self, as_of: int | None = None) -> pd.DataFrame:
        """Returns who was given which example, ``verdicts.ASSIGNMENT_COLUMNS``."""
        return self._derive("assignments", as_of)

    def last_act(self, reviewer: str, *, but: str | None = None) -> dict[str, Any] | None:
        """The reviewer's last act that stands, on any machine, for an undo to name; None: nothing is left. ``but``: a
        client whose acts are not meant.

        → client, seq, action, example_id, fingerprint, label and batch, null as None.
        """
        with self._lock:
            events = self._refresh()
            rows = self._stands & (events["reviewer"] == reviewer) & events["action"].isin(UNDOABLE)
            if but is not None:
                rows &= events["client"] != but
        if not rows.any():
            return None
        last = events[rows].iloc[-1]
        names = ("client", "action", "example_id", "fingerprint", "label", "batch")
        return {"seq": int(last["seq"])} | {name: None if pd.isna(last[name]) else last[name] for name in names}

    def without(self, act: Mapping[str, Any]) -> tuple[pd.DataFrame, np.ndarray]:
        """The events about the examples of an act (as ``last_act`` tells it), and which would stand without it: what
        the rules of ``scoring.reviews.decisions`` need to say how these examples stand once it is undone."""
        with self._lock:
            events, stands = self._refresh(), self._stands.copy()
        one = events["seq"] == act["seq"] if act["batch"] is None else events["batch"] == act["batch"]
        members = (events["client"] == act["client"]) & one & (events["action"] != "undo")
        stands[members.to_numpy(dtype=bool)] = False
        about = events["example_id"].isin(events.loc[members, "example_id"]).to_numpy(dtype=bool)
        return events[about], stands[about]

    def audits(self) -> pd.DataFrame:
        """Returns the audits in this database and their numbers of events, to distinguish an empty log from a wrong
        name."""
        query = sa.select(event_table.c.audit, sa.func.count().label("events")).group_by(event_table.c.audit)
        with explained(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(event_table.c.audit)).fetchall()
        return pd.DataFrame(rows, columns=["audit", "events"]).astype({"audit": store.TEXT, "events": "int64"})

    def _refresh(self) -> pd.DataFrame:
        """All events without their evidence, topped up with what is new; under the lock."""
        known = len(self._cache)
        seen = int(self._cache["position"].iloc[-1]) if known else 0
        with explained(self._engine), self._engine.connect() as connection:
            fresh = store.read_events(connection, self._select(store.LIGHT, seen))
        if not len(fresh) and known:
            return self._cache
        self._cache = store.joined(self._cache, fresh) if known else fresh
        if (fresh["action"] == "undo").any():
            self._stands = verdicts.not_undone(self._cache)
        else:
            self._stands = np.concatenate([self._stands, np.ones(len(fresh), dtype=bool)])
        return self._cache

    def _derive(self, name: str, as_of: int | None) -> pd.DataFrame:
        """A derived table; the caller gets a copy of its own."""
        with self._lock:
            events = self._refresh()
            if as_of is None:
                return self._tables[name].follow(events, self._stands).copy()
        events = events[events["position"] <= as_of]
        return self._tables[name].rule(events, verdicts.not_undone(events))
