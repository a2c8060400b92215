"""Suspicion: the default ranking of /suspects, combined from the scores that detect errors best
(``scoring.queue.suspicion``).

    suspicion = rank within the split of  (1/3) (rank of dynamics + rank of the last checkpoint + rank of the
    neighbours)

or of the ranking that was fitted to reviewers' decisions, where one was adopted (`hardlook rank`). It comes last: it
reads the files of other scores. Cost: one read of them. Limits: a rank, never a probability of error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scoring.scorers import Column, Columns, RunContext, Scorer, Shard


@dataclass(frozen=True, kw_only=True)
class Suspicion(Scorer):
    """Combined rank of the scores that find label errors; no setting: what combines is measured, not chosen."""

    name = "suspicion"
    needs = ("labels", "scores")
    columns = (
        Column(
            name="suspicion",
            family="suspicion",
            title="Suspicion",
            suspicious="high",
            detects="label error",
            help="Rank within the split, from 0 to 1, of the mean rank of area under the margin, margin over views "
            "(else loss) and neighbours' disagreement, of those that were computed; or of the ranking fitted to "
            "reviewers' decisions. A rank, not a probability of error.",
        ),
    )

    def depends(self, context: RunContext) -> list[Any]:
        """On the other scores' files, and on the fit that was adopted."""
        from scoring.queue.suspicion import adopted

        run = context.run
        files = [run.score_path(name) for name in run.score_names() if name != self.name]
        return [adopted(run), [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]]

    def fit(self, context: RunContext, workdir: Path) -> pd.Series:
        """The ranking of all examples, by example_id."""
        from scoring.queue.suspicion import suspicion

        return suspicion(context.run, context.examples)

    def score(self, shard: Shard, state: pd.Series) -> Columns:
        """The shard's part of it."""
        return {"suspicion": state.reindex(shard.example_id).to_numpy(dtype=np.float64)}
