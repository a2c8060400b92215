"""Forward passes in parts that fit a processor's caches: the same rows, sooner, in a fraction of the memory.

On a CPU the activations of a large batch are written to memory that the system has to give anew each time: ResNet-18 at
224 pixels takes 40 ms per image in batches of 256, 27 ms in batches of 8 to 16. On a device a batch stays whole.

(n, *input) → (n, c) logits and (n, d) features, float32. Cost: the model's. Limits: the size of a part follows the
input alone, not what the model makes of it.
"""

from __future__ import annotations

import numpy as np
import torch

from scoring.models.audited_model import FEW, AuditedModel
from scoring.models.eval_mode import to_device
from scoring.models.head import head_of

PART_BYTES = 8 << 20
LEAST = 8


def part_size(batch: torch.Tensor, device: torch.device) -> int:
    """Returns how many examples go through the model at once: a power of two, so that it divides the usual batches.

    >>> [part_size(torch.empty(shape), torch.device("cpu")) for shape in ((256, 3, 224, 224), (64, 20))]
    [8, 64]
    """
    if device.type != "cpu" or not len(batch):
        return max(len(batch), 1)
    each = batch[0].numel() * batch.element_size()
    fits = max(LEAST, PART_BYTES // max(each, 1))
    return len(batch) if fits >= len(batch) else 1 << (int(fits).bit_length() - 1)


def predict_batch(model: AuditedModel, batch: torch.Tensor) -> tuple[np.ndarray, np.ndarray | None]:
    """(n, c) logits and (n, d) features of a batch (None where no single layer gives the logits, NaN in rows where it
    does not), float32 in main memory."""
    size = part_size(batch, model.device)
    if size < len(batch) and model.head is None:  # found on as many examples as in a whole batch
        model.head = head_of(model.module, to_device(batch[:FEW], model.device))
    parts = [model.predict(batch[at : at + size]) for at in range(0, len(batch), size)]
    logits = np.concatenate([part for part, _ in parts])
    width = next((features.shape[1] for _, features in parts if features is not None), None)
    if width is None:
        return logits, None
    missing = (np.full((len(part), width), np.nan, np.float32) for part, _ in parts)
    return logits, np.concatenate(
        [gap if features is None else features for (_, features), gap in zip(parts, missing, strict=True)]
    )
