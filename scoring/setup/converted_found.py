"""Checkpoints of fastai and Ultralytics, by what ``hardlook convert`` kept of them.

Both pickle their models with a description: Ultralytics the ``yaml`` of the network, class names and image size; fastai
the vocabulary of its labels. Of fastai's ``learn.save`` the names of the tensors tell: ``0.…`` is the body, ``1.…`` the
head that its ``vision_learner`` made.

Inputs → outputs: `Facts` → `FoundModel`, None where the file is of neither. Cost: models of equal size are built
without memory. Known limits: fastai states no architecture: it is told by the shapes of its tensors, among
torchvision's; what its ``item_tfms`` did to images is a question.
"""

from __future__ import annotations

from collections.abc import Mapping

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_facts import Facts
from scoring.models.named_models import needed_package
from scoring.setup.architectures import Fit, fitting_fastai
from scoring.setup.checkpoint_files import CheckpointFiles
from scoring.setup.findings import FoundModel, Line, Value, as_value
from scoring.setup.plain_found import ASK_TRANSFORM, asked_transform

NETWORK = "ultralytics.nn.tasks:ClassificationModel"


def converted_model(model: str | None, files: CheckpointFiles, facts: Facts) -> FoundModel | None:
    """The lines of a checkpoint of Ultralytics or fastai; None where it is of neither, or ``model`` is another one.

    Raises `HardlookError` for Ultralytics models of another task.
    """
    tool = str(facts.stated.get("tool", ""))
    if tool.startswith("ultralytics") and model is None:
        return _ultralytics(files, facts, tool)
    by_name = all(name.startswith(("0.", "1.")) for name in files.last.tensors)
    if model is None and (tool == "fastai" or by_name):
        return _fastai(fitting_fastai(files.last.tensors), files, facts)
    if model is not None and model.startswith("fastai:"):
        fits = [fit for fit in fitting_fastai(files.last.tensors) if fit.name == model]
        if not fits:
            raise HardlookError(f"{files.paths[-1]} does not fit {model}; leave --model out to see which fit")
        return _fastai(fits, files, facts)
    return None


def _ultralytics(files: CheckpointFiles, facts: Facts, tool: str) -> FoundModel:
    """The classifier that the file's own ``yaml`` describes; it returns (probabilities, logits)."""
    path, stated = files.paths[-1], facts.stated
    network, names, size = as_value(stated.get("yaml")), stated.get("names"), stated.get("imgsz")
    if not tool.endswith("classify"):
        raise HardlookError(f"{path} is a model of Ultralytics for another task ({tool}); needed one of classify")
    if not isinstance(network, Mapping) or not isinstance(names, list) or not isinstance(size, int):
        raise HardlookError(f"{path} states no network, names and image size; convert it again: hardlook convert")
    version = stated.get("version", "")
    return FoundModel(
        kind="ultralytics",
        model=Line("model", NETWORK, f"of Ultralytics {version}".strip()),
        arguments=_network(network, len(names), path.name),
        checkpoints=files.line,
        transform=(
            Line("mode", "RGB", f"as Ultralytics evaluates at imgsz {size}"),
            Line("resize", size),
            Line("crop", size),
        ),
        settings=(Line("output", "logits", "it returns (probabilities, logits)"), Line("output_item", 1)),
        classes=tuple(map(str, names)),
        classes_from=f"names in {path.name}",
        outputs=len(names),
        exif=True,
        media="image",
        said=(f"{path.name}: a classifier of Ultralytics {version}, its average (EMA) of the weights", *files.said),
    )


def _network(network: Mapping[str, Value], classes: int, name: str) -> tuple[Line, ...]:
    """``cfg`` by the name of the network where the package has the same one, else whole."""
    stated, file = dict[str, object](network), str(network.get("yaml_file", ""))
    try:
        own = dict(needed_package("ultralytics.nn.tasks", "ultralytics").yaml_model_load(file))
    except (OSError, ValueError):  # a network of the user's; HardlookError (not installed) is a ValueError
        own = {}
    for one in (stated, own):
        for key in ("nc", "channels", "ch"):
            one.pop(key, None)
    quiet = Line("verbose", False)
    if own and as_value(own) == as_value(stated):
        return Line("cfg", file), Line("nc", classes), quiet
    whole = as_value(network)
    return Line("cfg", whole if whole is not None else file, f"the network's description in {name}"), quiet


def _fastai(fits: list[Fit], files: CheckpointFiles, facts: Facts) -> FoundModel | None:
    """The body and head of a vision learner; None where they are of no architecture of torchvision."""
    path = files.paths[-1]
    if len(fits) != 1:
        if facts.stated.get("tool") != "fastai" and not fits:
            return None
        names = ", ".join(fit.name for fit in fits) or "none of torchvision"
        raise HardlookError(
            f"{path} is a model of fastai whose tensors fit {names}; name the one of the training: --model "
            "fastai:resnet18, or the code that builds it: --model file.py:callable"
        )
    vocab = facts.stated.get("vocab")
    return FoundModel(
        kind="fastai",
        model=Line("model", fits[0].name, "the one architecture whose body and head its tensors fit"),
        arguments=(Line("num_classes", fits[0].classes, "the width of the checkpoint's last layer"),),
        checkpoints=files.line,
        transform=asked_transform(),
        classes=tuple(map(str, vocab)) if isinstance(vocab, list) else (),
        classes_from=f"the vocabulary in {path.name}" if isinstance(vocab, list) else "",
        outputs=fits[0].classes,
        media="image",
        said=(f"{path.name}: a vision learner of fastai over {fits[0].name.partition(':')[2]}", *files.said),
        asked=(ASK_TRANSFORM,),
    )
