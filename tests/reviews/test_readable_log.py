"""A log is read with its newest commits where it cannot be written, and nothing is left beside it."""

import os

import pytest

from scoring.reviews import Event, ReviewLog, readable_log
from scoring.reviews.log_file import LogUnavailable
from scoring.reviews.readable_log import open_for_reading


def decided(at):
    return Event(client="c", seq=at, example_id=f"e{at}", label="a", reviewer="r", action="decide", verdict="given")


@pytest.fixture
def read_only(monkeypatch):
    monkeypatch.setattr(readable_log, "_can_be_written", lambda file: False)


def test_commits_that_lie_beside_a_read_only_log_are_read_too(tmp_path, read_only):
    path = tmp_path / "reviews.sqlite"
    with ReviewLog.open(path, audit="a") as log:
        log.append([decided(1), decided(2)])
        before = {file: file.stat() for file in tmp_path.iterdir()}
        assert path.with_name("reviews.sqlite-wal") in before  # where the two commits are
        with open_for_reading(f"sqlite:///{path}", "a") as copy:
            assert copy.decisions()["example_id"].tolist() == ["e1", "e2"]
            copy.append([decided(3)])  # into the copy alone
        assert log.decisions()["example_id"].tolist() == ["e1", "e2"]
        assert {file: file.stat().st_mtime_ns for file in before} == {f: s.st_mtime_ns for f, s in before.items()}
    with open_for_reading(path, "a") as copy:
        assert copy.decisions()["example_id"].tolist() == ["e1", "e2"]


def test_where_nobody_has_decided_a_read_only_folder_reads_as_an_empty_log(tmp_path, read_only):
    with open_for_reading(tmp_path / "reviews.sqlite", "a") as log:
        assert log.events().empty
    assert not list(tmp_path.iterdir())


def test_a_log_that_can_be_written_is_opened_as_it_is(tmp_path):
    ReviewLog.open(tmp_path / "reviews.sqlite", audit="a").close()
    with open_for_reading(tmp_path / "reviews.sqlite", "a") as log:
        log.append([decided(1)])
    with ReviewLog.open(tmp_path / "reviews.sqlite", audit="a") as log:
        assert len(log.events()) == 1


def test_a_log_that_changes_while_it_is_copied_is_copied_again_or_refused(tmp_path, read_only, monkeypatch):
    path = tmp_path / "reviews.sqlite"
    with ReviewLog.open(path, audit="a") as log:
        log.append([decided(1)])
    states, whole = iter([0, 1, 2, 3, 4, 4]), readable_log._state
    monkeypatch.setattr(readable_log.time, "sleep", lambda _: None)
    monkeypatch.setattr(readable_log, "_state", lambda file: whole(file) | {file: (next(states), 0)})
    with open_for_reading(path, "a") as log:
        assert len(log.events()) == 1 and not list(states)  # unlike, unlike, then alike
    numbers = iter(range(100))
    monkeypatch.setattr(readable_log, "_state", lambda file: {file: (next(numbers), 0)})
    with pytest.raises(LogUnavailable, match="changes all the time"), open_for_reading(path, "a"):
        pass


def test_whether_a_log_can_be_written_depends_on_file_and_folder(tmp_path, monkeypatch):
    path = tmp_path / "reviews.sqlite"
    assert readable_log._can_be_written(path)
    monkeypatch.setattr(os, "access", lambda found, _mode: found != path)
    assert readable_log._can_be_written(path)  # there is none yet
    path.touch()
    assert not readable_log._can_be_written(path)
