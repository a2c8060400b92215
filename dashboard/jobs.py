"""Jobs: `hardlook` commands started from a page, each in a separate process that outlives page and server.

A job is two files in the audit's ``jobs`` folder: ``<id>.json`` (command, run, start, process, end) and ``<id>.log``
(its output). A *keeper* process, detached from the server, starts the command, waits for it and records its end. It
holds ``<id>.lock`` while it lives, so a job without an end whose lock is free was killed. Cancelling creates a file;
when the keeper finds it, it interrupts the command as Ctrl-C would. Finished parts are kept.

Inputs → outputs: a command's name and options → a ``Job`` with its state and last line. Cost: a Python process of some
100 MB beside the command. Limits: only a lead starts or cancels; one job per run.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import scoring
from dashboard.auth.serving import serving
from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, write_json

EVERY = 0.1  # seconds between two checks of the keeper
GRACE = 20.0  # seconds for a cancelled command to end
SLOWEST_START = 60.0  # seconds for a keeper to start
WAIT = 10.0  # seconds to wait for a lock
TAIL = 4096  # bytes
LIVE = ("starting", "running")

_looking = threading.Lock()


@dataclass(frozen=True)
class Job:
    """One command: what was started for which run, and its end (``returncode`` None: not ended, or killed).

    ``state``: starting, running, done, failed, cancelled, or lost (killed).
    """

    id: str
    folder: Path
    command: tuple[str, ...]
    run: str | None
    started: str
    pid: int | None = None
    returncode: int | None = None
    ended: str | None = None
    cancelled: bool = False
    alive: bool = field(default=False, compare=False)

    @property
    def name(self) -> str:
        """The command's first word."""
        return self.command[0]

    @property
    def text(self) -> str:
        """The command as it could be typed."""
        return shlex.join(["hardlook", *self.command])

    @property
    def state(self) -> str:
        """The state in one word."""
        if self.returncode is not None:
            return "done" if self.returncode == 0 else "cancelled" if self.cancelled else "failed"
        if self.pid is None and abs(self._elapsed) < SLOWEST_START:
            return "starting"
        return "running" if self.alive else "lost"

    @property
    def is_live(self) -> bool:
        """Returns whether it may still write."""
        return self.state in LIVE

    @property
    def seconds(self) -> float:
        """How long it has been running, or ran; 0 where the clock was set back meanwhile."""
        return max(0.0, self._elapsed)

    @property
    def _elapsed(self) -> float:
        """Seconds from its start to its end or now, by a clock that may have been set back."""
        end = datetime.fromisoformat(self.ended) if self.ended else datetime.now(UTC)
        return (end - datetime.fromisoformat(self.started)).total_seconds()

    @property
    def log_path(self) -> Path:
        """The file with its whole output."""
        return self.folder / f"{self.id}.log"

    def tail(self) -> str:
        """Returns the last few thousand characters of its output, as a terminal shows them."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - TAIL))
                return as_shown(log.read().decode("utf8", errors="replace"))
        except FileNotFoundError:
            return ""

    def last_line(self) -> str:
        """Returns the last line that is not empty."""
        lines = [line for line in self.tail().splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""

    def progress(self) -> float | None:
        """Returns the share that the last line's progress bar shows, from 0 to 1; None where it shows none."""
        return share_done(self.last_line())


def as_shown(text: str) -> str:
    r"""Returns output without control sequences, each line as it was last drawn over.

    >>> as_shown("a: 10%\ra: 20%\r\nb\x1b[A\n").splitlines()
    ['a: 20%', 'b']
    """
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")
    versions = ([part for part in line.split("\r") if part.strip()] for line in plain.split("\n"))
    return "\n".join(parts[-1] if parts else "" for parts in versions)


def share_done(line: str) -> float | None:
    """Returns the share in a line with a progress bar; None without one.

    >>> share_done("vog:  45%|####      | 9/20 [00:01<00:01]"), share_done("reading"), share_done("accuracy 45%")
    (0.45, None, None)
    """
    found = re.search(r"(\d{1,3})%\|", line)
    return min(1.0, int(found.group(1)) / 100) if found else None


# -- starting, looking, cancelling -----------------------------------------------------------------------------------


def refusal() -> str | None:
    """Returns why the visitor may not start commands, or None for a lead."""
    if serving().identity.may("lead"):
        return None
    return "Only a lead of this audit can start commands from a page. Run this command in a terminal instead:"


def start(audit: Audit, run: str | None, command: str, *options: str, hidden: Sequence[str] = ()) -> Job:
    """Starts ``hardlook COMMAND AUDIT [--run RUN] OPTIONS`` and returns its job at once.

    ``hidden``: more options, which are not written to the job's files (an address with a password). Raises
    ``HardlookError`` if the visitor may not start commands, or if a job of the run is running.
    """
    if refusal():
        raise HardlookError(refusal())
    given = (command, str(audit.root), *(("--run", run) if run else ()), *options)
    folder = audit.jobs_folder
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock", timeout=WAIT):
        busy = running(audit, run)
        if busy is not None:
            raise HardlookError(f"`{busy.text}` is still running for this run; wait until it ends, or cancel it")
        now = datetime.now(UTC)
        job = Job(f"{now:%Y%m%dT%H%M%S%f}-{command}-{secrets.token_hex(2)}", folder, given, run, now.isoformat())
        write_json(folder / f"{job.id}.json", _record(job))
        _launch(job, [*given, *hidden])
    return job


def _record(job: Job) -> dict[str, Any]:
    return {key: value for key, value in asdict(job).items() if key not in ("id", "folder", "alive")}


def _launch(job: Job, arguments: Sequence[str]) -> None:
    """Starts the keeper in a session of its own; the arguments go through its standard input, which nobody else can
    read."""
    flags = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) | getattr(subprocess, "DETACHED_PROCESS", 0)
    with job.log_path.open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-P", "-m", "dashboard.jobs", str(job.folder / f"{job.id}.json")],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=job.folder,
            env=_environment(),
            start_new_session=True,
            creationflags=flags,
        )
    if keeper.stdin is None:
        raise HardlookError(
            "the process of the job has no input stream, through which it must receive its command; start the job again"
        )
    with keeper.stdin as pipe:
        pipe.write(json.dumps(list(arguments)).encode())
    # The keeper's exit status must be read once, or its process stays as a zombie.
    threading.Thread(target=keeper.wait, name=f"keeper of {job.id}", daemon=True).start()


def _environment() -> dict[str, str]:
    """Returns this process's environment with the folder of hardlook on the path and unbuffered output."""
    home = str(Path(scoring.__file__).parents[1])
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"}


def jobs(audit: Audit) -> list[Job]:
    """Returns every job of the audit, the newest first."""
    return [read(path) for path in sorted(audit.jobs_folder.glob("*.json"), reverse=True)]


def read(path: Path) -> Job:
    """Returns the job of a record."""
    record, alive = read_json(path), False
    if record["returncode"] is None:
        # A keeper holds its lock until it has written the end. If the lock is free, the end may have been written after
        # the record was read, so the record is read again.
        alive = _is_held(path.with_suffix(".lock"))
        record = record if alive else read_json(path)
    return Job(path.stem, path.parent, **{**record, "command": tuple(record["command"])}, alive=alive)


def _is_held(path: Path) -> bool:
    """Returns whether a keeper lives. Checks in this process wait for each other, because a check takes the lock
    too."""
    if not path.exists():
        return False
    with _looking:
        lock = FileLock(path, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            return True
        lock.release()
        return False


def running(audit: Audit, run: str | None) -> Job | None:
    """Returns the running job of a run, or None."""
    return next((job for job in jobs(audit) if job.run == run and job.is_live), None)


def latest(audit: Audit, run: str | None, command: str) -> Job | None:
    """Returns the newest job of a run with this command, or None."""
    return next((job for job in jobs(audit) if job.run == run and job.name == command), None)


def cancel(job: Job) -> None:
    """Asks the keeper to interrupt the command; it ends within ``GRACE`` seconds. Refused unless the visitor is a
    lead."""
    if refusal():
        raise HardlookError(refusal())
    (job.folder / f"{job.id}.cancel").touch()


# -- the keeper ------------------------------------------------------------------------------------------------------


def keep(path: Path, arguments: Sequence[str]) -> int:
    """Runs the command of a record and writes its end. This is the task of the keeper process."""
    with FileLock(path.with_suffix(".lock"), timeout=WAIT):
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "scoring.cli", *arguments], stdin=subprocess.DEVNULL, cwd=path.parent
        )
        write_json(path, {**read_json(path), "pid": child.pid})
        cancelled = _watch(child, path.with_suffix(".cancel"))
        end = {"returncode": child.returncode, "ended": datetime.now(UTC).isoformat(), "cancelled": cancelled}
        write_json(path, {**read_json(path), **end})
    return 0


def _watch(child: subprocess.Popen[bytes], note: Path) -> bool:
    """Waits for the command; interrupts it if it is cancelled, kills it if it does not end. Returns whether it was
    cancelled."""
    interrupted_at = None
    while child.poll() is None:
        if interrupted_at is None and note.exists():
            interrupted_at = time.monotonic()
            child.send_signal(signal.SIGTERM if sys.platform == "win32" else signal.SIGINT)
        elif interrupted_at is not None and time.monotonic() - interrupted_at > GRACE:
            child.kill()
        time.sleep(EVERY)
    return interrupted_at is not None


if __name__ == "__main__":
    # A server that was started in the background ignores Ctrl-C, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(keep(Path(sys.argv[1]), json.loads(sys.stdin.read())))
