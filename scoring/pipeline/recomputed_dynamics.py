"""Dynamics recomputed from all checkpoints, for runs whose training was not recorded.

An opened run → the epoch tables that a Recorder would have written, one per checkpoint. Cost: one forward pass per
checkpoint over all labelled examples. Limits: the training forward's own margin stays null. Loads torch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scoring.audit.storage import digest, read_metadata
from scoring.evaluation.probabilities import softmax
from scoring.models import Checkpoint
from scoring.pipeline.predictions import predict_shard
from scoring.pipeline.shards import Context, column_vectors, cut


def is_recomputed(context: Context) -> bool:
    """Returns whether the tables of these checkpoints and examples are there, or no example has a label."""
    known, key = _known(context)
    files = context.run.dynamics_files("checkpoints")
    return not len(known) or (len(files) == len(context.checkpoints) and read_metadata(files[-1]).get("key") == key)


def _known(context: Context) -> tuple[np.ndarray, str]:
    """Positions of the labelled examples, and what their tables depend on."""
    from scoring.training.dynamics import examples_digest

    examples = context.examples
    known = np.flatnonzero(examples["label"].notna())
    ids, labels = examples["example_id"].iloc[known].tolist(), context.labels[known]
    return known, digest([context.key, examples_digest(ids, labels), examples["fingerprint"].iloc[known].tolist()])


def recompute_dynamics(context: Context) -> int:
    """Write the epoch tables that a Recorder would have written, one per checkpoint, for runs without a recording.

    Only labelled examples have dynamics; the training forward's own margin stays null. Nothing is done where the
    tables of the same checkpoints and examples exist already.
    """
    from scoring.training.dynamics import EpochTables, measure

    run, examples = context.run, context.examples
    known, key = _known(context)
    if is_recomputed(context):
        return 0
    ids, labels = examples["example_id"].iloc[known].tolist(), context.labels[known]
    tables = EpochTables(run, "checkpoints", ids, labels)
    tables.open(overwrite=True)
    try:
        with context.progress("dynamics from checkpoints", len(known) * len(context.checkpoints)) as advance:
            for epoch, checkpoint in enumerate(context.checkpoints, 1):
                logits = _checkpoint_logits(context, checkpoint, known, advance)
                mean = tables.next_mean(logits.shape[1])
                if mean is not None:
                    p = softmax(logits.astype(np.float64))
                    mean += (np.where(np.isfinite(p), p, np.nan) - mean) / epoch
                tables.append(
                    epoch,
                    measure(logits, labels),
                    np.full(len(ids), np.nan, np.float32),
                    mean,
                    {"key": key, "from": "checkpoints"},
                )
    finally:
        tables.close()
    return len(known)


def _checkpoint_logits(
    context: Context, checkpoint: Checkpoint, positions: np.ndarray, advance: Callable[[int], object]
) -> np.ndarray:
    """(n, c) logits of some examples at one checkpoint, NaN where an example cannot be read."""
    parts = []
    with context.model.at(checkpoint):
        for shard in cut(positions, context.shard_size):
            table = predict_shard(context, shard)
            parts.append(column_vectors([table], "logits"))
            advance(len(shard))
    return np.concatenate(parts)
