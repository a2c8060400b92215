"""The per-epoch tables of a recorded training: probability of the label, margin and loss of every example.

For logits z of an example with label y, p = softmax(z) and its one-hot label e_y:

    p_label = p_y        loss = −log p_y        correct: argmax z = y
    margin = z_y − max_{j≠y} z_j                (Pleiss et al. 2020, eq. 1)
    error_norm = ‖p − e_y‖₂                     (EL2N, Paul et al. 2021, definition 2.2)

``measure`` turns logits into these; ``EpochTables`` writes one table per epoch and, beside them, the mean
over the epochs of all class probabilities, from which labels are suggested; ``read_dynamics`` gives them back
as arrays of (epochs, n). Epochs are numbered from 1: epoch e is the model's prediction after e epochs of training.

An epoch is whole once the mean knows of it, which is written last; what a kill left unfinished is removed
when the training is taken up again. Cost: one small table per epoch, n · c · 4 bytes for the mean. Limits: no
torch here, and one writer per training (a lock sees to it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from filelock import FileLock, Timeout

from scoring.audit import Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import (
    describe_column,
    read_metadata,
    read_table,
    read_vectors,
    vectors_metadata,
    write_table,
    write_vectors,
)

MEAN_MOST_BYTES = 2 << 30
"""Class probabilities beyond this are not averaged: 1.28 M examples of 1,000 classes would take 5 GB."""

FIELDS = (
    describe_column(
        pa.field("p_label", pa.float32()),
        title="Probability of the label",
        unit="probability",
        help="The model's probability of the label on the un-augmented example after this epoch.",
    ),
    describe_column(
        pa.field("margin", pa.float32()),
        title="Margin",
        unit="logits",
        help="Logit of the label minus the largest other logit; negative if another class has the largest one.",
    ),
    describe_column(
        pa.field("error_norm", pa.float32()),
        title="Error norm",
        help="Length of (probabilities − one-hot label), between 0 and √2 (EL2N).",
    ),
    describe_column(pa.field("loss", pa.float32()), title="Loss", unit="nats", help="−log p(label)."),
    describe_column(pa.field("correct", pa.bool_()), title="Right", help="Whether the label has the largest logit."),
    describe_column(
        pa.field("train_margin", pa.float32()),
        title="Margin in training",
        unit="logits",
        help="The margin in the training forward pass, with augmentation; null if it was not recorded. The mean if "
        "the example occurred more than once.",
    ),
    describe_column(pa.field("label", pa.int32()), title="Label", help="Index of the label at the time of recording."),
)
MEASURES = ("p_label", "margin", "error_norm", "loss", "correct")
COLUMNS = (*MEASURES, "train_margin")


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """(n, c) logits and (n,) label indices → p_label, margin, error_norm, loss (float32) and correct (bool),
    each (n,).

    Computed in float64. A row whose logits are not all finite is NaN throughout, and not correct; with a
    single class there is no margin (NaN). Ties go to the first class.

    >>> found = measure(np.log([[0.5, 0.25, 0.25]]), [1])
    >>> {name: round(float(values[0]), 4) for name, values in found.items()}
    {'p_label': 0.25, 'margin': -0.6931, 'error_norm': 0.9354, 'loss': 1.3863, 'correct': 0.0}
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    rows = np.arange(len(logits))
    finite = np.isfinite(logits).all(1)
    logits = np.where(finite[:, None], logits, 0.0)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    own = logits[rows, labels]
    errors = np.exp(log_p)
    errors[rows, labels] = np.expm1(log_p[rows, labels])
    others = logits.copy()
    others[rows, labels] = -np.inf
    margin = own - others.max(1) if logits.shape[1] > 1 else np.full(len(rows), np.nan)
    found = {
        "p_label": np.exp(log_p[rows, labels]),
        "margin": margin,
        "error_norm": np.sqrt((errors**2).sum(1)),
        "loss": -log_p[rows, labels],
    }
    found = {name: np.where(finite, values, np.nan).astype(np.float32) for name, values in found.items()}
    return {**found, "correct": finite & (logits.argmax(1) == labels)}


def epoch_table(
    ids: Sequence[str], labels: np.ndarray, measures: Mapping[str, np.ndarray], train_margin: np.ndarray
) -> pa.Table:
    """One epoch's table: example_id, the measures, train_margin, label; NaN becomes null, correct with it."""
    unknown = np.isnan(measures["p_label"])
    values = {**measures, "train_margin": train_margin, "label": labels}
    columns = [pa.array(list(ids), pa.string())]
    for field in FIELDS:
        column = np.asarray(values[field.name])
        missing = np.isnan(column) if column.dtype.kind == "f" else None
        missing = unknown if field.name == "correct" else missing
        columns.append(pa.array(column, field.type, mask=missing))
    return pa.Table.from_arrays(columns, schema=pa.schema([pa.field("example_id", pa.string()), *FIELDS]))


def read_dynamics(
    files: Sequence[Path], ids: Sequence[str], columns: Sequence[str] = COLUMNS, labels: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The recorded columns of these examples → name → (epochs, n) float32, NaN where null or not recorded.

    ``files`` as ``Run.dynamics_files()`` lists them; ``correct`` is 1 or 0. Where ``labels`` (n,) are given,
    an example that was recorded under another label is NaN: what was recorded is not about the label it has
    now. Memory: 4 · epochs · n bytes per column.
    """
    found = {name: np.full((len(files), len(ids)), np.nan, dtype=np.float32) for name in columns}
    known: pa.ChunkedArray | None = None
    at = np.zeros(0, dtype=int)
    for epoch, path in enumerate(files):
        table = read_table(path, ["example_id", "label", *columns])
        if known is None or not table["example_id"].equals(known):
            known = table["example_id"]
            at = pd.Index(known.to_pylist()).get_indexer(list(ids))
        there = at >= 0
        if labels is not None:
            there[there] = table["label"].to_numpy()[at[there]] == np.asarray(labels)[there]
        for name in columns:
            values = table[name].cast(pa.float32()).to_numpy().astype(np.float32)
            found[name][epoch, there] = values[at[there]]
    return found


def examples_digest(ids: Sequence[str], labels: np.ndarray) -> str:
    """sha256 of the recorded ids and their labels, in order: two parts of one training must agree in it."""
    digest = hashlib.sha256()
    for name, label in zip(ids, labels, strict=True):
        digest.update(f"{len(name)} {name} {label}\n".encode("utf8", "surrogatepass"))
    return digest.hexdigest()


class EpochTables:
    """The folder ``runs/<run>/dynamics/<training>`` as it grows, epoch by epoch.

    ``ids`` (n,) and ``labels`` (n,) say which example each row is. Use ``open`` first; it takes the
    training's lock, which ``close`` gives back.
    """

    def __init__(self, run: Run, training: str, ids: Sequence[str], labels: np.ndarray):
        self.run, self.training = run, training
        self.ids, self.labels = list(ids), np.asarray(labels, dtype=np.int32)
        self.digest = examples_digest(self.ids, self.labels)
        self.epochs: list[int] = []
        self.mean: np.ndarray | None = None
        self._lock = FileLock(run.dynamics_folder(training) / ".lock", timeout=0)

    @property
    def mean_path(self) -> Path:
        """Returns where the mean class probabilities lie."""
        return self.run.mean_probabilities_path(self.training)

    def path(self, epoch: int) -> Path:
        """The table of one epoch."""
        return self.run.dynamics_folder(self.training) / f"epoch-{epoch:05d}.parquet"

    def open(self, *, resume: bool = False, overwrite: bool = False) -> None:
        """Take the lock and find what is there: continue it, replace it, or refuse with the way out."""
        self._take_lock()
        try:
            there = self._whole_epochs()
            if there and not (resume or overwrite):
                raise HardlookError(
                    f"{self.mean_path.parent} holds {len(there)} recorded epochs; Recorder(resume=True) continues "
                    f"after epoch {there[-1]}, Recorder(overwrite=True) starts again, training='…' records another"
                )
            self.epochs = there if resume and not overwrite else []
            self._check_same_examples()
            self._remove_epochs_not_in(self.epochs)
            self._read_mean()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def append(
        self,
        epoch: int,
        measures: Mapping[str, np.ndarray],
        train_margin: np.ndarray,
        mean: np.ndarray | None,
        facts: Mapping[str, Any],
    ) -> None:
        """Write one epoch: its table of (n,) measures, then the (n, c) mean (or None) that counts it."""
        table = epoch_table(self.ids, self.labels, measures, train_margin)
        write_table(self.path(epoch), table, {"epoch": epoch, "examples": self.digest, **facts})
        epochs = [*self.epochs, epoch]
        kept = np.empty((0, 1)) if mean is None else mean
        facts = {"epochs": epochs, "examples": self.digest}
        write_vectors(self.mean_path, self.ids[: len(kept)], kept, facts)
        self.epochs, self.mean = epochs, mean

    def averaged(self, classes: int) -> bool:
        """Returns whether the mean class probabilities of so many classes are kept."""
        return len(self.ids) * classes * 4 <= MEAN_MOST_BYTES and (not self.epochs or self.mean is not None)

    def next_mean(self, classes: int) -> np.ndarray | None:
        """A copy of the mean to take the next epoch into; None where it would be too large to keep."""
        if not self.averaged(classes):
            return None
        return np.zeros((len(self.ids), classes), np.float32) if self.mean is None else self.mean.copy()

    def _take_lock(self) -> None:
        Path(self._lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise HardlookError(
                f"another Recorder is recording training {self.training!r} of run {self.run.name!r} at the moment; "
                "wait for it to end, or record under another name: training='…'"
            ) from error

    def _whole_epochs(self) -> list[int]:
        """The epochs that the mean counts and whose tables are there."""
        if not self.mean_path.is_file():
            return []
        counted = vectors_metadata(self.mean_path).get("epochs", [])
        return [epoch for epoch in counted if self.path(epoch).is_file()]

    def _check_same_examples(self) -> None:
        if self.epochs and read_metadata(self.path(self.epochs[-1])).get("examples") != self.digest:
            raise HardlookError(
                f"{self.mean_path.parent} was recorded over other examples or labels than the {len(self.ids)} given "
                "now, so it cannot be continued; Recorder(overwrite=True) starts again, training='…' records another"
            )

    def _remove_epochs_not_in(self, kept: Sequence[int]) -> None:
        """Remove unfinished or replaced epochs; the mean first, so that no kill leaves a false count."""
        if not kept:
            self.mean_path.unlink(missing_ok=True)
        for path in self.mean_path.parent.glob("epoch-*.parquet"):
            if path not in {self.path(epoch) for epoch in kept}:
                path.unlink()

    def _read_mean(self) -> None:
        self.mean = None
        if self.epochs:
            ids, values = read_vectors(self.mean_path)
            self.mean = np.array(values) if len(ids) else None
