"""What a checkpoint says of itself besides its weights: the tool, hyper-parameters, architecture, class names.

Lightning keeps ``hyper_parameters``, timm ``arch`` and ``args``; Ultralytics and fastai pickle the model with its
description, which ``hardlook convert`` writes as JSON beside the weights (``plain_facts``). Nothing is unpickled here.

A file → `Facts`. Cost: the file's directory; tensors stay memory-mapped. Known limits: what is no plain value (an
object among the hyper-parameters) is not kept, and named in ``dropped``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_reader import open_checkpoint

CLASSES = (
    "class_to_idx",
    "classes",
    "class_names",
    "classnames",
    "label_names",
    "labels",
    "idx_to_class",
    "idx2class",
    "class2idx",
    "id2label",
    "label2id",
    "CLASSES",
)
"""Entries under which trainings of one's own keep the names of the classes."""

SETTINGS = ("hyper_parameters", "args", "config", "hparams", "meta", "dataset_meta")
"""Entries that hold settings of a training, among which the class names may be."""

KEPT = (
    *CLASSES,
    *SETTINGS,
    "hparams_name",
    "arch",
    "names",
    "yaml",
    "nc",
    "imgsz",
    "train_args",
    "vocab",
    "tool",
    "epoch",
    "pytorch-lightning_version",
    "version",
)
"""Entries that say something about model, data or training."""

FACTS = "facts"
"""The entry of a safetensors header under which ``hardlook convert`` keeps them, as JSON."""


@dataclass(frozen=True)
class Facts:
    """``keys``: what the file holds; ``stated``: its plain values by key; ``dropped``: entries that are no plain
    values, as ``hyper_parameters.loss``."""

    keys: tuple[str, ...]
    stated: dict[str, Any] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()


def read_facts(path: Path) -> Facts:
    """The facts of a checkpoint file; of a folder none. Raises `NeedsUnpickling` as reading the weights would."""
    if path.is_dir():
        return Facts(())
    content, header = open_checkpoint(path)
    if FACTS in header:
        return Facts(tuple(content), _json(path, header[FACTS]), tuple(_json(path, header.get("dropped", "[]"))))
    if not isinstance(content, Mapping):
        return Facts(())
    found, dropped = plain_facts(content)
    return Facts(tuple(map(str, content)), found, dropped)


def plain_facts(content: Mapping[Any, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Of the entries that are ``KEPT``, the plain values, and the names of what was dropped.

    >>> plain_facts({"arch": "resnet18", "hyper_parameters": {"lr": 0.1, "loss": object()}})
    ({'hyper_parameters': {'lr': 0.1}, 'arch': 'resnet18'}, ('hyper_parameters.loss',))
    """
    dropped: list[str] = []
    found = {key: _plain(content[key], key, dropped) for key in KEPT if key in content}
    return {key: value for key, value in found.items() if value is not _NOT_PLAIN}, tuple(dropped)


_NOT_PLAIN = object()


def _plain(value: Any, name: str, dropped: list[str]) -> Any:
    """Text, numbers, null, lists and mappings of them; tensors of one number as the number."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if hasattr(value, "dtype") and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        inner = {str(key): _plain(item, f"{name}.{key}", dropped) for key, item in value.items()}
        return {key: item for key, item in inner.items() if item is not _NOT_PLAIN}
    if isinstance(value, (list, tuple)):
        items = [_plain(item, name, []) for item in value]
        if not any(item is _NOT_PLAIN for item in items):
            return items
    dropped.append(name)
    return _NOT_PLAIN


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise HardlookError(f"{path} has a damaged header ({error}); convert the checkpoint again") from error
