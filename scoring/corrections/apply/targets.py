"""Datasets to which a patch can be applied: a manifest (its label column is rewritten) or an image folder (files move).

``open_target`` takes the settings under which an audit reads the data from its ``[[data]]`` table, where it is known.
A folder's files are renamed one by one; the plan is in the journal before the first one moves.

Inputs → outputs: a path, and an audit or settings → a ``Target``. Cost: none before its rows are asked for. Known
limits: local files; a folder's files stay on the disk that they are on.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest, remove_abandoned_of
from scoring.corrections.apply.audit_table import AuditTable, KnownRow, adapters_of, table_of
from scoring.corrections.apply.manifest_target import ManifestTarget
from scoring.corrections.apply.target import Target
from scoring.corrections.apply.written_labels import WrittenLabels
from scoring.data.adapters.image_folder import Folder
from scoring.data.adapters.manifest import Manifest
from scoring.data.adapters.metadata_folder import metadata_files
from scoring.data.adapters.roboflow import tables as tables_of_roboflow
from scoring.data.moved_files import EXCLUDED, JOURNAL, journeys

__all__ = ["EXCLUDED", "JOURNAL", "MANIFESTS", "FolderTarget", "ManifestTarget", "Target", "open_target"]

MANIFESTS = (".csv", ".tsv", ".parquet")


class FolderTarget(Target):
    """An image folder: relabelling moves a file to its class's folder, excluding moves it out of sight."""

    source: Folder

    @property
    def journal(self) -> Path:
        """In the folder, hidden."""
        return self.path / JOURNAL

    @property
    def left_out(self) -> set[str]:
        """Those that lie out of sight, by all names that they had."""
        return {name for name, now in self._journey.items() if now.startswith(f"{EXCLUDED}/")}

    def earlier_names(self) -> dict[str, str]:
        """Relative paths before earlier applications → those of now, of files that are still where these put them."""
        return self._journey

    @cached_property
    def _journey(self) -> dict[str, str]:
        return journeys(self.path, self._entries())

    @cached_property
    def known(self) -> Sequence[KnownRow]:
        """Where the patches put them that the audit has not seen yet; without those that these put out of sight."""
        went = journeys(self.path, [entry for entry in self._entries() if digest(entry) not in self.table.applied])
        found: list[KnownRow] = []
        for row in self.table.rows:
            name = None if row.path is None else Path(os.path.relpath(row.path, self.path)).as_posix()
            now = None if name is None else went.get(name, name)
            if now is None or now == name:
                found.append(row)
            elif not now.startswith(f"{EXCLUDED}/"):
                found.append(replace(row, path=os.path.normpath(self.path / now)))
        return found

    @cached_property
    def _files(self) -> list[str]:
        """The relative path of each row."""
        return list(self.listing.names or [])

    @cached_property
    def _written(self) -> WrittenLabels:
        """Class → folder, as the folders that are there have it."""
        return WrittenLabels(self.source, self.raw_labels, pa.string())

    def change(self, labels: Mapping[int, str], excluded: Mapping[int, str]) -> tuple[dict[int, str], dict[int, str]]:
        """Move files. One whose name is taken in its new folder gets a number behind its name."""
        moves: dict[int, tuple[str, str]] = {}
        refused: dict[int, str] = {}
        notes: dict[int, str] = {}
        taken: set[str] = set()
        leaving = {self._files[row] for row in excluded}
        for row in [
            *sorted(excluded),
            *sorted(set(labels) - set(excluded)),
        ]:  # names become free before others want them
            name = self._files[row]
            try:
                to = f"{EXCLUDED}/{name}" if name in leaving else self._moved(row, labels[row])
            except HardlookError as error:
                refused[row] = str(error)
                continue
            if to == name:
                continue
            free = self._free(to, taken, leaving)
            if free != to and row in labels:
                notes[row] = f"renamed to {free}, since {to} is another file; undo gives the old name back"
            taken.add(_key(free))
            moves[row] = (name, free)
        failed = self._make(moves)
        return refused | failed, {row: note for row, note in notes.items() if row not in failed}

    def _make(self, moves: Mapping[int, tuple[str, str]]) -> dict[int, str]:
        """Move files, as one application with what an earlier one did before it was killed → those that could not."""
        if not moves:
            return {}
        remove_abandoned_of(self.journal)
        earlier, before, failed = self._entries(), list[Sequence[str]](), dict[int, str]()
        if earlier and earlier[-1].get("unfinished"):
            before = [[old, new] for old, new in earlier.pop()["moves"] if os.path.lexists(self.path / new)]
        self._keep([*earlier, {"moves": [*before, *map(list, moves.values())], "unfinished": True}])
        for row, (old, new) in moves.items():
            try:
                _move(self.path / old, self.path / new)
            except OSError as error:
                failed[row] = f"{old} cannot be moved to {new}: {error.strerror or error}"
        done = [list(move) for row, move in moves.items() if row not in failed]
        self._keep([*earlier, {"moves": [*before, *done]}] if before or done else earlier)
        return failed

    def _moved(self, row: int, label: str) -> str:
        """Returns where a file goes: the same place below the folder of its new class. Raises ``HardlookError`` if that
        is no place for it."""
        name, old, folder = self._files[row], self.raw_labels[row], self._written.value(label)
        inside = name[len(old) + 1 :] if old and name.startswith(f"{old}/") else Path(name).name
        if (
            not folder
            or "\0" in folder
            or folder.startswith((".", "/"))
            or ".." in Path(folder).parts
            or "\\" in folder
        ):
            raise HardlookError(f"{label!r} cannot be used as a folder name on this system")
        file, to = self.path / name, f"{folder}/{inside}"
        if file.is_symlink() and file.exists():
            there = (self.path / to).parent / os.readlink(file)
            if os.path.realpath(there) != os.path.realpath(file):
                raise HardlookError(f"{name} is a relative link that would lead elsewhere from {to}; make it absolute")
        return to

    def _free(self, to: str, taken: Collection[str], leaving: Collection[str]) -> str:
        """``to``, or the first of to-2, to-3, … that is no file, but one that leaves before."""
        path, number, free = Path(to), 1, to
        while (free not in leaving and os.path.lexists(self.path / free)) or _key(free) in taken:
            number += 1
            free = path.with_name(f"{path.stem}-{number}{path.suffix}").as_posix()
        return free

    def restore(self) -> list[str]:
        """Move the files back; one that is no longer where it went is reported."""
        rest, last = self._last()
        problems = []
        for old, new in reversed(last["moves"]):
            there, back = os.path.lexists(self.path / new), os.path.lexists(self.path / old)
            if there and not back:
                _move(self.path / new, self.path / old)
            elif not back:
                problems.append(f"{old}: it is no longer at {new}")
            elif there:
                problems.append(f"{new} was not moved back: another file is at {old}")
        self._keep(rest)
        return problems


def open_target(
    path: Path,
    classes: Sequence[str] = (),
    media: str | None = None,
    columns: Mapping[str, Any] | None = None,
    audit: Audit | None = None,
) -> Target:
    """The dataset at a path; anything that is neither a manifest nor a folder is refused with what to do.

    ``audit``: whose ``[[data]]`` table says how the data is read; ``classes``, ``media`` and ``columns`` (keys of such
    a table) come before it.
    """
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise HardlookError(f"{path} does not exist; give a manifest ({', '.join(MANIFESTS)}) or an image folder")
    if not path.is_dir() and path.suffix.lower() not in MANIFESTS and not adapters_of(path, audit):
        raise HardlookError(
            f"{path} is neither a manifest ({', '.join(MANIFESTS)}) nor a folder; for other data, apply the patch in "
            "your loading code (scoring.corrections.label_patch.apply_patch)"
        )
    _refuse_other_kinds(path, audit)
    folder = path.is_dir()
    table = AuditTable() if audit is None else table_of(audit, path, "folder" if folder else "manifest")
    place = {
        "root": path if folder and audit is None else audit.root if audit is not None else path.parent,
        "number": 0,
        "media": media or (audit.media if audit is not None else "image"),
        "classes": list(classes) or (audit.classes if audit is not None else []),
        "path": str(path),
    }
    settings = {"split": "train", **table.settings, **(columns or {}), **place}
    if folder:
        return FolderTarget(path, Folder(**settings, adapter="folder"), table)
    return ManifestTarget(path, Manifest(**settings, adapter="manifest"), table)


def _refuse_other_kinds(path: Path, audit: Audit | None) -> None:
    """Raises ``HardlookError`` where the data is of a tool whose files a patch cannot be written into; a folder into
    which one was written before is an image folder."""
    kinds = [name for name in adapters_of(path, audit) if name not in (Folder.name, Manifest.name)]
    if not kinds or (path / JOURNAL).exists():
        return
    tables = [*tables_of_roboflow(path), *metadata_files(path)]
    table = next((str(file) for file in tables if file.suffix in MANIFESTS), None)
    way = f"apply it to the table {table}" if table else "correct the labels in that tool"
    raise HardlookError(
        f"{path} is data of the kind {kinds[0]!r}, into which no patch is written; {way}, or write the corrected "
        "dataset with `hardlook export --format imagefolder`"
    )


def _key(name: str) -> str:
    """Returns what two names share that some file systems take for the same."""
    return unicodedata.normalize("NFC", name).casefold()


def _move(old: Path, new: Path) -> None:
    """Rename, making the folder; a folder that is left empty stays, for it is a class."""
    new.parent.mkdir(parents=True, exist_ok=True)
    old.rename(new)
