"""Ingest: reads every source of an audit into the example table, thumbnails and stored originals.

Each example is read once, in threads: fingerprint, thumbnail, and a lossless copy of what is no file. What
was read is remembered in small parts, so a killed ingest continues where it was, and a later one decodes only
what changed: a file of the same size and time is not even opened. The example table and the summary are
written last, each atomically.

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
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.progress import Progress, silent
from scoring.audit.storage import read_metadata, read_table, remove_abandoned, write_json, write_table
from scoring.data.adapters import open_sources
from scoring.data.adapters.base import Listing, Source
from scoring.data.class_order import classes_line, describe_order
from scoring.data.column_statistics import write_deviations
from scoring.data.duplicates import count_duplicates
from scoring.data.example_ids import Ids, known_ids
from scoring.data.example_reader import Memory, Reading, read_example, recipe
from scoring.data.example_table import FIXED, Rows, add_source, example_table
from scoring.data.labels import Labels, is_none, plain

CHUNK = 64
"""Examples per task of a thread."""

UNDER_WAY = 16
"""Tasks that wait for the table at most, so that memory does not follow the data."""

MOST_SKIPPED = 100


@dataclass(kw_only=True)
class Ingest:
    """What an ingest found: the content of ``examples.json``.

    ``splits``: per split its examples, unlabelled ones, problems, and the number in each class. ``problems``:
    id and reason of each example that cannot be used. ``added``, ``changed`` (other content), ``relabelled``
    and ``removed`` count against the table before. ``decoded``: how many were decoded this time. ``skipped``:
    files passed over. ``reading``: how the EXIF orientation of each source's images is treated. ``notes``: sentences
    on how the data was read that a user should know of.
    """

    examples: int
    splits: dict[str, dict[str, Any]]
    problems: list[dict[str, str]]
    added: int
    changed: int
    relabelled: int
    removed: int
    decoded: int
    duplicates: dict[str, int]
    skipped: list[str]
    reading: list[str]
    notes: list[str]
    seconds: float


def ingest(audit: Audit, *, progress: Progress | None = None, workers: int | None = None) -> Ingest:
    """Read all sources; write the example table, thumbnails, kept originals and the summary, which is
    returned.

    ``workers``: threads that decode, one per core where not given. Raises ``HardlookError`` for what no
    example can be blamed for: unknown labels, ids given twice, a source that is not there, not one readable
    example. A single unreadable example is listed with its reason and stops nothing.
    """
    start = time.perf_counter()
    with _only_one(audit):
        sources = open_sources(audit)
        listings = [source.listing() for source in sources]
        _need_classes(audit, sources, listings)
        rows = _read_all(audit, sources, listings, progress or silent, workers or os.cpu_count() or 1)
        table, metadata = example_table(audit, rows)
        before = _previous(audit)
        if before is None or not before.equals(table) or read_metadata(audit.examples_path) != metadata:
            write_table(audit.examples_path, table, metadata)
        if audit.media == "vector":
            write_deviations(audit, table, rows.vector_columns, rows.units)
        found = _summary(sources, table, before, rows, time.perf_counter() - start)
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


# ----------------------------------------------------------------------------------------------------- labels


def _need_classes(audit: Audit, sources: Sequence[Source], listings: Sequence[Listing]) -> None:
    """Without classes in audit.toml: an error that lists the labels found, as the line to paste."""
    if not sum(map(len, listings)):
        skipped = ", ".join([name for listing in listings for name in listing.skipped][:3])
        hint = f"; skipped files of other types: {skipped}" if skipped else ""
        raise HardlookError(f"the [[data]] tables of {audit.root / 'audit.toml'} hold no examples{hint}")
    if audit.classes:
        return
    found: list[Any] = []
    for source, listing in zip(sources, listings, strict=True):
        if listing.labels is not None:
            found += listing.labels
        elif source.labels_from_items and source.split != "pool":
            found += [_raw_label(source, row) for row in range(len(listing))]
    order = next((names for names in (source.names_of_classes() for source in sources) if names), None)
    if not order and all(is_none(plain(label)) for label in found):
        hint = next(
            (listing.unlabelled for source, listing in zip(sources, listings, strict=True) if source.split != "pool"),
            "all examples are in the pool",
        )
        raise HardlookError(
            f"audit.toml has no classes, and no example has a label to derive them from: the first {hint}; write "
            "classes = […] in the order of the model's outputs"
        )
    as_text, renamed = (
        sources[0].sorts_as_text,
        {k: v for source in sources for k, v in (source.label_map or {}).items()},
    )
    raise HardlookError(
        "audit.toml has no classes; add this line above the first table, in the order of the model's outputs:\n"
        f"{classes_line(found, order, as_text, renamed)}\n"
        f"Here they are {describe_order(found, order, as_text)}; if training used another order, use that order"
    )


def _raw_label(source: Source, row: int) -> Any:
    """Returns an item's raw label; None for an unreadable item, which is reported when it is read."""
    try:
        return source.item(row)[1]
    except Exception:  # noqa: BLE001  code of others; the reader of items keeps the reason
        return None


def _labels(source: Source) -> Labels:
    """How one source's raw labels become class names."""
    return Labels(source.classes, source.label_map, source.names_of_classes())


def _class_name(labels: Labels, raw: Any, split: str, source: Source, who: str) -> str | None:
    """A raw label → class name, none in the pool; an unknown one is an error that names it and the
    example."""
    if split == "pool":
        return None
    try:
        return labels.name(raw)
    except HardlookError as error:
        raise HardlookError(f"label of example {who} in data[{source.number}]: {error}") from error


def _listed_labels(source: Source, listing: Listing, ids: list[str] | None) -> list[str | None] | None:
    """Class names of labels that are known before reading, so that a wrong one fails at once."""
    if listing.labels is None:
        return None
    labels = _labels(source)
    names = [
        _class_name(labels, raw, split, source, repr(ids[row]) if ids else f"in row {row}")
        for row, (raw, split) in enumerate(zip(listing.labels, listing.splits, strict=True))
    ]
    listing.notes += [labels.note] if labels.note else []
    return names


# ---------------------------------------------------------------------------------------------------- reading


def _read_all(
    audit: Audit, sources: Sequence[Source], listings: Sequence[Listing], progress: Progress, workers: int
) -> Rows:
    """Read every source, in order, into the columns of the table."""
    for source in sources:
        source.ready()
    ids, rows = Ids(), Rows()
    known = [known_ids(source, listing, ids) for source, listing in zip(sources, listings, strict=True)]
    ids.check()
    labels = [_listed_labels(*each) for each in zip(sources, listings, known, strict=True)]
    memory = Memory(audit)
    total = sum(map(len, listings))
    with progress("reading examples", total) as advance, ThreadPoolExecutor(workers) as pool:
        for number, (source, listing) in enumerate(zip(sources, listings, strict=True)):
            made = _read_source(source, listing, known[number], ids, memory, pool, advance)
            add_source(audit, source, listing, labels[number], made, rows)
    rows.decoded = memory.decoded
    memory.finish(rows.columns["example_id"])
    return rows


def _read_source(
    source: Source,
    listing: Listing,
    known: list[str] | None,
    ids: Ids,
    memory: Memory,
    pool: ThreadPoolExecutor,
    advance: Callable[[int], object],
) -> list[tuple[str, Reading]]:
    """(id, reading) of every row of one source; images go to their files part by part."""
    method, labels = recipe(source), _labels(source)
    made: list[tuple[str, Reading]] = []

    def task(start: int) -> list[Reading]:
        rows = range(start, min(start + CHUNK, len(listing)))
        return [_read_row(source, listing, row, known, memory, method) for row in rows]

    for readings in _in_order(pool, task, range(0, len(listing), CHUNK)):
        for reading in readings:
            row = len(made)
            own = known[row] if known else _content_id(ids, reading, source, row)
            if reading.thumbnail is None and reading.problem is None and not memory.pictured(own):
                reading = read_example(source, row, listing.path(row), None, None, frozenset())
            reading.label = _class_name(labels, reading.label, listing.splits[row], source, repr(own))
            memory.add(own, reading, method)
            made.append((own, reading.light()))
        advance(len(readings))
    memory.flush()
    listing.notes += [labels.note] if labels.note else []
    return made


def _read_row(
    source: Source, listing: Listing, row: int, known: list[str] | None, memory: Memory, method: str
) -> Reading:
    """One row, decoded only where no earlier reading of the same id, or for ids from content of the same
    content, holds."""
    remembered = memory.of(known[row], method) if known else None
    pictured = frozenset() if known else memory.fingerprints(method)
    return read_example(source, row, listing.path(row), listing.problems.get(row), remembered, pictured)


def _content_id(ids: Ids, reading: Reading, source: Source, row: int) -> str:
    """An id from content; what could not even be read is named after its place in the source."""
    if reading.fingerprint is None:
        return ids.path(f"data[{source.number}]/row {row}", "")
    return ids.content(reading.fingerprint)


def _in_order(pool: ThreadPoolExecutor, task: Callable[[int], Any], starts: Sequence[int]) -> Iterator[Any]:
    """Results in order, with a bounded number under way."""
    waiting: deque[Any] = deque()
    for start in starts:
        waiting.append(pool.submit(task, start))
        if len(waiting) > UNDER_WAY:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _previous(audit: Audit) -> pa.Table | None:
    """The table of the last ingest; a broken one counts as none."""
    try:
        return read_table(audit.examples_path)
    except (FileNotFoundError, HardlookError):
        return None


# ---------------------------------------------------------------------------------------------------- summary


def _summary(sources: Sequence[Source], table: pa.Table, before: pa.Table | None, rows: Rows, seconds: float) -> Ingest:
    examples = table.select(list(FIXED)).to_pandas()
    bad = examples[examples["problem"].notna()]
    return Ingest(
        examples=len(examples),
        splits={split: _split_summary(group) for split, group in examples.groupby("split", sort=False)},
        problems=[
            {"example_id": own, "problem": problem}
            for own, problem in zip(bad["example_id"], bad["problem"], strict=True)
        ],
        **_changes(examples, before),
        decoded=rows.decoded,
        duplicates=count_duplicates(examples),
        skipped=_shortened(rows.skipped),
        reading=_exif_sentences(sources),
        notes=rows.notes,
        seconds=round(seconds, 2),
    )


def _exif_sentences(sources: Sequence[Source]) -> list[str]:
    """How EXIF orientations are treated, one sentence for the sources that are alike."""
    by_sentence: dict[str, list[str]] = {}
    for source in sources:
        if sentence := source.describe_exif():
            by_sentence.setdefault(sentence, []).append(f"data[{source.number}]")
    return [f"{', '.join(names)}: {sentence}" for sentence, names in by_sentence.items()]


def _shortened(names: list[str]) -> list[str]:
    more = len(names) - MOST_SKIPPED
    return [*names[:MOST_SKIPPED], f"and {more} more"] if more > 0 else names


def _split_summary(examples: pd.DataFrame) -> dict[str, Any]:
    return {
        "examples": len(examples),
        "unlabelled": int(examples["label"].isna().sum()),
        "problems": int(examples["problem"].notna().sum()),
        "classes": {name: int(count) for name, count in examples["label"].value_counts(sort=False).items()},
    }


def _changes(examples: pd.DataFrame, before: pa.Table | None) -> dict[str, int]:
    """How many examples are new, hold other content, have another label, or are gone since the table
    before."""
    if before is None:
        return {"added": len(examples), "changed": 0, "relabelled": 0, "removed": 0}
    now = examples.set_index("example_id")
    then = before.select(["example_id", "fingerprint", "label"]).to_pandas().set_index("example_id")
    both = now.index.intersection(then.index)
    differ = {
        name: int((now.loc[both, name].fillna("") != then.loc[both, name].fillna("")).sum())
        for name in ("fingerprint", "label")
    }
    return {
        "added": len(now) - len(both),
        "changed": differ["fingerprint"],
        "relabelled": differ["label"],
        "removed": len(then) - len(both),
    }
