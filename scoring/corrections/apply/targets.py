"""Datasets to which a patch can be applied: a manifest (its label column is rewritten) or an image folder (files move).

A ``Target`` lists its rows with label and fingerprint as an adapter reads them (``scoring.data.adapters``), and changes
them. Both write a journal before they change anything, so that a kill at any moment leaves data that ``restore`` can
bring back: a manifest is replaced whole (its old bytes are kept beside it), a folder's files are renamed one by one.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path, read_json, remove_abandoned_of, write_json
from scoring.data.adapters.base import Listing, Source
from scoring.data.adapters.image_folder import Folder
from scoring.data.adapters.manifest import Manifest
from scoring.data.images import fingerprint
from scoring.data.labels import Labels

MANIFESTS = (".csv", ".tsv", ".parquet")
EXCLUDED = ".hardlook-excluded"
JOURNAL = ".hardlook-applied.json"


class Target:
    """Rows of one dataset. ``names``: what ids end with; ``labels``: class names, None for none."""

    source: Source

    def __init__(self, path: Path, classes: Sequence[str]):
        self.path, self.classes = path, list(classes)

    @cached_property
    def listing(self) -> Listing:
        """The adapter's listing."""
        return self.source.listing()

    @cached_property
    def names(self) -> list[str]:
        """What each row is called: the user's own id, else the relative path."""
        found = self.listing.ids or self.listing.names
        if found is None:
            return [""] * len(self.listing)
        return found

    @cached_property
    def labels(self) -> list[str | None]:
        """Class names as the dataset has them; numbers are named where ``classes`` are known."""
        raw = self.listing.labels or [None] * len(self.listing)
        if not self.classes:
            return [None if value is None else str(value) for value in raw]
        known = Labels(self.classes, own=self.source.names_of_classes())
        return [known.name(value) for value in raw]

    def fingerprint(self, row: int) -> str | None:
        """The fingerprint of a row's content as it is now; None where it cannot be read."""
        path = self.listing.paths[row] if self.listing.paths else None
        try:
            return fingerprint(self.source.content(row, path)[0])
        except (OSError, HardlookError):
            return None

    @property
    def journal(self) -> Path:
        """Where the applications are written down."""
        raise NotImplementedError

    def change(self, labels: Mapping[int, str], excluded: Sequence[int]) -> dict[int, str]:
        """Relabel rows and leave rows out → {row: why it could not be}."""
        raise NotImplementedError

    def restore(self) -> list[str]:
        """Take the last application back → what could not be brought back, and why."""
        raise NotImplementedError

    def _last(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        entries = read_json(self.journal, [])
        if not entries:
            raise HardlookError(
                f"{self.journal} does not exist or is empty, so there is nothing to undo; apply a patch first"
            )
        return entries[:-1], entries[-1]

    @property
    def left_out(self) -> set[str]:
        """What rows were called that earlier applications excluded."""
        raise NotImplementedError

    @property
    def applications(self) -> int:
        """How many applications can be taken back."""
        return len(read_json(self.journal, []))

    def _keep(self, entries: list[dict[str, Any]]) -> None:
        if entries:
            write_json(self.journal, entries)
        else:
            self.journal.unlink(missing_ok=True)


class ManifestTarget(Target):
    """A CSV, TSV or Parquet manifest; ``columns`` are keys of its table in audit.toml (``label_column`` …)."""

    source: Manifest

    def __init__(self, path: Path, classes: Sequence[str], media: str, columns: Mapping[str, Any]):
        super().__init__(path, classes)
        self.source = Manifest(
            root=path.parent,
            number=0,
            media=media,
            classes=self.classes,
            adapter="manifest",
            path=path.name,
            **{"split": "train", **columns},
        )

    @property
    def journal(self) -> Path:
        """Beside the manifest."""
        return self.path.with_name(f".{self.path.name}{JOURNAL}")

    @property
    def left_out(self) -> set[str]:
        """As the journal has them."""
        return {name for entry in read_json(self.journal, []) for name in entry.get("excluded", ())}

    @property
    def label_column(self) -> str:
        """The column that is rewritten."""
        name = self.source.column_of("label_column")
        if name is None:
            raise HardlookError(f"{self.path} has no column with a known name for labels; name it with --label-column")
        return name

    def change(self, labels: Mapping[int, str], excluded: Sequence[int]) -> dict[int, str]:
        """Rewrite the manifest, its other cells as they are."""
        if not labels and not excluded:
            return {}
        for path in (self.path, self.journal):
            remove_abandoned_of(path)
        before = self.path.read_bytes()
        old = self.path.with_name(f".{self.path.name}.{hashlib.sha256(before).hexdigest()[:12]}.before")
        with atomic_path(old) as temporary:
            temporary.write_bytes(before)
        with atomic_path(self.path) as temporary:
            if self.path.suffix.lower() == ".parquet":
                self._write_parquet(temporary, labels, set(excluded))
            else:
                self._write_text(temporary, labels, set(excluded))
            entry = {
                "before": _digest(self.path),
                "after": _digest(temporary),
                "kept": old.name,
                "excluded": [self.names[row] for row in excluded],
            }
            earlier = read_json(self.journal, [])
            while earlier and earlier[-1]["before"] == entry["before"]:  # written down, but killed before it happened
                earlier.pop()
            self._keep([*earlier, entry])
        return {}

    def restore(self) -> list[str]:
        """Put the manifest back as it was, unless it was edited since."""
        rest, last = self._last()
        old, now = self.path.with_name(last["kept"]), _digest(self.path)
        if now not in (last["before"], last["after"]):
            raise HardlookError(
                f"{self.path} was changed after the patch was applied, and undo would lose that change; the content "
                f"from before the patch is in {old}"
            )
        if now == last["after"]:
            with atomic_path(self.path) as temporary:
                shutil.copyfile(old, temporary)
        self._keep(rest)
        if old.name not in {entry["kept"] for entry in rest}:
            old.unlink(missing_ok=True)
        return []

    def _write_text(self, out: Path, labels: Mapping[int, str], excluded: set[int]) -> None:
        delimiter = self.source.delimiter or ("\t" if self.path.suffix.lower() == ".tsv" else ",")
        marked = self.path.read_bytes().startswith(b"\xef\xbb\xbf")
        encoding = "utf-8-sig" if marked and self.source.encoding == "utf-8" else self.source.encoding
        with (
            open(self.path, newline="", encoding=encoding) as file,
            open(out, "w", newline="", encoding=encoding) as to,
        ):
            rows = csv.reader(file, delimiter=delimiter)
            end = "\r\n" if b"\r\n" in self.path.read_bytes()[:65536] else "\n"
            writer = csv.writer(to, delimiter=delimiter, lineterminator=end)
            header = self.source.columns or next(rows)
            if not self.source.columns:
                writer.writerow(header)
            at = [name.strip() for name in header].index(self.label_column)
            for number, row in enumerate(line for line in rows if line):
                if number in labels:
                    row[at] = self._written(labels[number], row[at])
                if number not in excluded:
                    writer.writerow(row)

    def _write_parquet(self, out: Path, labels: Mapping[int, str], excluded: set[int]) -> None:
        table = pq.read_table(self.path)
        at = table.schema.get_field_index(self.label_column)
        values = table[self.label_column].to_pylist()
        for row, label in labels.items():
            values[row] = self._written(label, values[row])
        field = table.schema.field(at)
        kind = pa.string() if pa.types.is_dictionary(field.type) else field.type
        table = table.set_column(at, pa.field(field.name, kind, metadata=field.metadata), pa.array(values, kind))
        table = table.take(pa.array([row for row in range(table.num_rows) if row not in excluded], pa.int64()))
        pq.write_table(table, out)

    def _written(self, label: str, old: Any) -> Any:
        """A class name as this manifest writes classes: as a number where the old label was one."""
        text = str(old).strip()
        order = self.source.names_of_classes() or self.classes  # a ClassLabel's numbers mean its own names
        numbered = order and text not in order and text.lstrip("-").isdigit()
        if not numbered:
            if isinstance(old, int):
                raise HardlookError(
                    f"the labels of {self.path} are numbers; give the class names in order with --classes, or the "
                    "audit with --audit"
                )
            return label
        if label not in order:
            raise HardlookError(
                f"{self.path} stores labels as indices into a list of classes that lacks {label!r}; add it to the "
                "ClassLabel"
            )
        return type(old)(order.index(label))


class FolderTarget(Target):
    """An image folder: relabelling moves a file to its class's folder, excluding moves it out of sight."""

    def __init__(self, path: Path, classes: Sequence[str], media: str, columns: Mapping[str, Any]):
        super().__init__(path, classes)
        self.source = Folder(
            root=path,
            number=0,
            media=media,
            classes=self.classes,
            adapter="folder",
            path=".",
            **{"split": "train", **columns},
        )

    @property
    def journal(self) -> Path:
        """In the folder, hidden."""
        return self.path / JOURNAL

    @property
    def left_out(self) -> set[str]:
        """Those that lie out of sight."""
        moves = [move for entry in read_json(self.journal, []) for move in entry["moves"]]
        return {old for old, new in moves if new.startswith(f"{EXCLUDED}/") and (self.path / new).exists()}

    def change(self, labels: Mapping[int, str], excluded: Sequence[int]) -> dict[int, str]:
        """Move files; the plan is on the disk before the first one moves."""
        moves: list[list[str]] = []
        refused: dict[int, str] = {}
        taken: set[str] = set()
        names = self.listing.names or []
        for row in sorted({*labels, *excluded}):
            to = f"{EXCLUDED}/{names[row]}" if row in set(excluded) else self._moved(row, labels[row])
            if to is None:
                refused[row] = f"{labels[row]!r} cannot be used as a folder name on this system"
            elif (self.path / to).exists() or to in taken:
                refused[row] = (
                    f"{to} already exists; rename one of the two files and score again, or make a corrected copy with "
                    "`hardlook export --format imagefolder`"
                )
            elif to != names[row]:
                taken.add(to)
                moves.append([names[row], to])
        self._make(moves)
        return refused

    def _make(self, moves: list[list[str]]) -> None:
        """Move files, as one application with what an earlier one did before it was killed."""
        if not moves:
            return
        remove_abandoned_of(self.journal)
        earlier, planned = read_json(self.journal, []), moves
        if earlier and earlier[-1].get("unfinished"):
            killed = earlier.pop()["moves"]
            planned = [[old, new] for old, new in killed if (self.path / new).exists()] + moves
        self._keep([*earlier, {"moves": planned, "unfinished": True}])
        for old, new in moves:
            _move(self.path / old, self.path / new)
        self._keep([*earlier, {"moves": planned}])

    def _moved(self, row: int, label: str) -> str | None:
        """Where a file goes: the same place below the folder of its new class."""
        name, old = (self.listing.names or [])[row], (self.listing.labels or [])[row]
        inside = name[len(old) + 1 :] if old and name.startswith(f"{old}/") else Path(name).name
        parts = Path(label).parts
        bad = not label or "\0" in label or label.startswith((".", "/")) or ".." in parts or "\\" in label
        return None if bad else f"{label}/{inside}"

    def restore(self) -> list[str]:
        """Move the files back; one that is no longer where it went is reported."""
        rest, last = self._last()
        problems = []
        for old, new in reversed(last["moves"]):
            if (self.path / new).exists() and not (self.path / old).exists():
                _move(self.path / new, self.path / old)
            elif not (self.path / old).exists():
                problems.append(f"{old}: it is no longer at {new}")
            elif (self.path / new).exists():
                problems.append(f"{new} was not moved back: another file is at {old}")
        self._keep(rest)
        return problems


def open_target(
    path: Path, classes: Sequence[str] = (), media: str = "image", columns: Mapping[str, Any] | None = None
) -> Target:
    """The dataset at a path; anything that is neither a manifest nor a folder is refused with what to do."""
    path = Path(os.path.abspath(path))
    if not path.exists():
        raise HardlookError(f"{path} does not exist; give a manifest ({', '.join(MANIFESTS)}) or an image folder")
    if path.is_dir():
        return FolderTarget(path, classes, media, columns or {})
    if path.suffix.lower() in MANIFESTS:
        return ManifestTarget(path, classes, media, columns or {})
    raise HardlookError(
        f"{path} is neither a manifest ({', '.join(MANIFESTS)}) nor a folder; for other data, apply the patch in your "
        "loading code (scoring.corrections.label_patch.apply_patch)"
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _move(old: Path, new: Path) -> None:
    """Rename, making the folder; a folder that is left empty stays, for it is a class."""
    new.parent.mkdir(parents=True, exist_ok=True)
    old.rename(new)
