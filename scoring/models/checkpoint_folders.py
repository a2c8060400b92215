"""Checkpoint folders: which files in a folder hold the weights.

A folder → its weight files (one, or all shards of an index), as transformers, diffusers and Accelerate write
them. Folders that hold weights in another form (an adapter of PEFT, shards of torch.distributed.checkpoint,
DeepSpeed or TensorFlow, a quantised model) are refused with the command that makes weights of them.

Cost: a look at the names in the folder and at its small JSON files. Known limits: shards are never joined
here; the tools that wrote them do that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scoring.audit.errors import HardlookError
from scoring.models.tensors import adapter_without_base

FOLDER_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
"""The weights of a Hugging Face checkpoint folder, in order of preference."""

SECOND_MODELS = ("model_1.safetensors", "pytorch_model_1.bin")
"""What Accelerate's ``save_state`` writes beside the first where several models were prepared."""


def weight_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder that hold its weights; all shards of a sharded one."""
    for name in FOLDER_FILES:
        if (folder / name).is_file():
            _refuse_second_model(folder, name)
            _refuse_quantised(folder)
            return _shards(folder / name) if name.endswith(".json") else [folder / name]
    names = sorted(path.name for path in folder.iterdir())
    problem = _other_tool(folder, names)
    raise HardlookError(
        problem
        or f"{folder} is not a checkpoint folder: needed {' or '.join(FOLDER_FILES[:2])}, found "
        f"{', '.join(names[:6]) or 'nothing'}"
    )


def _other_tool(folder: Path, names: list[str]) -> str | None:
    """Returns what a folder of another tool is, and the command that makes one file of weights of it."""
    if "adapter_config.json" in names:
        return adapter_without_base(folder)
    if ".metadata" in names and "meta.pt" in names:
        return (
            f"{folder} is a sharded checkpoint of Lightning; convert it to one file: python -m "
            f"lightning.pytorch.utilities.consolidate_checkpoint {folder}"
        )
    if ".metadata" in names or any(name.endswith(".distcp") for name in names):
        return (
            f"{folder} is a checkpoint of torch.distributed.checkpoint (DCP); convert it to one file: python -m "
            f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} weights.pt"
        )
    inner = next((name for name in names if (folder / name / ".metadata").is_file()), None)
    if inner:
        return (
            f"{folder} holds its weights in {inner}, a checkpoint of torch.distributed.checkpoint (DCP); convert it to "
            f"one file: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {folder / inner} weights.pt"
        )
    if "zero_to_fp32.py" in names or any(name.startswith("zero_pp_rank_") for name in names):
        return (
            f"{folder} is a checkpoint of DeepSpeed ZeRO; convert it to one file: python {folder / 'zero_to_fp32.py'} "
            f"{folder} {folder}-weights"
        )
    if {"saved_model.pb", "keras_metadata.pb"} & set(names):
        return f"{folder} is TensorFlow's SavedModel; import its predictions: hardlook import-predictions"
    return None


def _refuse_second_model(folder: Path, name: str) -> None:
    """A folder with two models in it does not say which one to audit."""
    second = next((other for other in SECOND_MODELS if (folder / other).is_file()), None)
    if second:
        raise HardlookError(
            f"{folder} holds several models ({name}, {second}); instead of the folder name the file of the model to "
            f'audit, for instance checkpoints = "*/{name}"'
        )


def _refuse_quantised(folder: Path) -> None:
    """A model that was quantised before it was saved says so in its config."""
    config = folder / "config.json"
    try:
        quantised = (
            json.loads(config.read_text(encoding="utf8")).get("quantization_config") if config.is_file() else None
        )
    except (
        ValueError,
        AttributeError,
    ):  # not a config of transformers: the weights themselves are looked at too
        quantised = None
    if isinstance(quantised, dict):
        raise HardlookError(
            f"{folder} holds a quantised model ({quantised.get('quant_method', 'by an unknown method')}); needed plain "
            "weights: save the model before it is quantised"
        )


def trainer_state(folder: Path) -> dict[str, Any]:
    """The epoch and step that the trainer of transformers keeps beside the weights."""
    record = folder / "trainer_state.json"
    try:
        stated = json.loads(record.read_text(encoding="utf8")) if record.is_file() else {}
        return {"epoch": stated.get("epoch"), "global_step": stated.get("global_step")}
    except (ValueError, AttributeError) as error:
        raise HardlookError(
            f"{record} is damaged ({error}); copy it again, or remove it: the checkpoints are then ordered by their "
            "names"
        ) from error


def _shards(index: Path) -> list[Path]:
    """The files that a ``*.index.json`` lists; names with folders in them are refused."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise HardlookError(f"{index} is not an index of shards ({error!r}); needed a weight_map") from error
    for name in names:
        if Path(str(name)).name != name or not (index.parent / name).is_file():
            raise HardlookError(f"{index} lists the shard {name!r}, which is not in {index.parent}; copy it there")
    return [index.parent / name for name in names]
