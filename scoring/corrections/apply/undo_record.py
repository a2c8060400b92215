"""Applies a patch to a dataset example by example, and reports the outcome of each; takes the last one back.

Both hold the dataset's lock from the first read to the last write, so that a second command sees what the first made of
it.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scoring.corrections.apply.row_search import find_rows, left_out
from scoring.corrections.apply.target import Target
from scoring.corrections.apply.target_lock import held, lock_path
from scoring.corrections.label_patch import apply_patch, check_patch, read_patch
from scoring.reviews.event_store import TEXT


def apply_to(patch_path: Path, target: Target) -> pd.DataFrame:
    """Apply a patch file to a dataset, in place → the report: example_id, outcome, reason, of every row of the patch.

    Outcomes are those of ``scoring.corrections.label_patch.apply_patch``; an example that is refused stays as it is.
    Applying the same patch twice changes nothing more. ``target``: as ``open_target`` gave it, not yet read.
    """
    patch = read_patch(patch_path)
    check_patch(patch)
    with held(target.path):
        return _applied(patch, target)


def _applied(patch: pd.DataFrame, target: Target) -> pd.DataFrame:
    rows = find_rows(patch, target)
    place = {example: row for example, row in rows.items() if row is not None}
    labels = pd.DataFrame(
        {
            "example_id": list(place),
            "label": [target.labels[row] for row in place.values()],
            "fingerprint": [target.fingerprint(row) for row in place.values()],
        }
    ).astype(TEXT)
    _, report = apply_patch(patch, labels)
    gone = report["example_id"].isin(left_out(patch["example_id"], target))
    gone &= (patch["disposition"] == "exclude").to_numpy()
    report.loc[gone, ["outcome", "reason"]] = ["excluded", "an earlier patch already excluded it"]
    outcomes = report.set_index("example_id")["outcome"]
    new = patch.set_index("example_id")["new_label"]
    now = labels.set_index("example_id")["label"]
    relabelled = {place[one]: new[one] for one in outcomes.index[outcomes == "relabelled"] if now[one] != new[one]}
    excluded = {place[one]: one for one in outcomes.index[outcomes == "excluded"] if one in place}
    refused, notes = target.change(relabelled, excluded)
    names = {row: example for example, row in place.items()}
    for row, reason in refused.items():
        report.loc[report["example_id"] == names[row], ["outcome", "reason"]] = ["refused", reason]
    for row, note in notes.items():
        report.loc[report["example_id"] == names[row], "reason"] = note
    return report


def undo(target: Target) -> list[str]:
    """Take the last application to this dataset back → what could not be, and why."""
    with held(target.path):
        problems = target.restore()
        if not target.applications and target.path.is_file():  # a second writer would still be told by the digest
            lock_path(target.path).unlink(missing_ok=True)
        return problems
