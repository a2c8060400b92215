"""Checks that a forward pass is differentiable, deterministic and of full precision, as curvature needs it.

A model and a few examples go in; nothing comes out, or an error of one sentence. Cost: two forward passes.

Known limits: where a model computes in bfloat16 or float16 above the chosen layers (``torch.autocast``,
casts), it is refused. Its gradients hold two or three digits, so that small eigenvalues of its curvature,
whose inverse weighs most, would be rounding; and turned to float32 it would be another model. Below the
chosen layers, which are only read, any precision will do.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scoring.audit.errors import HardlookError
from scoring.models.eval_mode import outputs

_HALVES = (torch.bfloat16, torch.float16)


def check_forward(model: nn.Module, inputs: Any) -> None:
    """Raises ``HardlookError`` for logits without a gradient, of low precision, or that are not reproducible.

    Call it inside ``differentiable(model, parameters)``.
    """
    with _Halves() as seen:
        one = outputs(model, inputs)
    if not one.requires_grad:
        raise HardlookError(
            "the logits have no gradient with respect to any weight of the model: its forward cuts the graph "
            "(no_grad, detach, numpy) or does not use its weights; remove that"
        )
    if seen.dtype is not None:
        raise HardlookError(
            f"the chosen layers, or what follows them, compute in {str(seen.dtype).removeprefix('torch.')} "
            "(torch.autocast or a cast in the forward): second derivatives need float32 or float64; build the model "
            "without it for the audit"
        )
    with torch.no_grad():
        one, two = one.detach(), outputs(model, inputs)
    if not torch.allclose(one, two, rtol=1e-4, atol=1e-5, equal_nan=True):
        raise HardlookError(
            "the model gives different outputs for the same inputs in eval mode (dropout called as a function keeps "
            "dropping: pass training=self.training); needed a deterministic model"
        )


class _Halves(TorchFunctionMode):
    """Notes the precision of a result that has a gradient in fewer than 32 bits; None where none has."""

    dtype: torch.dtype | None = None

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.requires_grad and result.dtype in _HALVES:
            self.dtype = result.dtype
        return result
