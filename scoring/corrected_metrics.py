"""Every accuracy twice: on the labels as they were given, and on the labels as the review corrected them.

Corrected labels are what a patch would write (``scoring.patches``): relabelled examples count with their new label,
excluded ones are left out, what waits for a second reader keeps its label. Accuracy is of the last checkpoint, which saw
the original labels of train.

Inputs → outputs: examples, predictions and the log → a data frame per split and, where asked for, per class. Cost: one
pass over the decisions and one join. Limit: with ``test = "open"`` corrections of test are biased towards the model
(``scoring.review_policy.WARNING``); the two columns stand beside each other for that reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scoring.patches import corrected_labels
from scoring.reviews import ReviewLog

COLUMNS = ("n", "original", "n_corrected", "corrected", "relabelled", "excluded")


def on_both_labels(examples: pd.DataFrame, predictions: pd.DataFrame, log: ReviewLog, policy: Mapping[str, Any] | None = None,
                   by: Sequence[str] = ("split",)) -> pd.DataFrame:  # fmt: skip
    """Accuracy on original and on corrected labels per group: the columns of ``by``, then ``COLUMNS``.

    examples: example_id, split, label, fingerprint; predictions: example_id, prediction. Groups are by the original label
    where ``by`` names it. Examples without a label or a prediction are left out.
    """
    frame = examples.merge(predictions[["example_id", "prediction"]], on="example_id")
    patch = corrected_labels(examples, log, policy).set_index("example_id")
    changed = patch.loc[patch["disposition"] == "relabel", "new_label"].to_dict()
    excluded = patch.index[patch["disposition"] == "exclude"]
    frame["new"] = [changed.get(one, label) for one, label in zip(frame["example_id"], frame["label"], strict=True)]
    frame["kept"] = ~frame["example_id"].isin(excluded)
    frame = frame[frame["label"].notna() & frame["prediction"].notna()]
    right, now_right = frame["prediction"] == frame["label"], (frame["prediction"] == frame["new"]) & frame["kept"]
    counted = frame[list(by)].assign(
        n=1, right=right.astype(int), n_corrected=frame["kept"].astype(int), now_right=now_right.astype(int),
        relabelled=(frame["new"] != frame["label"]).astype(int), excluded=(~frame["kept"]).astype(int),
    )  # fmt: skip
    found = counted.groupby(list(by), sort=True).sum().reset_index()
    found["original"] = found["right"] / found["n"]
    found["corrected"] = (found["now_right"] / found["n_corrected"]).where(found["n_corrected"] > 0)
    return found[[*by, *COLUMNS]]
