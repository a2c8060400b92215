"""What hardlook itself moved or left out when it applied a patch: the journal in an image folder, or beside a manifest.

``read_journal`` reads it; ``journeys`` follows each file through all applications to where it lies now, ``excluded``
names the rows that a manifest lost. ``apply`` and ingest both ask, so that what remains is never taken for what went,
even where both have the same content.

Inputs → outputs: a journal → its entries, old path → path of now, examples that are gone. Cost: one small file. Known
limits: what other programs moved is not in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_json

JOURNAL = ".hardlook-applied.json"
EXCLUDED = ".hardlook-excluded"


def manifest_journal(path: Path) -> Path:
    """Returns the journal of a manifest: hidden, beside the file to which all links lead."""
    real = Path(os.path.realpath(path))
    return real.with_name(f".{real.name}{JOURNAL}")


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
    left = entry.get("examples", {})
    return (
        pairs
        and all(isinstance(name, str) for move in moves for name in move)
        and isinstance(left, dict)
        and all(isinstance(each, list) and len(each) == 2 and isinstance(each[1], int) for each in left.values())
    )


def journeys(folder: Path, entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Relative path before any application → the path of now, of files that are still where these put them."""
    known: dict[str, list[str]] = {}
    for entry in entries:
        for old, new in entry.get("moves", ()):
            if not entry.get("unfinished") or os.path.lexists(folder / new):
                known.setdefault(new, []).extend([*known.pop(old, []), old])
    return {name: now for now, names in known.items() if os.path.lexists(folder / now) for name in names}


def excluded(entries: Iterable[Mapping[str, Any]], count: Callable[[str], int]) -> set[str]:
    """The examples that a manifest lost to patches and still lacks.

    An entry has of each what its row was like (its id, path or content), and how many such rows were left: where there
    are more, it is back. ``count``: how many rows are like that now. Entries of older versions have names alone.
    """
    found: dict[str, tuple[str, int]] = {}
    for entry in entries:
        rows = entry["examples"] if "examples" in entry else {name: [name, 0] for name in entry.get("excluded", ())}
        found |= {example: (str(like), left) for example, (like, left) in rows.items() if example}
    return {example for example, (like, left) in found.items() if count(like) <= left}
