"""A first look: a few hundred examples through the model as ``audit.toml`` describes both, before anything is scored.

Examples are read straight from their sources, without the example table. What fails here (a pattern, a checkpoint that
does not fit, a transform of the wrong kind) would fail later, after minutes. An accuracy near chance says that classes,
transform or labels are not those of the training.

Inputs → outputs: an audit → `FirstLook`. Cost: one checkpoint, up to 300 reads, as many forward passes. Known limits:
``hardlook check`` looks for more, and tries the usual mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.data.example_reader import reason
from scoring.data.listed_sources import ListedSource, class_name, labels_of, list_sources, with_labels
from scoring.models import AuditedModel, find_checkpoints, load_transform
from scoring.models.audited_model import explained
from scoring.models.inputs import as_tensor, shape_advice
from scoring.models.outputs import OutputAsLogits

SIZE, BATCH = 300, 32
CHANCE = 1.5
"""Times the accuracy of always naming the most frequent class: below, something is probably wrong."""


@dataclass(frozen=True)
class FirstLook:
    """What a few examples showed: how many were read, of which split, how many of those with a label are right."""

    split: str
    read: int
    labelled: int
    right: int
    commonest: int
    problems: tuple[str, ...] = ()

    def sentences(self, audit: str) -> list[str]:
        """What to print; ``audit``: the folder, for the command that looks closer."""
        found = [f"{self.read} examples of the {self.split} split went through the model"]
        if self.labelled:
            found[0] += f": accuracy {self.right / self.labelled:.1%} on the {self.labelled} with a label"
            if self.right < CHANCE * self.commonest and self.right < 0.9 * self.labelled:
                found.append(
                    f"that is little more than naming one class always ({self.commonest / self.labelled:.1%}): "
                    f"classes, transform or checkpoint may not be those of the training; look closer: "
                    f"hardlook check {audit}"
                )
        if self.problems:
            found.append(f"{len(self.problems)} examples could not be read, the first: {self.problems[0]}")
        return found


def first_look(audit: Audit) -> FirstLook:
    """Up to 300 examples of the first run of ``audit`` through its last checkpoint: labelled test ones, else labelled
    training ones, else any."""
    config = audit.run().config
    listed = [with_labels(each) for each in list_sources(audit)]
    split, rows = _chosen(listed, audit.seed)
    transform = load_transform(config.get("transform"), audit.root, media=audit.media)
    tensors, labels, problems = [], [], []
    for source, row in rows:
        try:
            original = source.source.original(row, source.listing.path(row))
            tensors.append(as_tensor(transform(original), f"{row} of {source.source.path}"))
            labels.append(_label(source, row))
        except Exception as error:  # noqa: BLE001  a broken file, or a transform of the user's, may raise anything
            problems.append(f"row {row} of {source.source.path}: {reason(error)}")
    if not tensors:
        raise HardlookError(f"no example can be turned into an input ({problems[0]}); correct data or transform")
    answers = _answers(audit, tensors)
    known = [(label, answer) for label, answer in zip(labels, answers, strict=True) if label is not None]
    counts = [sum(label == other for other, _ in known) for label in {label for label, _ in known}]
    right = sum(audit.classes.index(label) == answer for label, answer in known)
    return FirstLook(split, len(tensors), len(known), right, max(counts, default=0), tuple(problems))


def _chosen(listed: Sequence[ListedSource], seed: int) -> tuple[str, list[tuple[ListedSource, int]]]:
    """(the split, up to 300 of its rows at random)."""
    for split in ("test", "train", "pool"):
        rows = [
            (each, row)
            for each in listed
            for row, own in enumerate(each.listing.splits)
            if own == split and (split == "pool" or each.labels is None or each.labels[row] is not None)
        ]
        if rows:
            order = np.random.default_rng(seed).permutation(len(rows))[:SIZE]
            return split, [rows[at] for at in order]
    raise HardlookError("no example has a label, and none is in the pool; correct the [[data]] tables")


def _label(each: ListedSource, row: int) -> str | None:
    """The class name of a row; labels that come with the items are read with them."""
    if each.labels is not None:
        return each.labels[row]
    if not each.source.labels_from_items:
        return None
    return class_name(labels_of(each.source), each.source.item(row)[1], each.listing.splits[row], each.source, f"{row}")


def _answers(audit: Audit, tensors: Sequence[torch.Tensor]) -> Iterator[int]:
    """The class that the last checkpoint names for each input."""
    config = audit.run().config
    shapes = {tuple(tensor.shape) for tensor in tensors}
    if len(shapes) > 1:
        shown, advice = ", ".join(map(str, sorted(shapes)[:3])), shape_advice(shapes)
        raise HardlookError(f"inputs of different shapes reach the model: {shown}; {advice} in audit.toml")
    found = find_checkpoints(
        config.get("checkpoints", "checkpoints/main/*.pt"),
        audit.root,
        weights="ema" if config.get("averaged") else "plain",
    )
    model = AuditedModel.build(
        config["model"],
        config.get("arguments"),
        audit.root,
        checkpoints=found[-1:],
        n_classes=len(audit.classes) or None,
    )
    batches = [torch.stack(list(tensors[at : at + BATCH])) for at in range(0, len(tensors), BATCH)]
    item = config.get("output_item")
    kind = config.get("output") or model.kind_of(batches[0], found[-1], item)
    model.returns(OutputAsLogits(kind, item))
    for batch in batches:
        with model.at(found[-1]), explained(batch):
            logits = model.predict(batch)[0]
        if logits.shape[1] != len(audit.classes):
            raise HardlookError(
                f"the model has {logits.shape[1]} outputs, and audit.toml names {len(audit.classes)} classes; correct "
                "one"
            )
        yield from (int(each) for each in logits.argmax(1))
