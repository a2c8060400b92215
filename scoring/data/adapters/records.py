"""Records: what the exports of labelling tools say of each example, and the listing that they make.

A tool has *subsets* of its own (train, val, a task). ``chosen`` says which of them a ``[[data]]`` table means: the one
that it names with ``subset``, else the one called as its ``split``, else the only one; without ``split`` all of them,
each under its own name or the one that ``split_map`` gives it. Several labels of one example are that example's
problem, never a choice made here.

Inputs → outputs: a source and its records → the records that it means, a listing. Cost: one pass. Known limits:
metadata of lists or objects is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from scoring.audit import SPLITS
from scoring.audit.user_code import close_names
from scoring.data.adapters.base import Listing, Source

Plain = str | int | float | bool | None


@dataclass(kw_only=True)
class Record:
    """One example: ``name``, the relative path or key of which its id is made; ``path``, its file, None where it is
    none; ``label`` as the tool has it; ``own``, an id of the user's."""

    name: str
    path: str | None = None
    label: Plain = None
    subset: str | None = None
    problem: str | None = None
    own: str | None = None
    metadata: dict[str, Plain] = field(default_factory=dict)


def one_label(labels: Collection[str]) -> tuple[str | None, str | None]:
    """(the label, the problem) of an example with these labels.

    >>> one_label(["cat", "cat"]), one_label([])
    (('cat', None), (None, None))
    >>> one_label(["cat", "dog"])[1]
    "has the labels 'cat', 'dog' (multi-label); hardlook audits one label per example, so keep one of them"
    """
    distinct = list(dict.fromkeys(labels))
    if len(distinct) < 2:
        return (distinct[0] if distinct else None), None
    named = ", ".join(map(repr, distinct[:5]))
    return None, f"has the labels {named} (multi-label); hardlook audits one label per example, so keep one of them"


def chosen(
    source: Source, records: Sequence[Record], subset: str | None, split_map: Mapping[str, Any] | None
) -> list[Record]:
    """The records that a table means. Raises ``HardlookError`` where that is not clear."""
    names = list(dict.fromkeys(record.subset for record in records))
    named = [name for name in names if name is not None]
    if subset is not None and subset not in named:
        raise source.error(f".subset = {subset!r}: {source.path} has no such subset; {close_names(subset, named)}")
    wanted = subset
    if subset is None and source.split is not None and len(names) > 1:
        here = [name for name in named if _split(name, split_map) == source.split]
        if len(here) != 1:
            raise source.error(
                f" needs subset, the one that is its {source.split} split; {source.path} has "
                f"{', '.join(map(repr, named))}"
            )
        wanted = here[0]
    return list(records) if wanted is None else [record for record in records if record.subset == wanted]


def _split(name: str, split_map: Mapping[str, Any] | None) -> str | None:
    """The split that a subset's name means: as mapped, else as it is called."""
    known = {**dict(zip(SPLITS, SPLITS, strict=True)), "training": "train", "testing": "test", **(split_map or {})}
    return known.get(name) or known.get(name.lower())


def splits(source: Source, records: Sequence[Record], split_map: Mapping[str, Any] | None) -> list[str]:
    """The split of each record: that of the table, else the one that its subset means."""
    if source.split is not None:
        return [source.split] * len(records)
    found = []
    for record in records:
        split = None if record.subset is None else _split(record.subset, split_map)
        if split not in SPLITS:
            raise source.error(
                f" needs split; one of {', '.join(SPLITS)}"
                if record.subset is None
                else f" has the subset {record.subset!r}, which is no split; needed {', '.join(SPLITS)}; map it with "
                f'split_map = {{ "{record.subset}" = "test" }}'
            )
        found.append(split)
    return found


def listing_of(source: Source, records: Sequence[Record], split_map: Mapping[str, Any] | None, **more: Any) -> Listing:
    """The listing of records. ``more``: further fields of ``Listing``."""
    found = splits(source, records, split_map)
    owns = [record.own for record in records]
    listing = Listing(
        splits=found,
        names=[record.name for record in records],
        labels=[None if split == "pool" else record.label for record, split in zip(records, found, strict=True)],
        problems={row: record.problem for row, record in enumerate(records) if record.problem},
        metadata=metadata_columns(records),
        **more,
    )
    if any(record.path is not None for record in records):
        listing.paths = [record.path for record in records]
    if owns and all(owns):
        listing.ids = [own for own in owns if own is not None]
    return listing


def metadata_columns(records: Sequence[Record]) -> dict[str, pa.Array]:
    """One column per key of the records' metadata, in the order of their first appearance; text where types differ."""
    names = dict.fromkeys(name for record in records for name in record.metadata)
    return {name: _column([record.metadata.get(name) for record in records]) for name in names}


def _column(values: list[Plain]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pa.array([None if value is None else float(value) for value in values])
    if len(kinds) > 1:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    return pa.array(values) if kinds else pa.nulls(len(values), pa.string())
