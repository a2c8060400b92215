"""Influence embeddings of a batch: per-example parameter gradients projected onto factors without storing them.

    μ(z) = Λ^(-1/2) Mᵀ ∇ℓ(z)      (Wang et al. 2023, eq. 3)

One forward and one backward pass to the chosen layers' outputs; each layer turns its input and output
gradient into its share of μ as the backward pass goes by, in the first of these ways (``METHODS``) that proves
itself:

    rule          of its type (``scoring.influence.layer_rules``), or of the type that it is derived from
    replay        its own forward again, vectorised over the examples (``layer_replay``)
    copied        parameters of the model itself, of shape (1, …), with a copy per example in their place
    vectorised    the whole model by ``torch.func.vmap``             (``scoring.gradients.per_example_gradients``)
    one at a time ordinary autograd, example by example

A model, a batch and M in blocks (r, *shape) go in; (n, r) comes out.

Every batch is a proof: the shares of a few random examples must sum to the projection of their gradient by
ordinary autograd, in a batch of their own, layer by layer. Layers that fail go to their next way, and the
batch is done again.

Cost: one forward, one backward to activations, and r multiply-adds per parameter and example; the proof.

Known limits: those of ``example_gradients.Sample``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from scoring.audit.errors import HardlookError
from scoring.gradients.per_example_gradients import (
    AGREEMENT,
    ROUNDING,
    ExampleGradients,
    Gradients,
    Sample,
    draw_sample,
    output_gradients,
)
from scoring.gradients.plain_autograd import differentiable
from scoring.influence.layer_projection import LayerProjection
from scoring.influence.layer_rules import needs_proof, rule_for, same_maths
from scoring.influence.parameter_owners import parameter_owners
from scoring.models.eval_mode import mapped, outputs
from scoring.models.losses import Loss

RULE, REPLAY, COPIED, VECTORISED, ONE = METHODS = ("rule", "replay", "copied", "vectorised", "one at a time")
COLUMNS = 8  # of M, in which a batch is proved


class Projector:
    """Projects per-example gradients of one model onto factors, batch by batch.

    ``methods``: the way of each layer by its name, known after the first batch; a mapping that is given is where
    the search begins, and is kept up to date. ``slow``: names of the layers that take a pass of the whole
    model of their own.
    """

    def __init__(
        self, model: nn.Module, blocks: Mapping[str, Tensor], loss: Loss, methods: dict[str, str] | None = None
    ) -> None:
        self.model, self.loss = model, loss
        self.blocks = dict(blocks)
        self.rank = len(next(iter(self.blocks.values())))
        self.owners = parameter_owners(model, self.blocks)
        self.groups = self._groups()
        self.methods = {} if methods is None else methods
        for name in self.owners:
            self.methods[name] = max(self.methods.get(name, RULE), self._first(name), key=METHODS.index)
        self._join()
        self.proved: set[str] = set()
        self.why_one = ""
        self.generator = torch.Generator().manual_seed(0)

    def _first(self, name: str) -> str:
        """The way to begin with. A replay of the whole model is not one: its parameters may be had in the
        same pass.
        """
        layer, own = self.owners[name]
        if rule_for(layer, own):
            return RULE
        one_for_all = all(self.blocks[full].ndim > 2 and self.blocks[full].shape[1] == 1 for full in own.values())
        return REPLAY if name else COPIED if one_for_all else VECTORISED

    @property
    def slow(self) -> set[str]:
        """Names of the layers whose gradients take a pass of the whole model of their own."""
        return {name for name in self.owners if self.methods[name] in (VECTORISED, ONE)}

    def notes(self) -> list[str]:
        """Returns a sentence per method on the layers without a rule."""
        explanations = {
            REPLAY: "their forward runs again, vectorised over the examples",
            VECTORISED: "the whole model runs again, vectorised over the examples, which is slower",
            ONE: "one example at a time, which is slower",
        }
        found = {
            method: sorted(
                name or "parameters held by the model itself" for name in self.owners if self.methods[name] == method
            )
            for method in explanations
        }
        if self.why_one:
            explanations[ONE] += f" ({self.why_one})"
        return [
            f"no fast embedding rule fits {_listed(names)}: {explanations[method]}"
            for method, names in found.items()
            if names
        ]

    def _groups(self) -> list[set[str]]:
        """Layers joined by shared parameters: only the sum of their shares is a gradient's projection."""
        groups: list[set[str]] = []
        for name, (_, own) in self.owners.items():
            mine = set(own.values())
            joined = [group for group in groups if any(mine & set(self.owners[o][1].values()) for o in group)]
            groups = [group for group in groups if group not in joined] + [{name}.union(*joined)]
        return groups

    def _join(self) -> None:
        """One member of a group that needs a pass of the whole model takes the others with it."""
        for group in self.groups:
            if group & self.slow:
                self.methods.update(
                    dict.fromkeys(group, max((self.methods[name] for name in group), key=METHODS.index))
                )

    def _parameters(self, names: Iterable[str]) -> list[str]:
        """Full names of the chosen parameters of these layers, each once."""
        return list(dict.fromkeys(full for name in names for full in self.owners[name][1].values()))

    def __call__(self, inputs: Any, labels: Tensor) -> Tensor:
        """(n, r): M applied to each example's loss gradient. Raises ``HardlookError`` where it is not
        finite.
        """
        if len(labels) == 1:  # see scoring.gradients.per_example_gradients: no batch holds one example alone
            return self(mapped(inputs, lambda tensor: tensor[[0, 0]]), labels[[0, 0]])[:1]
        parameters = {name: p for name, p in self.model.named_parameters() if name in self.blocks}
        errors, projections = self._fast(inputs, labels)  # first: its error names the example without a finite loss
        with differentiable(self.model, parameters.values()):
            sample = draw_sample(self.model, self.loss, inputs, labels, parameters, self.generator)
        while self._demoted(projections, sample):
            errors, projections = self._fast(inputs, labels)
        total = sum((projection.total for projection in projections.values()), self._zeros(len(labels)))
        if self.slow:
            total = total + self._slow(inputs, errors, sample)
        bad = (~total.isfinite()).any(1).nonzero().flatten()
        if len(bad):
            raise HardlookError(
                f"the gradient of example {int(bad[0])} of a batch is not finite ({len(bad)} such examples); check "
                "these inputs and the weights"
            )
        return total

    def _zeros(self, n: int) -> Tensor:
        return next(iter(self.blocks.values())).new_zeros(n, self.rank)

    # -- the ways that go by with one backward pass ----------------------------------------------------------

    def _fast(self, inputs: Any, labels: Tensor) -> tuple[Tensor, dict[str, LayerProjection]]:
        """The loss's gradient by the outputs (n, c), and the shares of the layers with a rule or a replay."""
        projections = {name: self._projection(name, len(labels)) for name in self.owners if name not in self.slow}
        with differentiable(self.model):
            handles = [
                self.owners[name][0].register_forward_hook(self._watch(name, projection), with_kwargs=True)
                for name, projection in projections.items()
                if self.methods[name] != COPIED
            ]
            try:
                predicted = self._run(inputs, projections)
            finally:
                for handle in handles:
                    handle.remove()
            errors = output_gradients(self.loss, predicted, labels)
            leaves = [leaf for projection in projections.values() for leaf in projection.leaves]
            if leaves and predicted.requires_grad:
                torch.autograd.grad(predicted, leaves, errors.to(predicted), allow_unused=True)
        return errors, projections

    def _run(self, inputs: Any, projections: Mapping[str, LayerProjection]) -> Tensor:
        """The outputs, with a copy per example of parameters held by the model itself where that is their way and
        gives the same.
        """
        if self.methods.get("") != COPIED or "" not in projections:
            return outputs(self.model, inputs)
        given = projections[""].parameter_copies()

        def run(*args: Any, **kwargs: Any) -> Any:
            return functional_call(self.model, given, args, kwargs)

        try:
            return outputs(run, inputs)
        except Exception:  # noqa: BLE001  of any kind, where it expects one for all; the plain model runs or tells why
            projections[""].fits = False
            return outputs(self.model, inputs)

    def _projection(self, name: str, n: int) -> LayerProjection:
        layer, own = self.owners[name]
        factors = {key: self.blocks[full] for key, full in own.items()}
        return LayerProjection(layer, factors, n, rule_for(layer, own) if self.methods[name] == RULE else None)

    def _watch(self, name: str, projection: LayerProjection) -> Callable[..., Any]:
        """A forward hook: the layer's type is believed once its forward gave what the layer gives."""

        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            unproved = projection.rule is not None and name not in self.proved and needs_proof(module)
            if unproved and not same_maths(module, projection.input(args, kwargs), output):
                self.methods[name], projection.rule = REPLAY, None
            self.proved.add(name)
            return projection.attach(args, kwargs, output)

        return hook

    # -- the ways that take a pass of their own --------------------------------------------------------------

    def _slow(self, inputs: Any, errors: Tensor, sample: Sample) -> Tensor:
        """(n, r): the share of the layers that are slow, vectorised or one example at a time."""
        known = dict(self.model.named_parameters())
        names = self._parameters(self.slow)
        with differentiable(self.model, [known[name] for name in names]):
            each = ExampleGradients(self.model, {name: known[name] for name in names})
            if any(self.methods[name] == ONE for name in self.slow):
                each.reason = self.why_one
            found = each(inputs, errors, sample, self._projected)
        if each.reason is not None:
            self.why_one = each.reason
            self.methods.update(dict.fromkeys(self.slow, ONE))
        return found

    def _projected(self, gradients: Gradients) -> Tensor:
        """(k, r): ⟨M, gradient⟩ over the named parameters, gradients (k, *shape)."""
        parts = (
            value.reshape(len(value), -1) @ self.blocks[name].reshape(self.rank, -1).T
            for name, value in gradients.items()
        )
        return sum(parts, torch.zeros(()))

    # -- the proof -------------------------------------------------------------------------------------------

    def _columns(self) -> slice:
        """A few of M's columns, others for each batch: reading all of M for one gradient would cost as much
        as the batch.
        """
        start = int(torch.randint(0, max(1, self.rank - COLUMNS + 1), (), generator=self.generator))
        return slice(start, start + COLUMNS)

    def _demoted(self, projections: Mapping[str, LayerProjection], sample: Sample) -> bool:
        """Send the groups of layers to their next way whose shares are not the sampled gradient; whether any
        moved.
        """
        columns = self._columns()
        truths = {
            name: (block := self.blocks[name][columns]).reshape(len(block), -1) @ value.flatten()
            for name, value in sample.gradients.items()
        }
        zero = self._zeros(1)[0, columns]
        whole = float(sum(truths.values(), zero).norm())
        failed = []
        for group in self.groups:
            if not group & self.slow:
                truth = sum((truths[name] for name in self._parameters(group) if name in truths), zero)
                if not _agree([projections[name] for name in group], truth, sample, columns, whole):
                    failed.append(group)
        for group in failed:
            last = not any(self.methods[name] == RULE for name in group)
            self.methods.update({name: VECTORISED if last or not name else REPLAY for name in group})
        self._join()
        return bool(failed)


def _agree(projections: list[LayerProjection], truth: Tensor, sample: Sample, columns: slice, whole: float) -> bool:
    """Returns whether the shares of the sampled examples, in some columns, sum to their projected gradient; what a
    layer without a share gives is zero, and what could not be shared out agrees with nothing.
    """
    if not all(projection.fits for projection in projections):
        return False
    weights = sample.weights.to(truth)
    parts = [weights[:, None] * projection.total[sample.rows, columns] for projection in projections]
    size = max([float(truth.norm()), *(float(part.norm()) for part in parts)])
    apart = sum(part.sum(0) for part in parts) - truth
    return float(apart.norm()) <= AGREEMENT * size + ROUNDING * whole


def _listed(names: list[str], most: int = 4) -> str:
    """The first names, and how many more.

    >>> _listed(list("abcdef"))
    'a, b, c, d and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
