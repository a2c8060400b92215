"""The accuracy of a model against the one that is expected of it, and the mistake that explains a shortfall.

(n, c) logits and (n,) labels → findings. Cost: none where the accuracy is sufficient; else at most a dozen forward
passes over the examples (``scoring.pipeline.preprocessing_mistakes``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.stats import binom

from scoring.evaluation import wilson
from scoring.pipeline.alternative_decoding import OtherReading
from scoring.pipeline.check_reproducible import predicted_logits
from scoring.pipeline.findings import Finding
from scoring.pipeline.preprocessing_mistakes import Remedy, best_remedy, class_remedies, input_remedies
from scoring.pipeline.shards import Context

SHORT = 0.005  # the chance of so low an accuracy where the expected one is true


def train_split_note(context: Context, numbers: np.ndarray) -> str:
    """Returns a note for the accuracy if all examples are from train, whose labels the model has learned."""
    return (
        " of the train split, because there are no test examples"
        if (context.examples["split"].iloc[numbers] == "train").all()
        else ""
    )


def accuracy(
    context: Context,
    inputs: Callable[[], torch.Tensor],
    logits: torch.Tensor,
    labels: np.ndarray,
    of: str = "",
    others: Sequence[OtherReading] = (),
) -> list[Finding]:
    """Accuracy against ``expected_accuracy``; where it falls short, the usual mistakes are tried. ``inputs``:
    gives the examples' inputs, where these are needed. ``of``: which examples. ``others``: other readings of their
    images, which are compared even where nothing falls short.

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
    winner, untested = explanation(context, inputs()[known], logits[known], labels[known], right, reread)
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
