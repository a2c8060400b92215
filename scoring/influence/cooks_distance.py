"""Cook's distance: self-influence of every example on the classification head.

    self-influence = ∇ℓ(z)ᵀ (H + δI)⁻¹ ∇ℓ(z)                   Cook's distance (Picard et al. 2022, section 3)

with g = (p − y) ⊗ x̃, x̃ = (x, 1), or x for a head without bias: ``bias=False`` throughout, because a bias
that is not there would count in both g and H. Features (n, d), probabilities (n, c) and labels (n,) give
self-influence (n,). Cost: n (c(d+1))² flops, or as many passes over the features as conjugate gradients take.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import linalg

from scoring.audit.arrays import as_numbers
from scoring.audit.errors import HardlookError
from scoring.curvature import MEMORY_BUDGET, HeadHessian, checked_head, head_hessian, row_blocks, with_ones


def self_influence(
    features: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    damping: float = 1e-3,
    hessian: HeadHessian | np.ndarray | None = None,
    memory_budget: int = MEMORY_BUDGET,
    bias: bool = True,
) -> np.ndarray:
    """Cook's distance gᵀ(H + δI)⁻¹g of each example on the softmax head, in float64. High is suspicious.

    ``features``: (n, d), what the head reads; ``probabilities``: (n, c); ``labels``: (n,) class indices;
    ``damping``: δ > 0, in units of curvature; ``hessian``: from ``head_hessian`` (over the training examples,
    with the head's l2), a (c(d+1), c(d+1)) matrix, or None to take it from these rows; ``bias``: False for a
    head without one, whose Hessian is (cd, cd). → (n,), never negative.

    Raises ``HardlookError`` for damping of 0 or below, for labels outside the classes, and where the exact
    Hessian does not fit the memory budget; ``self_influence_by_gradients`` and ``embedding_self_influence``
    then remain (Picard et al. 2022).

    >>> self_influence(np.array([[0.0]]), np.array([[0.5, 0.5]]), np.array([0]), damping=0.5)
    array([0.5])
    """
    features, probabilities, labels = _checked(features, probabilities, labels, damping)
    width = probabilities.shape[1] * (features.shape[1] + bias)
    if 8 * width**2 > memory_budget:
        raise HardlookError(
            f"the exact head Hessian takes {8 * width**2 / 1e9:.3g} GB ({probabilities.shape[1]} classes × "
            f"{features.shape[1] + bias} features, squared); the budget is {memory_budget / 1e9:.3g} GB: use "
            "self_influence_by_gradients, or the squared length of influence embeddings"
        )
    hessian = head_hessian(features, probabilities, bias=bias) if hessian is None else hessian
    return cook_distances(head_factor(hessian, damping), features, probabilities, labels, bias=bias)


def head_factor(hessian: HeadHessian | np.ndarray, damping: float) -> np.ndarray:
    """The lower Cholesky factor of H + δI, float64, which ``cook_distances`` solves with. Made once per
    model.
    """
    matrix = hessian.mean if isinstance(hessian, HeadHessian) else np.array(hessian, np.float64)
    return _cholesky(matrix, len(matrix), damping)


def cook_distances(
    factor: np.ndarray, features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, *, bias: bool = True
) -> np.ndarray:
    """‖L⁻¹g‖² of each example, (n,) float64: Cook's distance for the factor L of ``head_factor``.

    ``bias``: whether the head, and so the Hessian behind L, has one.
    """
    features, probabilities = checked_head(features, probabilities)
    width = probabilities.shape[1] * (features.shape[1] + bias)
    if factor.shape != (width, width):
        raise HardlookError(f"hessian has shape {factor.shape}; this head needed ({width}, {width})")
    out = np.empty(len(features))
    for rows in row_blocks(len(features), 8 * width, 2**26):
        gradients = _gradients(features[rows], probabilities[rows], labels[rows], bias).reshape(-1, width)
        out[rows] = np.square(linalg.solve_triangular(factor, gradients.T, lower=True, overwrite_b=True)).sum(axis=0)
    return out


def _cholesky(hessian: np.ndarray, width: int, damping: float) -> np.ndarray:
    if hessian.shape != (width, width):
        raise HardlookError(f"hessian has shape {hessian.shape}; needed ({width}, {width})")
    hessian[np.diag_indices(width)] += damping
    try:
        return linalg.cholesky(hessian, lower=True, overwrite_a=True)
    except linalg.LinAlgError as error:
        raise HardlookError(f"the damped Hessian is not positive definite at damping {damping}; raise it") from error


def _checked(
    features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, damping: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    features, probabilities = checked_head(features, probabilities)
    labels = as_numbers(labels, "labels")
    if not damping > 0:
        raise HardlookError(f"damping is {damping}; needed above 0, because the head's Hessian is singular")
    if labels.shape != (len(features),) or not np.issubdtype(labels.dtype, np.integer):
        raise HardlookError(f"labels are {labels.dtype} of shape {labels.shape}; needed {len(features)} class indices")
    if labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise HardlookError(
            f"labels run from {labels.min()} to {labels.max()}; the head has classes 0 to {probabilities.shape[1] - 1}"
        )
    return features, probabilities, labels


def _gradients(features: np.ndarray, probabilities: np.ndarray, labels: np.ndarray, bias: bool) -> np.ndarray:
    """∇ℓ = (p − y) ⊗ x̃ of each example, (n, c, d+1), or (n, c, d) without a bias."""
    errors = probabilities.copy()
    errors[np.arange(len(labels)), labels] -= 1
    return errors[:, :, None] * with_ones(features, bias=bias)[:, None, :]


def self_influence_by_gradients(
    features: np.ndarray,
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    damping: float = 1e-3,
    l2: float = 0.0,
    over: tuple[np.ndarray, np.ndarray] | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 1000,
    bias: bool = True,
) -> np.ndarray:
    """Cook's distance by conjugate gradients, where the exact head Hessian is too large. (n,) float64.

    The Hessian is the mean one ``over`` rows of (features, probabilities), or over the given rows themselves,
    plus ``l2`` on the weights. It is met only in products, forward over backward: the logits' change along a
    direction, then its effect on the gradient. ``tolerance``: residual over gradient length at which an
    example is solved; ``max_steps``: products per block of examples; ``bias``: False for a head without one.

    Raises ``HardlookError`` where that is not enough; more damping needs fewer steps.
    """
    features, probabilities, labels = _checked(features, probabilities, labels, damping)
    base, weights = (features, probabilities) if over is None else checked_head(*over)
    c, d = probabilities.shape[1], features.shape[1]
    if (weights.shape[1], base.shape[1]) != (c, d):
        raise HardlookError(
            f"the Hessian's rows have {base.shape[1]} features and {weights.shape[1]} classes; the "
            f"examples have {d} and {c}"
        )
    x, shift = with_ones(base, bias=bias), np.full(d + bias, damping + l2)
    shift[d:] = damping
    out = np.empty(len(features))
    for rows in row_blocks(len(features), 8 * c * (4 * (d + bias) + len(x)), 2**28):
        right = _gradients(features[rows], probabilities[rows], labels[rows], bias)
        solved = conjugate_gradients(lambda v: _head_product(v, x, weights) + shift * v, right, tolerance, max_steps)
        out[rows] = (solved * right).sum(axis=(1, 2))
    return out


def _head_product(directions: np.ndarray, x: np.ndarray, p: np.ndarray) -> np.ndarray:
    """H V for directions (b, c, d+1), with the mean softmax Hessian over rows x (n, d+1), p (n, c)."""
    change = directions @ x.T  # (b, c, n)
    change -= (p.T * change).sum(axis=1, keepdims=True)
    change *= p.T / len(x)
    return change @ x


def conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray],
    right: np.ndarray,
    tolerance: float = 1e-6,
    max_steps: int = 1000,
) -> np.ndarray:
    """Solve A z = b for each b along the first axis at once, A positive definite and given by its products.

    ``right``: (m, …) → (m, …), each with ‖A z − b‖ ≤ tolerance ‖b‖; a solved one rests while others go on, so
    that what it comes to does not depend on them. Raises ``HardlookError`` after
    ``max_steps``.
    """
    axes = tuple(range(1, right.ndim))
    solution, residual, direction = np.zeros_like(right), right.copy(), right.copy()
    length = goal = (right**2).sum(axis=axes, keepdims=True)
    for _ in range(max_steps):
        left = length > tolerance**2 * goal
        if not left.any():
            return solution
        along = product(direction)
        bend = (direction * along).sum(axis=axes, keepdims=True)
        step = np.divide(length, bend, out=np.zeros_like(length), where=left & (bend > 0))
        solution += step * direction
        residual -= step * along
        new = np.where(left, (residual**2).sum(axis=axes, keepdims=True), length)
        direction = residual + np.divide(new, length, out=np.zeros_like(new), where=length > 0) * direction
        length = new
    worst = float(np.sqrt((length / np.where(goal > 0, goal, 1)).max()))
    raise HardlookError(
        f"conjugate gradients left a residual of {worst:.2g} after {max_steps} steps; needed {tolerance}: "
        "raise damping or max_steps"
    )
