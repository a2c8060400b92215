"""Area under the margin (AUM, Pleiss et al. 2020): the label against the strongest other class, by epoch.

    margin_e = z_y − max_{j≠y} z_j        AUM = (1/E) Σ_e margin_e        (their eq. 1 and 2)

with the logits z of the *training* forward in epoch e. A wrong label is pulled down by all the examples that
look like its true class: its margin stays low or negative, even where the network memorises it in the end.
Low is suspicious.

Inputs (epochs, n) margins → (n,). Cost: none beyond the recording. Limits: where the training forward was not
seen (another loop, dynamics recomputed from checkpoints, test examples), the margin of the un-augmented
example in eval mode stands in for it, and ``from_training`` says so; ``eval`` holds that one for every
example.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scoring.scorers import Column, Columns, Scorer, Shard, needed
from scoring.scorers.data_map import mean_over_epochs


def area_under_margin(margins: np.ndarray) -> np.ndarray:
    """(epochs, n) margins in logits, NaN where not seen → (n,) their mean over the epochs seen; low is
    suspicious.

    >>> area_under_margin(np.array([[-2.0, 1.0], [1.0, np.nan]])).tolist()
    [-0.5, 1.0]
    """
    return mean_over_epochs(margins)


@dataclass(frozen=True, kw_only=True)
class AUM(Scorer):
    """Mean margin over the epochs, from the training forward pass if it was recorded."""

    name = "aum"
    needs = ("dynamics", "labels")
    columns = (
        Column(
            name="aum",
            family="dynamics",
            title="Area under the margin",
            unit="logits",
            suspicious="low",
            detects="label error",
            help="Mean over the epochs of (logit of the label − largest other logit) in the training forward pass; "
            "negative if another class usually had the larger logit. If the training forward was not recorded, the "
            "un-augmented example is used.",
        ),
        Column(
            name="eval",
            family="dynamics",
            title="Area under the margin, un-augmented",
            unit="logits",
            suspicious="low",
            detects="label error",
            help="The same mean, always on the un-augmented example in eval mode after each epoch.",
        ),
        Column(
            name="from_training",
            family="",
            title="Margin from the training forward",
            help="1 if AUM is computed from the training forward's logits, 0 if from un-augmented examples.",
        ),
    )

    def score(self, shard: Shard, state: None) -> Columns:
        """Returns the columns from the shard's recorded epochs, example by example."""
        recorded = needed(shard.dynamics, "dynamics")
        seen = area_under_margin(recorded["train_margin"])
        unaugmented = area_under_margin(recorded["margin"])
        there = ~np.isnan(seen)
        known = there | ~np.isnan(unaugmented)
        return {
            "aum": np.where(there, seen, unaugmented),
            "eval": unaugmented,
            "from_training": np.where(known, there.astype(float), np.nan),
        }
