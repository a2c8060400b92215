"""One layer's part of the projected gradients of a batch, collected by hooks during a forward and a backward pass.

    share_i = Σ over the layer's calls of M ∂⟨g_i, layer(x_i)⟩/∂θ       g_i: the gradient of the layer's output

``Shares.attach`` keeps the input of a call and listens for g; ``total`` (n, r) is then the sum, by the
layer's rule or by a replay. Cost: that of the rule or the replay; the inputs of the layer are held between
the passes.

``Shares.parameter_copies`` serves parameters that stand once for all examples, (1, …), as class tokens and positions
do: with a copy per example in their place, the gradient of a copy is that of an example.

Known limits: a call of which the example is not on the first axis has no share (``fits`` is false), nor one
whose gradient arrives at another output than the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scoring.influence.layer_replay import first_tensor, project_by_replay
from scoring.influence.layer_rules import ROWS_ARE_POSITIONS, Rule


class LayerProjection:
    """One layer's share, (n, r), and the ``leaves`` that a backward pass must reach for it.

    ``rule``: of the layer, None to replay it. ``fits``: whether every call could be shared out among the
    examples.
    """

    def __init__(self, layer: nn.Module, factors: Mapping[str, Tensor], n: int, rule: Rule | None):
        self.layer, self.factors, self.n, self.rule = layer, factors, n, rule
        block = next(iter(factors.values()))
        self.total = block.new_zeros(n, len(block))
        self.leaves: list[Tensor] = []
        self.fits = True

    @staticmethod
    def input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """The first argument of a call, however it was passed; None without one."""
        return args[0] if args else next(iter(kwargs.values()), None)

    def attach(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """The output of a call, listened to; a graph is started at it where there is none."""
        first = first_tensor(output)
        if not torch.is_grad_enabled():
            return output  # the forward cuts the graph here: this call adds nothing to the layer's gradient
        if first is None or not first.is_floating_point():
            self.fits = False
            return output
        if not first.requires_grad:
            self.leaves.append(first.detach().requires_grad_())
            first = self.leaves[-1].clone()  # what follows may work in place, which a leaf forbids
            output = first if isinstance(output, Tensor) else _with_first(output, first)
        first.register_hook(lambda g: self._add(args, kwargs, g.detach()))
        return output

    def parameter_copies(self) -> dict[str, Tensor]:
        """A copy per example, (n, …), of each parameter of shape (1, …), listened to."""
        found = {}
        for name, m in self.factors.items():
            leaf = self.layer.get_parameter(name).detach().expand(self.n, *m.shape[2:]).clone().requires_grad_()
            leaf.register_hook(partial(self._add_copies, m))
            self.leaves.append(leaf)
            found[name] = leaf
        return found

    def _add_copies(self, m: Tensor, g: Tensor) -> None:
        self.total += g.detach().reshape(len(g), -1) @ m.reshape(len(m), -1).T

    def _add(self, args: tuple[Any, ...], kwargs: dict[str, Any], g: Tensor) -> None:
        """Add what one call gives. Shapes that do not fit, and what vmap cannot run, leave no share."""
        x = self.input(args, kwargs)
        if not isinstance(x, Tensor) or not g.ndim or len(g) % self.n or (self.rule and not self._fits_rule(x, g)):
            self.fits = False
            return
        if self.rule is None:
            try:
                self.total += project_by_replay(self.layer, (args, kwargs), g, self.factors, self.n)
            except Exception:  # noqa: BLE001  as many kinds as operations that vmap lacks; the proof fails
                self.fits = False
            return
        with torch.no_grad():
            self.total += self._by_rule(self.rule, x.detach(), g)

    def _fits_rule(self, x: Tensor, g: Tensor) -> bool:
        layer = self.layer
        wanted = len(layer.kernel_size) + 2 if isinstance(layer, nn.modules.conv._ConvNd) else x.ndim
        return len(x) == len(g) and x.ndim == wanted

    def _by_rule(self, rule: Rule, x: Tensor, g: Tensor) -> Tensor:
        """(n, r); rows of one example that stand on the first axis are positions, or are summed
        afterwards.
        """
        if len(g) > self.n and isinstance(self.layer, ROWS_ARE_POSITIONS):
            x, g = x.unflatten(0, (self.n, -1)), g.unflatten(0, (self.n, -1))
        return rule(self.layer, x, g, self.factors).unflatten(0, (self.n, -1)).sum(1)


def _with_first(output: Any, first: Tensor) -> Any:
    """A list, tuple or named tuple with another first element."""
    rest = [first, *output[1:]]
    return type(output)(*rest) if hasattr(output, "_fields") else type(output)(rest)
