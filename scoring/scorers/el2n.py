"""EL2N (Paul et al. 2021, definition 2.2): the norm of an example's error vector, early in training.

    EL2N = E ‖p_e − y‖₂

over the first epochs e of the recorded training, with the softmax probabilities p_e and the one-hot label y. The paper
takes one early epoch (about the tenth part of the training) and averages over ten initialisations; here it is averaged
over the first epochs of the one training, and ``all`` over every epoch. High: hard to fit early, which says noisy or
important; the scores of the very first epochs are noisier than those of `all`.

Inputs (epochs, n) error norms → (n,). Cost: none beyond the recording. Limits: one initialisation; the norm is of the
un-augmented example in eval mode. `hardlook repeat` trains with other seeds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.scorers import Column, Columns, Scorer, Shard, needed
from scoring.scorers.data_map import mean_over_epochs


def error_norm_early(error_norms: np.ndarray, early: float = 0.25) -> np.ndarray:
    """(epochs, n) ‖p − y‖₂, NaN where not recorded → (n,) mean over the first ⌈early · epochs⌉ of them.

    >>> error_norm_early(np.array([[1.0], [0.5], [0.1], [0.1]]), early=0.5).tolist()
    [0.75]
    """
    if not 0 < early <= 1:
        raise HardlookError(f"el2n: early = {early}; needed a share of the epochs above 0 and at most 1")
    return mean_over_epochs(error_norms[: math.ceil(early * len(error_norms))])


@dataclass(frozen=True, kw_only=True)
class EL2N(Scorer):
    """Mean length of (probabilities − one-hot label), early in training and throughout.

    ``early``: share of the recorded epochs that counts as early, rounded up.
    """

    name = "el2n"
    needs = ("dynamics", "labels")
    columns = (
        Column(
            name="early",
            family="dynamics",
            title="EL2N, early",
            suspicious="high",
            detects="difficulty",
            stage="early",
            help="Mean length of the error vector (probabilities − one-hot label, 0 to √2) over the first quarter of "
            "the recorded epochs: high for examples that are hard early in training.",
        ),
        Column(
            name="all",
            family="dynamics",
            title="EL2N, all epochs",
            suspicious="high",
            detects="label error",
            stage="all",
            help="The same mean over all recorded epochs: high if the model never learned the label.",
        ),
    )

    early: float = 0.25

    def score(self, shard: Shard, state: None) -> Columns:
        """Returns the columns from the shard's recorded epochs."""
        norms = needed(shard.dynamics, "dynamics")["error_norm"]
        return {"early": error_norm_early(norms, self.early), "all": error_norm_early(norms, 1.0)}
