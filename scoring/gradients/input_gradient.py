"""Input gradients: how a class's logit or probability changes with each element of the input.

For an input x, a class a and logits f(x), p = softmax(f(x)):

    logit form         ∂ f_a(x) / ∂x                                   (VoG, Agarwal et al. 2022, eq. 1)
    probability form   ∂ p_a(x) / ∂x

Models, batches and class indices go in; gradients of the shape of the input come out. Integer inputs are
tokens: their gradient is taken at the output of the embedding layer, (n, tokens, dim). ``input_gradients``
serves one batch through a model that it gives back untouched; ``Slot`` (scoring.gradients.checkpoint_slot) serves many
checkpoints.

Cost: one forward pass, and one backward pass to the input per form; no parameter gradient is ever computed.
Tokens cost one more forward pass, in which their embedding is looked for.

Known limits: the logits of an example must not depend on the rest of its batch (true in eval mode). Inputs
are one tensor; a model that needs more (masks) derives them from it, or is wrapped.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from scoring.gradients.backward_passes import FORMS, check_forms, differentiate, gradients_enabled, make_batch
from scoring.gradients.checkpoint_slot import Slot
from scoring.gradients.execution_paths import device_of, dtype_of, has_bfloat16
from scoring.gradients.token_embedding import token_layer
from scoring.models.eval_mode import evaluating
from scoring.models.given_tensors import as_input, as_labels, need_module

__all__ = ["FORMS", "Slot", "channel_mean", "check_forms", "device_of", "dtype_of", "has_bfloat16", "input_gradients"]


def input_gradients(
    model: nn.Module, inputs: Any, classes: Any, *, form: str = "logit", embedding: str | None = None
) -> Tensor:
    """The gradient of one class's logit, or softmax probability, with respect to each example's input.

    ``inputs``: (n, *input) of floats, or (n, tokens) of integers: a tensor, array, data frame or list. ``classes``:
    (n,) indices, likewise. ``embedding`` names the layer that embeds tokens; the one ``nn.Embedding`` that receives
    them where it is None. → (n, *input), or (n, tokens, dim) for tokens, on the device of the inputs and in the
    precision of the model.

    The model runs in eval mode, where it stands, and is given back exactly as it was: training flags, requires_grad,
    .grad and buffers. Raises ``HardlookError`` for inputs that are no numbers, an unknown form, a class that the model
    does not have, or a forward that cuts the graph.

    >>> model = nn.Linear(2, 3)
    >>> gradient = input_gradients(model, torch.ones(1, 2), torch.tensor([2]))
    >>> bool((gradient[0] == model.weight[2]).all())
    True
    """
    check_forms([form])
    need_module(model)
    inputs, classes = as_input(inputs), as_labels(classes, "classes")
    with evaluating(model), gradients_enabled(device_of(model), model):
        batch = make_batch(inputs, classes, device_of(model), dtype_of(model))
        layer = token_layer(model, batch.leaf, embedding) if batch.tokens else None
        _, (gradient,) = differentiate(model, batch, [form], layer)
    return gradient.to(inputs.device)


def channel_mean(gradients: Tensor) -> Tensor:
    """Average the channels of images and series (axis 1), which are no pixels.

    (n, c, *pixels) → (n, *pixels); vectors (n, d) stay. At least float32. Gradients of tokens have no
    channels: each coordinate of an embedding counts by itself, since a layer norm makes their mean vanish
    identically.

    >>> channel_mean(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]))
    tensor([[2., 4.]])
    """
    wide = torch.promote_types(gradients.dtype, torch.float32)
    return gradients.to(wide) if gradients.ndim <= 2 else gradients.mean(1, dtype=wide)
