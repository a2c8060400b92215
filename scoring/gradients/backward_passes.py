"""One forward pass of a model, and one backward pass to its input per form.

For logits f(x), a class a and p = softmax(f(x)), the passes give

    logit form         ∂ f_a(x) / ∂x
    probability form   ∂ p_a(x) / ∂x = Σ_j s_j ∂ f_j(x) / ∂x,   s_a = p_a Σ_{j≠a} p_j,   s_j = −p_a p_j

A model and a ``Batch`` go in; logits (n, c) and gradients like the input come out, (n, t, dim) at the
embedding for tokens. Cost: one forward pass, and one backward pass per form; no parameter gradient is
computed.

Known limits: gradients are those of autograd; where a forward cuts a part of its graph, that part counts as
constant.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError, first_line
from scoring.gradients.token_embedding import embedded
from scoring.models.eval_mode import logits_of

if TYPE_CHECKING:
    from scoring.models import AuditedModel

FORMS = ("logit", "probability")
CUT = (
    "no input gradient: the model's forward cuts the graph between its input and its logits (no_grad, "
    "inference_mode, detach, numpy); remove that to compute this score"
)


def check_forms(forms: Sequence[str]) -> None:
    """Refuse a form that is neither "logit" nor "probability"."""
    for form in forms:
        if form not in FORMS:
            raise HardlookError(f"form = {form!r}; needed one of {', '.join(FORMS)}")


@dataclass(frozen=True)
class Batch:
    """A batch on its device, to be differentiated by as often as wanted: leaf (n, *input), classes (n, 1)."""

    leaf: Tensor
    classes: Tensor
    highest: int

    @property
    def tokens(self) -> bool:
        """Returns whether the inputs are tokens, whose gradient is taken at the embedding."""
        return not self.leaf.is_floating_point()

    def twice(self) -> Batch:
        """Every example twice, in a batch of its own."""
        leaf = torch.cat([self.leaf.detach()] * 2)
        return Batch(leaf if self.tokens else leaf.requires_grad_(), torch.cat([self.classes] * 2), self.highest)

    def first(self, count: int) -> Batch:
        """The first ``count`` examples."""
        leaf = self.leaf.detach()[:count].requires_grad_(self.leaf.requires_grad)
        return Batch(leaf, self.classes[:count], self.highest)


def make_batch(inputs: Tensor, classes: Any, device: torch.device, dtype: torch.dtype) -> Batch:
    """Inputs and class indices, checked once and where they lie: a look at the device would wait for it."""
    if not isinstance(inputs, Tensor) or inputs.is_complex():
        found = "a tensor of complex numbers" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise HardlookError(f"inputs are {found}; needed one tensor, (n, *input) of floats or (n, tokens) of integers")
    classes = torch.as_tensor(classes)
    if classes.is_floating_point() and bool((classes != classes.round()).any()):
        raise HardlookError("classes hold numbers that are not whole; needed indices of the model's outputs")
    classes = classes.long()
    if classes.shape != (len(inputs),):
        raise HardlookError(f"classes have shape {tuple(classes.shape)}; needed ({len(inputs)},), one per example")
    lowest, highest = (int(classes.min()), int(classes.max())) if len(classes) else (0, 0)
    if lowest < 0:
        raise HardlookError(f"classes run from {lowest} to {highest}; needed indices of the model's outputs")
    return Batch(_leaf(inputs, device, dtype), classes[:, None].to(device), highest)


def _leaf(inputs: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A copy of the inputs to differentiate by: floats in the model's precision, tokens as they are."""
    if not inputs.is_floating_point():
        return inputs.detach().to(device, copy=True)
    return inputs.detach().to(device, dtype, copy=True).requires_grad_()


# -- forward -------------------------------------------------------------------------------------------------


def forward(
    model: nn.Module | AuditedModel,
    leaf: Tensor,
    layer: str | None = None,
    *,
    layout: torch.memory_format = torch.preserve_format,
) -> tuple[Tensor, Tensor]:
    """Run the model → the tensor to differentiate by (the leaf, or what ``layer`` makes of tokens), and the
    logits.

    The model gets a copy of the leaf, so that a first layer which works in place harms nothing.
    """
    if leaf.is_floating_point():
        return leaf, logits_of(model(leaf.clone(memory_format=layout)))
    if layer is None or not isinstance(model, nn.Module):
        raise HardlookError("tokens are integers and have no gradient; name the layer that embeds them")
    with embedded(model, layer, leaf, lambda output: output.detach().requires_grad_()) as calls:
        logits = logits_of(model(leaf.clone()))
    if len(calls) != 1:
        raise HardlookError(
            f"the embedding {layer!r} was called {len(calls)} times in one forward pass; needed once: name the layer "
            "that embeds the tokens"
        )
    return calls[0], logits


def forward_through(model: nn.Module, tokens: Tensor, layer: str, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Run the model on tokens, with what ``layer`` makes of them changed on its way → the logits."""
    with embedded(model, layer, tokens, change):
        return logits_of(model(tokens.clone()))


# -- backward ------------------------------------------------------------------------------------------------


Backward = Callable[[Tensor, Tensor, Tensor, bool], Tensor | None]
"""(logits, watched, seed, whether the graph is used again) → the gradient by what is watched."""
Form = str | Callable[[Tensor, Tensor], Tensor]
"""A name, or (n, c) logits and (n, 1) classes → (n, c): the derivative of what is differentiated by the
logits."""


def differentiate(
    model: nn.Module | AuditedModel,
    batch: Batch,
    forms: Sequence[Form],
    layer: str | None = None,
    *,
    layout: torch.memory_format = torch.preserve_format,
) -> tuple[Tensor, list[Tensor]]:
    """One forward pass, one backward pass per form → (n, c) logits, and per form a gradient like the input.

    An example that is alone in its batch is sent twice: PyTorch's batch norm gives a wrong gradient for a
    batch of one (findings/batchnorm_backward_of_one_example.sh). Re-entrant activation checkpointing allows
    only whole backward passes, so one is tried where a partial one fails. Raises ``HardlookError`` where the
    logits have no gradient by the input although the model runs; what its forward raises by itself is raised
    as it is.
    """
    if len(batch.leaf) == 1:
        logits, gradients = differentiate(model, batch.twice(), forms, layer, layout=layout)
        return logits[:1], [gradient[:1] for gradient in gradients]
    failure = RuntimeError("no backward pass was tried")
    for backward in (_partial, _whole):
        try:
            watched, logits = forward(model, batch.leaf, layer, layout=layout)
            return logits.detach(), _backward(logits, watched, batch, forms, backward)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            failure = error
    with torch.no_grad():  # raises what the forward itself has to say
        model(batch.leaf.detach().clone())
    raise HardlookError(
        f"no input gradient: the forward pass works, but autograd fails: {first_line(failure)}"
    ) from failure


def _backward(logits: Tensor, watched: Tensor, batch: Batch, forms: Sequence[Form], backward: Backward) -> list[Tensor]:
    """One backward pass per form over the same graph → gradients like ``watched``."""
    if batch.highest >= logits.shape[1]:
        raise HardlookError(f"class {batch.highest} is out of range; the model has outputs 0 to {logits.shape[1] - 1}")
    if not logits.requires_grad:
        raise HardlookError(CUT)
    derivatives = [SEEDS[form] if isinstance(form, str) else form for form in forms]
    seeds = [derivative(logits.detach(), batch.classes) for derivative in derivatives]
    gradients = [backward(logits, watched, seed, seed is not seeds[-1]) for seed in seeds]
    if any(gradient is None for gradient in gradients):
        raise HardlookError(CUT)
    return [gradient for gradient in gradients if gradient is not None]


def _partial(logits: Tensor, watched: Tensor, seed: Tensor, retain: bool) -> Tensor | None:
    """The gradient by one tensor alone; None where no path leads to it."""
    return torch.autograd.grad(logits, watched, seed, retain_graph=retain, allow_unused=True)[0]


def _whole(logits: Tensor, watched: Tensor, seed: Tensor, retain: bool) -> Tensor | None:
    """The same by a backward pass to every leaf; the parameters are frozen."""
    watched.grad = None
    torch.autograd.backward(logits, seed, retain_graph=retain)
    gradient, watched.grad = watched.grad, None
    return gradient


def _logit_seed(logits: Tensor, classes: Tensor) -> Tensor:
    """One at the class."""
    return torch.zeros_like(logits).scatter_(1, classes, 1)


def _probability_seed(logits: Tensor, classes: Tensor) -> Tensor:
    """∂ p_a / ∂ logits. 1 − p_a is summed from the other classes: a difference is 0 at p ≈ 1."""
    p = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
    chosen = p.gather(1, classes)
    others = p.scatter(1, classes, 0)
    seed = -chosen * others
    return seed.scatter_(1, classes, chosen * others.sum(1, keepdim=True)).to(logits.dtype)


SEEDS = {"logit": _logit_seed, "probability": _probability_seed}


@contextlib.contextmanager
def gradients_enabled(device: torch.device, model: nn.Module) -> Iterator[None]:
    """Autograd on, whatever the caller set; on CUDA, kernels that repeat their bits, in full float32.

    cuDNN's recurrent layers have no backward pass in eval mode, so models with one run without cuDNN.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if device.type == "cuda":
            recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
            stack.enter_context(
                torch.backends.cudnn.flags(enabled=not recurrent, benchmark=False, deterministic=True, allow_tf32=False)
            )
        yield
