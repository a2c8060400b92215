"""Batch normalisation folded into the convolution before it: the same outputs with fewer layers.

In eval mode a batch norm is a fixed affine map per channel, so conv followed by norm is one convolution with

    w' = w · γ / √(σ² + ε)      b' = (b − μ) · γ / √(σ² + ε) + β

Inputs are modules and state dicts; outputs are names of pairs and folded state dicts. Which layers feed which
norm is found by ``torch.fx`` symbolic tracing, which runs no arithmetic; the model keeps its own ``forward``:
folded norms become ``Identity``, and timm's ``BatchNormAct2d`` its dropout and activation.

Cost: one trace per model, and one pass over the convolution weights per checkpoint (in float64, then rounded
once).

Known limits: a model that cannot be traced or has a replaced ``forward`` is left as it is, and so is a norm
that does not follow its convolution directly, that stays in training mode, a subclass, a layer that is called
twice, has two names, shares its weights, or carries hooks or parametrisations. A trace does not see
everything: ``scoring.gradients.checkpoint_slot`` compares folded with unfolded outputs.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from torch import Tensor, fx, nn

from scoring.models.eval_mode import evaluating
from scoring.models.model_copy import independent_copy

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
WITH_ACTIVATION = ("timm.layers.norm_act", "BatchNormAct2d")
"""Module and name of timm's batch norm with a dropout and an activation after it; timm need not be there."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

log = logging.getLogger(__name__)


class Tracer(fx.Tracer):
    """A tracer that does not look into what can be folded."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Norms with an activation are leaves, beside torch's own layers."""
        return _has_activation(m) or super().is_leaf_module(m, module_qualified_name)


class Pair(NamedTuple):
    """Names of a convolution and of the batch norm that alone reads its output, with the norm's ε."""

    conv: str
    norm: str
    eps: float


def foldable_pairs(model: nn.Module) -> list[Pair]:
    """The (convolution, batch norm) pairs whose folding changes no output; [] where tracing fails."""
    if any("forward" in vars(module) for module in model.modules()):
        return []  # the trace would follow the class's forward
    graph = _traced(model)
    if graph is None:
        return []
    nodes = [node for node in graph.nodes if node.op == "call_module"]
    calls = Counter(node.target for node in nodes)
    read_directly = {node.target.rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    barred = {name for name, count in calls.items() if count > 1} | read_directly | _sharing(model)
    found = [_pair(model, node) for node in nodes]
    return [pair for pair in found if pair is not None and barred.isdisjoint((pair.conv, pair.norm))]


def _traced(model: nn.Module) -> fx.Graph | None:
    """The model's graph in eval mode, traced on a copy because a forward may keep what passes through it."""
    try:
        with warnings.catch_warnings(), evaluating(model):  # its hooks may refer to the original
            warnings.simplefilter("ignore")
            evaluated = independent_copy(model).eval()
            if any(_is_norm(module) and module.training for module in evaluated.modules()):
                return None  # a norm that overrides train() still takes the batch's statistics
            return Tracer().trace(evaluated)
    except Exception as error:  # noqa: BLE001  a user's forward may raise anything at all when it is fed a proxy
        log.info("batch norms are not folded: %s cannot be traced (%s)", type(model).__name__, error)
        return None


def _pair(model: nn.Module, node: fx.Node) -> Pair | None:
    """The pair that ends in this call, if this is a plain norm and a plain convolution feeds nothing else."""
    norm = model.get_submodule(str(node.target))
    source = node.args[0] if node.args else None
    if not _is_norm(norm) or norm.running_mean is None or not isinstance(source, fx.Node):
        return None
    if source.op != "call_module" or len(source.users) != 1:
        return None
    conv = model.get_submodule(str(source.target))
    if type(conv) not in CONVOLUTIONS or any(getattr(m, hooks) for m in (conv, norm) for hooks in HOOKS):
        return None
    return Pair(str(source.target), str(node.target), norm.eps)


def _is_norm(module: nn.Module) -> TypeGuard[nn.modules.batchnorm._BatchNorm]:
    """Returns whether this is a batch norm as torch, or timm, wrote it: a subclass may compute something else."""
    return type(module) in NORMS or _has_activation(module)


def _has_activation(module: nn.Module) -> bool:
    """Returns whether this is timm's batch norm with a dropout and an activation after it."""
    kind = type(module)
    return (
        (kind.__module__, kind.__name__) == WITH_ACTIVATION
        and isinstance(module, nn.BatchNorm2d)
        and all(isinstance(getattr(module, part, None), nn.Module) for part in ("drop", "act"))
    )


def _sharing(model: nn.Module) -> set[str]:
    """Names of modules that have another name too, or hold a parameter which another module holds."""
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name.rpartition(".")[0])
    for name, module in model.named_modules(remove_duplicate=False):
        owners.setdefault(id(module), []).append(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}


def fold_modules(model: nn.Module, pairs: list[Pair]) -> None:
    """Give each folded convolution a bias and put what is left of its norm in the norm's place, in the model
    itself."""
    for pair in pairs:
        conv: Any = model.get_submodule(pair.conv)  # one of ``CONVOLUTIONS``
        if conv.bias is None:
            conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels), requires_grad=False)
        parent, _, child = pair.norm.rpartition(".")
        norm = model.get_submodule(pair.norm)
        left: nn.Module = nn.Identity()
        if _has_activation(norm):
            parts = dict(norm.named_children())
            left = nn.Sequential(OrderedDict((name, parts[name]) for name in ("drop", "act")))
        setattr(model.get_submodule(parent), child, left)


def fold_state(state: Mapping[str, Tensor], pairs: list[Pair]) -> dict[str, Tensor]:
    """The state dict of the folded model: norms are gone, their convolutions' weight and bias rescaled."""
    folded = dict(state)
    for pair in pairs:
        weight, bias = _folded(state, pair)
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            folded.pop(f"{pair.norm}.{name}", None)
        folded[f"{pair.conv}.weight"], folded[f"{pair.conv}.bias"] = weight, bias
    return folded


def _folded(state: Mapping[str, Tensor], pair: Pair) -> tuple[Tensor, Tensor]:
    weight = state[f"{pair.conv}.weight"].cpu().double()
    mean, variance = (state[f"{pair.norm}.running_{name}"].cpu().double() for name in ("mean", "var"))
    scale = (variance + pair.eps).rsqrt()
    if f"{pair.norm}.weight" in state:
        scale = scale * state[f"{pair.norm}.weight"].cpu().double()
    shift = -mean * scale
    if f"{pair.norm}.bias" in state:
        shift = shift + state[f"{pair.norm}.bias"].cpu().double()
    if f"{pair.conv}.bias" in state:
        shift = shift + state[f"{pair.conv}.bias"].cpu().double() * scale
    return weight * scale.reshape(-1, *[1] * (weight.ndim - 1)), shift
