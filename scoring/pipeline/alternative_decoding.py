"""Alternative ways to decode the same image files, which ``hardlook check`` compares.

A picture reaches a model in more than one form: with its EXIF orientation applied (Hugging Face's ``datasets``) or
without (torchvision's ``ImageFolder``, timm); 16-bit grey whole, or clipped at 255, which is what ``ImageFolder``'s
``convert("RGB")`` makes of it. Which one it was in training no file says. The images that tell the two apart are read
the other way, and their logits put in the place of the first ones.

Inputs → outputs: an opened run and the examples drawn → the logits of each other reading, and the sentences. Cost: one
header per picture, and one decode and forward pass per picture that differs. Limits: images whose other reading is of
another shape than the batch are counted and not compared; what a loader or a dataset object reads has one reading only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.exif_orientation import orientation
from scoring.data.images import open_picture
from scoring.models.inputs import Inputs, Unreadable
from scoring.pipeline.shards import Context


@dataclass(frozen=True)
class OtherReading:
    """``remedy``: what to write, and why; ``sentence``: what was found, as a warning; ``logits``: (n, c) of the other
    reading; ``differ``: how many of the examples it changes."""

    remedy: str
    sentence: str
    logits: torch.Tensor
    differ: int


def other_readings(
    context: Context,
    numbers: np.ndarray,
    current: Callable[[int], torch.Tensor],
    logits: torch.Tensor,
    predict: Callable[[torch.Tensor], torch.Tensor],
) -> list[OtherReading]:
    """Each other reading that changes an input of ``numbers``, the examples of ``logits`` (n, c); ``current``: row →
    its input as it is read now."""
    if context.audit.media != "image":
        return []
    found = []
    headers = list(_headers(context, numbers))
    for concerns, change, sentences in ((_is_turned, _exif, _about_exif), (_is_deep_grey, _mode, _about_grey)):
        at = [
            row for row, header in enumerate(headers) if header is not None and concerns(context, numbers[row], header)
        ]
        if not at:
            continue
        sources = dict.fromkeys(int(context.inputs.sources[numbers[row]]) for row in at)
        changes = {source: change(context, source) for source in sources}
        differ, other_logits, unread = _reread(context, numbers, at, changes, current, logits, predict)
        if differ or unread:
            remedy, sentence = sentences(context, len(at), len(numbers), changes)
            left = f"; {unread} of them have another shape when decoded this way and are not compared" if unread else ""
            found.append(OtherReading(remedy, sentence + left, other_logits, differ))
    return found


def _headers(context: Context, numbers: np.ndarray) -> Iterator[Image.Image | None]:
    """Each example's picture, opened but not decoded; None for what is no encoded picture."""
    inputs = context.inputs
    for number in numbers:
        header = None
        with contextlib.suppress(HardlookError, OSError):  # what cannot be read was told before
            data = inputs.originals.encoded(int(inputs.sources[number]), int(inputs.rows[number]))
            header = open_picture(data) if data is not None else None
        yield header


def _reread(
    context: Context,
    numbers: np.ndarray,
    at: list[int],
    changes: Mapping[int, Mapping[str, Any]],
    current: Callable[[int], torch.Tensor],
    logits: torch.Tensor,
    predict: Callable[[torch.Tensor], torch.Tensor],
) -> tuple[int, torch.Tensor, int]:
    """Read the rows ``at`` with ``changes`` to their source's table → (how many inputs differ, logits with theirs in
    their place, how many could not be put into the batch)."""
    config, audit = context.audit.config, context.audit
    tables = [{**table, **changes.get(number, {})} for number, table in enumerate(audit.sources)]
    other = Inputs(Audit(audit.root, {**config, "data": tables}), context.run, context.examples)
    other.transform = context.inputs.transform
    rows, values, unread = [], [], 0
    for row in at:
        try:
            value, now = other.read(int(numbers[row])), current(row)
        except Unreadable:
            unread += 1
            continue
        if value.shape != now.shape or value.dtype != now.dtype:
            unread += 1
        elif not torch.equal(value, now):
            rows.append(row)
            values.append(value)
    if not rows:
        return 0, logits, unread
    again = logits.clone()
    again[rows] = predict(torch.stack(values))
    return len(rows), again, unread


# -- the two ways --------------------------------------------------------------------------------------------


def _is_turned(_context: Context, _number: int, header: Image.Image) -> bool:
    return orientation(header) != 1


def _exif(context: Context, source: int) -> dict[str, Any]:
    return {"exif": not context.inputs.originals.turns(source)}


def _about_exif(context: Context, count: int, of: int, changes: Mapping[int, Mapping[str, Any]]) -> tuple[str, str]:
    lines = _lines(context, changes, lambda change: f"exif = {str(change['exif']).lower()}", "exif")
    now = "without" if all(change["exif"] for change in changes.values()) else "with"
    sentence = (
        f"{count} of {of} images have an EXIF orientation and are read {now} it; Hugging Face's datasets applies the "
        f"orientation, torchvision's ImageFolder and timm ignore it: if training read them the other way, write {lines}"
    )
    return f"the EXIF orientation of images is handled differently than in training: write {lines}", sentence


def _lines(
    context: Context, changes: Mapping[int, Mapping[str, Any]], line: Callable[[Mapping[str, Any]], str], key: str
) -> str:
    """Returns what to write, and in which tables: in those of the examples looked at, and in every other one that reads
    as they do, since a model was trained on one reading."""
    audit, originals = context.audit, context.inputs.originals
    first = next(iter(changes))
    alike = [
        number
        for number, table in enumerate(audit.sources)
        if number in changes
        or (
            "loader" not in table
            and "factory" not in table
            and key not in table
            and originals.turns(number) == originals.turns(first)
        )
    ]
    where = ", ".join(f"data[{number}] ({audit.sources[number].get('split', 'no split')})" for number in alike)
    return f"{line(changes[first])} in {where} of audit.toml"


def uneven_readings(context: Context, *, most: int = 200) -> str | None:
    """Returns why sources of images that are read differently spoil the audit, where one of them holds turned images
    and audit.toml does not say ``exif`` for all of them; None where there is nothing to say. ``most``: images looked at
    per source."""
    audit, inputs = context.audit, context.inputs
    pictures = [
        number for number, table in enumerate(audit.sources) if "loader" not in table and "factory" not in table
    ]
    ways = {number: inputs.originals.turns(number) for number in pictures}
    if (
        audit.media != "image"
        or len(set(ways.values())) < 2
        or all("exif" in audit.sources[number] for number in pictures)
    ):
        return None
    drawn = np.random.default_rng(audit.seed).permutation(len(inputs.ids))
    turned = {
        number: sum(
            header is not None and orientation(header) != 1
            for header in _headers(context, drawn[inputs.sources[drawn] == number][:most])
        )
        for number in pictures
    }
    if not any(turned.values()):
        return None
    handling = ", ".join(
        f"data[{number}] {'with' if way else 'without'} ({turned[number]} of up to {most} images have one)"
        for number, way in ways.items()
    )
    return (
        f"image sources handle EXIF orientation differently: {handling}; a model was trained with one setting, so "
        "write exif = true or exif = false in each of these [[data]] tables"
    )


def _is_deep_grey(context: Context, number: int, header: Image.Image) -> bool:
    table = context.audit.sources[int(context.inputs.sources[number])]
    return "mode" not in table and header.mode.startswith("I")


def _mode(_context: Context, _source: int) -> dict[str, Any]:
    return {"mode": "RGB"}


def _about_grey(context: Context, count: int, of: int, changes: Mapping[int, Mapping[str, Any]]) -> tuple[str, str]:
    lines = _lines(context, changes, lambda _change: 'mode = "RGB"', "mode")
    sentence = (
        f"{count} of {of} images are 16-bit grey and reach the transform unclipped; torchvision's ImageFolder clips "
        f"them at 255 (convert('RGB')): if training did so, write {lines}"
    )
    return (
        f"16-bit grey images were clipped at 255 in training, as in torchvision's ImageFolder: write {lines}",
        sentence,
    )
