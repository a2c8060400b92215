"""Reads the weights of one checkpoint file or folder without running code from it.

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
import contextlib
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from scoring.audit.errors import HardlookError, first_line
from scoring.models.checkpoint_folders import trainer_state, weight_files
from scoring.models.checkpoint_formats import READABLE, format_of, found_instead
from scoring.models.state_dicts import EPOCHS, STEPS, Number, StateDict, number, pick_state_dict
from scoring.models.tensors import Tensors

__all__ = ["NeedsUnpickling", "Number", "StateDict", "Tensors", "read_state_dict"]

AVERAGE = "state_dict_ema."
"""The prefix under which `scoring.models.conversion` writes the average beside the trained weights."""

INERT: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]
"""Classes that only hold values, which ``weights_only`` may build: timm stores its arguments so."""


class NeedsUnpickling(HardlookError):
    """A checkpoint that holds more than tensors and plain values, so that reading it could run code."""


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
    content, stated = open_checkpoint(path)
    return pick_state_dict(path, content, stated, weights)


def _read_folder(folder: Path, weights: str) -> StateDict:
    """Join the files of a checkpoint folder; epoch and step come from the trainer's own record beside
    them."""
    states = [pick_state_dict(file, *open_checkpoint(file), weights) for file in weight_files(folder)]
    tensors = {name: tensor for state in states for name, tensor in state.tensors.items()}
    stated = trainer_state(folder)
    notes = tuple(dict.fromkeys(note for state in states for note in state.notes))
    files = "model files" if len(states) > 1 else weight_files(folder)[0].name
    return StateDict(folder, tensors, files, states[0].kind, number(stated, EPOCHS), number(stated, STEPS), notes)


def open_checkpoint(path: Path) -> tuple[Any, dict[str, Any]]:
    """Returns what a file holds, and what it states about itself; tensors and plain values only."""
    if not path.is_file():
        raise HardlookError(f"there is no checkpoint {path}")
    kind = format_of(path)
    if kind not in READABLE:
        raise HardlookError(f"{path} is not a checkpoint, or is incomplete: {found_instead(path)}")
    return open_safetensors(path) if kind == "safetensors" else (_open_torch(path, mmap=kind == "zip"), {})


def open_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of a safetensors file and its metadata; where a conversion wrote both, the average
    apart.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names, stated = file.keys(), file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise HardlookError(f"{path} is damaged or incomplete ({error}); copy or save it again") from error
    if stated.get("hardlook_kind") != "both":
        return tensors, stated
    average = {name.removeprefix(AVERAGE): tensor for name, tensor in tensors.items() if name.startswith(AVERAGE)}
    plain = {name: tensor for name, tensor in tensors.items() if not name.startswith(AVERAGE)}
    return {"state_dict": plain, "state_dict_ema": average}, stated


def _open_torch(path: Path, *, mmap: bool) -> Any:
    """Returns torch.load under ``weights_only``, with its refusals as ``HardlookError``.

    A name that ends in .safetensors sends torch.load to the safetensors library, whatever the file holds; an
    open file has no name, but cannot be memory-mapped.
    """
    misnamed = path.suffix == ".safetensors"
    try:
        with (
            torch.serialization.safe_globals(INERT),
            warnings.catch_warnings(),
            path.open("rb") if misnamed else contextlib.nullcontext(path) as file,
        ):
            warnings.simplefilter("ignore")  # torch remarks on pickle protocols, which nobody can act on here
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap and not misnamed)
    except pickle.UnpicklingError as error:
        raise _needs_unpickling(path, error) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError) as error:
        if "TorchScript" in str(error):
            raise _needs_unpickling(path, error) from error
        raise HardlookError(
            f"{path} is damaged or incomplete ({first_line(error, 160)}); copy or save it again"
        ) from error


def _needs_unpickling(path: Path, error: Exception) -> NeedsUnpickling:
    """The refusal of a file that holds objects, naming them and the way out."""
    found = _object_names(path, str(error))
    return NeedsUnpickling(
        f"{path} holds more than weights ({found}), and reading such objects can run code; if you trust the file, "
        f"extract its weights:  hardlook convert {path} --trust"
    )


def _object_names(path: Path, reason: str) -> str:
    """Returns which classes or functions a file asks for, found without running it."""
    if "TorchScript" in reason:
        return "a TorchScript program"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a deprecation inside torch's own disassembler is no user's concern
            names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001  the older format cannot be disassembled, and a hostile file may be malformed anywhere
        names = re.findall(r"GLOBAL (\S+)", reason)
    return ", ".join(dict.fromkeys(names[:4])) or "pickled objects"
