"""The checkpoint files that a user names: found, told apart from their duplicates, each read once.

A glob, a file or a folder → `CheckpointFiles`. Of files with identical weights one is kept (the one with a number in
its name before a ``last`` or ``best``) and the others are dropped with a word. A file that needs unpickling is refused
with the command that converts it, before anything long begins.

Cost: each file is read once and its weights are hashed. Known limits: those of ``scoring.models.checkpoints``.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_folders import FOLDER_FILES
from scoring.models.checkpoint_formats import READABLE, format_of, found_instead
from scoring.models.checkpoint_reader import NeedsUnpickling, StateDict, read_state_dict
from scoring.models.checkpoints import describe_order, find_checkpoints, natural_key, weights_sha256
from scoring.setup.findings import Line, Value
from scoring.setup.places import written

ENDINGS = (".pt", ".pth", ".ckpt", ".safetensors", ".tar", ".bin", ".pkl", ".keras", ".h5")
ONE = (
    "one checkpoint: uncertainty, label quality, neighbours, duplicates, influence and slices can be computed; VoG, "
    "AUM, the data map and forgetting need those of several epochs (`hardlook train` makes some)"
)


@dataclass(frozen=True)
class CheckpointFiles:
    """The files that are kept, in the order of training; ``last`` is the state of the last one. ``line``: how
    ``audit.toml`` names them."""

    paths: tuple[Path, ...]
    last: StateDict
    line: Line
    said: tuple[str, ...]


def find_files(given: str, folder: Path) -> CheckpointFiles:
    """The checkpoints that a glob, a file or a folder names, for an ``audit.toml`` in ``folder``.

    Raises `HardlookError` where nothing matches, something is no checkpoint, or unpickling is needed.
    """
    paths = _without_converted(_expanded(given))
    states = [(path, _read(path, paths)) for path in paths]
    kept, said = _without_duplicates(states)
    ordered = find_checkpoints([glob.escape(str(path.absolute())) for path in kept], folder)
    last = next(state for path, state in states if path.absolute() == ordered[-1].path)
    value: Value = [written(checkpoint.path, folder) for checkpoint in ordered]
    if len(ordered) == 1 and isinstance(value, list):
        value = value[0]
    elif len(kept) == len(paths) and glob.has_magic(given):
        value = written(given, folder)
    if isinstance(value, str) and len(ordered) > 1:
        reason = f"{len(ordered)} checkpoints, by {ordered[0].order}"
    else:
        reason = f"by {ordered[0].order}" if len(ordered) > 1 else _taken(last)
    told = [f"{describe_order(ordered)}", *said, *([ONE] if len(ordered) == 1 else [])]
    return CheckpointFiles(tuple(each.path for each in ordered), last, Line("checkpoints", value, reason), tuple(told))


def _taken(state: StateDict) -> str:
    """Which key of the file was read, and the epoch that it states."""
    parts = [f"read from its key {state.taken}"] if state.taken and not state.path.is_dir() else []
    parts += [f"epoch {state.epoch:g}"] if state.epoch is not None else []
    return ", ".join(parts)


def _expanded(given: str) -> list[Path]:
    """The distinct paths that a glob, a file or a folder names, in natural order."""
    place = Path(given).expanduser()
    if place.is_dir() and not glob.has_magic(given):
        return _in_folder(place)
    hits = sorted({Path(hit) for hit in glob.glob(str(place), recursive=True)}, key=natural_key)
    if not hits and not place.exists():
        near = place.parent
        while not near.is_dir() and near != near.parent:
            near = near.parent
        names = sorted((each.name for each in near.iterdir()), key=natural_key)
        held = f"{', '.join(names[:6])}{', …' if len(names) > 6 else ''}" if names else "nothing"
        raise HardlookError(f"--checkpoints {given}: nothing is there; {near} holds {held}; correct the path")
    return hits or [place]


def _in_folder(place: Path) -> list[Path]:
    """A checkpoint folder itself, those in it (``checkpoint-500``), or the checkpoint files below it."""
    inner = [each for each in place.iterdir() if each.is_dir() and _holds_weights(each)]
    numbered = [each for each in inner if re.search(r"\d", each.name)]
    if numbered:
        return sorted(numbered, key=natural_key)
    if _holds_weights(place):
        return [place]
    files = [each for each in place.iterdir() if each.is_file() and each.suffix.lower() in ENDINGS]
    if not files:
        below = [each for each in place.rglob("*") if each.is_file() and each.suffix.lower() in ENDINGS]
        homes = sorted({each.parent for each in below}, key=natural_key)
        if len(homes) > 1:
            raise HardlookError(
                f"--checkpoints {place}: checkpoints of several trainings lie in it ({', '.join(map(str, homes[:4]))}"
                f"{', …' if len(homes) > 4 else ''}); name one of these folders"
            )
        files = below
    if not files:
        names = ", ".join(sorted(each.name for each in place.iterdir())[:6]) or "nothing"
        raise HardlookError(
            f"--checkpoints {place}: no checkpoint is in it; it holds {names}; name the files or a glob"
        )
    return sorted((each for each in files if each.name not in ("optimizer.pt", "scheduler.pt")), key=natural_key)


def _holds_weights(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FOLDER_FILES)


def _without_converted(paths: list[Path]) -> list[Path]:
    """The paths without those of which a conversion lies among them."""
    made = {(path.parent / source).resolve() for path in paths if (source := _source(path))}
    return [path for path in paths if path.resolve() not in made]


def _source(path: Path) -> str | None:
    """The name of the file that a safetensors file was converted from."""
    if path.suffix != ".safetensors" or not path.is_file() or format_of(path) != "safetensors":
        return None
    with safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get("source")


def _read(path: Path, among: Sequence[Path]) -> StateDict:
    """The state of one file; what needs unpickling, or is of another tool, is refused with what to do."""
    if path.is_file() and format_of(path) not in READABLE:
        raise HardlookError(f"{path} is not a checkpoint: {found_instead(path)}")
    try:
        return read_state_dict(path)
    except NeedsUnpickling as error:
        alike = [each for each in among if each.suffix == path.suffix and each.parent == path.parent]
        rest = f"then run this again with --checkpoints {path.with_suffix('.safetensors')}"
        if len(alike) > 1:
            pattern = path.parent / f"*{path.suffix}"
            rest = f"or all of them: hardlook convert {pattern} --trust, then run this again with --checkpoints "
            rest += f"'{path.parent / '*.safetensors'}'"
        raise NeedsUnpickling(f"{error}, {rest}") from error


def _without_duplicates(states: Sequence[tuple[Path, StateDict]]) -> tuple[list[Path], list[str]]:
    """The paths with different weights, and a sentence on each that was dropped."""
    same: dict[str, list[Path]] = {}
    for path, state in states:
        same.setdefault(weights_sha256(state.tensors), []).append(path)
    kept, said = [], []
    for paths in same.values():
        first, *others = sorted(paths, key=_rank)
        kept.append(first)
        said += [f"{other} is left out: it holds the weights of {first.name} again" for other in others]
    return kept, said


def _rank(path: Path) -> tuple[bool, bool, tuple[tuple[int, int, str], ...]]:
    """Numbered names first, names such as last.ckpt and best.pt afterwards."""
    name = path.stem.casefold()
    return (
        bool(re.search(r"(^|[^a-z])(last|best|final|latest|current)([^a-z]|$)", name)),
        not re.search(r"\d", name),
        natural_key(path),
    )


HEADS = re.compile(
    r"(^|\.)(fc|classifier|head|heads|logits?|output|out|last_linear|output_layer|linear)(\.[\w.]+)?\.weight$"
)
"""Names of the layer that gives the logits, with what may stand in a sequence below it."""


def head_shape(state: StateDict) -> tuple[int, int] | None:
    """(classes, features) of the layer that gives the logits; None where that cannot be told.

    In the order of the model it is the last matrix. safetensors sorts names, so there it is told by its name.
    """
    matrices = {
        name: tensor
        for name, tensor in state.tensors.items()
        if isinstance(tensor, torch.Tensor) and tensor.ndim in (2, 4) and name.endswith("weight")
    }
    if list(state.tensors) == sorted(state.tensors):
        named = [name for name in matrices if HEADS.search(name)]
        matrices = {name: matrices[name] for name in sorted(named, key=natural_key)}
        if len({name.partition(".")[0] for name in matrices}) > 1:  # of a GoogLeNet's helpers, say
            return None
    if not matrices:
        return None
    shape = list(matrices.values())[-1].shape
    return (int(shape[0]), int(shape[1])) if len(shape) == 2 or tuple(shape[2:]) == (1, 1) else None
