"""Ids of examples, on which all files of an audit are joined.

The user's own; else the path relative to the audit's folder (for files elsewhere: relative to their source,
with the split before it); else the first 16 digits of the fingerprint. A path or content that comes again
gets its split, then an ordinal, so two examples never share an id; the user's own ids must differ.

Inputs → outputs: sources and their listings → ids in order. Cost: one look-up per example. Known limits:
which of two identical arrays is "#2" follows their order when they were read first.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable
from pathlib import Path

from scoring.audit.errors import HardlookError
from scoring.data.adapters.base import Listing, Source


class Ids:
    """Hands out ids that are unique in the audit, in the order of the sources."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.copies: Counter[str] = Counter()
        self.twice: list[str] = []
        self.before: dict[tuple[str, str], deque[str]] = {}

    def remember(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Keeps (id, fingerprint, split) of rows that were there before, in their order, for rows of that content."""
        for own, content, split in rows:
            if own.split("#")[0] == content[:16]:
                self.before.setdefault((content, split), deque()).append(own)

    def own(self, name: str, source: Source, row: int) -> str:
        """The user's own id; one that comes twice is kept for one error at the end."""
        if not name:
            raise source.error(f": the id of row {row} is empty; every example needs a unique id")
        name = source.id_prefix + name
        if name in self.taken:
            self.twice.append(name)
        return self._take(name)

    def path(self, name: str, split: str) -> str:
        """An id from a path, with the split before it and then an ordinal where it is taken."""
        if name in self.taken:
            name = f"{split}:{name}"
        return self._take(self._numbered(name))

    def content(self, fingerprint: str, split: str = "") -> str:
        """The id that a row of this content in this split had before, else one from content, with an ordinal among
        identical content."""
        before = self.before.get((fingerprint, split), deque())
        while before:
            if before[0] not in self.taken:
                return self._take(before.popleft())
            before.popleft()
        return self._take(self._numbered(fingerprint[:16]))

    def _numbered(self, name: str) -> str:
        stem = name
        while name in self.taken:
            self.copies[stem] += 1
            name = f"{stem}#{self.copies[stem] + 1}"
        return name

    def _take(self, name: str) -> str:
        if "\0" in name:
            raise HardlookError(f"the id {name!r} contains a NUL character; remove it")
        self.taken.add(name)
        return name

    def check(self) -> None:
        """Raise one error that names the ids given twice."""
        if self.twice:
            shown = ", ".join(map(repr, sorted(set(self.twice))[:5]))
            raise HardlookError(
                f"{len(set(self.twice))} ids are used by more than one example: {shown}; ids must be unique across "
                'all [[data]] tables; change them, or give each table an id_prefix, e.g. id_prefix = "test/"'
            )


def path_name(source: Source, path: str | None, name: str, split: str) -> str:
    """The relative path that an id is made of: to the audit's folder, else to the source with the split
    before it."""
    root = f"{source.root}{os.sep}"
    if path is not None and path.startswith(root):
        name = Path(path[len(root) :]).as_posix()
    elif source.adapter == "folder":
        name = f"{split}/{name}"
    return name.encode("utf8", "backslashreplace").decode("utf8")


def known_ids(source: Source, listing: Listing, ids: Ids) -> list[str] | None:
    """Returns the ids of a source before it is read; None if they depend on the content."""
    if listing.ids is not None:
        return [ids.own(name, source, row) for row, name in enumerate(listing.ids)]
    if listing.names is None:
        return None
    paths = listing.paths or [None] * len(listing)
    return [
        ids.path(path_name(source, path, name, split), split)
        for path, name, split in zip(paths, listing.names, listing.splits, strict=True)
    ]
