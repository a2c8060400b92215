"""Class probabilities: from logits, and of the classes other than the label.

Inputs → outputs: arrays (n, c) → arrays (n, c) or (n,). Cost: one pass. No torch.
"""

from __future__ import annotations

import numpy as np


def other_than(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The most probable class other than the label → its index and its probability, each (n,).

    ``probabilities`` (n, c), ``labels`` (n,) indices, −1 = none: then it is the most probable class. With a single
    class there is no other: index −1, NaN.

    >>> other_than(np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]]), np.array([0, -1]))[0].tolist()
    [1, 0]
    """
    p = np.array(probabilities, dtype=np.float32)
    labels = np.asarray(labels)
    rows = np.flatnonzero(labels >= 0)
    p[rows, labels[rows]] = -np.inf
    best = p.argmax(1) if p.shape[1] else np.full(len(p), -1)
    value = p[np.arange(len(p)), best].astype(np.float64)
    nothing = ~np.isfinite(value)
    return np.where(nothing, -1, best), np.where(nothing, np.nan, value)


def softmax(logits: np.ndarray) -> np.ndarray:
    """(n, c) logits → probabilities, each row summing to 1."""
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
