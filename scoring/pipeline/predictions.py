"""Predictions, logits and features of the last checkpoint.

Per example: prediction, p(prediction), p(label), loss = −log p(label), margin, entropy (nats), correct, and the most
probable other class. Rows whose example (fingerprint) and key are unchanged are kept; labels may change freely, since
everything that depends on them is derived anew from the kept logits.

Cost: one forward pass over what changed, which a first pass over the data may have done. Loads torch.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

import scoring
from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest, read_metadata, read_table, read_vectors, write_table, write_vectors
from scoring.evaluation.probabilities import other_than, softmax
from scoring.models.audited_model import explained
from scoring.models.outputs import SENTENCES
from scoring.pipeline.forward import predict_batch
from scoring.pipeline.passed import HEAD, Passed, PassedRows, vectors_of
from scoring.pipeline.shards import BATCH, Context, column_vectors, cut, resumable, vector_column
from scoring.scorers.uncertainty import uncertainty

FIRST_PASS = "first_pass"
FORMAT = 2  # of what a row holds; features of before were of heads that were told by their type
SAMPLE, DRIFT = 16, 1e-2  # of examples whose kept logits are compared; by more than other hardware moves them
RENEWED = (
    "the model's logits differ from the stored ones for the same weights, code and data, so everything is computed "
    "again (a package was updated, or the model's code depends on something else)"
)


def predictions_key(context: Context) -> str:
    """Returns what the predictions depend on besides the examples."""
    return digest([context.key, "predictions", FORMAT])


def predict(context: Context, *, renewed: bool = False) -> int:
    """Write predictions, logits and features of the last checkpoint; returns how many examples were computed.

    ``renewed``: because the kept logits are no longer what the model gives, which is then noted."""
    run, examples = context.run, context.examples
    key = predictions_key(context)
    kept = _kept_predictions(run, key, examples)
    if not _still_given(context, kept):
        context.renew()
        return predict(context, renewed=True)
    todo = np.flatnonzero(kept < 0)
    if len(todo) == 0 and len(examples) == _rows(run.predictions_path) and _same_labels(run, examples):
        for name in ("predictions", FIRST_PASS):
            shutil.rmtree(run.parts_folder(name), ignore_errors=True)
        return 0
    shards = cut(todo, context.shard_size)
    part_key = digest([key, examples["example_id"].iloc[todo].tolist(), examples["fingerprint"].iloc[todo].tolist()])
    folder = run.parts_folder("predictions")
    tables = []
    if shards:
        with context.model.at(context.checkpoints[-1]):
            tables = resumable(
                folder,
                part_key,
                shards,
                lambda at: predict_shard(context, at, context.passed),
                context.progress,
                "predictions",
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
    run.add_to_record(head=head, classes=context.audit.classes)
    shutil.rmtree(folder, ignore_errors=True)
    Passed(run.parts_folder(FIRST_PASS), key).drop()
    return len(todo)


def _still_given(context: Context, kept: np.ndarray) -> bool:
    """Returns whether the model gives some of the kept examples the logits that are kept, up to ``DRIFT`` of their
    spread.

    The key cannot know all that a model depends on: packages that are installed anew, files that its code reads.
    """
    rows = np.flatnonzero(kept >= 0)
    rows = np.random.default_rng(context.audit.seed).permutation(rows)[:SAMPLE]
    if not len(rows) or context.given == context.key:
        return True
    batch, good, _ = context.inputs.batch(rows, context.pool)
    if not good:
        return True
    with context.model.at(context.checkpoints[-1]), explained(batch):
        found, _ = predict_batch(context.model, batch)
    wanted = context.aligned(context.run.logits_path)[rows[good]]
    given = np.allclose(found, wanted, rtol=DRIFT, atol=DRIFT * max(float(np.nanstd(wanted)), 1e-6), equal_nan=True)
    context.given = context.key if given else None
    return given


def known_rows(context: Context, numbers: np.ndarray) -> PassedRows | None:
    """Returns what a first pass, or predictions that still hold, say of some examples; None where neither knows all of
    them."""
    context.model  # noqa: B018  whether a first pass holds is known once it is known what the model returns
    part = context.examples.iloc[numbers]
    found = context.passed.rows(part["example_id"].tolist(), part["fingerprint"].tolist()) if context.passed else None
    if found is not None:
        return found
    kept = _kept_predictions(context.run, predictions_key(context), context.examples)
    if not len(numbers) or (kept[numbers] < 0).any() or not _still_given(context, kept):
        return None
    logits = context.aligned(context.run.logits_path)[numbers]
    finite = np.isfinite(logits).all(1)
    return PassedRows(logits, finite, [None] * len(numbers)) if finite.all() else None


def measured_head(before: list[dict[str, Any]], tables: list[pa.Table]) -> dict[str, Any]:
    """Returns what all shards found of the head (``Head.facts``), as one: it is linear where it is in every shard."""
    return one_head([*before, *(json.loads(table.schema.metadata[HEAD]) for table in tables)])


def one_head(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the facts of a head that was measured several times: the first that says it is not linear, else the
    last."""
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


def predict_shard(context: Context, positions: np.ndarray, passed: Passed | None = None) -> pa.Table:
    """Logits and features of one shard at the model's present checkpoint; unreadable examples are NaN. ``passed``: has
    some batches already."""
    logits = features = None
    reasons: dict[int, str] = {}
    heads: list[dict[str, Any]] = []
    for start in range(0, len(positions), BATCH):
        rows = positions[start : start + BATCH]
        outputs, inner, good, reasons, head = _passed_batch(context, rows, passed) or _predict_batch(context, rows)
        if outputs is None:
            continue
        at, heads = start + np.asarray(good), [*heads, head]
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
    return pa.table(columns).replace_schema_metadata({HEAD: json.dumps(one_head(heads))})


class _Batch(NamedTuple):
    """(m, c) logits and (m, d) features of the readable examples of a batch, where these stand in it, why the others
    are not, and what was measured of the head."""

    outputs: np.ndarray | None
    inner: np.ndarray | None
    good: list[int]
    reasons: dict[int, str]
    head: dict[str, Any]


def _predict_batch(context: Context, rows: np.ndarray) -> _Batch:
    """One batch, read and put through the model."""
    batch, good, reasons = context.inputs.batch(rows, context.pool)
    if not good:
        return _Batch(None, None, good, reasons, {})
    outputs, inner = predict_batch(context.model, batch)
    head = context.model.head
    return _Batch(outputs, inner, good, reasons, head.facts() if head else {})


def _passed_batch(context: Context, rows: np.ndarray, passed: Passed | None) -> _Batch | None:
    """The same of a first pass; None where it did not compute this batch."""
    part = context.examples.iloc[rows]
    table = passed.batch(part["example_id"].tolist(), part["fingerprint"].tolist()) if passed else None
    if table is None:
        return None
    logits, features, problems = vectors_of(table, "logits"), vectors_of(table, "features"), table["problem"]
    good = [at for at, reason in enumerate(problems.to_pylist()) if reason is None]
    reasons = {at: reason for at, reason in enumerate(problems.to_pylist()) if reason is not None}
    head = json.loads(table.schema.metadata[HEAD])
    if logits is None:
        return _Batch(None, None, [], reasons, head)
    return _Batch(logits[good], None if features is None else features[good], good, reasons, head)


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
