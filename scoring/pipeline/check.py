"""``hardlook check``: detects mistakes that would silently invalidate every score, before anything is scored.

Six checks: an example read twice is identical (random augmentation is refused); inputs and logits are finite and of the
right width; logits are reproducible and independent of the batch (active dropout and batch statistics are refused); the
kind of the outputs (logits, probabilities, sigmoids); the accuracy on 500 labelled examples equals
``expected_accuracy``; otherwise, the common mistake that explains the difference
(``scoring.pipeline.preprocessing_mistakes``). Sixteen inputs are stored as a picture.

Cost: 500 reads and at most a dozen forward passes over them. Loads torch.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import binom

from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path, write_json
from scoring.data.examples import input_columns
from scoring.data.images import is_deep_colour
from scoring.evaluation import wilson
from scoring.models.audited_model import explained
from scoring.models.outputs import BY_RANGE, SENTENCES
from scoring.pipeline.alternative_decoding import OtherReading, other_readings, uneven_readings
from scoring.pipeline.input_summary import (
    FEW_TEXTS,
    column_summary,
    token_summary,
    truncation_warning,
    uneven_columns_warning,
)
from scoring.pipeline.preprocessing_mistakes import Remedy, best_remedy, class_remedies, input_remedies
from scoring.pipeline.shards import BATCH, Context

SIZE = 500
TWICE = 32
ALONE = 8
SHORT = 0.005  # the chance of so low an accuracy where the expected one is true


@dataclass(frozen=True)
class Finding:
    """One answer: ``level`` is ok, warning or error; ``text`` says what was found and what to do."""

    level: str
    text: str
    classes: tuple[str, ...] = ()
    """``classes`` in the order of the model's outputs, where that is the remedy."""


def check_run(context: Context) -> list[Finding]:
    """Runs all checks on one run, writes the report and the picture, and returns the findings in order."""
    numbers = chosen_examples(context)
    batch, good, reasons = context.inputs.batch(numbers, context.pool)
    numbers = numbers[good]
    findings = [
        *unreadable(reasons, len(good)),
        *reproducible_reads(context, numbers[:TWICE]),
        *bit_depth(context, numbers),
    ]
    save_picture(batch[:16], context.run.check_picture)
    seen, warnings = summarise_inputs(context, batch, numbers)
    findings += warnings
    findings.append(all_finite(batch, "inputs"))
    logits = predicted_logits(context, batch)
    findings += [
        all_finite(logits, "logits"),
        output_kind(context),
        *reproducible_logits(context, batch, logits),
        *padding_attention(context, batch, logits),
    ]
    labels = context.labels[numbers]
    uneven = uneven_readings(context)
    findings += [Finding("error", uneven)] if uneven else []
    others = other_readings(context, numbers, batch, logits, partial(predicted_logits, context))
    findings += accuracy(context, batch, logits, labels, train_split_note(context, numbers), others)
    facts = {"findings": [asdict(f) for f in findings], "examples": len(numbers)}
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


def refuse_errors(findings: list[Finding]) -> None:
    """Raises the errors among the findings as one ``HardlookError``, with the option to continue."""
    errors = [finding.text for finding in findings if finding.level == "error"]
    if errors:
        raise HardlookError(
            "\n".join([*errors, "every score would be wrong; correct the errors, or score with --anyway"])
        )


def chosen_examples(context: Context) -> np.ndarray:
    """Returns the positions of up to 500 random examples: labelled test, else labelled train, else any."""
    examples = context.examples
    known = examples["label"].notna()
    for mask in ((examples["split"] == "test") & known, (examples["split"] == "train") & known, known | True):
        positions = np.flatnonzero(mask)
        if len(positions):
            return np.random.default_rng(context.audit.seed).permutation(positions)[:SIZE]
    raise HardlookError(
        "no example can be read; `hardlook check` lists the problems; correct the data or the transform"
    )


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


def reproducible_reads(context: Context, numbers: np.ndarray) -> list[Finding]:
    """Checks that an example read twice is bit-identical."""
    for number in numbers:
        if not torch.equal(context.inputs.read(number), context.inputs.read(number)):
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


def all_finite(values: torch.Tensor, what: str) -> Finding:
    """Checks that inputs or logits are finite."""
    if not values.is_floating_point() or bool(torch.isfinite(values).all()):
        return Finding("ok", f"{what} are finite")
    rows = int((~torch.isfinite(values).flatten(1).all(1)).sum())
    return Finding(
        "error",
        f"{what} of {rows} of {len(values)} examples contain NaN or infinity; check the data, the transform and the "
        "last checkpoint",
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


def predicted_logits(context: Context, batch: torch.Tensor) -> torch.Tensor:
    """(n, c) logits of the last checkpoint."""
    with context.model.at(context.checkpoints[-1]), explained(batch):
        parts = [context.model.predict(batch[at : at + BATCH])[0] for at in range(0, len(batch), BATCH)]
    return torch.from_numpy(np.concatenate(parts))


def reproducible_logits(context: Context, batch: torch.Tensor, logits: torch.Tensor) -> list[Finding]:
    """Checks that the same inputs give the same logits again, independent of the other examples in the batch.

    Dropout called as a function keeps dropping in eval mode, and a BatchNorm without running statistics normalises by
    its batch: every score would then depend on chance or on its neighbours.
    """
    few = logits[:TWICE]
    coarse = next((p.dtype for p in context.model.module.parameters() if p.dtype.itemsize < 4), None)
    allowed = (0.1 if coarse else 1e-3) * float(few.float().std().nan_to_num()) + 1e-6
    if not bool(torch.isfinite(few).all()) or len(few) < 2:
        return []

    def same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
        return torch.allclose(found, wanted, rtol=1e-3, atol=allowed)

    if not same(predicted_logits(context, batch)[:TWICE], few):
        return [
            Finding(
                "error",
                "in eval mode the model returns different logits for the same inputs: a functional dropout stays "
                "active (pass training=self.training), or forward is random or changes the model",
            )
        ]
    alone = torch.cat([predicted_logits(context, batch[at : at + 1]) for at in range(min(len(few), ALONE))])
    among = predicted_logits(context, torch.cat([batch[TWICE : 2 * TWICE], batch[:TWICE].flip(0)]))[-len(few) :].flip(0)
    if not same(alone, few[:ALONE]) or not same(among, few):
        return [
            Finding(
                "error",
                "an example's logits depend on the other examples in its batch: a BatchNorm in training mode or "
                "without running statistics, or a mean over the batch; use running statistics",
            )
        ]
    return []


def padding_attention(context: Context, batch: torch.Tensor, logits: torch.Tensor) -> list[Finding]:
    """Warns of a text model whose logits change with an attention mask, which it does not receive here."""
    module = context.model.module
    takes = "attention_mask" in inspect.signature(module.forward).parameters
    padding = getattr(getattr(module, "config", None), "pad_token_id", None)
    if batch.is_floating_point() or not takes or padding is None or not bool((batch == padding).any()):
        return []
    with context.model.at(context.checkpoints[-1]) as model, torch.no_grad():
        ids = batch[:TWICE].to(context.model.device)
        masked = context.model.logits(model(ids, attention_mask=(ids != padding).long())).float().cpu()
    off = float((masked - logits[:TWICE]).abs().max())
    if off <= 0.01 * float(masked.std()) + 1e-6:
        return []
    return [
        Finding(
            "warning",
            f"the model attends to padding: with attention_mask = (ids != {padding}) its logits differ by up to "
            f"{off:.2g}; if training used a mask, wrap the model so that it derives the mask from the ids (see the "
            "README)",
        )
    ]


def train_split_note(context: Context, numbers: np.ndarray) -> str:
    """Returns a note for the accuracy if all examples are from train, whose labels the model has learned."""
    return (
        " of the train split, because there are no test examples"
        if (context.examples["split"].iloc[numbers] == "train").all()
        else ""
    )


def accuracy(
    context: Context,
    batch: torch.Tensor,
    logits: torch.Tensor,
    labels: np.ndarray,
    of: str = "",
    others: Sequence[OtherReading] = (),
) -> list[Finding]:
    """Accuracy against ``expected_accuracy``; where it falls short, the usual mistakes are tried. ``of``: which
    examples; ``others``: other readings of their images, which are compared even where nothing falls short.

    It is an error where the shortfall, or the advantage of a mistake undone, is no accident of these examples.
    """
    known = np.flatnonzero(labels >= 0)
    warnings = [Finding("warning", other.sentence) for other in others]
    if not len(known):
        return [Finding("warning", "no example has a label: accuracy cannot be checked"), *warnings]
    reread = [Remedy(other.remedy, other.logits[known].argmax(1).numpy() == labels[known]) for other in others]
    right = logits[known].argmax(1).numpy() == labels[known]
    low, high = wilson(int(right.sum()), len(known))
    expected = context.run.config.get("expected_accuracy")
    sentence = f"accuracy {right.mean():.1%} on {len(known)} examples{of} ({low:.1%} to {high:.1%})"
    chance = 1 / max(len(context.audit.classes), 1)
    if high >= expected if expected is not None else right.mean() >= (1 + chance) / 2:
        return sufficient(sentence, expected, best_remedy(reread, right), warnings)
    winner, untested = explanation(context, batch[known], logits[known], labels[known], right, reread)
    short = expected is not None and binom.cdf(right.sum(), len(known), expected) < SHORT
    needed = f"expected {expected:.1%}" if expected is not None else "no expected_accuracy is set"
    advice = (
        winner.sentence()
        if winner
        else (
            "no common mistake explains it (permuted classes, BGR, /255, normalisation): check that checkpoints, "
            "classes and transform match"
        )
    )
    return [
        Finding(
            "error" if short or (winner and winner.sure) else "warning",
            "; ".join([f"{sentence}, {needed}", advice, *([untested] if untested else [])]),
            winner.classes if winner else (),
        ),
        *warnings,
    ]


def sufficient(sentence: str, expected: float | None, better: Remedy | None, warnings: list[Finding]) -> list[Finding]:
    """Returns the findings where the accuracy is as expected; another reading that is surely better is an error if
    no accuracy is expected. Nets often know upright images better, however they were trained."""
    if better and better.sure and expected is None:
        more = "if training used this order as well, set expected_accuracy in audit.toml"
        return [Finding("error", f"{sentence}; {better.sentence()}; {more}")]
    if expected is None:
        compared = "; set expected_accuracy in audit.toml to have it checked"
    else:
        compared = f", expected {expected:.1%}"
    if better and better.sure:
        change = f"would be {better.right.mean():.1%} with this change: {better.text}"
        warnings = [Finding("warning", f"the accuracy is as expected, but {change}")]
    return [Finding("ok", sentence + compared), *warnings]


def explanation(
    context: Context,
    batch: torch.Tensor,
    logits: torch.Tensor,
    labels: np.ndarray,
    right: np.ndarray,
    reread: Sequence[Remedy] = (),
) -> tuple[Remedy | None, str | None]:
    """The usual mistake that, undone, gives the highest accuracy; and what could not be tested.

    Among equals the first: another reading of the files comes before changes of the inputs, which may imitate it.
    """
    tried = [
        Remedy(text, predicted_logits(context, undo(batch)).argmax(1).numpy() == labels)
        for text, undo in input_remedies(batch).items()
    ]
    renamings, untested = class_remedies(logits.argmax(1).numpy(), labels, context.audit.classes)
    return best_remedy([*reread, *tried, *renamings], right), untested


def save_picture(batch: torch.Tensor, path: Path) -> None:
    """Sixteen inputs as the model sees them, in one 4×4 picture; channels stretched to the batch's own range."""
    if batch.ndim != 4 or batch.shape[1] not in (1, 3) or not len(batch):
        return
    low, high = batch.amin((0, 2, 3), keepdim=True), batch.amax((0, 2, 3), keepdim=True)
    scaled = ((batch - low) / (high - low).clamp_min(1e-9)).nan_to_num(0).clamp(0, 1)
    pictures = [tile(image) for image in scaled]
    side = pictures[0].width, pictures[0].height
    sheet = Image.new("RGB", (4 * (side[0] + 4) + 4, 4 * (side[1] + 4) + 4), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (4 + number % 4 * (side[0] + 4), 4 + number // 4 * (side[1] + 4)))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG")


def tile(image: torch.Tensor, least: int = 96) -> Image.Image:
    """(1 or 3, h, w) in 0…1 → an RGB picture, small ones enlarged by a whole factor without blur."""
    pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).expand(-1, -1, 3).contiguous().cpu().numpy()
    picture = Image.fromarray(pixels)
    factor = max(1, least // max(picture.size))
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
