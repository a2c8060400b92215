"""A review log for reading, also where it lies on a read-only disk.

SQLite in WAL mode writes beside the log even to read it: it needs the folder. A log whose file or folder cannot be
written is therefore copied, with the newest commits in its ``-wal``, into a temporary folder, and read there. A log
that can be written, and a server's, is opened as it is. Where there is none, an empty one is read; a reader never puts
one in its place.

Inputs → outputs: a URL → an open ``ReviewLog``, and its end. Cost: one copy of a read-only log.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scoring.audit.storage import scratch_folder
from scoring.reviews.log_database import file_path, parse_url
from scoring.reviews.log_file import LogFile, LogUnavailable
from scoring.reviews.review_log import ReviewLog

TRIES = 5


@contextlib.contextmanager
def open_for_reading(url: str | Path, audit: str | None = None) -> Iterator[ReviewLog]:
    """Give the log of an audit to commands that write nothing into it. Raises what ``ReviewLog.open`` raises."""
    address = parse_url(url)
    file = file_path(address.database or "") if address.get_backend_name() == "sqlite" else None
    if file is not None:
        LogFile(file).before_connect()
    if file is None or (file.exists() and _can_be_written(file)):
        with ReviewLog.open(url, audit=audit) as log:
            yield log
        return
    with scratch_folder(Path(tempfile.gettempdir(), "hardlook-log")) as folder:
        copy = folder / file.name
        _copy(file, copy)
        with ReviewLog.open(copy, audit=audit) as log:
            yield log


def _can_be_written(file: Path) -> bool:
    return os.access(file.parent, os.W_OK) and (not file.exists() or os.access(file, os.W_OK))


def _copy(file: Path, copy: Path) -> None:
    """Copy a log and its ``-wal`` as they are at one moment; another user's process may write meanwhile."""
    for _ in range(TRIES):
        before = _state(file)
        for one in before:
            shutil.copyfile(one, copy.with_name(one.name))
        if _state(file) == before:
            return
        time.sleep(0.2)
    raise LogUnavailable(f"the review log {file} changes all the time; read it as a user who may write it")


def _state(file: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of the files of a log that are there."""
    found = {}
    for one in (file, file.with_name(f"{file.name}-wal")):
        with contextlib.suppress(FileNotFoundError):
            held = one.stat()
            found[one] = (held.st_size, held.st_mtime_ns)
    return found
