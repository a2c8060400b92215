"""What a command that scores a run is doing now, for the pages that show it.

The writer holds a lock as long as it lives; what stands in the file counts only while that lock is held, so that a
killed command leaves nothing behind that looks alive.

Inputs → outputs: a run and steps → ``under_way.json`` in its folder → one sentence. Cost: one small write a second at
most. Limits: where a reader may not lock (a read-only folder), a file of the last ten minutes counts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from scoring.audit.errors import HardlookError
from scoring.audit.progress import Progress
from scoring.audit.run import Run
from scoring.audit.storage import read_json, write_json

EVERY = 1.0
STALE = 600.0


def file_of(run: Run) -> Path:
    """The file of a run's folder that says what is under way."""
    return run.folder / "under_way.json"


def _lock_of(run: Run) -> FileLock:
    return FileLock(run.folder / ".under_way.lock")


class UnderWay:
    """The writer: what step of how many, and how far it is."""

    def __init__(self, run: Run) -> None:
        self._path, self._written = file_of(run), 0.0
        self._facts: dict[str, Any] = {}

    def step(self, name: str, number: int = 0, of: int = 0) -> None:
        """Begin a step: a score, the ``number``th ``of`` all."""
        self._facts = {"name": name, "number": number, "of": of}
        self._write(at_once=True)

    def over(self, progress: Progress) -> Progress:
        """The same progress, which also tells how far the step is."""

        @contextlib.contextmanager
        def shown(what: str, total: int, unit: str = "examples") -> Iterator[Callable[[int], object]]:
            with progress(what, total, unit=unit) as advance:
                done = 0

                def told(n: int) -> None:
                    nonlocal done
                    done += n
                    advance(n)
                    self._facts |= {"pass": what, "done": done, "total": total, "unit": unit}
                    self._write()

                yield told

        return shown

    def _write(self, *, at_once: bool = False) -> None:
        if at_once or time.monotonic() - self._written > EVERY:
            write_json(self._path, {**self._facts, "time": time.time()})
            self._written = time.monotonic()


@contextlib.contextmanager
def under_way(run: Run) -> Iterator[UnderWay]:
    """Tell what is under way for as long as the block lasts."""
    run.folder.mkdir(parents=True, exist_ok=True)
    with _lock_of(run).acquire(timeout=10.0):
        try:
            yield UnderWay(run)
        finally:
            file_of(run).unlink(missing_ok=True)


def what_is_under_way(run: Run) -> str | None:
    """Returns what a command is computing for this run now, in a sentence; None where nothing is."""
    try:
        facts = read_json(file_of(run))
    except HardlookError:
        return None  # read while the file was replaced by hand; the next look finds another one
    if not facts or not _is_alive(run, float(facts.get("time", 0.0))):
        return None
    which = f", {facts['number']} of {facts['of']}" if facts.get("of") else ""
    far = f" ({facts['done']:,} of {facts['total']:,} {facts['unit']})" if facts.get("total") else ""
    return f"under way: {facts.get('name', 'scoring')}{which}{far}"


def _is_alive(run: Run, written: float) -> bool:
    """Returns whether the writer still holds its lock."""
    lock = _lock_of(run)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        return abs(time.time() - written) < STALE
    lock.release()
    return False
