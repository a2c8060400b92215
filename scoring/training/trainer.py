"""A small training loop, and the training of an audit's run with the Recorder.

``fit``: (model, map-style dataset) → the model, trained with cross-entropy under a one-cycle learning rate
(Smith and Topin 2018). It depends on its seed alone, leaves the global random number generators as they were,
and with a ``state`` file goes on after a kill with the same bits. ``train_run`` is what ``hardlook train``
does: the model from the run's factory, or from given final weights with the last block and the head
initialised anew (weights that have memorised wrong labels would hide them), trained by ``fit`` or by the
audit's own function, recorded epoch by epoch.

Cost: the training, and per epoch one pass over the examples and one checkpoint. Limits: one process, one
device.
"""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path
from scoring.audit.user_code import call_named, code_folder, importing_from
from scoring.models import build_model, choose_device, last_block_and_head, load_callable, load_into, read_state_dict
from scoring.models.eval_mode import run as run_model
from scoring.models.eval_mode import to_device
from scoring.models.outputs import OutputReader
from scoring.models.randomness import own_randomness
from scoring.training.checkpoint_files import plain_tensors
from scoring.training.forward_hooks import size_of
from scoring.training.recorded_examples import unpack
from scoring.training.recorder import Recorder

if TYPE_CHECKING:
    from scoring.audit.progress import Progress
    from scoring.models.inputs import Inputs

OPTIMIZERS = ("sgd", "adamw")
IN_MEMORY_MOST = 1 << 30
"""Inputs of up to 1 GiB are kept in memory between epochs instead of being decoded again."""
RECORDING = ("every", "keep", "batch_size", "num_workers")
"""Settings of [run.x.training] that are the Recorder's; ``batch_size`` and ``num_workers`` serve both."""


def fit(
    model: nn.Module,
    dataset: Dataset[Any],
    *,
    epochs: int = 15,
    lr: float = 0.01,
    batch_size: int = 64,
    seed: int = 0,
    recorder: Recorder | None = None,
    augment: Callable[[Any], Any] | None = None,
    weight_decay: float = 5e-4,
    optimizer: str = "adamw",
    num_workers: int = 0,
    state: str | Path | None = None,
    on_batch: Callable[[int], object] | None = None,
    on_epoch: Callable[[int, float], object] | None = None,
) -> nn.Module:
    """Train ``model`` in place, on the device on which it is, and return it in eval mode.

    ``dataset``: (input, class index). ``lr``: the highest learning rate of the cycle. ``optimizer``: "adamw",
    or "sgd" with Nesterov momentum 0.9. ``augment``: applied to each batch of inputs. ``on_batch(n
    examples)`` and ``on_epoch(epoch, mean loss in nats)`` report the progress. ``state``: a file that keeps what a
    killed training needs to go on; it is removed at the end. The same seed gives the same bits on the same machine.
    """
    _check_settings(epochs, lr, batch_size, optimizer)
    loader = _loader(dataset, batch_size, num_workers)
    descent = _optimizer(model, optimizer, lr, weight_decay)
    steps = max(2, epochs * len(loader))
    cycle = torch.optim.lr_scheduler.OneCycleLR(descent, lr, total_steps=steps)
    settings = [epochs, lr, batch_size, seed, weight_decay, optimizer, size_of(dataset)]
    done = _restore(state, settings, model, descent, cycle, recorder) if state else 0
    for epoch in range(done + 1, epochs + 1):
        with own_randomness(epoch_seed(seed, epoch)):
            loader.generator.manual_seed(epoch_seed(seed, epoch))
            loss = _epoch(model.train(), loader, descent, cycle, recorder, epoch, augment, on_batch)
        if state:
            _keep(Path(state), settings, model, descent, cycle, epoch)
        if on_epoch:
            on_epoch(epoch, loss)
    if state:
        Path(state).unlink(missing_ok=True)
    return model.eval()


def _epoch(
    model: nn.Module,
    loader: DataLoader[Any],
    descent: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
    recorder: Recorder | None,
    epoch: int,
    augment: Callable[[Any], Any] | None,
    on_batch: Callable[[int], object] | None,
) -> float:
    """One pass over the data → its mean loss. The Recorder ends the epoch when the last batch is done."""
    device = next(model.parameters()).device
    total, count = torch.zeros(()), 0
    read, settled = recorder.read if recorder else OutputReader(), False
    for batch in recorder.watch(loader, epoch=epoch) if recorder else loader:
        inputs, labels = to_device(unpack(batch), device)
        output = run_model(model, augment(inputs) if augment else inputs)
        if not settled:
            settled = True
            read.settle(output)  # a softmax of a softmax would be another loss
        loss = cross_entropy(read(output), labels)
        descent.zero_grad(set_to_none=True)
        loss.backward()
        descent.step()
        cycle.step()
        total, count = total + loss.detach().float() * len(labels), count + len(labels)
        if on_batch:
            on_batch(len(labels))
    return float(total / count)


def _check_settings(epochs: int, lr: float, batch_size: int, optimizer: str) -> None:
    for name, value in (("epochs", epochs), ("lr", lr), ("batch_size", batch_size)):
        if not value > 0:
            raise HardlookError(f"{name} = {value}; needed more than 0")
    if optimizer not in OPTIMIZERS:
        raise HardlookError(f"optimizer = {optimizer!r}; needed one of {', '.join(OPTIMIZERS)}")


def _loader(dataset: Dataset[Any], batch_size: int, num_workers: int) -> DataLoader[Any]:
    """Shuffled batches; a last batch of one example, on which batch normalisation fails, is left out."""
    n = size_of(dataset)
    alone = n > batch_size > 1 and n % batch_size == 1
    return DataLoader(
        dataset, batch_size, shuffle=True, num_workers=num_workers, drop_last=alone, generator=torch.Generator()
    )


def _optimizer(model: nn.Module, name: str, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Weight decay goes to matrices and kernels alone, not to biases and norms."""
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for parameter in model.parameters():
        if parameter.requires_grad:
            groups[parameter.ndim > 1].append(parameter)
    parameters = [
        {"params": group, "weight_decay": weight_decay if decays else 0.0} for decays, group in groups.items() if group
    ]
    if not parameters:
        raise HardlookError(
            f"{type(model).__name__} has no parameter that requires a gradient, so there is nothing to train"
        )
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(parameters, lr=lr)


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed per epoch: its random numbers do not depend on whether the epochs before ran just now."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:7], "big")


# -- going on after a kill -----------------------------------------------------------------------------------


def _keep(
    path: Path,
    settings: list[Any],
    model: nn.Module,
    descent: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
    epoch: int,
) -> None:
    """Write what the next epoch needs: weights, momenta, place in the cycle."""
    held = {
        "settings": json.dumps(settings),
        "epoch": epoch,
        "model": plain_tensors(model),
        "optimizer": descent.state_dict(),
        "cycle": _plain(cycle.state_dict()),
    }
    with atomic_path(path) as temporary:
        torch.save(held, temporary)


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The values of a scheduler's state, without the functions that it makes itself."""
    plain = (int, float, str, list, type(None))
    return {name: value for name, value in state.items() if isinstance(value, plain)}


def _restore(
    path: str | Path,
    settings: list[Any],
    model: nn.Module,
    descent: torch.optim.Optimizer,
    cycle: torch.optim.lr_scheduler.LRScheduler,
    recorder: Recorder | None,
) -> int:
    """Take up a killed training → the epochs that are done, 0 where there is none of these settings."""
    if not Path(path).is_file():
        return 0
    held = torch.load(path, map_location="cpu", weights_only=True)
    if recorder:
        recorder.start()
    unrecorded = recorder is not None and held["epoch"] not in recorder.epochs
    if held["settings"] != json.dumps(settings) or unrecorded:
        return 0
    model.load_state_dict(held["model"], strict=False)
    descent.load_state_dict(held["optimizer"])
    cycle.load_state_dict(held["cycle"])
    return int(held["epoch"])


class Labelled(Protocol):
    """A map-style dataset of (input, label) that knows the id and the label of each row."""

    @property
    def ids(self) -> Sequence[str] | np.ndarray: ...

    @property
    def labels(self) -> Sequence[int] | np.ndarray: ...

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> Any: ...


class InMemory(Dataset[Any]):
    """A dataset whose items are read once and kept, as long as all of them fit into ``most`` bytes.

    For inputs that are the same at every read, as an evaluation transform gives them. ``ids`` and ``labels``
    are the dataset's own.
    """

    def __init__(self, dataset: Labelled, most: int = IN_MEMORY_MOST) -> None:
        self.dataset, self.ids, self.labels = dataset, dataset.ids, dataset.labels
        self._kept: list[Any] = [None] * len(dataset)
        self._fits = len(dataset) > 0 and _bytes_of(dataset[0][0]) * len(dataset) <= most

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, number: int) -> Any:
        if not self._fits:
            return self.dataset[number]
        if self._kept[number] is None:
            self._kept[number] = self.dataset[number]
        return self._kept[number]


def _bytes_of(value: Any) -> float:
    return value.numel() * value.element_size() if isinstance(value, Tensor) else float("inf")


# -- hardlook train ------------------------------------------------------------------------------------------


def train_run(
    audit: Audit,
    run: Run,
    *,
    epochs: int | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> str:
    """Train a run of an audit with the Recorder, as [run.x.training] says; returns a sentence about what was
    done.

    Settings of that table: those of ``fit`` (``augment`` as ``file.py:callable``), ``every`` and ``keep`` of
    the Recorder, ``record_test`` (default: true), and ``function``, the audit's own training function, called
    as ``function(model, train_dataset, recorder, **the other settings)``. A training that was killed goes on
    where it stood, one that is complete is left alone, and one made with other settings is refused, unless
    ``overwrite``; ``resume`` calls the audit's own function with a Recorder that goes on. ``progress`` as in
    ``scoring.pipeline.shards``.
    """
    settings = training_settings(audit, run, epochs)
    if not overwrite:
        if _complete(run, settings):
            done = _recorded_epochs(run)
            return f"run {run.name!r} is already trained ({done} epochs); --overwrite trains it again"
        resume = _may_continue(run, settings, resume)
    chosen = choose_device(device)
    with own_randomness(settings.get("seed", 0)):
        model = starting_model(audit, run).to(chosen)
    recorder, data = _recorder(audit, run, model, settings, resume, overwrite)
    with recorder:
        _train(audit, run, model, data, recorder, settings, progress)
    _note_settings(run, settings)
    where = f"{len(recorder.epochs)} epochs over {len(data)} examples on {chosen}"
    return f"{where}; checkpoints as {run.config.get('checkpoints', f'checkpoints/{run.name}/*.pt')}"


def training_settings(audit: Audit, run: Run, epochs: int | None = None) -> dict[str, Any]:
    """[run.x.training] with the given number of epochs; an unknown key is an error that lists those known."""
    settings = dict(run.config.get("training", {}))
    if epochs is not None:
        settings["epochs"] = epochs
    known = [
        name
        for name in inspect.signature(fit).parameters
        if name not in ("model", "dataset", "recorder", "state", "on_batch", "on_epoch")
    ]
    known += [name for name in (*RECORDING, "record_test") if name not in known]
    for key in settings:
        if "function" not in settings and key not in known:
            raise HardlookError(
                f"audit.toml: [run.{run.name}.training] has an unknown key {key!r}; known are "
                f"{', '.join(sorted(known))}, and function"
            )
    if "function" not in settings:
        settings.setdefault("epochs", inspect.signature(fit).parameters["epochs"].default)
        settings.setdefault("seed", audit.seed)
    return settings


def starting_model(audit: Audit, run: Run) -> nn.Module:
    """The model to train: fresh from the factory, or ``weights`` with last block and head made anew."""
    if "model" not in run.config:
        raise HardlookError(
            f'audit.toml: [run.{run.name}] has no model; `hardlook train` needs model = "file.py:callable"'
        )
    model = build_model(run.config["model"], run.config.get("arguments"), audit.root)
    if "weights" not in run.config:
        return model
    fresh = copy.deepcopy(model.state_dict())
    load_into(model, read_state_dict(audit.path(run.config["weights"])), n_classes=len(audit.classes) or None)
    renewed = last_block_and_head(model, _sample(audit, run))
    state = model.state_dict()
    for name in state:
        if any(name.startswith(f"{layer}.") for layer in renewed):
            state[name].copy_(fresh[name])
    return model


def _sample(audit: Audit, run: Run) -> Tensor:
    """Two inputs, to see in which order the layers run."""
    from scoring.models.inputs import Inputs, labelled

    data = Inputs(audit, run, labelled(audit).head(2))
    return torch.stack([data[row][0] for row in range(len(data))])


def _recorder(
    audit: Audit, run: Run, model: nn.Module, settings: dict[str, Any], resume: bool, overwrite: bool
) -> tuple[Recorder, Inputs | InMemory]:
    """The Recorder over the audit's own examples, and the dataset to train on."""
    from scoring.models.inputs import Inputs, labelled

    train, test = labelled(audit), labelled(audit, "test")
    if not len(train):
        raise HardlookError(
            'the audit has no labelled, readable train example; add a [[data]] table with split = "train"'
        )
    data: Inputs | InMemory = Inputs(audit, run, train)
    unseen: Inputs | InMemory | None = (
        Inputs(audit, run, test) if len(test) and settings.get("record_test", True) else None
    )
    if "function" not in settings and not settings.get("num_workers"):
        data, unseen = InMemory(data), None if unseen is None else InMemory(unseen)
    kept = {name: settings[name] for name in RECORDING if name in settings and name != "batch_size"}
    recorder = Recorder(audit, model, run.name, examples=data, test=unseen, resume=resume, overwrite=overwrite, **kept)
    return recorder, data


def _train(
    audit: Audit,
    run: Run,
    model: nn.Module,
    data: Inputs | InMemory,
    recorder: Recorder,
    settings: dict[str, Any],
    progress: Progress | None,
) -> None:
    """Trains with the audit's own function, or with ``fit`` and a progress bar."""
    if "function" in settings:
        _train_by(settings["function"], audit, run, model, data, recorder, settings)
        return
    _note_settings(run, settings)
    own = {key: value for key, value in settings.items() if key in inspect.signature(fit).parameters}
    if "augment" in own:
        own["augment"] = load_callable(own["augment"], audit.root)
    state = run.parts_folder("training") / "state.pt"
    if progress is None:
        fit(model, data, recorder=recorder, state=state, **own)
        return
    with progress("training", own["epochs"] * len(data)) as advance:
        advance(len(recorder.epochs) * len(data))
        fit(model, data, recorder=recorder, state=state, on_batch=advance, **own)


def _train_by(
    function: str,
    audit: Audit,
    run: Run,
    model: nn.Module,
    data: Inputs | InMemory,
    recorder: Recorder,
    settings: dict[str, Any],
) -> None:
    """Call the audit's own training function; it must have recorded at least one epoch."""
    ours = ("function", "record_test", "every", "keep")
    given = {key: value for key, value in settings.items() if key not in ours}
    called = load_callable(function, audit.root)
    before = len(recorder.epochs)
    run.add_to_record(training=None)
    with importing_from(code_folder(function, audit.root)):
        call_named(function, lambda **kwargs: called(model, data, recorder, **kwargs), given)
    if len(recorder.epochs) == before:
        raise HardlookError(
            f"{function} recorded no epoch; needed `for batch in recorder.watch(loader):` in place of `for batch in "
            "loader:`, or recorder.end_epoch() after each epoch"
        )


# -- what is there already -----------------------------------------------------------------------------------


def _facts(settings: dict[str, Any]) -> str:
    """The settings that decide the numbers, as text."""
    deciding = {key: value for key, value in settings.items() if key not in ("every", "keep", "num_workers")}
    return json.dumps(deciding, sort_keys=True, default=str)


def _note_settings(run: Run, settings: dict[str, Any]) -> None:
    run.add_to_record(training=_facts(settings))


def _recorded_epochs(run: Run) -> int:
    return len(run.dynamics_files("main"))


def _noted(run: Run, settings: dict[str, Any]) -> bool:
    """Whether the settings noted last are these: noted before ``fit`` starts, after a function has ended."""
    return run.record().get("training") == _facts(settings)


def _complete(run: Run, settings: dict[str, Any]) -> bool:
    """Whether these settings were trained to their end."""
    return _noted(run, settings) and _recorded_epochs(run) >= settings.get("epochs", 1)


def _may_continue(run: Run, settings: dict[str, Any], resume: bool) -> bool:
    """Whether to continue what is recorded; another training than this one is an error with the way out."""
    recorded = _recorded_epochs(run)
    if not recorded or (_noted(run, settings) if "function" not in settings else resume):
        return bool(recorded)
    more = ", --resume continues it" if "function" in settings else ""
    raise HardlookError(
        f"run {run.name!r} has a recorded training of {recorded} epochs with other settings; `hardlook train "
        f"--overwrite` replaces it{more}"
    )
