"""Finds the rows of a dataset that a patch speaks of: by name, and always with the content that the reviewer saw.

A row is looked for by its id in the audit, then by an id that ends with its relative path (the longest end counts), by
the path that it had before an earlier patch moved it, and by content that it alone has. The first that has the patch's
fingerprint is taken; where none has, the first, which is then refused for its content. Accents may be composed or not.
A row that the audit knows as another example is never taken, and what an earlier patch excluded is not looked for: a
duplicate stays when its twin has gone.

Inputs → outputs: a patch, a target → row or None per example. Cost: one read per row that is named; one of every row
where some are not found by name. Known limits: two rows of the same content that are called otherwise than in the audit
cannot be told apart, unless the dataset has as many of them as the audit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from unicodedata import normalize

import pandas as pd

from scoring.audit import SPLITS
from scoring.corrections.apply.target import Target


def find_rows(patch: pd.DataFrame, target: Target) -> dict[str, int | None]:
    """The row of each example of the patch, None where the dataset does not have it; no row is found twice."""
    by_name, earlier, gone = row_names(target), target.earlier_names(), left_out(patch["example_id"], target)
    own = {known.example_id: known.fingerprint for known in target.known}
    found: dict[str, int | None] = {}
    likely: dict[str, int] = {}
    taken: set[int] = set()
    for example, content in zip(patch["example_id"], patch["fingerprint"], strict=True):
        names = () if example in gone else _candidates(example, by_name, earlier)
        rows = [row for row in names if row not in taken]
        same = (row for row in rows if target.fingerprint(row) == content)
        row = next((row for row in same if target.names[row] == example or own.get(target.names[row]) != content), None)
        found[example] = row
        if row is not None:
            taken.add(row)
        elif rows:
            likely[example] = rows[0]
    lost = patch[[found[example] is None and example not in gone for example in patch["example_id"]]]
    if len(lost):
        found |= _by_content(lost, target, taken)
    taken = {row for row in found.values() if row is not None}
    for example, row in likely.items():
        if found[example] is None and row not in taken:
            found[example] = row
            taken.add(row)
    return found


def row_names(target: Target) -> dict[str, int]:
    """Name → row, of names that one row alone has; composed accents."""
    names = [composed(name) for name in target.names]
    once = Counter(names)
    found = {name: row for row, name in enumerate(names) if name and once[name] == 1}
    paths = [composed(name) for name in (target.listing.names or [])]
    known = Counter(paths)
    return {path: row for row, path in enumerate(paths) if known[path] == 1 and path not in found} | found


def left_out(examples: Iterable[str], target: Target) -> set[str]:
    """The examples that earlier patches excluded from a dataset, unless a row has more of their name."""
    before, there = {composed(name) for name in target.left_out}, row_names(target)
    if not before:
        return set()
    return {example for example in examples if by_name(example, before | there.keys()) in before}


def by_name(example: str, names: Iterable[str]) -> str | None:
    """The name that is the id, or its longest end behind a slash."""
    return next((end for end in _ends(composed(example)) if end in names), None)


def composed(name: str) -> str:
    """Returns a name with each accent and its letter as one character, as most systems but old macOS write it."""
    return normalize("NFC", name)


def _candidates(example: str, by_row_name: dict[str, int], earlier: dict[str, str]) -> Iterator[int]:
    """Rows that an id may name, the likeliest first."""
    moved = {composed(old): composed(new) for old, new in earlier.items()}
    for end in _ends(composed(example)):
        if end in by_row_name:
            yield by_row_name[end]
        if moved.get(end) in by_row_name:
            yield by_row_name[moved[end]]


def _ends(example: str) -> Iterator[str]:
    """An id, and its ends behind each slash; the split that ingest put before a path that comes again stays."""
    split, colon, path = example.partition(":")
    start = f"{split}:" if colon and split in SPLITS else ""
    name = path if start else example
    while True:
        yield start + name
        _, slash, name = name.partition("/")
        if not slash:
            break
    if start:
        yield from _ends(path)


def _by_content(lost: pd.DataFrame, target: Target, taken: set[int]) -> dict[str, int | None]:
    """Example → the row with its content: the only one, or the one at its place among the equal ones of the audit."""
    wanted = Counter(lost["fingerprint"].dropna())
    rows: dict[str, list[int]] = {}
    for row in range(len(target.listing)):
        content = target.fingerprint(row)
        if content in wanted:
            rows.setdefault(str(content), []).append(row)
    alike: dict[str, list[str]] = {}
    for known in target.known:
        if known.fingerprint in rows:
            alike.setdefault(str(known.fingerprint), []).append(known.example_id)
    found: dict[str, int | None] = {}
    for example, content in zip(lost["example_id"], lost["fingerprint"], strict=True):
        there, ids = rows.get(content, []), alike.get(content, [])
        in_place = {target.names[row] for row in there} & set(ids)
        there = [row for row in there if target.names[row] not in in_place]
        ids = [own for own in ids if own not in in_place]
        free = [row for row in there if row not in taken]
        if example in ids:
            at = ids.index(example)
            found[example] = there[at] if len(ids) == len(there) and there[at] not in taken else None
        elif len(free) == 1 and wanted[content] == 1:
            found[example] = free[0]
    return found
