"""A library's evaluation transform as the table of ``audit.toml`` that gives the same numbers, bit for bit.

A pipeline of torchvision (v1, v2, a weights' preset) or of timm → ``{mode, resize, crop, interpolation, mean, std}``,
or None where a step has no key there. What is found is tried on images of several shapes and modes against the
pipeline itself: a table that differs in one bit is not returned.

Cost: a few small images. Known limits: a pipeline with random steps, or with steps of one's own, has no table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from scoring.models.transforms import INTERPOLATIONS, TableTransform

Table = dict[str, str | int | float | list[int] | list[float]]
SHAPES = ((300, 400), (401, 299), (64, 64), (33, 500))
SILENT = ("ToTensor", "MaybeToTensor", "PILToTensor", "ToImage", "MaybePILToTensor", "ConvertImageDtype", "ToDtype")
"""Steps that make the tensor in 0…1, which a table always does."""


def as_table(pipeline: Callable[[Any], Any]) -> Table | None:
    """The table that gives what ``pipeline`` gives of any RGB image; None where there is none."""
    table = _preset(pipeline) or _steps(getattr(pipeline, "transforms", None) or [pipeline])
    return table if table is not None and gives_the_same(table, pipeline) else None


def gives_the_same(table: Mapping[str, Any], pipeline: Callable[[Any], Any]) -> bool:
    """Returns whether a table and a pipeline agree in every bit on images of several shapes."""
    ours = TableTransform(**table)
    for number, (height, width) in enumerate(SHAPES):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        theirs = pipeline(image)
        if not isinstance(theirs, torch.Tensor) or not torch.equal(ours(image), theirs):
            return False
    return True


def _preset(pipeline: Any) -> Table | None:
    """torchvision's ``ImageClassification``, which comes with weights."""
    if type(pipeline).__name__ != "ImageClassification":
        return None
    return _table(pipeline.resize_size, pipeline.crop_size, pipeline.interpolation, pipeline.mean, pipeline.std)


def _steps(steps: Iterable[Any]) -> Table | None:
    """Resize, CenterCrop, the tensor, Normalize, in this order; None for any other step."""
    found: dict[str, Any] = {}
    for step in steps:
        name = type(step).__name__
        if name == "Resize" and not found and getattr(step, "max_size", None) is None:
            found |= {"resize": step.size, "interpolation": step.interpolation}
        elif name == "CenterCrop" and not {"crop", "mean"} & found.keys():
            found["crop"] = step.size
        elif name == "Normalize" and "mean" not in found:
            found |= {"mean": step.mean, "std": step.std}
        elif name not in SILENT:
            return None
    return _table(*(found.get(key) for key in ("resize", "crop", "interpolation", "mean", "std")))


def _table(resize: Any, crop: Any, interpolation: Any, mean: Any, std: Any) -> Table | None:
    """The table, without what is the default anyway."""
    table: Table = {"mode": "RGB"}
    if resize is not None:
        table["resize"] = _size(resize)
        by = str(getattr(interpolation, "value", "bilinear"))
        if by not in INTERPOLATIONS:
            return None
        table |= {"interpolation": by} if by != "bilinear" else {}
    if crop is not None:
        sides = _size(crop)
        table["crop"] = sides[0] if isinstance(sides, list) and sides[0] == sides[-1] else sides
    for name, values in (("mean", mean), ("std", std)):
        if values is not None:
            table[name] = [
                _shortest(value) for value in torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
            ]
    return table


def _shortest(value: float) -> float:
    """The shortest number of the same float32, which is what a transform computes with.

    >>> _shortest(0.48500001430511475)
    0.485
    """
    return float(str(np.float32(value)))


def _size(size: Any) -> int | list[int]:
    """A side, or [height, width]."""
    if not isinstance(size, Sequence):
        return int(size)
    sides = [int(side) for side in size]
    return sides[0] if len(sides) == 1 else sides
