"""The checkpoints that a user names: of which tool they are, and from them model, arguments, transform and classes.

``find_model`` tells the tool by what the files hold, in this order: a folder with ``config.json`` (Hugging Face),
Lightning's own entry, timm's ``arch`` or ``args.yaml``, what ``hardlook convert`` kept of Ultralytics and fastai; all
else is a state dict of a training of one's own. A model that ``--model`` names is taken at its word.

Inputs → outputs: paths and names from the command line → `FoundModel`. Cost: each checkpoint is read once.
Known limits: as of the module of each tool.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_facts import Facts, read_facts
from scoring.setup.checkpoint_files import CheckpointFiles, find_files, head_shape
from scoring.setup.converted_found import converted_model
from scoring.setup.findings import FoundModel, Line, Value
from scoring.setup.huggingface_found import huggingface_model, is_pretrained
from scoring.setup.lightning_found import is_lightning, lightning_model
from scoring.setup.plain_found import (
    ASK_TRANSFORM,
    is_code,
    matched_model,
    named_architecture,
    own_model,
    untrained_model,
)
from scoring.setup.references import reference
from scoring.setup.stated_classes import stated_classes
from scoring.setup.timm_found import timm_model, training_arguments
from scoring.setup.toml_text import inline_table

IMAGENET: dict[str, Value] = {
    "mode": "RGB",
    "resize": 256,
    "crop": 224,
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
"""What ``--transform imagenet`` stands for: the evaluation of most networks that were pretrained on ImageNet."""


def find_model(
    model: str | None, checkpoints: str | None, transform: str | None, folder: Path, *, named: bool = False
) -> FoundModel | None:
    """The run of ``audit.toml`` in ``folder``; None where neither model nor checkpoints are named.

    ``named``: whether the classes are named, so that files may state several orders.

    Raises `HardlookError` where a path holds nothing, a name means nothing, or what was found is ambiguous.
    """
    if model is None and checkpoints is None:
        return None
    place = Path(model.removeprefix("huggingface:")).expanduser() if model else None
    if place is not None and place.is_dir():
        found = _of_folder(place, checkpoints, folder)
    elif checkpoints is None:
        found = untrained_model(str(model), folder)
    else:
        found = _with_stated_classes(_of_files(model, files := find_files(checkpoints, folder), folder), files, named)
    if transform is None:
        return found
    asked = tuple(text for text in found.asked if not text.startswith("transform:"))
    return replace(found, transform=_transform(transform, folder), asked=asked)


def _of_folder(place: Path, checkpoints: str | None, folder: Path) -> FoundModel:
    """A folder of Hugging Face as ``--model``; without ``--checkpoints``, its own weights."""
    return huggingface_model(place, find_files(checkpoints or str(place), folder), folder)


def _of_files(model: str | None, files: CheckpointFiles, folder: Path) -> FoundModel:
    """By what the checkpoints hold, and what ``--model`` says."""
    last = files.paths[-1]
    home = last if last.is_dir() else last.parent
    if model is None and is_pretrained(home):
        return huggingface_model(home, files, folder)
    facts = read_facts(last)
    if is_lightning(facts) and (model is None or is_code(model)):
        return _lightning(model, files, facts, folder)
    options, source = training_arguments(files, facts)
    head = head_shape(files.last)
    if model is not None and model.startswith("timm:"):
        return timm_model(model.removeprefix("timm:"), files, folder, options, source, head[0] if head else None)
    if model is None and (options or "arch" in facts.stated):
        name = str(options.get("model") or facts.stated["arch"])
        return timm_model(name, files, folder, options, source or f"arch in {last.name}", head[0] if head else None)
    converted = converted_model(model, files, facts)
    if converted is not None:
        return converted
    if model is None:
        return matched_model(files)
    return own_model(model, files, folder) if is_code(model) else named_architecture(model, files)


def _with_stated_classes(found: FoundModel, files: CheckpointFiles, named: bool) -> FoundModel:
    """The run with the class names that its last checkpoint states, if its tool says none; ``named``: the user did."""
    last = files.paths[-1]
    if found.classes:
        return found
    classes, source = stated_classes(read_facts(last), found.outputs, last.name, named)
    return replace(found, classes=classes, classes_from=source)


def _lightning(model: str | None, files: CheckpointFiles, facts: Facts, folder: Path) -> FoundModel:
    """The LightningModule and its hyper-parameters."""
    line, arguments, said, asked = lightning_model(facts, model, folder, files.paths[-1].name)
    head = head_shape(files.last)
    return FoundModel(
        kind="lightning",
        model=line,
        arguments=arguments,
        checkpoints=files.line,
        transform=(),
        outputs=head[0] if head else None,
        said=(*said, *files.said),
        asked=(*asked, ASK_TRANSFORM),
    )


def _transform(given: str, folder: Path) -> tuple[Line, ...] | Line:
    """What ``--transform`` stands for: ``imagenet``, a table, or code."""
    why = "as named by --transform"
    if given == "imagenet":
        return tuple(Line(key, value, why if key == "mode" else "") for key, value in IMAGENET.items())
    if given.lstrip().startswith("{"):
        table = inline_table("--transform", given, '{ mode = "RGB", resize = 64 }')
        return tuple(Line(key, value) for key, value in table.items())
    if ":" in given:
        return Line("transform", reference(given, folder), why)
    raise HardlookError(f"--transform {given}: needed imagenet, a table {{ … }}, or file.py:callable")
