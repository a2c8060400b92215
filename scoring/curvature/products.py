"""The common base of the methods that multiply by a Hessian.

    H = (1/n) Σ_i ∇²ℓ(f(x_i), y_i) + l2 · I        (l2 on weight matrices; biases and norms are not penalised)

A vector goes in as a list of tensors shaped like the chosen parameters; H v comes out in the same shape.
Cost: that of the way. Known limits: those of the way.
"""

from __future__ import annotations

from torch import Tensor

from scoring.audit.errors import HardlookError
from scoring.curvature.chosen_parameters import Chosen
from scoring.curvature.lanczos import Vector


class Products:
    """The mean over examples, the l2 part, and the check that a product is finite.

    ``method``: how it multiplies, in words; ``n``: examples; ``bytes``: held; ``notes``: what a reader should
    know.
    """

    n: int
    bytes: int

    def __init__(self, chosen: Chosen, l2: float):
        self.chosen = chosen
        self.l2 = l2
        self.notes: list[str] = []

    @property
    def method(self) -> str:
        """Returns how it multiplies, in words."""
        raise NotImplementedError

    def __call__(self, vector: Vector) -> Vector:
        """H v for a list of tensors shaped like the chosen parameters."""
        product = [part / self.n for part in self._summed(vector)]
        for (name, parameter), part, v in zip(self.chosen.parameters.items(), product, vector, strict=True):
            if self.l2 and parameter.ndim > 1:
                part.add_(v, alpha=self.l2)
            if not part.isfinite().all():
                raise HardlookError(
                    f"the gradient of {name} has a second derivative that is not finite; check the weights, and "
                    "functions with infinite slope (sqrt, norm or log at 0)"
                )
        return product

    def _summed(self, vector: Vector) -> list[Tensor]:
        raise NotImplementedError
