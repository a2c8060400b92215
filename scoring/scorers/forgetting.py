"""Forgetting events (Toneva et al. 2019): how often an example's prediction changed from right to wrong.

A forgetting event is a step from right to wrong between one recorded epoch and the next. An example that was
right never or always has none; the first kind is *never learned*, which is a flag of its own and no number:
its events are null here, so that it is not ranked among the easiest.

Inputs (epochs, n) right or wrong → (n,) events and (n,) learned. Cost: none beyond the recording. Limits:
epochs are looked at after each epoch over all examples, where the paper looks at an example whenever it is in
a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scoring.audit.arrays import as_flags
from scoring.scorers import Column, Columns, Scorer, Shard, needed


def forgetting_events(correct: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(epochs, n) bool → events (n,) int: right→wrong transitions; learned (n,) bool: right after some epoch.

    >>> correct = np.array([[True, False], [False, False], [True, False], [False, False]])
    >>> events, learned = forgetting_events(correct)
    >>> events.tolist(), learned.tolist()
    ([2, 0], [True, False])
    """
    correct = as_flags(correct, "correct", ndim=2)
    return (correct[:-1] & ~correct[1:]).sum(0), np.asarray(correct.any(0))


@dataclass(frozen=True, kw_only=True)
class Forgetting(Scorer):
    """Forgetting events and never learned, over the recorded epochs."""

    name = "forgetting"
    needs = ("dynamics", "labels")
    least: ClassVar = {"dynamics": 2}
    columns = (
        Column(
            name="events",
            family="forgetting",
            title="Forgetting events",
            unit="events",
            suspicious="high",
            detects="difficulty",
            help="Number of times that the prediction changed from right to wrong between epochs; null if it was "
            "never right.",
        ),
        Column(
            name="never_learned",
            family="dynamics",
            title="Never learned",
            suspicious="high",
            detects="difficulty",
            help="1 if the model predicted the label after none of the epochs, else 0.",
        ),
    )

    def score(self, shard: Shard, state: None) -> Columns:
        """Returns the columns from the shard's recorded epochs; null where an epoch of an example is missing."""
        correct = np.asarray(needed(shard.dynamics, "dynamics")["correct"], dtype=np.float64)
        whole = ~np.isnan(correct).any(0)
        events, learned = forgetting_events(correct == 1)
        return {
            "events": np.where(whole & learned, events.astype(float), np.nan),
            "never_learned": np.where(whole, (~learned).astype(float), np.nan),
        }
