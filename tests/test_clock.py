"""A clock that is set back: nothing is lost, no lock or job is held for ever, and no duration is negative."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from dashboard.jobs import Job
from scoring.queue import locks
from scoring.queue.assignments import for_reviewer
from scoring.reviews import Event, ReviewLog
from scoring.reviews.sessions import review_session
from scoring.slices import slicing_run

from .synthetic import make_audit

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)


@pytest.fixture
def log(tmp_path):
    with ReviewLog.open(tmp_path / "reviews.sqlite", audit="digits") as opened:
        yield opened


def decision(seq: int, verdict: str = "given", **more: object) -> Event:
    return Event(
        client="tab", seq=seq, example_id="a", reviewer="ana", action="decide", label="3", verdict=verdict, **more
    )


def test_a_decision_after_the_clock_was_set_back_is_the_last_one(log, monkeypatch):
    log.append([decision(1)])
    monkeypatch.setattr(time, "time_ns", lambda: int((NOW - YEAR).timestamp() * 1e9))
    assert log.append([decision(2, "other", new_label="5")]) == {"tab": 2}
    assert log.events()["position"].tolist() == [1, 2]
    assert log.decisions()["new_label"].tolist() == ["5"] and log.consensus()["new_label"].tolist() == ["5"]
    log.append([Event(client="tab", seq=3, example_id="a", reviewer="ana", action="undo", undoes=("tab", 2))])
    assert log.decisions()["verdict"].tolist() == ["given"]


def test_a_lock_made_before_the_clock_was_set_back_keeps_nobody_off(log):
    assert locks.claim(log, ["a", "b"], "ana", NOW + YEAR, 10) == {"a": "ana", "b": "ana"}
    assert locks.held(log, NOW, 10) == {}
    assert for_reviewer(pd.DataFrame({"example_id": ["a", "b"]}), log, "ben", NOW)["example_id"].tolist() == ["a", "b"]
    assert locks.claim(log, ["a"], "ben", NOW, 10) == {"a": "ben"}
    assert locks.held(log, NOW, 10) == {"a": "ben"}


def test_a_lock_of_a_server_whose_clock_is_a_little_ahead_holds(log):
    locks.claim(log, ["a"], "ana", NOW + timedelta(minutes=5), 10)
    assert locks.claim(log, ["a"], "ben", NOW, 10) == {"a": "ana"} and locks.held(log, NOW, 10) == {"a": "ana"}


def job(tmp_path, started: datetime, **more: object) -> Job:
    return Job("j", tmp_path, ("score",), "main", started.isoformat(), **more)


def test_a_job_whose_keeper_never_came_is_lost_also_where_the_clock_was_set_back(tmp_path):
    ahead = job(tmp_path, datetime.now(UTC) + YEAR)
    assert (ahead.state, ahead.is_live, ahead.seconds) == ("lost", False, 0.0)
    assert job(tmp_path, datetime.now(UTC) + timedelta(seconds=5)).state == "starting"


def test_a_job_that_ends_before_it_began_took_no_time(tmp_path):
    assert job(tmp_path, NOW, returncode=0, ended=(NOW - YEAR).isoformat()).seconds == 0.0


def session(*minutes: float):
    times = pd.to_datetime([NOW + timedelta(minutes=one) for one in minutes], utc=True)
    return review_session(pd.DataFrame({"created_at": times, "example_id": [str(one) for one in minutes]}), now())


def now() -> pd.Timestamp:
    return pd.Timestamp(NOW)


def test_a_session_counts_what_was_decided_by_the_clock_of_now():
    before = 60 * 24 * 365.0
    found = session(before, before + 1, -2, -1)  # two decisions a year ahead, then two after the clock was set back
    assert (found.decided, found.began) == (2, (NOW - timedelta(minutes=2)).timestamp())
    assert found.active == 60.0


def test_a_session_never_begins_after_now():
    found = session(5)
    assert found.decided == 1 and found.began == NOW.timestamp() and found.active == 0.0
    assert session(60 * 24).began is None


def test_a_map_of_other_embeddings_is_made_again_though_its_file_looks_newer(tmp_path, monkeypatch):
    audit = make_audit(tmp_path / "audit", 60, 2)
    run = audit.run()
    run.influence_path.write_bytes(b"other embeddings")
    run.map_path.write_bytes(b"")
    monkeypatch.setattr(slicing_run, "read_metadata", lambda _path: {"influence": 1})
    os.utime(run.map_path, (time.time() + 3600,) * 2)
    monkeypatch.setattr(slicing_run, "embedded", lambda *_: (_ for _ in ()).throw(LookupError("asked for them")))
    with pytest.raises(LookupError, match="asked for them"):
        slicing_run.write_embedding_map(audit, run)
    monkeypatch.setattr(
        slicing_run, "read_metadata", lambda _path: {"influence": run.influence_path.stat().st_mtime_ns}
    )
    assert slicing_run.write_embedding_map(audit, run) == 0
