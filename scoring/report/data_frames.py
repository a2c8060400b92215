"""What an audit found, as data frames for a notebook: scores, suspects, slices, decisions and corrected labels.

Inputs → outputs: an audit and a run's files → frames joined on ``example_id``. Cost: one read of the files. No torch.
Known limits: everything is read into memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import column_facts, read_schema, read_table
from scoring.corrections.label_patch import apply_patch, corrected_labels
from scoring.queue.order import default_order, order_by, suggestions, suspicion
from scoring.reviews import ReviewLog
from scoring.slices.slicing_run import SliceSettings, slice_run

EXAMPLE = ("example_id", "split", "label")
DEFAULT_SLICES, FEWEST = 25, 5
"""Slices where no number is asked for, and examples in each on average at least."""
PREDICTION = ("prediction", "p_prediction", "p_label")


def example_frame(audit: Audit, run: Run | None = None) -> pd.DataFrame:
    """Returns one row per example: example_id, split, row (its place in the split's dataset, from 0), label, path,
    problem (why it cannot be read) and the data's own columns; with the run's prediction where there is one."""
    examples = read_table(audit.examples_path).to_pandas()
    examples["row"] = examples.groupby("split", sort=False).cumcount()
    own = [name for name in examples.columns if name.startswith("meta.")]
    optional = [name for name in ("reference", "problem") if examples[name].notna().any()]
    frame = examples[["example_id", "split", "row", "label", *optional, *own]].rename(columns={"reference": "path"})
    taken = set(frame.columns) | {*PREDICTION, "suggested_label", "p_suggested", "source"}
    frame = frame.rename(columns={name: short for name in own if (short := name.removeprefix("meta.")) not in taken})
    if run is None or not run.predictions_path.is_file():
        return frame
    predictions = read_table(run.predictions_path, ["example_id", *PREDICTION]).to_pandas()
    return frame.merge(predictions, on="example_id", how="left")


def first_split(audit: Audit) -> str:
    """Returns the split to look at first: train, or test in an audit of test data alone."""
    found = set(read_table(audit.examples_path, ["split"]).to_pandas()["split"])
    return "train" if "train" in found or "test" not in found else "test"


def score_frame(audit: Audit, run: Run) -> pd.DataFrame:
    """Returns ``example_frame`` with every score as a column ``<scorer>.<column>``; what is not computed is NaN.

    ``frame.attrs["columns"]`` says of each score its title, what it means and which end is suspicious.
    """
    frame, facts = example_frame(audit, run), dict[str, dict[str, str]]()
    for name in run.score_names():
        schema = read_schema(run.score_path(name))
        columns = {field.name: f"{name}.{field.name}" for field in schema if column_facts(field)}
        if not columns:
            continue
        facts |= {columns[field.name]: column_facts(field) for field in schema if field.name in columns}
        scores = read_table(run.score_path(name), ["example_id", *columns]).to_pandas().rename(columns=columns)
        frame = frame.merge(scores, on="example_id", how="left")
    frame.attrs["columns"] = facts
    return frame


def suspect_frame(audit: Audit, run: Run, n: int, split: str = "train", score: str | None = None) -> pd.DataFrame:
    """Returns the first n of a split's queue: example_id, label, suggested_label, p_suggested, source, prediction, and
    the score that ranks, most suspicious first. ``score``: ``<scorer>.<column>``, else the default of /suspects."""
    order = default_order(audit, run, split) if score is None else order_by(run, score)
    if order is None:
        raise HardlookError(
            f"run {run.name!r} has no score that ranks split {split!r}; compute some with audit.score()"
        )
    frame = example_frame(audit, run)
    frame = frame[frame["split"] == split]
    ranks = suspicion(run, order).reindex(frame["example_id"])
    key = order.score if score is not None else order.column
    signed = ranks if order.suspicious == "high" else -ranks
    frame = frame.assign(**{key: signed.to_numpy(), "_order": ranks.to_numpy()})
    frame = frame.dropna(subset="_order").sort_values("_order", ascending=False, kind="stable").drop(columns="_order")
    frame = frame.head(n).reset_index(drop=True)
    found = suggestions(audit, run, frame.set_index("example_id")["label"]).set_index("example_id")
    found = found.reindex(frame["example_id"]).reset_index(drop=True)
    first = ["example_id", "label"]
    shown = frame[first].join(found).join(frame.drop(columns=first))
    shown.attrs["order"] = order.sentence
    return shown


def slice_frame(audit: Audit, run: Run, n: int | None, split: str) -> pd.DataFrame:
    """Returns n slices of a split, worst first: slice_id, size, accuracy, labels and predictions by count, and the ids
    of its members and opponents (the training examples that harm it most). They are kept for the pages."""
    if n is None:
        splits = read_table(audit.examples_path, ["split"]).to_pandas()["split"]
        n = min(DEFAULT_SLICES, max(1, int((splits == split).sum()) // FEWEST))
    name, settings = f"notebook-{split}", SliceSettings(n_slices=n, split=split, seed=audit.seed)
    with run.lock():
        summary = slice_run(audit, run, settings, name)
    members = read_table(run.slices_path(name), ["slice_id", "example_id"]).to_pandas()
    members = members.groupby("slice_id")["example_id"].agg(list)
    rows = [
        {
            **{key: found[key] for key in ("slice_id", "size", "accuracy", "labels", "predictions")},
            "members": members.get(found["slice_id"], []),
            "opponents": [_id_of(each) for each in found["opponents"]],
        }
        for found in summary["slices"]
    ]
    return pd.DataFrame(rows, columns=["slice_id", "size", "accuracy", "labels", "predictions", "members", "opponents"])


def _id_of(opponent: Any) -> str:
    return opponent["example_id"] if isinstance(opponent, dict) else str(opponent)


def decision_frame(audit: Audit) -> pd.DataFrame:
    """Returns what was decided, one row per example of the review log (``ReviewLog.consensus``)."""
    return _of_log(audit, ReviewLog.consensus)


def corrected_frame(audit: Audit) -> pd.DataFrame:
    """Returns the labels as the review left them: example_id, split, label, old_label and changed, of every example
    that stays; those that a decision excludes are left out."""
    if not audit.examples_path.is_file():
        raise HardlookError(f"the data of {audit.root} is not read yet, so it has no labels; audit.score() reads it")
    examples = read_table(audit.examples_path, [*EXAMPLE, "fingerprint"]).to_pandas()
    patch = _of_log(audit, lambda log: corrected_labels(examples, log, audit.policy))
    corrected, _ = apply_patch(patch, examples)
    old = examples.set_index("example_id")["label"].reindex(corrected["example_id"]).to_numpy(dtype=object)
    frame = corrected[list(EXAMPLE)].assign(old_label=old)
    both = frame["label"].notna() & frame["old_label"].notna()
    return frame.assign(changed=both & (frame["label"] != frame["old_label"]))


def _of_log(audit: Audit, read: Callable[[ReviewLog], pd.DataFrame]) -> pd.DataFrame:
    with ReviewLog.open(audit.log_url, audit=audit.log_name(audit.log_url)) as log:
        return read(log)
