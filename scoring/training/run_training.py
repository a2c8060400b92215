"""``hardlook train``: the training of an audit's run with the Recorder.

The model comes from the run's factory, or from given final weights with the last block and the head initialised anew
(weights that have memorised wrong labels would hide them). ``scoring.training.trainer.fit`` or the audit's own function
trains it, and the Recorder records epoch by epoch. A killed training goes on where it stood.

Cost: the training, and per epoch one pass over the examples and one checkpoint. Limits: one process, one device.
"""

from __future__ import annotations

import copy
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from scoring.audit import Audit, Run
from scoring.audit.errors import HardlookError
from scoring.audit.user_code import call_named, code_folder, importing_from
from scoring.models import build_model, choose_device, last_block_and_head, load_callable, load_into, read_state_dict
from scoring.models.randomness import own_randomness
from scoring.training.in_memory import InMemory
from scoring.training.recorder import Recorder
from scoring.training.trainer import fit

if TYPE_CHECKING:
    from scoring.audit.progress import Progress
    from scoring.models.inputs import Inputs


RECORDING = ("every", "keep", "batch_size", "num_workers")
"""Settings of [run.x.training] that are the Recorder's; ``batch_size`` and ``num_workers`` serve both."""


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
            _state_path(run).unlink(missing_ok=True)  # of a training that was killed at its very end
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
    state = _state_path(run)
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


def _facts(settings: dict[str, Any]) -> str:
    """The settings that decide the numbers, as text."""
    deciding = {key: value for key, value in settings.items() if key not in ("every", "keep", "num_workers")}
    return json.dumps(deciding, sort_keys=True, default=str)


def _note_settings(run: Run, settings: dict[str, Any]) -> None:
    run.add_to_record(training=_facts(settings))


def _state_path(run: Run) -> Path:
    """What a training keeps to go on with."""
    return run.parts_folder("training") / "state.pt"


def _recorded_epochs(run: Run) -> int:
    return len(run.dynamics_files("main"))


def _noted(run: Run, settings: dict[str, Any]) -> bool:
    """Returns whether the settings noted last are these: noted before ``fit`` starts, after a function has ended."""
    return run.record().get("training") == _facts(settings)


def _complete(run: Run, settings: dict[str, Any]) -> bool:
    """Returns whether these settings were trained to their end, by the record, which is written after each epoch's
    files."""
    known = run.record().get("trainings", {}).get("main", {}).get("epochs", run.dynamics_files("main"))
    return _noted(run, settings) and len(known) >= settings.get("epochs", 1)


def _may_continue(run: Run, settings: dict[str, Any], resume: bool) -> bool:
    """Returns whether to continue what is recorded; another training than this one is an error with the way out."""
    recorded = _recorded_epochs(run)
    if not recorded or (_noted(run, settings) if "function" not in settings else resume):
        return bool(recorded)
    more = ", --resume continues it" if "function" in settings else ""
    raise HardlookError(
        f"run {run.name!r} has a recorded training of {recorded} epochs with other settings; `hardlook train "
        f"--overwrite` replaces it{more}"
    )
