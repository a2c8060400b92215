"""A small training loop.

``fit``: (model, map-style dataset) → the model, trained with cross-entropy under a one-cycle learning rate
(Smith and Topin 2018). It depends on its seed alone, leaves the global random number generators as they were,
and with a ``state`` file goes on after a kill with the same bits.

Cost: the training; with a Recorder, per epoch one pass over the examples and one checkpoint. Limits: one process, one
device.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from scoring.audit.errors import HardlookError
from scoring.audit.storage import atomic_path
from scoring.models.eval_mode import run as run_model
from scoring.models.eval_mode import to_device
from scoring.models.outputs import OutputReader
from scoring.models.randomness import own_randomness
from scoring.training.checkpoint_files import plain_tensors
from scoring.training.forward_hooks import size_of
from scoring.training.recorded_examples import unpack
from scoring.training.recorder import Recorder

if TYPE_CHECKING:
    pass

OPTIMIZERS = ("sgd", "adamw")


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
