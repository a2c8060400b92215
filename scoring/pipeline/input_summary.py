"""Summaries of vector and text inputs, which `hardlook check` stores for the overview.

Vectors: mean, deviation, lowest and highest of each column *after* the transform. Texts: how many tokens they have,
how many fill the whole length (and may be cut), and the first few texts cut at their tokens. A column whose deviation
is a hundred times another's is a warning: it dominates training, and its input gradient is as much smaller, so that VoG
would mostly measure the others.

Inputs → outputs: transformed batches → dicts for JSON, and the warnings' sentences. Cost: none besides the reading.
Limits: only inputs of one dimension (columns, or tokens) are described; padding is taken to be 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

FEW_COLUMNS = 60
FEW_TEXTS = 4
FEW_TOKENS = 60
UNEVEN = 100.0
CUT = 0.5


def column_summary(batch: torch.Tensor, names: Sequence[str] | None) -> dict[str, Any] | None:
    """(n, d) floats → {kind, columns: [[name, mean, deviation, low, high]], left}; None for anything else."""
    if batch.ndim != 2 or not batch.is_floating_point() or not len(batch):
        return None
    names = list(names) if names and len(names) == batch.shape[1] else [str(j) for j in range(batch.shape[1])]
    wide = batch.double()
    facts = torch.stack([wide.mean(0), wide.std(0, correction=0), wide.amin(0), wide.amax(0)], 1)
    rows = [[name, *row] for name, row in zip(names, facts.tolist(), strict=True)]
    return {"kind": "vector", "columns": rows[:FEW_COLUMNS], "left": max(0, len(rows) - FEW_COLUMNS)}


def uneven_columns_warning(batch: torch.Tensor, names: Sequence[str] | None) -> str | None:
    """The warning where columns are of very different deviation after the transform; constant ones do not count.

    >>> uneven_columns_warning(torch.tensor([[0.0, 0.0], [1.0, 500.0]]), ["a", "b"])[:61]
    "after the transform, column 'b' has deviation 250 and 'a' 0.5"
    """
    if batch.ndim != 2 or not batch.is_floating_point() or len(batch) < 2:
        return None
    spread = batch.double().std(0, correction=0)
    varying = torch.nonzero((spread > 0) & spread.isfinite()).flatten()
    if len(varying) < 2:
        return None
    order = varying[spread[varying].argsort()]
    low, high = int(order[0]), int(order[-1])
    if spread[high] < UNEVEN * spread[low]:
        return None
    names = names if names and len(names) == batch.shape[1] else [str(j) for j in range(batch.shape[1])]
    return (
        f"after the transform, column {names[high]!r} has deviation {float(spread[high]):.3g} and {names[low]!r} "
        f"{float(spread[low]):.3g}: the larger column dominates training, and VoG mostly measures the smaller one; "
        "standardise the columns in the transform, e.g. transform = { mean = […], std = […] } with one number per "
        "column"
    )


def token_summary(batch: torch.Tensor, texts: Sequence[str], transform: Any) -> dict[str, Any] | None:
    """(n, tokens) integers → {kind, length, filled, distinct, texts}; None for anything else.

    ``filled``: share of texts whose last place is not 0, the padding of hashed words and of most tokenizers.
    ``texts``: the first few as lists of tokens, where the transform has ``spans``.
    """
    if batch.ndim != 2 or batch.is_floating_point() or not len(batch):
        return None
    spans = getattr(transform, "spans", None)
    shown = [_cut(text, spans(text)) for text in texts[:FEW_TEXTS]] if spans else []
    return {
        "kind": "text",
        "length": batch.shape[1],
        "filled": float((batch[:, -1] != 0).double().mean()),
        "distinct": int(batch.unique().numel()),
        "texts": shown,
    }


def _cut(text: str, spans: Sequence[Sequence[int]]) -> list[str]:
    return [text[start:end] for start, end in spans if end > start][:FEW_TOKENS]


def truncation_warning(seen: dict[str, Any] | None) -> str | None:
    """The warning where most texts fill the whole length, so that what follows is probably never read."""
    if seen is None or seen["kind"] != "text" or seen["filled"] <= CUT:
        return None
    return (
        f"{seen['filled']:.0%} of the texts fill all {seen['length']} tokens and are truncated there; raise the "
        "transform's length if later text may be relevant"
    )
