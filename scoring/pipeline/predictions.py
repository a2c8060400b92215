"""Predictions, logits and features of the last checkpoint, and dynamics recomputed from all checkpoints.

Per example: prediction, p(prediction), p(label), loss = −log p(label), margin, entropy (nats), correct, and the most
probable other class. Rows whose example (fingerprint) and key are unchanged are kept; labels may change freely, since
everything that depends on them is derived anew from the kept logits.

Cost: one forward pass over what changed; for the dynamics, one per checkpoint. Loads torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import scoring
from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest, read_metadata, read_table, read_vectors, write_table, write_vectors
from scoring.evaluation.probabilities import other_than, softmax
from scoring.models import Checkpoint
from scoring.models.audited_model import explained
from scoring.models.outputs import SENTENCES
from scoring.pipeline.shards import BATCH, Context, column_vectors, cut, resumable, vector_column
from scoring.scorers.uncertainty import uncertainty

FORMAT = 2  # of what a row holds; features of before were of heads that were told by their type
SAMPLE, DRIFT = 32, 1e-2  # of examples whose kept logits are compared; by more than other hardware moves them
RENEWED = (
    "the model's logits differ from the stored ones for the same weights, code and data, so everything is computed "
    "again (a package was updated, or the model's code depends on something else)"
)
HEAD = b"head"
"""The key of a shard's schema metadata under which ``Head.facts`` travel."""


def predict(context: Context, *, renewed: bool = False) -> int:
    """Write predictions, logits and features of the last checkpoint; returns how many examples were computed.

    ``renewed``: because the kept logits are no longer what the model gives, which is then noted."""
    run, examples = context.run, context.examples
    key = digest([context.key, "predictions", FORMAT])
    kept = _kept_predictions(run, key, examples)
    if not _still_given(context, kept):
        context.renew()
        return predict(context, renewed=True)
    todo = np.flatnonzero(kept < 0)
    if len(todo) == 0 and len(examples) == _rows(run.predictions_path) and _same_labels(run, examples):
        shutil.rmtree(run.parts_folder("predictions"), ignore_errors=True)
        return 0
    shards = cut(todo, context.shard_size)
    part_key = digest([key, examples["example_id"].iloc[todo].tolist(), examples["fingerprint"].iloc[todo].tolist()])
    folder = run.parts_folder("predictions")
    tables = []
    if shards:
        with context.model.at(context.checkpoints[-1]):
            tables = resumable(
                folder, part_key, shards, lambda at: _predict_shard(context, at), context.progress, "predictions"
            )
    logits = merge_vectors(run.logits_path, kept, todo, tables, "logits")
    features = merge_vectors(run.features_path, kept, todo, tables, "features")
    if logits is None:
        raise HardlookError(
            f"run {run.name!r} has no readable example; `hardlook check` lists the problems; correct the data or the "
            "transform in audit.toml"
        )
    ids = examples["example_id"].tolist()
    write_vectors(run.logits_path, ids, logits)
    if features is not None:
        write_vectors(run.features_path, ids, features)
    table = predictions_table(examples, logits, context.audit.classes)
    head = measured_head([context.head] if (kept >= 0).any() else [], tables)
    notes = [RENEWED] * renewed + prediction_notes(context, head, features)
    facts = {"key": key, "hardlook": scoring.__version__, "notes": notes}
    write_table(run.predictions_path, table, facts)
    run.add_to_record(head=head)
    shutil.rmtree(folder, ignore_errors=True)
    return len(todo)


def _still_given(context: Context, kept: np.ndarray) -> bool:
    """Returns whether the model gives some of the kept examples the logits that are kept, up to ``DRIFT`` of their
    spread.

    The key cannot know all that a model depends on: packages that are installed anew, files that its code reads.
    """
    rows = np.flatnonzero(kept >= 0)
    rows = np.random.default_rng(context.audit.seed).permutation(rows)[:SAMPLE]
    batch, good, _ = context.inputs.batch(rows, context.pool)
    if not good:
        return True
    with context.model.at(context.checkpoints[-1]), explained(batch):
        found, _ = context.model.predict(batch)
    wanted = context.aligned(context.run.logits_path)[rows[good]]
    return np.allclose(found, wanted, rtol=DRIFT, atol=DRIFT * max(float(np.nanstd(wanted)), 1e-6), equal_nan=True)


def measured_head(before: list[dict[str, Any]], tables: list[pa.Table]) -> dict[str, Any]:
    """Returns what all shards found of the head (``Head.facts``), as one: it is linear where it is in every shard."""
    found = [*before, *(json.loads(table.schema.metadata[HEAD]) for table in tables)]
    return next((facts for facts in found if not facts.get("linear")), found[-1] if found else {})


def prediction_notes(context: Context, head: dict[str, Any], features: np.ndarray | None) -> list[str]:
    """Returns what readers of the predictions should know: outputs that are no logits, features that are not there."""
    model = context.model
    notes = [SENTENCES[model.output.kind]] if model.output.kind != "logits" else []
    if features is None:
        notes.append(f"no features: {head.get('reason')}")
        return notes
    missing = int((~np.isfinite(features).all(1)).sum())
    if missing:
        notes.append(
            f"{missing:,} of {len(features):,} examples have no features: they are unreadable, or their logits are "
            f"not the output of {head.get('name')!r}"
        )
    if not head.get("linear"):
        notes.append(
            f"the closed forms of the head (Cook's distance, GradNorm) are not available: {head.get('reason')}"
        )
    return notes


def _rows(path: Path) -> int:
    return read_table(path, ["example_id"]).num_rows if path.is_file() else -1


def _same_labels(run: Run, examples: pd.DataFrame) -> bool:
    """Returns whether the predictions were written for the labels, splits and ids that the examples have now."""
    columns = ["example_id", "label", "split"]
    old = read_table(run.predictions_path, columns).to_pandas()
    return all((old[c].fillna("") == examples[c].fillna("")).all() for c in columns)


def _kept_predictions(run: Run, key: str, examples: pd.DataFrame) -> np.ndarray:
    """(n,) row of the old predictions that still holds for each example, −1 where it must be computed."""
    kept = np.full(len(examples), -1)
    if not run.predictions_path.is_file() or not run.logits_path.is_file():
        return kept
    if read_metadata(run.predictions_path).get("key") != key:
        return kept
    old = read_table(run.predictions_path, ["example_id", "fingerprint", "entropy"]).to_pandas()
    where = pd.Series(np.arange(len(old)), index=pd.MultiIndex.from_frame(old[["example_id", "fingerprint"]]))
    where = where[old["entropy"].notna().to_numpy()]
    now = pd.MultiIndex.from_frame(examples[["example_id", "fingerprint"]])
    return where.reindex(now).fillna(-1).astype(int).to_numpy()


def merge_vectors(
    path: Path, kept: np.ndarray, todo: np.ndarray, tables: list[pa.Table], name: str
) -> np.ndarray | None:
    """Old rows that still hold and new rows, in the examples' order."""
    new = column_vectors(tables, name) if any(name in t.column_names and t.num_rows for t in tables) else None
    old = read_vectors(path)[1] if path.is_file() and (kept >= 0).any() else None
    either = old if new is None else new
    if either is None:
        return None
    merged = np.full((len(kept), either.shape[1]), np.nan, dtype=np.float32)
    if old is not None:
        merged[kept >= 0] = old[kept[kept >= 0]]
    if new is not None:
        merged[todo] = new
    return merged


def _predict_shard(context: Context, positions: np.ndarray) -> pa.Table:
    """Logits and features of one shard at the model's present checkpoint; unreadable examples are NaN."""
    logits = features = None
    reasons: dict[int, str] = {}
    for start in range(0, len(positions), BATCH):
        batch, good, reasons = context.inputs.batch(positions[start : start + BATCH], context.pool)
        if not good:
            continue
        at = start + np.asarray(good)
        outputs, inner = context.model.predict(batch)
        if logits is None:
            logits = np.full((len(positions), outputs.shape[1]), np.nan, dtype=np.float32)
        logits[at] = outputs
        if inner is not None:
            if features is None:
                features = np.full((len(positions), inner.shape[1]), np.nan, np.float32)
            features[at] = inner
    if logits is None:
        raise HardlookError(
            f"none of {len(positions)} examples of a shard can be read, for example: "
            f"{next(iter(reasons.values()), 'no reason was given')}; correct the data or the transform in audit.toml"
        )
    columns = {"logits": vector_column(logits)}
    if features is not None:
        columns["features"] = vector_column(features)
    head = context.model.head
    return pa.table(columns).replace_schema_metadata({HEAD: json.dumps(head.facts() if head else {})})


def predictions_table(examples: pd.DataFrame, logits: np.ndarray, classes: list[str]) -> pa.Table:
    """(n, c) logits → the table of predictions: class names, probabilities, loss, margin, entropy, correct."""
    names = np.asarray([*classes, None], dtype=object)
    position = {name: number for number, name in enumerate(classes)}
    labels = examples["label"].map(position).fillna(-1).astype(int).to_numpy()
    known = np.isfinite(logits).all(1)
    p = softmax(np.where(known[:, None], logits, 0.0).astype(np.float64))
    loss, margin, entropy = uncertainty(p, labels)
    best = np.where(known, p.argmax(1), -1)
    second, p_second = other_than(p, labels)
    labelled = known & (labels >= 0)

    def numbers(values: np.ndarray, where: np.ndarray) -> pa.Array:
        return pa.array(np.where(where, values, 0).astype(np.float32), mask=~where)

    rows = np.arange(len(p))
    return pa.table(
        {
            "example_id": pa.array(examples["example_id"], pa.string()),
            "fingerprint": pa.array(examples["fingerprint"], pa.string()),
            "split": pa.array(examples["split"], pa.string()),
            "label": pa.array(examples["label"].where(examples["label"].notna(), None), pa.string()),
            "prediction": pa.array(names[best], pa.string()),
            "p_prediction": numbers(p[rows, np.maximum(best, 0)], known),
            "p_label": numbers(p[rows, labels], labelled),
            "loss": numbers(loss, labelled),
            "margin": numbers(margin, labelled),
            "entropy": numbers(entropy, known),
            "correct": pa.array(best == labels, mask=~labelled),
            "second": pa.array(names[np.where(known, second, -1)], pa.string()),
            "p_second": numbers(np.nan_to_num(p_second), known),
        }
    )


# -- dynamics from checkpoints ---------------------------------------------------------------------------------------


def recompute_dynamics(context: Context) -> int:
    """Write the epoch tables that a Recorder would have written, one per checkpoint, for runs without a recording.

    Only labelled examples have dynamics; the training forward's own margin stays null. Nothing is done where the
    tables of the same checkpoints and examples exist already.
    """
    from scoring.training.dynamics import EpochTables, examples_digest, measure

    run, examples = context.run, context.examples
    known = np.flatnonzero(examples["label"].notna())
    ids, labels = examples["example_id"].iloc[known].tolist(), context.labels[known]
    key = digest([context.key, examples_digest(ids, labels), examples["fingerprint"].iloc[known].tolist()])
    files = run.dynamics_files("checkpoints")
    if not len(known) or (len(files) == len(context.checkpoints) and read_metadata(files[-1]).get("key") == key):
        return 0
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
            table = _predict_shard(context, shard)
            parts.append(column_vectors([table], "logits"))
            advance(len(shard))
    return np.concatenate(parts)
