"""The ``[[data]]`` table of an audit under which a manifest or folder was read, and the ids that its rows got.

``find_audit`` looks for the audit that reads a dataset, in the folders above a patch and above the data; ``table_of``
returns the settings of its table and what the last reading found there; ``adapters_of`` says what kind of data it is.

Inputs → outputs: paths → an audit, settings, known rows. Cost: one small file per folder, one read of the example
table. Known limits: a copy of a manifest elsewhere takes the settings of the table of that file name, else of the only
table of its kind.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from scoring.audit import Audit
from scoring.audit.storage import read_metadata, read_table
from scoring.data.adapters import known_adapters, open_sources
from scoring.data.adapters.base import Source

CONFIG = "audit.toml"
OF_THE_PLACE = ("path", "adapter")
COLUMNS = ("example_id", "reference", "fingerprint", "source", "row")


@dataclass(frozen=True)
class KnownRow:
    """One row as it was read last: its id, its file where it has one, its fingerprint where it could be read."""

    example_id: str
    path: str | None
    fingerprint: str | None


@dataclass(frozen=True)
class AuditTable:
    """How an audit reads a dataset: keys of its table, the rows that it found there, and the digests of the applied
    patches that it saw then."""

    settings: dict[str, Any] = field(default_factory=dict)
    rows: Sequence[KnownRow] = ()
    applied: Collection[str] = ()


def find_audit(*paths: Path, data: Path) -> Audit | None:
    """Returns the first audit in a folder above one of ``paths`` that reads ``data``; None where there is none."""
    for path in paths:
        for folder in Path(os.path.abspath(path)).parents:
            if (folder / CONFIG).is_file():
                audit = Audit.open(folder)
                if any(_reads(source, data) for source in open_sources(audit)):
                    return audit
    return None


def table_of(audit: Audit, path: Path, adapter: str) -> AuditTable:
    """Returns how an audit reads the dataset at a path; empty where it does not read such data."""
    sources = [source for source in open_sources(audit) if source.name == adapter]
    own = [source for source in sources if _reads(source, path)]
    alike = [source for source in sources if Path(source.path or "").name == path.name] or sources
    chosen = next(iter(own), alike[0] if len(alike) == 1 else None)
    if chosen is None:
        return AuditTable()
    settings = {key: value for key, value in audit.sources[chosen.number].items() if key not in OF_THE_PLACE}
    if not own or not audit.examples_path.is_file():
        return AuditTable(settings)
    applied = read_metadata(audit.examples_path).get("applied", ())
    return AuditTable(settings, _known_rows(audit, chosen.number), applied)


def adapters_of(path: Path, audit: Audit | None) -> list[str]:
    """The adapters that read what lies at a path: those of the audit's tables, else those that recognise it."""
    own = [] if audit is None else [source.name for source in open_sources(audit) if _reads(source, path)]
    return own or [kind.name for kind in known_adapters().values() if kind.recognises(path)]


def _reads(source: Source, path: Path) -> bool:
    """Returns whether a source lies at a path, whatever links lead there."""
    place = os.path.join(source.root, os.path.expanduser(source.path)) if source.path else ""
    return bool(place) and os.path.realpath(place) == os.path.realpath(path)


def _known_rows(audit: Audit, number: int) -> list[KnownRow]:
    """The rows of one source in the example table, in their order."""
    table = read_table(audit.examples_path, COLUMNS)
    rows = table.filter(pc.equal(table["source"], number)).sort_by("row").to_pylist()
    return [KnownRow(row["example_id"], _absolute(audit.root, row["reference"]), row["fingerprint"]) for row in rows]


def _absolute(root: Path, reference: str | None) -> str | None:
    return None if reference is None else os.path.normpath(root / reference)
