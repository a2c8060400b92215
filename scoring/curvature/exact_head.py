"""The exact Hessian of a softmax head, as sums that can be added over shards.

For logits W x + b with x̃ = (x, 1):

    H = (1/n) Σ_i (diag p_i − p_i p_iᵀ) ⊗ x̃_i x̃_iᵀ + l2 · I on W        (x̃ = x for a head without bias)

Features (n, d) and probabilities (n, c) go in; additive sums come out. Cost: n (c(d+1))² flops, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from scoring.audit.arrays import as_numbers
from scoring.audit.errors import HardlookError


@dataclass(frozen=True)
class HeadHessian:
    """Additive sums of a softmax head's Hessian: add those of shards, then take ``.mean``.

    ``sums``: (c(d+1), c(d+1)) float64, class by class, the bias last in each; ``n``: examples in it;
    ``bias``: whether the head has one, (cd, cd) where not.
    """

    sums: np.ndarray
    n: int
    classes: int
    l2: float = 0.0
    bias: bool = True

    def __add__(self, other: HeadHessian) -> HeadHessian:
        """The sums of both sets of examples. Raises ``HardlookError`` for another head or another l2."""
        mine, others = ((h.sums.shape, h.classes, h.l2, h.bias) for h in (self, other))
        if mine != others:
            raise HardlookError(
                f"cannot add head Hessians of shape {self.sums.shape} and {other.sums.shape}, {self.classes} and "
                f"{other.classes} classes, l2 {self.l2} and {other.l2}, bias {self.bias} and {other.bias}; needed the "
                "same head"
            )
        return replace(self, sums=self.sums + other.sums, n=self.n + other.n)

    @property
    def mean(self) -> np.ndarray:
        """H, (c(d+1), c(d+1)): the mean over the examples plus the l2 part on the weights."""
        width = len(self.sums) // self.classes
        weights = np.tile(np.arange(width) < width - self.bias, self.classes)
        mean = self.sums / self.n
        mean[np.diag_indices_from(mean)] += self.l2 * weights
        return mean


def head_hessian(
    features: np.ndarray, probabilities: np.ndarray, *, l2: float = 0.0, block: int = 2**26, bias: bool = True
) -> HeadHessian:
    """Additive sums for the mean Hessian of the softmax head in float64, its bias included where it has one.

    ``features``: (n, d), what the head reads; ``probabilities``: (n, c), what it says; ``l2``: the factor of
    ½‖W‖² in the loss (weight decay; (1 − l1_ratio)/(C n) for scikit-learn), biases not penalised; ``block``:
    bytes of scratch; ``bias``: False for a head without one. → ``HeadHessian`` over the flattened (c, d+1)
    parameters, the bias last in each class; (c, d) without a bias. It has at least d+1 (d) zero eigenvalues
    where l2 is 0, because a shift common to all classes changes nothing: damp it before inverting.

    >>> head_hessian(np.array([[2.0]]), np.array([[0.5, 0.5]])).mean[:2, :2]
    array([[1.  , 0.5 ],
           [0.5 , 0.25]])
    """
    features, probabilities = checked_head(features, probabilities)
    (n, d), c = features.shape, probabilities.shape[1]
    width = c * (d + bias)
    sums = np.zeros((width, width))
    for rows in row_blocks(n, 8 * width, block):
        _add_rows(sums, with_ones(features[rows], bias=bias), probabilities[rows])
    return HeadHessian(sums, n, c, l2, bool(bias))


def _add_rows(sums: np.ndarray, x: np.ndarray, p: np.ndarray) -> None:
    """sums += Σ_i (diag p_i − p_i p_iᵀ) ⊗ x_i x_iᵀ, as one symmetric product and c small ones."""
    weighted = (p[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    sums -= weighted.T @ weighted
    width = x.shape[1]
    for a in range(p.shape[1]):
        part = slice(a * width, (a + 1) * width)
        sums[part, part] += weighted[:, part].T @ x


def checked_head(features: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as finite float64 matrices of as many rows, or ``HardlookError``."""
    features = as_numbers(features, "features").astype(np.float64)
    probabilities = as_numbers(probabilities, "probabilities").astype(np.float64)
    if features.ndim != 2 or probabilities.ndim != 2 or len(features) != len(probabilities) or not len(features):
        raise HardlookError(
            f"features have shape {features.shape} and probabilities {probabilities.shape}; needed (n, d) and (n, c) "
            "with the same n ≥ 1"
        )
    for name, values in (("features", features), ("probabilities", probabilities)):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise HardlookError(f"{name} of row {row} are not finite; leave out such examples")
    return features, probabilities


def with_ones(features: np.ndarray, *, bias: bool = True) -> np.ndarray:
    """x̃ = (x, 1): (n, d) → (n, d+1); the features themselves for a head without bias."""
    return np.hstack([features, np.ones((len(features), 1))]) if bias else features


def row_blocks(n: int, bytes_per_row: int, block: int) -> Sequence[slice]:
    """Slices over n rows of at most ``block`` bytes each, at least one row."""
    step = max(1, block // bytes_per_row)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
