"""Second-split forgetting time and first-split learning time (Maini et al. 2022, definitions 1 and 2).

With E epochs of training on one half of the examples, then on the other half alone:

    learning time     first epoch of the first part from which the example stays right
    forgetting time   first epoch of the second part from which it stays wrong

counted from 1. Mislabelled examples are learned late and forgotten fast; rare ones are learned late and forgotten
slowly, which tells the two apart. Never learned, or never forgotten for good: NaN.

Inputs (epochs, n) right or wrong → (n,). Cost: none here; `hardlook second-split` makes the trainings
(``scoring.pipeline.retraining.second_split``), and this score reads what it wrote. Limits: training examples with a
label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scoring.audit.arrays import as_flags
from scoring.audit.storage import read_table
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard
from scoring.scorers._commands import command


def second_split_forgetting_time(correct: np.ndarray) -> np.ndarray:
    """(epochs, n) bool, right after each epoch of the second part → (n,) first epoch, from 1, from which it stays
    wrong; NaN where it is right at the end, so was never forgotten for good. Low is suspicious.

    >>> correct = np.array([[True, False, True], [False, False, False], [False, False, True]])
    >>> second_split_forgetting_time(correct).tolist()
    [2.0, 1.0, nan]
    """
    return _stays(~as_flags(correct, "correct", ndim=2))


def first_split_learning_time(correct: np.ndarray) -> np.ndarray:
    """(epochs, n) bool, right after each epoch of the first part → (n,) first epoch, from 1, from which it stays right;
    NaN where it is wrong at the end. High is suspicious.

    >>> first_split_learning_time(np.array([[False, True], [True, False]])).tolist()
    [2.0, nan]
    """
    return _stays(as_flags(correct, "correct", ndim=2))


def _stays(state: np.ndarray) -> np.ndarray:
    """(epochs, n) bool → (n,) first row, from 1, from which the state holds to the end; NaN where it does not."""
    if not len(state):
        return np.full(state.shape[1], np.nan)
    at_the_end = np.logical_and.accumulate(state[::-1]).sum(0)
    return np.where(at_the_end > 0, len(state) - at_the_end + 1.0, np.nan)


@dataclass(frozen=True, kw_only=True)
class SecondSplit(Scorer):
    """The results of `hardlook second-split`, mean over its seeds."""

    name = "second_split"
    needs = ("labels",)
    columns = (
        Column(
            name="forgetting_time",
            family="second split",
            title="Second-split forgetting time",
            unit="epochs",
            suspicious="low",
            detects="label error",
            help="Epoch of a further training on other examples from which the prediction stays wrong: low if the "
            "label was memorised although other data contradicts it; null if it was never forgotten.",
        ),
        Column(
            name="learning_time",
            family="second split",
            title="First-split learning time",
            unit="epochs",
            suspicious="high",
            detects="difficulty",
            help="Epoch of training from which the prediction stays right: high for rare, hard or mislabelled "
            "examples; null if the label was never learned.",
        ),
        Column(
            name="forgotten",
            family="second split",
            title="Forgotten for good",
            unit="share of seeds",
            suspicious="high",
            detects="label error",
            help="Share of seeds for which the prediction was wrong at the end of the training on other examples.",
        ),
    )

    def lacks(self, context: RunContext) -> str | None:
        """The command that makes the file, where it is not there."""
        if not context.run.second_split_path.is_file():
            return f"second_split needs two trainings per seed; run `{command(context, 'second-split')}`"
        return None

    def depends(self, context: RunContext) -> int:
        """The file that it reads."""
        return context.run.second_split_path.stat().st_mtime_ns

    def fit(self, context: RunContext, workdir: Path) -> dict[tuple[str, str | None], np.ndarray]:
        """(example_id, label) → the three numbers."""
        table = read_table(context.run.second_split_path).to_pandas()
        rows = table[[column.name for column in self.columns]].to_numpy(dtype=float)
        return dict(zip(zip(table["example_id"], table["label"], strict=True), rows, strict=True))

    def score(self, shard: Shard, state: dict[tuple[str, str | None], np.ndarray]) -> Columns:
        """Null where the example was not trained on, or under another label."""
        return measured(self, shard, state)


def measured(scorer: Scorer, shard: Shard, state: Mapping[tuple[str, str | None], np.ndarray]) -> Columns:
    """Look up (example_id, label) → one number per column, NaN where nothing was measured for them."""
    nothing = np.full(len(scorer.columns), np.nan)
    labels = [shard.classes[label] if label >= 0 else None for label in shard.labels]
    rows = [state.get(key, nothing) for key in zip(shard.example_id, labels, strict=True)]
    values = np.stack(rows) if rows else np.empty((0, len(scorer.columns)))
    return {column.name: values[:, at] for at, column in enumerate(scorer.columns)}
