"""The review log's tables: durable when `append` returns, through kill -9, many writers, other versions, a lost
database."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from scoring.audit.errors import HardlookError
from scoring.queue import locks
from scoring.queue.assignments import assignees, assignment_events
from scoring.reviews import Event, ReviewLog, event_store, log_database
from scoring.reviews.log_database import writing
from scoring.reviews.log_file import LogUnavailable

from ..databases import log_url, new_schema, postgres, postgres_server  # noqa: F401  pytest finds the fixtures by name
from ..old_logs import write_version_1


def decision(seq, client="tab"):
    return Event(client=client, seq=seq, example_id="a", reviewer="ana", action="decide", verdict="given")


@pytest.fixture
def log(log_url):
    with ReviewLog.open(log_url, "digits") as log:
        yield log


# -- what is on the disk ----------------------------------------------------------------------------

BURST = """
import sys
from scoring.reviews import Event, ReviewLog
url, client = sys.argv[1:]
log = ReviewLog.open(url, "digits")
seq = 0
while True:
    events = [Event(client=client, seq=seq + n, example_id=str(n), reviewer=client, action="decide",
                    verdict="given", note="n" * 500) for n in (1, 2, 3)]
    seq = log.append(events)[client]
    print(seq, flush=True)
"""


def test_kill_9_in_a_burst_loses_nothing_that_was_acknowledged(log_url):
    clients = ["a", "b"]
    start = [sys.executable, "-c", BURST, log_url]
    processes = [subprocess.Popen([*start, client], stdout=subprocess.PIPE, text=True) for client in clients]
    for process in processes:
        assert [int(process.stdout.readline()) for _ in range(10)] == list(range(3, 31, 3))
    for process in processes:
        process.kill()
    acknowledged = {}
    for client, process in zip(clients, processes, strict=True):
        lines = process.communicate()[0].split("\n")[:-1]  # a last line without its end was never said
        acknowledged[client] = int(lines[-1]) if lines else 30
    with ReviewLog.open(log_url, "digits") as log:
        events = log.events()
        for client, seq in acknowledged.items():
            stored = events.seq[events.client == client].tolist()
            assert stored == list(range(1, len(stored) + 1)) and len(stored) % 3 == 0, "an append is whole or absent"
            assert len(stored) >= seq > 0
            assert log.append([decision(len(stored) + 1, client=client)]) == {client: len(stored) + 1}


def test_events_cannot_be_changed_or_deleted(log):
    log.append([decision(1)])
    for statement in ("UPDATE hardlook_events SET verdict = 'none'", "DELETE FROM hardlook_events"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="never changed or deleted"),
            writing(log._engine) as c,
        ):
            c.exec_driver_sql(statement)
    assert log.decisions().verdict.tolist() == ["given"]


def test_a_log_of_the_first_schema_opens_and_keeps_every_event(log_url):
    write_version_1(log_url)
    before = {"client": "tab", "reviewer": "ana", "label": "3"}
    sent_again = Event(
        seq=1,
        example_id="a.png",
        action="decide",
        fingerprint="f00",
        verdict="other",
        new_label="5",
        issues=["bad image"],
        note="née <b>",
        evidence={"rank": 1},
        seconds=1.5,
        **before,
    )
    for _ in range(2):  # the second opening finds nothing to do
        with ReviewLog.open(log_url, "digits") as log:
            assert log.append([sent_again]) == {"tab": 3}, "what an old client sends again is known"
            assert log.events()["assignee"].isna().all() and log.events()["evidence"][0] == {"rank": 1}
            assert log.decisions()["example_id"].tolist() == ["a.png"]
    with ReviewLog.open(log_url, "digits") as log:
        log.append(assignment_events({"b.png": "ben"}, "lea", "lea 1"))
        assert assignees(log) == {"b.png": ("ben",)}
        assert locks.claim(log, ["b.png"], "ben", datetime.now(UTC), 1) == {"b.png": "ben"}
        assert log.events().position.tolist() == [1, 2, 3, 4]
        with pytest.raises(sa.exc.DBAPIError, match="never changed"), writing(log.engine) as connection:
            connection.exec_driver_sql("DELETE FROM hardlook_events")


def test_many_who_open_an_old_log_at_once_migrate_it_once(log_url):
    write_version_1(log_url)
    logs, errors = [], []

    def open_it():
        try:
            logs.append(ReviewLog.open(log_url, "digits"))
        except Exception as error:  # noqa: BLE001  the test reads what the threads raised
            errors.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and all(len(log.events()) == 3 for log in logs)
    for log in logs:
        log.close()


def test_a_log_that_another_program_writes_is_opened_when_it_is_done(tmp_path):
    """A file that is not in WAL mode yet, as a restored dump."""
    path = tmp_path / "reviews.sqlite"
    with contextlib.closing(sqlite3.connect(path, check_same_thread=False, isolation_level=None)) as other:
        other.execute("CREATE TABLE notes (words)")
        other.execute("BEGIN IMMEDIATE")
        other.execute("INSERT INTO notes VALUES ('mine')")
        done = threading.Timer(0.3, other.execute, ["COMMIT"])
        done.start()
        with ReviewLog.open(f"sqlite:///{path}", "digits") as log:
            assert len(log.events()) == 0
        done.join()
        assert other.execute("SELECT words FROM notes").fetchall() == [("mine",)]


def test_a_newer_log_is_refused(log, log_url):
    newer = event_store.SCHEMA_VERSION + 1
    with writing(log.engine) as connection:
        connection.execute(event_store.log_table.update().values(version=newer))
    with pytest.raises(
        HardlookError,
        match=f"has schema {newer}, but this version of hardlook reads schemas up to {newer - 1}; upgrade",
    ):
        ReviewLog.open(log_url, "digits")


def test_a_migration_that_fails_leaves_the_log_as_it_was(log, log_url, monkeypatch):
    now = event_store.SCHEMA_VERSION

    def fail(connection):
        connection.exec_driver_sql("CREATE TABLE half_done (id INTEGER)")
        raise RuntimeError("broken step")

    with monkeypatch.context() as later:
        later.setattr(event_store, "SCHEMA_VERSION", now + 1)
        later.setattr(event_store, "MIGRATIONS", {now: fail})
        with pytest.raises(RuntimeError, match="broken step"):
            ReviewLog.open(log_url, "digits")
    with log.engine.connect() as connection:
        assert not sa.inspect(connection).has_table("half_done")
    assert log.append([decision(1)]) == {"tab": 1}


def test_many_processes_create_one_log(log_url):
    logs, errors = [], []

    def create():
        try:
            logs.append(ReviewLog.open(log_url, "digits"))
        except Exception as error:  # noqa: BLE001  the test reads what the threads raised
            errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for number, log in enumerate(logs):
        log.append([decision(1, client=f"c{number}")])
    assert len(logs[0].events()) == 6
    for log in logs:
        log.close()


# -- PostgreSQL alone -------------------------------------------------------------------------------


def test_kill_9_in_the_database_loses_nothing_and_the_same_log_goes_on(postgres):
    with ReviewLog.open(new_schema(postgres), "digits") as log:
        acknowledged, failures, killed = 0, 0, False
        until = time.monotonic() + 300
        while acknowledged < 40 and time.monotonic() < until:
            if acknowledged == 20 and not killed:
                killed = True
                with log._engine.connect() as connection:
                    worker = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                os.kill(worker, signal.SIGKILL)  # the server takes that as a crash: all stop, the log is replayed
            try:
                acknowledged = log.append([decision(acknowledged + 1)])["tab"]
            except LogUnavailable:
                failures += 1
                time.sleep(0.05)
        assert log.events().seq.tolist() == list(range(1, 41))


# -- SQLite alone -----------------------------------------------------------------------------------


def test_sqlite_writes_ahead_and_flushes_every_commit(tmp_path):
    with ReviewLog.open(tmp_path / "reviews.sqlite", "digits") as log, log._engine.connect() as connection:
        pragma = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        }
    assert pragma == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 30_000}


def test_a_path_is_as_good_as_a_url(tmp_path):
    for name in ("plain.sqlite", "odd ?#%20 name.sqlite"):
        with ReviewLog.open(str(tmp_path / name), "digits") as log:
            log.append([decision(1)])
        with ReviewLog.open(tmp_path / name, "digits") as log:
            assert len(log.events()) == 1
        assert (tmp_path / name).exists()


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path):
    path = tmp_path / "reviews.sqlite"
    path.write_text("a table of contents\n" * 100)
    with pytest.raises(LogUnavailable, match=r"reviews\.sqlite is not a SQLite database; move that file"):
        ReviewLog.open(path, "digits")
    assert path.read_text().startswith("a table")


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(LogUnavailable, match="cannot be opened; its folder must exist and be writable"):
        ReviewLog.open(tmp_path / "nowhere" / "reviews.sqlite", "digits")


def test_a_log_that_cannot_be_written_says_so(tmp_path):
    path = tmp_path / "reviews.sqlite"
    with ReviewLog.open(path, "digits") as log:
        log.append([decision(1)])
    with ReviewLog.open(f"sqlite:///file:{path}?mode=ro&uri=true", "digits") as log:
        assert len(log.events()) == 1
        with pytest.raises(LogUnavailable, match="cannot be written; make the file and its folder writable"):
            log.append([decision(2)])


def test_a_busy_log_says_so_and_works_again_later(tmp_path, monkeypatch):
    monkeypatch.setattr(log_database, "WAIT", 0.05)
    with ReviewLog.open(tmp_path / "reviews.sqlite", "digits") as log:
        with (
            writing(log._engine),
            pytest.raises(LogUnavailable, match=r"was busy for .* nothing was saved"),
        ):
            log.append([decision(1)])
        assert log.append([decision(1)]) == {"tab": 1}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("sqlite://", "in memory would lose every decision"),
        ("sqlite:///:memory:", "in memory would lose every decision"),
        ("mysql://user:secret@host/db", "SQLite or PostgreSQL, found mysql://user:\\*\\*\\*@host/db"),
        ("://", "is not an SQL URL"),
    ],
)
def test_an_address_that_cannot_hold_a_log_is_refused(url, reason):
    with pytest.raises(HardlookError, match=reason):
        ReviewLog.open(url, "digits")


def test_an_audit_name_must_fit_a_key(tmp_path):
    with pytest.raises(HardlookError, match="201 characters, but at most 200"):
        ReviewLog.open(tmp_path / "reviews.sqlite", "a" * 201)


def test_a_server_that_is_not_there_is_one_clear_error_without_the_password():
    pytest.importorskip("psycopg", reason="no PostgreSQL driver: pip install 'psycopg[binary]'")
    with pytest.raises(LogUnavailable, match=r"postgresql\+psycopg://ana:\*\*\*@127.0.0.1:1/team failed") as error:
        ReviewLog.open("postgresql://ana:secret@127.0.0.1:1/team", "digits")
    assert "secret" not in str(error.value)
