"""Exact duplicates: groups of examples with the same fingerprint, the most problematic groups first.

Inputs → outputs: the example table → one row per group. Cost: one pass over the fingerprints. Known limits:
exact copies alone; near duplicates are a matter of features, not of bytes (``scoring.data.duplicates.near``).
"""

from __future__ import annotations

import pandas as pd

FACTS = ("copies", "across_splits", "conflicting", "splits", "labels", "example_ids")
COLUMNS = ("fingerprint", *FACTS)


def duplicates(examples: pd.DataFrame) -> pd.DataFrame:
    """Groups of identical examples → data frame of ``COLUMNS``.

    ``across_splits``: the group lies in more than one split (test data was trained on). ``conflicting``: its
    labels differ, so at least one is wrong. Groups that are both come first, then conflicting ones, then
    those across splits, then the largest. Examples with a problem are left out: two empty files are no
    duplicate.

    >>> examples = pd.DataFrame({"example_id": ["a", "b", "c"], "split": ["train", "test", "test"],
    ...     "label": ["cat", "dog", "cat"], "fingerprint": ["f", "f", "g"], "problem": [None, None, None]})
    >>> duplicates(examples)[["copies", "across_splits", "conflicting"]].values.tolist()
    [[2, True, True]]
    """
    readable = examples[examples["problem"].isna() & examples["fingerprint"].notna()]
    return grouped(readable[readable["fingerprint"].duplicated(keep=False)], "fingerprint")


def grouped(members: pd.DataFrame, key: str) -> pd.DataFrame:
    """One row per value of the column ``key``, with ``FACTS`` about its members (example_id, split, label), in the
    order of ``duplicates``."""
    groups = members.groupby(key, sort=True)
    found = pd.DataFrame(
        {
            "copies": groups.size(),
            "across_splits": groups["split"].nunique() > 1,
            "conflicting": groups["label"].nunique() > 1,
            "splits": groups["split"].agg(_joined),
            "labels": groups["label"].agg(_joined),
            "example_ids": groups["example_id"].agg(list),
        }
    ).reset_index(names=key)
    worry = found["conflicting"].astype(int) * 2 + found["across_splits"].astype(int)
    order = found.assign(worry=worry).sort_values(["worry", "copies"], ascending=False, kind="stable").index
    return found.loc[order, [key, *FACTS]].reset_index(drop=True)


def _joined(values: pd.Series) -> str:
    """Different values in order, as text."""
    return ", ".join(sorted({value for value in values if isinstance(value, str)}))


def count_duplicates(examples: pd.DataFrame) -> dict[str, int]:
    """Groups of identical examples: how many, across splits, and with conflicting labels."""
    found = duplicates(examples)
    return {
        "groups": len(found),
        "across_splits": int(found["across_splits"].sum()),
        "conflicting": int(found["conflicting"].sum()),
    }
