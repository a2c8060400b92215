"""The sources of an audit as ingest takes them: each with its listing, ids and class names, made once, then only read.

``list_sources`` opens and lists them; ``with_labels`` and ``with_ids`` add what reading needs. Ids of rows that are
files follow their content (``scoring.data.identities``).

Inputs → outputs: an audit, the table of the last reading → ``ListedSource`` per ``[[data]]`` table. Cost: one walk or
one read of labels per source; fingerprints where files are missing or changed. Known limits: ids from content are known
only once a row is read.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters import open_sources
from scoring.data.adapters.base import Listing, Source
from scoring.data.class_order import classes_line, describe_order
from scoring.data.example_ids import Ids, known_ids
from scoring.data.example_reader import Memory, content_now, is_unchanged, recipe
from scoring.data.identities import Known, Place, Settled, settle
from scoring.data.labels import Labels, is_none, plain

AMBIGUOUS_SHOWN = 3
Decided = Callable[[], Mapping[str, str]]
"""Example → fingerprint, of examples that were decided on, whether or not the data still has them."""


@dataclass(frozen=True, kw_only=True)
class ListedSource:
    """One source before its rows are read. ``ids``: None where they come from content; ``labels``: class names, None
    where only reading tells; ``method``: what the images depend on besides content (``recipe``)."""

    source: Source
    listing: Listing
    method: str
    ids: list[str] | None = None
    labels: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.listing)

    def is_file(self, row: int) -> bool:
        """Whether a row is named by a file."""
        return self.listing.ids is None and self.listing.path(row) is not None


def list_sources(audit: Audit) -> list[ListedSource]:
    """Every ``[[data]]`` table, opened and listed. Raises ``HardlookError`` where there is no example, or no class."""
    listed = [
        ListedSource(source=source, listing=source.listing(), method=recipe(source)) for source in open_sources(audit)
    ]
    need_classes(audit, listed)
    return listed


# ----------------------------------------------------------------------------------------------------- labels


def need_classes(audit: Audit, listed: Sequence[ListedSource]) -> None:
    """Raises ``HardlookError`` without examples; without classes in audit.toml, one that has the line to paste."""
    if not sum(map(len, listed)):
        skipped = ", ".join([name for each in listed for name in each.listing.skipped][:3])
        hint = f"; skipped files of other types: {skipped}" if skipped else ""
        raise HardlookError(f"the [[data]] tables of {audit.root / 'audit.toml'} hold no examples{hint}")
    if audit.classes:
        return
    sources = [each.source for each in listed]
    found = [label for each in listed for label in _raw_labels(each)]
    order = next((names for names in (source.names_of_classes() for source in sources) if names), None)
    if not order and all(is_none(plain(label)) for label in found):
        hint = next(
            (each.listing.unlabelled for each in listed if each.source.split != "pool"),
            "all examples are in the pool",
        )
        raise HardlookError(
            f"audit.toml has no classes, and no example has a label to derive them from: the first {hint}; write "
            "classes = […] in the order of the model's outputs"
        )
    as_text = sources[0].sorts_as_text
    renamed = {key: value for source in sources for key, value in (source.label_map or {}).items()}
    raise HardlookError(
        "audit.toml has no classes; add this line above the first table, in the order of the model's outputs:\n"
        f"{classes_line(found, order, as_text, renamed)}\n"
        f"Here they are {describe_order(found, order, as_text)}; if training used another order, use that order"
    )


def _raw_labels(each: ListedSource) -> list[Any]:
    """The labels of a source as it has them; those that come with the items are read."""
    if each.listing.labels is not None:
        return each.listing.labels
    if each.source.labels_from_items and each.source.split != "pool":
        return [_raw_label(each.source, row) for row in range(len(each))]
    return []


def _raw_label(source: Source, row: int) -> Any:
    """Returns an item's raw label; None for an unreadable item, which is reported when it is read."""
    try:
        return source.item(row)[1]
    except Exception:  # noqa: BLE001  code of others; the reader of items keeps the reason
        return None


def labels_of(source: Source) -> Labels:
    """How one source's raw labels become class names."""
    return Labels(source.classes, source.label_map, source.names_of_classes())


def class_name(labels: Labels, raw: Any, split: str, source: Source, who: str) -> str | None:
    """A raw label → class name, none in the pool; an unknown one is an error that names it and the example."""
    if split == "pool":
        return None
    try:
        return labels.name(raw)
    except HardlookError as error:
        raise HardlookError(f"label of example {who} in data[{source.number}]: {error}") from error


def with_labels(each: ListedSource) -> ListedSource:
    """The same with class names, where labels are known before reading, so that a wrong one fails at once."""
    if each.listing.labels is None:
        return each
    known = labels_of(each.source)
    names = [
        class_name(known, raw, split, each.source, repr(each.ids[row]) if each.ids else f"in row {row}")
        for row, (raw, split) in enumerate(zip(each.listing.labels, each.listing.splits, strict=True))
    ]
    each.listing.notes.extend([known.note] if known.note else [])
    return replace(each, labels=names)


# -------------------------------------------------------------------------------------------------------- ids


def with_ids(
    audit: Audit,
    listed: Sequence[ListedSource],
    before: pa.Table | None,
    memory: Memory,
    decided: Decided | None,
    workers: int,
) -> tuple[list[ListedSource], Ids, Settled]:
    """The sources with the ids of their rows, the ids that are taken, and which examples moved."""
    ids = Ids()
    named = [replace(each, ids=known_ids(each.source, each.listing, ids)) for each in listed]
    ids.check()
    files = [(at, row) for at, each in enumerate(named) for row in range(len(each)) if each.is_file(row)]
    places, turns = list[Place](), Counter[str]()
    for at, row in files:
        path = reference(audit, named[at].listing.path(row)) or ""
        places.append(Place((named[at].ids or [])[row], path, turns[path], named[at].listing.splits[row]))
        turns[path] += 1
    taken = {own for each in named for row, own in enumerate(each.ids or ()) if not each.is_file(row)}
    known = _known(before)
    have = set() if before is None else set(before["example_id"].to_pylist())
    there = {(one.path, one.turn) for one in known}
    if decided is not None and any((place.path, place.turn) not in there for place in places):
        known += [Known(own, None, 0, None, text) for own, text in decided().items() if own not in have]

    def unchanged(at: int, example: str) -> bool:
        each, row = named[files[at][0]], files[at][1]
        return is_unchanged(each.listing.path(row) or "", memory.of(example, each.method))

    def content(at: int) -> str | None:
        each, row = named[files[at][0]], files[at][1]
        path = each.listing.path(row)
        return None if path is None or row in each.listing.problems else content_now(each.source, row, path)

    def contents(wanted: Sequence[int]) -> dict[int, str | None]:
        with ThreadPoolExecutor(workers) as pool:
            return dict(zip(wanted, pool.map(content, wanted), strict=True))

    settled = settle(places, known, taken, unchanged, contents)
    final = [list(each.ids) if each.ids is not None else None for each in named]
    for (at, row), own in zip(files, settled.ids, strict=True):
        (final[at] or [])[row] = own
    ids.taken |= set(settled.ids)
    return [replace(each, ids=own) for each, own in zip(named, final, strict=True)], ids, settled


def _known(before: pa.Table | None) -> list[Known]:
    """The examples of the last reading that were files."""
    if before is None:
        return []
    columns = before.select(["example_id", "reference", "split", "fingerprint"]).to_pylist()
    turns, found = Counter[str](), list[Known]()
    for row in columns:
        if row["reference"] is not None:
            turn = turns[row["reference"]]
            turns[row["reference"]] += 1
            found.append(Known(row["example_id"], row["reference"], turn, row["split"], row["fingerprint"]))
    return found


def reference(audit: Audit, path: str | None) -> str | None:
    """A path as the table keeps it: relative inside the audit's folder, absolute outside; links stay as written."""
    if path is None:
        return None
    text = os.path.relpath(path, audit.root) if path.startswith(f"{audit.root}{os.sep}") else path
    return text.replace(os.sep, "/").encode("utf8", "backslashreplace").decode("utf8")


def ambiguous_notes(settled: Settled) -> list[str]:
    """One sentence on examples of equal content whose files cannot be told apart; none where there are none."""
    if not settled.ambiguous:
        return []
    shown = "; ".join(
        f"{', '.join(map(repr, new[:AMBIGUOUS_SHOWN]))} may be {' or '.join(map(repr, old[:AMBIGUOUS_SHOWN]))}"
        for new, old in settled.ambiguous[:AMBIGUOUS_SHOWN]
    )
    count = sum(len(new) for new, _ in settled.ambiguous)
    return [
        f"{count:,} files at new paths have the content of several earlier examples, and nothing tells which is which: "
        f"{shown}; they count as new examples: to keep what was decided on an earlier one, give its file the name that "
        "it had, in any folder, and run this again"
    ]
