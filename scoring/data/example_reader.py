"""Reads one example, and caches what was read.

``read_example``: one row of a source → fingerprint, thumbnail and kept original, or the reason why not.
``Memory``: what earlier readings found, by example_id, in small Parquet parts that follow the images to the
disk, so that a killed ingest loses at most one part.

Cost: one read, and one decode where the content is new. Known limits: editing a module that a loader imports
goes unnoticed; editing the loader's own file does not.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.audit.storage import read_table, write_table
from scoring.audit.user_code import code_folder
from scoring.data.adapters.base import Source
from scoring.data.images import fingerprint
from scoring.data.kept_pictures import HEAD, PICTURES

PART_BYTES = 64 << 20
PART_EXAMPLES = 20_000
SETTLED = 2_000_000_000
"""Nanoseconds: a file younger than this when it was read may change again within the clock's grain, and is
not recognised by its time."""


class Remembered(NamedTuple):
    """What an earlier reading found of one example."""

    fingerprint: str
    size: int | None
    modified: int | None


@dataclass(slots=True)
class Reading:
    """One example as it was read; ``thumbnail`` is None where the one of an earlier reading still holds. ``huge``: it
    unpacks to more pixels than Pillow takes for harmless."""

    fingerprint: str | None = None
    problem: str | None = None
    label: Any = None
    thumbnail: bytes | None = None
    kept: bytes | None = None
    size: int | None = None
    modified: int | None = None
    huge: bool = False
    made: Any = None
    """What a companion (``scoring.data.companion``) made of the decoded original."""

    def light(self) -> Reading:
        """The same without its images."""
        return replace(self, thumbnail=None, kept=None, made=None)


Look = Callable[[Any], Any]
"""What else is made of a decoded original."""


def read_example(
    source: Source,
    row: int,
    path: str | None,
    problem: str | None,
    known: Remembered | None,
    pictured: Collection[str],
    look: Look | None = None,
) -> Reading:
    """Read one example. Whatever goes wrong with it becomes its ``problem``; nothing is raised.

    ``problem``: a reason that the listing already knows. ``known``: the earlier reading under the same id.
    ``pictured``: fingerprints that have their thumbnail. ``look``: is shown the decoded original of what is new.
    """
    if problem is not None:
        return Reading(problem=problem)
    reading = Reading()
    try:
        _read(reading, source, row, path, known, pictured, look)
    except (Exception, SystemExit) as error:  # noqa: BLE001  a broken file or code of others: this example's problem
        reading.problem = reason(error)
    return reading


def _read(
    reading: Reading,
    source: Source,
    row: int,
    path: str | None,
    known: Remembered | None,
    pictured: Collection[str],
    look: Look | None,
) -> None:
    """Fill a reading in, step by step, so that what came before an error is kept."""
    if path is not None:
        reading.size, reading.modified = _stamp(path)
        if known and reading.modified is not None and known[1:] == (reading.size, reading.modified):
            reading.fingerprint = known.fingerprint
            return
    content, reading.label = source.content(row, path)
    reading.fingerprint = fingerprint(content)
    if reading.fingerprint in pictured or (known and known.fingerprint == reading.fingerprint):
        return
    original = PICTURES[source.media](reading, source, row, path, content, look is not None)
    if look is not None:
        reading.made = look(original)


def _stamp(path: str) -> tuple[int, int | None]:
    """Size and time of a file; the time only where it is old enough to be trusted."""
    found = os.stat(path)
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):  # reading it might never end
        raise HardlookError("is a pipe, socket or device, not a file")
    return found.st_size, found.st_mtime_ns if time.time_ns() - found.st_mtime_ns > SETTLED else None


def sample_original(source: Source, row: int, path: str | None) -> Any:
    """One row's original as the transform receives it, before the data is read. Whatever goes wrong raises; a file that
    might never end (a pipe, a device) is not opened."""
    if path is not None:
        _stamp(path)
    return source.original(row, path)


def is_unchanged(path: str, known: Remembered | None) -> bool:
    """Returns whether a file is surely the one of an earlier reading, by its size and time; it is not opened."""
    if known is None:
        return False
    try:
        found = _stamp(path)
    except (OSError, HardlookError):
        return False
    return found[1] is not None and known[1:] == found


def content_now(source: Source, row: int, path: str) -> str | None:
    """The fingerprint of a file's content; None where it cannot be read, which its reading reports."""
    try:
        _stamp(path)
        return fingerprint(source.content(row, path)[0])
    except (OSError, HardlookError):
        return None


def reason(error: BaseException) -> str:
    """Returns why an example cannot be read, in words.

    >>> reason(FileNotFoundError(2, "No such file or directory", "a/b.png"))
    'there is no such file'
    """
    known: dict[type[BaseException], str] = {
        FileNotFoundError: "there is no such file",
        PermissionError: "permission denied",
        IsADirectoryError: "is a folder, not a file",
        MemoryError: "is too large for this machine's memory",
    }
    if isinstance(error, HardlookError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "its link leads back to itself"
    return known.get(type(error)) or f"{type(error).__name__}: {error}"


# ----------------------------------------------------------------------------------------------------- memory


def recipe(source: Source) -> str:
    """Returns what the images of a source depend on besides its content: how it is read, and the loader's code."""
    facts = {name: getattr(source, name, None) for name in ("loader", "mode", "layout", "shape", "media")}
    if source.media == "text":
        facts["head"] = HEAD
    if source.loader and source.loader.partition(":")[0].endswith(".py"):
        file = code_folder(source.loader, source.root) / os.path.basename(source.loader.rpartition(":")[0])
        facts["code"] = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


SCHEMA = pa.schema(
    [
        ("example_id", pa.string()),
        ("fingerprint", pa.string()),
        ("size", pa.int64()),
        ("modified", pa.int64()),
        ("recipe", pa.string()),
    ]
)


class Memory:
    """What is known of each example that has its images: fingerprint, size, time, and how it was read."""

    def __init__(self, audit: Audit):
        self.folder = audit.ingest_folder
        self.thumbnails, self.originals = audit.thumbnails, audit.originals
        self.decoded = 0
        have = self.thumbnails.ids()
        self._known: dict[str, tuple[Any, ...]] = {}
        self._by_content: dict[str, set[str]] = {}
        for path in [self.folder / "known.parquet", *self._parts()]:
            for row in self._rows(path):
                if row[0] in have:
                    self._remember(row)
        self._clear()

    @property
    def is_empty(self) -> bool:
        """Returns whether nothing is known from an earlier reading."""
        return not self._known

    def of(self, example_id: str, method: str) -> Remembered | None:
        """The earlier reading of an example, if it was read the same way."""
        row = self._known.get(example_id)
        return Remembered(*row[1:4]) if row and row[4] == method else None

    def fingerprints(self, method: str) -> Collection[str]:
        """Fingerprints of which some example has its images; used where ids come from content."""
        return self._by_content.get(method, frozenset())

    def pictured(self, example_id: str) -> bool:
        """Returns whether an example has its thumbnail on the disk or in the part that is being filled."""
        return example_id in self._known

    def add(self, example_id: str, reading: Reading, method: str) -> None:
        """Take one reading in; whole parts go to the disk."""
        if reading.problem is not None or reading.fingerprint is None:
            self._known.pop(example_id, None)
            return
        row = (example_id, reading.fingerprint, reading.size, reading.modified, method)
        if reading.thumbnail is not None:
            self.decoded += 1
            self._thumbnails.append((example_id, reading.thumbnail))
            self._bytes += len(reading.thumbnail) + len(reading.kept or b"")
            if reading.kept is not None:
                self._kept.append((example_id, reading.kept))
            self._new.append(row)
        self._known[example_id] = row
        if self._bytes > PART_BYTES or len(self._new) >= PART_EXAMPLES:
            self.flush()

    def flush(self) -> None:
        """Write what was added: images first, then the note that they are there."""
        self.thumbnails.write_part(self._thumbnails)
        self.originals.write_part(self._kept)
        if self._new:
            taken = [int(path.stem.split("-")[1]) for path in self._parts()]
            self._write(self.folder / f"part-{max(taken, default=-1) + 1:05d}.parquet", self._new)
        self._clear()

    def finish(self, ids: Iterable[str]) -> None:
        """Keep one file of the examples that are still there, in place of the parts."""
        self.flush()
        rows = [self._known[each] for each in ids if each in self._known]
        self._write(self.folder / "known.parquet", rows)
        for path in self._parts():
            path.unlink()

    def _clear(self) -> None:
        self._thumbnails: list[tuple[str, bytes]] = []
        self._kept: list[tuple[str, bytes]] = []
        self._new: list[tuple[Any, ...]] = []
        self._bytes = 0

    def _remember(self, row: tuple[Any, ...]) -> None:
        self._known[row[0]] = row
        self._by_content.setdefault(row[4], set()).add(row[1])

    def _parts(self) -> list[Any]:
        return sorted(self.folder.glob("part-*.parquet"))

    @staticmethod
    def _write(path: Any, rows: list[tuple[Any, ...]]) -> None:
        columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, SCHEMA.types, strict=True)]
        write_table(path, pa.table(arrays, schema=SCHEMA))

    @staticmethod
    def _rows(path: Any) -> Iterable[tuple[Any, ...]]:
        """Rows of one file; one that is not there or broken is forgotten, and its examples are read again."""
        try:
            table = read_table(path, SCHEMA.names)
        except (FileNotFoundError, HardlookError):
            return []
        return zip(*(column.to_pylist() for column in table.columns), strict=True)
