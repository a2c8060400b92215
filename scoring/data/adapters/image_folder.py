"""Image folders, and folders of arrays or texts: one folder per class.

Cost: one walk; no file is opened. Known limit: a file whose name is no text is listed with that as its problem.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from unicodedata import normalize

from scoring.audit.errors import HardlookError
from scoring.data.adapters.base import Listing, Source
from scoring.data.adapters.json_files import read_json_file
from scoring.data.images import SUFFIXES
from scoring.data.labels import natural

SUFFIXES_OF = {"image": (*SUFFIXES, ".npy"), "vector": (".npy",), "text": (".txt", ".md")}

TABLE = "classes.json"
"""What an export writes beside its folders: folder → class."""

UNLABELLED = "_unlabeled"
"""The folder in which FiftyOne writes examples without a label."""


@dataclass(kw_only=True)
class Folder(Source):
    """An image folder: one folder per class, deeper folders belong to their class; the pool needs no classes.

    The class is the longest beginning of the relative folder that is a class name ("animals/cat"), else the
    first folder; ``classes.json`` of an export names the class of a folder that is called otherwise. Hidden files are
    passed over in silence; files of other kinds are listed as skipped.
    """

    name = "folder"
    reads_any_folder = True
    sorts_as_text = True

    extensions: list[Any] | None = None

    def listing(self) -> Listing:
        """Walk the folder in natural order (img2 before img10), following links, entering no folder twice."""
        if not self.place.is_dir():
            raise self.error(f".path = {self.path!r} is not a folder; name another adapter")
        skipped: list[str] = []
        names = list(self._walk(skipped))
        paths = [str(self.place / name) for name in names]
        listing = Listing(
            splits=self.one_split(len(names)),
            names=names,
            paths=paths,
            skipped=skipped,
            unlabelled="is not in a class folder",
        )
        if self.split != "pool":
            listing.labels = [self._class_of(name) for name in names]
        for row in (row for row, name in enumerate(names) if not _is_utf8(name)):
            listing.problems[row] = "its file name is not UTF-8; rename it"
        return listing

    def _walk(self, skipped: list[str]) -> Iterator[str]:
        """Relative names of the wanted files; folders that are named like a picture are given too."""
        seen: set[str] = set()

        def closed(error: OSError) -> None:
            skipped.append(f"{os.path.relpath(error.filename, self.place)}: {error.strerror}")

        for folder, folders, files in os.walk(self.place, followlinks=True, onerror=closed):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            inside = os.path.relpath(folder, self.place)
            pretending = [name for name in folders if inside != "." and self._promises(name)]
            inner = filter(_visible, set(folders) - set(pretending))  # a link to a class is no second name of it
            folders[:] = sorted(inner, key=lambda name: (os.path.islink(os.path.join(folder, name)), natural(name)))
            for name in sorted(filter(_visible, files + pretending), key=natural):
                relative = name if inside == "." else f"{Path(inside).as_posix()}/{name}"
                if relative == TABLE and self._table:
                    continue
                if self._wanted(name):
                    yield relative
                else:
                    skipped.append(relative)

    @cached_property
    def _table(self) -> dict[str, str]:
        return class_table(self.place)

    def _wanted(self, name: str) -> bool:
        return bool(self.loader and self.extensions is None) or self._promises(name)

    def _promises(self, name: str) -> bool:
        """Returns whether the name ends like a file of the wanted kind."""
        return name.lower().endswith(tuple(map(str.lower, self.extensions or SUFFIXES_OF[self.media])))

    def _class_of(self, name: str) -> str | None:
        folders = name.split("/")[:-1]
        if folders[:1] == [UNLABELLED] and UNLABELLED not in (*self.classes, *(self.label_map or {})):
            return None
        known = {normalize("NFC", text) for text in (*self.classes, *(self.label_map or {}))}
        if folders and normalize("NFC", folders[0]) not in known and folders[0] in self._table:
            named = self._table[folders[0]]
            return named if normalize("NFC", named) in known else folders[0]
        beginnings = ["/".join(folders[:depth]) for depth in range(len(folders), 0, -1)]
        return next((part for part in beginnings if normalize("NFC", part) in known), folders[0] if folders else None)


def class_table(folder: Path) -> dict[str, str]:
    """Folder → class of ``classes.json``, which an export writes where a class's name can be no folder's."""
    if not (folder / TABLE).is_file():
        return {}
    try:
        found = read_json_file(folder / TABLE)
    except HardlookError:  # a file of the user's that is called so; the folders then are the classes
        return {}
    return {key: name for key, name in found.items() if isinstance(name, str)} if isinstance(found, dict) else {}


def _is_utf8(name: str) -> bool:
    """Returns whether a file's name is text; Python keeps other bytes as surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _visible(name: str) -> bool:
    """Returns whether a file is one of the user's: not hidden, not left by an operating system."""
    return not name.startswith(".") and name not in ("__MACOSX", "Thumbs.db", "desktop.ini")
