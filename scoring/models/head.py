"""The head of a model: the layer that returns the logits, its input (the features), and whether it is linear.

What is the head is measured on a batch, never read off a type: a forward pass is watched, and the head is the last
layer with parameters of its own whose output O *is* the logits Z, after one of these readings of O and of the input X
(``READINGS``):

    rows    O (n, c) and X (n, d)                        an ordinary head
    flat    O (n, c, 1, 1) and X (n, d, 1, 1)            a 1×1 convolution after pooling
    mean    O (n, c, h, w) and X (n, d, h, w), averaged  a 1×1 convolution before pooling
    tokens  O (n, t, c) and X (n, t, d), averaged        a head on every token, averaged
    token   O (n, t, c) and X (n, t, d) at one token     a head on every token, of which one is chosen

and one of these relations (``Relation``): Z = s·O for one number s (1 for most; 1/T where logits are divided by a
temperature), Z = O up to a number per example (log-softmax behind the head), or Z = (0, O) (one logit for two classes).

The head is *linear* where Z = s·(X Wᵀ + b) holds to 1e-5 on the batch, with the layer's own weight and bias: only then
do the closed forms of Cook's distance, GraNd and GradNorm stand for this model. Both are measured again on every batch.

A model and a batch → ``Head`` and ``Features`` (n, d), (n, c). Cost: one forward pass, and n·d·c multiplications.
Known limits: logits that no single layer gives (the mean of two heads) have no features, and ``reason`` says so.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from scoring.audit.errors import HardlookError
from scoring.models.eval_mode import evaluating, logits_of, run

CLOSE = 1e-5  # of the largest logit; rounding of float32 stays below it
EPSILON = 2.0**-23  # the step of float32
READINGS = ("rows", "flat", "mean", "tokens", "token")
RELATIONS = ("scaled", "shifted", "single")


class Head(NamedTuple):
    """The layer that gives the logits, by name and module; both None, with a ``reason``, where there is none.

    ``reading``: how its input and output are read. ``scale``: s in Z = s·O. ``relation``: "scaled", "shifted" or
    "single". ``linear``: whether Z = s·(X Wᵀ + b) was measured; else ``reason`` says why not. ``bias``: whether the
    layer has one.
    """

    name: str | None
    module: nn.Module | None
    reason: str | None = None
    reading: str = "rows"
    relation: str = "scaled"
    scale: float = 1.0
    linear: bool = False
    bias: bool = False

    def facts(self) -> dict[str, Any]:
        """Returns what closed forms need to know of the head, as JSON can write it."""
        return {"name": self.name, "linear": self.linear, "bias": self.bias, "scale": self.scale, "reason": self.reason}


class Features(NamedTuple):
    """(n, d) inputs of the head, NaN in a row whose logits are not the head's output (None, with a ``reason``, where
    there is no head), (n, c) logits, and whether the head is linear on this batch."""

    features: Tensor | None
    logits: Tensor
    reason: str | None = None
    linear: bool = False


class _Call(NamedTuple):
    """One layer that ran: its name, module, input and output."""

    name: str
    module: nn.Module
    entered: Tensor
    output: Tensor


def head_of(model: nn.Module, inputs: Any) -> Head:
    """The head, by watching a forward pass over some ``inputs``; the more of them, the surer.

    The model runs in eval mode and is given back as it was.
    """
    logits = forward(model, inputs)
    with _watched(model, _may_be_head, logits) as calls:
        logits = forward(model, inputs)
    innermost = [call for call in calls if _holds_all(call.module)]
    head = _head_among(innermost, logits) or _head_among(calls, logits)
    if head is None:
        return Head(None, None, _no_layer(calls))
    reason = head.reason or _used_elsewhere(model, head, sum(call.module is head.module for call in calls))
    return head._replace(reason=reason, linear=reason is None)


def features_of(model: nn.Module, inputs: Any, head: Head | None = None) -> Features:
    """Returns what enters the head, (n, d), and the logits, (n, c), from one forward pass without gradients.

    ``head``: what ``head_of`` found on another batch; it is measured again on this one.
    """
    head = head or head_of(model, inputs)
    if head.module is None:
        return Features(None, forward(model, inputs), head.reason)
    with _watched(model, lambda layer: layer is head.module) as calls:
        logits = forward(model, inputs)
    for call in reversed(calls):
        read = _read(call, logits, head.reading, head.relation)
        if read is None:
            continue
        same = _gives(read.output, logits, head.relation, head.scale).to(read.features.device)
        if bool(same.any()):
            reason = head.reason or _not_linear(head, read.features[same], read.output[same], logits[same])
            return Features(read.features.masked_fill(~same[:, None], float("nan")), logits, reason, reason is None)
    return Features(None, logits, f"the logits are not computed from the output of {head.name!r} in this batch")


def entering(head: Head, entered: Tensor, output: Tensor, logits: Tensor) -> Tensor:
    """(n, d) features in what entered the head and came out of it, through which gradients flow."""
    if head.name is None or head.module is None:
        raise HardlookError(f"no layer gives the logits: {head.reason}")
    read = _read(_Call(head.name, head.module, entered, output), logits, head.reading, head.relation)
    if read is None:
        raise HardlookError(
            f"the head {head.name!r} returned shape {tuple(output.shape)}, which differs from the batch on which the "
            "head was found"
        )
    return read.features


def forward(model: nn.Module, inputs: Any) -> Tensor:
    """(n, c) logits in eval mode, without gradients."""
    with evaluating(model), torch.no_grad():
        return logits_of(run(model, inputs))


# -- which layer it is ---------------------------------------------------------------------------------------


def _head_among(calls: list[_Call], logits: Tensor) -> Head | None:
    """The last call whose output is the logits in one of the readings and relations."""
    for call in reversed(calls):
        for relation, reading in itertools.product(RELATIONS, READINGS):
            read = _read(call, logits, reading, relation)
            scale = _scale(read.output, logits) if read is not None and relation == "scaled" else 1.0
            if read is None or not scale or not bool(_gives(read.output, logits, relation, scale).all()):
                continue
            bias = isinstance(getattr(call.module, "bias", None), Tensor)
            head = Head(call.name, call.module, None, reading, relation, scale, True, bias)
            reason = _not_linear(head, read.features, read.output, logits)
            return head._replace(reason=reason, linear=reason is None)
    return None


def _used_elsewhere(model: nn.Module, head: Head, times: int) -> str | None:
    """Returns why the head's parameters count for more than its output: shared with another layer, or used twice."""
    own = {id(parameter) for parameter in head.module.parameters()} if head.module is not None else set()
    others = [
        name
        for name, layer in model.named_modules()
        if layer is not head.module and any(id(parameter) in own for parameter in layer.parameters(recurse=False))
    ]
    if others:
        return (
            f"the head {head.name!r} shares its weight with {others[0]!r}, but the closed forms hold only for a "
            "weight that the head alone uses"
        )
    return f"the head {head.name!r} runs {times} times in one forward pass" if times > 1 else None


def _no_layer(calls: list[_Call]) -> str:
    last = f" (the last layer of that width is {calls[-1].name!r})" if calls else ""
    return f"no single layer with parameters returns the logits{last}, so there is no head and there are no features"


class _Read(NamedTuple):
    """(n, d) and (n, c) of a layer's input and output."""

    features: Tensor
    output: Tensor


def _read(call: _Call, logits: Tensor, reading: str, relation: str) -> _Read | None:
    """A layer's input and output in one reading; None where their shapes do not allow it."""
    entered, output, n = call.entered, call.output, len(logits)
    single = relation == "single"
    if single and (logits.shape[1] != 2 or bool((logits[:, 0] != 0).any())):
        return None
    c = 1 if single else logits.shape[1]
    if len(entered) != n or len(output) != n or entered.ndim < 2:
        return None
    if reading == "rows":
        return _Read(entered.flatten(1), output) if output.shape == (n, c) else None
    if reading in ("flat", "mean"):
        return _read_map(entered, output, c, alone=reading == "flat")
    if output.ndim != 3 or output.shape[2] != c or entered.ndim != 3 or entered.shape[1] != output.shape[1]:
        return None
    if reading == "tokens":
        return _Read(entered.mean(1), output.mean(1))
    at = (output - logits[:, None, -c:]).abs().amax(2).argmin(1)
    rows = torch.arange(n, device=at.device)
    return _Read(entered[rows, at], output[rows, at])


def _read_map(entered: Tensor, output: Tensor, c: int, *, alone: bool) -> _Read | None:
    """Of a layer over maps, channels first, averaged over positions, of which there is one where it stands
    ``alone``."""
    if output.ndim < 3 or output.shape[1] != c or entered.shape[2:] != output.shape[2:]:
        return None  # of a wider kernel, the mean of the output is no function of the mean of the input
    if alone != (output[0, 0].numel() == 1):
        return None
    positions = tuple(range(2, output.ndim))
    return _Read(entered.mean(positions), output.mean(positions))


def _scale(output: Tensor, logits: Tensor) -> float:
    """s that brings s·O closest to Z; exactly 1 where they are equal; 0 where nothing does."""
    o, z = _wide(output), _wide(logits)
    if torch.equal(o, z):
        return 1.0
    scale = float((o * z).sum() / o.square().sum().clamp_min(1e-300))
    return scale if math.isfinite(scale) else 0.0


def _gives(output: Tensor, logits: Tensor, relation: str, scale: float) -> Tensor:
    """(n,) whether an output is the logits, by this relation, to 1e-5 of the largest logit; on the CPU."""
    found, wanted = _wide(output) * scale, _wide(logits)
    if relation == "single":
        found = torch.cat([torch.zeros_like(found), found], 1)
    if relation == "shifted":
        found, wanted = _centred(found), _centred(wanted)
    allowed = _precision(output, logits) * wanted.abs().amax().clamp_min(1e-30)
    return ((found - wanted).abs() <= allowed).all(1)


def _not_linear(head: Head, features: Tensor, output: Tensor, logits: Tensor) -> str | None:
    """None where Z = s·(X Wᵀ + b) with the head's own weight and bias; else why not, in a sentence."""
    layer, weight, bias = head.module, getattr(head.module, "weight", None), getattr(head.module, "bias", None)
    start = f"the head {head.name!r} ({type(layer).__name__})"
    if head.relation == "single":
        return f"{start} gives one logit for two classes, but the closed forms need one logit per class"
    shape = (logits.shape[1], features.shape[1])
    if not isinstance(weight, Tensor) or weight.ndim < 2 or weight.flatten(1).shape != shape:
        return f"{start} has no weight of the shape (classes, features) = {shape}"
    if any(
        parameter is not weight and parameter is not bias for parameter in (() if layer is None else layer.parameters())
    ):
        return f"{start} has other parameters besides one weight and one bias, which the closed forms do not cover"
    x, w, wanted = _wide(features), _wide(weight).flatten(1), _wide(logits)
    found = (x @ w.T + (_wide(bias) if isinstance(bias, Tensor) else 0.0)) * head.scale
    if head.relation == "shifted":
        found, wanted = _centred(found), _centred(wanted)
    rounding = 4 * EPSILON * abs(head.scale) * (x.abs() @ w.abs().T).amax()
    allowed = _precision(features, weight, output, logits) * wanted.abs().amax() + rounding
    if bool(((found - wanted).abs() <= allowed).all()):
        return None
    return f"{start} is not linear: its output is not features · weightᵀ + bias"


def _wide(values: Tensor) -> Tensor:
    """In float64 on the CPU: not every device has it."""
    return values.detach().cpu().double()


def _centred(values: Tensor) -> Tensor:
    """Less the mean over classes: where a number per example does not count."""
    return values - values.mean(1, keepdim=True)


def _precision(*tensors: Tensor) -> float:
    """1e-5, or twice the step of the coarsest of the tensors' types where that is larger (bfloat16, float16)."""
    steps = [torch.finfo(tensor.dtype).eps for tensor in tensors if tensor.is_floating_point()]
    return max(CLOSE, *(2 * step for step in steps))


# -- watching ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _watched(
    model: nn.Module, which: Callable[[nn.Module], bool], logits: Tensor | None = None
) -> Iterator[list[_Call]]:
    """Record input and output of every call of the layers that ``which`` picks, in the order in which they end; where
    ``logits`` are given, of those alone whose output has as many classes (or one, for two)."""
    calls: list[_Call] = []
    widths = None if logits is None else {logits.shape[1], logits.shape[1] - 1 if logits.shape[1] == 2 else 0}
    handles = [
        layer.register_forward_hook(_recorder(calls, name, widths), with_kwargs=True)
        for name, layer in model.named_modules()
        if which(layer)
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _recorder(calls: list[_Call], name: str, widths: set[int] | None) -> Callable[..., Any]:
    def record(layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        entered = next((value for value in (*arguments, *named.values()) if isinstance(value, Tensor)), None)
        if not isinstance(output, Tensor) or output.ndim < 2 or entered is None or not entered.is_floating_point():
            return
        if widths is None or widths & {output.shape[1], output.shape[-1]}:
            # Cloned: what follows may work in place.
            calls.append(_Call(name, layer, entered.detach().clone(), output.detach().clone()))

    return record


def _may_be_head(layer: nn.Module) -> bool:
    """Layers that hold all their parameters themselves, and those that have a weight by other ways (LoRA)."""
    if next(layer.parameters(), None) is None:
        return False
    return _holds_all(layer) or isinstance(getattr(layer, "weight", None), Tensor)


def _holds_all(layer: nn.Module) -> bool:
    """Returns whether no layer inside has parameters, parametrisations (spectral norm) apart."""
    inside = (child for name, child in layer.named_children() if name != "parametrizations")
    return not any(next(child.parameters(), None) is not None for child in inside)
