"""One audit as it was found: the two halves, data and model, fitted to each other, and the text of its ``audit.toml``.

The model says what kind of examples it takes and how its training read them; the data says which transform can be
asked about. Weights that do not fit the model are refused here, before anything is written.

Inputs → outputs: what the command line names → `FoundAudit`. Cost: that of its halves, and the model built once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from scoring.audit.errors import HardlookError
from scoring.models import StateDict, build_model, fit_state, read_state_dict
from scoring.setup.checkpoint_found import find_model
from scoring.setup.class_names import classes_line, given_classes
from scoring.setup.data_found import find_data
from scoring.setup.findings import FoundData, FoundModel, Line
from scoring.setup.named_arguments import with_arguments
from scoring.setup.places import unwritten
from scoring.setup.written_config import config_text


@dataclass(frozen=True)
class FoundAudit:
    """The text of ``audit.toml``; sentences on what was found and on what could not be decided; whether a first look
    can be taken; whether the model is yet to be trained."""

    text: str
    said: tuple[str, ...]
    asked: tuple[str, ...]
    complete: bool
    untrained: bool = False


def find_audit(
    paths: Mapping[str, str | None],
    folder: Path,
    *,
    model: str | None = None,
    arguments: str | None = None,
    checkpoints: str | None = None,
    transform: str | None = None,
    classes: str | None = None,
) -> FoundAudit:
    """The audit in ``folder`` (which exists) of the data at ``paths`` (split → path) and the model that is named.

    Raises `HardlookError` for a path that holds nothing, for what is ambiguous, and for weights of another model.
    """
    names = given_classes(classes)
    run = find_model(model, checkpoints, transform, folder, named=names is not None)
    if arguments is not None:
        run = with_arguments(run, arguments)
    media = run.media if run else None
    data = find_data(paths, folder, media=media, natural_order=run.natural if run else False)
    if run is not None:
        run, data = _fitted(_with_width(run, names or data.classes), data.media), _with_exif(data, run.exif)
        if run.complete and run.checkpoints is not None:
            data = _with_colours(data, run, _fitting_state(run, run.checkpoints, folder))
        elif run.checkpoints is None and not any(line.asked for line in run.arguments):
            _build(run, folder)
    line, questions = classes_line(data, run, names)
    exif = () if run and run.exif is not None else data.exif
    said = (*data.said, *exif, *((_order(line),) if not line.asked else ()), *(run.said if run else ()))
    asked = (*data.asked, *questions, *(run.asked if run else (NO_MODEL,)))
    complete = run is not None and run.complete and not questions and not _asks_transform(run)
    untrained = run is not None and run.checkpoints is None
    return FoundAudit(config_text(data, run, line), said, asked, complete, untrained)


NO_MODEL = "the model: name its checkpoints (--checkpoints), or import predictions: hardlook import-predictions"


def _order(line: Line) -> str:
    """The classes and their order, in words."""
    names = line.value if isinstance(line.value, list) else []
    shown = ", ".join(str(name) for name in names[:6]) + (", …" if len(names) > 6 else "")
    return f"classes: {len(names)} ({shown}), {line.reason}"


def _asks_transform(run: FoundModel) -> bool:
    """Returns whether the transform is a question as a whole."""
    lines = (run.transform,) if isinstance(run.transform, Line) else run.transform
    return bool(lines) and any(line.asked for line in lines)


def _fitted(run: FoundModel, media: str) -> FoundModel:
    """The run with a question on the transform that fits the kind of examples: none for rows of numbers."""
    if media == "image" or not _asks_transform(run):
        return run
    rest = tuple(text for text in run.asked if not text.startswith("transform:"))
    if media == "vector":
        return replace(run, transform=(), asked=rest)
    if run.kind == "huggingface":
        return run
    why = 'text → (length,) token ids; for a Hugging Face tokenizer { tokenizer = "FOLDER", length = 128 }'
    ask = "transform: no file says how the training turned texts into tokens; write it, or name it with --transform"
    return replace(run, transform=Line("transform", "model.py:transform", why, asked=True), asked=(*rest, ask))


def _with_exif(data: FoundData, exif: bool | None) -> FoundData:
    """The tables with ``exif``, where the training read images otherwise than their source's usual library."""
    if exif is None or data.media != "image":
        return data
    line = Line("exif", exif, "as the training read its images")
    return replace(data, tables=tuple((*table, line) for table in data.tables))


def _with_width(run: FoundModel, classes: Sequence[str]) -> FoundModel:
    """The run of an untrained model with the number of classes as its width."""
    if run.checkpoints is not None or not classes:
        return run
    lines = [
        replace(line, value=len(classes), asked=False)
        if line.asked and line.reason == "the number of classes"
        else line
        for line in run.arguments
    ]
    return replace(run, arguments=tuple(lines))


def _build(run: FoundModel, folder: Path) -> nn.Module:
    """The model; raises `HardlookError` where it cannot be built."""
    return build_model(str(run.model.value), {line.key: line.value for line in run.arguments}, folder)


def _fitting_state(run: FoundModel, checkpoints: Line, folder: Path) -> StateDict:
    """The last checkpoint. Raises `HardlookError` where the model cannot be built, or its weights do not fit."""
    state = read_state_dict(unwritten(checkpoints.value, folder))
    try:
        fit_state(_build(run, folder), state)
    except HardlookError as error:
        if run.kind in ("own", "lightning"):
            raise HardlookError(
                f"{error}; --arguments '{{ width = 8 }}' names what {run.model.value} is called with"
            ) from error
        raise
    return state


def _with_colours(data: FoundData, run: FoundModel, state: StateDict) -> FoundData:
    """Class folders with ``mode = "RGB"``, as ``ImageFolder`` hands them to a transform that is code, where the model
    takes three channels; grey and palette images would reach that transform as they are stored."""
    convolutions = [each for each in state.tensors.values() if each.ndim == 4]
    if not isinstance(run.transform, Line) or not any(each.shape[1] == 3 for each in convolutions):
        return data
    line = Line("mode", "RGB", "as torchvision's ImageFolder gives images to a transform")
    tables = zip(data.tables, data.readers, strict=True)
    return replace(data, tables=tuple((*table, line) if name == "folder" else table for table, name in tables))
