"""One writer per dataset: ``held`` locks what a patch changes, on every machine that sees the file.

The lock is a hidden file beside a manifest or in a folder, at the place that all links to it lead to. The system frees
it when its process ends, however that ends.

Inputs → outputs: a path → a context. Cost: one small file. Known limits: programs other than hardlook do not ask for
it; the dataset's content is therefore compared once more before it is replaced (``manifest_target``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from scoring.audit.errors import HardlookError

ENDING = ".hardlook-lock"
WAIT = 30.0
"""Seconds that a second command waits for the first."""


def lock_path(path: Path) -> Path:
    """Returns where the lock of a manifest or folder lies: the same for every link to it."""
    real = Path(os.path.realpath(path))
    return real / ENDING if real.is_dir() else real.with_name(f".{real.name}{ENDING}")


@contextlib.contextmanager
def held(path: Path, wait: float = WAIT) -> Iterator[None]:
    """Hold a dataset alone. Raises ``HardlookError`` if another command still holds it after ``wait`` seconds."""
    lock = FileLock(lock_path(path), timeout=wait)
    try:
        lock.acquire()
        while not lock_path(path).exists():  # removed by an undo, while this command waited for it
            lock.release()
            lock.acquire()
    except Timeout as error:
        raise HardlookError(
            f"another hardlook command is changing {path}; wait for it to end, then run this one again"
        ) from error
    except OSError as error:
        raise HardlookError(
            f"{path} cannot be locked ({error.strerror or error}); make its folder writable, then run this again"
        ) from error
    try:
        yield
    finally:
        lock.release()
