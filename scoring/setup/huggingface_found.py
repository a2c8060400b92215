"""Checkpoints of Hugging Face: the model from ``config.json``, the tokenizer or image processor, the class names.

A folder of ``save_pretrained``, or one of the Trainer's ``checkpoint-N`` → `FoundModel`. The tokenizer and the
processor are looked for in the folder and then in the one above it, where the Trainer leaves them too.

Cost: configurations alone. Known limits: the length at which a training cut its texts is in no file but, for fast
tokenizers, ``tokenizer.json``; elsewhere it is the longest that the model takes, which is said.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.models.huggingface import architecture, config_of, has_tokenizer, load_tokenizer
from scoring.setup.checkpoint_files import CheckpointFiles
from scoring.setup.findings import FoundModel, Line
from scoring.setup.places import written

LONGEST = 512
"""Tokens, where neither tokenizer nor model states a limit."""


def huggingface_model(place: Path, files: CheckpointFiles, folder: Path) -> FoundModel:
    """The lines of a Hugging Face classifier whose ``config.json`` lies in ``place``.

    Raises `HardlookError` for a folder of another task, or of a model with a single output.
    """
    name, config = architecture(place), config_of(place)
    labels = {int(number): str(label) for number, label in (config.id2label or {}).items()}
    if len(labels) < 2:
        raise HardlookError(
            f"{place} holds a model with {len(labels)} output (num_labels), as for regression; needed one per class"
        )
    texts = name.endswith("ForSequenceClassification")
    transform, asked = _tokenizer(place, config, folder) if texts else _processor(place, folder)
    classes = tuple(labels[number] for number in sorted(labels))
    unnamed = all(label == f"LABEL_{number}" for number, label in labels.items())
    said = [f"{place}: a {name} of Hugging Face with {len(classes)} classes"]
    if unnamed:
        said.append("its id2label holds no names (LABEL_0, …), so the classes are the data's")
    return FoundModel(
        kind="huggingface",
        model=Line("model", f"huggingface:{written(place, folder)}", f"{name}, from its config.json"),
        checkpoints=files.line,
        transform=transform,
        classes=() if unnamed else classes,
        classes_from="" if unnamed else f"id2label of {place.name}/config.json",
        outputs=len(classes),
        media="text" if texts else "image",
        said=(*said, *files.said),
        asked=tuple(asked),
    )


def is_pretrained(place: Path) -> bool:
    """Returns whether a folder holds a ``config.json`` of transformers; other tools name files so too."""
    try:
        found = json.loads((place / "config.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, Mapping) and ("model_type" in found or "architectures" in found)


def _processor(place: Path, folder: Path) -> tuple[tuple[Line, ...], list[str]]:
    """The image processor, in the folder or above it."""
    home = next((each for each in (place, place.parent) if (each / "preprocessor_config.json").is_file()), None)
    home = home or next((each for each in (place, place.parent) if (each / "processor_config.json").is_file()), None)
    if home is None:
        line = Line("processor", written(place, folder), "the folder with preprocessor_config.json", True)
        ask = f"no image processor is in {place} or above it: save the one of the training with save_pretrained"
        return (line,), [f"transform: {ask}"]
    return (Line("processor", written(home, folder), "its image processor"),), []


def _tokenizer(place: Path, config: Any, folder: Path) -> tuple[tuple[Line, ...], list[str]]:
    """The tokenizer, in the folder or above it, and the length at which texts are cut."""
    home = next((each for each in (place, place.parent) if has_tokenizer(each)), None)
    if home is None:
        line = Line("tokenizer", written(place, folder), "the folder with tokenizer.json", True)
        ask = f"no tokenizer is in {place} or above it: save the one of the training with save_pretrained"
        return (line, Line("length", 128, "tokens per text, as in the training", True)), [f"transform: {ask}"]
    length, why, sure = _length(home, config)
    lines = (Line("tokenizer", written(home, folder)), Line("length", length, why))
    ask = (
        f"transform: length = {length} is the longest that the model takes; write the max_length of the training, "
        "which is also faster if it is shorter"
    )
    return lines, [] if sure else [ask]


def _length(home: Path, config: Any) -> tuple[int, str, bool]:
    """(tokens per text, where that is from, whether the training's own value is known)."""
    try:
        saved = json.loads((home / "tokenizer.json").read_text(encoding="utf8"))
    except (OSError, ValueError):  # a slow tokenizer has none
        saved = {}
    cut = saved.get("truncation") if isinstance(saved, Mapping) else None
    if isinstance(cut, Mapping) and isinstance(cut.get("max_length"), int):
        return int(cut["max_length"]), "truncation in tokenizer.json", True
    limits = [int(load_tokenizer(home).model_max_length), _positions(config)]
    known = [limit for limit in limits if 0 < limit < 1_000_000]
    return (min(known), "the longest that the model takes", False) if known else (LONGEST, "no limit is stated", False)


def _positions(config: Any) -> int:
    """Tokens that the model has positions for; those of RoBERTa begin after the padding's number."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return 0
    offset = (config.pad_token_id or 0) + 1 if "roberta" in config.model_type or config.model_type == "camembert" else 0
    return positions - offset
