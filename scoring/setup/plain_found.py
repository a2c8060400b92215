"""State dicts of a training of one's own: the model that ``--model`` names, or those of torchvision and timm that fit.

A state dict → `FoundModel`. Where ``--model`` is code of the user's, its arguments are asked for as far as their names
tell (the number of classes). Where no model is named, the architectures that the names and shapes of the tensors fit
are looked for; several that differ are a question, none is refused with what was found.

Cost: as of ``scoring.setup.architectures``. Known limits: the transform of a fine-tuned model is in no file: that of
the architecture's own weights is written, and said to be an assumption.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.audit.user_code import load_callable
from scoring.models.transform_tables import Table, as_table
from scoring.setup.architectures import body_of, fitting
from scoring.setup.checkpoint_files import CheckpointFiles, head_shape
from scoring.setup.findings import FoundModel, Line
from scoring.setup.references import NAMED, parameters_of, reference

WIDTHS = ("num_classes", "n_classes", "nclasses", "classes", "num_labels", "n_out", "out_features", "output_dim")
"""Names that the number of classes has among a factory's arguments."""

ASK_TRANSFORM = (
    "transform: no file says how the training prepared its evaluation images; write it under [run.main.transform], or "
    "name it with --transform (imagenet, or file.py:callable)"
)


def own_model(given: str, files: CheckpointFiles, folder: Path) -> FoundModel:
    """The lines of a model that ``--model`` names as code; the number of classes among its arguments is filled in."""
    model = reference(given, folder)
    head = head_shape(files.last)
    defaults, _ = parameters_of(load_callable(model, folder))
    lines: list[Line] = []
    asked: list[str] = []
    for name, default in defaults.items():
        if name in WIDTHS and head is not None and default != head[0]:
            lines.append(Line(name, head[0], "the width of the checkpoint's last layer"))
        elif default is inspect.Parameter.empty and name not in WIDTHS:
            lines.append(Line(name, "", "needed by the factory: write its value", asked=True))
            asked.append(f"the factory needs the argument {name}, which no file states")
    return FoundModel(
        kind="own",
        model=Line("model", model, "as named by --model"),
        arguments=tuple(lines),
        checkpoints=files.line,
        transform=asked_transform(),
        outputs=head[0] if head else None,
        said=files.said,
        asked=(*asked, ASK_TRANSFORM),
    )


def untrained_model(given: str, folder: Path) -> FoundModel:
    """The lines of a model that has no checkpoints yet: `hardlook train` or a Recorder writes them."""
    arguments: list[Line] = []
    asked: list[str] = []
    if is_code(given):
        model, reason = reference(given, folder), "as named by --model"
        defaults, _ = parameters_of(load_callable(model, folder))
        for name, default in defaults.items():
            if name in WIDTHS:
                arguments.append(Line(name, "", "the number of classes", asked=True))
            elif default is inspect.Parameter.empty:
                arguments.append(Line(name, "", "needed by the factory: write its value", asked=True))
                asked.append(f"the factory needs the argument {name}, which no file states")
    else:
        model, reason = given, ""
        arguments.append(Line("num_classes", "", "the number of classes", asked=True))
    return FoundModel(
        kind="untrained",
        model=Line("model", model, reason),
        arguments=tuple(arguments),
        checkpoints=None,
        transform=asked_transform(),
        said=(f"{given} without checkpoints: it is to be trained",),
        asked=(*asked, ASK_TRANSFORM),
    )


def named_architecture(name: str, files: CheckpointFiles) -> FoundModel:
    """The lines of a torchvision model; its weights' own transform is taken for that of the training."""
    head = head_shape(files.last)
    return FoundModel(
        kind="torchvision",
        model=Line("model", name, "of torchvision"),
        arguments=(Line("num_classes", head[0], "the width of the checkpoint's last layer"),) if head else (),
        checkpoints=files.line,
        transform=preset_lines(name),
        outputs=head[0] if head else None,
        media="image",
        said=files.said,
        asked=(assumed(name),),
    )


def matched_model(files: CheckpointFiles) -> FoundModel:
    """The lines of the one architecture that a state dict fits; raises `HardlookError` where none does, or several."""
    path, tensors = files.paths[-1], files.last.tensors
    fits = fitting(tensors)
    if not fits:
        keys = ", ".join(list(tensors)[:4])
        body = body_of(tensors)
        near = f"; its layers, but for the head, are those of {' or '.join(body)}" if body else ""
        raise HardlookError(
            f"{path} fits no model of torchvision or timm as it is{near} (keys {keys}, …); name the code that builds "
            "it: --model file.py:callable"
        )
    if len(fits) > 1:
        names = ", ".join(fit.name for fit in fits[:8])
        raise HardlookError(
            f"{path} fits {len(fits)} architectures ({names}), which may compute differently; name the one of the "
            f"training: --model {fits[0].name}"
        )
    return _matched(fits[0].name, files)


def _matched(name: str, files: CheckpointFiles) -> FoundModel:
    """The lines of the architecture that was found."""
    if name.startswith("timm:"):
        from scoring.setup.timm_found import timm_model

        head = head_shape(files.last)
        found = timm_model(name.removeprefix("timm:"), files, Path(), {}, "", head[0] if head else None)
        why = "the one model that its names and shapes fit"
        return _with(found, Line("model", name, why), f"{files.paths[-1].name} fits {name}", assumed(name))
    found = named_architecture(name, files)
    why = "the one model of torchvision that its names and shapes fit"
    return _with(found, Line("model", name, why), f"{files.paths[-1].name} fits {name} of torchvision", "")


def _with(found: FoundModel, model: Line, said: str, asked: str) -> FoundModel:
    from dataclasses import replace

    questions = (*found.asked, asked) if asked else found.asked
    return replace(found, model=model, said=(said, *found.said), asked=questions)


def assumed(name: str) -> str:
    """The sentence on a transform that is taken from an architecture's weights."""
    return (
        f"transform: that of the published weights of {name} is written, as no file says what the training used; "
        "correct it if yours differed"
    )


def preset_lines(name: str) -> tuple[Line, ...]:
    """The transform of a torchvision architecture's weights, the first of them; another one is named in a comment."""
    from torchvision import models as zoo

    weights: list[Any] = list(zoo.get_model_weights(name))
    tables = [(str(each), table) for each in weights if (table := as_table(each.transforms())) is not None]
    if not tables:
        return asked_transform()
    title, first = tables[0]
    others = [
        f"{other.partition('.')[2]}: {_difference(first, table)}" for other, table in tables[1:] if table != first
    ]
    why = f"as of {title}" + (f"; {'; '.join(others)}" if others else "")
    return tuple(Line(key, value, why if key == "mode" else "") for key, value in first.items())


def _difference(first: Table, other: Table) -> str:
    """Returns what differs between two tables, in words."""
    return ", ".join(f"{key} {other.get(key)}" for key in {**first, **other} if first.get(key) != other.get(key))


def asked_transform() -> tuple[Line, ...]:
    """The table of the transform as a question."""
    why = "the evaluation transform of the training"
    return (
        Line("mode", "RGB", why, asked=True),
        Line("resize", 256, "", asked=True),
        Line("crop", 224, "", asked=True),
        Line("mean", [0.485, 0.456, 0.406], "", asked=True),
        Line("std", [0.229, 0.224, 0.225], "", asked=True),
    )


def is_code(given: str) -> bool:
    """Returns whether ``--model`` names code of the user's.

    >>> is_code("train.py:Net"), is_code("resnet18"), is_code("timm:resnet18")
    (True, False, False)
    """
    return ":" in given and given.partition(":")[0] not in NAMED
