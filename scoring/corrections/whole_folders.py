"""Folders that an export makes: each appears whole under its name, or not at all.

They are filled in a hidden folder ``.<name>.<random>.partial`` beside them and renamed. Several folders need several
renames: what a killed export had renamed by then is taken back by the next one, which knows it by ``moves.json`` in the
hidden folder and by the lock there, which died with the process.

Inputs → outputs: paths → a folder to fill. Cost: one rename per folder. Known limit: while ``replaced`` changes two
folders, and after a kill at that moment until the next export, there is neither of them under the name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json, remove_abandoned_of, scratch_folder, write_json

MOVES = "moves.json"
LOCK = ".lock"


@contextlib.contextmanager
def all_or_none(paths: Sequence[Path]) -> Iterator[Path]:
    """A hidden folder beside ``paths`` in which to make them; they are renamed into place when all of them stand."""
    if not paths:
        raise HardlookError("no labelled example can be read; there is nothing to export")
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    _take_back(paths)
    remove_abandoned_of(paths[0])
    for path in paths:
        refuse(path)
    with scratch_folder(paths[0]) as work, FileLock(work / LOCK):
        yield work
        write_json(work / MOVES, {path.name: _identity(work / path.name) for path in paths})
        for path in paths:
            os.rename(work / path.name, path)


def _take_back(paths: Sequence[Path]) -> None:
    """Removes what a killed export of these folders had moved into place, unless somebody has changed it since."""
    for left in sorted(paths[0].parent.glob(f".{paths[0].name}.*.partial")):
        if not (left / MOVES).is_file():
            continue
        with contextlib.suppress(Timeout), FileLock(left / LOCK, timeout=0):
            moved, since = read_json(left / MOVES), (left / MOVES).stat().st_mtime
            for path in paths:
                if path.is_dir() and _identity(path) == moved.get(path.name) and _newest(path) <= since:
                    os.rename(path, left / path.name)
            shutil.rmtree(left, ignore_errors=True)


def _identity(path: Path) -> list[int]:
    """Device and inode, which a rename keeps."""
    found = path.stat()
    return [found.st_dev, found.st_ino]


def _newest(folder: Path) -> float:
    """The time of the last change of a file or folder in a folder."""
    return max((one.lstat().st_mtime for one in folder.rglob("*")), default=0.0)


def refuse(path: Path) -> None:
    """Raises ``HardlookError`` where there is something."""
    if path.exists():
        raise HardlookError(f"{path} already exists; remove it, or give another --out")


def new_folder(path: Path) -> Path:
    """A folder beside ``path`` to fill; renamed to it at the end."""
    refuse(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned_of(path)
    return Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial"))


@contextlib.contextmanager
def replaced(path: Path, own: Sequence[str]) -> Iterator[Path]:
    """A hidden folder to fill, which takes the place of ``path`` and its earlier export when the block ends well.

    own: the names that an export has; a folder that holds others is not replaced.
    """
    others = sorted({one.name for one in path.iterdir()} - {*own}) if path.is_dir() else []
    if others:
        raise HardlookError(f"{path} holds {others[0]!r}, which is of no export; move it, or give another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path) as scratch:
        work = scratch / "new"
        work.mkdir(mode=0o755)
        yield work
        if path.is_dir():
            os.rename(path, scratch / "old")
        try:
            os.rename(work, path)
        except OSError:
            if (scratch / "old").is_dir():
                os.rename(scratch / "old", path)
            raise
