"""Influence embeddings of a batch: per-example parameter gradients projected onto factors, never held.

    μ(z) = Λ^(-1/2) Mᵀ ∇ℓ(z)      (Wang et al. 2023, eq. 3)

One forward and one backward pass to the chosen layers' outputs; each layer's rule (``scoring.influence.layer_rules``)
turns its input and output gradient into its share of μ as the backward pass goes by. A model, a batch and M
in blocks (r, *shape) go in; (n, r) comes out.

The first batch is checked: the shares of one example must equal those of its whole gradient. Layers that fail
(used as functions, example not on the first axis, types without a rule) take a slow path, one example at a
time, and are named.

Cost: one forward, one backward to activations, and r multiply-adds per parameter and example.

Known limits: the check looks at two examples of the first batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scoring.curvature.parameters import Loss, differentiable, example_losses, mapped, outputs
from scoring.influence.layer_rules import Rule, rule_for
from scoring.tables import HardlookError

AGREEMENT = 1e-3  # of an example's projection length; float32 rounding stays far below


class Projector:
    """Projects per-example gradients of one model onto factors, batch by batch.

    ``slow``: names of the layers whose gradients are taken one example at a time, known after the first
    batch.
    """

    def __init__(self, model: nn.Module, blocks: Mapping[str, Tensor], loss: Loss):
        self.model, self.loss = model, loss
        self.blocks = dict(blocks)
        self.rank = len(next(iter(self.blocks.values())))
        self.owners = self._owners()
        self.groups = self._groups()
        self.slow: set[str] = set()
        self._make_slow(name for name, (layer, _) in self.owners.items() if rule_for(layer) is None)
        self.checked = False

    def _owners(self) -> dict[str, tuple[nn.Module, dict[str, str]]]:
        """Every layer that owns a chosen parameter: name → (layer, own name of the parameter → its full
        name).
        """
        names = {
            id(parameter): name for name, parameter in self.model.named_parameters() if name in self.blocks
        }
        found = {}
        for name, layer in self.model.named_modules():
            own = {key: names[id(p)] for key, p in layer.named_parameters(recurse=False) if id(p) in names}
            if own:
                found[name] = (layer, own)
        return found

    def _groups(self) -> list[set[str]]:
        """Layers joined by shared parameters: only the sum of their shares is a gradient's projection."""
        groups: list[set[str]] = []
        for name, (_, own) in self.owners.items():
            mine = set(own.values())
            joined = [group for group in groups if any(mine & set(self.owners[o][1].values()) for o in group)]
            groups = [group for group in groups if group not in joined] + [{name}.union(*joined)]
        return groups

    def _make_slow(self, names: Iterable[str]) -> None:
        """Move layers, and those that share a parameter with them, to the slow way."""
        names = set(names)
        self.slow |= {name for group in self.groups if group & names for name in group}

    def _parameters(self, names: Iterable[str]) -> list[str]:
        """Full names of the chosen parameters of these layers, each once."""
        return list(dict.fromkeys(full for name in names for full in self.owners[name][1].values()))

    def __call__(self, inputs: Any, labels: Tensor) -> Tensor:
        """(n, r): M applied to each example's loss gradient. Raises ``HardlookError`` where it is not finite.
        """
        losses, shares = self._fast(inputs, labels)
        if not self.checked:
            self.checked = True
            if self._check(inputs, labels, losses, shares):
                _, shares = self._fast(inputs, labels)
        total = sum(shares.values(), self._zeros(labels))
        slow = self._parameters(self.slow)
        if slow:
            total += torch.stack([self._one(inputs, labels, i, slow) for i in range(len(labels))])
        bad = (~total.isfinite()).any(1).nonzero().flatten()
        if len(bad):
            raise HardlookError(
                f"the gradient of example {int(bad[0])} of a batch is not finite, of {len(bad)} in all; "
                "look at these inputs and at the weights"
            )
        return total

    def _zeros(self, labels: Tensor) -> Tensor:
        block = next(iter(self.blocks.values()))
        return block.new_zeros(len(labels), self.rank)

    # -- the fast way ----------------------------------------------------------------------------------------

    def _fast(self, inputs: Any, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Each example's loss, and the share (n, r) of each layer that is not slow, from hooks on its output.
        """
        names = [name for name in self.owners if name not in self.slow]
        shares: dict[str, Tensor] = {}
        leaves: list[Tensor] = []
        with differentiable(self.model):
            handles = [
                self.owners[name][0].register_forward_hook(
                    self._watch(name, leaves, shares), with_kwargs=True
                )
                for name in names
            ]
            try:
                losses = example_losses(self.loss, outputs(self.model, inputs), labels)
            finally:
                for handle in handles:
                    handle.remove()
            if leaves and losses.requires_grad:
                torch.autograd.grad(losses.sum(), leaves, allow_unused=True)
        return losses.detach(), shares

    def _watch(self, name: str, leaves: list[Tensor], shares: dict[str, Tensor]):
        """A forward hook: start a graph at the layer's output if there is none, and add its share when g
        arrives.
        """
        layer, own = self.owners[name]
        rule = rule_for(layer)
        factors = {key: self.blocks[full] for key, full in own.items()}

        def hook(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
            if not torch.is_grad_enabled():
                return output  # the forward cuts the graph here: this call adds nothing to the layer's gradient
            x = (args[0] if args else kwargs["input"]).detach()
            if not output.requires_grad:
                leaves.append(output.detach().requires_grad_())
                output = leaves[-1].clone()  # what follows may work in place, which a leaf forbids
            output.register_hook(lambda g: _add_share(shares, name, layer, rule, x, g.detach(), factors))
            return output

        return hook

    # -- the slow way ----------------------------------------------------------------------------------------

    def _one(self, inputs: Any, labels: Tensor, index: int, names: list[str]) -> Tensor:
        """(r,): one example's gradient of the named parameters, projected."""
        return self._projected(self._gradients(inputs, labels, index, names))

    def _projected(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """(r,): ⟨M, gradient⟩ over the named parameters."""
        zero = next(iter(self.blocks.values())).new_zeros(self.rank)
        return sum((self.blocks[name].flatten(1) @ gradients[name].flatten() for name in gradients), zero)

    def _gradients(self, inputs: Any, labels: Tensor, index: int, names: list[str]) -> dict[str, Tensor]:
        """One example's parameter gradients; it runs twice in one batch, because some models squeeze a batch
        of one.
        """
        known = dict(self.model.named_parameters())
        parameters = [known[name] for name in names]
        pair = mapped(inputs, lambda tensor: tensor[[index, index]])
        with differentiable(self.model, parameters):
            total = example_losses(self.loss, outputs(self.model, pair), labels[[index, index]]).sum() / 2
            found = torch.autograd.grad(total, parameters, allow_unused=True)
        return {name: gradient for name, gradient in zip(names, found, strict=True) if gradient is not None}

    # -- trust, but look -------------------------------------------------------------------------------------

    def _check(self, inputs: Any, labels: Tensor, losses: Tensor, shares: Mapping[str, Tensor]) -> bool:
        """Send layers to the slow way whose share of a hard example is not the projection of its gradient.

        Looks at the two examples with the largest losses, whose gradients are not mere rounding → whether any
        moved.
        """
        before = set(self.slow)
        for index in losses.topk(min(2, len(losses))).indices.tolist():
            exact = self._gradients(inputs, labels, index, list(self.blocks))
            for group in self.groups:
                truth = self._projected({n: exact[n] for n in self._parameters(group) if n in exact})
                if not _agree([shares[name] for name in group if name in shares], truth, index, len(labels)):
                    self._make_slow(group)
        return self.slow != before


def _add_share(shares: dict[str, Tensor], name: str, layer: nn.Module, rule: Rule, x: Tensor, g: Tensor,
               factors: Mapping[str, Tensor]) -> None:
    """Run a layer's rule, once for each time the layer was called. Shapes that do not fit leave no share."""
    convolution = isinstance(layer, nn.modules.conv._ConvNd)
    if len(x) != len(g) or (convolution and x.ndim != len(layer.kernel_size) + 2):
        return
    with torch.no_grad():
        share = rule(layer, x, g, factors)
        shares[name] = shares[name] + share if name in shares and len(shares[name]) == len(share) else share


def _agree(shares: list[Tensor | None], truth: Tensor, index: int, n: int) -> bool:
    """Whether the summed shares of one example are its projected gradient; a layer without a share counts as
    zero.
    """
    found = [share for share in shares if share is not None]
    if any(len(share) != n for share in found):
        return False
    total = sum((share[index] for share in found), torch.zeros_like(truth))
    scale = max(float(truth.norm()), max((float(share.norm(dim=1).mean()) for share in found), default=0.0))
    return float((total - truth).norm()) <= AGREEMENT * scale
