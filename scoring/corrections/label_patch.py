"""Label patches: the team's decisions as files of corrected labels that other programs can apply.

What becomes of an example is a policy's matter (``scoring.reviews.disposition``). A dispute, and an example that
changed since it was reviewed, always goes to a second reader.

Inputs → outputs: the example table and the review log → one patch per split (data frame, CSV or Parquet) →
corrected labels. CSV neutralises what a spreadsheet would run as a formula, by an apostrophe that reading
takes away again, so the round trip is exact. Cost: one pass over the decisions. Known limit: a patch relabels
or leaves out whole examples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scoring.audit.errors import HardlookError
from scoring.corrections.patch_files import PATCH_SCHEMA, TIME, neutralise, read_patch, restore, typed, write_patch
from scoring.reviews.disposition import DISPOSITIONS, disposition, full_policy
from scoring.reviews.event_store import TEXT

if TYPE_CHECKING:
    from scoring.reviews import ReviewLog

__all__ = [
    "FORMATS",
    "OUTCOMES",
    "PATCH_SCHEMA",
    "TIME",
    "apply_patch",
    "check_patch",
    "corrected_labels",
    "excluded_already",
    "export_patches",
    "following",
    "missing_examples",
    "neutralise",
    "read_patch",
    "restore",
    "write_patch",
]

FORMATS = ("csv", "parquet")

# -- from decisions to a patch ----------------------------------------------------------------------


def corrected_labels(examples: pd.DataFrame, log: ReviewLog, policy: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """One row per decided example that the dataset still has, in the order of ``examples``.

    examples: data frame with example_id, split, label and fingerprint. Columns of the result: those of
    ``PATCH_SCHEMA``. fingerprint and old_label are what the reviewer saw; new_label is the label to use from
    now on, null where the example is excluded or waits for a second reader.
    """
    decided = following(log.consensus(), examples, full_policy(policy))
    found = examples[["example_id", "split", "label", "fingerprint"]].merge(
        decided, on="example_id", suffixes=("_now", ""), validate="one_to_many"
    )
    if found["example_id"].duplicated().any():
        raise HardlookError("the review log was opened for all audits; open it with audit=NAME to export")
    policy = full_policy(policy)
    return typed(pd.DataFrame([_patch_row(row, policy) for row in _records(found)], columns=PATCH_SCHEMA.names))


def missing_examples(examples: pd.DataFrame, log: ReviewLog, policy: Mapping[str, Any] | None = None) -> list[str]:
    """Ids with decisions that the dataset no longer has, and that no patch therefore names, though they are to stay."""
    gone = _gone(examples, log, full_policy(policy))
    return gone.loc[~_excluded(gone, full_policy(policy)), "example_id"].tolist()


def excluded_already(examples: pd.DataFrame, log: ReviewLog, policy: Mapping[str, Any] | None = None) -> list[str]:
    """Ids that the dataset no longer has, as their decisions ask: after a patch was applied."""
    gone = _gone(examples, log, full_policy(policy))
    return gone.loc[_excluded(gone, full_policy(policy)), "example_id"].tolist()


def _gone(examples: pd.DataFrame, log: ReviewLog, policy: Mapping[str, str]) -> pd.DataFrame:
    decided = following(log.consensus(), examples, policy)
    return decided[~decided["example_id"].isin(examples["example_id"])]


def following(decided: pd.DataFrame, examples: pd.DataFrame, policy: Mapping[str, str]) -> pd.DataFrame:
    """Decisions (as ``ReviewLog.consensus``) under the ids that their examples have now.

    Ingest keeps the id of an example that moves; where it could not know it (the data was read into a new audit), a
    decision follows its content, if one undecided example alone has it. A decision that excludes its example stays with
    it: another example of this content may be the one that is to be kept.
    """
    lost = decided[~decided["example_id"].isin(examples["example_id"])]
    lost = lost[~_excluded(lost, policy)]
    if lost.empty:
        return decided
    alike = examples[examples["fingerprint"].isin(lost["fingerprint"])]
    free = alike[~alike["example_id"].isin(decided["example_id"])]
    once = [frame.dropna(subset="fingerprint").drop_duplicates("fingerprint", keep=False) for frame in (lost, free)]
    pairs = once[0].merge(once[1], on="fingerprint", suffixes=("", "_now"))
    now = dict(zip(pairs["example_id"], pairs["example_id_now"], strict=True))
    return decided.assign(example_id=decided["example_id"].replace(now)) if now else decided


def _excluded(decided: pd.DataFrame, policy: Mapping[str, str]) -> pd.Series:
    """Returns whether each decision excludes its example: agreed or adjudicated, by verdict or issue."""
    chosen = [
        status != "disputed" and disposition(verdict, issues, policy)[0] == "exclude"
        for status, verdict, issues in zip(decided["status"], decided["verdict"], decided["issues"], strict=True)
    ]
    return pd.Series(chosen, index=decided.index, dtype=bool)


def _records(frame: pd.DataFrame) -> Iterable[dict[str, Any]]:
    """Rows as dicts of plain values, nulls as None."""
    columns = [frame[name].astype(object) for name in frame]
    plain = [column.where(column.notna(), None) for column in columns]
    return (dict(zip(frame.columns, values, strict=True)) for values in zip(*plain, strict=True))


def _patch_row(row: dict[str, Any], policy: Mapping[str, str]) -> dict[str, Any]:
    chosen, issue = disposition(row["verdict"], row["issues"], policy)
    reason = None if issue is None else f"issue: {issue}"
    fingerprint = row["fingerprint"] or row["fingerprint_now"]
    old_label = row["label_now"] if row["label"] is None else row["label"]
    new_label = {"keep": old_label, "relabel": row["new_label"]}.get(chosen)
    if row["status"] == "disputed":
        chosen, new_label, reason = "second reader", None, "reviewers differ"
    elif fingerprint != row["fingerprint_now"]:
        chosen, new_label, reason = "second reader", None, "the example changed since it was reviewed"
    elif chosen in ("keep", "relabel") and new_label is None:
        chosen, reason = "second reader", "no label was given"
    return {
        **{name: row[name] for name in ("example_id", "split", "verdict", "status", "labels", "issues", "note")},
        "fingerprint": fingerprint,
        "old_label": old_label,
        "new_label": new_label,
        "disposition": chosen,
        "reviewer": ", ".join(row["reviewers"]),
        "time": row["created_at"],
        "reason": reason,
    }


# -- files ------------------------------------------------------------------------------------------


def export_patches(
    examples: pd.DataFrame,
    log: ReviewLog,
    out: Path,
    *,
    fmt: str = "csv",
    policy: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write one patch per split of ``examples`` into the folder ``out``: ``patch-train.csv`` and so on.

    A split without decisions gets an empty patch, so that no older one stays behind. Returns the paths.
    """
    if fmt not in FORMATS:
        raise HardlookError(f"a patch is written as {' or '.join(FORMATS)}, found {fmt!r}")
    patch = corrected_labels(examples, log, policy)
    paths = []
    for split in examples["split"].drop_duplicates():
        paths.append(Path(out) / f"patch-{split}.{fmt}")
        write_patch(paths[-1], patch[patch["split"] == split])
    return paths


# -- applying ---------------------------------------------------------------------------------------

OUTCOMES = ("kept", "relabelled", "excluded", "second reader", "refused")


def apply_patch(patch: pd.DataFrame, labels: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Correct a dataset's labels → (corrected, report); refuses example by example, never the whole.

    labels: data frame with example_id, label, fingerprint and, where known, split; other columns are carried
    along. corrected: ``labels`` with new labels in place and excluded examples left out. report: one row per
    row of the patch, with example_id, outcome (one of ``OUTCOMES``) and reason. An example is refused where
    the dataset does not have it, its fingerprint or split differs, or its label is neither the patch's old
    one nor its new one. Applying a patch twice changes nothing more.
    """
    check_patch(patch)
    _check_labels(labels)
    corrected = labels.reset_index(drop=True)
    if not isinstance(corrected["label"].dtype, pd.StringDtype):  # categories would refuse a class that is new here
        corrected["label"] = corrected["label"].astype(object)
    known = corrected[[name for name in ("example_id", "label", "fingerprint", "split") if name in corrected]]
    rows = {row["example_id"]: row for row in _records(known)}
    report = pd.DataFrame(
        [(row["example_id"], *_outcome(row, rows.get(row["example_id"]))) for row in _records(patch)],
        columns=["example_id", "outcome", "reason"],
    ).astype(TEXT)
    return _corrected(corrected, patch, report), report


def _outcome(row: dict[str, Any], example: dict[str, Any] | None) -> tuple[str, str | None]:
    """Returns what becomes of one example, and why."""
    if example is None:
        return "refused", "not in this dataset"
    refusal = _refusal(row, example)
    if refusal is not None:
        return "refused", refusal
    if row["disposition"] == "second reader":
        return "second reader", row["reason"]
    return {"keep": "kept", "relabel": "relabelled", "exclude": "excluded"}[row["disposition"]], None


def _refusal(row: dict[str, Any], example: dict[str, Any]) -> str | None:
    if row["fingerprint"] is None or row["fingerprint"] != example["fingerprint"]:
        found, needed = example["fingerprint"], row["fingerprint"]
        return f"the fingerprint differs: {found} in the dataset, {needed} in the patch"
    if row["split"] is not None and example.get("split", row["split"]) != row["split"]:
        return f"the split differs: {example['split']} in the dataset, {row['split']} in the patch"
    allowed = {row["old_label"], row["new_label"] if row["disposition"] == "relabel" else row["old_label"]}
    if example["label"] not in allowed:
        return f"the label differs: {example['label']!r} in the dataset, {row['old_label']!r} in the patch"
    return None


def _corrected(labels: pd.DataFrame, patch: pd.DataFrame, report: pd.DataFrame) -> pd.DataFrame:
    outcomes = report.set_index("example_id")["outcome"]
    new_labels = patch.set_index("example_id")["new_label"]
    becomes = labels["example_id"].map(outcomes)
    changed = (becomes == "relabelled").to_numpy(dtype=bool)
    labels.loc[changed, "label"] = labels.loc[changed, "example_id"].map(new_labels)
    return labels[(becomes != "excluded").to_numpy(dtype=bool)].reset_index(drop=True)


def check_patch(patch: pd.DataFrame) -> None:
    """Raises ``HardlookError`` for a patch that nothing can be done with: columns, ids, dispositions, labels."""
    needed = ("example_id", "fingerprint", "split", "old_label", "new_label", "disposition", "reason")
    _need_columns("the patch", patch, needed)
    if patch["example_id"].isna().any():
        raise HardlookError("a row of the patch has no example_id; write it again with `hardlook export`")
    unknown = patch.loc[~patch["disposition"].isin(DISPOSITIONS), "disposition"]
    if len(unknown):
        raise HardlookError(f"the patch has disposition {unknown.iloc[0]!r}; needed one of {', '.join(DISPOSITIONS)}")
    lost = patch.loc[(patch["disposition"] == "relabel") & patch["new_label"].isna(), "example_id"]
    if len(lost):
        raise HardlookError(
            f"the patch relabels {lost.iloc[0]!r} without a new_label; write it again with `hardlook export`"
        )


def _check_labels(labels: pd.DataFrame) -> None:
    _need_columns("the dataset's table", labels, ("example_id", "label", "fingerprint"))
    if pd.api.types.is_numeric_dtype(labels["label"]) and len(labels):
        raise HardlookError(
            f"labels are class names, found the number {labels['label'].iloc[0]}; map them to names first"
        )


def _need_columns(what: str, frame: pd.DataFrame, needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in frame]
    if missing:
        raise HardlookError(f"{what} has no column {', '.join(missing)}; it needs {', '.join(needed)}")
    twice = frame.loc[frame["example_id"].duplicated(), "example_id"]
    if len(twice):
        raise HardlookError(f"{what} names example {twice.iloc[0]!r} twice; ids must be unique")
