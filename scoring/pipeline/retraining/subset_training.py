"""Trains the run's model on a subset of its labelled training examples, with the audit's training function.

``Retraining`` holds the data and the settings of [run.x.training]; ``train`` trains one part from a fresh model (or on
from the weights of another) and keeps the final weights under ``runs/<run>/parts``, with a key of everything that they
depend on: a part that is there is not trained again, and one that ``fit`` was killed in goes on with the same bits.
``assign_folds`` deals examples into folds by hash(seed, fingerprint), class by class, duplicates together.

Cost: the trainings. Limits: an own training function that was killed starts its part again.
"""

from __future__ import annotations

import hashlib
import inspect
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from torch.utils.data import Subset

from scoring.audit.code_fingerprint import code_digest
from scoring.audit.errors import HardlookError
from scoring.audit.storage import digest
from scoring.audit.user_code import call_named, code_folder, importing_from
from scoring.models import load_callable, load_into, read_state_dict
from scoring.models.inputs import Inputs, labelled
from scoring.models.randomness import own_randomness
from scoring.pipeline.shards import Context
from scoring.training import Recorder
from scoring.training.checkpoint_files import save_checkpoint
from scoring.training.in_memory import InMemory
from scoring.training.recorded_examples import Recorded, evaluate
from scoring.training.run_training import starting_model, training_settings
from scoring.training.trainer import fit

Examples = Inputs | InMemory
NOT_THE_MODEL = ("every", "keep", "record_test")


class Part(Subset[Any]):
    """Some rows of the examples, with their ids and labels."""

    def __init__(self, dataset: Examples, indices: Sequence[int]) -> None:
        super().__init__(dataset, indices)
        self.whole = dataset

    @property
    def ids(self) -> np.ndarray:
        """(n,) example ids."""
        return np.asarray(self.whole.ids, dtype=object)[self.indices]

    @property
    def labels(self) -> np.ndarray:
        """(n,) class indices."""
        return np.asarray(self.whole.labels)[self.indices]


class Unrecorded:
    """Stands where a training function expects a Recorder, and records nothing but how many epochs ended."""

    def __init__(self, advance: Callable[[int], object]) -> None:
        self.advance = advance
        self.epochs: list[int] = []

    def watch(self, loader: Iterable[Any], **_options: Any) -> Iterator[Any]:
        """The loader's batches, as they are."""
        for batch in loader:
            yield batch
            self.advance(len(batch[1]) if isinstance(batch, (tuple, list)) else 1)
        self.end_epoch()

    def end_epoch(self, epoch: int | None = None) -> None:
        """Count an epoch."""
        self.epochs.append(epoch or len(self.epochs) + 1)


class Retraining:
    """The labelled training examples of a run, and how its model is trained on parts of them.

    ``examples``: their data frame, in the table's order; row numbers below are numbers of its rows. ``epochs`` of
    audit.toml are taken unless given.
    """

    def __init__(self, context: Context, epochs: int | None = None) -> None:
        self.context, self.audit, self.run = context, context.audit, context.run
        self.settings = training_settings(self.audit, self.run, epochs)
        self.examples = labelled(self.audit)
        if len(self.examples) < 2:
            raise HardlookError(
                f"found {len(self.examples)} labelled, readable training examples; needed at least two in a [[data]] "
                'table with split = "train"'
            )
        self.data = InMemory(Inputs(self.audit, self.run, self.examples))
        self.key = [self.run.config.get(name) for name in ("model", "arguments", "transform", "weights")]
        self.key += [
            code_digests(self.audit.root, self.run.config, self.settings),
            {k: v for k, v in self.settings.items() if k not in NOT_THE_MODEL},
        ]

    @property
    def epochs(self) -> int:
        """Epochs of one training, for the progress; 1 where the own function decides."""
        return int(self.settings.get("epochs", 1))

    def folder(self, name: str) -> Path:
        """Returns where one part keeps its weights until all are done."""
        return self.run.parts_folder(f"retraining-{name}")

    def assign_folds(self, folds: int, seed: int) -> np.ndarray:
        """(n,) fold of each labelled training example."""
        return assign_folds(self.examples, folds, seed)

    def train(
        self,
        name: str,
        rows: np.ndarray,
        seed: int,
        advance: Callable[[int], object],
        *,
        data: Examples | None = None,
        after: str | None = None,
        training: str | None = None,
    ) -> nn.Module:
        """Train the part ``name`` on these rows → the model in eval mode.

        ``data``: another dataset than the training examples, with ids and labels. ``after``: go on from the final
        weights of that part instead of from a fresh model. ``training``: record the epochs over all training examples
        under this name.
        """
        data = self.data if data is None else data
        folder, key = self.folder(name), self._key(name, data, rows, seed, after)
        weights, marker = folder / "final.safetensors", folder / "key"
        with own_randomness(seed):
            model = starting_model(self.audit, self.run).to(self.context.model.device)
        same = marker.is_file() and marker.read_text() == key
        if same and weights.is_file():
            advance(self.epochs * len(rows))
            load_into(model, read_state_dict(weights), n_classes=len(self.audit.classes) or None)
            return model.eval()
        if not same:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            marker.write_text(key)
        if after:
            load_into(
                model,
                read_state_dict(self.folder(after) / "final.safetensors"),
                n_classes=len(self.audit.classes) or None,
            )
        self._train(model, Part(data, rows.tolist()), seed, advance, training, folder / "state.pt", same)
        save_checkpoint(weights, model, self.epochs)
        return model.eval()

    def _key(self, name: str, data: Examples, rows: np.ndarray, seed: int, after: str | None) -> str:
        ids, labels = np.asarray(data.ids, dtype=object)[rows], np.asarray(data.labels)[rows]
        before = (self.folder(after) / "key").read_text() if after else None
        return digest([self.key, name, ids.tolist(), labels.tolist(), seed, before])

    def _train(
        self,
        model: nn.Module,
        part: Part,
        seed: int,
        advance: Callable[[int], object],
        training: str | None,
        state: Path,
        same: bool,
    ) -> None:
        settings = {**self.settings, "seed": seed}
        own = "function" in settings
        recorder = None
        if training:
            recorder = Recorder(
                self.audit,
                model,
                self.run.name,
                examples=self.data,
                training=training,
                checkpoints=False,
                resume=same and not own,
                overwrite=not same or own,
            )
            recorder.start()
        listener = Unrecorded(advance) if recorder is None else recorder
        try:
            if own:
                self._train_by(settings, model, part, listener)
                if training:
                    advance(self.epochs * len(part))
            else:
                known = inspect.signature(fit).parameters
                given = {key: value for key, value in settings.items() if key in known}
                if training:
                    advance(len(listener.epochs) * len(part))
                if "augment" in given:
                    given["augment"] = load_callable(given["augment"], self.audit.root)
                fit(model, part, recorder=recorder, state=state, on_batch=advance, **given)
        finally:
            if recorder is not None:
                recorder.close()
        if own and not listener.epochs:
            raise HardlookError(
                f"{settings['function']} recorded no epoch; needed `for batch in recorder.watch(loader):` in place of "
                "`for batch in loader:`, or recorder.end_epoch() after each epoch"
            )

    def _train_by(
        self, settings: dict[str, Any], model: nn.Module, part: Part, recorder: Recorder | Unrecorded
    ) -> None:
        function = settings["function"]
        given = {key: value for key, value in settings.items() if key not in ("function", *NOT_THE_MODEL)}
        if "seed" not in self.settings:
            given.pop("seed")
        called = load_callable(function, self.audit.root)
        with importing_from(code_folder(function, self.audit.root)), own_randomness(settings["seed"]):
            call_named(function, lambda **kwargs: called(model, part, recorder, **kwargs), given)

    def logits(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        """(len(rows), c) float32 logits of training examples, in eval mode."""
        part = Part(self.data, rows.tolist())
        found = [logits for _, logits in evaluate(model, Recorded(part, part.ids.tolist(), part.labels))]
        return np.concatenate(found) if found else np.empty((0, len(self.audit.classes)), np.float32)

    def forget(self, *names: str) -> None:
        """Remove what parts kept to go on with."""
        for name in names:
            shutil.rmtree(self.folder(name), ignore_errors=True)


def assign_folds(examples: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """Data frame with label and fingerprint → (n,) fold 0 … folds−1, the classes spread evenly.

    The fold of an example follows from hash(seed, fingerprint), so exact duplicates share one: otherwise a model
    would be trained on what it is asked about.
    """
    first = examples.drop_duplicates("fingerprint")
    if not 2 <= folds <= len(first):
        raise HardlookError(
            f"{folds} folds of {len(first)} different training examples; needed at least 2 folds and at most one per "
            "example"
        )
    order = [hashlib.sha256(f"{seed} {value}".encode()).hexdigest() for value in first["fingerprint"]]
    ordered = first.assign(order=order).sort_values(["label", "order"], kind="stable")
    fold = dict(zip(ordered["fingerprint"], np.arange(len(ordered)) % folds, strict=True))
    return examples["fingerprint"].map(fold).to_numpy().astype(int)


def code_digests(root: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Hashes of the code that the model, the transform and the training come from."""
    named = [config.get("model"), config.get("transform"), settings.get("function"), settings.get("augment")]
    return [found for value in named if (found := code_digest(value, root))]
