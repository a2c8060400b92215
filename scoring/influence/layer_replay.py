"""One layer's part of a gradient's projection, computed by running its forward again, vectorised over the examples.

    ∂⟨g_i, layer(x_i; θ)⟩/∂θ,   by ``torch.func.vmap`` over i, a few examples at a time, projected onto M at once

for a layer without a rule (``scoring.influence.layer_rules``) that is called as a module: norms over other
axes, scales, standardised or factored weights, attention with tables of its own. A layer, the arguments of
one call, the gradient g of its output and M by the layer's own parameter names go in; (n, r) comes out.

Cost: one more forward pass of the layer and a backward pass to its own parameters.

Known limits: the example is on the first axis of the output and of each argument that changes with it, or has
the same number of consecutive rows there. A layer whose forward vmap cannot run raises what PyTorch raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

MEMORY = 64 << 20  # bytes of a chunk's gradients and, roughly, its activations
ACTIVATIONS = 16  # of the output's size: what the inside of a block keeps


def first_tensor(output: Any) -> Tensor | None:
    """Returns what a layer returns, or the first of a tuple."""
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    return first if isinstance(first, Tensor) else None


def project_by_replay(
    layer: nn.Module,
    arguments: tuple[tuple[Any, ...], dict[str, Any]],
    g: Tensor,
    factors: Mapping[str, Tensor],
    n: int,
) -> Tensor:
    """``arguments``: (args, kwargs) of the call; ``g``: (n·k, …) the gradient of its first output → (n, r).

    >>> layer, g = nn.Linear(2, 1, bias=False), torch.ones(3, 1)
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]])
    >>> project_by_replay(layer, ((x,), {}), g, {"weight": torch.eye(2)[:, None]}, 3).tolist()
    [[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]
    """
    leaves, shape = tree_flatten(arguments)
    moving = [at for at, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == len(g)]
    held = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in leaves]

    def weighted(own: Mapping[str, Tensor], given: list[Tensor], given_g: Tensor) -> Tensor:
        filled = list(held)
        for at, value in zip(moving, given, strict=True):
            filled[at] = value
        args, kwargs = tree_unflatten(filled, shape)
        output = first_tensor(functional_call(layer, dict(own), args, kwargs))
        if output is None:
            raise TypeError(f"{type(layer).__name__} returns no tensor")
        return (output * given_g).sum()

    known = dict(layer.named_parameters())
    own = {name: known[name].detach() for name in factors}
    by_example = [held[at].unflatten(0, (n, -1)) for at in moving]
    by_example_g, parts = g.unflatten(0, (n, -1)), []
    each = sum(p.numel() * p.element_size() for p in own.values())
    each += ACTIVATIONS * by_example_g[0].numel() * g.element_size()
    for rows in torch.arange(n, device=g.device).split(max(2, MEMORY // max(1, each))):
        two = rows.repeat(2) if len(rows) == 1 else rows  # a chunk of one is a batch of one to some kernels
        found = vmap(grad(weighted), (None, 0, 0))(own, [value[two] for value in by_example], by_example_g[two])
        share = sum(
            value.reshape(len(value), -1) @ factors[name].reshape(len(factors[name]), -1).T
            for name, value in found.items()
        )
        parts.append(share[: len(rows)].detach())
    return torch.cat(parts)
