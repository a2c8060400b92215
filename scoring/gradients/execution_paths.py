"""Ways to run a model at a checkpoint's weights: the user's own module in place, or a frozen copy that is
faster.

Each way has a ``name`` in words, the ``module`` that runs, its ``dtype`` and the ``pairs`` of layers folded
in it; a state dict is loaded, a batch goes in, logits and gradients come out. Cost: in place, the weights are
copied thrice per loan; a copy takes the weights once more. Known limits: nothing is compared here;
``scoring.gradients.checkpoint_slot`` does that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from scoring.gradients.backward_passes import Batch, differentiate, forward
from scoring.models.batchnorm_folding import Pair, fold_modules, fold_state
from scoring.models.eval_mode import evaluating, load_weights
from scoring.models.model_copy import independent_copy
from scoring.models.snapshot import given_back

State = Mapping[str, Tensor]


def device_of(model: nn.Module) -> torch.device:
    """Returns where the model's first parameter lies; the CPU for a model without any."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def dtype_of(model: nn.Module) -> torch.dtype:
    """The precision of the model's first floating parameter; float32 for a model without any."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def has_bfloat16(device: torch.device) -> bool:
    """Returns whether bfloat16 runs in hardware there; emulated, it is tens of times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def mostly_convolutions(model: nn.Module) -> bool:
    """Returns whether 2-d convolutions hold most weights: those run faster in channels_last memory.

    >>> mostly_convolutions(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 2)))
    True
    """
    sizes = {
        id(p): p.numel() for module in model.modules() if isinstance(module, nn.Conv2d) for p in module.parameters()
    }
    return 2 * sum(sizes.values()) > sum(p.numel() for p in model.parameters())


@contextlib.contextmanager
def frozen_at(model: nn.Module, state: State | None = None) -> Iterator[nn.Module]:
    """Yields the user's own model at a checkpoint's weights, frozen and in eval mode; afterwards it is restored bit for
    bit."""
    kept = [(parameter, parameter.detach().clone()) for parameter in model.parameters()]
    with evaluating(model, state=state):  # its keys were checked
        try:
            yield model
        finally:
            with torch.no_grad():
                for parameter, before in kept:
                    parameter.copy_(before)


class InPlace:
    """The plain way: the user's own model, lent for each batch, or for many while ``held``."""

    name = "the model itself"

    def __init__(self, model: nn.Module):
        self.module, self.dtype = model, dtype_of(model)
        self.pairs: list[Pair] = []
        self.frozen = False

    def load(self, state: State) -> None:
        """Keep a checkpoint's weights, by reference, for the batches to come."""
        self.state = {key: value for key, value in state.items() if isinstance(value, Tensor)}

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The model at the loaded checkpoint's weights; given back in between would cost time alone."""
        if self.frozen:
            yield
            return
        with frozen_at(self.module, self.state):
            self.frozen = True
            try:
                yield
            finally:
                self.frozen = False

    def differentiate(self, batch: Batch, forms: Sequence[str], layer: str | None) -> tuple[Tensor, list[Tensor]]:
        """Logits and one gradient per form."""
        with self.held():
            return differentiate(self.module, batch, forms, layer)

    def logits(self, batch: Batch, layer: str | None) -> Tensor:
        """(n, c) logits alone."""
        with self.held():
            return forward(self.module, batch.leaf, layer)[1].detach()


class Copied:
    """A frozen copy of the model, in ``dtype``, with these pairs folded and in this memory layout."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, pairs: Sequence[Pair] = (), channels_last: bool = False):
        self.dtype, self.pairs, self.channels_last = dtype, list(pairs), channels_last
        self.module = independent_copy(model).eval().requires_grad_(False)
        fold_modules(self.module, self.pairs)
        if dtype != dtype_of(model):  # else a model of several precisions keeps them
            self.module.to(dtype=dtype)
        if channels_last:
            for module in self.module.modules():
                if isinstance(module, nn.Conv2d):
                    module.to(memory_format=torch.channels_last)

    @property
    def name(self) -> str:
        """Returns what makes this way faster, in words."""
        parts = ["folded batch norms"] * bool(self.pairs) + ["channels_last memory"] * self.channels_last
        return "a copy of the model" + (f" with {' and '.join(parts)}" if parts else "")

    def load(self, state: State) -> None:
        """Put a checkpoint's weights into the copy."""
        load_weights(self.module, fold_state(state, self.pairs))
        self.module.eval()

    def differentiate(self, batch: Batch, forms: Sequence[str], layer: str | None) -> tuple[Tensor, list[Tensor]]:
        """Logits and one gradient per form; what the forward keeps must not outlive these weights."""
        with given_back(self.module):
            return differentiate(self.module, self._cast(batch), forms, layer, layout=self._layout(batch))

    def logits(self, batch: Batch, layer: str | None) -> Tensor:
        """(n, c) logits alone, by the kernels that ``differentiate`` runs."""
        with given_back(self.module):
            return forward(self.module, self._cast(batch).leaf, layer, layout=self._layout(batch))[1].detach()

    def _layout(self, batch: Batch) -> torch.memory_format:
        images = self.channels_last and batch.leaf.ndim == 4
        return torch.channels_last if images else torch.preserve_format

    def _cast(self, batch: Batch) -> Batch:
        if batch.tokens or batch.leaf.dtype == self.dtype:
            return batch
        return Batch(batch.leaf.detach().to(self.dtype).requires_grad_(), batch.classes, batch.highest)
