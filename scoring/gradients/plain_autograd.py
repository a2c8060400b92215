"""Runs forward passes that switch autograd off or on so that they can be differentiated twice.

    torch.utils.checkpoint   saves memory by running a part again in the backward pass: one of its kinds refuses
                             ``torch.autograd.grad``, neither is made for a graph that is kept and
                             differentiated
                             again                                              → the part is called as it stands
    torch.inference_mode     gives tensors that no backward pass may save      → ``no_grad``, which computes the same

Inside ``with plain_autograd():`` both are replaced where PyTorch looks them up at each call, so it does not
matter under what name a model imported them. The values of a forward pass are the same.

Cost: none, but the memory that checkpointing would have saved. Known limits: what is replaced is PyTorch's
own; a library with a checkpoint function of its own keeps it. It is replaced for all threads of the process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import checkpoint

from scoring.gradients.backward_passes import gradients_enabled
from scoring.gradients.input_gradient import device_of
from scoring.models.eval_mode import evaluating
from scoring.models.snapshot import given_back


@contextlib.contextmanager
def plain_autograd() -> Iterator[None]:
    """Inside, activation checkpointing is a plain call and ``inference_mode`` is ``no_grad``.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> with plain_autograd():
    ...     out = checkpoint.checkpoint(torch.square, weight, use_reentrant=True)
    >>> torch.autograd.grad(out.sum(), weight)
    (tensor([2., 2.]),)
    """
    with (
        mock.patch.object(checkpoint, "_checkpoint_impl", _called),
        mock.patch.object(torch._C, "_InferenceMode", _gradients_off),
    ):
        yield


def _called(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    context_fn: Callable[..., Any] = checkpoint.noop_context_fn,
    **_: Any,
) -> Any:
    """Returns what ``checkpoint`` comes to in a forward pass: the function, in the forward one of its two contexts."""
    context = context_fn()[0]
    if isinstance(context, checkpoint._CachingTorchDispatchMode):  # it only stores what the backward pass would reuse
        return function(*args, **kwargs)
    with context:
        return function(*args, **kwargs)


def _gradients_off(mode: bool = True) -> contextlib.AbstractContextManager[Any]:
    """The gradients that ``inference_mode(mode)`` would turn off, or on."""
    return torch.no_grad() if mode else torch.enable_grad()


@contextlib.contextmanager
def differentiable(model: nn.Module, parameters: Iterable[nn.Parameter] = ()) -> Iterator[None]:
    """Eval mode in which only the given parameters require gradients; the model is given back as it was.

    Fused attention is off inside: it skips the layers that are watched, and has no second derivative.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    with (
        given_back(model),
        evaluating(model),
        gradients_enabled(device_of(model), model),
        plain_autograd(),
        sdpa_kernel(SDPBackend.MATH),
    ):
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            for parameter in parameters:
                parameter.requires_grad_(True)
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fused)
