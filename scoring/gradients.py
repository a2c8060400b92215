"""Input gradients: how a class's logit or probability changes with each element of the input.

For an input x, a class a and logits f(x), p = softmax(f(x)):

    logit form         ∂ f_a(x) / ∂x                                   (VoG, Agarwal et al. 2022, eq. 1)
    probability form   ∂ p_a(x) / ∂x = Σ_j s_j ∂ f_j(x) / ∂x,   s_a = p_a Σ_{j≠a} p_j,   s_j = −p_a p_j

Models, batches and class indices go in; gradients of the shape of the input come out. Integer inputs are
tokens: their gradient is taken at the output of the embedding layer, (n, tokens, dim). ``input_gradients``
serves one batch through a model that it gives back untouched; ``Slot`` serves many checkpoints through one
copy with frozen parameters.

Cost: one forward pass, and one backward pass to the input per form; no parameter gradient is ever computed.

Known limits: the logits of an example must not depend on the rest of its batch (true in eval mode). Inputs
are one tensor; a model that needs more (masks) derives them from it, or is wrapped.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from scoring.folding import fold_modules, fold_state, foldable_pairs
from scoring.models.modes import evaluating, logits_of
from scoring.tables import HardlookError

FORMS = ("logit", "probability")


def input_gradients(
    model: nn.Module, inputs: Tensor, classes: Tensor, *, form: str = "logit", embedding: str | None = None
) -> Tensor:
    """The gradient of one class's logit, or softmax probability, with respect to each example's input.

    ``inputs``: (n, *input) of floats, or (n, tokens) of integers. ``classes``: (n,) indices. ``embedding``
    names the layer that embeds tokens; the first ``nn.Embedding`` where it is None. → (n, *input), or (n,
    tokens, dim) for tokens, on the device of the inputs and in the precision of the model.

    The model runs in eval mode, where it stands, and is given back exactly as it was: training flags,
    requires_grad, .grad and buffers. Raises ``HardlookError`` for an unknown form, a class the model does not
    have, or a forward that cuts the graph.

    >>> model = nn.Linear(2, 3)
    >>> gradient = input_gradients(model, torch.ones(1, 2), torch.tensor([2]))
    >>> bool((gradient[0] == model.weight[2]).all())
    True
    """
    check_forms([form])
    with evaluating(model), gradients_enabled(device_of(model), model):
        batch = _prepared(inputs, classes, device_of(model), dtype_of(model))
        watched, logits = forward(model, batch.leaf, embedding)
        (gradient,) = _backward(logits, watched, batch, [form])
    return gradient.to(inputs.device)


def check_forms(forms: Sequence[str]) -> None:
    """Refuse a form that is neither "logit" nor "probability"."""
    for form in forms:
        if form not in FORMS:
            raise HardlookError(f"form = {form!r}; needed one of {', '.join(FORMS)}")


def channel_mean(gradients: Tensor, *, tokens: bool = False) -> Tensor:
    """Average what is not a pixel: channels of images and series (axis 1), the embedding dimension of tokens.

    (n, c, *pixels) → (n, *pixels); tokens (n, t, dim) → (n, t); vectors (n, d) stay. At least float32.

    >>> channel_mean(torch.tensor([[[1.0, 2.0], [3.0, 6.0]]]))
    tensor([[2., 4.]])
    """
    wide = torch.promote_types(gradients.dtype, torch.float32)
    if gradients.ndim <= 2:
        return gradients.to(wide)
    return gradients.mean(-1 if tokens else 1, dtype=wide)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's first parameter lies; the CPU for a model without any."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def dtype_of(model: nn.Module) -> torch.dtype:
    """The precision of the model's first floating parameter; float32 for a model without any."""
    return next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 runs in hardware there; emulated, it is tens of times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()


# -- one forward, and one backward per form ------------------------------------------------------------------


def forward(model: nn.Module, leaf: Tensor, embedding: str | None = None, *,
            layout: torch.memory_format = torch.preserve_format) -> tuple[Tensor, Tensor]:
    """Run the model → the tensor to differentiate by (the leaf, or the embedded tokens), and the logits.

    The model gets a copy of the leaf, so that a first layer which works in place harms nothing.
    """
    if leaf.is_floating_point():
        return leaf, logits_of(model(leaf.clone(memory_format=layout)))
    seen: list[Tensor] = []

    def watch(_module, _inputs, output):
        seen.append(output.detach().requires_grad_())
        return seen[-1].clone()

    name, layer = _embedding(model, embedding)
    handle = layer.register_forward_hook(watch)
    try:
        logits = logits_of(model(leaf))
    finally:
        handle.remove()
    if len(seen) != 1:
        raise HardlookError(
            f"the embedding {name!r} was called {len(seen)} times in one forward pass; needed once: "
            "name the layer that embeds the tokens"
        )
    return seen[0], logits


def forward_from(model: nn.Module, tokens: Tensor, embedded: Tensor, embedding: str | None = None) -> Tensor:
    """Run the model on tokens, with ``embedded`` in place of what their embedding gives → the logits."""
    _, layer = _embedding(model, embedding)
    handle = layer.register_forward_hook(lambda _module, _inputs, _output: embedded)
    try:
        return logits_of(model(tokens))
    finally:
        handle.remove()


def _embedding(model: nn.Module, name: str | None) -> tuple[str, nn.Module]:
    """The layer of that name, or the first ``nn.Embedding``, with its name."""
    if name is not None:
        try:
            return name, model.get_submodule(name)
        except AttributeError as error:
            raise HardlookError(f"the model has no layer {name!r} to embed tokens") from error
    for found, layer in model.named_modules():
        if isinstance(layer, nn.Embedding):
            return found, layer
    raise HardlookError(
        "inputs are integers, which are read as tokens, but the model has no nn.Embedding; "
        "name its embedding layer, or convert the inputs to floats in the transform"
    )


@dataclass(frozen=True)
class Prepared:
    """A batch on its device, to be differentiated by as often as wanted: leaf (n, *input), classes (n, 1)."""

    leaf: Tensor
    classes: Tensor
    highest: int

    @property
    def tokens(self) -> bool:
        """Whether the inputs are tokens, whose gradient is taken at the embedding."""
        return not self.leaf.is_floating_point()


def _prepared(inputs: Tensor, classes: Any, device: torch.device, dtype: torch.dtype) -> Prepared:
    """Inputs and class indices, checked once and where they lie: a look at the device would wait for it."""
    classes = torch.as_tensor(classes).long()
    if classes.shape != (len(inputs),):
        raise HardlookError(
            f"classes have shape {tuple(classes.shape)}; needed ({len(inputs)},), one per example")
    lowest, highest = (int(classes.min()), int(classes.max())) if len(classes) else (0, 0)
    if lowest < 0:
        raise HardlookError(f"classes run from {lowest} to {highest}; needed indices of the model's outputs")
    return Prepared(_leaf(inputs, device, dtype), classes[:, None].to(device), highest)


def _leaf(inputs: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A copy of the inputs to differentiate by: floats in the model's precision, tokens as they are."""
    if not inputs.is_floating_point():
        return inputs.detach().to(device, copy=True)
    return inputs.detach().to(device, dtype, copy=True).requires_grad_()


def _backward(logits: Tensor, watched: Tensor, batch: Prepared, forms: Sequence[str]) -> list[Tensor]:
    """One backward pass per form over the same graph → gradients like ``watched``."""
    if not logits.requires_grad:
        raise HardlookError(
            "the logits carry no gradient: the model's forward cuts the graph (no_grad, detach, numpy); "
            "remove that"
        )
    if batch.highest >= logits.shape[1]:
        raise HardlookError(
            f"class {batch.highest} was asked for; the model has outputs 0 to {logits.shape[1] - 1}")
    gradients = []
    for form in forms:
        seed = _seed(logits.detach(), batch.classes, form)
        last = form is forms[-1]
        gradients += torch.autograd.grad(
            logits, watched, seed, retain_graph=not last, allow_unused=True, materialize_grads=True
        )
    return gradients


def _seed(logits: Tensor, classes: Tensor, form: str) -> Tensor:
    """∂ target / ∂ logits, (n, c). 1 − p_a is summed from the other classes: a difference is 0 at p ≈ 1."""
    if form == "logit":
        return torch.zeros_like(logits).scatter_(1, classes, 1)
    p = logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(1)
    chosen = p.gather(1, classes)
    others = p.scatter(1, classes, 0)
    seed = -chosen * others
    return seed.scatter_(1, classes, chosen * others.sum(1, keepdim=True)).to(logits.dtype)


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
            stack.enter_context(torch.backends.cudnn.flags(
                enabled=not recurrent, benchmark=False, deterministic=True, allow_tf32=False))
        yield


# -- many checkpoints through one module ---------------------------------------------------------------------


class Slot:
    """One copy of a model that all checkpoints pass through in turn: eval mode, frozen, batch norms folded.

    ``dtype`` None keeps the model's own precision; ``torch.bfloat16`` is faster where the hardware has it and
    good to about 1 %. Gradients of images run in channels_last where the model's forward allows it.
    """

    def __init__(self, model: nn.Module, *, device: str | torch.device | None = None,
                 dtype: torch.dtype | None = None, fold: bool = True, embedding: str | None = None):
        self.device = torch.device(device) if device is not None else device_of(model)
        self.dtype = dtype or dtype_of(model)
        self.embedding = embedding
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.expected = _expected(self.module)
        self.pairs = foldable_pairs(self.module) if fold else []
        fold_modules(self.module, self.pairs)
        self.module.to(self.device, dtype)
        self.channels_last = any(isinstance(m, nn.Conv2d) for m in self.module.modules())
        self._arrange()

    def _arrange(self) -> None:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        for module in self.module.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=layout)

    def load(self, state: Mapping[str, Tensor], name: str = "checkpoint") -> None:
        """Put one checkpoint's weights into the module; a key or shape that does not fit is an error."""
        given = {key for key in state if isinstance(state[key], Tensor)}
        for key, (shape, others) in self.expected.items():
            if given.isdisjoint(others) and not key.endswith("num_batches_tracked"):
                raise HardlookError(f"{name} has no {key!r}, which the model needs with shape {shape}")
            if key in given and tuple(state[key].shape) != shape:
                found = tuple(state[key].shape)
                raise HardlookError(f"{name}: {key!r} has shape {found}; the model needs {shape}")
        unknown = sorted(given - self.expected.keys())
        if unknown:
            raise HardlookError(f"{name} holds {unknown[0]!r}, which the model does not have")
        self.module.load_state_dict(fold_state(state, self.pairs), strict=False)  # checked above

    def prepare(self, inputs: Tensor, classes: Any) -> Prepared:
        """A batch of inputs and class indices on the slot's device, ready for every checkpoint."""
        return _prepared(inputs, classes, self.device, self.dtype)

    def maps(self, batch: Prepared, forms: Sequence[str] = FORMS) -> list[Tensor]:
        """One forward pass, one backward pass per form → per form (n, *pixels), averaged over channels."""
        with gradients_enabled(self.device, self.module):
            try:
                gradients = self._gradients(batch, forms)
            except RuntimeError as error:
                if not (self.channels_last and "view" in str(error)):
                    raise
                self.channels_last = False  # a forward with .view(n, -1) cannot read channels_last
                self._arrange()
                gradients = self._gradients(batch, forms)
        return [channel_mean(gradient, tokens=batch.tokens) for gradient in gradients]

    def _gradients(self, batch: Prepared, forms: Sequence[str]) -> list[Tensor]:
        images = self.channels_last and batch.leaf.ndim == 4
        layout = torch.channels_last if images else torch.preserve_format
        watched, logits = forward(self.module, batch.leaf, self.embedding, layout=layout)
        return _backward(logits, watched, batch, forms)


def _expected(module: nn.Module) -> dict[str, tuple[tuple[int, ...], set[str]]]:
    """Name of each tensor of a state dict → its shape, and the names that share it, its own included."""
    state = module.state_dict(keep_vars=True)
    held = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    sharing: dict[int, set[str]] = {}
    for key, value in held.items():
        sharing.setdefault(id(value), set()).add(key)
    return {key: (tuple(value.shape), sharing[id(value)]) for key, value in held.items()}
