"""Files that a table names: whether they are there, and where relative paths start if not beside the table.

Tables often hold paths as they were typed in the training's working directory. A manifest none of whose files lies
beside it gets ``folder`` where all of them lie below the working directory, or below the table's parent folder.

Rows of which the listing itself says why they cannot be read are a question too.

Inputs → outputs: a `FoundTable` and its listing → the table with ``folder``, or with a question. Cost: a look at up to
2,000 files. Known limits: of larger tables, files spread over all rows are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scoring.data.adapters.base import Listing, Source
from scoring.setup.findings import Line
from scoring.setup.places import written
from scoring.setup.tables_found import FoundTable

SOME = 2000


def with_files(table: FoundTable, source: Source, listing: Listing, folder: Path) -> FoundTable:
    """The table of ``audit.toml`` in ``folder`` with what its files need; as it is where all are there."""
    step = max(1, len(listing) // SOME)
    files = [Path(path) for row in range(0, len(listing), step) if (path := listing.path(row))]
    missing = [file for file in files if not os.path.exists(file)]
    if not missing:
        if not listing.problems:
            return table
        row, why = next(iter(listing.problems.items()))
        many = f"{len(listing.problems):,} of {len(listing):,} examples cannot be read"
        return replace(table, asked=(*table.asked, f"{source.path}: {many}, the first (row {row}): {why}"))
    if start := _start(files, missing, source):
        line = Line("folder", written(start, folder), "where its relative paths start")
        return replace(table, lines=(*table.lines, line))
    of = "no file that it names is there" if len(missing) == len(files) else f"{len(missing):,} of {len(files):,} files"
    of += "" if len(missing) == len(files) else " that it names are not there"
    return replace(table, asked=(*table.asked, f"{source.path}: {of}, the first: {missing[0]}{source.starting}"))


def _start(files: Sequence[Path], missing: Sequence[Path], source: Source) -> Path | None:
    """The one other folder below which all files of a manifest lie; None where there is none, or they lie in two."""
    beside = Path(os.path.abspath(source.place)).parent
    if source.name != "manifest" or len(missing) < len(files) or not all(each.is_relative_to(beside) for each in files):
        return None
    named = [each.relative_to(beside) for each in files]
    starts = dict.fromkeys((Path.cwd(), beside.parent))
    found = [start for start in starts if all((start / name).is_file() for name in named)]
    return found[0] if len(found) == 1 else None
