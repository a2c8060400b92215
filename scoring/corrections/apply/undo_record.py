"""Applies a patch to a dataset example by example, and reports the outcome of each.

Rows are found by id (the user's own; else an id ends with the row's relative path, the longest such end counts), and
where no id fits by a fingerprint that one row alone has, as after the files moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from scoring.corrections.apply.targets import Target
from scoring.corrections.label_patch import apply_patch, read_patch
from scoring.reviews.event_store import TEXT


def apply_to(patch_path: Path, target: Target) -> pd.DataFrame:
    """Apply a patch file to a dataset, in place → the report: example_id, outcome, reason, of every row of the patch.

    Outcomes are those of ``scoring.corrections.label_patch.apply_patch``; an example that is refused stays as it is.
    Applying the same patch twice changes nothing more.
    """
    patch = read_patch(patch_path)
    rows = find_rows(patch, target)
    known = [(example, row) for example, row in rows.items() if row is not None]
    labels = pd.DataFrame(
        {
            "example_id": [example for example, _ in known],
            "label": [target.labels[row] for _, row in known],
            "fingerprint": [target.fingerprint(row) for _, row in known],
        }
    ).astype(TEXT)
    _, report = apply_patch(patch, labels)
    before = dict.fromkeys(target.left_out, 0)
    gone = [example for example, row in rows.items() if row is None and _by_name(example, before) is not None]
    gone = report["example_id"].isin(gone) & (patch["disposition"] == "exclude").to_numpy()
    report.loc[gone, ["outcome", "reason"]] = ["excluded", "an earlier patch already excluded it"]
    outcomes = report.set_index("example_id")["outcome"]
    new = patch.set_index("example_id")["new_label"]
    now = labels.set_index("example_id")["label"]
    place = dict(known)
    relabelled = {place[one]: new[one] for one in outcomes.index[outcomes == "relabelled"] if now[one] != new[one]}
    excluded = [place[one] for one in outcomes.index[outcomes == "excluded"] if one in place]
    refused = target.change(relabelled, excluded)
    names = {row: example for example, row in known}
    for row, reason in refused.items():
        report.loc[report["example_id"] == names[row], ["outcome", "reason"]] = ["refused", reason]
    return report


def undo(target: Target) -> list[str]:
    """Take the last application to this dataset back → what could not be, and why."""
    return target.restore()


def find_rows(patch: pd.DataFrame, target: Target) -> dict[str, int | None]:
    """The row of each example of the patch, None where the dataset does not have it."""
    names = Counter(target.names)
    by_name = {name: row for row, name in enumerate(target.names) if name and names[name] == 1}
    found = {example: _by_name(example, by_name) for example in patch["example_id"]}
    taken = {row for row in found.values() if row is not None}
    lost = patch[[found[example] is None for example in patch["example_id"]]]
    if len(lost):
        by_content = _unique({row: target.fingerprint(row) for row in range(len(target.listing)) if row not in taken})
        unique = _only_once(lost["fingerprint"])
        for example, content in zip(lost["example_id"], lost["fingerprint"], strict=True):
            if content in unique:
                found[example] = by_content.get(content)
    return found


def _by_name(example: str, by_name: dict[str, int]) -> int | None:
    """The row whose name is the id, or its longest end behind a slash."""
    while example not in by_name:
        _, slash, example = example.partition("/")
        if not slash:
            return None
    return by_name[example]


def _only_once(values: Iterable[str | None]) -> set[str]:
    return {value for value, n in Counter(values).items() if n == 1 and isinstance(value, str)}


def _unique(contents: dict[int, str | None]) -> dict[str, int]:
    once = _only_once(contents.values())
    return {content: row for row, content in contents.items() if content is not None and content in once}
