"""What an ingest found: counts, problems and changes, as ``examples.json`` keeps them and commands print them.

Inputs → outputs: the new table and the one before → ``Ingest``. Cost: one pass over both. Known limits: the first
``MOST_SKIPPED`` skipped files are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from scoring.data.adapters.base import Source
from scoring.data.duplicates import count_duplicates
from scoring.data.example_table import FIXED, Rows

MOST_SKIPPED = 100


@dataclass(kw_only=True)
class Ingest:
    """What an ingest found: the content of ``examples.json``.

    ``splits``: per split its examples, unlabelled ones, problems, and the number in each class. ``problems``: id and
    reason of each example that cannot be used. ``added``, ``changed`` (other content), ``relabelled`` and ``removed``
    count against the table before; ``moved``: known examples whose file has another path. ``decoded``: how many were
    decoded this time. ``skipped``: files passed over. ``reading``: how the EXIF orientation of each source's images is
    treated. ``notes``: sentences on how the data was read that a user should know of.
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
    moved: int = 0


def summary(sources: Sequence[Source], table: pa.Table, before: pa.Table | None, rows: Rows, seconds: float) -> Ingest:
    """Returns what an ingest found, against the table before."""
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
        moved=rows.moved,
        decoded=rows.decoded,
        duplicates=count_duplicates(examples),
        skipped=_shortened(rows.skipped),
        reading=_exif_sentences(sources),
        notes=rows.notes,
        seconds=round(seconds, 2),
    )


def _exif_sentences(sources: Sequence[Source]) -> list[str]:
    """Returns how EXIF orientations are treated, one sentence for the sources that are alike."""
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
    """Returns how many examples are new, hold other content, have another label, or are gone since the table
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
