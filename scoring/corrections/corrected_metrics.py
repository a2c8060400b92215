"""Metrics on the given labels and on the corrected labels, side by side.

    original  = share of prediction = label            corrected = share of prediction = corrected label, of those kept

Corrected labels are what a patch would write (``scoring.corrections.label_patch``): relabelled examples count with
their new label, excluded ones are left out, what waits for a second reader keeps its label. Predictions are of the last
checkpoint, which saw the original labels of train. Deciles are cut over all examples, so that both errors are of the
same tenth.

``judged`` says of each example what both labels make of it; ``by_group``, ``by_decile`` and ``by_slice`` count that,
and ``decile_band`` does over several runs. Pages and `hardlook report` call these alone.

Inputs → outputs: examples, predictions and the log → data frames. Cost: one pass over the decisions and one join.
Limit: with ``test = "open"`` corrections of test are biased towards the model
(``scoring.queue.second_reader_policy.WARNING``); the two columns stand beside each other for that reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scoring import evaluation
from scoring.corrections.label_patch import corrected_labels
from scoring.evaluation import deciles, wilson
from scoring.reviews import ReviewLog

COLUMNS = ("n", "original", "n_corrected", "corrected", "relabelled", "excluded")


def judged(
    examples: pd.DataFrame, predictions: pd.DataFrame, log: ReviewLog, policy: Mapping[str, Any] | None = None
) -> pd.DataFrame:
    """Returns what both labels make of each prediction: the columns of ``examples``, prediction, new (the corrected
    label), kept (not excluded), right (prediction = label), now_right (prediction = new, of kept ones), relabelled.

    examples: example_id, split, label, fingerprint; predictions: example_id, prediction. Examples without a label or a
    prediction are left out.
    """
    frame = examples.merge(predictions[["example_id", "prediction"]], on="example_id")
    patch = corrected_labels(examples, log, policy).set_index("example_id")
    changed = patch.loc[patch["disposition"] == "relabel", "new_label"].to_dict()
    excluded = patch.index[patch["disposition"] == "exclude"]
    frame = frame[frame["label"].notna() & frame["prediction"].notna()].reset_index(drop=True)
    frame["new"] = [changed.get(one, label) for one, label in zip(frame["example_id"], frame["label"], strict=True)]
    frame["kept"] = ~frame["example_id"].isin(excluded)
    frame["right"] = (frame["prediction"] == frame["label"]).astype(bool)
    frame["now_right"] = (frame["prediction"] == frame["new"]).astype(bool) & frame["kept"]
    frame["relabelled"] = (frame["new"] != frame["label"]).astype(bool)
    return frame


def by_group(found: pd.DataFrame, by: Sequence[str] = ("split",)) -> pd.DataFrame:
    """Accuracy on both labels per group of ``judged``: the columns of ``by``, then ``COLUMNS``. Groups are by the
    original label where ``by`` names it."""
    counted = found[list(by)].assign(
        n=1,
        right=found["right"].astype(int),
        n_corrected=found["kept"].astype(int),
        now_right=found["now_right"].astype(int),
        relabelled=found["relabelled"].astype(int),
        excluded=(~found["kept"]).astype(int),
    )
    table = counted.groupby(list(by), sort=True, observed=True).sum().reset_index()
    table["original"] = table["right"] / table["n"]
    table["corrected"] = (table["now_right"] / table["n_corrected"]).where(table["n_corrected"] > 0)
    return table[[*by, *COLUMNS]]


def by_decile(found: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    """Error on both labels in each decile of a score: decile 1…10, then ``COLUMNS`` (original and corrected are shares
    of errors), low and high (95 % Wilson, of corrected). scores: by example_id; examples without one are left out."""
    found = found.sort_values("example_id")  # ties are cut in this order on every page
    values = found["example_id"].map(scores).astype(float)
    there = values.notna().to_numpy()
    rows = found[there].assign(decile=deciles(values[there].to_numpy()))
    table = by_group(rows, ("decile",)).set_index("decile").reindex(range(1, 11))
    for name in ("n", "n_corrected", "relabelled", "excluded"):
        table[name] = table[name].fillna(0).astype(int)
    for name in ("original", "corrected"):
        table[name] = 1 - table[name].astype(float)
    bounds = [
        wilson(0 if pd.isna(row.corrected) else round(row.corrected * row.n_corrected), row.n_corrected)
        for row in table.itertuples()
    ]
    return table.assign(low=[low for low, _ in bounds], high=[high for _, high in bounds]).reset_index()


def decile_band(found: Mapping[str, pd.DataFrame], scores: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Error on corrected labels per decile over several runs: decile, runs, mean, deviation, low, high, as
    ``scoring.evaluation.decile_band`` has it on the original ones, and changed (changed labels per run).

    found: run → ``judged`` by its model; scores: run → its own score by example_id. Each run is cut into its own
    deciles.
    """
    tables = [by_decile(rows, scores[run]) for run, rows in found.items()]
    every = pd.concat([table.assign(error=table["corrected"], changed=changed(table)) for table in tables])
    per_run = every.groupby("decile")["changed"].sum() / len(tables)
    band = evaluation.decile_band(every)
    return band.assign(changed=band["decile"].map(per_run))


def by_slice(found: pd.DataFrame, members: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on both labels per slice: slice_id, then ``COLUMNS``. members: example_id, slice_id (−1: in none)."""
    members = members[members["slice_id"] >= 0]
    return by_group(found.merge(members[["example_id", "slice_id"]], on="example_id"), ("slice_id",))


def changed(table: pd.DataFrame) -> pd.Series:
    """Returns how many labels of each row the review changed: relabelled and excluded."""
    return table["relabelled"] + table["excluded"]
