"""Ingest: reads every source of an audit into the example table, thumbnails and stored originals.

Each example is read once, in threads: fingerprint, thumbnail, and a lossless copy of what is no file. What
was read is remembered in small parts, so a killed ingest continues where it was, and a later one decodes only
what changed: a file of the same size and time is not even opened. The example table and the summary are
written last, each atomically. An example keeps its id when its file is renamed or moved (``scoring.data.identities``).

Inputs → outputs: ``audit.toml`` and the data → ``examples.parquet``, ``thumbnails.arrow``, ``media.arrow``,
``examples.json``. Cost: one decode per new or changed example; memory holds one part of images (64 MB) and
the table. Known limits: a file that changes while keeping its size and its time of modification goes
unnoticed.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from typing import Any

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.progress import Progress, silent
from scoring.audit.storage import read_metadata, read_table, remove_abandoned, write_json, write_table
from scoring.data.adapters.base import Source
from scoring.data.column_statistics import write_deviations
from scoring.data.companion import Companion, Meet, pace
from scoring.data.example_ids import Ids
from scoring.data.example_reader import Look, Memory, Reading, read_example
from scoring.data.example_table import Rows, add_source, example_table
from scoring.data.ingest_summary import Ingest, summary
from scoring.data.kept_ids import Before, Decided, ambiguous_notes, applied_patches, with_ids
from scoring.data.listed_sources import ListedSource, class_name, labels_of, list_sources, with_labels

__all__ = ["Ingest", "ingest"]

CHUNK = 64
"""Examples per task of a thread."""

UNDER_WAY = 16
"""Tasks that wait for the table at most, so that memory does not follow the data."""


def ingest(
    audit: Audit,
    *,
    progress: Progress | None = None,
    workers: int | None = None,
    decided: Decided | None = None,
    meet: Meet | None = None,
) -> Ingest:
    """Read all sources; write the example table, thumbnails, kept originals and the summary, which is
    returned.

    ``workers``: threads that decode, one per core where not given. ``decided``: gives the fingerprint of each example
    that was decided on, asked for where files are new, which may be such an example that moved. ``meet``: gives the
    companion that is shown each original while it is decoded.

    Raises ``HardlookError`` for what no example can be blamed for: unknown labels, ids given twice, a source that is
    not there, not one readable example. A single unreadable example is listed with its reason and stops nothing.
    """
    start = time.perf_counter()
    with _only_one(audit):
        listed, before = list_sources(audit), _previous(audit)
        applied = applied_patches(listed)
        rows = _read_all(audit, listed, before, decided, progress or silent, workers or os.cpu_count() or 1, meet)
        table, metadata = example_table(audit, rows)
        metadata |= {"applied": applied} if applied else {}
        if before.table is None or not before.table.equals(table) or read_metadata(audit.examples_path) != metadata:
            write_table(audit.examples_path, table, metadata)
        if audit.media == "vector":
            write_deviations(audit, table, rows.vector_columns, rows.units)
        found = summary([each.source for each in listed], table, before.table, rows, time.perf_counter() - start)
        write_json(audit.ingest_path, asdict(found))
        return found


@contextlib.contextmanager
def _only_one(audit: Audit) -> Iterator[None]:
    """Hold the data for reading; a second reader leaves with a clear error."""
    from filelock import FileLock, Timeout

    audit.ingest_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(audit.ingest_folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise HardlookError(
            f"another hardlook command is reading the data of {audit.root}; wait for it to end, then run this one again"
        ) from error
    try:
        for folder in (audit.ingest_folder, audit.thumbnails.folder, audit.originals.folder):
            remove_abandoned(folder)
        yield
    finally:
        lock.release()


# ---------------------------------------------------------------------------------------------------- reading


def _read_all(
    audit: Audit,
    listed: Sequence[ListedSource],
    before: Before,
    decided: Decided | None,
    progress: Progress,
    workers: int,
    meet: Meet | None,
) -> Rows:
    """Read every source, in order, into the columns of the table."""
    for each in listed:
        each.source.ready()
    memory, rows = Memory(audit), Rows()
    companion = meet(listed, memory.is_empty) if meet else None
    named, ids, settled = with_ids(audit, listed, before, memory, decided, workers)
    rows.moved, rows.notes = settled.moved, ambiguous_notes(settled)
    ready = [with_labels(each) for each in named]
    with progress("reading examples", sum(map(len, ready))) as advance, ThreadPoolExecutor(workers) as pool:
        for each in ready:
            add_source(audit, each, _read_source(each, ids, memory, pool, advance, companion), rows)
    if companion is not None:
        companion.end()
    rows.decoded = memory.decoded
    memory.finish(rows.columns["example_id"])
    return rows


def _read_source(
    each: ListedSource,
    ids: Ids,
    memory: Memory,
    pool: ThreadPoolExecutor,
    advance: Callable[[int], object],
    companion: Companion | None,
) -> list[tuple[str, Reading]]:
    """(id, reading) of every row of one source; images go to their files part by part."""
    source, listing, labels = each.source, each.listing, labels_of(each.source)
    made: list[tuple[str, Reading]] = []
    chunk, under_way = pace(companion, CHUNK, UNDER_WAY)

    def task(start: int) -> list[Reading]:
        return [_read_row(each, row, memory, companion) for row in range(start, min(start + chunk, len(each)))]

    for readings in _in_order(pool, task, range(0, len(each), chunk), under_way):
        for reading in readings:
            row = len(made)
            own = each.ids[row] if each.ids else _content_id(ids, reading, source, row, listing.splits[row])
            if reading.thumbnail is None and reading.problem is None and not memory.pictured(own):
                reading = read_example(
                    source, row, listing.path(row), None, None, frozenset(), _look(companion, each, row)
                )
            reading.label = class_name(labels, reading.label, listing.splits[row], source, repr(own))
            memory.add(own, reading, each.method)
            _accompany(companion, own, reading, each, row)
            made.append((own, reading.light()))
        advance(len(readings))
    memory.flush()
    listing.notes += [labels.note] if labels.note else []
    return made


def _accompany(companion: Companion | None, own: str, reading: Reading, each: ListedSource, row: int) -> None:
    """Give the companion an example that the table has no problem with."""
    label = reading.label if each.labels is None else each.labels[row]
    usable = reading.problem is None and (label is not None or each.listing.splits[row] == "pool")
    if companion is not None and usable and reading.fingerprint is not None:
        companion.take(own, reading.fingerprint, reading.made)


def _look(companion: Companion | None, each: ListedSource, row: int) -> Look | None:
    """Returns what shows one row's original to the companion."""
    name = each.ids[row] if each.ids else f"data[{each.source.number}]/row {row}"
    return None if companion is None else partial(companion.look, example=name)


def _read_row(each: ListedSource, row: int, memory: Memory, companion: Companion | None) -> Reading:
    """One row, decoded only where no earlier reading of the same id, or for ids from content of the same
    content, holds."""
    remembered = memory.of(each.ids[row], each.method) if each.ids else None
    pictured = frozenset() if each.ids else memory.fingerprints(each.method)
    listing = each.listing
    problem, look = listing.problems.get(row), _look(companion, each, row)
    return read_example(each.source, row, listing.path(row), problem, remembered, pictured, look)


def _content_id(ids: Ids, reading: Reading, source: Source, row: int, split: str) -> str:
    """An id from content; what could not even be read is named after its place in the source."""
    if reading.fingerprint is None:
        return ids.path(f"data[{source.number}]/row {row}", "")
    return ids.content(reading.fingerprint, split)


def _in_order(
    pool: ThreadPoolExecutor, task: Callable[[int], Any], starts: Sequence[int], under_way: int
) -> Iterator[Any]:
    """Results in order, with a bounded number under way."""
    waiting: deque[Any] = deque()
    for start in starts:
        waiting.append(pool.submit(task, start))
        if len(waiting) > under_way:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _previous(audit: Audit) -> Before:
    """The last ingest; a broken table counts as none."""
    try:
        return Before(read_table(audit.examples_path), read_metadata(audit.examples_path).get("applied", []))
    except (FileNotFoundError, HardlookError):
        return Before(None, [])
