"""A consistent copy of a review log in use, and its way back.

A backup is one SQLite file, whichever database the log is on: events, meetings and position, of all its audits. Copying
``reviews.sqlite`` by hand is no backup: the newest commits, at first even the tables, are in ``reviews.sqlite-wal``.
A backup carries the SHA-256 of its rows, because SQLite notices no bit that turned inside a text.

Inputs → outputs: a log's URL → a file that appears whole, or not at all; a backup → the log, in which no event is
missing that it held before. Cost: SQLite copies pages; from PostgreSQL the rows are read in one snapshot.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import secrets
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from scoring.audit.errors import HardlookError
from scoring.audit.storage import remove_abandoned_of, scratch_folder
from scoring.reviews.event_store import event_table, lock_appends, log_table, meeting_table, open_engine
from scoring.reviews.log_database import explained, file_path, parse_url, writing

ROWS = 5_000  # read and written at a time
BESIDE = ("-wal", "-shm")  # what SQLite keeps beside a database in use
SEAL = "hardlook_backup"  # the table of a backup that holds the digest of its rows


@dataclass(frozen=True)
class LogCopy:
    """How many events a copy holds, of which audits, and how many of them are new in the target."""

    events: int
    audits: tuple[str, ...]
    new: int


def back_up(url: str | Path, file: Path) -> LogCopy:
    """Copies the log at ``url`` into the new file ``file``; reviewers may go on meanwhile.

    Raises ``HardlookError`` if there is no log, or if the file exists: a backup never replaces another one.
    """
    file = file.absolute()
    remove_abandoned_of(file)
    if file.exists():
        raise HardlookError(f"{file} exists already; a backup replaces nothing, give another name")
    if not file.parent.is_dir():
        raise HardlookError(f"the folder {file.parent} does not exist; create it, or give another place")
    address = parse_url(url)
    source = file_path(address.database or "") if address.get_backend_name() == "sqlite" else None
    if source is not None and not source.is_file():
        raise HardlookError(f"there is no review log at {source}; nobody has decided yet, or --log names another place")
    with _appearing(file) as part:
        try:
            if source is not None:
                _copy_pages(url, part)
            else:
                _copy_rows_to(url, part)
            _seal(part)
        except (sqlite3.Error, sa.exc.DBAPIError, OSError) as error:
            raise HardlookError(
                f"{file} could not be made ({getattr(error, 'orig', error)}); nothing of it was kept; make room on its "
                "disk, or give another place, and see that the log can be read"
            ) from error
        return check_backup(part)


def check_backup(file: Path, audit: str | None = None) -> LogCopy:
    """Returns what a backup holds. Raises ``HardlookError`` if it is damaged, no review log, or without this audit."""
    if not file.is_file():
        raise HardlookError(f"there is no file {file}; give the file that hardlook backup wrote")
    if any(file.with_name(file.name + ending).exists() for ending in BESIDE):
        raise HardlookError(
            f"{file} is a log in use, or was copied with what is beside it ({file.name}-wal); make a copy in one file "
            "with hardlook backup"
        )
    try:
        # immutable: reading leaves no -wal and no -shm beside a backup, which may lie on a read-only disk
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?immutable=1", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not {log_table.name, event_table.name} <= tables:
                raise HardlookError(
                    f"{file} holds no review log: it has no table {event_table.name}; a copy of reviews.sqlite alone "
                    "lacks what is in reviews.sqlite-wal, so use hardlook backup"
                )
            damage = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if damage == "ok" and SEAL in tables and _rows_digest(connection) != _sealed_digest(connection):
                damage = "its rows differ from those that were written"
            if damage != "ok":
                raise HardlookError(f"{file} is damaged ({damage:.200}); use another backup")
            events = "SELECT audit, count(*) FROM hardlook_events GROUP BY audit ORDER BY audit"
            counted = dict(connection.execute(events))
    except sqlite3.DatabaseError as error:
        raise HardlookError(f"{file} cannot be read as a review log ({error}); use another backup") from error
    if audit is not None and audit not in counted:
        raise HardlookError(
            f"{file} has no events of this audit, {audit!r}; it holds {', '.join(map(repr, counted)) or 'no events'}"
        )
    return LogCopy(sum(counted.values()), tuple(counted), 0)


def restore(file: Path, url: str | Path, audit: str) -> LogCopy:
    """Brings the events of a backup back into the log at ``url``, which is created where there is none.

    Events that the log holds stay. Raises ``HardlookError`` if the log holds events that the backup lacks: its
    positions would have two meanings.
    """
    found = check_backup(file, audit)
    address = parse_url(url)
    if address.get_backend_name() == "sqlite":
        _set_aside(file_path(address.database or ""))
    with scratch_folder(Path(tempfile.gettempdir(), "hardlook-restore")) as folder:
        own = folder / "log.sqlite"  # a copy, because an old schema is migrated before its rows are read
        shutil.copyfile(file, own)
        source, target = open_engine(own), open_engine(url)
        try:
            with source.connect() as reading, explained(target), writing(target) as connection:
                new = _copy_new_rows(reading, connection)
        finally:
            source.dispose()
            target.dispose()
    return LogCopy(found.events, found.audits, new)


@contextlib.contextmanager
def _appearing(file: Path) -> Iterator[Path]:
    """Yields a temporary file that appears under its name, whole and on the disk, when the block ends."""
    with scratch_folder(file) as folder:
        part = folder / file.name
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())
        try:
            os.link(part, file)  # unlike a rename it replaces nothing
        except FileExistsError:
            raise HardlookError(f"{file} appeared meanwhile; a backup replaces nothing, give another name") from None
        except OSError:  # a file system without links
            os.rename(part, file)


def _copy_pages(url: str | Path, part: Path) -> None:
    """SQLite's own backup, in one file without a ``-wal``."""
    source = open_engine(url)
    try:
        with explained(source), source.connect() as connection, contextlib.closing(sqlite3.connect(part)) as copy:
            driver = connection.connection.driver_connection
            if not isinstance(driver, sqlite3.Connection):
                raise HardlookError(f"a SQLite log is read through sqlite3, found {type(driver).__name__}")
            driver.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")
    finally:
        source.dispose()


def _seal(part: Path) -> None:
    """Writes the digest of a backup's rows into it."""
    with contextlib.closing(sqlite3.connect(part)) as copy:
        copy.execute(f"CREATE TABLE {SEAL} (digest TEXT NOT NULL)")
        copy.execute(f"INSERT INTO {SEAL} VALUES (?)", (_rows_digest(copy),))
        copy.commit()


def _sealed_digest(connection: sqlite3.Connection) -> str | None:
    found = connection.execute(f"SELECT digest FROM {SEAL}").fetchone()
    return None if found is None else found[0]


def _rows_digest(connection: sqlite3.Connection) -> str:
    """SHA-256 of position, events and meetings; bytes as they are, whatever a damaged text holds."""
    digest, text = hashlib.sha256(), connection.text_factory
    connection.text_factory = bytes
    try:
        for table in (log_table.name, event_table.name, meeting_table.name):
            kept = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            for row in connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2") if kept else ():
                digest.update(repr(row).encode())
    finally:
        connection.text_factory = text
    return digest.hexdigest()


def _copy_rows_to(url: str | Path, part: Path) -> None:
    """The rows of a server's log in one snapshot."""
    source, target = open_engine(url), open_engine(part)
    try:
        with explained(source):
            snapshot = source.connect().execution_options(isolation_level="REPEATABLE READ")
        with snapshot as reading, writing(target) as connection:
            _copy_new_rows(reading, connection)
    finally:
        source.dispose()
        target.dispose()
    with contextlib.closing(sqlite3.connect(part)) as copy:
        copy.execute("PRAGMA journal_mode=DELETE")


def _copy_new_rows(source: sa.Connection, target: sa.Connection) -> int:
    """Copies events and meetings that the target lacks, and returns the number of events."""
    position = lock_appends(target)
    _refuse_other_events(source, target, position)
    later = sa.select(event_table).where(event_table.c.position > position).order_by(event_table.c.position)
    copied = 0
    with source.execute(later.execution_options(yield_per=ROWS)) as result:
        for rows in result.mappings().partitions():
            target.execute(event_table.insert(), [dict(row) for row in rows])
            copied += len(rows)
    last = source.execute(sa.select(log_table.c.position)).scalar_one()
    if last > position:
        target.execute(log_table.update().values(position=last))
        target.execute(meeting_table.delete())
        meetings = [dict(row) for row in source.execute(sa.select(meeting_table)).mappings()]
        if meetings:
            target.execute(meeting_table.insert(), meetings)
    return copied


def _refuse_other_events(source: sa.Connection, target: sa.Connection, position: int) -> None:
    """Raises ``HardlookError`` unless each event of the target stands at the same position in the source."""
    columns = (event_table.c.position, event_table.c.audit, event_table.c.client, event_table.c.seq)
    query = sa.select(*columns).order_by(event_table.c.position).execution_options(yield_per=ROWS)
    with source.execute(query) as copied, target.execute(query) as present:
        pairs = itertools.zip_longest(present, itertools.islice(copied, position))
        other = sum(tuple(mine) != tuple(theirs or ()) for mine, theirs in pairs if mine is not None)
    if other:
        raise HardlookError(
            f"the log holds {other:,} events that the backup lacks or has elsewhere, which a restore would lose; move "
            "the log's file away first, or give an empty database with --log"
        )


def _set_aside(log: Path) -> None:
    """Renames what an earlier log left beside a file that is gone: SQLite would play it into the restored one."""
    if log.exists():
        return
    for ending in BESIDE:
        left = log.with_name(log.name + ending)
        if left.exists():
            left.rename(left.with_name(f"{left.name}.before-restore-{secrets.token_hex(4)}"))
