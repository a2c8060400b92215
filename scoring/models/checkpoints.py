"""The checkpoints of a run: found by a glob, ordered by training step, checked for identical weights.

A glob → `Checkpoint` records in order. The order is the epoch stored in the files, else the step stored in the files,
else the epoch or step in the names, else the natural order of the names (epoch 9 before 10). Identical
weights are refused: each would count twice in every score.

Cost: each file is read once, memory-mapped, and its weights are hashed. Known limits: as of
`scoring.models.checkpoint_reader`.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scoring.audit.errors import HardlookError
from scoring.models.checkpoint_folders import weight_files
from scoring.models.checkpoint_formats import READABLE, format_of, found_instead
from scoring.models.checkpoint_reader import read_state_dict
from scoring.models.state_dicts import Number, names_average

KINDS = {"plain": "the trained weights (not averaged)", "ema": "averaged (EMA) weights"}
"""Kind of weights → its name in messages."""


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint in order: its file or folder, the epoch and step it states, and the sha256 of its
    weights.

    ``kind`` is "plain" (the trained weights) or "ema" (their average); ``order`` says what its place was
    taken from; ``stamp`` is (size, modification time) of its files when
    read.
    """

    path: Path
    epoch: Number | None
    step: Number | None
    sha256: str
    taken: str = ""
    kind: str = "plain"
    order: str = ""
    notes: tuple[str, ...] = ()
    stamp: tuple[tuple[int, int], ...] = ()

    @property
    def when(self) -> str:
        """ "epoch 3", "step 500" or the name."""
        if self.epoch is not None:
            return f"epoch {self.epoch:g}"
        return f"step {self.step:g}" if self.step is not None else self.path.name


def find_checkpoints(
    pattern: str | Sequence[str],
    folder: str | Path,
    *,
    weights: str = "plain",
    progress: Callable[[Iterable[Path]], Iterable[Path]] = iter,
) -> list[Checkpoint]:
    """The checkpoints that a glob (or several) names, in the order of training.

    Patterns are relative to ``folder`` or absolute; a folder with weights in it is one checkpoint.
    ``progress`` wraps the paths as they are read. Raises `HardlookError` where nothing matches, something
    that matches is no checkpoint, or two of them hold identical weights. Files that are listed one by one, and that
    state no epoch or step, keep the order of the list.
    """
    patterns = [pattern] if isinstance(pattern, str) else list(pattern)
    paths = _matches(patterns, Path(folder))
    found = [_describe(path, weights) for path in progress(paths)]
    _refuse_mixed(found)
    _refuse_identical(found)
    one_by_one = len(patterns) > 1 and not any(glob.has_magic(each) for each in patterns)
    return order_checkpoints(found, [Path(folder) / each for each in patterns] if one_by_one else ())


def order_checkpoints(checkpoints: Sequence[Checkpoint], listed: Sequence[Path] = ()) -> list[Checkpoint]:
    """Sort by what they state themselves, else as they are ``listed``, else by their names; each one's ``order`` says
    by what."""
    for order, key in _orders(listed):
        keys = [key(checkpoint) for checkpoint in checkpoints]
        if None not in keys and len(set(keys)) == len(keys):
            ordered = [
                checkpoint for _, checkpoint in sorted(zip(keys, checkpoints, strict=True), key=lambda pair: pair[0])
            ]
            return [replace(checkpoint, order=order) for checkpoint in ordered]
    raise AssertionError("paths are distinct")


def describe_order(checkpoints: Sequence[Checkpoint]) -> str:
    """One paragraph to print: the order, what it was taken from, which weights are audited (the trained ones
    or their average), and whatever is worth a second look."""
    each = [
        checkpoint.path.name
        if checkpoint.when == checkpoint.path.name
        else f"{checkpoint.path.name} ({checkpoint.when})"
        for checkpoint in checkpoints
    ]
    listed = ", ".join(each if len(each) <= 8 else [*each[:3], "…", *each[-2:]])
    plural = "checkpoint" if len(checkpoints) == 1 else f"checkpoints in the order of {checkpoints[0].order}"
    notes = dict.fromkeys(note for checkpoint in checkpoints for note in checkpoint.notes)
    names = [natural_key(checkpoint.path) for checkpoint in checkpoints]
    if names != sorted(names) and not re.search("name|list", checkpoints[0].order):
        notes["the file names would give another order"] = None
    return "; ".join([f"{len(checkpoints)} {plural}: {listed}", KINDS[checkpoints[0].kind], *notes])


def needs_checkpoints(found: int, needed: int, run: str | Path, what: str = "vog") -> str:
    """The error text where a score needs more checkpoints than a run has.

    >>> needs_checkpoints(1, 2, "runs/a")
    'vog needs at least 2 checkpoints, found 1 in runs/a; keep more with Recorder(every=1) or hardlook train'
    """
    return (
        f"{what} needs at least {needed} checkpoint{'s' if needed > 1 else ''}, found {found} in {run}; keep more "
        "with Recorder(every=1) or hardlook train"
    )


def natural_key(path: str | Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key in which numbers count as numbers.

    >>> sorted(["epoch10.pt", "epoch9.pt"], key=natural_key)
    ['epoch9.pt', 'epoch10.pt']
    """
    parts = re.split(r"(\d+)", Path(path).as_posix().casefold())
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def _matches(patterns: list[str], folder: Path) -> list[Path]:
    """The distinct paths that the patterns name, in natural order; each pattern must match, and only
    checkpoints.
    """
    hits = {pattern: glob.glob(str(folder / pattern), recursive=True) for pattern in patterns}
    for pattern, found in hits.items():
        if not found:
            raise HardlookError(
                f"checkpoints = {pattern!r} matches nothing in {folder}{_nearby(pattern, folder)}; correct the "
                "pattern, or train checkpoints with: hardlook train"
            )
    first = {Path(hit): pattern for pattern, found in reversed(hits.items()) for hit in found}
    paths = sorted(first, key=natural_key)
    for path in paths:
        _refuse_what_is_none(path, repr(first[path]))
    return paths


def _nearby(pattern: str, folder: Path) -> str:
    """Returns what the folder that a pattern points into does hold."""
    place = (folder / pattern).parent
    while not place.is_dir() and place != place.parent:
        place = place.parent
    names = sorted((path.name for path in place.iterdir()), key=natural_key)
    return f" ({place} holds {', '.join(names[:6]) or 'nothing'}{', …' if len(names) > 6 else ''})"


def _refuse_what_is_none(path: Path, pattern: str) -> None:
    """A match that is no checkpoint, or a part of one, is an error: nothing is left out silently."""
    if re.search(r"-\d{5}-of-\d{5}\.", path.name):
        raise HardlookError(f"{path} is one part of a sharded checkpoint; name its folder instead: {path.parent}")
    if path.is_dir():
        weight_files(path)
    elif not path.is_file():
        raise HardlookError(
            f"checkpoints = {pattern} matches {path}, which is a broken link or not a file; remove it, or copy the "
            "checkpoint there"
        )
    elif format_of(path) not in READABLE:
        raise HardlookError(
            f"checkpoints = {pattern} matches {path}, which is not a checkpoint: {found_instead(path)}; replace or "
            "remove it, or narrow the pattern, for instance to *.pt"
        )


def _describe(path: Path, weights: str) -> Checkpoint:
    """Read one checkpoint and keep what identifies and orders it.

    Where one state dict has both kinds under prefixes, loading takes the kind that is asked for.
    """
    state = read_state_dict(path, weights=weights)
    averages = [name for name in state.tensors if names_average([name])]
    by_name = bool(averages) and (weights == "ema" or len(averages) == len(state.tensors))
    return Checkpoint(
        path,
        state.epoch,
        state.step,
        weights_sha256(state.tensors),
        state.taken or "the file itself",
        "ema" if by_name else state.kind,
        notes=state.notes,
        stamp=file_stamp(path),
    )


def file_stamp(path: Path) -> tuple[tuple[int, int], ...]:
    """(size, modification time) of the files that hold a checkpoint's weights: equal means unchanged."""
    files = weight_files(path) if path.is_dir() else [path]
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in (file.stat() for file in files))


def _refuse_mixed(checkpoints: Sequence[Checkpoint]) -> None:
    """Trained and averaged weights are two models: no score may go from one to the other."""
    first = {checkpoint.kind: checkpoint for checkpoint in reversed(checkpoints)}
    if len(first) > 1:
        raise HardlookError(
            f"{first['plain'].path} gives the trained weights and {first['ema'].path} only averaged ones (EMA); audit "
            "one kind of weights: set averaged = true in audit.toml if every file holds the average, or narrow the "
            "pattern"
        )


def _refuse_identical(checkpoints: Sequence[Checkpoint]) -> None:
    """No two files may hold the same weights."""
    seen: dict[str, Path] = {}
    for checkpoint in checkpoints:
        if checkpoint.sha256 in seen:
            raise HardlookError(
                f"{seen[checkpoint.sha256]} and {checkpoint.path} hold identical weights, which would count twice in "
                "every score; remove one of them, or narrow the pattern (a last.ckpt or best.pt beside the numbered "
                "ones is the usual cause)"
            )
        seen[checkpoint.sha256] = checkpoint.path


def weights_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 of the types, shapes and values of all tensors, whatever they are called and wrapped in.

    The batch counters of BatchNorm are left out: they change no output.
    """
    parts = sorted(_tensor_sha256(t) for name, t in tensors.items() if not name.endswith("num_batches_tracked"))
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _tensor_sha256(tensor: torch.Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
    digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


Order = tuple[str, Callable[[Checkpoint], Any]]


def _orders(listed: Sequence[Path]) -> list[Order]:
    """The orders to try, best first; a key of None means that this checkpoint does not state it."""
    return [
        ("the epoch stored in the files", lambda checkpoint: checkpoint.epoch),
        ("the epoch and step stored in the files", _epoch_and_step),
        ("the step stored in the files", lambda checkpoint: checkpoint.step),
        ("the epoch in the file names", lambda checkpoint: _named(checkpoint.path, r"epochs?|ep")),
        (
            "the step in the file names",
            lambda checkpoint: _named(checkpoint.path, r"(?:global_?)?steps?|iter(?:ation)?"),
        ),
        ("the list", lambda checkpoint: listed.index(checkpoint.path) if checkpoint.path in listed else None),
        ("their names", lambda checkpoint: natural_key(checkpoint.path)),
    ]


def _epoch_and_step(checkpoint: Checkpoint) -> tuple[Number, Number] | None:
    return None if checkpoint.epoch is None or checkpoint.step is None else (checkpoint.epoch, checkpoint.step)


def _named(path: Path, word: str) -> int | None:
    """The number that follows ``word`` in a file name: "loss=0.31-epoch=07.ckpt" → 7."""
    match = re.search(rf"(?:^|[^a-z])(?:{word})[ =_-]*(\d+)", path.name.casefold())
    return int(match[1]) if match else None
