"""The base class of datasets to which a patch can be applied.

A ``Target`` lists its rows with label and fingerprint as an adapter reads them (``scoring.data.adapters``), and
changes them. It writes a journal before it changes anything, so that a kill at any moment leaves data that ``restore``
can bring back.

Inputs → outputs: a source → rows with ids, labels and fingerprints. Cost: one listing, and one read of each row whose
fingerprint is asked for. Known limits: whoever changes a target holds its lock (``target_lock``).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.storage import write_json
from scoring.corrections.apply.audit_table import AuditTable, KnownRow
from scoring.data.adapters.base import Listing, Source
from scoring.data.example_ids import Ids, known_ids
from scoring.data.images import fingerprint
from scoring.data.labels import Labels
from scoring.data.moved_files import read_journal


class Target:
    """Rows of one dataset. ``names``: what ids end with; ``labels``: class names, None for none."""

    def __init__(self, path: Path, source: Source, table: AuditTable | None = None):
        self.path, self.source, self.table = path, source, table or AuditTable()
        self._fingerprints: dict[int, str | None] = {}

    @cached_property
    def listing(self) -> Listing:
        """The adapter's listing."""
        return self.source.listing()

    @cached_property
    def names(self) -> list[str]:
        """Returns what each row is called: the user's own id, else the id that the audit gave to the row of this file,
        else the relative path, with the ordinal that ingest gives to a path that comes again; empty where only content
        tells."""
        if self.listing.ids is not None:
            return [self.source.id_prefix + name for name in self.listing.ids]
        ids = Ids()
        ids.taken |= self.left_out
        names = known_ids(self.source, self.listing, ids) or [""] * len(self.listing)
        given: dict[str | None, deque[str]] = {}
        for each in self.known:
            given.setdefault(each.path, deque()).append(each.example_id)
        for row, name in enumerate(names):
            path = self.listing.path(row)
            if path is not None:
                own = given.get(os.path.normpath(path))
                names[row] = own.popleft() if own else name
        return names

    @cached_property
    def raw_labels(self) -> list[Any]:
        """Labels as the adapter lists them, None where there are none."""
        return list(self.listing.labels or [None] * len(self.listing))

    @cached_property
    def labels(self) -> list[str | None]:
        """Class names as the dataset has them; numbers are named where the classes are known."""
        if not self.source.classes:
            return [None if value is None else str(value) for value in self.raw_labels]
        known = Labels(self.source.classes, self.source.label_map, self.source.names_of_classes())
        return [known.name(value) for value in self.raw_labels]

    def fingerprint(self, row: int) -> str | None:
        """The fingerprint of a row's content, read once; None where it cannot be read."""
        if row not in self._fingerprints:
            try:
                self._fingerprints[row] = fingerprint(self.source.content(row, self.listing.path(row))[0])
            except (OSError, HardlookError):
                self._fingerprints[row] = None
        return self._fingerprints[row]

    @property
    def journal(self) -> Path:
        """Returns where the applications are written down."""
        raise NotImplementedError

    @property
    def known(self) -> Sequence[KnownRow]:
        """The rows of the audit's last reading that are still there, at the paths to which patches moved them since."""
        raise NotImplementedError

    def change(self, labels: Mapping[int, str], excluded: Mapping[int, str]) -> tuple[dict[int, str], dict[int, str]]:
        """Relabel rows and leave rows out (row → example) → {row: why it could not be}, {row: what else was done to
        it}."""
        raise NotImplementedError

    def restore(self) -> list[str]:
        """Take the last application back → what could not be brought back, and why."""
        raise NotImplementedError

    @property
    def left_out(self) -> set[str]:
        """Returns what rows were called that earlier applications excluded and that are not back."""
        raise NotImplementedError

    def earlier_names(self) -> dict[str, str]:
        """Returns what rows were called before earlier applications → what they are called now."""
        return {}

    @property
    def applications(self) -> int:
        """Returns how many applications can be taken back."""
        return len(self._entries())

    def _entries(self) -> list[dict[str, Any]]:
        return read_journal(self.journal)

    def _last(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        entries = self._entries()
        if not entries:
            raise HardlookError(
                f"{self.journal} does not exist or is empty, so there is nothing to undo; apply a patch first"
            )
        return entries[:-1], entries[-1]

    def _keep(self, entries: list[dict[str, Any]]) -> None:
        if entries:
            write_json(self.journal, entries)
        else:
            self.journal.unlink(missing_ok=True)
