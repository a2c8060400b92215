"""Whether two tensors, such as two gradients of the same parameter, are equal up to rounding.

    ‖found − expected‖ ≤ relative · ‖expected‖ + floor            (Euclidean norms, accumulated in float64)

Comparisons of gradients in ``scoring.gradients`` and ``scoring.curvature`` are this one, each with its own tolerances.
Cost: one pass over the tensors. Known limits: a single wrong number in a long tensor may stay below the tolerance.
"""

from __future__ import annotations

from torch import Tensor


def norm(value: Tensor | None) -> float:
    """Returns ‖value‖, accumulated in float64; None stands for zero."""
    return 0.0 if value is None else float(value.double().norm())


def close_in_norm(found: Tensor | None, expected: Tensor | None, relative: float, floor: float = 0.0) -> bool:
    """Returns whether ``found`` differs from ``expected`` by at most relative · ‖expected‖ + floor.

    Tensors of the same shape; None stands for zero. NaN and infinity are close to nothing.

    >>> import torch
    >>> one = torch.ones(2)
    >>> close_in_norm(1.001 * one, one, 0.01), close_in_norm(None, one, 0.01), close_in_norm(None, None, 0.01)
    (True, False, True)
    """
    difference = found if expected is None else expected if found is None else found - expected
    return norm(difference) <= relative * norm(expected) + floor
