"""A slot that loads the checkpoints of one model in turn and computes the input gradients of each.

The plain way runs the user's own model in place at each checkpoint's weights. Faster ways, for models that
gain by them, run a frozen copy: with batch norms folded, in channels_last memory, in bfloat16. A way is
believed only after it gave what the model itself gives on the data at hand; else the next plainer one is
taken, and ``notes`` says so. On the first batch of a slot

    ‖ z' − z ‖_max ≤ √ε ‖ z ‖_max        ‖ ∇' − ∇ ‖ ≤ 10 √ε ‖ ∇ ‖

with z the logits less their mean over classes and ε the precision's machine epsilon, and the copy's logits
must be the same bits while the model's own weights are NaN: a copy whose forward is a closure still computes
with the original's. Folding rests on the weights, so folded logits are compared for every checkpoint, of a
few examples.

A model and state dicts go in; gradients come out. Cost beyond the passes: the plain way copies the weights
thrice per checkpoint; a copy takes two more forward passes and one backward pass over one batch per slot, one
forward pass over 16 examples per checkpoint where batch norms are folded, and up to twice the weights in
memory.

Cut graphs are looked for by ``scoring.gradients.slope_check``, in four forward passes over 8 examples; of tokens, in
five, which move the output of their embedding.

Known limits: a branch of the forward that the first batch does not take is not compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError
from scoring.gradients.backward_passes import FORMS, Batch, forward, forward_through, gradients_enabled, make_batch
from scoring.gradients.execution_paths import (
    Copied,
    InPlace,
    State,
    device_of,
    dtype_of,
    frozen_at,
    mostly_convolutions,
)
from scoring.gradients.slope_check import EXAMPLES, is_slope
from scoring.gradients.token_embedding import padding_id, token_layer
from scoring.models.batchnorm_folding import foldable_pairs
from scoring.models.closeness import close_in_norm

FEW = 16
"""Examples on which folded logits are compared at every further checkpoint: what folding rests on is the
weights."""
NO_SLOPE = (
    "autograd's gradient differs from the measured slope of the logits: the model's forward cuts part of its graph "
    "(no_grad, detach) or defines its own gradient"
)


# -- the slot ------------------------------------------------------------------------------------------------


class Slot:
    """One model, one checkpoint at a time, by the fastest way that gives what the model itself gives.

    ``dtype`` None keeps the model's own precision; ``torch.bfloat16`` is faster where the hardware has it and
    good to about 1 %. ``embedding`` names the layer that embeds tokens, and is looked for where it is None.
    ``notes``: a sentence for each way that was left. The model is given back bit for bit after every call.
    """

    def __init__(
        self, model: nn.Module, *, dtype: torch.dtype | None = None, fold: bool = True, embedding: str | None = None
    ):
        self.model, self.device, self.embedding = model, device_of(model), embedding
        self.layer: str | None = None
        self.notes: list[str] = []
        self.expected = _expected(model)
        self.state: State = {}
        self.proved = self.checked = False
        self._slope_compared = False
        self._held: contextlib.ExitStack | None = None
        pairs = foldable_pairs(model) if fold else []
        images = mostly_convolutions(model)
        options = [(pairs, images), (pairs, False), ([], images)]
        self._dtype = dtype or dtype_of(model)
        faster = [one for one in options if any(one) or self._dtype != dtype_of(model)]
        self._left = [one for at, one in enumerate(faster) if one not in faster[:at]]
        self._step_down()

    @property
    def module(self) -> nn.Module:
        """The module that runs: a copy, or the model itself."""
        return self.method.module

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which gradients are computed."""
        return self.method.dtype

    def load(self, state: State, name: str = "checkpoint") -> None:
        """Take one checkpoint's weights; a key or shape that does not fit is an error."""
        _check(state, self.expected, name)
        self.state, self.checked = state, False
        self.method.load(state)

    @contextlib.contextmanager
    def at(self, state: State, name: str = "checkpoint") -> Iterator[None]:
        """One checkpoint for many batches: the plain way then takes the model's weights and gives them back
        once."""
        self.load(state, name)
        try:
            with contextlib.ExitStack() as self._held:
                self._hold()
                yield
        finally:
            self._held = None

    def _hold(self) -> None:
        if self._held is not None and isinstance(self.method, InPlace):
            self._held.enter_context(self.method.held())

    def prepare(self, inputs: Tensor, classes: Any) -> Batch:
        """A batch of inputs and class indices on the slot's device, ready for every checkpoint."""
        return make_batch(inputs, classes, self.device, dtype_of(self.model))

    def gradients(self, batch: Batch, forms: Sequence[str] = FORMS) -> list[Tensor]:
        """One forward pass, one backward pass per form → per form a gradient like the input; for tokens at
        the output of their embedding, (n, t, dim)."""
        self._find_layer(batch)
        with gradients_enabled(self.device, self.model):
            found = self._by_the_fastest_way(batch, forms)
            comparable = forms[0] == "logit" and self._dtype == dtype_of(self.model)
            if comparable and not self._slope_compared:
                self._compare_slope(batch, found[0])
            return found

    def _by_the_fastest_way(self, batch: Batch, forms: Sequence[str]) -> list[Tensor]:
        """One gradient per form, by the fastest way that is to be believed."""
        found: list[Tensor] = []
        while not isinstance(self.method, InPlace):
            try:
                found, reason = self._tried(batch, forms)
            except Exception as error:  # noqa: BLE001  of any kind; the plain way then raises or serves
                reason = f"it fails ({type(error).__name__})"
            if reason is None:
                return found
            self.note(f"a slower method replaces {self.method.name}: {reason}")
            self.proved = False
            self._step_down()
            self.method.load(self.state)
            self._hold()
        return self.method.differentiate(batch, forms, self.layer)[1]

    def statistics_size(self, inputs: Tensor) -> int:
        """Returns how many numbers one example's gradient has once channels are averaged: of tokens, t × dim."""
        if inputs.is_floating_point():
            return inputs[:1].numel() // (inputs.shape[1] if inputs.ndim > 2 else 1)
        batch = self.prepare(inputs[:2], torch.zeros(len(inputs[:2])))
        self._find_layer(batch)
        with gradients_enabled(self.device, self.model), frozen_at(self.model):
            return forward(self.model, batch.leaf, self.layer)[0][:1].numel()

    def padding_id(self, batch: Batch) -> int | None:
        """The token number that stands for padding, as the model's config or embedding says; None if neither
        does."""
        self._find_layer(batch)
        return padding_id(self.model, self.model.get_submodule(self.layer or ""))

    def note(self, text: str) -> None:
        """Keep a sentence about this run, once."""
        if text not in self.notes:
            self.notes.append(text)

    def _find_layer(self, batch: Batch) -> None:
        if batch.tokens and self.layer is None:
            with gradients_enabled(self.device, self.model), frozen_at(self.model):
                self.layer = token_layer(self.model, batch.leaf, self.embedding)

    # -- proof

    def _tried(self, batch: Batch, forms: Sequence[str]) -> tuple[list[Tensor], str | None]:
        """The gradients by the present way, and why they are not to be believed, None where they are."""
        if self.proved:
            logits, found = self.method.differentiate(batch, forms, self.layer)
            return found, self._refuted(batch, forms, logits, found)
        with frozen_at(self.model) as original:  # a copy that still calls the original may write into it
            before = _versions(original)
            logits, found = self.method.differentiate(batch, forms, self.layer)
            touched = _versions(original) != before
        return found, "it writes into the original" if touched else self._refuted(batch, forms, logits, found)

    def _refuted(self, batch: Batch, forms: Sequence[str], logits: Tensor, found: list[Tensor]) -> str | None:
        """Returns why the present way's results on a batch are not to be believed; None where the model itself gives
        the same, or did so already on an earlier batch."""
        if self.checked or (self.proved and not self.method.pairs):
            return None
        plain, tolerance = InPlace(self.model), torch.finfo(self.method.dtype).eps ** 0.5
        plain.load(self.state)
        reason = None
        if self.proved:
            batch, logits = batch.first(FEW), logits[:FEW]
            wanted = plain.logits(batch, self.layer)
        else:
            wanted, (gradient,) = plain.differentiate(batch, forms[:1], self.layer)
            if not close_gradients(found[0], gradient, 10 * tolerance):
                reason = "its gradients differ"
        if not close_logits(logits, wanted, tolerance):
            reason = "its logits differ"
        if not self.proved and self._moves_with_the_original(batch, logits):
            reason = "its logits change with the original's weights"
        self.proved = self.checked = True
        return reason

    def _compare_slope(self, batch: Batch, gradient: Tensor) -> None:
        """Say, once, where autograd's gradient is not the slope of the logits."""
        self._slope_compared = True
        few = batch.first(EXAMPLES)
        logits_of: Callable[[Batch], Tensor] = lambda moved: self.method.logits(moved, self.layer)  # noqa: E731  one of two
        with self.method.held() if isinstance(self.method, InPlace) else contextlib.nullcontext():
            if batch.tokens:
                few, logits_of = self._embedded(few)
            if not is_slope(logits_of, few, gradient[:EXAMPLES]):
                self.note(NO_SLOPE)

    def _embedded(self, batch: Batch) -> tuple[Batch, Callable[[Batch], Tensor]]:
        """A batch of what the embedding makes of tokens, and the logits of such a batch: tokens cannot be moved,
        the embedding's output can."""
        start = forward(self.module, batch.leaf, self.layer)[0].detach()

        def logits_of(moved: Batch) -> Tensor:
            values = moved.leaf.detach().clone()  # a model may write into it
            return forward_through(self.module, batch.leaf, self.layer or "", lambda _: values).detach()

        return replace(batch, leaf=start), logits_of

    def _moves_with_the_original(self, batch: Batch, logits: Tensor) -> bool:
        """Returns whether a copy's logits are other bits while every floating weight and buffer of the original is
        NaN."""
        with frozen_at(self.model) as original, torch.no_grad():
            for value in (*original.parameters(), *original.buffers()):
                if value.is_floating_point() or value.is_complex():
                    value.fill_(torch.nan)
            with torch.enable_grad():
                moved = self.method.logits(batch, self.layer)
        same = torch.equal(moved.nan_to_num(), logits.nan_to_num()) and torch.equal(moved.isnan(), logits.isnan())
        return not same

    def _step_down(self) -> None:
        """Take the next plainer way: what is left of the copies, then the model itself."""
        self.method: Copied | InPlace = InPlace(self.model)  # a copy's memory is free before the next one is made
        while self._left and isinstance(self.method, InPlace):
            pairs, channels_last = self._left.pop(0)
            try:
                self.method = Copied(self.model, self._dtype, pairs, channels_last)
            except Exception as error:  # noqa: BLE001  locks, generators, tensors with a history, and more
                self._left.clear()
                self.note(
                    f"the model cannot be copied ({type(error).__name__}), so every checkpoint was run in the "
                    "original model"
                )


def _versions(model: nn.Module) -> list[int]:
    """Returns how often each parameter and buffer was written into."""
    return [value._version for value in (*model.parameters(), *model.buffers())]


def close_logits(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Returns whether (n, c) logits, each row less its mean, agree up to ``tolerance`` of the largest one.

    >>> close_logits(torch.tensor([[5.0, 6.0]]), torch.tensor([[5.0, 6.1]]), 1e-3)
    False
    """
    finite = wanted.isfinite()
    if not torch.equal(found.isfinite(), finite):
        return False
    found, wanted = (torch.where(finite, one.double(), 0) for one in (found, wanted))
    found, wanted = (one - one.mean(1, keepdim=True) for one in (found, wanted))
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max()) if wanted.numel() else True


def close_gradients(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Returns whether gradients agree in norm up to ``tolerance``; numbers that are not finite must be so in both."""
    finite = wanted.isfinite()
    if not torch.equal(found.isfinite(), finite):
        return False
    found, wanted = (torch.where(finite, one.double(), 0) for one in (found, wanted))
    return close_in_norm(found, wanted, tolerance)


# -- what a checkpoint must hold -----------------------------------------------------------------------------


def _expected(module: nn.Module) -> dict[str, tuple[tuple[int, ...], set[str]]]:
    """Name of each tensor of a state dict → its shape, and the names that share it, its own included."""
    state = module.state_dict(keep_vars=True)
    held = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    sharing: dict[int, set[str]] = {}
    for key, value in held.items():
        sharing.setdefault(id(value), set()).add(key)
    return {key: (tuple(value.shape), sharing[id(value)]) for key, value in held.items()}


def _check(state: State, expected: Mapping[str, tuple[tuple[int, ...], set[str]]], name: str) -> None:
    """Refuse a state dict that lacks a tensor, has one too many, or one of another shape."""
    given = {key for key in state if isinstance(state[key], Tensor)}
    for key, (shape, others) in expected.items():
        if given.isdisjoint(others) and not key.endswith("num_batches_tracked"):
            raise HardlookError(f"{name} has no {key!r}, which the model needs with shape {shape}")
        if key in given and tuple(state[key].shape) != shape:
            found = tuple(state[key].shape)
            raise HardlookError(f"{name}: {key!r} has shape {found}; the model needs {shape}")
    unknown = sorted(given - expected.keys())
    if unknown:
        raise HardlookError(f"{name} holds {unknown[0]!r}, which the model does not have")
