"""The ids of an audit's rows before they are read: of files those that their examples had, wherever they lie now.

``with_ids`` gives every source its ids: the user's own, and for files what ``scoring.data.identities`` settles from the
table of the last reading, the journals of applied patches, and the decided examples that the table no longer has. Of
rows with the same path or content, those that are left keep the ids that they had when a patch excluded others.

Inputs → outputs: listed sources, the last table → sources with ids, a count of what moved. Cost: fingerprints of new
and changed files, where a known one is missing or changed. Known limits: ids from content are known only once a row is
read; whoever removes one of several equal rows by hand leaves nothing that tells which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from scoring.audit import Audit
from scoring.audit.storage import digest
from scoring.data.adapters.image_folder import Folder
from scoring.data.adapters.manifest import Manifest
from scoring.data.example_ids import Ids, known_ids
from scoring.data.example_reader import Memory, content_now, is_unchanged
from scoring.data.identities import Known, Place, Settled, settle
from scoring.data.listed_sources import ListedSource, reference
from scoring.data.moved_files import JOURNAL, excluded, journeys, manifest_journal, read_journal

SHOWN = 3
Decided = Callable[[], Mapping[str, str]]
"""Example → fingerprint, of examples that were decided on and are to stay, whether or not the data still has them."""


class Before(NamedTuple):
    """The last reading: its table, and the digests of the applied patches that it saw (``applied_patches``)."""

    table: pa.Table | None
    applied: Collection[str]


def with_ids(
    audit: Audit,
    listed: Sequence[ListedSource],
    before: Before,
    memory: Memory,
    decided: Decided | None,
    workers: int,
) -> tuple[list[ListedSource], Ids, Settled]:
    """The sources with the ids of their rows, the ids that are taken, and what became of known examples."""
    ids = Ids()
    named = [replace(each, ids=known_ids(each.source, each.listing, ids)) for each in listed]
    ids.check()
    files = [(at, row) for at, each in enumerate(named) for row in range(len(each)) if each.is_file(row)]
    places = _places(audit, named, files)
    gone = _excluded(listed)
    known, hidden = _known(before.table, _went(audit, listed, before.applied), gone)
    if before.table is None:
        ids.taken |= gone
        hidden |= gone
    ids.remember(_of_content(before.table, gone))
    taken = {own for each in named for row, own in enumerate(each.ids or ()) if not each.is_file(row)} | hidden
    there = {(one.path, one.turn) for one in known}
    if decided is not None and any((place.path, place.turn) not in there for place in places):
        returning = {own: content for own, content in decided().items() if own not in gone}
        known += _returning(returning, _ids(before.table))

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


def applied_patches(listed: Iterable[ListedSource]) -> list[str]:
    """The digests of the patches that are applied to the folders of an audit."""
    return [digest(entry) for each in listed for entry in _journal(each)]


def ambiguous_notes(settled: Settled) -> list[str]:
    """One sentence on examples of equal content whose files cannot be told apart; none where there are none."""
    if not settled.ambiguous:
        return []
    shown = "; ".join(
        f"{', '.join(map(repr, new[:SHOWN]))} may be {' or '.join(map(repr, old[:SHOWN]))}"
        for new, old in settled.ambiguous[:SHOWN]
    )
    count = sum(len(new) for new, _ in settled.ambiguous)
    return [
        f"{count:,} files at new paths have the content of several earlier examples, and nothing tells which is which: "
        f"{shown}; they count as new examples: to keep what was decided on an earlier one, give its file the name that "
        "it had, in any folder, and run this again"
    ]


def _places(audit: Audit, named: Sequence[ListedSource], files: Iterable[tuple[int, int]]) -> list[Place]:
    """The rows that are files, by (source, row)."""
    places, turns = list[Place](), Counter[str]()
    for at, row in files:
        path = reference(audit, named[at].listing.path(row)) or ""
        places.append(Place((named[at].ids or [])[row], path, turns[path], named[at].listing.splits[row]))
        turns[path] += 1
    return places


def _known(before: pa.Table | None, went: Mapping[str, str], gone: Collection[str]) -> tuple[list[Known], set[str]]:
    """The examples of the last reading that were files, where applied patches put them; the ids of those that these
    put out of sight, or (``gone``) left out of a manifest."""
    found, hidden, turns = list[Known](), set[str](), Counter[str]()
    columns = ["example_id", "reference", "split", "fingerprint"]
    for row in before.select(columns).to_pylist() if before is not None else ():
        path = row["reference"]
        if path is None:
            continue
        if row["example_id"] in gone:
            hidden.add(row["example_id"])
            continue
        turns[path] += 1
        if went.get(path) == "":
            hidden.add(row["example_id"])
        else:
            now, was = went.get(path, path), path if path in went else None
            found.append(Known(row["example_id"], now, turns[path] - 1, row["split"], row["fingerprint"], was))
    return found, hidden


def _of_content(before: pa.Table | None, gone: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """(id, fingerprint, split) of the rows of the last reading that were no files, without those that are gone."""
    columns = ["example_id", "reference", "fingerprint", "split"]
    for row in before.select(columns).to_pylist() if before is not None else ():
        if row["reference"] is None and row["fingerprint"] is not None and row["example_id"] not in gone:
            yield row["example_id"], row["fingerprint"], row["split"]


def _excluded(listed: Iterable[ListedSource]) -> set[str]:
    """The examples that patches left out of manifests; of rows without names, as the journal has them."""
    found: set[str] = set()
    for each in listed:
        if isinstance(each.source, Manifest):
            own = [each.source.id_prefix + name for name in each.listing.ids or ()]
            names = Counter(own or each.listing.names or ())
            found |= excluded(read_journal(manifest_journal(each.source.place)), names.__getitem__)
    return found


def _ids(table: pa.Table | None) -> set[str]:
    return set() if table is None else set(table["example_id"].to_pylist())


def _went(audit: Audit, listed: Sequence[ListedSource], seen: Collection[str]) -> dict[str, str]:
    """Old path → new path, as the table has them, of the files that patches moved since; empty: out of sight."""
    found: dict[str, str] = {}
    for each in listed:
        entries = [entry for entry in _journal(each) if digest(entry) not in seen]
        for old, new in (journeys(each.source.place, entries) if entries else {}).items():
            before, now = reference(audit, str(each.source.place / old)), reference(audit, str(each.source.place / new))
            found[before or ""] = "" if new.startswith(".") else now or ""
    return found


def _journal(each: ListedSource) -> list[dict[str, object]]:
    return read_journal(each.source.place / JOURNAL) if isinstance(each.source, Folder) else []


def _returning(decided: Mapping[str, str], have: Collection[str]) -> list[Known]:
    """Decided examples that the last reading did not find; not those of whose content it had a decided one, which no
    file that comes is to be taken for in its place."""
    there = {text for own, text in decided.items() if own in have}
    return [Known(own, None, 0, None, text) for own, text in decided.items() if own not in have and text not in there]
