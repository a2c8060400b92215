"""Examples as tasks of Label Studio, with the model's suggestion as a prediction, for teams that review there.

``label_studio`` writes ``label-studio-<split>.json``, one task per readable example and the most suspicious first, and
``label-studio.xml``, the labelling interface. A task's data are the picture's address (or the text), ``example_id``,
``fingerprint``, ``split`` and ``given_label``; its prediction is the suggested label with its probability as score.
What must stay hidden (a blind test split, controls, whoever waits for a second reader) has no prediction, and a place
in the order that is drawn from its id. ``hardlook import-reviews`` reads the answers back.

Label Studio serves pictures from a local storage, which must lie below its document root: the storage is the folder
that holds all pictures, the root the one above it. Pictures that are no files are written beside the tasks.

Inputs → outputs: an audit, a run, its log → paths, and the document root. Cost: one read of scores and probabilities.
Known limits: pictures and texts; arrays are no pictures that a browser shows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path, read_table, write_json
from scoring.corrections.file_names import file_names
from scoring.corrections.label_studio_answers import CONTROL, interface
from scoring.data.images import is_npy, is_png
from scoring.queue.blinding import hidden_from_readers
from scoring.queue.order import default_order, suggestions, suspicion
from scoring.queue.random_controls import hashes
from scoring.reviews import ReviewLog

PICTURES = "label-studio-pictures"


@dataclass(frozen=True)
class Written:
    """What was written, and the folder of all pictures, which Label Studio must serve; None for texts."""

    paths: list[Path]
    storage: Path | None


def label_studio(audit: Audit, run: Run | None, log: ReviewLog, out: Path, *, most: int | None = None) -> Written:
    """Write tasks, at most ``most`` per split, and their interface → what was written."""
    if audit.media not in ("image", "text"):
        raise HardlookError(
            f"this audit holds {audit.media} data, which Label Studio does not show; use csv or parquet"
        )
    examples = read_table(audit.examples_path).to_pandas()
    examples = examples[examples["problem"].isna()].reset_index(drop=True)
    hidden = set(hidden_from_readers(audit, log))
    parts = {
        split: in_order(audit, run, part, hidden).head(most) for split, part in examples.groupby("split", sort=False)
    }
    kept = pd.concat(parts.values()) if parts else examples
    places = _pictures(audit, kept, out) if audit.media == "image" else {}
    storage = Path(os.path.commonpath([path.parent for path in places.values()])) if places else None
    suggested = _suggested(audit, run, kept, hidden)
    paths = []
    for split, part in parts.items():
        tasks = [_task(audit, row, places, storage, suggested, run) for row in part.to_dict("records")]
        paths.append(Path(out) / f"label-studio-{split}.json")
        write_json(paths[-1], tasks)
    paths.append(Path(out) / "label-studio.xml")
    with atomic_path(paths[-1]) as temporary:
        temporary.write_text(interface(audit.classes, audit.media), encoding="utf8")
    return Written(paths, storage)


def in_order(audit: Audit, run: Run | None, rows: pd.DataFrame, hidden: set[str]) -> pd.DataFrame:
    """The rows of one split, the most suspicious first; those that are hidden, or have no score, at drawn places."""
    order = default_order(audit, run, rows["split"].iloc[0]) if run is not None else None
    ids = rows["example_id"]
    values = pd.Series(float("nan"), ids) if run is None or order is None else suspicion(run, order).reindex(ids)
    values = values.mask(values.index.isin(list(hidden)))
    place = values.rank(ascending=False, method="first", pct=True)
    drawn = pd.Series(hashes(ids.tolist(), audit.seed, "label-studio"), ids)
    return rows.iloc[place.fillna(drawn).reset_index(drop=True).sort_values(kind="stable").index]


def _suggested(audit: Audit, run: Run | None, rows: pd.DataFrame, hidden: set[str]) -> dict[str, tuple[str, float]]:
    """Example → (suggested label, its probability), of those that may be seen."""
    if run is None:
        return {}
    found = suggestions(audit, run)
    found = found[found["example_id"].isin(rows["example_id"]) & ~found["example_id"].isin(list(hidden))]
    columns = (found[name] for name in ("example_id", "suggested_label", "p_suggested"))
    return {example: (label, float(p)) for example, label, p in zip(*columns, strict=True) if label is not None}


def _task(
    audit: Audit,
    row: Mapping[str, Any],
    places: Mapping[str, Path],
    storage: Path | None,
    suggested: Mapping[str, tuple[str, float]],
    run: Run | None,
) -> dict[str, Any]:
    example = row["example_id"]
    label = row["label"] if isinstance(row["label"], str) else ""
    data = {name: row[name] for name in ("example_id", "fingerprint", "split")} | {"given_label": label}
    if storage is not None:
        inside = places[example].relative_to(storage.parent).as_posix()
        data = {"image": f"/data/local-files/?d={quote(inside)}", **data}
    else:
        data = {"text": _text(audit, row), **data}
    task: dict[str, Any] = {"data": data}
    if run is not None and example in suggested:
        name, probability = suggested[example]
        result = {"from_name": CONTROL, "to_name": "item", "type": "choices", "value": {"choices": [name]}}
        task["predictions"] = [{"model_version": f"hardlook {run.name}", "score": probability, "result": [result]}]
    return task


def _text(audit: Audit, row: Mapping[str, Any]) -> str:
    if isinstance(row["reference"], str):
        return audit.path(row["reference"]).read_text(encoding="utf8")
    return _kept(audit, row["example_id"]).decode("utf8")


def _kept(audit: Audit, example: str) -> bytes:
    found = audit.originals.get(example)
    if found is None:
        raise HardlookError(f"no original of {example!r} is kept; run `hardlook score {audit.root}`")
    return found


def _pictures(audit: Audit, rows: pd.DataFrame, out: Path) -> dict[str, Path]:
    """Example → its file; what is no file, or none that a browser shows, is written beside the tasks."""
    is_file = [isinstance(reference, str) and not reference.endswith(".npy") for reference in rows["reference"]]
    files = rows[is_file]
    places = dict(zip(files["example_id"], map(_absolute, map(audit.path, files["reference"])), strict=True))
    loose = [example for example in rows["example_id"] if example not in places]
    folder = _absolute(Path(out) / PICTURES)
    for example, name in zip(loose, file_names([f"{example}.png" for example in loose]), strict=True):
        picture = _kept(audit, example)
        if is_npy(picture):
            raise HardlookError(f"{example!r} is an array, which Label Studio does not show; use csv or parquet")
        place = folder / (name if is_png(picture) else f"{name.removesuffix('.png')}.jpg")
        with atomic_path(place) as temporary:
            temporary.write_bytes(picture)
        places[example] = place
    return places


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))
