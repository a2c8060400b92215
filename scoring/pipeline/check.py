"""``hardlook check``: detects mistakes that would silently invalidate every score, before anything long is computed.

Six checks: an example read twice is identical (random augmentation is refused); inputs and logits are finite and of the
right width; logits are reproducible and independent of the batch (active dropout and batch statistics are refused); the
kind of the outputs (logits, probabilities, sigmoids); the accuracy on 500 labelled examples equals
``expected_accuracy``; otherwise, the common mistake that explains the difference
(``scoring.pipeline.preprocessing_mistakes``). Sixteen inputs are stored as a picture.

``check_run`` reads and computes all of that. ``check_scored``, which ``hardlook score`` calls, takes the logits of the
first pass over the data, and of the last report where nothing that it depends on has changed.

Cost: 500 reads and at most a dozen forward passes over them; with the numbers of a first pass a few dozen examples, as
long as the accuracy is sufficient. Loads torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

import scoring
from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest, read_json, write_json
from scoring.data.examples import input_columns
from scoring.data.images import is_deep_colour
from scoring.models.outputs import BY_RANGE, SENTENCES
from scoring.pipeline.alternative_decoding import other_readings, uneven_readings
from scoring.pipeline.check_accuracy import accuracy, train_split_note
from scoring.pipeline.check_reproducible import padding_attention, predicted_logits, reproducible_logits, unlike_passed
from scoring.pipeline.findings import TWICE, Finding, chosen_examples, refuse_errors
from scoring.pipeline.input_picture import save_picture, tile
from scoring.pipeline.input_summary import (
    FEW_TEXTS,
    column_summary,
    token_summary,
    truncation_warning,
    uneven_columns_warning,
)
from scoring.pipeline.predictions import known_rows
from scoring.pipeline.shards import Context

__all__ = ["Finding", "check_run", "check_scored", "padding_attention", "refuse_errors", "tile"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is looked at: ``numbers`` (n,) of the readable examples, their ``logits`` (n, c), whether each input is
    ``finite``, why the others are not readable. ``batch``: the inputs of the first ones, or of all; ``few``: (m, c)
    logits of the first of these, computed now; ``every``: gives the inputs of all."""

    numbers: np.ndarray
    logits: torch.Tensor
    finite: np.ndarray
    reasons: dict[int, str]
    batch: torch.Tensor
    few: torch.Tensor
    every: Callable[[], torch.Tensor]


def check_run(context: Context) -> list[Finding]:
    """Runs all checks on one run, writes the report and the picture, and returns the findings in order."""
    numbers = chosen_examples(context)
    key = report_key(context, numbers)
    batch, good, reasons = context.inputs.batch(numbers, context.pool)
    unreadable(reasons, len(good))
    logits = predicted_logits(context, batch)
    finite = torch.isfinite(batch).flatten(1).all(1).numpy() if batch.is_floating_point() else np.ones(len(batch), bool)
    look = Look(
        numbers=numbers[good],
        logits=logits,
        finite=finite,
        reasons=reasons,
        batch=batch,
        few=logits,
        every=lambda: batch,
    )
    return report(context, look, key)


def check_scored(context: Context) -> list[Finding]:
    """Returns the findings of ``check_run``, from the numbers of a first pass or of the last report where these tell
    them."""
    numbers = chosen_examples(context)
    key = report_key(context, numbers)
    before = read_json(context.run.check_path, {})
    if before.get("key") == key:
        return [Finding(one["level"], one["text"], tuple(one["classes"])) for one in before["findings"]]
    rows = known_rows(context, numbers)
    if rows is None:
        return check_run(context)
    good = np.flatnonzero([reason is None for reason in rows.problems])
    reasons = {at: reason for at, reason in enumerate(rows.problems) if reason is not None}
    numbers = numbers[good]
    seen = numbers[:TWICE] if context.audit.media == "image" else numbers
    batch, read, _ = context.inputs.batch(seen, context.pool)
    if not len(numbers) or len(read) < len(seen):  # a file that is gone meanwhile, say
        return check_run(context)
    few = batch[:TWICE]
    look = Look(
        numbers=numbers,
        logits=torch.from_numpy(rows.logits[good]),
        finite=rows.finite[good],
        reasons=reasons,
        batch=batch,
        few=predicted_logits(context, few),
        every=lambda: context.inputs.batch(numbers, context.pool)[0],
    )
    return report(context, look, key)


def report_key(context: Context, numbers: np.ndarray) -> str:
    """Returns what a report depends on: the model, the examples that are looked at, and what is expected of them."""
    part = context.examples.iloc[numbers][["example_id", "fingerprint", "label", "split"]].fillna("")
    expected = context.run.config.get("expected_accuracy")
    sources = [source.get("exif") for source in context.audit.sources]
    return digest([context.key, part.to_numpy().tolist(), expected, sources, scoring.__version__])


def report(context: Context, look: Look, key: str) -> list[Finding]:
    """The findings about what is looked at, written with the picture."""
    numbers, batch = look.numbers, look.batch
    reads = reproducible_reads(context, numbers[:TWICE], batch)
    differs = any(finding.level == "error" for finding in reads)  # then so do the logits, whatever the model
    findings = [
        *unreadable(look.reasons, len(numbers)),
        *reads,
        *bit_depth(context, numbers),
    ]
    save_picture(batch[:16], context.run.check_picture)
    seen, warnings = summarise_inputs(context, batch, numbers)
    of = batch if len(look.few) == len(batch) else batch[: len(look.few)]
    findings += [
        *warnings,
        all_finite(look.finite, "inputs"),
        all_finite(torch.isfinite(look.logits).all(1).numpy(), "logits"),
        output_kind(context),
        *(reproducible_logits(context, of, look.few) or ([] if differs else unlike_passed(look.few, look.logits))),
        *padding_attention(context, batch, look.few),
    ]
    labels = context.labels[numbers]
    uneven = uneven_readings(context)
    findings += [Finding("error", uneven)] if uneven else []

    def current(row: int) -> torch.Tensor:
        return batch[row] if row < len(batch) else context.inputs.read(int(numbers[row]))

    others = other_readings(context, numbers, current, look.logits, partial(predicted_logits, context))
    findings += accuracy(context, look.every, look.logits, labels, train_split_note(context, numbers), others)
    facts = {"findings": [asdict(f) for f in findings], "examples": len(numbers), "key": key}
    write_json(context.run.check_path, facts | ({"seen": seen} if seen else {}))
    return findings


def summarise_inputs(
    context: Context, batch: torch.Tensor, numbers: np.ndarray
) -> tuple[dict[str, Any] | None, list[Finding]]:
    """Returns the summary of vector or text inputs (``scoring.pipeline.input_summary``) for the overview, and
    warnings."""
    if context.audit.media == "vector":
        names = input_columns(context.audit)
        seen, text = column_summary(batch, names), uneven_columns_warning(batch, names)
    elif context.audit.media == "text":
        inputs = context.inputs
        texts = [inputs.originals.read(int(inputs.sources[n]), int(inputs.rows[n])) for n in numbers[:FEW_TEXTS]]
        seen = token_summary(batch, texts, inputs.transform)
        text = truncation_warning(seen)
    else:
        return None, []
    return seen, [Finding("warning", text)] if text else []


def unreadable(reasons: dict[int, str], readable: int) -> list[Finding]:
    """Returns a warning if some examples cannot be read. Raises ``HardlookError`` if none can."""
    if not reasons:
        return []
    text = (
        f"{len(reasons)} of {len(reasons) + readable} examples cannot be turned into inputs, the first: "
        f"{next(iter(reasons.values()))}"
    )
    if not readable:
        raise HardlookError(text + "; correct the data or the transform in audit.toml")
    return [Finding("warning", text)]


def reproducible_reads(context: Context, numbers: np.ndarray, batch: torch.Tensor) -> list[Finding]:
    """Checks that an example read twice is bit-identical; ``batch``: how they were read the first time."""
    for number, before in zip(numbers, batch[: len(numbers)], strict=True):
        if not torch.equal(before, context.inputs.read(number)):
            return [
                Finding(
                    "error",
                    f"example {context.inputs.ids[number]!r} differs between two reads: the transform or the dataset "
                    "augments at random; name the evaluation transform in audit.toml",
                )
            ]
    return [Finding("ok", f"{len(numbers)} examples read twice are identical")]


def bit_depth(context: Context, numbers: np.ndarray) -> list[Finding]:
    """Warns of image files with 16 bits per channel, which reach the transform with 8."""
    plain = {at for at, source in enumerate(context.audit.sources) if "loader" not in source}
    deep = 0
    for row in context.examples.iloc[numbers].itertuples():
        if context.audit.media != "image" or not isinstance(row.reference, str) or row.source not in plain:
            continue
        with contextlib.suppress(HardlookError, OSError):  # what cannot be read was told before
            deep += is_deep_colour((context.audit.root / row.reference).read_bytes())
    if not deep:
        return []
    return [
        Finding(
            "warning",
            f"{deep} of {len(numbers)} images have 16 bits per channel and reach the transform with 8, as in Pillow "
            "and torchvision's ImageFolder; if the model was trained on 16 bits, name a loader that keeps them (see "
            "the README)",
        )
    ]


def all_finite(finite: np.ndarray, what: str) -> Finding:
    """Checks that inputs or logits are finite; ``finite``: (n,) whether all numbers of an example are."""
    if finite.all():
        return Finding("ok", f"{what} are finite")
    return Finding(
        "error",
        f"{what} of {int((~finite).sum())} of {len(finite)} examples contain NaN or infinity; check the data, the "
        "transform and the last checkpoint",
    )


def output_kind(context: Context) -> Finding:
    """Returns what the model returns, as set in audit.toml or detected from ranges and row sums; a warning if some
    scores are null."""
    model = context.model
    sentence, kind = SENTENCES[model.output.kind], model.output.kind
    if model.choice:
        return Finding("warning", f"{sentence}; {model.choice}")
    if "output" in context.run.config:
        return Finding("ok", f"{sentence} (as set in audit.toml)")
    if kind in BY_RANGE:
        return Finding(
            "warning",
            f'{sentence}; this is inferred from their range alone: if they are logits, write `output = "logits"` in '
            f'[run.{context.run.name}] of audit.toml, else `output = "{kind}"`',
        )
    return Finding("ok" if model.keeps_logits else "warning", sentence)
