"""The Recorder: records checkpoints and the predictions on every example after each epoch, from any training loop.

    with Recorder("my_audit", model, examples=plain_train_set) as recorder:
        for epoch in range(20):
            for inputs, labels in recorder.watch(loader):    # was: in loader
                ...                                          # the loop as it was

The ``Recorder`` takes the margins of the training forward's own logits as they pass (area under the margin,
Pleiss et al. 2020), and at the end of each epoch saves a checkpoint and makes one pass in eval mode over the
un-augmented examples: p(label), margin, error norm, loss, correct, and the mean over epochs of the class
probabilities. The training itself is bit for bit the one that it would be without a Recorder.

Epochs are numbered from 1: epoch e is the model after e epochs; the untrained model is not recorded. A kill
leaves whole epochs. Cost: one forward pass over the examples and one checkpoint per epoch. Limits: one
process; models that give (n, classes) logits; ``scoring.training.trainer`` trains, ``scoring.training.callbacks``
serves Lightning and Hugging Face.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import nn
from torch.utils.data import ConcatDataset, Dataset

from scoring.audit import CONFIG, Audit, Run
from scoring.audit.errors import HardlookError
from scoring.models.outputs import SENTENCES, OutputReader
from scoring.training.checkpoint_files import CheckpointFiles, check_thinning, save_checkpoint, thin
from scoring.training.dynamics import MEASURES, EpochTables, measure
from scoring.training.forward_hooks import ForwardTap, RecordedOrder, followed, row_map
from scoring.training.recorded_examples import Recorded, evaluate, recorded

log = logging.getLogger("hardlook")

UNKNOWN = (
    "the rows of a batch cannot be matched to examples, so train_margin is null: needed a DataLoader over a "
    "map-style dataset with one item per example, or watch(…, rows=…)"
)


class Recorder:
    """Turns any training loop into an auditable run; see the module's docstring for its use.

    ``audit``: an ``Audit`` (a ``hardlook.Audit``, too), or a folder, with or without an audit.toml. ``model``: the
    module whose forward gives the (n, c) logits. ``examples``: a map-style dataset of un-augmented (input, label) in
    the order of ``ids``; without ids, in the order of the audit's train examples; without examples, the audit reads
    them itself. ``test``: a second such dataset, of test examples, that is recorded too.

    ``every`` and ``keep`` thin the checkpoints (``scoring.training.checkpoint_files.thin``); only training "main" keeps
    checkpoints unless ``checkpoints`` says otherwise. An existing training is continued with ``resume``,
    replaced with ``overwrite`` and otherwise refused. ``collate`` and ``num_workers`` are those of the pass
    over the examples.
    """

    def __init__(
        self,
        audit: Audit | str | os.PathLike[str],
        model: nn.Module,
        run: str = "main",
        *,
        examples: Dataset[Any] | None = None,
        ids: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
        test: Dataset[Any] | None = None,
        test_ids: Sequence[str] | None = None,
        training: str = "main",
        every: int = 1,
        keep: int | None = None,
        checkpoints: bool | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        collate: Callable[..., Any] | None = None,
        resume: bool = False,
        overwrite: bool = False,
    ):
        self.audit, self.run = _open(audit, run)
        self.model = model
        self.training, self.every, self.keep = training, every, keep
        check_thinning(every, keep)
        self.examples = recorded(self.audit, _own_examples(self.audit, self.run, examples), ids, labels)
        self._everything = _with_test(self.examples, self.audit, test, test_ids)
        keeps = training == "main" if checkpoints is None else checkpoints
        self._files = CheckpointFiles(self.run) if keeps else None
        self._tables = EpochTables(self.run, training, self._everything.ids, self._everything.labels)
        self._reading: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "collate": collate}
        self._existing = {"resume": resume, "overwrite": overwrite}
        self.read = OutputReader(self.run.config.get("output"), self.run.config.get("output_item"))
        self.tap = ForwardTap(self.examples.labels, self.read)
        self.notes: dict[str, str] = {}
        self.seconds = 0.0
        self._started = self._distrusted = False

    # -- the loop --------------------------------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    @property
    def epochs(self) -> list[int]:
        """The epochs that are recorded, whole and on the disk."""
        return list(self._tables.epochs)

    def start(self) -> None:
        """Open the training's folder: refuse, continue or replace what is there. ``with`` does it."""
        if self._started:
            return
        self._tables.open(**self._existing)
        try:
            self._open_checkpoints()
            recorded = self.run.record().get("trainings", {}).get(self.training, {}).get("epochs", [])
            if self.epochs and recorded != self.epochs:  # a training was killed between an epoch and its record
                self._write_record()
        except BaseException:
            self._tables.close()
            raise
        self._started = True

    def close(self) -> None:
        """Give the training's folder back to other Recorders; what was recorded stays."""
        if self._started:
            self._tables.close()
        self._started = False
        self._existing = {"resume": True, "overwrite": False}

    def watch(
        self,
        loader: Any,
        *,
        epoch: int | None = None,
        rows: Callable[[Any], Sequence[Any]] | None = None,
        logits: bool = True,
    ) -> Watched:
        """The same batches as ``loader`` gives, one epoch of them, recorded when the last one is done.

        ``epoch`` is its number (default: the next one). ``rows`` tells for a batch which row of ``examples``,
        or which example_id, each of its examples is, for loaders that are no ``DataLoader``; ``logits=False``
        leaves the training forward alone (mixup, for instance, trains on no example's own input). A loop that
        is left by ``break`` is not recorded, unless it calls ``end_epoch``.
        """
        return Watched(loader, lambda: self._watch(loader, epoch, rows, logits))

    def _watch(self, loader: Any, epoch: int | None, rows: Callable[..., Any] | None, logits: bool) -> Iterator[Any]:
        self.start_epoch()
        finished = False
        with followed(loader if logits and rows is None else None) as order, self.tap.on(self.model):
            where = self.row_map(loader, order) if logits and rows is None else None
            try:
                for batch in loader:
                    if logits:
                        self.tap.expect(self._given(rows(batch)) if rows else lookup(where, order), batch)
                    yield batch
                finished = True
            finally:
                self.tap.settle()
                if not finished:
                    self.note(
                        "left",
                        "a loop ended before its last batch (break, or an error), so its epoch was not recorded; "
                        "call Recorder.end_epoch() to record it",
                    )
        if order is not None and order.pending:
            self.distrust("the loader returned other batches than it had drawn")
        self.end_epoch(epoch)

    def start_epoch(self) -> None:
        """Discards the batches recorded since the last epoch; called by ``watch`` and the callbacks."""
        self.start()
        self.tap.clear()
        self._distrusted = False

    def end_epoch(self, epoch: int | None = None) -> None:
        """Record the model as it is as the end of an epoch: checkpoint, pass over the examples, tables.

        ``epoch`` counts from 1 (default: the next one); one that is recorded already stays as it is.
        """
        self.start()
        start = time.perf_counter()
        number = (max(self.epochs, default=0) + 1) if epoch is None else int(epoch)
        if number < 1:
            raise HardlookError(f"there is no epoch {number}; epochs count from 1: the model after one epoch")
        if number in self.epochs or number < max(self.epochs, default=0):
            self.note("again", f"epoch {number} was already recorded and has not been changed")
            return
        self._record(number, start)
        self.tap.clear()

    # -- an epoch's end --------------------------------------------------------------------------------------

    def _record(self, epoch: int, start: float) -> None:
        if self._files:
            save_checkpoint(self._files.path(epoch), self.model, epoch)
        measures, mean = self._evaluate()
        train_margin = self._train_margins(epoch)
        facts = {"run": self.run.name, "training": self.training, "notes": list(self.notes.values())}
        self._tables.append(epoch, measures, train_margin, mean, facts)
        if self._files:
            self._files.remove_all_but(thin(self.epochs, every=self.every, keep=self.keep))
        self.seconds += time.perf_counter() - start
        self._write_record()

    def _evaluate(self) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """Measures of every example, each (n,), and the mean class probabilities with this epoch in them."""
        parts: list[dict[str, np.ndarray]] = []
        count, mean = len(self.epochs) + 1, None
        self._settled = False
        with contextlib.closing(evaluate(self.model, self._everything, read=self._read, **self._reading)) as batches:
            for rows, logits in batches:
                labels = self._everything.labels[rows]
                self._check_classes(logits.shape[1], labels)
                if rows.start == 0:
                    mean = self._tables.next_mean(logits.shape[1])
                parts.append(measure(logits, labels))
                if mean is not None:
                    finite = np.isfinite(logits).all(1, keepdims=True)
                    p = np.where(finite, softmax(np.where(finite, logits, 0.0).astype(np.float64), axis=1), np.nan)
                    mean[rows] += (p - mean[rows]) / count
        measures = {name: np.concatenate([part[name] for part in parts]) for name in MEASURES}
        if np.isnan(measures["p_label"]).any():
            self.note("infinite", "the model returned logits that are not finite; they are null in that epoch")
        return measures, mean

    def _read(self, output: Any) -> torch.Tensor:
        """Returns the logits of a batch of the pass over the examples; the first batch determines the kind of
        output."""
        if not self._settled:
            self._settled = True
            if self.read.settle(output):
                self.note("output", SENTENCES[self.read.kind])
                self.distrust(
                    "at that point the model's outputs were not yet recognised as something other than logits"
                )
            if self.read.suspected and not self.read.given:
                self.note(
                    "suspected",
                    "the model's outputs all lie in 0…1 and were recorded as logits; if they are sigmoids, write "
                    f'`output = "{self.read.suspected}"` in [run.{self.run.name}] of audit.toml and record again',
                )
        return self.read(output)

    def _check_classes(self, width: int, labels: np.ndarray) -> None:
        needed = len(self.audit.classes) if self.audit else 0
        if needed and width != needed:
            raise HardlookError(
                f"the model gives {width} logits per example and audit.toml lists {needed} classes; needed as many, "
                "in the same order"
            )
        if labels.max() >= width:
            raise HardlookError(f"label {labels.max()} is out of range for a model with {width} logits per example")

    def _train_margins(self, epoch: int) -> np.ndarray:
        """(n,) margins of this epoch's training forwards, NaN where one cannot be attributed for certain."""
        nothing = np.full(len(self._everything), np.nan, dtype=np.float32)
        if self.tap.mismatched():
            self.distrust("the labels of its batches differ from those of the examples that the loader drew")
        found = self.tap.margins()
        if self._distrusted:
            return nothing
        if self.tap.unknown:
            self.note("unknown", UNKNOWN)
        if self.tap.missed:
            self.note(
                "missed",
                f"{self.tap.missed} of {self.tap.batches} batches of epoch {epoch} could not be matched with a "
                "training forward of their size; train_margin is null there",
            )
        nothing[: len(found)] = found
        return nothing

    def _write_record(self) -> None:
        trainings = dict(self.run.record().get("trainings", {}))
        trainings[self.training] = {
            "epochs": self.epochs,
            "examples": len(self._everything),
            "seconds": round(self.seconds, 2),
            "notes": list(self.notes.values()),
        }
        self.run.add_to_record(trainings=trainings)

    def _open_checkpoints(self) -> None:
        """Remove checkpoints of epochs that are not recorded; refuse others in the same place."""
        if self._files:
            self._files.refuse_foreign()
            self._files.remove_all_but(self.epochs)

    # -- notes, and which row is which -----------------------------------------------------------------------

    def note(self, key: str, text: str) -> None:
        """Say something about this recording once: in ``notes``, in the files and to the log "hardlook"."""
        if key not in self.notes:
            self.notes[key] = text
            log.warning("recording %s: %s", self.run.name, text)

    def distrust(self, reason: str) -> None:
        """Leave this epoch's training margins out."""
        self._distrusted = True
        self.note("distrusted", f"train_margin is null where {reason}")

    def row_map(self, loader: Any, order: RecordedOrder | None) -> np.ndarray | None:
        """Row of ``examples`` for each row of the loader's dataset, −1 = none; None and a note: not known."""
        where = row_map(loader.dataset, self.examples.dataset) if order is not None else None
        if where is None:
            self.note("unknown", UNKNOWN)
        return where

    def _given(self, rows: Sequence[Any] | torch.Tensor) -> np.ndarray:
        """Row numbers of ``examples`` from what the user's ``rows`` gave: row numbers, or ids."""
        given = rows.cpu().numpy() if isinstance(rows, torch.Tensor) else np.asarray(rows)
        if given.dtype.kind in "iu":
            return np.where((given >= 0) & (given < len(self.examples)), given, -1)
        if not hasattr(self, "_positions"):
            self._positions = {name: row for row, name in enumerate(self.examples.ids)}
        return np.asarray([self._positions.get(str(name), -1) for name in given])


class Watched:
    """What ``Recorder.watch`` gives: the loader's batches, with its length."""

    def __init__(self, loader: Any, batches: Callable[[], Iterator[Any]]):
        self.loader, self._batches = loader, batches

    def __iter__(self) -> Iterator[Any]:
        return self._batches()

    def __len__(self) -> int:
        return len(self.loader)


def lookup(where: np.ndarray | None, order: RecordedOrder | None) -> np.ndarray | None:
    """The rows of ``examples`` in the next batch; None where they are not known."""
    drawn = order.take() if order is not None else None
    if where is None or drawn is None or drawn.dtype.kind not in "iu" or not len(drawn):
        return None
    return where[drawn]


def _open(audit: Audit | str | os.PathLike[str], run: str) -> tuple[Audit | None, Run]:
    """The audit (None for a folder that is none yet) and the run to record into, configured or not."""
    if not isinstance(audit, Audit):
        folder = Path(audit).resolve()
        if not (folder.is_file() or (folder / CONFIG).is_file()):
            return None, Run(run, folder)
        audit = Audit.open(folder)
    return audit, Run(run, audit.root, audit.config.get("run", {}).get(run, {}))


def _own_examples(audit: Audit | None, run: Run, examples: Dataset[Any] | None) -> Dataset[Any]:
    """The given dataset, else the audit's own train examples through the run's evaluation transform."""
    if examples is not None:
        return examples
    if audit is None:
        raise HardlookError(
            "the Recorder has no examples: pass examples=, a dataset of un-augmented (input, label), or the folder "
            "of an audit, which has an audit.toml"
        )
    from scoring.data.ingest import ingest
    from scoring.models.inputs import Inputs, labelled

    if not audit.examples_path.is_file():
        ingest(audit)
    return Inputs(audit, run, labelled(audit))


def _with_test(train: Recorded, audit: Audit | None, test: Dataset[Any] | None, ids: Sequence[Any] | None) -> Recorded:
    """Returns the train examples, followed by the test examples if there are any."""
    if test is None:
        return train
    more = recorded(audit, test, ids, split="test")
    twice = set(train.ids) & set(more.ids)
    if twice:
        raise HardlookError(f"id {min(twice)!r} is used by a train and a test example; ids must be unique")
    return Recorded(
        ConcatDataset([train.dataset, more.dataset]), train.ids + more.ids, np.concatenate([train.labels, more.labels])
    )
