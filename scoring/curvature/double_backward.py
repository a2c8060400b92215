"""Layers with a backward pass that is correct and cheap to differentiate again: convolution, frozen batch norm, others.

A Hessian-vector product by double backward differentiates the backward pass of every layer. For a convolution
y = x ∗ w with output gradient g, cotangents (a, b) of (∂x, ∂w) give

    ∂g = a ∗ w + x ∗ b        ∂x = dgrad(g, b)        ∂w = wgrad(g, a)

which is one more convolution each way. PyTorch's own rule reaches ∂w by a convolution whose kernel is as
large as the feature map. Batch norm in eval mode is a fixed affine map per channel, so its second derivative
needs no statistics. PyTorch 2.14 gives a wrong second derivative of weight norm by its direction (it is w = g
v/‖v‖), and none of the hard sigmoid and of bags of embeddings: these are made of plain operations.

Inputs and outputs are those of ``torch.conv*d``, ``F.batch_norm``, ``torch._weight_norm``, ``F.hardsigmoid``
and ``F.embedding_bag``, which ``SecondOrder()`` replaces for every call inside the ``with`` block, in modules
and in functions alike.

Cost: the same forward and first backward pass; a double backward pass of about two backward passes.

Known limits: bags given by offsets, and those that rescale weights or gradients, have no second derivative;
padding given as a word, unbatched inputs and transposed convolutions keep PyTorch's rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

_backward = torch.ops.aten.convolution_backward
_DIMENSIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


class _Convolution(Function):
    """y = x ∗ w; its backward pass is a function of its own, so that it can be differentiated."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, how: tuple[Any, ...]) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.how = how
        return torch.convolution(x, w, None, *how)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w = ctx.saved_tensors
        gx, gw = _ConvolutionBackward.apply(g, x, w, ctx.how, ctx.needs_input_grad[:2])
        return gx, gw, None


class _ConvolutionBackward(Function):
    """(g, x, w) → (∂x, ∂w); its backward pass uses the same kernels once more."""

    @staticmethod
    def forward(
        ctx: Any, g: Tensor, x: Tensor, w: Tensor, how: tuple[Any, ...], needed: tuple[bool, bool]
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(g, x, w)
        ctx.set_materialize_grads(False)
        ctx.how = how
        return _backward(g, x, w, None, *how, [*needed, False])[:2]

    @staticmethod
    def backward(ctx: Any, a: Tensor | None, b: Tensor | None) -> tuple[Tensor | None, ...]:
        g, x, w = ctx.saved_tensors
        to_x = b is not None and ctx.needs_input_grad[1]
        to_w = a is not None and ctx.needs_input_grad[2]
        dx = dw = None
        if to_x or to_w:
            dx, dw, _ = _backward(g, x if a is None else a, w if b is None else b, None, *ctx.how, [to_x, to_w, False])
        return _output_gradient(ctx, x, w, a, b), dx, dw, None, None


def _output_gradient(ctx: Any, x: Tensor, w: Tensor, a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """∂g = a ∗ w + x ∗ b, from the cotangents that exist."""
    if not ctx.needs_input_grad[0] or (a is None and b is None):
        return None
    terms = [
        torch.convolution(left, right, None, *ctx.how)
        for left, right in ((a, w), (x, b))
        if left is not None and right is not None
    ]
    return terms[0] if len(terms) == 1 else terms[0].add_(terms[1])


class SecondOrder(TorchFunctionMode):
    """Inside ``with SecondOrder():`` these functions get the second derivative of this module."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function in _DIMENSIONS:
            return _convolution(function, *args, **kwargs)
        if function is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if function is torch._weight_norm:
            return _weight_norm(*args, **kwargs)
        if function is F.hardsigmoid:
            return _hardsigmoid(*args, **kwargs)
        if function is F.embedding_bag:
            return _embedding_bag(*args, **kwargs)
        return function(*args, **kwargs)


def _convolution(
    function: Callable[..., Tensor],
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """``torch.conv*d`` with the cheap rule where it applies."""
    n = _DIMENSIONS[function]
    if isinstance(padding, str) or input.ndim != n + 2 or input.dtype not in (torch.float32, torch.float64):
        return function(input, weight, bias, stride, padding, dilation, groups)
    how = (_each(stride, n), _each(padding, n), _each(dilation, n), False, [0] * n, groups)
    output = _Convolution.apply(input, weight, how)
    return output if bias is None else output + bias.view(1, -1, *[1] * n)


def _each(value: int | tuple[int, ...], n: int) -> list[int]:
    """One number per dimension."""
    return [value] * n if isinstance(value, int) else list(value) * (n // len(value))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """``F.batch_norm`` as x · γ/√(σ²+ε) + (β − μ γ/√(σ²+ε)) where the statistics are frozen."""
    if training or running_mean is None or running_var is None:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    scale = (running_var + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -running_mean * scale if bias is None else bias - running_mean * scale
    shape = (1, -1, *[1] * (input.ndim - 2))
    return torch.addcmul(shift.view(shape), input, scale.view(shape))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """``torch._weight_norm``, w = g v/‖v‖ with the norm over all axes but one (-1: over all), in plain operations."""
    axes = [axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim]
    return v * (g / v.square().sum(axes, keepdim=True).sqrt()) if axes else v * (g / v.abs())


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """``F.hardsigmoid`` as min(max(x + 3, 0), 6) / 6."""
    value = F.relu6(input + 3) / 6
    return input.copy_(value) if inplace else value


def _embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """``F.embedding_bag`` as rows of the weight (n, length, dim) and their sum, mean or maximum."""
    if input.ndim != 2 or not input.shape[1] or max_norm is not None or scale_grad_by_freq:
        return F.embedding_bag(
            input,
            weight,
            offsets,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            per_sample_weights,
            include_last_offset,
            padding_idx,
        )
    rows = F.embedding(input, weight)
    keep = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx % len(weight)
    if mode == "max":
        largest = rows.masked_fill(~keep[..., None], -torch.inf).max(1).values
        return torch.where(keep.any(1, keepdim=True), largest, 0.0)
    share = keep.to(rows.dtype) if per_sample_weights is None else keep * per_sample_weights
    total = (rows * share[..., None]).sum(1)
    return total / keep.sum(1, keepdim=True).clamp(min=1) if mode == "mean" else total
