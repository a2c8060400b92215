"""The weights inside one checkpoint file or folder, read without ever running what it holds.

A path → a `StateDict`: its tensors as named in it, where in the file they were found, the epoch and step
stated there. Read are plain state dicts, dicts that hold one (``state_dict``, ``model``, …), Lightning, timm
and Hugging Face layouts, checkpoint folders (sharded ones too) and safetensors. Every ``.pt`` goes through
torch's ``weights_only`` unpickler; what that refuses is refused here, with the way out
(`scoring.models.conversion`).

Cost: files are memory-mapped, so a tensor is read when it is used. Known limits: no DeepSpeed or FSDP shards,
no adapters (LoRA) and no quantised tensors; merge or export those first.
"""

from __future__ import annotations

import argparse
import json
import math
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from scoring.tables import HardlookError

Number = int | float
Tensors = dict[str, torch.Tensor]

PLAIN = (
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "net",
    "network",
    "weights",
    "params",
    "model_state",
)
"""Where training scripts keep the weights that were trained, in order of preference."""

EMA = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "ema_model", "ema_weights", "params_ema")
"""Where they keep the exponential moving average of those weights."""

EPOCHS = ("epoch", "epochs", "current_epoch")
STEPS = ("global_step", "step", "iteration", "iter", "steps", "train_step", "num_steps")

FOLDER_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
"""The weights of a Hugging Face checkpoint folder, in order of preference."""

INERT = [argparse.Namespace]
"""Classes that only hold values, which ``weights_only`` may build: timm stores its arguments so."""


class NeedsUnpickling(HardlookError):
    """A checkpoint that holds more than tensors and plain values, so that reading it could run code."""


@dataclass(frozen=True)
class StateDict:
    """The tensors of one checkpoint, as named in it, and where they came from.

    ``taken`` is the key that held them ("" for the file itself); ``kind`` is "plain" or "ema"; ``notes`` are
    sentences for the user.
    """

    path: Path
    tensors: Tensors
    taken: str = ""
    kind: str = "plain"
    epoch: Number | None = None
    step: Number | None = None
    notes: tuple[str, ...] = ()


def read_state_dict(path: str | Path, *, weights: str = "plain") -> StateDict:
    """The tensors of one checkpoint file or folder, memory-mapped on the CPU.

    ``weights`` is "plain" (the trained weights) or "ema" (their moving average). Where a file holds only the
    other kind, plain falls back to it with a note and ema is refused. Raises `NeedsUnpickling` where the file
    holds objects, else `HardlookError` saying what was found.
    """
    if weights not in ("plain", "ema"):
        raise HardlookError(f"weights = {weights!r}; needed 'plain' or 'ema'")
    path = Path(path)
    if path.is_dir():
        return _read_folder(path, weights)
    content, stated = _open(path)
    return pick_state_dict(path, content, stated, weights)


def weight_files(folder: Path) -> list[Path]:
    """The files of a Hugging Face checkpoint folder that hold its weights; all shards of a sharded one."""
    for name in FOLDER_FILES:
        if (folder / name).is_file():
            return _shards(folder / name) if name.endswith(".json") else [folder / name]
    if (folder / "adapter_config.json").is_file():
        raise HardlookError(
            f"{folder} holds an adapter, not a model; merge it (merge_and_unload) and save the model"
        )
    names = sorted(path.name for path in folder.iterdir())
    raise HardlookError(
        f"{folder} is no checkpoint folder: needed {' or '.join(FOLDER_FILES[:2])}, found "
        f"{', '.join(names[:6]) or 'nothing'}"
    )


def _shards(index: Path) -> list[Path]:
    """The files that a ``*.index.json`` lists; names with folders in them are refused."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise HardlookError(f"{index} is no index of shards ({error!r}); needed a weight_map") from error
    for name in names:
        if Path(str(name)).name != name or not (index.parent / name).is_file():
            raise HardlookError(
                f"{index} lists the shard {name!r}, which is not in {index.parent}; copy it there"
            )
    return [index.parent / name for name in names]


def _read_folder(folder: Path, weights: str) -> StateDict:
    """Join the files of a checkpoint folder; epoch and step come from the trainer's own record beside
    them."""
    states = [pick_state_dict(file, *_open(file), weights) for file in weight_files(folder)]
    tensors = {name: tensor for state in states for name, tensor in state.tensors.items()}
    record = folder / "trainer_state.json"
    try:
        stated = json.loads(record.read_text(encoding="utf8")) if record.is_file() else {}
        stated = {"epoch": stated.get("epoch"), "global_step": stated.get("global_step")}
    except (ValueError, AttributeError) as error:
        raise HardlookError(f"{record} is damaged ({error}); copy it again, or remove it: the checkpoints are then "
                            "ordered by their names") from error
    notes = tuple(dict.fromkeys(note for state in states for note in state.notes))
    files = "model files" if len(states) > 1 else weight_files(folder)[0].name
    return StateDict(
        folder, tensors, files, states[0].kind, _number(stated, EPOCHS), _number(stated, STEPS), notes
    )


def file_kind(path: Path) -> str | None:
    """ "zip" (torch), "pickle" (torch's older format), "safetensors", or None, from the first bytes."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[:4] == b"PK\x03\x04":
        return "zip"
    if start[:1] == b"\x80" and len(start) > 1 and 2 <= start[1] <= 5:
        return "pickle"
    return "safetensors" if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 2**32 else None


def found_instead(path: Path) -> str:
    """What a file holds that is no checkpoint, and what was needed."""
    with path.open("rb") as file:
        start = file.read(24)
    size = path.stat().st_size
    needed = "needed a file written by torch.save, or safetensors"
    if start.startswith(b"version https://git-lfs"):
        return f"it is a pointer of Git LFS, not the file itself; fetch it: git lfs pull ({needed})"
    return f"it begins with {start[:12]!r} ({size:,} bytes); {needed}" if size else f"it is empty (0 bytes); {needed}"


def _open(path: Path) -> tuple[Any, dict[str, Any]]:
    """What a file holds, and what it states about itself; tensors and plain values only."""
    if not path.is_file():
        raise HardlookError(f"there is no checkpoint {path}")
    kind = file_kind(path)
    if kind is None:
        raise HardlookError(f"{path} is no checkpoint, or is incomplete: {found_instead(path)}")
    return _open_safetensors(path) if kind == "safetensors" else (_open_torch(path, mmap=kind == "zip"), {})


def _open_safetensors(path: Path) -> tuple[Tensors, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except SafetensorError as error:
        raise HardlookError(f"{path} is damaged or incomplete ({error}); copy or save it again") from error


def _open_torch(path: Path, *, mmap: bool) -> Any:
    """torch.load under ``weights_only``, with its refusals told in our words."""
    try:
        with torch.serialization.safe_globals(INERT), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on pickle protocols, which nobody can act on here
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise _needs_unpickling(path, error) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        if "TorchScript" in str(error):
            raise _needs_unpickling(path, error) from error
        told = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise HardlookError(f"{path} is damaged or incomplete ({told}); copy or save it again") from error


def _needs_unpickling(path: Path, error: Exception) -> NeedsUnpickling:
    """The refusal of a file that holds objects, naming them and the way out."""
    found = _object_names(path, str(error))
    return NeedsUnpickling(
        f"{path} holds more than weights ({found}), and reading such objects can run code; "
        f"if you trust the file, take the weights out of it:  hardlook convert {path} --trust"
    )


def _object_names(path: Path, told: str) -> str:
    """Which classes or functions a file asks for, found without running it."""
    if "TorchScript" in told:
        return "a TorchScript program"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # a deprecation inside torch's own disassembler is no user's concern
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # the older format cannot be disassembled, and a hostile file may be malformed anywhere
        names = re.findall(r"GLOBAL (\S+)", told)
    return ", ".join(dict.fromkeys(names[:4])) or "pickled objects"


def _number(stated: Mapping[str, Any], names: Iterable[str]) -> Number | None:
    """The first of these entries that is a number: plain, a tensor of one element, or (safetensors) text."""
    for name in names:
        value = stated.get(name)
        if isinstance(value, torch.Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?", value):
            value = float(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
        if isinstance(value, float) and math.isfinite(value):
            return int(value) if value.is_integer() else value
    return None


# -- which weights are in a file -----------------------------------------------------------------------------


def pick_state_dict(path: Path, content: Any, stated: Mapping[str, Any], weights: str) -> StateDict:
    """Find the tensors in what a file holds: itself a state dict, or a dict with one under a known name."""
    if not isinstance(content, Mapping):
        raise HardlookError(
            f"{path} holds a {type(content).__name__}; needed a state dict: "
            "torch.save(model.state_dict(), path)"
        )
    stated = {**_meta(content), **stated}
    held = _containers(content)
    taken, kind, notes = _choose(path, held, weights) if held else ("", _kind(stated), ())
    tensors = held[taken] if held else _own_tensors(content)
    if not tensors:
        raise HardlookError(f"{path} holds no weights; found {_shown(content)}, needed a state dict")
    _refuse_unusual(path, tensors)
    return StateDict(path, tensors, taken, kind, _number(stated, EPOCHS), _number(stated, STEPS), notes)


def _refuse_unusual(path: Path, tensors: Tensors) -> None:
    """Sparse, quantised and meta tensors are no plain weights: nothing here could compare or hash them."""
    for name, tensor in tensors.items():
        unusual = (
            "without data (meta)" if tensor.is_meta
            else "quantised" if tensor.is_quantized
            else f"{str(tensor.layout).removeprefix('torch.')}" if tensor.layout is not torch.strided
            else None
        )
        if unusual:
            raise HardlookError(
                f"{path}: key {name!r} is {unusual}; needed plain weights: save the model before it is quantised, "
                "and sparse tensors by .to_dense()"
            )


def _kind(stated: Mapping[str, Any]) -> str:
    """ "ema" where an earlier conversion took those, else "plain"."""
    return "ema" if stated.get("hardlook_kind") == "ema" else "plain"


def _meta(content: Mapping[str, Any]) -> dict[str, Any]:
    """Epoch and step, at the top or under ``meta`` (OpenMMLab)."""
    inner = content.get("meta")
    return {**(inner if isinstance(inner, Mapping) else {}), **content}


def _is_state_dict(value: Any) -> bool:
    """A non-empty mapping from names to tensors; extra state of modules may be anything."""
    if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
        return False
    rest = [item for name, item in value.items() if not name.endswith("_extra_state") and item is not None]
    return bool(rest) and all(isinstance(item, torch.Tensor) for item in rest)


def _own_tensors(content: Mapping[str, Any]) -> Tensors:
    """The tensors of a mapping, without an epoch or step that is kept as a tensor beside them."""
    return {
        name: tensor
        for name, tensor in content.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor) and name not in EPOCHS + STEPS
    }


def _containers(content: Mapping[str, Any]) -> dict[str, Tensors]:
    """The state dicts inside a mapping: key → tensors, one level further down under a known name."""
    held: dict[str, Tensors] = {}
    for key, value in content.items():
        if _is_state_dict(value):
            held[str(key)] = _own_tensors(value)
        elif isinstance(value, Mapping) and key in PLAIN + EMA:
            inner = [name for name in PLAIN if _is_state_dict(value.get(name))]
            held.update({f"{key}.{name}": _own_tensors(value[name]) for name in inner[:1]})
    return held


def _choose(path: Path, held: dict[str, Tensors], weights: str) -> tuple[str, str, tuple[str, ...]]:
    """Which of the state dicts in a file to take: (key, kind, notes)."""
    plain, ema = _ranked(held, PLAIN), _ranked(held, EMA)
    if {"current_model_state", "state_dict"} <= held.keys():  # Lightning's WeightAveraging swaps them
        plain, ema = ["current_model_state"], ["state_dict"]
    if not plain and not ema:
        plain = list(held)
        if len(plain) > 1:
            raise HardlookError(
                f"{path} holds several state dicts ({', '.join(held)}); keep the one to audit under "
                "the key 'state_dict'"
            )
    if weights == "ema" and not ema:
        raise HardlookError(f"{path} holds no EMA weights; found {', '.join(held)}; use weights = 'plain'")
    if weights == "ema":
        return ema[0], "ema", (f"took the EMA weights ({ema[0]})",)
    if not plain:
        return ema[0], "ema", (f"only EMA weights are there ({ema[0]}); took those",)
    return plain[0], "plain", (f"took the plain weights ({plain[0]}), not the EMA ({ema[0]})",) if ema else ()


def _ranked(held: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The keys that are, or begin with, one of these names, best first."""
    return [key for name in names for key in held if key == name or key.startswith(f"{name}.")]


def _shown(content: Mapping[Any, Any]) -> str:
    """The keys of a file, for an error message."""
    keys = [str(key) for key in content]
    return f"the keys {', '.join(keys[:8])}{', …' if len(keys) > 8 else ''}" if keys else "an empty dict"
