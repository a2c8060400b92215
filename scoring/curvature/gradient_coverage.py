"""Finds the chosen parameters with respect to which the logits have a gradient.

A forward pass may cut the graph (``no_grad``, ``inference_mode``, ``detach``: the usual linear probe), or
leave a layer unused. Such parameters have no curvature and no gradient. Chosen parameters go in; those that
are reached, and a sentence on the others, come out.

Cost: one forward and backward pass over a few examples; over further batches only while some parameter was
not reached, because others may be routed to it. Known limits: none known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from scoring.audit.errors import HardlookError
from scoring.curvature.chosen_parameters import Chosen, batches, few
from scoring.curvature.equivalence import probe_gradient
from scoring.gradients import device_of
from scoring.models.eval_mode import outputs


def parameters_with_gradient(model: nn.Module, data: Iterable[Any], chosen: Chosen) -> tuple[Chosen, list[str]]:
    """Returns the chosen parameters with respect to which some example's logits have a gradient, and a note on the
    others.

    Call it inside ``differentiable(model, chosen.tensors)``. Raises ``HardlookError`` where none is left.
    """
    device = device_of(model)
    missing = _without_gradient(model, few(data, device)[0], dict(chosen.parameters))
    for inputs, _ in batches(data, device) if missing else ():
        missing = _without_gradient(model, inputs, missing)
        if not missing:
            break
    if not missing:
        return chosen, []
    left = chosen.without(missing)
    gone = ", ".join(chosen.owners(missing))
    if not left.parameters:
        raise HardlookError(
            f"the logits have no gradient with respect to any weight of {gone}: the model's forward cuts the graph "
            "above them (no_grad, inference_mode, detach, numpy) or does not use them; name trained layers, such as "
            "the head"
        )
    note = (
        f"the logits have no gradient with respect to {gone} (no_grad, inference_mode or detach in the forward, or "
        f"unused): left out; the layers are {', '.join(left.owners(left.parameters))}"
    )
    return left, [note]


def _without_gradient(model: nn.Module, inputs: Any, missing: dict[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Returns those of the missing parameters for which this batch has no gradient either."""
    gradients = probe_gradient(outputs(model, inputs), list(missing.values()))
    return {name: p for (name, p), g in zip(missing.items(), gradients, strict=True) if g is None}
