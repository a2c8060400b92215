"""Jobs: a command in a process of its own, its progress, its end, and who may start it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dashboard import jobs
from dashboard.auth.serving import serve_this
from scoring.audit.errors import HardlookError

from ..synthetic import make_audit

LONG = 300  # seconds, on a busy machine: nothing here waits for a clock, so no good run comes near it


@pytest.fixture
def audit(tmp_path):
    made = make_audit(tmp_path / "my audit", 20, 2, scores=False)
    serve_this(made.root)
    return made


@pytest.fixture
def go(tmp_path):
    """A file for which ``wait_for_go()`` of a stand-in command waits: the test says when the command goes on."""
    return tmp_path / "go"


@pytest.fixture
def commands(tmp_path, monkeypatch, go):
    """Put a package ``scoring.cli`` of the test's own before the real one: what it says is what the job runs."""
    waiting = f"def wait_for_go():\n    while not os.path.exists({str(go)!r}):\n        time.sleep(0.05)\n"

    def put(body: str) -> None:
        package = tmp_path / "stand-in" / "scoring"
        package.mkdir(parents=True)
        real = Path(jobs.scoring.__file__).parent
        (package / "__init__.py").write_text(f"__path__.append({str(real)!r})\n")
        (package / "cli.py").write_text(f"import os, sys, time\n{waiting}{body}\n")
        real_environment = jobs._environment()
        paths = os.pathsep.join([str(package.parent), real_environment["PYTHONPATH"]])
        monkeypatch.setattr(jobs, "_environment", lambda: {**real_environment, "PYTHONPATH": paths})

    return put


def wait(audit, job, until=lambda found: not found.is_live):
    """The job once it has come so far."""
    end = time.monotonic() + LONG
    while time.monotonic() < end:
        found = next(one for one in jobs.jobs(audit) if one.id == job.id)
        if until(found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{found.state}: {found.tail()}")


def test_a_job_runs_the_real_command_and_keeps_its_message(audit):
    job = jobs.start(audit, "main", "slice", "--method", "rule")
    assert job.command == ("slice", str(audit.root), "--run", "main", "--method", "rule")
    found = wait(audit, job)
    assert found.state == "failed" and found.returncode == 1
    assert "has no influence embeddings" in found.last_line()
    assert found.text.startswith("hardlook slice '")


def test_a_job_ends_well_and_its_last_line_is_its_progress(audit, commands, go):
    commands("""
for done in (10, 55):
    sys.stderr.write(f"\\r  vog: {done}%|###   | {done}/100")
    sys.stderr.flush()
wait_for_go()
print("\\ndone", sys.argv[1:])
""")
    job = jobs.start(audit, "main", "score")
    assert wait(audit, job, lambda found: found.progress()).progress() == 0.55
    go.touch()
    found = wait(audit, job)
    assert found.state == "done" and found.returncode == 0 and found.ended
    assert found.last_line().startswith("done ['score'")


def test_one_job_per_run_at_a_time(audit, commands):
    commands("wait_for_go()")
    job = jobs.start(audit, "main", "score")
    with pytest.raises(HardlookError, match="still running"):
        jobs.start(audit, "main", "refit")
    other = jobs.start(audit, "second", "score")
    assert jobs.running(audit, "main").id == job.id and jobs.running(audit, "second").id == other.id
    for one in (job, other):
        jobs.cancel(one)
    assert wait(audit, job).state == wait(audit, other).state == "cancelled"
    assert jobs.running(audit, "main") is None


def test_a_cancelled_command_is_interrupted_as_by_a_keyboard(audit, commands):
    commands("""
try:
    print("working")
    wait_for_go()
except KeyboardInterrupt:
    print("tidied up")
    sys.exit(130)
""")
    job = jobs.start(audit, "main", "score")
    jobs.cancel(wait(audit, job, lambda found: found.last_line() == "working"))
    found = wait(audit, job)
    assert found.state == "cancelled" and found.returncode == 130 and found.last_line() == "tidied up"


def test_a_command_that_does_not_listen_is_killed(audit, commands, monkeypatch):
    commands("""
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("deaf")
wait_for_go()
""")
    environment = jobs._environment()
    monkeypatch.setattr(jobs, "_environment", lambda: environment)
    # the keeper is another process: a shorter grace reaches it as code
    code = (
        "import sys, pathlib; from dashboard import jobs; jobs.GRACE = 0.3; "
        "jobs.keep(pathlib.Path(sys.argv[1]), ['score'])"
    )
    record = audit.jobs_folder / "one.json"
    record.parent.mkdir()
    job = jobs.Job("one", record.parent, ("score",), "main", jobs.datetime.now(jobs.UTC).isoformat())
    jobs.write_json(record, jobs._record(job))
    with (record.parent / "one.log").open("wb") as log:
        with subprocess.Popen([sys.executable, "-c", code, str(record)], env=environment, stdout=log) as keeper:
            jobs.cancel(wait(audit, job, lambda found: found.last_line() == "deaf"))
            assert wait(audit, job).returncode == -signal.SIGKILL
            keeper.wait()


def test_a_killed_keeper_is_told_as_lost(audit, commands, go):
    commands("print('here'); wait_for_go()")
    job = wait(audit, jobs.start(audit, "main", "score"), lambda found: found.last_line() == "here")
    keeper = int(subprocess.run(["ps", "-o", "ppid=", "-p", str(job.pid)], capture_output=True, text=True).stdout)
    os.kill(keeper, signal.SIGKILL)
    assert wait(audit, job).state == "lost"
    assert jobs.running(audit, "main") is None, "a lost job stands in nobody's way"
    go.touch()


def test_a_job_that_begins_or_ends_while_it_is_looked_at_is_not_told_as_lost(audit, monkeypatch):
    record = audit.jobs_folder / "one.json"
    record.parent.mkdir()
    begun = jobs._record(jobs.Job("one", record.parent, ("score",), "main", "2026-01-01T00:00:00+00:00", pid=1))
    held = False

    def begins(path):  # the keeper takes the lock, then writes the process
        nonlocal held
        held = True
        return begun

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "read_json", begins)
        patch.setattr(jobs, "_is_held", lambda path: held)
        assert jobs.read(record).state == "running"

    def ends(path):  # the keeper writes the end, then lets the lock go
        jobs.write_json(record, {**begun, "returncode": 0, "ended": begun["started"]})
        return False

    jobs.write_json(record, begun)
    monkeypatch.setattr(jobs, "_is_held", ends)
    assert jobs.read(record).state == "done"


def test_a_job_survives_the_process_that_started_it(audit, commands, go):
    commands("wait_for_go(); print('late')")
    code = (
        f"from dashboard import jobs; from dashboard.auth.serving import serve_this; from scoring.audit import Audit\n"
        f"serve_this({str(audit.root)!r}); jobs._environment = lambda: {jobs._environment()!r}\n"
        f"print(jobs.start(Audit.open({str(audit.root)!r}), 'main', 'score').id)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LONG)
    assert ended.returncode == 0, ended.stderr
    job = next(iter(jobs.jobs(audit)))
    assert job.id == ended.stdout.strip() and job.is_live
    go.touch()
    assert wait(audit, job).last_line() == "late"


def test_a_hidden_option_reaches_the_command_and_no_file(audit, commands):
    commands("print(len(sys.argv), sys.argv[-1] == 'postgres://a:secret@b/c')")
    job = wait(audit, jobs.start(audit, "main", "refit", hidden=["--log", "postgres://a:secret@b/c"]))
    assert job.last_line() == "7 True"
    assert not [path for path in audit.jobs_folder.iterdir() if "secret" in path.read_text()]


def test_a_server_for_other_machines_starts_nothing(audit):
    serve_this(audit.root, host="0.0.0.0")
    with pytest.raises(HardlookError, match="Only a lead"):
        jobs.start(audit, "main", "score")
    assert not audit.jobs_folder.exists()


def test_a_record_is_plain_json(audit, commands):
    commands("")
    job = wait(audit, jobs.start(audit, None, "export"))
    record = json.loads((audit.jobs_folder / f"{job.id}.json").read_text())
    assert set(record) == {"command", "run", "started", "pid", "returncode", "ended", "cancelled"}
    assert record["command"] == ["export", str(audit.root)]
