"""Datasets of Hugging Face that ``save_to_disk`` wrote: which splits, and which kind of examples.

Read from the JSON files of the folder, without the library. Inputs → outputs: a folder → its tables. Cost: two small
files. Known limits: a split with a name of no known meaning is left out, with a word.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.data.adapters.manifest import USUAL
from scoring.setup.findings import Line
from scoring.setup.places import SPLIT_WORDS
from scoring.setup.tables_found import FoundTable


def saved_splits(
    place: Path, split: str, path: str, media: str | None, may_hold_splits: bool
) -> list[FoundTable] | None:
    """The tables of a folder of ``save_to_disk``: one per split of a ``DatasetDict``, else one; None for other folders.

    Raises ``HardlookError`` where a ``DatasetDict`` has no split that can be told.
    """
    if (place / "dataset_dict.json").is_file():
        names = [str(name) for name in _read(place / "dataset_dict.json").get("splits", [])]
        if not may_hold_splits:
            wanted = [name for name in names if SPLIT_WORDS.get(name.casefold()) == split]
            if len(wanted) != 1:
                raise HardlookError(
                    f"--{split} {place}: it holds the splits {', '.join(names)}, of which {len(wanted)} mean {split}; "
                    f"name the folder of one: {place / (names or ['…'])[0]}"
                )
            return [_table(place, wanted[0], split, path, media)]
        known = {name: SPLIT_WORDS[name.casefold()] for name in names if name.casefold() in SPLIT_WORDS}
        tables = [_table(place, name, meaning, path, media) for name, meaning in known.items()]
        left = [name for name in names if name not in known]
        said = f"{place}: a DatasetDict of Hugging Face with the splits {', '.join(names)}"
        said += f" ({', '.join(left)} left out: no known split)" if left else ""
        if not tables:
            raise HardlookError(
                f"--{split} {place}: of its splits {', '.join(names)} none is train or test; rename one"
            )
        return [FoundTable(tables[0].media, tables[0].lines, (said,)), *tables[1:]]
    if (place / "dataset_info.json").is_file() and (place / "state.json").is_file():
        kind = media or _media(place)
        said = f"{place}: a dataset of Hugging Face, saved by save_to_disk"
        return [FoundTable(kind, (Line("split", split), Line("path", path), *_text(place, kind)), (said,))]
    return None


def _table(place: Path, name: str, split: str, path: str, media: str | None) -> FoundTable:
    """One split of a ``DatasetDict``."""
    kind = media or _media(place / name)
    named = () if name == split else (Line("dataset_split", name),)
    return FoundTable(kind, (Line("split", split), Line("path", path), *named, *_text(place / name, kind)))


def _media(folder: Path) -> str:
    """image where a column is an ``Image``, text where one has a usual name of texts, else image."""
    features = _features(folder)
    if any(isinstance(each, Mapping) and each.get("_type") == "Image" for each in features.values()):
        return "image"
    return "text" if _texts(features) else "image"


def _text(folder: Path, media: str) -> tuple[Line, ...]:
    """The column of texts, where no usual name tells it and only one column holds text."""
    features = _features(folder)
    if media != "text" or any(name in features for name in USUAL["text_column"]):
        return ()
    texts = _texts(features)
    if len(texts) != 1:
        raise HardlookError(
            f"{folder} has {len(texts)} columns that may be the text ({', '.join(texts) or 'none'}); rename the one to "
            "audit: dataset.rename_column(…, 'text')"
        )
    return (Line("text_column", texts[0], "the only column of text"),)


def _texts(features: Mapping[str, Any]) -> list[str]:
    """Columns of text: the one with a usual name, else all."""
    found = [
        name
        for name, each in features.items()
        if isinstance(each, Mapping) and str(each.get("dtype")).endswith("string")
    ]
    usual = [name for name in found if name in USUAL["text_column"]]
    return usual or found


def _features(folder: Path) -> Mapping[str, Any]:
    found = _read(folder / "dataset_info.json").get("features")
    return found if isinstance(found, Mapping) else {}


def _read(path: Path) -> Mapping[str, Any]:
    """A JSON object of a file; raises ``HardlookError`` for a damaged one."""
    try:
        found = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise HardlookError(f"{path} cannot be read ({error}); save the dataset again with save_to_disk") from error
    return found if isinstance(found, Mapping) else {}
