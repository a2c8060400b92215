"""The audited model: built by the user's factory and run in eval mode at each checkpoint.

A factory (``file.py:callable``, ``package.module:callable`` or a name of `scoring.models.named_models`) → a module; a
module and its checkpoints → `AuditedModel`, which gives (n, c) logits and (n, d) features of any batch at any
checkpoint.

Cost: one module in memory whatever the number of checkpoints; loading one reads its file. Nothing is
downloaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from scoring.audit.errors import HardlookError, first_line
from scoring.audit.user_code import call_reference, load_callable
from scoring.models.checkpoint_reader import read_state_dict
from scoring.models.checkpoints import Checkpoint, file_stamp
from scoring.models.eval_mode import choose_device, evaluating, logits_of, run, to_device
from scoring.models.head import Features, Head, features_of, head_of
from scoring.models.model_copy import independent_copy
from scoring.models.named_models import named_model
from scoring.models.outputs import KEEPS_LOGITS, OutputAsLogits, alternatives, detect, fitting_items, rows_of
from scoring.models.state_dict_matching import Fitted, copy_into, fit_state

FEW = 32  # examples that the head is looked for on


def build_model(factory: str, arguments: Mapping[str, Any] | None = None, folder: str | Path = ".") -> nn.Module:
    """The model that a factory makes, with its own initial weights, in at least float32.

    ``factory``: ``file.py:callable`` relative to ``folder``, ``package.module:callable``, or a name of
    `scoring.models.named_models`, whose weights are never downloaded. Raises `HardlookError` naming the factory.

    >>> build_model("torch.nn:Linear", {"in_features": 2, "out_features": 3})
    Linear(in_features=2, out_features=3, bias=True)
    """
    arguments = dict(arguments or {})
    built = named_model(factory, arguments, folder)
    built = _user_model(factory, arguments, folder) if built is None else built
    if not isinstance(built, nn.Module):
        raise HardlookError(f"{factory} returned {type(built).__name__}; needed a torch.nn.Module")
    halves = {torch.float16, torch.bfloat16} & {parameter.dtype for parameter in built.parameters()}
    return built.float() if halves else built


def _user_model(factory: str, arguments: dict[str, Any], folder: str | Path) -> Any:
    """Call the user's factory; a module that stands there ready is copied."""
    found = load_callable(factory, folder)
    if isinstance(found, nn.Module) and not arguments:
        return copied_model(factory, found)
    return call_reference(factory, folder, arguments)


def copied_model(name: str, model: nn.Module) -> nn.Module:
    """Returns a copy, so that no checkpoint is loaded into the model that the user holds. Raises ``HardlookError`` for
    a model that cannot be copied."""
    try:
        return independent_copy(model)
    except HardlookError:
        raise
    except Exception as error:
        raise HardlookError(
            f"{name}: the model cannot be copied ({type(error).__name__}: {first_line(error)}); needed one that "
            "copy.deepcopy copies, or a function that makes it"
        ) from error


@dataclass(eq=False)
class AuditedModel:
    """One module slot and the checkpoints that pass through it.

    As a context manager it is in eval mode inside, and as it was outside:
    ``with model.at(checkpoint) as module: …``. ``notes`` collects what loading had to say, once each.
    """

    module: nn.Module
    checkpoints: list[Checkpoint] = field(default_factory=list)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    n_classes: int | None = None
    weights: str = "plain"
    notes: list[str] = field(default_factory=list)
    head: Head | None = None
    output: OutputAsLogits = field(default_factory=OutputAsLogits)
    choice: str = ""
    _open: list[contextlib.AbstractContextManager[Any]] = field(default_factory=list, repr=False)

    @classmethod
    def build(
        cls,
        factory: str,
        arguments: Mapping[str, Any] | None,
        folder: str | Path,
        *,
        checkpoints: Iterable[Checkpoint] = (),
        n_classes: int | None = None,
        device: str | torch.device = "auto",
        weights: str = "plain",
    ) -> AuditedModel:
        """Build by a factory, on a device; no checkpoint is loaded yet."""
        chosen = choose_device(str(device))
        return cls(build_model(factory, arguments, folder).to(chosen), list(checkpoints), chosen, n_classes, weights)

    def returns(self, output: OutputAsLogits) -> AuditedModel:
        """Say, once, what the module returns: from then on a call of it gives logits. Returns itself."""
        self.output = output
        if not output.plain:
            self.module.register_forward_hook(output)
        return self

    def kind_of(self, inputs: Any, checkpoint: Checkpoint, item: int | str | None = None) -> str:
        """The kind of what the module returns for a batch at a checkpoint (``scoring.models.outputs``). ``item``: which
        item of a tuple, or key of a mapping, holds the outputs."""
        with self.at(checkpoint) as module, torch.no_grad(), explained(inputs):
            outputs = run(module, to_device(inputs, self.device))
        if item is None and (found := alternatives(outputs, self.n_classes)) > 1:
            fits = fitting_items(outputs, self.n_classes)
            advice = (
                f"write `output_item = {fits[1]}` in the run's table of audit.toml to use the next one"
                if len(fits) > 1
                else "they are in a nested tuple: if another one is to be audited, return it first"
            )
            self.choose(f"the model returns {found} tensors with one number per class, and the first is used; {advice}")
        return detect(rows_of(outputs, item, self.n_classes, single=True))

    def choose(self, choice: str) -> None:
        """Remember, and note, which of several outputs was taken; nothing for an empty text."""
        self.choice = choice
        self.notes += [choice] if choice and choice not in self.notes else []

    @property
    def keeps_logits(self) -> bool:
        """Returns whether its logits are the model's own, and not only up to a number per example
        (log-probabilities)."""
        return self.output.kind in KEEPS_LOGITS

    def state(self, checkpoint: Checkpoint | Path | str | int) -> dict[str, torch.Tensor]:
        """A checkpoint's tensors under the model's own names and dtypes, checked, on the CPU."""
        return self._fitted(checkpoint).tensors

    def at(self, checkpoint: Checkpoint | Path | str | int) -> AuditedModel:
        """Load a checkpoint (or the one of that number) into the slot; returns itself, for ``with``."""
        fitted = self._fitted(checkpoint)
        copy_into(self.module, fitted.tensors)
        self.notes += [note for note in fitted.notes if note not in self.notes]
        self.head = None  # a learned temperature, say, is another one at each checkpoint
        return self

    def _fitted(self, checkpoint: Checkpoint | Path | str | int) -> Fitted:
        if isinstance(checkpoint, int):
            checkpoint = self.checkpoints[checkpoint]
        if isinstance(checkpoint, Checkpoint):
            _refuse_changed(checkpoint)
        path = checkpoint.path if isinstance(checkpoint, Checkpoint) else checkpoint
        state = read_state_dict(path, weights=self.weights)
        return fit_state(self.module, state, n_classes=self.n_classes, weights=self.weights)

    def __enter__(self) -> nn.Module:
        self._open.append(evaluating(self.module))
        return self._open[-1].__enter__()

    def __exit__(self, *error: Any) -> None:
        self._open.pop().__exit__(*error)

    def __call__(self, inputs: Any) -> torch.Tensor:
        """(n, c) logits of a batch, with the graph to it where gradients are on."""
        return self.logits(run(self.module, to_device(inputs, self.device)))

    def logits(self, output: Any) -> torch.Tensor:
        """The (n, c) logits in what the module returned; c must be the number of classes."""
        return logits_of(output, self.n_classes)

    def features(self, inputs: Any) -> Features:
        """Returns what enters the head (n, d) and the logits (n, c), in eval mode; the head is looked for once per
        checkpoint, on the first few examples, and measured on every batch: ``head.linear`` is true as long as all of
        them agree."""
        inputs = to_device(inputs, self.device)
        if self.head is None:
            self.head = head_of(self.module, first(inputs, FEW))
        found = features_of(self.module, inputs, self.head)
        if not found.linear and self.head.linear:
            self.head = self.head._replace(linear=False, reason=found.reason)
        return found._replace(logits=self.logits(found.logits))

    def predict(self, inputs: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """(n, c) logits and (n, d) features (None where no single layer gives the logits, NaN in rows where it does
        not), float32 in main memory."""
        found = self.features(inputs)
        features = None if found.features is None else found.features.float().cpu().numpy()
        return found.logits.float().cpu().numpy(), features


@contextlib.contextmanager
def explained(inputs: Any) -> Iterator[None]:
    """What the model's own code raises inside becomes a ``HardlookError`` that says what reached it: it is the
    transform that most often does not fit."""
    try:
        yield
    except HardlookError:
        raise
    except Exception as error:
        what = inputs if isinstance(inputs, torch.Tensor) else next(_tensors(inputs), torch.empty(0))
        one = f"{tuple(what.shape[1:])} of {str(what.dtype).removeprefix('torch.')}"
        raise HardlookError(
            f"the model fails on inputs of shape {one}: {type(error).__name__}: {first_line(error)}; make the "
            "transform in audit.toml return what the model was trained on (for most, float32 of shape (channels, "
            "height, width)), and the factory return an eager model of the same precision"
        ) from error


def _tensors(inputs: Any) -> Iterator[torch.Tensor]:
    """The tensors in a mapping or a tuple."""
    values = inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, (tuple, list)) else ()
    return (value for value in values if isinstance(value, torch.Tensor))


def first(inputs: Any, n: int) -> Any:
    """The first n examples of a batch: of a tensor, of each in a mapping, or of each in a tuple."""
    if isinstance(inputs, Mapping):
        return {name: first(value, n) for name, value in inputs.items()}
    if isinstance(inputs, (tuple, list)):
        return type(inputs)(first(value, n) for value in inputs)
    return inputs[:n] if isinstance(inputs, torch.Tensor) and inputs.ndim else inputs


def _refuse_changed(checkpoint: Checkpoint) -> None:
    """A file that was written again since it was found would mix two models in one score."""
    try:
        unchanged = file_stamp(checkpoint.path) == checkpoint.stamp
    except FileNotFoundError as error:
        raise HardlookError(
            f"{checkpoint.path} was deleted after the checkpoints were listed; run the command again"
        ) from error
    if checkpoint.stamp and not unchanged:
        raise HardlookError(
            f"{checkpoint.path} has changed since it was read; if training is still running, wait for it to end, then "
            "run the command again"
        )
