"""Errors for weights that do not fit a model: missing keys, wrong shapes or classes, wrong types, NaN.

The model's own names and tensors and those found in a file → nothing, or one `HardlookError` that names file,
key, found and needed. `scoring.models.state_dict_matching` asks all of it before the model is touched.

Cost: one pass over the names and one over the values. Known limits: a parameter that the model's own
``state_dict()`` leaves out is refused, although its factory may load it itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models.tensors import Tensors

FACTORY = "check that the factory and its arguments are those of the checkpoint's training"


def refuse_without_values(model: nn.Module) -> None:
    """A model whose parameters have no memory yet: copying into them would do nothing (meta) or fail
    (lazy).
    """
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if nn.parameter.is_lazy(value):
            raise HardlookError(
                f"the model's {name!r} has no shape yet (a lazy layer); run one batch through the model in the "
                "factory before it is returned"
            )
        if value.is_meta:
            raise HardlookError(
                f"the model's {name!r} is on the meta device, which cannot hold weights; build the model in the "
                "factory on the CPU"
            )


def refuse_unloaded(path: Path, model: nn.Module) -> None:
    """Every parameter must be among what ``state_dict()`` gives: else it would stay as the factory made
    it.
    """
    variables = {
        name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, torch.Tensor)
    }
    objects = {id(value) for value in variables.values()}
    places = {value.data_ptr() for value in variables.values()} - {0}
    outside = [
        name
        for name, value in model.named_parameters()
        if name not in variables and id(value) not in objects and value.data_ptr() not in places
    ]
    if outside:
        raise HardlookError(
            f"{path} cannot fill {len(outside)} parameters of the model, which its own state_dict() leaves out: "
            f"{listed(outside)}; they would keep the factory's values; include them in state_dict()"
        )


def refuse_missing(
    path: Path, model: nn.Module, needed: Mapping[str, torch.Tensor], found: Tensors, unused: list[str]
) -> None:
    """Every key must be there, but for tied ones of which one is, and counters."""
    variables = model.state_dict(keep_vars=True)
    held = {id(value) for name, value in variables.items() if name in found}
    missing = [
        name
        for name in needed
        if name not in found and id(variables[name]) not in held and not name.endswith("num_batches_tracked")
    ]
    if missing:
        shapes = {name: tuple(needed[name].shape) for name in missing}
        instead = f"it has these keys instead: {listed(unused)}" if unused else "it has no other keys"
        raise HardlookError(
            f"{path} lacks {len(missing)} of the {len(needed)} keys that the model needs: {listed(missing, shapes)}; "
            f"{instead}; {FACTORY}"
        )


def refuse_shapes(path: Path, needed: Mapping[str, torch.Tensor], found: Tensors, n_classes: int | None) -> None:
    """Every shape must be equal; a wrong number of classes gets a message of its own."""
    wrong = {
        name: (tuple(value.shape), tuple(needed[name].shape))
        for name, value in found.items()
        if value.shape != needed[name].shape
    }
    if not wrong:
        return
    last = [name for name in needed if needed[name].ndim][-1].rpartition(".")[0]
    _refuse_class_count(path, wrong, last, n_classes)
    name, (shape, expected) = next(iter(wrong.items()))
    raise HardlookError(
        f"{path}: key {name!r} has shape {shape}, the model needs "
        f"{expected}{f' (and {len(wrong) - 1} more keys differ)' if len(wrong) > 1 else ''}; check that the factory's "
        "arguments are those of the checkpoint's training"
    )


def _refuse_class_count(
    path: Path, wrong: Mapping[str, tuple[tuple[Any, ...], tuple[Any, ...]]], last: str, n_classes: int | None
) -> None:
    """The output layer's first dimension alone differs: the classes, not the architecture."""
    if any(len(shape) != len(expected) or not shape or shape[1:] != expected[1:] for shape, expected in wrong.values()):
        return
    counts = {(shape[0], expected[0]) for shape, expected in wrong.values()}
    layers = {name.rpartition(".")[0] for name in wrong}
    if len(counts) != 1 or not (last in layers or {expected for _, expected in counts} == {n_classes}):
        return
    (found, built), name = counts.pop(), next(iter(wrong))
    listed = f", and audit.toml lists {n_classes}" if n_classes is not None else ""
    raise HardlookError(
        f"{path}: its output layer (key {name!r}) has {found} classes, the model built here needs {built}{listed}; "
        "set the factory's arguments and the list of classes to agree"
    )


def refuse_kinds(path: Path, needed: Mapping[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Complex numbers or integers in the place of real weights would be cut down in silence."""
    for name, value in found.items():
        if name.endswith("num_batches_tracked") or (value.is_complex() and needed[name].is_complex()):
            continue  # a counter changes no output, and averages of it are fractions
        if not needed[name].is_floating_point() and not torch.equal(
            value.to(needed[name].dtype).to(value.dtype), value
        ):
            raise HardlookError(
                f"{path}: key {name!r} holds {str(value.dtype).removeprefix('torch.')} values that "
                f"{str(needed[name].dtype).removeprefix('torch.')}, which the model needs, cannot hold; {FACTORY}"
            )
        if needed[name].is_floating_point() and not value.is_floating_point():
            raise HardlookError(
                f"{path}: key {name!r} holds {str(value.dtype).removeprefix('torch.')}, the model needs "
                f"{str(needed[name].dtype).removeprefix('torch.')}; save the weights themselves, not a quantised or "
                "converted form of them"
            )


def refuse_infinite(path: Path, model: nn.Module, converted: Tensors) -> None:
    """NaN or infinity in a weight or a running statistic; other buffers (masks) may hold −inf."""
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name, value in converted.items():
        if name not in weights and not name.endswith(("running_mean", "running_var")):
            continue
        if not value.sum().isfinite():  # a third of the time of looking at each; an overflow is looked at below
            bad = value.numel() - int(torch.isfinite(value).sum())
            if not bad:
                continue
            raise HardlookError(
                f"{path}: key {name!r} holds {bad} values of {value.numel()} that are NaN or infinite; needed finite "
                "weights; leave out this checkpoint: the training had diverged"
            )


def listed(names: Iterable[str], shapes: Mapping[str, tuple[Any, ...]] | None = None, shown: int = 4) -> str:
    """The first few names, with their shapes where given."""
    names = list(names)
    described = [f"{name!r} {shapes[name]}" if shapes else repr(name) for name in names[:shown]]
    return ", ".join(described) + (", …" if len(names) > shown else "")
