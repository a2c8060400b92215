"""Checkpoints of Lightning: the module's class and the hyper-parameters that it is called with.

As ``LightningModule.load_from_checkpoint`` calls the class: with the saved hyper-parameters that its ``__init__``
takes, or, where they were saved under one name (``save_hyperparameters(config)``), with all of them as that argument.
LightningCLI keeps the class too (``_class_path``), where the command line chose it (``subclass_mode_model``).

Inputs → outputs: `Facts` and ``--model`` → the lines of the model. Cost: the class is imported. Known limits: values
that TOML cannot hold (objects, null that is no default) are questions.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoring.audit.user_code import load_callable
from scoring.models.checkpoint_facts import Facts
from scoring.setup.findings import Line, as_value
from scoring.setup.references import parameters_of, reference

VERSION = "pytorch-lightning_version"
INTERNAL = ("_class_path", "_instantiator")


def is_lightning(facts: Facts) -> bool:
    """Returns whether Lightning wrote the file, or a conversion of one."""
    return VERSION in facts.keys or VERSION in facts.stated


def lightning_model(
    facts: Facts, given: str | None, folder: Path, name: str
) -> tuple[Line, tuple[Line, ...], list[str], list[str]]:
    """(line ``model``, lines of its arguments, what was found, what could not be decided) for a checkpoint ``name``."""
    saved = facts.stated.get("hyper_parameters")
    hyper: Mapping[str, Any] = saved if isinstance(saved, Mapping) else {}
    stated = hyper.get("_class_path")
    said = [f"{name}: a checkpoint of Lightning {facts.stated.get(VERSION, '')}".rstrip()]
    if given is None and not isinstance(stated, str):
        held = ", ".join(key for key in hyper if key not in INTERNAL) or "none"
        question = Line(
            "model", "train.py:LitClass", "the LightningModule's class, file.py:Class or package.module:Class", True
        )
        ask = "the class of the LightningModule is not in the checkpoint; name it with --model train.py:LitClass"
        values = [
            Line(key, kept, "", True)
            for key, value in hyper.items()
            if key not in INTERNAL and (kept := as_value(value)) is not None
        ]
        return question, tuple(values), [*said, f"its hyper-parameters: {held}"], [ask]
    model = reference(given or _dotted(str(stated)), folder)
    why = "" if given else f"_class_path in the hyper-parameters of {name}"
    arguments, asked = _arguments(load_callable(model, folder), hyper, facts, name)
    values_of = ", ".join(line.key for line in arguments if not line.asked)
    said.append(f"hyper-parameters from the checkpoint: {values_of or 'none that the class takes'}")
    return Line("model", model, why), arguments, said, asked


def _dotted(path: str) -> str:
    """``package.module.Class`` → ``package.module:Class``."""
    module, _, name = path.rpartition(".")
    return f"{module}:{name}"


def _arguments(function: Any, hyper: Mapping[str, Any], facts: Facts, name: str) -> tuple[tuple[Line, ...], list[str]]:
    """The lines of the arguments, and questions on those that cannot be written."""
    defaults, any_other = parameters_of(function)
    values = {key: value for key, value in hyper.items() if key not in INTERNAL}
    whole = facts.stated.get("hparams_name")
    if isinstance(whole, str) and whole in defaults and whole not in values:
        values = {whole: values}
    if not any_other:
        values = {key: value for key, value in values.items() if key in defaults}
    dropped = {each.removeprefix("hyper_parameters.") for each in facts.dropped if each.startswith("hyper_parameters.")}
    lines: list[Line] = []
    asked: list[str] = []
    for key, value in values.items():
        kept = as_value(value)
        if kept is not None:
            lines.append(Line(key, kept, f"from hyper_parameters of {name}"))
        elif value is not None or (key in defaults and defaults[key] is not None):
            lines.append(
                Line(key, "", f"{value!r:.60} in {name}, which TOML cannot hold: write what it stands for", True)
            )
            asked.append(f"the argument {key} is {value!r:.60} in {name}, which audit.toml cannot hold")
    missing = [key for key, default in defaults.items() if default is inspect.Parameter.empty and key not in values]
    for key in missing:
        why = "an object there" if key in dropped else "not among its hyper-parameters"
        lines.append(Line(key, "", f"needed by the class, {why}: write its value, or make it default", True))
        asked.append(f"the class needs the argument {key}, which is {why} in {name}")
    return tuple(lines), asked
