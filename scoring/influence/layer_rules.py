"""Rules that project the per-example parameter gradients of each layer type onto factors without storing them.

A layer's parameter gradient for example i is a sum of products of its input x_i and output gradient g_i.
Projected onto M (r columns) it is a number per column; the product is formed for a few examples and output
channels at a time, in a few megabytes, and multiplied into M at once:

    Linear       Σ_t g_it x_itᵀ                      Conv       Σ_l g_il unfold(x_i)_lᵀ, by groups
    norms        Σ_s g_is ⊙ x̂_is                     Embedding  Σ_t g_it at row token_it

Inputs: the layer, x (n, …), g (n, …) and M by parameter name in blocks (r, *shape). Output: (n, r).

Cost per example: one weight gradient plus r multiply-adds per parameter.

A rule is that of a type's own ``forward``. A subclass or an instance with another one is given it too, to be
proved on its data: ``same_maths`` asks whether the type's forward gives what the layer gave.

Known limits: the first axis must be the example, or hold the same number of consecutive rows of each
(windows); norms are read in eval mode. Layers that are none of ``RULES`` have no rule here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from scoring.curvature.equivalence import same_logits

SCRATCH = 2**22  # bytes for the products of a rule
WINDOWS = 5 * 2**20  # bytes for the windows of a convolution: M is read once for each

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
Rule = Callable[[Any, Tensor, Tensor, Mapping[str, Tensor]], Tensor]
"""(layer, x, g, factors) → (n, r); the layer is of the type that the rule stands under in ``RULES``."""


def project_linear(layer: nn.Linear, x: Tensor, g: Tensor, factors: Mapping[str, Tensor]) -> Tensor:
    """x: (n, *positions, in), g: (n, *positions, out) → (n, r)."""
    x, g = x.reshape(len(x), -1, x.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    out = _project_bias(g.sum(1), factors)
    if "weight" in factors:
        _project_products(out, g.transpose(1, 2), x, factors["weight"])
    return out


def project_convolution(layer: Convolution, x: Tensor, g: Tensor, factors: Mapping[str, Tensor]) -> Tensor:
    """x: (n, in, *pixels), g: (n, out, *pixels) → (n, r). Stride, dilation, groups and every padding mode."""
    g = g.contiguous()
    out = _project_bias(g.flatten(2).sum(2), factors)
    if "weight" not in factors:
        return out
    columns = layer.weight[0].numel() * layer.groups * g[0, 0].numel()
    for rows in _blocks(len(x), columns * x.element_size(), WINDOWS):
        if layer.groups == 1:
            _project_image(out[rows], _windows(layer, x[rows], g.shape[2:]), g[rows], factors["weight"])
        else:
            _project_groups(out[rows], _windows(layer, x[rows], g.shape[2:]), g[rows], layer.groups, factors["weight"])
    return out


def project_batch_norm(
    layer: nn.modules.batchnorm._BatchNorm, x: Tensor, g: Tensor, factors: Mapping[str, Tensor]
) -> Tensor:
    """Frozen statistics: x̂ = (x − μ)/√(σ² + ε) per channel (axis 1) → (n, r)."""

    def normal(rows: Tensor) -> Tensor:
        return _pixels_last(
            F.batch_norm(rows, layer.running_mean, layer.running_var, None, None, False, 0.0, layer.eps)
        )

    return _project_scale(x, _pixels_last(g), 2, normal, factors)


def project_group_norm(layer: nn.GroupNorm, x: Tensor, g: Tensor, factors: Mapping[str, Tensor]) -> Tensor:
    """x̂ normalised over each group of channels → (n, r)."""

    def normal(rows: Tensor) -> Tensor:
        return _pixels_last(F.group_norm(rows, layer.num_groups, None, None, layer.eps))

    return _project_scale(x, _pixels_last(g), 2, normal, factors)


def project_layer_norm(layer: nn.LayerNorm, x: Tensor, g: Tensor, factors: Mapping[str, Tensor]) -> Tensor:
    """x̂ normalised over the last axes, (n, *positions, *shape) → (n, r)."""

    def positions(rows: Tensor) -> Tensor:
        return rows.reshape(len(rows), -1, *layer.normalized_shape)

    def normal(rows: Tensor) -> Tensor:
        return positions(F.layer_norm(rows, layer.normalized_shape, None, None, layer.eps))

    return _project_scale(x, positions(g), 1, normal, factors)


def project_embedding(layer: nn.Embedding, tokens: Tensor, g: Tensor, factors: Mapping[str, Tensor]) -> Tensor:
    """tokens: (n, *positions), g: (n, *positions, dim) → (n, r); padding gets no gradient, as in training."""
    tokens, g = tokens.reshape(len(tokens), -1), g.reshape(len(g), -1, g.shape[-1])
    weight = factors["weight"]
    if layer.padding_idx is not None:
        g = g * (tokens != layer.padding_idx)[..., None]
    out = g.new_zeros(len(g), len(weight))
    for rows in _blocks(len(g), len(weight) * g.shape[2] * g.element_size(), SCRATCH):
        for t in range(g.shape[1]):
            out[rows] += torch.einsum("nd,rnd->nr", g[rows, t], weight[:, tokens[rows, t]])
    return out


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: project_linear,
    nn.Conv1d: project_convolution,
    nn.Conv2d: project_convolution,
    nn.Conv3d: project_convolution,
    nn.modules.batchnorm._BatchNorm: project_batch_norm,
    nn.GroupNorm: project_group_norm,
    nn.LayerNorm: project_layer_norm,
    nn.Embedding: project_embedding,
}


ROWS_ARE_POSITIONS = (nn.Linear, nn.LayerNorm, nn.Embedding)
"""Layers that do the same at every position: the rows of one example may stand on an axis of their own."""


def rule_for(layer: nn.Module, parameters: Iterable[str] = ("weight", "bias")) -> Rule | None:
    """The rule of the layer's type, or of the nearest type it is derived from; None where there is none.

    ``parameters``: what the layer owns; a rule knows of ``weight`` and ``bias`` alone. An embedding that
    rescales its gradient has no rule.
    """
    kind = ruled_type(layer)
    if kind is None or not {"weight", "bias"}.issuperset(parameters):
        return None
    if kind is nn.Embedding and (layer.scale_grad_by_freq or layer.max_norm is not None):
        return None
    return RULES[kind]


def ruled_type(layer: nn.Module) -> type[nn.Module] | None:
    """The nearest type in ``RULES`` that this layer is, or is derived from.

    >>> ruled_type(nn.modules.linear.NonDynamicallyQuantizableLinear(2, 2)).__name__
    'Linear'
    """
    return next((kind for kind in type(layer).__mro__ if kind in RULES), None)


def needs_proof(layer: nn.Module) -> bool:
    """Returns whether the layer may compute something else than the type whose rule it has: by a forward of its class
    or of its own, or by hooks that change what goes in or comes out.
    """
    kind = ruled_type(layer)
    methods = [name for name, value in vars(kind).items() if callable(value) and name != "__init__"]
    silent = ("reset_parameters", "extra_repr", "__setstate__", "from_pretrained")
    every = {"forward", "__call__", *methods}.difference(silent)
    own = any(getattr(type(layer), name, None) is not getattr(kind, name) for name in every)
    return own or "forward" in vars(layer) or bool(layer._forward_hooks)


def same_maths(layer: nn.Module, x: Any, output: Any) -> bool:
    """Returns whether the forward of the layer's ``ruled_type`` gives these outputs, as far as the first rows
    tell.
    """
    kind, few = ruled_type(layer), slice(0, 2)
    if kind is None or not isinstance(output, Tensor):
        return False
    try:
        with torch.no_grad():
            found = kind.forward(layer, x[few])
    except Exception:  # noqa: BLE001  of any kind: it takes other inputs than its type
        return False
    return found.shape == output[few].shape and same_logits(found.flatten(1), output[few].detach().flatten(1))


# -- the blocked products ------------------------------------------------------------------------------------


def _blocks(n: int, bytes_per_row: int, limit: int) -> Iterator[slice]:
    """Slices of rows, as equal as can be, that take at most ``limit`` bytes each, at least one row."""
    parts = -(-n // max(1, limit // max(1, bytes_per_row)))
    step = -(-n // max(1, parts))  # of equal size: products of few examples read M as often as those of many
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _project_bias(g: Tensor, factors: Mapping[str, Tensor]) -> Tensor:
    """(n, out) summed output gradients onto the bias factors; zeros (n, r) without a bias."""
    if "bias" in factors:
        return g @ factors["bias"].T
    (any_block, *_) = factors.values()
    return g.new_zeros(len(g), len(any_block))


def _project_scale(
    x: Tensor, g: Tensor, axis: int, normal: Callable[[Tensor], Tensor], factors: Mapping[str, Tensor]
) -> Tensor:
    """A norm's scale and shift: Σ g ⊙ x̂ and Σ g over ``axis``, x̂ = ``normal(x)`` a few examples at a
    time.
    """
    out = _project_bias(g.sum(axis).flatten(1), {k: v.flatten(1) for k, v in factors.items()})
    if "weight" in factors:
        weight = factors["weight"].flatten(1).T
        for rows in _blocks(len(x), x[0].numel() * x.element_size(), SCRATCH):
            out[rows] += (g[rows] * normal(x[rows])).sum(axis).flatten(1) @ weight
    return out


def _project_products(out: Tensor, left: Tensor, right: Tensor, weight: Tensor) -> None:
    """out (n, r) += ⟨left_i right_i, M⟩ for left (n, out, l), right (n, l, k): a block of output rows at a
    time.
    """
    flat, k = weight.flatten(1), right.shape[-1]
    for rows in _blocks(left.shape[1], len(left) * k * left.element_size(), SCRATCH):
        m = flat[:, rows.start * k : rows.stop * k]  # on the left: faster by a tenth
        out += (m @ _products(left[:, rows], right).T).T  # without a name: one block is held


def _products(left: Tensor, right: Tensor) -> Tensor:
    """left_i right_i of each example, (n, out·k)."""
    return (torch.bmm(left, right) if left.shape[2] > 1 else left * right).flatten(1)


def _project_image(out: Tensor, windows: Tensor, g: Tensor, weight: Tensor) -> None:
    """One group of channels. Feature maps too large for the scratch are cut along their first pixel axis."""
    size = windows.numel() * windows.element_size()
    if size <= WINDOWS or g.shape[2] == 1:
        _project_products(out, g.flatten(2), _columns(windows, g.ndim - 2), weight)
        return
    cuts = list(_blocks(g.shape[2], size // g.shape[2], SCRATCH))
    flat, k = weight.flatten(1), weight[0, 0].numel()
    for rows in _blocks(g.shape[1], len(g) * k * g.element_size(), SCRATCH):
        parts = (
            torch.bmm(g[:, rows, cut].flatten(2), _columns(_cut(windows, cut, g.ndim - 2), g.ndim - 2)) for cut in cuts
        )
        total = sum(parts, torch.zeros(()))
        out += (flat[:, rows.start * k : rows.stop * k] @ total.flatten(1).T).T


def _project_groups(out: Tensor, windows: Tensor, g: Tensor, groups: int, weight: Tensor) -> None:
    """Grouped channels: one batched product per group, then one onto the factors."""
    n = g.ndim - 2
    columns = _columns(windows, n).unflatten(2, (groups, -1)).transpose(1, 2)  # (n, groups, l, k)
    left = g.flatten(2).unflatten(1, (groups, -1))  # (n, groups, out/groups, l)
    for rows in _blocks(len(g), weight[0].numel() * g.element_size(), SCRATCH):
        out[rows] += (weight.flatten(1) @ (left[rows] @ columns[rows]).flatten(1).T).T


def _pixels_last(x: Tensor) -> Tensor:
    """(n, channels, *pixels) → (n, channels, l), l = 1 for vectors."""
    return x.reshape(*x.shape[:2], -1)


def _windows(layer: Convolution, x: Tensor, size: torch.Size) -> Tensor:
    """A view (n, in, *kernel, *pixels) of the padded input: what each weight meets at each output pixel."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padding = layer._reversed_padding_repeated_twice
    x = F.pad(x, padding, mode=mode) if any(padding) else x
    steps = x.stride()[2:]
    kernel = [step * dilation for step, dilation in zip(steps, layer.dilation, strict=True)]
    pixels = [step * stride for step, stride in zip(steps, layer.stride, strict=True)]
    return x.as_strided(
        (*x.shape[:2], *layer.kernel_size, *size), (*x.stride()[:2], *kernel, *pixels), x.storage_offset()
    )


def _cut(windows: Tensor, rows: slice, n: int) -> Tensor:
    """Some rows of the first pixel axis."""
    return windows.narrow(2 + n, rows.start, rows.stop - rows.start)


def _columns(windows: Tensor, n: int) -> Tensor:
    """(n, in, *kernel, *pixels) → (n, l, in·k), the transposed view of one copy."""
    return windows.flatten(2 + n).flatten(1, 1 + n).transpose(1, 2)
