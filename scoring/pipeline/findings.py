"""Findings of ``hardlook check``: what was found, how bad it is, and what to do; and which examples are looked at.

Inputs → outputs: sentences → ``Finding``; an opened run → positions of up to ``SIZE`` of its examples. Cost: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scoring.audit.errors import HardlookError
from scoring.pipeline.shards import Context

SIZE = 500
TWICE = 32


@dataclass(frozen=True)
class Finding:
    """One answer: ``level`` is ok, warning or error; ``text`` says what was found and what to do."""

    level: str
    text: str
    classes: tuple[str, ...] = ()
    """``classes`` in the order of the model's outputs, where that is the remedy."""


def refuse_errors(findings: Sequence[Finding]) -> None:
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
