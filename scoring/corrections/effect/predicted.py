"""The change of the loss by corrections, predicted from influence embeddings without training.

Removing a set R from n training examples, or giving it other labels, moves the loss of example z by

    Δℓ(z) ≈ (1/n) μ(z) · Σ_{i ∈ R} (μ_i − μ_i')      (Koh and Liang 2017, section 2; μ' = 0 for a removal)

where μ' embeds the example with its new label. Embeddings of the judged examples (m, r) and of the corrected
ones (k, r) go in; changes of mean loss per slice, class or set come out. Negative is good: the loss falls.

Cost: m · r multiply-adds. Known limits: first order in the weights, and within the kept directions of the
Hessian; a refit (``scoring.corrections.effect.head_refit``) checks it on the head.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from scoring.audit.errors import HardlookError


def predicted_changes(
    embeddings: np.ndarray, before: np.ndarray, n_train: int, after: np.ndarray | None = None
) -> np.ndarray:
    """Predicted change of each example's loss, (m,). Negative: the correction helps.

    ``embeddings``: (m, r) of the judged examples; ``before``: (k, r) of the training examples to be
    corrected, with their given labels; ``after``: (k, r) of the same with their new labels, zeros where one
    is removed, None for a removal of all; ``n_train``: how many examples the Hessian is a mean over.

    >>> predicted_changes(np.array([[1.0]]), np.array([[-2.0]]), 100)
    array([-0.02])
    """
    embeddings, before = np.atleast_2d(embeddings), np.atleast_2d(before)
    after = np.zeros_like(before) if after is None else np.atleast_2d(after)
    if before.shape != after.shape or before.shape[1] != embeddings.shape[1]:
        raise HardlookError(
            f"embeddings have shapes {embeddings.shape}, {before.shape} and {after.shape}; needed (m, r), "
            "(k, r) and (k, r) from the same factors"
        )
    if n_train < 1:
        raise HardlookError(f"n_train is {n_train}; needed the number of training examples")
    moved = before.sum(axis=0, dtype=np.float64) - after.sum(axis=0, dtype=np.float64)
    return embeddings @ moved / n_train


def predicted_table(changes: np.ndarray, groups: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Mean predicted change of loss per group: data frame group, n, change. Groups are boolean masks or index
    arrays.
    """
    sizes = {name: changes[members] for name, members in groups.items()}
    return pd.DataFrame(
        {
            "group": list(sizes),
            "n": [len(values) for values in sizes.values()],
            "change": [values.mean() if len(values) else np.nan for values in sizes.values()],
        }
    )
