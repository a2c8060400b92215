"""The file of a SQLite log: whether its path still leads to the file that this process has open.

A file that is deleted, moved or replaced stays open under its old name: what is committed then goes into a file that
nobody will see. So each transaction compares device and inode of the log, and of the ``-wal`` and ``-shm`` beside it,
with those that were opened, at its start and once more after the commit. (The ``-shm`` holds the locks: two processes
with one each would write over each other's commits.) Nothing is reopened by itself: the new file may lack
decisions that were acknowledged. The file goes on to be used as soon as it is back.

A file that is overwritten in place keeps its inode, and a server's tables may be restored: a log that ends before a
position that this process has seen is refused as well.

Cost: three ``stat`` per transaction, some microseconds.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path

from scoring.audit.errors import HardlookError
from scoring.audit.real_path import real_path

Identity = tuple[int, int]
"""Device and inode."""


BESIDE = {
    "-wal": ("the newest decisions", "stop with Ctrl+C, which writes them into the log, and start again"),
    "-shm": (
        "the locks that writers share",
        "end each hardlook that uses this log with kill -9, which loses nothing saved (a clean stop would drop what "
        "others have saved since), and start again",
    ),
}
"""What SQLite keeps beside a log in use: what it holds, and what to do without it."""


class LogUnavailable(HardlookError):
    """The database cannot be reached or written now; nothing was acknowledged, send the events again."""


def identity(path: Path) -> Identity | None:
    """Returns device and inode of a file; None where there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogUnavailable(
            f"the review log {path} cannot be reached ({error.strerror}); nothing was saved"
        ) from error
    return found.st_dev, found.st_ino


@dataclass
class LogFile:
    """The log and what SQLite keeps beside it as the first open connection of this process found them, and how many
    are open."""

    path: Path
    log: Identity | None = None
    beside: dict[str, Identity] = field(default_factory=dict)
    open_connections: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def path_beside(self, ending: str) -> Path:
        """Returns the ``-wal``, which holds commits that are not in the log's file yet, or the ``-shm``, which holds
        the locks; SQLite names them after the real file."""
        real = real_path(self.path)
        return real.with_name(real.name + ending)

    def before_connect(self) -> None:
        """Refuses a connection that would create an empty file in the place of the log, or open another file."""
        with self._lock:
            if self.log is not None:
                self._compare()
            elif identity(self.path) is None and self._left_behind():
                raise LogUnavailable(
                    f"there is no review log {self.path}, but {self.path_beside('-wal').name}, which holds its newest "
                    "decisions: it was deleted or moved; put the file back, or use hardlook restore AUDIT BACKUP"
                )

    def _left_behind(self) -> bool:
        """Whether commits lie beside the place of a log that is gone: SQLite would play them into an empty file."""
        wal = self.path_beside("-wal")
        return wal.is_file() and wal.stat().st_size > 0

    def after_connect(self) -> None:
        """Remembers the files of the first connection."""
        with self._lock:
            self.open_connections += 1
            if self.log is None:
                self.log = identity(self.path)
            for ending in BESIDE:
                found = None if ending in self.beside else identity(self.path_beside(ending))
                self.beside |= {} if found is None else {ending: found}

    def after_close(self) -> None:
        """Forgets ``-wal`` and ``-shm`` with the last connection, which removes them."""
        with self._lock:
            self.open_connections -= 1
            if not self.open_connections:
                self.beside.clear()

    def check(self) -> None:
        """Raises ``LogUnavailable`` if the path leads to no file or to another one."""
        with self._lock:
            self._compare()

    def _compare(self) -> None:
        found = identity(self.path)
        if found is None:
            raise LogUnavailable(
                f"the review log {self.path} was deleted or moved while it was in use; nothing was saved; put the file "
                "back, or restart after hardlook restore AUDIT BACKUP"
            )
        if self.log is not None and found != self.log:
            raise LogUnavailable(
                f"the review log {self.path} was replaced by another file while it was in use; nothing was saved; put "
                f"the earlier file back, or stop, remove {self.path_beside('-wal').name} beside it, which belongs to "
                "the earlier file, and start again with the new one"
            )
        for ending, opened in self.beside.items():
            if identity(self.path_beside(ending)) != opened:
                holds, remedy = BESIDE[ending]
                raise LogUnavailable(
                    f"{self.path_beside(ending)}, which holds {holds}, was deleted or replaced while the log was "
                    f"in use; nothing was saved; put it back, or {remedy}"
                )


@dataclass
class LastPosition:
    """The last position of the log that this process has seen; a log never gets shorter."""

    position: int = 0

    def advance(self, position: int) -> None:
        """Remembers a position. Raises ``LogUnavailable`` if the log ends before one that was seen."""
        if position < self.position:
            raise LogUnavailable(
                f"the review log ends at event {position:,}, but this process has seen event {self.position:,}: it was "
                "overwritten by an older copy; nothing was saved; put the newer one back, or restart to go on with the "
                "older one"
            )
        self.position = position
