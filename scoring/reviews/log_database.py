"""The database of a review log: its address, its connections, its transactions and its errors.

SQLite runs in WAL mode with synchronous=FULL and waits for its turn; PostgreSQL flushes before it answers. Whoever
deletes, moves or replaces a SQLite log in use is noticed at every transaction (``scoring.reviews.log_file``).

Inputs → outputs: any SQL URL or path → an SQLAlchemy engine. Known limit: a SQLite log needs a local disk (WAL shares
memory between its processes).
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa

from scoring.audit.errors import HardlookError
from scoring.reviews.log_file import LastPosition, LogFile, LogUnavailable

BACKENDS = ("sqlite", "postgresql")
LOG_FILE = "hardlook_log_file"  # the option of an engine that holds its ``LogFile``
LAST_POSITION = "hardlook_last_position"  # and the one that holds its ``LastPosition``
WAIT = 30.0  # seconds that a writer waits for its turn


def create_engine(address: sa.URL) -> sa.Engine:
    """Returns the engine of a log's address, as ``parse_url`` gives it; nothing is opened yet."""
    return _sqlite(address) if address.get_backend_name() == "sqlite" else _postgresql(address)


def parse_url(url: str | Path) -> sa.URL:
    """A path or SQL URL as SQLAlchemy has it, or why it cannot hold a log.

    >>> parse_url("reviews.sqlite").render_as_string(), parse_url("postgres://host/team").drivername
    ('sqlite:///reviews.sqlite', 'postgresql+psycopg')
    """
    if isinstance(url, Path) or "://" not in url:
        return sa.URL.create("sqlite", database=str(url))
    try:
        address = sa.make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres:") else url)
    except sa.exc.ArgumentError as error:
        raise HardlookError(
            "the review log's address is not an SQL URL; write a path or sqlite:///…, postgresql://…"
        ) from error
    if address.get_backend_name() not in BACKENDS:
        found = address.render_as_string(hide_password=True)
        raise HardlookError(
            f"a review log is kept in SQLite or PostgreSQL, found {found}; see --log in the manual: /help?topic=teams"
        )
    if address.drivername == "postgresql":
        address = address.set(drivername="postgresql+psycopg")
    if address.drivername.startswith("sqlite") and address.database in (None, "", ":memory:"):
        raise HardlookError("a review log in memory would lose every decision; use a file: sqlite:///reviews.sqlite")
    return address


def _sqlite(address: sa.URL) -> sa.Engine:
    file = LogFile(file_path(address.database or ""))
    options = {"timeout": WAIT, "isolation_level": None}
    engine = sa.create_engine(
        address, connect_args=options, execution_options={LOG_FILE: file, LAST_POSITION: LastPosition()}
    )
    sa.event.listen(engine, "do_connect", lambda *_arguments: file.before_connect())
    sa.event.listen(engine, "connect", _configure_sqlite)
    sa.event.listen(engine, "connect", lambda *_arguments: file.after_connect())
    sa.event.listen(engine, "close", lambda *_arguments: file.after_close())
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def file_path(database: str) -> Path:
    """Returns the file of a SQLite address, which may be a path or a ``file:`` URI.

    >>> file_path("file:/srv/reviews.sqlite?mode=rw"), file_path("/srv/reviews.sqlite")
    (PosixPath('/srv/reviews.sqlite'), PosixPath('/srv/reviews.sqlite'))
    """
    path = unquote(urlsplit(database).path) if database.startswith("file:") else database
    return Path(path).absolute()


def last_position(connection: sa.Connection) -> LastPosition:
    """Returns the last position that this process has seen in the log."""
    return connection.get_execution_options()[LAST_POSITION]


def log_file(connection: sa.Connection) -> LogFile | None:
    """Returns the file of a SQLite log; None for a server's."""
    return connection.get_execution_options().get(LOG_FILE)


@contextlib.contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that writes: all of it is on the disk when the block ends, or nothing."""
    with engine.connect().execution_options(writes=True) as connection:
        with connection.begin():
            yield connection
        file = log_file(connection)
        if file is not None:
            file.check()


def _configure_sqlite(connection: Any, _record: Any) -> None:
    """Readers beside one writer; a commit returns when it is on the disk (on a Mac's, past its cache)."""
    mode = _enter_wal(connection)
    if mode != "wal":
        raise LogUnavailable(
            f"the review log needs SQLite's WAL mode and got {mode!r}; put it on a local, writable disk"
        )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=1")
    connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # opens the -wal, whose identity is remembered


def _enter_wal(connection: Any) -> str:
    """The journal's mode from now on. Beside a writer SQLite refuses this change at once instead of waiting for its
    turn."""
    end = time.monotonic() + WAIT
    while True:
        try:
            return connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once: a reader that wants to write later is turned away instead of waiting."""
    file = log_file(connection)
    if file is not None:
        file.check()
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(address: sa.URL) -> sa.Engine:
    options = {"client_encoding": "utf8", "connect_timeout": int(WAIT)}
    try:
        engine = sa.create_engine(
            address,
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            connect_args=options,
            execution_options={LAST_POSITION: LastPosition()},
        )
    except ModuleNotFoundError as error:
        raise HardlookError(f"PostgreSQL needs {error.name}: run pip install 'hardlook[postgres]'") from error
    sa.event.listen(engine, "connect", _configure_postgresql)
    return engine


def _configure_postgresql(connection: Any, _record: Any) -> None:
    """A commit returns when it is on the server's disk, even where the server's default is to hurry."""
    connection.autocommit = True
    connection.execute("SET synchronous_commit TO on")
    connection.autocommit = False


@contextlib.contextmanager
def explained(engine: sa.Engine) -> Iterator[None]:
    """Turn the database's own errors into one sentence that names the log; passwords stay hidden."""
    try:
        yield
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        where = engine.url.render_as_string(hide_password=True)
        found = str(getattr(error, "orig", error)).strip()
        raise LogUnavailable(f"the review log {where} {_reason(found)}") from error


REASONS = {
    "file is not a database": "is not a SQLite database; move that file, or give another one with --log",
    "malformed": "is damaged; copy it, then try sqlite3's .recover on the copy",
    "readonly": "cannot be written; make the file and its folder writable, or give another one with --log",
    "unable to open": "cannot be opened; its folder must exist and be writable",
    "locked": f"was busy for {WAIT:g} s; nothing was saved, try again",
    "disk is full": "has no room left on its disk; nothing was saved",
}


def _reason(found: str) -> str:
    for words, reason in REASONS.items():
        if words in found:
            return f"{reason} ({found})"
    return f"failed; unacknowledged events are not saved, so try again ({found})"
