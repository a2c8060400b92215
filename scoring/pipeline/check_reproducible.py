"""Checks that a model gives the same logits for the same inputs: again, alone, and among others.

Inputs and the logits that they gave → findings. Cost: a few dozen examples through the model, three times. Limits: what
happens rarely (one example in a hundred) may stay unseen.
"""

from __future__ import annotations

import inspect

import numpy as np
import torch

from scoring.models.audited_model import explained
from scoring.pipeline.findings import TWICE, Finding
from scoring.pipeline.forward import predict_batch
from scoring.pipeline.shards import BATCH, Context

ALONE = 8


def predicted_logits(context: Context, batch: torch.Tensor) -> torch.Tensor:
    """(n, c) logits of the last checkpoint."""
    with context.model.at(context.checkpoints[-1]), explained(batch):
        parts = [predict_batch(context.model, batch[at : at + BATCH])[0] for at in range(0, len(batch), BATCH)]
    return torch.from_numpy(np.concatenate(parts))


DEPENDS = Finding(
    "error",
    "an example's logits depend on the other examples in its batch: a BatchNorm in training mode or without running "
    "statistics, or a mean over the batch; use running statistics",
)
CHANGED = Finding(
    "error",
    "examples have other logits now than when the data was read: the transform augments some of them at random, or the "
    "logits depend on the other examples in a batch; name the evaluation transform in audit.toml",
)


def reproducible_logits(context: Context, batch: torch.Tensor, logits: torch.Tensor) -> list[Finding]:
    """Checks that the same inputs give the same logits again, independent of the other examples in the batch.

    Dropout called as a function keeps dropping in eval mode, and a BatchNorm without running statistics normalises by
    its batch: every score would then depend on chance or on its neighbours.
    """
    few = logits[:TWICE]
    coarse = next((p.dtype for p in context.model.module.parameters() if p.dtype.itemsize < 4), None)
    allowed = 0.1 if coarse else 1e-3
    if not bool(torch.isfinite(few).all()) or len(few) < 2:
        return []
    if not _same(predicted_logits(context, batch)[:TWICE], few, allowed):
        return [
            Finding(
                "error",
                "in eval mode the model returns different logits for the same inputs: a functional dropout stays "
                "active (pass training=self.training), or forward is random or changes the model",
            )
        ]
    alone = torch.cat([predicted_logits(context, batch[at : at + 1]) for at in range(min(len(few), ALONE))])
    among = predicted_logits(context, torch.cat([batch[TWICE : 2 * TWICE], batch[:TWICE].flip(0)]))[-len(few) :].flip(0)
    same = _same(alone, few[:ALONE], allowed) and _same(among, few, allowed)
    return [] if same else [DEPENDS]


def unlike_passed(few: torch.Tensor, logits: torch.Tensor) -> list[Finding]:
    """Checks that the first examples' logits are those of the pass over all of them, in other batches."""
    known = logits[: len(few)]
    if not bool(torch.isfinite(few).all()) or not bool(torch.isfinite(known).all()):
        return []  # told elsewhere
    return [] if _same(few, known, 1e-3) else [CHANGED]


def _same(found: torch.Tensor, wanted: torch.Tensor, allowed: float) -> bool:
    """Returns whether logits agree to 1e-3, or to this share of their spread."""
    return torch.allclose(found, wanted, rtol=1e-3, atol=allowed * float(wanted.float().std().nan_to_num()) + 1e-6)


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
