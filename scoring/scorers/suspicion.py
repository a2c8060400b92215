"""Suspicion: the default ranking of /suspects, a rank made of the few scores that have earned it
(``scoring.queue.suspicion``).

    suspicion = rank within the split of  (1/3) (rank of dynamics + rank of the last checkpoint + rank of the
    neighbours)

or of the ranking that was fitted to reviewers' decisions, where one was adopted (`hardlook rank`). It comes last: it
reads the files of other scores. Cost: one read of them. Limits: a rank, never a probability of error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring.scorers import Column, Columns, Scorer, Shard


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
            "(else loss) and neighbours' disagreement, as far as they were computed; or of the ranking fitted "
            "to reviewers' decisions. A rank, no probability of error.",
        ),
    )

    def depends(self, context):
        """On the other scores' files, and on the fit that was adopted."""
        from scoring.queue.suspicion import adopted

        run = context.run
        files = [run.score_path(name) for name in run.score_names() if name != self.name]
        return [adopted(run), [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]]

    def fit(self, run, workdir):
        """The ranking of all examples, by example_id."""
        from scoring.queue.suspicion import suspicion

        return suspicion(run.run, run.examples)

    def score(self, shard: Shard, state) -> Columns:
        """The shard's part of it."""
        return {"suspicion": state.reindex(shard.example_id).to_numpy(dtype=np.float64)}
