"""Near duplicates: examples whose features are unusually close to each other (``scoring.data.duplicates.near``).

Inputs: features of all splits; no label. Outputs: per example how near the nearest other content is, and
``near_duplicates.parquet`` with the groups. Cost: one search. Limits: what the model's features tell apart is no near
duplicate, however alike it looks, and the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from scoring.audit.storage import digest
from scoring.data.duplicates import near_duplicates, near_groups
from scoring.data.duplicates.near import CHANCE, write_members
from scoring.data.nearest_neighbours import EXACT
from scoring.scorers import Column, Columns, RunContext, Scorer, Shard


@dataclass(frozen=True, kw_only=True)
class NearDuplicateScores(Scorer):
    """Distance to the nearest example of other content, in units of that to the tenth; groups of near duplicates.

    ``chance``: accepted share of false near duplicates; a higher share finds more copies and more false ones.
    ``exact``: largest number of examples for which the neighbour search is exact.
    """

    name = "near_duplicates"
    needs = ("features",)
    columns = (
        Column(
            name="ratio",
            family="near duplicates",
            title="Nearest of ten",
            suspicious="low",
            uses_label=False,
            help="Cosine distance of the features to the nearest example of other content, divided by the distance "
            "to the tenth nearest. Near 0 for a copy that was brightened, re-encoded or cropped slightly "
            "differently; needs no label. /overview lists the groups of near duplicates.",
        ),
    )

    chance: float = CHANCE
    exact: int = EXACT

    def depends(self, context: RunContext) -> list[Any]:
        """Everybody's content and features: one example more may be a near duplicate of any."""
        examples = context.examples[["example_id", "fingerprint"]].fillna("")
        return [context.run.features_path.stat().st_mtime_ns, digest(examples.to_numpy().tolist())]

    def fit(self, context: RunContext, workdir: Path) -> pd.Series:
        """Search once, write the groups → ratio by example_id."""
        examples, ids = context.examples, context.examples["example_id"].to_numpy(dtype=object)
        content = examples["fingerprint"].fillna(examples["example_id"]).to_numpy(dtype=object)
        found = near_groups(context.features, content, chance=self.chance, exact=self.exact, seed=context.audit.seed)
        write_members(context.run.near_duplicates_path, ids, found, {"chance": self.chance})
        members = pd.DataFrame({"group": found.group, "example_id": ids})
        groups = near_duplicates(members[found.group >= 0], examples)
        context.say(
            f"near_duplicates: {len(groups):,} groups, {groups['conflicting'].sum():,} with conflicting labels, "
            f"{groups['across_splits'].sum():,} across splits; nearer than {found.threshold:.2f} of the distance to "
            f"the tenth, in {found.dimension:.1f} dimensions"
        )
        return pd.Series(found.ratio, index=ids)

    def score(self, shard: Shard, state: pd.Series) -> Columns:
        """Look the shard's examples up."""
        return {"ratio": state.reindex(shard.example_id).to_numpy()}
