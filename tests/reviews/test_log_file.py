"""A log that is deleted, moved or replaced in use: nothing is acknowledged, and it goes on when it is back."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest

from scoring.reviews import Event, LogUnavailable, ReviewLog
from scoring.reviews.readable_log import open_for_reading

from ..databases import new_schema, postgres, postgres_server  # noqa: F401  pytest finds the fixtures by name

WRITER = """import sys
from scoring.reviews import Event, LogUnavailable, ReviewLog
log = ReviewLog.open(sys.argv[1], "digits")
for line in sys.stdin:
    event = Event(client=sys.argv[2], seq=int(line), example_id="a", reviewer="bob", action="decide", verdict="given")
    try:
        log.append([event])
    except LogUnavailable as error:
        print(error, flush=True)
    else:
        print("saved", flush=True)
"""


class Writer:
    """A process of its own that appends to a log."""

    def __init__(self, path, client):
        command = [sys.executable, "-c", WRITER, path, client]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def write(self, seq):
        """Returns "saved", or why not."""
        self.process.stdin.write(f"{seq}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self, how):
        how(self.process)
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def decision(seq, client="tab"):
    return Event(client=client, seq=seq, example_id="a", reviewer="ana", action="decide", verdict="given")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "reviews.sqlite"


@pytest.fixture
def log(path):
    with ReviewLog.open(path, "digits") as log:
        log.append([decision(1)])
        yield log


def copy_of(path, to):
    """A consistent copy in one file, as SQLite makes it."""
    with sqlite3.connect(path) as source, sqlite3.connect(to) as copy:
        source.backup(copy)
    source.close()
    copy.close()


def seqs(path):
    with ReviewLog.open(path, "digits") as log:
        return log.events()["seq"].tolist()


def move_all(path, folder):
    folder.mkdir(exist_ok=True)
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        if (path.parent / name).exists():
            os.rename(path.parent / name, folder / name)


def test_a_log_that_was_moved_away_refuses_and_goes_on_when_it_is_back(log, path, tmp_path):
    move_all(path, tmp_path / "elsewhere")
    for act in (lambda: log.append([decision(2)]), log.decisions, log.position):
        with pytest.raises(LogUnavailable, match="deleted or moved while it was in use"):
            act()
    assert not path.exists(), "no empty file takes the place of the log"
    move_all(tmp_path / "elsewhere" / path.name, tmp_path)
    assert log.append([decision(2)]) == {"tab": 2}
    assert seqs(path) == [1, 2]


def test_a_deleted_log_refuses_on_every_thread(log, path):
    path.unlink()
    refusals = []

    def write(seq):
        try:
            log.append([decision(seq)])
        except LogUnavailable as error:
            refusals.append(str(error))

    threads = [threading.Thread(target=write, args=(seq,)) for seq in range(2, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refusals) == 10 and not path.exists()


def test_a_new_connection_puts_no_empty_file_in_the_place_of_the_log(log, path):
    with log.engine.connect():  # the pool's connection is taken, so that reading opens another one
        path.unlink()
        with pytest.raises(LogUnavailable, match="deleted or moved"):
            log.position()
    assert not path.exists()


@pytest.mark.parametrize("opened", [ReviewLog.open, lambda path, audit: open_for_reading(path, audit).__enter__()])
def test_a_log_that_is_gone_is_not_begun_anew_beside_its_newest_decisions(log, path, tmp_path, opened):
    os.rename(path, tmp_path / "kept")
    with pytest.raises(LogUnavailable, match="there is no review log .*-wal, which holds its newest decisions"):
        opened(path, "digits")
    assert not path.exists()
    os.rename(tmp_path / "kept", path)
    assert log.append([decision(2)]) == {"tab": 2} and seqs(path) == [1, 2]


def test_a_reader_puts_no_empty_log_in_the_place_of_one_that_is_away(log, path, tmp_path):
    move_all(path, tmp_path / "elsewhere")
    with open_for_reading(path, "digits") as found:
        assert found.events().empty
    assert not path.exists()


def test_a_log_replaced_by_its_backup_refuses_until_the_earlier_file_is_back(log, path, tmp_path):
    copy_of(path, tmp_path / "backup")
    log.append([decision(2)])
    os.rename(path, tmp_path / "kept")
    os.rename(tmp_path / "backup", path)
    with pytest.raises(LogUnavailable, match="replaced by another file"):
        log.append([decision(3)])
    os.replace(tmp_path / "kept", path)
    assert log.append([decision(3)]) == {"tab": 3}
    assert seqs(path) == [1, 2, 3]


def test_a_link_that_leads_elsewhere_is_another_log(path, tmp_path):
    first, second = tmp_path / "first.sqlite", tmp_path / "second.sqlite"
    os.symlink(first, path)
    with ReviewLog.open(path, "digits") as log:
        log.append([decision(1)])
        copy_of(first, second)
        path.unlink()
        os.symlink(second, path)
        with pytest.raises(LogUnavailable, match="replaced by another file"):
            log.append([decision(2)])


@pytest.mark.parametrize(("ending", "holds"), [("-wal", "the newest decisions"), ("-shm", "the locks")])
def test_what_lies_beside_the_log_is_missed_as_the_log_is(log, path, ending, holds):
    beside = path.with_name(path.name + ending)
    kept = path.with_name("kept")
    os.rename(beside, kept)
    with pytest.raises(LogUnavailable, match=f"holds {holds}"):
        log.append([decision(2)])
    os.rename(kept, beside)
    assert log.append([decision(2)]) == {"tab": 2}


def test_writers_that_share_no_locks_lose_nothing_that_was_acknowledged(path):
    """Without its -shm, SQLite lets two processes write over each other's commits."""
    first = Writer(path, "a")
    saved = [("a", 1)] if first.write(1) == "saved" else []
    os.remove(path.with_name(f"{path.name}-shm"))
    second = Writer(path, "b")
    for seq in range(2, 6):
        saved += [("b", seq)] if second.write(seq) == "saved" else []
        said = first.write(seq)
        assert "the locks that writers share, was deleted or replaced" in said and "with kill -9" in said
    first.end(subprocess.Popen.kill)
    second.end(lambda process: None)
    with ReviewLog.open(path, "digits") as log:
        rows = log.events()
    assert list(zip(rows["client"], rows["seq"], strict=True)) == saved and len(saved) == 5


def test_a_log_overwritten_in_place_by_an_older_copy_is_refused(log, path, tmp_path):
    log.append([decision(2)])
    copy_of(path, tmp_path / "backup")
    log.append([decision(3)])
    log.append([decision(4)])
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()
    shutil.copyfile(tmp_path / "backup", path)  # the same inode
    with pytest.raises(LogUnavailable, match="overwritten by an older copy"):
        log.append([decision(5)])


def test_a_server_restored_to_an_earlier_position_is_refused(request):
    url = new_schema(request.getfixturevalue("postgres"))
    with ReviewLog.open(url, "digits") as log:
        log.append([decision(1)])
        log.append([decision(2)])
        log.append([decision(3)])
        with log.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE hardlook_log SET position = 1")
        with pytest.raises(LogUnavailable, match="ends at event 1, but this process has seen event 2"):
            log.append([decision(4)])


def test_a_log_in_which_all_connections_were_closed_is_used_again(log, path):
    log.engine.dispose()  # the last one writes the -wal into the log and removes it
    assert not path.with_name(f"{path.name}-wal").exists()
    assert log.append([decision(2)]) == {"tab": 2}
    assert seqs(path) == [1, 2]
