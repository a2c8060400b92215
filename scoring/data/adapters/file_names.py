"""Names of files as a table has them → as this system has them; the folders in a folder.

Inputs → outputs: a folder and a relative path → the path under which the file lies there. Cost: one look at the disk
per name, up to five where it is not there as written; one listing of a folder. Known limits: accents are tried all
composed or all apart.
"""

from __future__ import annotations

import os
from pathlib import Path
from unicodedata import normalize


def on_this_system(folder: Path, name: str) -> str:
    """A path that Windows wrote ("a\\b.png"), or that has its accents composed otherwise, as one of this system, where
    that file is there; else as it is written."""
    if ("\\" not in name and name.isascii()) or os.path.exists(folder / name):
        return name
    slashed = name.replace("\\", "/")
    ways = (slashed, *(normalize(form, text) for text in (name, slashed) for form in ("NFC", "NFD")))
    return next((way for way in ways if os.path.exists(folder / way)), name)


def folders_in(folder: Path) -> list[Path]:
    """The folders right in a folder, sorted, without hidden ones; a link that leads back to itself is none."""
    try:
        with os.scandir(folder) as entries:
            names = [
                entry.name
                for entry in entries
                if not entry.name.startswith(".")
                and (entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and os.path.isdir(entry.path)))
            ]
    except OSError:  # closed: whoever reads the folder says so
        return []
    return [folder / name for name in sorted(names)]
