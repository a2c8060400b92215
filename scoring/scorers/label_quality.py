"""Label quality by confident learning (Northcutt et al. 2021), computed by cleanlab.

With t_j the mean probability of class j among the examples labelled j (their confident threshold):

    quality = adjusted probability of the label: p − t, shifted and normalised to sum to 1     (cleanlab's
    self-confidence) issue   = 1 where the label is among those that the estimated joint of given and true labels prunes
    (by noise rate)

The method asks for *out-of-sample* probabilities. Those of a model about its own training examples are *in-sample*: it
has seen the wrong labels and may have learned them. Both are told apart: ``out_of_sample`` holds training examples
that have out-of-fold probabilities (``hardlook score --cross-validate``) and the test split; ``in_sample`` training
examples by the last checkpoint.

Inputs (n, c) probabilities and (n,) labels → (n,) quality and (n,) issue. Cost: O(n c). Limits: thresholds are taken
within each of the two groups of each split, so a group needs examples of every class to be told apart fairly.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard

METHODS = ("self_confidence", "normalized_margin")


def confident_learning(
    probabilities: np.ndarray,
    labels: np.ndarray,
    method: str = "self_confidence",
) -> tuple[np.ndarray, np.ndarray]:
    """(n, c) probabilities and (n,) labels, all known → cleanlab's quality in 0 … 1, low is suspicious, and whether
    the label is an issue, each (n,).

    Classes that no example bears have no threshold; cleanlab leaves them as they are.

    >>> p = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.9, 0.1]])
    >>> quality, issue = confident_learning(p, np.array([0, 0, 1, 1]))
    >>> int(quality.argmin()), issue.tolist()
    (3, [False, False, False, True])
    """
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    p = np.asarray(probabilities, dtype=np.float64)
    p = p / p.sum(1, keepdims=True)
    if len(labels) and (labels == labels[0]).all():  # cleanlab takes labels of one class for that of index 0 alone
        p, labels = np.roll(p, -labels[0], axis=1), np.zeros_like(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with few examples
        quality = get_label_quality_scores(labels, p, method=method, adjust_pred_probs=True)
        issue = find_label_issues(labels, p, filter_by="prune_by_noise_rate", n_jobs=1)
    return np.asarray(quality), np.asarray(issue)


@dataclass(frozen=True, kw_only=True)
class LabelQuality(Scorer):
    """cleanlab's label quality and label issues, from out-of-sample and from in-sample probabilities.

    ``method``: cleanlab's label-quality method, self_confidence or normalized_margin.
    """

    name = "label_quality"
    needs = ("predictions", "labels")
    columns = (
        Column(
            name="out_of_sample",
            family="confident learning",
            title="Label quality, out-of-sample",
            suspicious="low",
            detects="label error",
            help="Confident learning (cleanlab): probability of the label from a model that was not trained on it, "
            "adjusted for the model's mean confidence in each class. Out-of-fold on train, last checkpoint on test.",
        ),
        Column(
            name="out_of_sample_issue",
            family="confident learning",
            title="Label issue, out-of-sample",
            suspicious="high",
            detects="label error",
            help="1 if confident learning flags the label as wrong, from out-of-sample probabilities.",
        ),
        Column(
            name="in_sample",
            family="confident learning",
            title="Label quality, in-sample",
            suspicious="low",
            detects="label error",
            help="The same from the last checkpoint, which was trained on these labels: memorised errors are hidden. "
            "Only for training examples.",
        ),
        Column(
            name="in_sample_issue",
            family="confident learning",
            title="Label issue, in-sample",
            suspicious="high",
            detects="label error",
            help="1 if confident learning flags the label as wrong, from in-sample probabilities.",
        ),
    )

    method: str = "self_confidence"

    def depends(self, context: RunContext) -> str:
        """All labels, since each sets its class's threshold, and the out-of-fold probabilities."""
        fold = context.run.out_of_fold_path
        labels = [context.examples[name].fillna("").tolist() for name in ("example_id", "split", "label")]
        return digest([labels, fold.stat().st_mtime_ns if fold.is_file() else None])

    def fit(self, context: RunContext, workdir: Path) -> pd.DataFrame:
        """Ask cleanlab once per group of examples → its answers by example_id."""
        if self.method not in METHODS:
            raise HardlookError(f"label_quality: method = {self.method!r}; needed one of {', '.join(METHODS)}")
        _, last = context.predicted
        folds = (
            context.aligned(context.run.out_of_fold_path)
            if context.run.out_of_fold_path.is_file()
            else np.full_like(last, np.nan)
        )
        split = context.examples["split"].to_numpy()
        state = pd.DataFrame(np.nan, index=context.examples["example_id"], columns=[c.name for c in self.columns])
        for name, probabilities, of_split in (
            ("out_of_sample", folds, "train"),
            ("out_of_sample", last, "test"),
            ("in_sample", last, "train"),
        ):
            rows = (split == of_split) & (context.labels >= 0) & np.isfinite(probabilities).all(1)
            if rows.any():
                quality, issue = confident_learning(probabilities[rows], context.labels[rows], self.method)
                state.loc[rows, name], state.loc[rows, f"{name}_issue"] = quality, issue.astype(float)
        return state

    def score(self, shard: Shard, state: pd.DataFrame) -> Columns:
        """Look the shard's examples up."""
        mine = state.reindex(shard.example_id)
        return {name: mine[name].to_numpy() for name in mine}
