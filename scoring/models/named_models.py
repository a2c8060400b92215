"""Models by name: of torchvision, timm and fastai, and the one that a Hugging Face folder describes.

``model = "resnet18"``, ``"timm:resnet18"``, ``"fastai:resnet18"`` or ``"huggingface:FOLDER"`` in ``audit.toml`` → a
module with its own initial weights; the weights come from the checkpoints, and nothing is downloaded. Any other text
with a colon names code of the user's (``scoring.audit.user_code``).

Cost: the model in memory. Known limits: of Hugging Face, image and sequence classification
(``scoring.models.huggingface``); of fastai, the vision learners over a torchvision architecture.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from scoring.audit.errors import HardlookError, first_line
from scoring.audit.user_code import close_names

Build = Callable[[str, dict[str, Any], Path], nn.Module]
"""(name, arguments, the audit's folder) → the model."""

DOWNLOADS = ("weights", "pretrained", "checkpoint_path", "pretrained_cfg")
"""Arguments that would fetch weights."""


def named_model(factory: str, arguments: Mapping[str, Any], folder: str | Path) -> nn.Module | None:
    """The model that a name means; None where ``factory`` names code of the user's.

    Raises `HardlookError` for a name that is not known, with close ones, and for arguments that ask for weights.
    """
    if ":" not in factory:
        return _built(factory, _torchvision, factory, arguments, folder)
    kind, _, name = factory.partition(":")
    build = {"timm": _timm, "huggingface": _huggingface, "fastai": _fastai}.get(kind)
    if build is None or (kind != "huggingface" and _is_attribute(kind, name)):
        return None
    return _built(factory, build, name, arguments, folder)


def _built(factory: str, build: Build, name: str, arguments: Mapping[str, Any], folder: str | Path) -> nn.Module:
    """The model, built; arguments that do not fit are one sentence."""
    kept = {key: value for key, value in arguments.items() if key not in DOWNLOADS}
    if any(arguments.get(key) for key in DOWNLOADS):
        raise HardlookError(
            f"model = {factory!r}: arguments ask for pretrained weights, but hardlook downloads nothing; remove them "
            "and name the weights in `checkpoints`"
        )
    try:
        return build(name, kept, Path(folder))
    except HardlookError:
        raise
    except Exception as error:  # a library may raise anything for arguments that do not fit
        raise HardlookError(
            f"model = {factory!r} with {kept} failed: {first_line(error)} (the number of classes is num_classes)"
        ) from error


def _is_attribute(package: str, name: str) -> bool:
    """Returns whether a package itself has something of that name, as ``timm:create_model``: then it is code."""
    try:
        return hasattr(importlib.import_module(package), name)
    except ImportError:
        return False


def _torchvision(name: str, arguments: dict[str, Any], folder: Path) -> nn.Module:
    """A torchvision classifier without weights."""
    from torchvision import models as zoo  # imported late: it takes a second, and most audits name their own factory

    names = zoo.list_models(module=zoo)
    if name not in names:
        raise HardlookError(
            f"model = {name!r} is not a torchvision model; {close_names(name, names)} Or name timm:{name}, or your own "
            "model factory: file.py:callable"
        )
    if name in ("googlenet", "inception_v3"):
        arguments.setdefault("init_weights", False)  # a slow initialisation that the checkpoint overwrites
    built = zoo.get_model(name, weights=None, **arguments)
    if not isinstance(built, nn.Module):
        raise HardlookError(f"model = {name!r} gave {type(built).__name__}; needed a torch.nn.Module")
    return built


def _timm(name: str, arguments: dict[str, Any], folder: Path) -> nn.Module:
    """A model of timm without weights."""
    timm = needed_package("timm", "timm")
    if not timm.is_model(name):
        raise HardlookError(
            f"model = {'timm:' + name!r}: timm has none of that name; {close_names(name, timm.list_models())}"
        )
    built: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    return built


def _huggingface(name: str, arguments: dict[str, Any], folder: Path) -> nn.Module:
    """The model that the ``config.json`` of a folder describes."""
    from scoring.models.huggingface import model_of_folder

    return model_of_folder(folder / Path(name).expanduser(), **arguments)


def _fastai(name: str, arguments: dict[str, Any], folder: Path) -> nn.Module:
    """The body and head that fastai's ``vision_learner`` makes over a torchvision architecture."""
    learner = needed_package("fastai.vision.learner", "fastai")
    from torchvision import models as zoo

    names = zoo.list_models(module=zoo)
    if name not in names:
        raise HardlookError(f"model = {'fastai:' + name!r} is not a torchvision model; {close_names(name, names)}")
    classes = arguments.pop("num_classes", None)
    if not isinstance(classes, int):
        raise HardlookError(
            f"model = {'fastai:' + name!r} needs arguments = {{ num_classes = … }}, the number of classes"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fastai calls torchvision in a way that is deprecated there
        built: nn.Module = learner.create_vision_model(getattr(zoo, name), classes, pretrained=False, **arguments)
    return built


def needed_package(module: str, package: str) -> Any:
    """A module of an optional package; raises `HardlookError` that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise HardlookError(f"the model is of {package}, which is not installed; run: pip install {package}") from error
