"""Backups of a log in use, and their way back: consistent, in one file, never at the cost of an event."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from scoring.audit.errors import HardlookError
from scoring.cli import main
from scoring.reviews import Event, LogUnavailable, ReviewLog, log_copy, meetings
from scoring.reviews.event_store import event_table

from ..databases import log_url, new_schema, postgres, postgres_server  # noqa: F401  pytest finds the fixtures by name
from ..old_logs import write_version_1
from ..synthetic import make_audit


def decision(seq, client="tab", **fields):
    about = {"example_id": f"e{seq}", "reviewer": "ana", "action": "decide", "verdict": "given", **fields}
    return Event(client=client, seq=seq, **about)


def events(url):
    """Every row as the database has it."""
    with ReviewLog.open(url, "digits") as log, log.engine.connect() as connection:
        return [dict(row) for row in connection.execute(sa.select(event_table).order_by("position")).mappings()]


@pytest.fixture
def filled(log_url):
    with ReviewLog.open(log_url, "digits") as log:
        log.append([decision(1, note="née <b>"), decision(2, evidence={"rank": 1})])
        log.append(
            [decision(3, verdict=None, action="flag"), decision(4, action="undo", verdict=None, undoes=("tab", 1))]
        )
        item = {"kind": "flag", "example_id": "e3", "examples": ["e3"], "title": "Flagged", "why": "flagged by ana"}
        meetings.start(log, [item], "lea")
        yield log_url


def test_a_backup_restores_every_event_and_meeting_into_either_database(filled, tmp_path, request):
    copied = log_copy.back_up(filled, tmp_path / "backup")
    assert (copied.events, copied.audits) == (4, ("digits",))
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == ["backup"], "one file"
    for target in (tmp_path / "new.sqlite", new_schema(request.getfixturevalue("postgres"))):
        assert log_copy.restore(tmp_path / "backup", target, "digits").new == 4
        assert events(target) == events(filled)
        with ReviewLog.open(target, "digits") as log:
            assert meetings.current(log)["lead"] == "lea"
            assert log.events()["evidence"][1] == {"rank": 1} and log.append([decision(5)]) == {"tab": 5}


def test_a_backup_in_a_burst_is_a_prefix_of_the_log(log_url, tmp_path):
    enough = threading.Event()

    def write():
        with ReviewLog.open(log_url, "digits") as log:
            seq = 0
            while not enough.is_set():
                log.append([decision(seq + 1), decision(seq + 2), decision(seq + 3)])
                seq += 3

    writer = threading.Thread(target=write)
    with ReviewLog.open(log_url, "digits") as log:
        writer.start()
        while log.position() < 30:
            pass
        copies = [log_copy.back_up(log_url, tmp_path / str(n)).events for n in range(5)]
        enough.set()
        writer.join()
    assert all(n % 3 == 0 and n >= 30 for n in copies) and copies == sorted(copies)
    whole = events(log_url)
    for n, count in enumerate(copies):
        assert log_copy.restore(tmp_path / str(n), tmp_path / f"log{n}", "digits").new == count
        assert events(tmp_path / f"log{n}") == whole[:count]


def test_a_restore_adds_what_is_missing_and_refuses_to_lose_what_is_not_in_the_backup(log_url, tmp_path):
    with ReviewLog.open(log_url, "digits") as log:
        log.append([decision(1)])
        log_copy.back_up(log_url, tmp_path / "early")
        log.append([decision(2)])
    log_copy.back_up(log_url, tmp_path / "late")
    early = tmp_path / "early.sqlite"
    log_copy.restore(tmp_path / "early", early, "digits")
    assert log_copy.restore(tmp_path / "late", early, "digits").new == 1
    assert events(early) == events(log_url)
    with pytest.raises(HardlookError, match="holds 1 events that the backup lacks"):
        log_copy.restore(tmp_path / "early", log_url, "digits")
    other = tmp_path / "other.sqlite"
    with ReviewLog.open(other, "digits") as log:
        log.append([decision(1, client="another")])
    with pytest.raises(HardlookError, match="lacks or has elsewhere"):
        log_copy.restore(tmp_path / "late", other, "digits")
    assert len(events(other)) == 1 and len(events(log_url)) == 2


def test_a_file_copied_without_its_wal_is_refused(tmp_path):
    path = tmp_path / "reviews.sqlite"
    with ReviewLog.open(path, "digits") as log:
        log.append([decision(1)])
        shutil.copyfile(path, tmp_path / "alone")
    with pytest.raises(HardlookError, match="holds no review log.*hardlook backup"):
        log_copy.check_backup(tmp_path / "alone", "digits")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_bytes(b"no database, but long enough to be read as one" * 9), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:8192]), "damaged|cannot be read"),
        (lambda path: path.unlink(), "there is no file"),
        (lambda path: path.with_name("backup-wal").write_bytes(b""), "log in use"),
    ],
)
def test_a_damaged_backup_is_refused_and_the_log_is_untouched(tmp_path, damage, reason):
    with ReviewLog.open(tmp_path / "reviews.sqlite", "digits") as log:
        log.append([decision(seq, note="n" * 900) for seq in range(1, 60)])
    log_copy.back_up(tmp_path / "reviews.sqlite", tmp_path / "backup")
    damage(tmp_path / "backup")
    with pytest.raises(HardlookError, match=reason):
        log_copy.restore(tmp_path / "backup", tmp_path / "new.sqlite", "digits")
    assert not (tmp_path / "new.sqlite").exists()


def test_a_backup_of_another_audit_and_one_of_the_first_schema(log_url, tmp_path):
    write_version_1(f"sqlite:///{tmp_path / 'old'}")
    with pytest.raises(HardlookError, match="no events of this audit, 'letters'; it holds 'digits'"):
        log_copy.restore(tmp_path / "old", log_url, "letters")
    assert log_copy.restore(tmp_path / "old", log_url, "digits").new == len(events(log_url)) > 0


def test_what_a_lost_log_left_behind_is_not_played_into_the_restored_one(tmp_path):
    path = tmp_path / "reviews.sqlite"
    with ReviewLog.open(path, "digits") as log:
        log.append([decision(1)])
        log_copy.back_up(path, tmp_path / "backup")
        log.append([decision(seq) for seq in range(2, 40)])
        path.unlink()
        log_copy.restore(tmp_path / "backup", path, "digits")
        with pytest.raises(LogUnavailable, match="replaced by another file"):
            log.append([decision(40)])
    assert [one["seq"] for one in events(path)] == [1]
    assert list(tmp_path.glob("*-wal.before-restore-*"))


def test_a_backup_replaces_nothing_and_needs_a_log(tmp_path):
    (tmp_path / "there").write_bytes(b"precious")
    with ReviewLog.open(tmp_path / "reviews.sqlite", "digits"):
        pass
    with pytest.raises(HardlookError, match="replaces nothing"):
        log_copy.back_up(tmp_path / "reviews.sqlite", tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"precious"
    with pytest.raises(HardlookError, match="there is no review log"):
        log_copy.back_up(tmp_path / "nowhere.sqlite", tmp_path / "new")
    assert not (tmp_path / "nowhere.sqlite").exists()


def test_the_commands_back_up_check_and_restore(tmp_path, capsys):
    audit = make_audit(tmp_path / "audit", 6, 2)
    with ReviewLog.open(audit.log_url, "audit") as log:
        log.append([decision(1)])
    backup = str(tmp_path / "backup")
    assert main(["backup", str(audit.root), backup]) == 0
    assert main(["restore", str(audit.root), backup, "--check"]) == 0
    assert "is whole: 1 events of audit" in capsys.readouterr().out
    for name in os.listdir(audit.root):
        if name.startswith("reviews.sqlite"):
            os.remove(audit.root / name)
    assert main(["restore", str(audit.root), backup]) == 0
    with ReviewLog.open(audit.log_url, "audit") as log:
        assert log.events()["seq"].tolist() == [1]


KILLED = """
import sys
from pathlib import Path
from scoring.reviews import log_copy
print("started", flush=True)
for n in range(1000):
    log_copy.back_up(sys.argv[1], Path(sys.argv[2]) / f"backup{n}")
    print(n, flush=True)
"""


@pytest.mark.parametrize("text", [b"given", b"ana", b"a note"])
def test_a_bit_that_turned_inside_a_text_is_noticed(tmp_path, text):
    with ReviewLog.open(tmp_path / "reviews.sqlite", "digits") as log:
        log.append([decision(1, note="a note")])
    log_copy.back_up(tmp_path / "reviews.sqlite", tmp_path / "backup")
    whole = (tmp_path / "backup").read_bytes()
    at = whole.index(text)
    (tmp_path / "backup").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(HardlookError, match="backup is damaged"):
        log_copy.check_backup(tmp_path / "backup")


def test_a_backup_that_its_disk_has_no_room_for_is_one_sentence_and_leaves_nothing(filled, tmp_path):
    with ReviewLog.open(filled, "digits") as log:
        log.append([decision(seq, "other", note="n" * 4000) for seq in range(1, 100)])
    (tmp_path / "small").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(HardlookError, match="backup could not be made .*; make room on its disk"):
            log_copy.back_up(filled, tmp_path / "small/backup")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "small").iterdir()) == []
    assert log_copy.back_up(filled, tmp_path / "small/backup").events == 103


def test_a_killed_backup_leaves_whole_files_only(tmp_path):
    path, out = tmp_path / "reviews.sqlite", tmp_path / "out"
    out.mkdir()
    with ReviewLog.open(path, "digits") as log:
        log.append([decision(seq, note="n" * 2000) for seq in range(1, 2000)])
    for wait in range(3):
        shutil.rmtree(out)
        out.mkdir()
        process = subprocess.Popen([sys.executable, "-c", KILLED, path, out], stdout=subprocess.PIPE, text=True)
        for _ in range(wait + 1):
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
        for copy in out.glob("backup*"):
            assert log_copy.check_backup(copy, "digits").events == 1999
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM hardlook_events").fetchone() == (1999,)
    connection.close()
