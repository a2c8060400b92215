"""Which models of torchvision and timm a state dict fits: all of its names and all of its shapes.

torchvision states the number of parameters of each of its models; without the last layer, whose width is the number of
classes, it tells nearly all of them apart without building one. The few that are left are built without memory (on the
meta device) and compared name by name. Of timm, the models of the family that the names speak of are built so.

The tensors of a state dict → `Fit` per model. Cost: a second for torchvision, up to twenty for a large family of timm.
Known limits: models whose head was replaced by several layers fit none; their body is named instead.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from scoring.models.checkpoints import natural_key
from scoring.models.named_models import named_model, needed_package

FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("blocks.0.attn.qkv.weight", ("vit_*", "deit*", "eva*", "beit*", "xcit*", "cait*", "convit*", "mixer*")),
    ("layers.0.blocks.0.attn.qkv.weight", ("swin*",)),
    ("stages.0.blocks.0.conv_dw.weight", ("convnext*",)),
    ("stages.0.blocks.0.conv1.conv.weight", ("regnet*", "resnetv2*")),
    (
        "blocks.0.0.conv_dw.weight",
        ("efficientnet*", "mobilenetv*", "mnasnet*", "tf_*", "mixnet*", "lcnet*", "tinynet*"),
    ),
    ("features.denseblock1.denselayer1.conv1.weight", ("densenet*",)),
    ("layer1.0.conv1.weight", ("resnet*", "resnext*", "wide_resnet*", "seresnet*", "ecaresnet*", "gluon*", "legacy*")),
)
"""A name that models of a family have → the patterns of their names in timm."""


BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index", "relative_coords_table")
"""Ends of the names of buffers in torchvision's models."""


TIMM_HEADS = ("head.weight", "head.fc.weight", "fc.weight", "classifier.weight", "head.l.weight", "last_linear.weight")
"""Names of the last layer in timm."""


@dataclass(frozen=True)
class Fit:
    """A model that a state dict fits: its name as ``model`` in ``audit.toml`` takes it, and its number of classes."""

    name: str
    classes: int


def without_prefix(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors without the leading parts that all of their names share (``module.``, ``model.net.``).

    >>> list(without_prefix({"module.fc.weight": torch.zeros(1), "module.conv.bias": torch.zeros(1)}))
    ['fc.weight', 'conv.bias']
    """
    found = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    while (
        len(found) > 1 and len({name.partition(".")[0] for name in found}) == 1 and all("." in name for name in found)
    ):
        found = {name.partition(".")[2]: tensor for name, tensor in found.items()}
    return found


def fitting(tensors: Mapping[str, torch.Tensor]) -> list[Fit]:
    """The models that the tensors fit, torchvision's first; none where no name and shape list is equal."""
    named = without_prefix(tensors)
    shapes = _shapes(named)
    found = [fit for fit in _torchvision(named) if _built_shapes(fit.name, fit.classes) == shapes]
    return found or [fit for fit in _timm(named) if _built_shapes(fit.name, fit.classes) == shapes]


def fitting_fastai(tensors: Mapping[str, torch.Tensor]) -> list[Fit]:
    """The ``fastai:NAME`` that the tensors of a vision learner fit: body ``0.…`` and head ``1.…``.

    Raises `HardlookError` where a body is that of a known architecture and fastai is not installed.
    """
    from torchvision import models as zoo

    matrices = [name for name, each in tensors.items() if name.startswith("1.") and each.ndim == 2]
    if not matrices:
        return []
    outputs = int(tensors[max(matrices, key=natural_key)].shape[0])
    body = _parameters({name: each for name, each in tensors.items() if name.startswith("0.")})
    found = []
    for name in _names():
        heads = {int(each.meta["num_params"]) - body for each in zoo.get_model_weights(name)}
        if any(each > 0 and each % 1000 == 0 for each in heads):  # a head of 1,000 outputs was cut off there
            needed_package("fastai", "fastai")
            if _built_shapes(f"fastai:{name}", outputs) == _shapes(tensors):
                found.append(Fit(f"fastai:{name}", outputs))
    return found


def body_of(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The torchvision models whose layers, but for the head, the tensors hold under the same names.

    For a state dict whose head was replaced (``fc.1.weight``): then a factory of the user's must build it.
    """
    from torchvision import models as zoo

    kept = without_prefix(tensors)
    named = _shapes(kept)
    body = _parameters({name: each for name, each in kept.items() if not _is_head(name)})
    found = []
    for name in _names():
        rest = [int(each.meta["num_params"]) - body for each in zoo.get_model_weights(name)]
        if not any(each > 0 and each % 1000 == 0 for each in rest):  # a head has 1,000 outputs there
            continue
        own = _built_shapes(name, 10)
        heads = {key for key in own if _is_head(key)}
        if all(named.get(key) == shape for key, shape in own.items() if key not in heads):
            found.append(name)
    return found


def _is_head(name: str) -> bool:
    return name.startswith(("fc.", "classifier.", "head.", "heads.", "AuxLogits.", "aux1.", "aux2."))


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Name → shape, without BatchNorm's counters."""
    return {name: tuple(each.shape) for name, each in tensors.items() if not name.endswith("num_batches_tracked")}


def _heads(tensors: Mapping[str, torch.Tensor]) -> set[tuple[int, int]]:
    """(outputs, inputs) of every matrix that may be the last one: files do not always keep the order of layers."""
    matrices = [each for name, each in tensors.items() if each.ndim in (2, 4) and name.endswith("weight")]
    return {(int(each.shape[0]), each[0].numel()) for each in matrices}


def _names() -> list[str]:
    from torchvision import models as zoo

    return [name for name in zoo.list_models(module=zoo) if not name.startswith("quantized_")]


def _torchvision(tensors: Mapping[str, torch.Tensor]) -> list[Fit]:
    """The models of torchvision that have as many parameters as the tensors, but for the last layer's width."""
    from torchvision import models as zoo

    total = _parameters(tensors)
    with_aux = any(name.startswith(("AuxLogits.", "aux1.")) for name in tensors)
    found = set()
    for name in _names():
        stated = {int(each.meta["num_params"]) for each in zoo.get_model_weights(name)}
        for outputs, inputs in _heads(tensors):
            changed = {total + (1000 - outputs) * (inputs + bias) for bias in (0, 1)}
            helped = with_aux and name in ("inception_v3", "googlenet") and (inputs in (1024, 2048))
            if changed & stated or helped:
                found.add((name, outputs))
    return [Fit(name, outputs) for name, outputs in sorted(found)]


def _parameters(tensors: Mapping[str, torch.Tensor]) -> int:
    """The number of parameters; buffers that state dicts hold beside them are none."""
    return sum(each.numel() for name, each in tensors.items() if not name.endswith(BUFFERS))


def _timm(tensors: Mapping[str, torch.Tensor]) -> list[Fit]:
    """The models of timm of the family that the names speak of; none without timm."""
    try:
        import timm
    except ImportError:
        return []
    patterns = next((patterns for key, patterns in FAMILIES if key in tensors), ())
    names: Iterable[str] = timm.list_models()
    head = next((tensors[name] for name in TIMM_HEADS if name in tensors and tensors[name].ndim in (2, 4)), None)
    if head is None:
        return []
    outputs = int(head.shape[0])
    return [Fit(f"timm:{name}", outputs) for name in names if any(fnmatch.fnmatchcase(name, each) for each in patterns)]


def _built_shapes(name: str, classes: int) -> dict[str, tuple[int, ...]]:
    """Name → shape of a model; empty where it cannot be built with that many classes."""
    arguments: dict[str, Any] = {"num_classes": classes}
    try:
        with torch.device("meta"):
            built = named_model(name, arguments, ".")
    except (ValueError, NotImplementedError):  # HardlookError is one; a few models read numbers while they are built
        try:
            with torch.random.fork_rng(devices=[]):
                built = named_model(name, arguments, ".")
        except ValueError:
            built = None
    return _shapes(built.state_dict()) if isinstance(built, nn.Module) else {}
