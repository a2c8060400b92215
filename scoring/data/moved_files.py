"""Files of an image folder that hardlook itself moved when it applied a patch: the journal in the folder.

``read_journal`` reads it; ``journeys`` follows each file through all applications to where it lies now. ``apply`` and
ingest both ask, so that a file that was moved is known even where others have its content.

Inputs → outputs: a journal → its entries, old path → path of now. Cost: one small file. Known limits: what other
programs moved is not in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json

JOURNAL = ".hardlook-applied.json"
EXCLUDED = ".hardlook-excluded"


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Returns the applications that a journal holds, the last one last; none where there is no journal."""
    if not path.exists():
        return []
    try:
        entries = read_json(path)
    except HardlookError:
        entries = None
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise HardlookError(
            f"{path} is not a journal of applied patches; move it away to go on, and nothing before can be undone"
        )
    return entries


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    moves = entry.get("moves", [])
    pairs = isinstance(moves, list) and all(isinstance(move, list) and len(move) == 2 for move in moves)
    return pairs and all(isinstance(name, str) for move in moves for name in move)


def journeys(folder: Path, entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Relative path before any application → the path of now, of files that are still where these put them."""
    known: dict[str, list[str]] = {}
    for entry in entries:
        for old, new in entry.get("moves", ()):
            if not entry.get("unfinished") or os.path.lexists(folder / new):
                known.setdefault(new, []).extend([*known.pop(old, []), old])
    return {name: now for now, names in known.items() if os.path.lexists(folder / now) for name in names}
