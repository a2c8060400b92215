"""Checkpoints of timm: the model by ``arch`` or ``args.yaml``, the transform of its evaluation, the class map.

timm's ``train.py`` writes ``args.yaml`` beside its checkpoints, and each checkpoint holds ``arch`` and ``args``. The
transform is the one that timm itself makes for them (``resolve_data_config``, ``create_transform``), written as numbers
that give the same bits (``scoring.models.transform_tables``).

Inputs → outputs: `Facts`, the folder beside → `FoundModel`. Cost: the model is built once. Known limits: a transform
with ``crop_mode = "border"`` has no table, and is a question.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError, first_line
from scoring.audit.user_code import close_names
from scoring.models.checkpoint_facts import Facts
from scoring.models.named_models import needed_package
from scoring.models.transform_tables import as_table
from scoring.setup.checkpoint_files import CheckpointFiles
from scoring.setup.findings import FoundModel, Line, as_value

ARGUMENTS = {"num_classes": "num_classes", "in_chans": "in_chans", "gp": "global_pool"}
"""Options of train.py → arguments of ``create_model``; its ``img_size`` goes into the data configuration alone."""


def training_arguments(files: CheckpointFiles, facts: Facts) -> tuple[Mapping[str, Any], str]:
    """(options of timm's train.py, where they are from): ``args.yaml`` beside, else ``args`` in the checkpoint."""
    beside = files.paths[-1].parent / "args.yaml"
    if beside.is_file():
        return _yaml(beside), "args.yaml"
    stated = facts.stated.get("args")
    if isinstance(stated, Mapping) and isinstance(stated.get("model"), str):
        return stated, f"args in {files.paths[-1].name}"
    return {}, ""


def _yaml(path: Path) -> Mapping[str, Any]:
    """The options of an ``args.yaml``; raises `HardlookError` for another file."""
    yaml = needed_package("yaml", "timm")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf8"))
    except (yaml.YAMLError, OSError) as error:
        raise HardlookError(
            f"{path} cannot be read ({first_line(error)}); remove it, or name --model timm:NAME"
        ) from error
    if not isinstance(found, Mapping) or not isinstance(found.get("model"), str):
        raise HardlookError(
            f"{path} names no model, as timm's train.py writes it; remove it, or name --model timm:NAME"
        )
    return found


def timm_model(
    name: str, files: CheckpointFiles, folder: Path, options: Mapping[str, Any], source: str, outputs: int | None
) -> FoundModel:
    """The lines of a timm model; ``options`` of train.py from ``source``, ``outputs``: the width of its last layer."""
    timm = needed_package("timm", "timm")
    if not timm.is_model(name):
        raise HardlookError(
            f"timm has no model {name!r}, which {source or '--model'} names; {close_names(name, timm.list_models())}"
        )
    arguments = _arguments(options, source, outputs)
    data, table = _transform(name, options, {line.key: line.value for line in arguments})
    why = f"{source}; " if source else ""
    if table is None:
        transform: tuple[Line, ...] | Line = Line(
            "transform", "model.py:transform", f"timm's own has no table here: {data}", asked=True
        )
    else:
        transform = tuple(
            Line(key, value, "as timm evaluates" if key == "mode" else "") for key, value in table.items()
        )
    classes, from_map, asked = _class_map(options, files.paths[-1].parent)
    return FoundModel(
        kind="timm",
        model=Line("model", f"timm:{name}", source),
        arguments=arguments,
        checkpoints=files.line,
        transform=transform,
        classes=classes,
        classes_from=from_map,
        outputs=outputs,
        natural=bool(source) and "/" not in str(options.get("dataset") or ""),  # torch/, hfds/, wds/: orders of others
        media="image",
        said=(f"a model of timm, {name} ({why}transform by timm's own rules)", *files.said),
        asked=(*asked, *(["transform: timm's own for this model has no table; name yours"] if table is None else [])),
    )


def _arguments(options: Mapping[str, Any], source: str, outputs: int | None) -> tuple[Line, ...]:
    """What ``create_model`` is called with."""
    lines = {}
    for option, key in ARGUMENTS.items():
        value = as_value(options.get(option))
        if value is not None:
            lines[key] = Line(key, value, source)
    for key, given in (options.get("model_kwargs") or {}).items():
        value = as_value(given)
        if value is not None:
            lines[str(key)] = Line(str(key), value, source)
    if outputs is not None and "num_classes" not in lines:
        lines = {"num_classes": Line("num_classes", outputs, "the width of its last layer"), **lines}
    return tuple(lines.values())


def _transform(
    name: str, options: Mapping[str, Any], arguments: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any] | None]:
    """(timm's data configuration in words, the table that gives the same; None where there is none)."""
    timm, data_rules = needed_package("timm", "timm"), needed_package("timm.data", "timm")
    kept = {key: value for key, value in arguments.items() if key != "num_classes"}
    try:
        model = timm.create_model(name, pretrained=False, **kept)
        data = data_rules.resolve_data_config(dict(options), model=model)
        pipeline = data_rules.create_transform(**data, is_training=False)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise HardlookError(
            f"timm cannot build {name} with {dict(kept)} ({first_line(error)}); correct --model"
        ) from error
    shown = ", ".join(
        f"{key} {data[key]}" for key in ("input_size", "crop_pct", "crop_mode", "interpolation") if key in data
    )
    return shown, as_table(pipeline)


def _class_map(options: Mapping[str, Any], beside: Path) -> tuple[tuple[str, ...], str, list[str]]:
    """The names of a class map, in its order, where the training had one."""
    given = options.get("class_map")
    if not isinstance(given, str) or not given:
        return (), "", []
    file = next((each for each in (Path(given), beside / given, beside / Path(given).name) if each.is_file()), None)
    if file is None or file.suffix != ".txt":
        return (), "", [f"classes: the training had the class map {given}, which cannot be read here; write its order"]
    lines = [line.strip() for line in file.read_text(encoding="utf8").splitlines() if line.strip()]
    return tuple(lines), f"the class map {file.name}", []
