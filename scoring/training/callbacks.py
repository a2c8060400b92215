"""The Recorder as a callback of Lightning and of the Hugging Face Trainer.

    trainer = lightning.pytorch.Trainer(callbacks=[lightning_callback(audit)])
    trainer = transformers.Trainer(..., callbacks=[trainer_callback(audit)])

An audit (its folder, an ``Audit``, a ``hardlook.Audit``) or a ``scoring.training.Recorder`` → a callback object that
records at the right moments; what is recorded is the same as in a plain loop over the same batches. The recorded model
is the module whose forward gives the logits: that of the Recorder, else the one that the trainer gets. Where that
module's ``training_step`` calls a network inside it, make a Recorder of that network.

Cost: that of the Recorder. Limits: one process (other ranks do nothing); the libraries are imported when
asked for. A training that a library resumes is continued with ``Recorder(resume=True)``; its epochs keep the
library's numbers.
"""

from __future__ import annotations

import importlib
import math
import os
from typing import Any

import numpy as np
from torch import nn
from torch.utils.hooks import RemovableHandle

from scoring.audit import Audit
from scoring.audit.errors import HardlookError
from scoring.training.forward_hooks import RecordedOrder, follow, unfollow
from scoring.training.recorder import Recorder, lookup


def lightning_callback(recorder: Recorder | Audit | str | os.PathLike[str]) -> Any:
    """A ``lightning.pytorch.Callback`` (or ``pytorch_lightning``'s) around a Recorder, or of an audit."""
    base = _first_of("Callback", "lightning.pytorch", "pytorch_lightning")
    return type("RecorderCallback", (LightningHooks, base), {})(recorder)


def trainer_callback(recorder: Recorder | Audit | str | os.PathLike[str]) -> Any:
    """A ``transformers.TrainerCallback`` around a Recorder, or of an audit."""
    base = _first_of("TrainerCallback", "transformers")
    return type("RecorderCallback", (TrainerHooks, base), {})(recorder)


def _first_of(name: str, *modules: str) -> type:
    for module in modules:
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name != module.partition(".")[0]:
                raise
    library = modules[0].partition(".")[0]
    raise HardlookError(f"this callback needs {library}, which is not installed; pip install {library}")


class Recording:
    """A Recorder, made of an audit once the model is known."""

    def __init__(self, recorder: Recorder | Audit | str | os.PathLike[str]) -> None:
        super().__init__()
        self._given = recorder

    def _of(self, model: nn.Module) -> Recorder:
        if not isinstance(self._given, Recorder):
            self._given = Recorder(self._given, model)
        return self._given

    @property
    def recorder(self) -> Recorder:
        """The Recorder, once training has begun."""
        if not isinstance(self._given, Recorder):
            raise HardlookError("training has not begun: the callback makes its Recorder when it gets the model")
        return self._given


class LightningHooks(Recording):
    """What happens when, in a Lightning training."""

    def __init__(self, recorder: Recorder | Audit | str | os.PathLike[str]) -> None:
        super().__init__(recorder)
        self._followed: list[Any] = []
        self._order: RecordedOrder | None = None
        self._where: np.ndarray | None = None
        self._handle: RemovableHandle | None = None

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Remember the order of examples: loaders are opened before training starts."""
        if stage == "fit" and trainer.is_global_zero:
            self._of(pl_module).start()
            self._source = getattr(trainer.fit_loop, "_data_source", None)
            self._hand_out_followed()

    def _hand_out_followed(self) -> None:
        """Have the trainer's source of data give loaders whose order is remembered."""
        source = self._source
        give = getattr(source, "dataloader", None)
        if source is None or give is None:  # a Lightning that keeps its loaders elsewhere: no order, and a note says so
            return

        def dataloader() -> Any:
            loader = give()
            self._followed.append(loader)
            follow(loader)
            return loader

        source.dataloader = dataloader

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """A new epoch: forget the last one, listen to the forwards."""
        if trainer.is_global_zero:
            self.recorder.start_epoch()
            self._order = follow(trainer.train_dataloader) if self._followed else None
            self._where = self.recorder.row_map(trainer.train_dataloader, self._order)
            self._handle = self.recorder.tap.listen(self.recorder.model)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A batch is about to pass."""
        if trainer.is_global_zero:
            self.recorder.tap.expect(lookup(self._where, self._order), batch)

    def on_train_batch_end(self, *given: Any) -> None:
        """It has passed."""
        self.recorder.tap.settle()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """The epoch is over: record it under Lightning's number, counted from 1."""
        if trainer.is_global_zero:
            self._listen_no_more()
            self.recorder.end_epoch(trainer.current_epoch + 1)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave nothing behind in the model, even so."""
        self.teardown(trainer, pl_module, "fit")

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Give model, loaders and folder back."""
        if stage == "fit":
            self._listen_no_more()
            vars(getattr(self, "_source", self)).pop("dataloader", None)
            for loader in self._followed:
                unfollow(loader)
            self._followed = []
            self.recorder.close()

    def _listen_no_more(self) -> None:
        if self._handle is not None:
            self._handle.remove()
        self._handle = None


class TrainerHooks(Recording):
    """Hooks of a Hugging Face training; it reports no batches, so forward passes are counted."""

    def __init__(self, recorder: Recorder | Audit | str | os.PathLike[str]) -> None:
        super().__init__(recorder)
        self._loader: Any = None
        self._order: RecordedOrder | None = None
        self._handle: RemovableHandle | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Open the training's folder."""
        if state.is_world_process_zero:
            self._of(given["model"]).start()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """A new epoch: remember the order of its examples; each training forward takes the next ones."""
        if not state.is_world_process_zero:
            return
        self.recorder.start_epoch()
        self._loader = given.get("train_dataloader")
        self._order = follow(self._loader)
        where = self.recorder.row_map(self._loader, self._order)
        self.recorder.tap.source = lambda: lookup(where, self._order)
        self._handle = self.recorder.tap.listen(self.recorder.model)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """The epoch is over, or the training is: record it."""
        if not state.is_world_process_zero:
            return
        if self._order is not None and self._order.pending:
            self.recorder.distrust(
                "the Trainer loaded more batches than it passed through the model (it stopped or resumed within an "
                "epoch)"
            )
        self._listen_no_more()
        self.recorder.end_epoch(max(1, math.ceil(state.epoch - 1e-6)))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Give the folder back."""
        self._listen_no_more()
        self.recorder.close()

    def _listen_no_more(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self.recorder.tap.source = None
            unfollow(self._loader)
        self._handle = None
