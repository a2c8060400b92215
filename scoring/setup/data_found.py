"""The data at the paths that a user names: kind of source, splits, columns, kind of examples, classes in their order.

``find_data`` makes the ``[[data]]`` tables. Which adapter reads a path is the adapters' own affair
(``scoring.data.adapters``): a table of ``path`` alone is tried, and what it lists is looked at. Only where a path needs
more than itself (columns of a table, arrays of an ``.npz``, the splits of a folder) is it described here.

Inputs → outputs: paths by split → `FoundData`. Cost: one walk, or one read of labels, per path; no example is decoded.
Known limits: examples are images unless their source says otherwise; a class that never occurs is not known.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.adapters import known_adapters, open_sources
from scoring.data.adapters.base import Listing, Source
from scoring.data.class_order import classes_line, describe_order, timm_key
from scoring.data.labels import is_none, plain
from scoring.setup.findings import FoundData, Line, Value
from scoring.setup.named_files import with_files
from scoring.setup.places import (
    SPLIT_WORDS,
    existing,
    held_out_beside,
    shard_patterns,
    split_folders,
    split_of,
    written,
)
from scoring.setup.saved_datasets import saved_splits
from scoring.setup.tables_found import ARRAY_ENDINGS, TABLE_ENDINGS, FoundTable, array_tables, table_lines

MEDIA_ENDINGS = {"text": (".txt", ".md"), "vector": (".npy",)}
SOME = 2000
"""Files of a folder that are looked at to tell its kind."""


def find_data(
    paths: Mapping[str, str | None], folder: Path, *, media: str | None = None, natural_order: bool = False
) -> FoundData:
    """What lies at the paths (split → path) → the tables of ``audit.toml`` in ``folder``.

    ``media``: what the model takes, where it says so; ``natural_order``: whether the training numbered classes in
    natural order (timm). Raises ``HardlookError`` for a path that is not there, holds no example, or is ambiguous.
    """
    found: list[FoundTable] = []
    for split, path in paths.items():
        if path is not None:
            alone = [each for each in paths if paths[each]] == [split]
            found += _at(place := existing(path, f"--{split}"), split, folder, media, alone and split == "train")
            if split == "train" and alone and (beside := held_out_beside(place)):
                told = f"no test data is named, and {place.parent / beside.name} lies beside it: --test reads it"
                found[-1] = replace(found[-1], said=(*found[-1].said, told))
    kinds = list(dict.fromkeys(each.media for each in found))
    if len(kinds) > 1:
        raise HardlookError(
            f"the paths hold examples of several kinds ({', '.join(kinds)}); one audit holds one kind: name only paths "
            "of one"
        )
    return _with_classes(found, kinds[0], folder, natural_order)


def _at(place: Path, split: str, folder: Path, media: str | None, may_hold_splits: bool) -> list[FoundTable]:
    """The tables for one path: of its splits, of its arrays, of its columns, or of the path alone."""
    if place.is_dir():
        return _in_folder(place, split, folder, media, may_hold_splits)
    if recognised(place):
        return [_of_tool(place, split, folder, media, may_hold_splits)]
    if place.suffix.lower() in ARRAY_ENDINGS:
        return array_tables(place, split, written(place, folder), may_hold_splits)
    if place.suffix.lower() in TABLE_ENDINGS:
        return [table_lines(place, split, written(place, folder), media, may_hold_splits)]
    return [_plain(place, split, folder, media)]


def _in_folder(place: Path, split: str, folder: Path, media: str | None, may_hold_splits: bool) -> list[FoundTable]:
    """A folder: what an adapter knows by its marker, splits, Parquet files, or one folder per class."""
    if saved := saved_splits(place, split, written(place, folder), media, may_hold_splits):
        return saved
    if may_hold_splits and (patterns := shard_patterns(place)):
        return [_plain(place / pattern, name, folder, media) for name, pattern in patterns]
    if recognised(place):
        return [_of_tool(place, split, folder, media, may_hold_splits)]
    if not any(place.iterdir()):
        raise HardlookError(f"--{split} {place}: the folder is empty; name a folder that holds the examples")
    inner = split_folders(place) if may_hold_splits else []
    if inner:
        tables = [table for name, path in inner for table in _in_folder(path, name, folder, media, False)]
        held = [path.name for name, path in inner if name == "test" and path.name.casefold() in ("val", "valid", "dev")]
        said = f"{place} holds the splits {', '.join(path.name for _, path in inner)}"
        said += f" ({', '.join(held)}: held out, so a test split)" if held else ""
        return [replace(tables[0], said=(said, *tables[0].said)), *tables[1:]]
    files = [each for each in sorted(place.iterdir()) if each.is_file() and not each.name.startswith(".")]
    shards = [each for each in files if each.suffix.lower() == ".parquet"]
    if shards and len(shards) == len([each for each in files if each.suffix.lower() not in (".md", ".json", ".txt")]):
        return _parquet_files(shards, split, folder, media, may_hold_splits)
    if (place / "data").is_dir() and list((place / "data").glob("*.parquet")):  # as a repository of the Hub is laid out
        return _in_folder(place / "data", split, folder, media, may_hold_splits)
    return [_plain(place, split, folder, media)]


def _parquet_files(
    files: Sequence[Path], split: str, folder: Path, media: str | None, may_hold_splits: bool
) -> list[FoundTable]:
    """One table per Parquet file; the split is in the file's name where several are there (``train-00000-of-…``)."""
    named = {file: split_of(file.stem) or split for file in files} if may_hold_splits else dict.fromkeys(files, split)
    return [table_lines(file, named[file], written(file, folder), media, False) for file in files]


def recognised(place: Path) -> list[type[Source]]:
    """The adapters that know what lies at a path by a look inside."""
    return [kind for kind in known_adapters().values() if kind.recognises(place)]


def _of_tool(place: Path, split: str, folder: Path, media: str | None, may_hold_splits: bool) -> FoundTable:
    """What another tool wrote: its own subsets are the splits, where it has some and they are called so."""
    lines = (Line("path", written(place, folder)),)
    media = media or _kind_of(place, split, folder)
    if not may_hold_splits:
        return _plain(place, split, folder, media)
    subsets = _subsets(lines, media, folder)
    if not subsets or not all(name.casefold() in SPLIT_WORDS for name in subsets):
        return _plain(place, split, folder, media)
    mapped: dict[str, Value] = {
        name: SPLIT_WORDS[name.casefold()]
        for name in subsets
        if name not in ("train", "test", "pool", "training", "testing")
    }
    why = "the tool's own subsets; what is held out is a test split"
    lines = (*lines, *((Line("split_map", mapped, why),) if mapped else ()))
    source, listing = _listed({line.key: line.value for line in lines}, media, folder)
    said = f"{place}: {len(listing):,} examples, read as {source.name!r}, with the subsets {', '.join(subsets)}"
    return FoundTable(media, lines, (said,))


def _kind_of(place: Path, split: str, folder: Path) -> str:
    """The kind of examples as which a tool's files can be listed: images before texts and rows of numbers. Raises what
    the adapter says of images where it is none of them."""
    table = {"split": split, "path": written(place, folder)}
    first: HardlookError | None = None
    for media in ("image", "text", "vector"):
        try:
            if len(_listed(table, media, folder)[1]):
                return media
        except HardlookError as error:
            first = first or error
    raise first or HardlookError(
        f"--{split} {place}: no example was found; name the folder or file that the tool wrote"
    )


def _subsets(lines: Sequence[Line], media: str, folder: Path) -> list[str]:
    """The names of the subsets that a source of another tool has; none where it has no such thing."""
    config = {"format": 1, "media": media, "classes": [], "data": [{line.key: line.value for line in lines}]}
    source = open_sources(Audit(folder.resolve(), config))[0]
    records = getattr(source, "records", None)
    found = [record.subset for record in records()] if callable(records) else []
    return [] if None in found else list(dict.fromkeys(map(str, found)))


def _plain(place: Path, split: str, folder: Path, media: str | None) -> FoundTable:
    """A table of ``path`` alone. Images of no class folder go to the pool, with a word."""
    kind = media or _media_of(place)
    lines = (Line("split", split), Line("path", written(place, folder)))
    source, listing = _listed({line.key: line.value for line in lines}, kind, folder)
    if not len(listing):
        skipped = f" (it holds {', '.join(listing.skipped[:3])})" if listing.skipped else ""
        raise HardlookError(
            f"--{split} {place}: no example was found{skipped}; needed {kind} files in one folder per class, or a table"
        )
    said = f"{place}: {len(listing):,} examples of {kind}s, read as {source.name!r}"
    if split == "pool" or listing.labels is None or any(not is_none(plain(label)) for label in listing.labels):
        return FoundTable(kind, lines, said=(said,))
    why = "no class folders: unlabelled examples"
    return FoundTable(
        kind,
        (Line("split", "pool", why), lines[1]),
        said=(said,),
        asked=(f"{place} has no class folders, so its examples are in the pool; name a folder with one per class",),
    )


def _media_of(place: Path) -> str:
    """The kind of a folder's files by their endings; images unless nearly all of them say otherwise."""
    files = place.rglob("*") if place.is_dir() else iter([place])
    endings: dict[str, int] = {}
    for _, file in zip(range(SOME), files, strict=False):
        if file.is_file():
            kind = next((each for each, known in MEDIA_ENDINGS.items() if file.suffix.lower() in known), "image")
            endings[kind] = endings.get(kind, 0) + 1
    return max(endings, key=lambda kind: endings[kind]) if endings else "image"


def _listed(table: Mapping[str, Any], media: str, folder: Path, classes: Sequence[str] = ()) -> tuple[Source, Listing]:
    """One table as its adapter lists it."""
    config = {"format": 1, "media": media, "classes": list(classes), "data": [dict(table)]}
    source = open_sources(Audit(folder.resolve(), config))[0]
    return source, source.listing()


def _with_classes(found: Sequence[FoundTable], media: str, folder: Path, natural_order: bool) -> FoundData:
    """The classes of all tables together, in the order of the library that usually reads such data."""
    labels: list[Any] = []
    own: list[str] | None = None
    as_text = False
    exif: dict[str, None] = {}
    tables: list[FoundTable] = []
    readers: list[str] = []
    for table in found:
        source, listing = _listed({line.key: line.value for line in table.lines if not line.asked}, media, folder)
        tables.append(with_files(table, source, listing, folder))
        readers.append(source.name)
        labels += listing.labels or _of_items(source, listing)
        exif |= {sentence: None} if (sentence := source.describe_exif()) else {}
        own, as_text = own or source.names_of_classes(), as_text or source.sorts_as_text
    known = [label for label in labels if not is_none(plain(label))]
    names = tomllib.loads(classes_line(known, own, as_text))["classes"] if known or own else []
    order = describe_order(known, own, as_text)
    if natural_order and not own:
        names, order = sorted(names, key=timm_key), "sorted as timm sorts folders: numbers by value, whatever the case"
    return FoundData(
        media=media,
        tables=tuple(each.lines for each in tables),
        classes=tuple(names),
        order=order if names else "",
        said=tuple(text for each in tables for text in each.said),
        asked=tuple(text for each in tables for text in each.asked),
        exif=tuple(exif),
        readers=tuple(readers),
    )


def _of_items(source: Source, listing: Listing) -> list[Any]:
    """Labels that come with reading the items."""
    if not source.labels_from_items or source.split == "pool":
        return []
    return [source.item(row)[1] for row in range(len(listing))]
