"""The loss of each example of a batch, whatever loss function the caller brings.

A loss function, outputs (n, c) and labels (n,) → losses (n,). Cost: the loss itself. Known limits: a loss that returns
one number for the whole batch and knows no ``reduction`` is refused.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from scoring.audit.errors import HardlookError

Loss = Callable[[Tensor, Tensor], Tensor]


def example_losses(loss: Loss, predicted: Tensor, labels: Tensor) -> Tensor:
    """One loss per example, (n,): ``reduction="none"`` is set where the loss knows it, outputs of an example
    averaged.

    Raises ``HardlookError`` for a loss that returns one number for the whole batch, for a label that the
    model has no output for, and for a loss that is not finite.
    """
    if _is_cross_entropy(loss) and not labels.is_floating_point():
        _check_labels(labels, predicted.shape[1])
        predicted = predicted if getattr(loss, "weight", None) is not None else widened(predicted)
    values = _unreduced(loss)(predicted, labels)
    if values.ndim == 0 or len(values) != len(predicted):
        raise HardlookError(
            f"the loss returned shape {tuple(values.shape)} for {len(predicted)} examples; needed one value per "
            "example: build it with reduction='none'"
        )
    values = values.flatten(1).mean(1) if values.ndim > 1 else values
    _check_finite(values.detach())
    return values


def _is_cross_entropy(loss: Loss) -> bool:
    return loss is F.cross_entropy or type(loss) is nn.CrossEntropyLoss


def is_plain_cross_entropy(loss: Loss, labels: Tensor) -> bool:
    """Returns whether the loss is cross-entropy of class indices without weights, smoothing or ignored classes, whose
    head Hessian has a closed form. A subclass may compute anything.
    """
    if labels.is_floating_point():
        return False
    return loss is F.cross_entropy or (
        type(loss) is nn.CrossEntropyLoss
        and "forward" not in vars(loss)
        and loss.weight is None
        and not loss.label_smoothing
        and loss.ignore_index < 0
    )


def _unreduced(loss: Loss) -> Loss:
    """The same loss without averaging over the batch, where it has that setting."""
    if isinstance(loss, nn.Module) and hasattr(loss, "reduction"):
        loss = copy.copy(loss)
        setattr(loss, "reduction", "none")  # noqa: B010  torch types what a module is given as tensors and modules
        return loss
    if inspect.isfunction(loss) and "reduction" in inspect.signature(loss).parameters:
        return lambda predicted, labels: loss(predicted, labels, reduction="none")
    return loss


def widened(outputs: Tensor) -> Tensor:
    """Logits in float64, where the device has it: p − 1 of a confident example is all rounding in float32."""
    return outputs if outputs.device.type == "mps" else outputs.double()


def _check_labels(labels: Tensor, c: int) -> None:
    low, high = (int(labels.min()), int(labels.max())) if len(labels) else (0, 0)
    if low < 0 or high >= c:
        raise HardlookError(f"labels run from {low} to {high}; the model has outputs 0 to {c - 1}")


def _check_finite(losses: Tensor) -> None:
    bad = (~losses.isfinite()).nonzero().flatten()
    if len(bad):
        raise HardlookError(
            f"the loss of example {int(bad[0])} of a batch is {float(losses[bad[0]])}, and {len(bad)} of "
            f"{len(losses)} are not finite; needed finite losses: check the inputs and the weights"
        )
