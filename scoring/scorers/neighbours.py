"""kNN disagreement: the share of an example's nearest labelled training examples with another label.

Neighbours are those of ``scoring.data.nearest_neighbours``, on the features of the last checkpoint;
``neighbours.parquet`` keeps the nearest of them. The score is a share of the k nearest (k = 200: on 20,000 images with
human label errors it finds far more than k = 10), fewer for a class that has fewer.

Inputs: features and labels. Cost: one search. Limits: features that have memorised wrong labels put them among
examples of that wrong label; the mean distance needs no label and ranks what is unlike the training data (Sun et al.
2022), not what is mislabelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest
from scoring.data.nearest_neighbours import (
    EXACT,
    KEPT,
    disagreement,
    fair_k,
    nearest,
    write_neighbours,
)
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard


@dataclass(frozen=True, kw_only=True)
class NeighbourScores(Scorer):
    """Disagreement with the k nearest labelled training examples, and the distance to them.

    ``k``: number of neighbours, reduced to the size of the example's class. ``fewest``: lower limit of that reduction.
    ``exact``: largest number of training examples for which the neighbour search is exact.
    """

    name = "neighbours"
    needs = ("features", "labels")
    columns = (
        Column(
            name="disagreement",
            family="neighbours",
            title="kNN disagreement",
            unit="share",
            suspicious="high",
            detects="label error",
            help="Share of the nearest labelled training examples (200, fewer for a small class) that have another "
            "label; cosine distance on the last checkpoint's features.",
        ),
        Column(
            name="distance",
            family="distance",
            title="Distance to neighbours",
            unit="cosine distance",
            suspicious="high",
            detects="out of distribution",
            uses_label=False,
            help="Mean cosine distance to the 50 nearest training examples; needs no label. High for examples that "
            "are unlike all training examples.",
        ),
    )

    k: int = 200
    fewest: int = 10
    exact: int = EXACT

    def depends(self, context: RunContext) -> str:
        """The training examples and their labels: they are everybody's neighbours."""
        train = context.examples[context.examples["split"] == "train"]
        return digest([train[name].fillna("").tolist() for name in ("example_id", "fingerprint", "label")])

    def fit(self, context: RunContext, workdir: Path) -> pd.DataFrame:
        """Search once, write ``neighbours.parquet`` → what the neighbours say, by example_id."""
        base = training_base(context)
        own = np.full(len(context.examples), -1)
        own[base] = np.arange(len(base))
        most = min(max(self.k, KEPT), len(base) - 1)
        context.say(
            f"neighbours: {most} nearest of {len(base):,} training examples"
            f"{', exactly' if len(base) <= self.exact else ', approximately'}"
        )
        found = nearest(
            context.features, context.features[base], most, own=own, exact=self.exact, seed=context.audit.seed
        )
        ids = context.examples["example_id"].to_numpy(dtype=object)
        write_neighbours(
            context.run.neighbours_path, ids, ids[base], found, {"k": most, "exact": len(base) <= self.exact}
        )
        labels = context.labels[base]
        k = fair_k(self.k, labels, context.labels, self.fewest)
        near = found.distances[:, :KEPT]
        there = np.isfinite(near).any(1)
        distance = np.full(len(near), np.nan)
        distance[there] = np.nanmean(near[there], axis=1)
        return pd.DataFrame(
            {"disagreement": disagreement(found.positions, labels, context.labels, k), "distance": distance}, index=ids
        )

    def score(self, shard: Shard, state: pd.DataFrame) -> Columns:
        """Look the shard's examples up."""
        mine = state.reindex(shard.example_id)
        return {name: mine[name].to_numpy() for name in mine}


def training_base(context: RunContext) -> np.ndarray:
    """Positions of the labelled training examples that have features; none is an error."""
    rows = (context.examples["split"] == "train").to_numpy() & (context.labels >= 0)
    rows &= np.isfinite(context.features).all(1)
    if rows.sum() < 2:
        raise HardlookError(f"neighbours need at least 2 labelled training examples with features, found {rows.sum()}")
    return np.flatnonzero(rows)
