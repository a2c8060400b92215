"""The curvature of the training loss: a low-rank inverse Hessian of any layers, and the exact Hessian of a head.

The door of these rooms: ``low_rank`` factors what ``lanczos`` finds in ``hessian``'s products (``second_order`` keeps
their graphs, ``prefix`` what lies below the first chosen layer, ``parameters`` which are chosen); ``head`` is exact.
"""

from scoring.curvature.exact_head import HeadHessian, checked_head, head_hessian, row_blocks, with_ones
from scoring.curvature.low_rank import (
    FLOOR,
    MEMORY_BUDGET,
    CurvatureReport,
    Factors,
    Size,
    factorise,
    peak_memory,
    size_of,
)

__all__ = [
    "FLOOR",
    "MEMORY_BUDGET",
    "CurvatureReport",
    "Factors",
    "HeadHessian",
    "Size",
    "checked_head",
    "factorise",
    "head_hessian",
    "peak_memory",
    "row_blocks",
    "size_of",
    "with_ones",
]
