"""Mistakes that a sample of much data shows before all of it is read.

``hardlook check``'s findings come from the numbers of the first pass, which takes hours over millions of images. Where
there is so much data, up to ``SIZE`` random labelled examples (test, else train) are read from their sources first and
put through the transform and the model; a mistake among them ends the command.

Listed sources, a transform and a model → nothing, or ``HardlookError``. Cost: ``SIZE`` reads and forward passes, and a
dozen more where the accuracy falls short. Limits: labels that come with the items are not known before these are read;
other readings of the same files are compared only after the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from scoring.data.example_reader import sample_original
from scoring.data.listed_sources import ListedSource, class_name, labels_of
from scoring.models.audited_model import AuditedModel
from scoring.models.inputs import Unreadable, stacked, transformed
from scoring.pipeline.check_accuracy import accuracy
from scoring.pipeline.check_reproducible import predicted_logits, reproducible_logits
from scoring.pipeline.findings import SIZE, refuse_errors
from scoring.pipeline.shards import Context

MUCH = 20 * SIZE
"""Examples from which a sample is looked at before all are read."""

Row = tuple[ListedSource, int]


def refuse_mistakes(
    context: Context, model: AuditedModel, listed: Sequence[ListedSource], transform: Callable[[Any], Any]
) -> None:
    """Raises ``HardlookError`` where a sample of much data shows a mistake; ``model`` gives logits."""
    if sum(map(len, listed)) <= MUCH:
        return
    rows, of = drawn(listed, context.audit.seed)
    made, labels = list[torch.Tensor | Unreadable](), list[int]()
    position = {name: number for number, name in enumerate(context.audit.classes)}
    for each, row in rows:
        known = labels_of(each.source)
        raw = (each.listing.labels or [])[row]
        name = class_name(known, raw, each.listing.splits[row], each.source, f"in row {row}")
        try:
            original = sample_original(each.source, row, each.listing.path(row))
        except (Exception, SystemExit):  # noqa: BLE001  a broken file or code of others: the reading lists it
            continue
        try:
            made.append(transformed(transform, original, f"data[{each.source.number}]/row {row}"))
        except Unreadable:
            continue
        labels.append(position.get(name or "", -1))
    if len(made) < 2:
        return
    batch, _, _ = stacked(made, [str(at) for at in range(len(made))])
    trial = Context(context.audit, context.run, device=context.device)
    trial.checkpoints, trial.model = context.checkpoints, model
    logits = predicted_logits(trial, batch)
    findings = reproducible_logits(trial, batch, logits)
    refuse_errors([*findings, *accuracy(trial, lambda: batch, logits, np.asarray(labels), of)])


def drawn(listed: Sequence[ListedSource], seed: int) -> tuple[list[Row], str]:
    """Up to ``SIZE`` random labelled rows, of test where it has some, else of train, and how a sentence says which;
    none where labels are known only once the items are read."""
    for split, of in (("test", " of a sample"), ("train", " of a sample of the train split")):
        rows = [
            (each, row)
            for each in listed
            if each.listing.labels is not None
            for row, label in enumerate(each.listing.labels)
            if label is not None and each.listing.splits[row] == split and row not in each.listing.problems
        ]
        if rows:
            chosen = np.random.default_rng(seed).permutation(len(rows))[:SIZE]
            return [rows[at] for at in chosen], of
    return [], ""
