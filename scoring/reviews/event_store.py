"""The event store: one durable, append-only SQL table, on SQLite or PostgreSQL.

Every append happens under one lock (SQLite: BEGIN IMMEDIATE; PostgreSQL: the row of ``hardlook_log``), held
until the commit, and takes its positions under it. So positions are the commit order of the whole database,
without gaps, and a reader that has seen position p has seen everything before it. A sequence would not do: it
hands out 7 and 8 to two transactions that may commit in the other order. Triggers refuse any change of an
event. SQLite runs in WAL mode with synchronous=FULL and waits for its turn.

Inputs → outputs: any SQL URL or path → an SQLAlchemy engine whose schema is current; rows → data frames of
stable types. Cost: one flush to the disk per append. Known limits: a SQLite log needs a local disk (WAL
shares memory between its processes); one append at a time per database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from scoring.audit.errors import HardlookError
from scoring.reviews.log_database import create_engine, explained, last_position, parse_url, writing
from scoring.reviews.log_file import LogUnavailable

SCHEMA_VERSION = 2
TEXT = pd.StringDtype(na_value=np.nan)
UPGRADE_LOCK = 0x6861726C  # any number that other programs in the same PostgreSQL are unlikely to lock

schema = sa.MetaData()
log_table = sa.Table(
    "hardlook_log",  # one row: the schema's version and the last position; its lock orders the appends
    schema,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
)
event_table = sa.Table(
    "hardlook_events",
    schema,
    sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    sa.Column("audit", sa.Text, nullable=False),
    sa.Column("client", sa.Text, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("example_id", sa.Text, nullable=False),
    sa.Column("reviewer", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    *(sa.Column(name, sa.Text) for name in ("fingerprint", "label", "verdict", "new_label")),
    sa.Column("labels", sa.Text, nullable=False),  # JSON lists
    sa.Column("issues", sa.Text, nullable=False),
    *(sa.Column(name, sa.Text) for name in ("note", "batch", "undoes_client")),
    sa.Column("undoes_seq", sa.BigInteger),
    sa.Column("undoes_position", sa.BigInteger),  # where the undone event stands, so that reading needs no look-up
    sa.Column("evidence", sa.Text),  # JSON
    sa.Column("seconds", sa.Double),
    sa.Column("round", sa.BigInteger),
    sa.Column("created_at", sa.BigInteger, nullable=False),  # microseconds since 1970, UTC
    sa.Column("assignee", sa.Text),  # of assign and release; since version 2
    sa.UniqueConstraint("audit", "client", "seq"),
    sa.Index("hardlook_events_audit", "audit", "position"),
    # A hash: ids may be longer than PostgreSQL's ordered indexes can hold.
    sa.Index("hardlook_events_example", "example_id", postgresql_using="hash"),
)
lock_table = sa.Table(  # who looks at which example now (``scoring.queue.locks``); since version 2
    "hardlook_locks",
    schema,
    sa.Column("audit", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),  # the id's hash
    sa.Column("example_id", sa.Text, nullable=False),
    sa.Column("reviewer", sa.Text, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),  # microseconds since 1970, UTC
)
meeting_table = sa.Table(  # where the team is in its meetings (``scoring.reviews.meetings``); since version 2
    "hardlook_meetings",
    schema,
    sa.Column("audit", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),  # JSON
)
REFUSAL = "events of a review log are never changed or deleted"
TRIGGERS = {
    "sqlite": [
        f"CREATE TRIGGER hardlook_events_no_{act} BEFORE {act} ON hardlook_events BEGIN SELECT RAISE(ABORT, "
        f"'{REFUSAL}'); END"
        for act in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        f"CREATE FUNCTION hardlook_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; "
        "END $$",
        "CREATE TRIGGER hardlook_events_unchanged BEFORE UPDATE OR DELETE OR TRUNCATE ON hardlook_events FOR EACH "
        "STATEMENT EXECUTE FUNCTION hardlook_refuse()",
    ],
}


def _add_sharing(connection: sa.Connection) -> None:
    """1 → 2: whom an example is assigned to, locks and meetings."""
    connection.exec_driver_sql("ALTER TABLE hardlook_events ADD COLUMN assignee TEXT")
    schema.create_all(connection, tables=[lock_table, meeting_table])


# From each older version of the schema, the step to the next one: (connection) -> None.
MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {1: _add_sharing}


# -- opening ----------------------------------------------------------------------------------------


def open_engine(url: str | Path) -> sa.Engine:
    """Connect to a database and bring its schema to this version, creating it where there is none."""
    address = parse_url(url)
    engine = create_engine(address)
    try:
        with explained(engine):
            _prepare(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


# -- schema -----------------------------------------------------------------------------------------


def _prepare(engine: sa.Engine) -> None:
    """Create or migrate under the write lock; a current schema is only read."""
    with engine.connect() as connection:
        version = _version(connection)
    if version == SCHEMA_VERSION:
        return
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        _upgrade(connection, _version(connection))


def _version(connection: sa.Connection) -> int | None:
    """The schema's version, None where there is no log; a newer one is refused."""
    if not sa.inspect(connection).has_table(log_table.name):
        return None
    version = connection.execute(sa.select(log_table.c.version)).scalar_one_or_none()
    if version is None:
        raise LogUnavailable(
            f"the review log {connection.engine.url.render_as_string(hide_password=True)} is damaged: hardlook_log "
            "has no row; restore a backup, or try sqlite3's .recover on a copy"
        )
    if version > SCHEMA_VERSION:
        raise HardlookError(
            f"the review log {connection.engine.url.render_as_string(hide_password=True)} has schema {version}, but "
            f"this version of hardlook reads schemas up to {SCHEMA_VERSION}; upgrade hardlook"
        )
    return version


def _upgrade(connection: sa.Connection, version: int | None) -> None:
    if version is None:
        schema.create_all(connection)
        for statement in TRIGGERS[connection.dialect.name]:
            connection.exec_driver_sql(statement)
        connection.execute(log_table.insert().values(id=1, version=SCHEMA_VERSION, position=0))
        return
    for step in range(version, SCHEMA_VERSION):
        MIGRATIONS[step](connection)
    connection.execute(log_table.update().values(version=SCHEMA_VERSION))


# -- writing and reading ----------------------------------------------------------------------------


def lock_appends(connection: sa.Connection) -> int:
    """Wait for the turn to append, held until the commit; returns the last position."""
    position = connection.execute(sa.select(log_table.c.position).with_for_update()).scalar_one()
    last_position(connection).advance(position)
    return position


def insert_events(connection: sa.Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows, numbered by the caller under ``lock_appends``, and remember the last position."""
    connection.execute(event_table.insert(), list(rows))
    connection.execute(log_table.update().values(position=rows[-1]["position"]))


def contiguous_seq(connection: sa.Connection, audit: str, client: str, known: int | None) -> int | None:
    """The highest seq up to which no event of a client is missing, from its lowest on; None: it has none.

    ``known``: what an earlier call returned, so that a long session is not counted again at every append.
    """
    table = event_table
    own = sa.and_(table.c.audit == audit, table.c.client == client)
    if known is None:
        known = connection.execute(sa.select(sa.func.min(table.c.seq)).where(own)).scalar()
    if known is None:
        return None
    later = sa.select(sa.func.count(), sa.func.max(table.c.seq)).where(own, table.c.seq > known)
    count, top = connection.execute(later).one()
    if not count or top - known == count:
        return top if count else known
    following = table.alias()
    next_one = sa.exists().where(
        following.c.audit == audit, following.c.client == client, following.c.seq == table.c.seq + 1
    )
    before_gap = sa.select(sa.func.min(table.c.seq)).where(own, table.c.seq >= known, ~next_one)
    return connection.execute(before_gap).scalar_one()


TEXTS = frozenset(column.name for column in event_table.c if isinstance(column.type, sa.Text))
LIGHT = tuple(column for column in event_table.c if column.name not in ("evidence", "undoes_client", "undoes_seq"))


def read_events(connection: sa.Connection, query: sa.Select[Any]) -> pd.DataFrame:
    """Run a query over columns of ``event_table`` → data frame, of the same types whatever the rows."""
    result = connection.execute(query)
    names = list(result.keys())
    rows = result.fetchall()
    columns = dict(zip(names, zip(*rows, strict=True) if rows else [()] * len(names), strict=True))
    if "undoes_client" in columns:
        columns["undoes"] = _references(columns.pop("undoes_client"), columns.pop("undoes_seq"))
    return pd.DataFrame({name: _typed(name, values) for name, values in columns.items()})


def joined(events: pd.DataFrame, fresh: pd.DataFrame) -> pd.DataFrame:
    """Two event frames, one after the other. Text columns stay in pieces, now and then made one."""
    both = pd.concat([events, fresh], ignore_index=True)
    crossed = len(both) // 256 > len(events) // 256
    return both[both["position"] > 0] if crossed else both


def _typed(name: str, values: Sequence[Any]) -> Any:
    """One column in its type: pandas text, numbers and times; tuples, dicts and references as objects."""
    if name in ("labels", "issues", "evidence", "undoes"):
        return pd.Series(_parsed(name, values), dtype=object)
    if name in TEXTS:
        return pd.array(values, dtype=TEXT)
    if name in ("round", "undoes_position"):
        return pd.array(values, dtype="Int64")
    if name == "created_at":
        return pd.to_datetime(np.array(values, dtype="datetime64[us]")).tz_localize("UTC")
    return np.array(values, dtype=np.float64 if name == "seconds" else np.int64)


def _parsed(name: str, values: Sequence[Any]) -> list[Any]:
    if name in ("labels", "issues"):
        known = {text: tuple(_json(text)) for text in set(values)}  # nearly all are alike
        return [known[text] for text in values]
    if name == "evidence":
        return [None if text is None else _json(text) for text in values]
    return list(values)


def _json(text: str) -> Any:
    """Returns the value of a JSON column. Raises ``LogUnavailable`` if it is damaged: a decision is never guessed."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise LogUnavailable(
            f"the review log is damaged: an event holds {text!r:.60} where JSON was written ({error}); restore a backup"
        ) from error


def _references(clients: Sequence[str | None], seqs: Sequence[int | None]) -> list[tuple[str, int] | None]:
    pairs = zip(clients, seqs, strict=True)
    return [None if client is None or seq is None else (client, seq) for client, seq in pairs]
