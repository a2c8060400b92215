"""Atomic writing: a file is the old one or the new one, whenever a command is killed.

Each file is written under a temporary name in the same folder, flushed to the disk and renamed. What a killed command
leaves carries the name ``.<file>.<random>.partial``; the next writer of that file removes it once it is an hour old.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ABANDONED = 3600
"""Seconds after which a temporary file belongs to no command that still runs; as many in the future, where the clock
has been set back since."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that replaces it, flushed to the disk, when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned_of(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Give a private, hidden folder beside ``path`` for files on the way there; it is removed when the block ends."""
    path = Path(path)
    remove_abandoned_of(path)
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files that a killed command left in a folder and those inside it, once they are an hour old.

    Only for whoever holds the folder's lock: nobody else is then writing there; the hour is for files that need none.
    """
    for path in Path(folder).rglob(".*.partial"):
        with contextlib.suppress(OSError):
            if path.is_file() and _is_abandoned(path):
                path.unlink()


def remove_abandoned_of(path: Path) -> None:
    """Remove what killed writers of ``path`` left beside it, files or folders, once it is an hour old."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        with contextlib.suppress(OSError):
            if _is_abandoned(left):
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def _is_abandoned(path: Path) -> bool:
    """Whether the newest file in a temporary file or folder is of no command that still runs."""
    newest = max(one.lstat().st_mtime for one in (path, *path.rglob("*")))
    return abs(time.time() - newest) > ABANDONED


def _umask() -> int:
    """The process's umask; temporary files are private, artefacts follow the user's own setting."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    """fsync a file, or a folder where the operating system allows it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
